"""Official files of small images: fetched once, mended, checked before they are read, and read as torchvision does."""

import gzip
import hashlib
import pickle
from pathlib import Path
from urllib.error import URLError

import numpy as np
import pytest
import torch
from torchvision import datasets

from albench.errors import AlbenchError
from albench.tasks.classification import cifar100, fashion_mnist, svhn
from albench.tasks.classification.cifar10 import Cifar10
from albench.tasks.classification.cifar100 import Cifar100
from albench.tasks.classification.fashion_mnist import FashionMnist
from albench.tasks.classification.official import md5_of
from albench.tasks.classification.svhn import Svhn

FOLDERS = Cifar10.layouts


@pytest.fixture
def calls(monkeypatch):
    """Small files stand for the official ones, and the archive holds the Python layout of them."""
    for sums in FOLDERS.values():
        for name in sums:
            monkeypatch.setitem(sums, name, hashlib.md5(name.encode(), usedforsecurity=False).hexdigest())
    made = []

    def download(_, archive):
        new = not archive.exists()
        archive.touch()
        return new

    def unpack(archive, root):
        made.append(root)
        write(f"{root}/cifar-10-batches-py")

    monkeypatch.setattr("albench.download.download", download)
    monkeypatch.setattr("albench.download.unpack", unpack)
    return made


def write(folder):
    folder = Path(folder)
    folder.mkdir(parents=True, exist_ok=True)
    for name in FOLDERS[folder.name]:
        (folder / name).write_text(name)


@pytest.mark.parametrize("layout", FOLDERS)
def test_a_whole_layout_is_not_fetched(tmp_path, calls, layout):
    write(tmp_path / layout)
    Cifar10().fetch(tmp_path)
    Cifar10().fetch(tmp_path / layout)
    assert calls == []


def test_an_interrupted_download_is_mended(tmp_path, calls):
    folder = tmp_path / "cifar-10-batches-py"
    write(folder)
    (folder / "test_batch").unlink()
    Cifar10().fetch(tmp_path)
    assert len(calls) == 1
    (folder / "test_batch").write_text("test")
    Cifar10(verify=False).fetch(tmp_path)
    assert len(calls) == 1
    Cifar10().fetch(tmp_path)
    assert len(calls) == 2
    assert (folder / "test_batch").read_text() == "test_batch"


def test_an_archive_that_was_put_there_by_hand_stays(tmp_path, calls):
    archive = tmp_path / "cifar-10-python.tar.gz"
    Cifar10().fetch(tmp_path)
    assert not archive.exists()  # fetched by this call
    archive.touch()
    (tmp_path / "cifar-10-batches-py" / "test_batch").unlink()
    Cifar10().fetch(tmp_path)
    assert len(calls) == 2
    assert archive.exists()


def test_every_file_that_is_missing_or_spoilt_is_a_line(tmp_path, calls):
    folder = tmp_path / "cifar-10-batches-py"
    write(folder)
    (folder / "data_batch_2").unlink()
    (folder / "data_batch_3").write_text("spoilt")
    (folder / "test_batch").write_text("")
    lines = list(Cifar10().problems(tmp_path))
    for part, line in zip(
        ["data_batch_2: cannot be read", "data_batch_3: not the official", "test_batch: not"], lines, strict=True
    ):
        assert part in line


def test_what_is_fetched_is_read_before_part_of_another_layout(tmp_path, calls):
    folder = tmp_path / "cifar-10-batches-bin"
    write(folder)
    (folder / "test_batch.bin").unlink()
    with pytest.raises(AlbenchError, match=r"test_batch.bin: missing"):
        Cifar10().load(tmp_path)
    Cifar10().fetch(tmp_path)
    assert len(calls) == 1
    assert Cifar10()._find(tmp_path)[0].name == "cifar-10-batches-py"


def test_a_spoilt_layout_that_would_be_read_first_is_told(tmp_path, calls):
    write(tmp_path / "cifar-10-batches-bin")
    (tmp_path / "cifar-10-batches-bin" / "test_batch.bin").write_text("test")
    with pytest.raises(AlbenchError, match=r"batches-bin: not the official files.*move it away"):
        Cifar10().fetch(tmp_path)


def offline(*_, **__):
    raise URLError("no network\nhere")


FETCHED = {  # each file and its sum, as torchvision has them
    Cifar10: {datasets.CIFAR10.url: datasets.CIFAR10.tgz_md5},
    Cifar100: {datasets.CIFAR100.url: datasets.CIFAR100.tgz_md5},
    Svhn: {url: md5 for url, _, md5 in (datasets.SVHN.split_list[s] for s in ("train", "test"))},
    FashionMnist: {datasets.FashionMNIST.mirrors[0] + name: md5 for name, md5 in datasets.FashionMNIST.resources},
}
SETS = [Cifar10, Cifar100, Svhn, FashionMnist]


@pytest.mark.parametrize("task", SETS)
def test_without_files_or_network_one_line_says_what_to_fetch_and_where_to_put_it(tmp_path, monkeypatch, task):
    monkeypatch.setattr("albench.download.urlopen", offline)
    monkeypatch.setattr("albench.download.PAUSE", 0)
    with pytest.raises(AlbenchError) as caught:
        task().fetch(tmp_path)
    assert "(no network here)" in str(caught.value)
    for file, md5 in FETCHED[task].items():
        assert f"{file} (md5:{md5})" in str(caught.value)
    with pytest.raises(AlbenchError) as absent:
        task().load(tmp_path)
    for text in (str(caught.value), str(absent.value)):
        assert "\n" not in text
        assert "by hand" in text
        assert str(tmp_path) in text
    assert f"albench data prepare {task.registered} --data-root {tmp_path}" in str(absent.value)


@pytest.mark.parametrize("task", [Svhn, FashionMnist])
def test_files_that_are_not_the_official_ones_are_refused(tmp_path, task):
    task.miniature(tmp_path)
    with pytest.raises(AlbenchError, match="not the official bytes"):
        task().load(tmp_path)


def test_cifar_100s_binary_files_cannot_be_verified(tmp_path):
    Cifar100.miniature(tmp_path)
    with pytest.raises(AlbenchError, match="no md5 of the binary files is published"):
        Cifar100().load(tmp_path)


def test_the_sums_are_torchvisions():
    theirs = datasets.CIFAR10.train_list + datasets.CIFAR10.test_list
    assert Cifar10.layouts["cifar-10-batches-py"] == dict(theirs)
    assert dict(datasets.CIFAR100.train_list + datasets.CIFAR100.test_list) == cifar100.PYTHON
    assert {name: md5 for _, name, md5 in (datasets.SVHN.split_list[s] for s in ("train", "test"))} == svhn.FILES
    assert dict(datasets.FashionMNIST.resources) == fashion_mnist.FILES
    assert FashionMnist.labels == tuple(datasets.FashionMNIST.classes)


def same(samples, images, labels):
    assert np.array_equal(samples.images.numpy(), images)
    assert samples.targets["label"].tolist() == list(labels)


def test_cifar_100_reads_the_fine_labels_of_both_layouts(tmp_path, monkeypatch):
    pixels = np.random.default_rng(0).integers(0, 256, (30, 3072)).astype(np.uint8)
    fine, coarse = [n * 3 for n in range(30)], [n % 20 for n in range(30)]
    python, binary = tmp_path / "a" / "cifar-100-python", tmp_path / "b" / "cifar-100-binary"
    for folder in (python, binary):
        folder.mkdir(parents=True)
    content = pickle.dumps({b"fine_labels": fine, b"coarse_labels": coarse, b"data": pixels}, protocol=3)
    for name in cifar100.PYTHON:
        (python / name).write_bytes(content)
        monkeypatch.setitem(cifar100.PYTHON, name, md5_of(content))
    for name in cifar100.BINARY:
        (binary / name).write_bytes(np.column_stack([coarse, fine, pixels]).astype(np.uint8).tobytes())
    first, second = Cifar100().load(tmp_path / "a"), Cifar100(verify=False).load(tmp_path / "b")
    assert first.fingerprint() == second.fingerprint()
    same(first.pool, pixels.reshape(-1, 3, 32, 32), fine)
    assert len(set(Cifar100.labels)) == 100


def test_svhn_is_read_as_torchvision_reads_it(tmp_path, monkeypatch):
    data = Svhn.miniature(tmp_path).load(tmp_path)
    monkeypatch.setattr(datasets.SVHN, "_check_integrity", lambda self: True)
    for split, samples in (("train", data.pool), ("test", data.test)):
        theirs = datasets.SVHN(str(tmp_path / "svhn"), split)
        same(samples, theirs.data, theirs.labels)
    assert 0 in data.pool.targets["label"]  # written as 10


def test_fashion_mnist_is_read_as_torchvision_reads_it(tmp_path):
    data = FashionMnist.miniature(tmp_path).load(tmp_path)
    for packed in (tmp_path / "FashionMNIST" / "raw").glob("*.gz"):
        packed.with_suffix("").write_bytes(gzip.decompress(packed.read_bytes()))
    for train, samples in ((True, data.pool), (False, data.test)):
        theirs = datasets.FashionMNIST(str(tmp_path), train)
        same(samples, theirs.data[:, None].numpy(), theirs.targets.tolist())


@pytest.mark.parametrize(
    ("task", "file", "damage", "message"),
    [
        (FashionMnist, "FashionMNIST/raw/t10k-images-idx3-ubyte.gz", lambda c: c[:50], "cut short"),
        (FashionMnist, "FashionMNIST/raw/t10k-images-idx3-ubyte.gz", lambda c: b"", "cut short"),
        (FashionMnist, "FashionMNIST/raw/t10k-images-idx3-ubyte.gz", gzip.compress, "does not fit"),
        (Svhn, "svhn/test_32x32.mat", lambda c: c[:-30], "damaged or cut short"),
        (Svhn, "svhn/test_32x32.mat", lambda c: b"", "no MATLAB 5 file"),
        (Cifar100, "cifar-100-binary/test.bin", lambda c: c[:-1], "no whole number of 3074-byte records"),
        (Cifar100, "cifar-100-binary/test.bin", lambda c: b"\xff" * 3074, "a label outside 0…99"),
    ],
)
def test_damaged_files_are_one_line(tmp_path, task, file, damage, message):
    small = task.miniature(tmp_path)
    (tmp_path / file).write_bytes(damage((tmp_path / file).read_bytes()))
    with pytest.raises(AlbenchError, match=message) as caught:
        small.load(tmp_path)
    assert "\n" not in str(caught.value)


def test_labels_of_other_images_are_refused(tmp_path):
    small = FashionMnist.miniature(tmp_path)
    folder = tmp_path / "FashionMNIST" / "raw"
    (folder / "train-labels-idx1-ubyte.gz").write_bytes((folder / "t10k-labels-idx1-ubyte.gz").read_bytes())
    with pytest.raises(AlbenchError, match="40 images and 12 labels"):
        small.load(tmp_path)


@pytest.mark.data
def test_all_of_cifar_10(data_root):
    """Its mean and deviation are those that the task normalises by."""
    if not (data_root / "cifar-10-batches-bin").is_dir():
        pytest.skip(f"write it with {data_root}/cifar10.py {data_root}")
    data = Cifar10().load(data_root)
    assert (len(data.pool), len(data.test)) == (50_000, 10_000)
    pixels = data.pool.images.float().div(255).transpose(0, 1).flatten(1)
    assert torch.allclose(pixels.mean(1), torch.tensor(Cifar10.mean), atol=1e-4)
    assert torch.allclose(pixels.std(1), torch.tensor(Cifar10.std), atol=2e-4)
