"""Where VOC's data lie: fetched, put there by hand, found below the data root or at it."""

import shutil
import tarfile
from urllib.error import URLError

import pytest

from albench.errors import AlbenchError
from albench.suite import read
from albench.tasks.detection.network import IMAGENET
from albench.tasks.detection.voc import ARCHIVES, PascalVoc


@pytest.fixture
def site(tmp_path, monkeypatch):
    """The official archives, in small, fetched from a folder; what was fetched, by name."""
    source, fetched = tmp_path / "site", []
    for year, parts in {"VOC2007": ("train", "val"), "VOC2012": ("train", "val")}.items():
        PascalVoc.miniature(source / "VOCdevkit" / year)
        for part, new in zip(parts, ("trainval", "test"), strict=True):
            lists = source / "VOCdevkit" / year / "ImageSets" / "Main"
            (lists / f"{new}.txt").write_text((lists / f"{part}.txt").read_text())

    def download(archive, file, *_):
        if file.exists():
            return False
        file.parent.mkdir(parents=True, exist_ok=True)
        fetched.append(file.name)
        with tarfile.open(file, "w") as opened:
            place = "VOCdevkit/VOC2012" if "2012" in file.name else "VOCdevkit/VOC2007"
            opened.add(source / place, place)
        return True

    monkeypatch.setattr("albench.download.download", download)
    return fetched


@pytest.mark.parametrize("lost", ["JPEGImages", "Annotations/000017.xml", "JPEGImages/000020.jpg", "ImageSets"])
def test_what_an_interrupted_unpacking_lacks_anywhere_is_fetched_again(tmp_path, site, lost):
    root = tmp_path / "data"
    task = PascalVoc(folder="VOCdevkit", pool_split="VOC2007/trainval", test_split="VOC2007/test", size=48, width=8)
    task.fetch(root)
    assert site == ["VOCtrainval_06-Nov-2007.tar"]  # here with the test images; else they would be fetched, too
    task.fetch(root)
    assert len(site) == 1
    place = root / "VOCdevkit" / "VOC2007" / lost
    shutil.rmtree(place) if place.is_dir() else place.unlink()
    task.fetch(root)
    assert len(site) == 2
    assert len(task.load(root).test) == 8
    assert {p.name for p in root.iterdir()} == {"VOCdevkit"}


def test_an_archive_that_was_put_there_by_hand_stays(tmp_path, site):
    task = PascalVoc(folder="VOCdevkit/VOC2012", pool_split="trainval", test_split="test", size=48, width=8)
    task.fetch(tmp_path / "a")
    archive = tmp_path / "b" / site[0]
    archive.parent.mkdir()
    with tarfile.open(archive, "w") as opened:
        opened.add(tmp_path / "a" / "VOCdevkit", "VOCdevkit")
    task.fetch(tmp_path / "b")
    assert len(site) == 1
    assert {path.name for path in archive.parent.iterdir()} == {"VOCdevkit", site[0]}


def test_without_a_network_all_that_is_missing_is_named_at_once(tmp_path, monkeypatch):
    """The three archives and the weights: where from, which sum, where to."""
    monkeypatch.setattr("albench.download.urlopen", offline)
    monkeypatch.setattr("albench.download.PAUSE", 0)
    monkeypatch.setenv("TORCH_HOME", str(tmp_path / "torch"))
    suite = read("ll4al-voc")
    with pytest.raises(AlbenchError) as caught:
        PascalVoc(**suite.tasks["voc"].params).fetch(tmp_path)
    message = str(caught.value)
    assert "\n" not in message
    for source in (*ARCHIVES.values(), IMAGENET):
        assert message.count(f"fetch {source.url} ({source.checksum}) by hand and put it at {tmp_path}") == 1


def offline(*_, **__):
    raise URLError("no network")


def test_a_run_without_its_data_prints_the_command_that_fetches_them(tmp_path, site):
    params = {"folder": "VOCdevkit", "pool_split": "VOC2007/trainval+VOC2012/trainval", "test_split": "VOC2007/test"}
    task = PascalVoc(**params, size=48, width=8)
    root = tmp_path / "my data"
    command = (
        f"`albench data prepare voc --data-root '{root}' --set folder=VOCdevkit "
        "--set pool_split=VOC2007/trainval+VOC2012/trainval --set test_split=VOC2007/test`"
    )
    with pytest.raises(AlbenchError, match="no folder") as caught:
        task.load(root)
    assert str(caught.value).endswith(command)
    PascalVoc(**params | {"pool_split": "VOC2007/trainval"}).fetch(root)
    with pytest.raises(AlbenchError, match=r"VOC2012, which split 'trainval' needs") as caught:
        task.load(root)
    assert str(caught.value).endswith(command)
    (root / "VOCdevkit/VOC2007/ImageSets/Main/test.txt").unlink()
    with pytest.raises(AlbenchError, match=r"no split 'test'") as caught:
        PascalVoc(**params | {"pool_split": "VOC2007/trainval"}).load(root)
    assert "`albench data prepare voc" in str(caught.value)


@pytest.mark.parametrize("folder", ["VOCdevkit/VOC2007", "VOCdevkit"])
def test_the_data_root_may_be_the_folder_or_its_devkit(tmp_path, site, folder):
    place = "" if folder.endswith("VOC2007") else "VOC2007/"
    task = PascalVoc(folder=folder, pool_split=f"{place}trainval", test_split=f"{place}test", size=48, width=8)
    devkit = tmp_path / "VOCdevkit"
    with pytest.raises(AlbenchError, match="no folder") as caught:  # nothing is there yet, and the root is named so
        task.load(devkit)
    assert "VOCdevkit/VOCdevkit" not in str(caught.value)
    task.fetch(devkit)
    assert [file.name for file in tmp_path.iterdir() if file.name != "site"] == ["VOCdevkit"]
    assert sorted(file.name for file in devkit.iterdir()) == ["VOC2007"]
    data = task.load(tmp_path)
    roots = [devkit, devkit / "VOC2007"] if not place else [devkit]
    assert [task.load(root).fingerprint() for root in roots] == [data.fingerprint()] * len(roots)
    devkit.rename(tmp_path / "renamed")
    assert task.load(tmp_path / "renamed").fingerprint() == data.fingerprint()


def test_a_split_of_voc_that_is_not_the_official_size_is_a_problem(tmp_path, site):
    task = PascalVoc(folder="VOCdevkit", pool_split="VOC2007/trainval", test_split="VOC2007/test")
    task.fetch(tmp_path / "data")
    assert list(task.problems(tmp_path / "data")) == [
        "split VOC2007/trainval names 24 images; the official one has 5,011",
        "split VOC2007/test names 8 images; the official one has 4,952",
    ]


def test_a_folder_of_ones_own_is_not_called_pascal_voc():
    whole = PascalVoc(folder="VOCdevkit", pool_split="VOC2007/trainval+VOC2012/trainval", test_split="VOC2007/test")
    assert whole.data_source == "PASCAL VOC: VOC2007, VOC2012"
    assert PascalVoc(folder="cells").data_source == "the folder cells, in PASCAL VOC's layout"
