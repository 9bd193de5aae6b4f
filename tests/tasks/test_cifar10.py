"""Fetching CIFAR-10: what is whole stays, what an interrupted download left is mended."""

import hashlib

import pytest

from albench.errors import AlbenchError
from albench.tasks.classification import cifar10
from albench.tasks.classification.cifar10 import Cifar10


@pytest.fixture
def calls(monkeypatch):
    """Small files stand for the official ones, and torchvision's download writes the Python layout of them."""
    for sums in cifar10.FOLDERS.values():
        for name in sums:
            monkeypatch.setitem(sums, name, hashlib.md5(name.encode(), usedforsecurity=False).hexdigest())
    made = []

    def download(root, download):
        made.append(root)
        write(f"{root}/cifar-10-batches-py")

    monkeypatch.setattr("torchvision.datasets.CIFAR10", download)
    return made


def write(folder):
    folder = cifar10.Path(folder)
    folder.mkdir(parents=True, exist_ok=True)
    for name in cifar10.FOLDERS[folder.name]:
        (folder / name).write_text(name)


@pytest.mark.parametrize("layout", cifar10.FOLDERS)
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


def test_what_is_fetched_is_read_before_part_of_another_layout(tmp_path, calls):
    folder = tmp_path / "cifar-10-batches-bin"
    write(folder)
    (folder / "test_batch.bin").unlink()
    with pytest.raises(AlbenchError, match=r"test_batch.bin: missing"):
        Cifar10().load(tmp_path)
    Cifar10().fetch(tmp_path)
    assert len(calls) == 1
    assert cifar10._find(tmp_path)[0].name == "cifar-10-batches-py"


def test_a_spoilt_layout_that_would_be_read_first_is_told(tmp_path, calls):
    write(tmp_path / "cifar-10-batches-bin")
    (tmp_path / "cifar-10-batches-bin" / "test_batch.bin").write_text("test")
    with pytest.raises(AlbenchError, match=r"batches-bin: not the official files.*move it away"):
        Cifar10().fetch(tmp_path)
