"""Files from a stranger run no code and reach nothing outside their folder; what would is refused in one line."""

import ast
import io
import pickle
import struct
import sys
import tarfile
import zlib
from pathlib import Path

import numpy as np
import pytest
import torch
from rich.console import Console
from scipy.io import savemat

import albench
from albench.errors import AlbenchError
from albench.store import Store
from albench.suite import read, resolve
from albench.tasks.classification import cifar10
from albench.tasks.classification.cifar10 import Cifar10
from albench.tasks.classification.official import md5_of
from albench.tasks.detection.network import Vgg, load_vgg
from albench.tasks.detection.voc import PascalVoc
from albench.tasks.pose.lsp import LeedsSports

ROOT = Path(albench.__file__).resolve().parents[1]


class Evil:
    """Unpickled, it leaves a mark."""

    def __init__(self, mark: Path) -> None:
        self.mark = mark

    def __reduce__(self):
        return Path.touch, (self.mark,)


@pytest.fixture
def mark(tmp_path):
    """A file that appears when code from a file has run."""
    mark = tmp_path / "code-has-run"
    yield mark
    assert not mark.exists()


@pytest.fixture
def voc(tmp_path):
    PascalVoc.miniature(tmp_path / "data" / "home")
    return tmp_path / "data"


def load_voc(root, **params):
    return PascalVoc(**{"folder": "home", "size": 48, "width": 8} | params).load(root)


def png(width, height):
    """A PNG that declares a size and holds nothing."""

    def chunk(kind, content):
        return struct.pack(">I", len(content)) + kind + content + struct.pack(">I", zlib.crc32(kind + content))

    head = chunk(b"IHDR", struct.pack(">IIBBBBB", width, height, 8, 2, 0, 0, 0))
    return b"\x89PNG\r\n\x1a\n" + head + chunk(b"IDAT", zlib.compress(b"")) + chunk(b"IEND", b"")


# Paths and links -------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("path", ["..", "../data/home", "home/../../data/home", "{root}/home"])
def test_a_suite_names_no_folder_outside_the_data_root(voc, path):
    path = path.format(root=voc)
    with pytest.raises(AlbenchError, match="leaves the data root"):
        load_voc(voc, folder=path)
    with pytest.raises(AlbenchError, match="leaves the data root"):
        load_voc(voc, pool_split=f"{path}/train")
    with pytest.raises(AlbenchError, match="leaves the data root"):
        LeedsSports(folder=path).load(voc)
    with pytest.raises(AlbenchError, match="leaves the data root"):
        PascalVoc(folder=path).fetch(voc)


@pytest.mark.parametrize("name", ["../secret", "/etc/passwd", "..", "{root}/secret"])
def test_a_split_names_no_file_outside_its_folder(voc, name):
    (voc / "secret.jpg").write_bytes((voc / "home/JPEGImages/000001.jpg").read_bytes())
    (voc / "secret.xml").write_bytes((voc / "home/Annotations/000001.xml").read_bytes())
    (voc / "home/ImageSets/Main/train.txt").write_text(name.format(root=voc))
    with pytest.raises(AlbenchError, match="no image"):
        load_voc(voc)


@pytest.mark.parametrize("file", ["JPEGImages/000001.jpg", "Annotations/000001.xml"])
def test_a_link_does_not_lead_out(voc, tmp_path, file):
    outside = tmp_path / "outside"
    (voc / "home" / file).rename(outside)
    (voc / "home" / file).symlink_to(outside)
    with pytest.raises(AlbenchError, match="is a link that leaves the data folder"):
        load_voc(voc)


def test_linked_folders_of_one_s_own_are_read(voc, tmp_path):
    images = voc / "home" / "JPEGImages"
    images.rename(tmp_path / "images")
    images.symlink_to(tmp_path / "images")
    (tmp_path / "root").mkdir()
    (tmp_path / "root" / "home").symlink_to(voc / "home")
    assert len(load_voc(tmp_path / "root").pool) == 24


def test_a_pose_s_link_does_not_lead_out(tmp_path):
    LeedsSports.miniature(tmp_path / "data")
    image = tmp_path / "data/lspet_dataset/images/im00001.jpg"
    image.rename(tmp_path / "outside.jpg")
    image.symlink_to(tmp_path / "outside.jpg")
    with pytest.raises(AlbenchError, match="is a link that leaves the data folder"):
        LeedsSports().load(tmp_path / "data")


# Contents --------------------------------------------------------------------------------------------------------


def test_a_huge_declared_size_is_refused_before_it_is_decoded(voc):
    (voc / "home/JPEGImages/000001.jpg").write_bytes(png(40_000, 40_000))
    with pytest.raises(AlbenchError, match="000001.jpg: it declares 40000 × 40000 pixels|exceeds limit"):
        load_voc(voc)
    (voc / "home/JPEGImages/000001.jpg").write_bytes(png(11_000, 11_000))
    with pytest.raises(AlbenchError, match="000001.jpg: it declares 11000 × 11000 pixels"):
        load_voc(voc)


def test_postscript_is_no_image(voc):
    text = b"%!PS-Adobe-3.0 EPSF-3.0\n%%BoundingBox: 0 0 9 9\n%%EndComments\nshowpage\n"
    (voc / "home/JPEGImages/000001.jpg").write_bytes(text)
    with pytest.raises(AlbenchError, match="000001.jpg: it is no JPEG or PNG"):
        load_voc(voc)


@pytest.mark.parametrize(
    "head",
    [
        '<!DOCTYPE a [<!ENTITY b SYSTEM "file://{secret}">]>',
        '<!DOCTYPE a SYSTEM "file://{secret}">',
        '<!DOCTYPE a [<!ENTITY b "bb"><!ENTITY c "&b;&b;&b;"><!ENTITY d "&c;&c;&c;">]>',
        '<!DOCTYPE a [<!ENTITY % b SYSTEM "file://{secret}"> %b;]>',
    ],
)
def test_an_annotation_declares_no_entities(voc, tmp_path, head):
    (tmp_path / "secret").write_text("hidden")
    file = voc / "home/Annotations/000001.xml"
    file.write_text(head.format(secret=tmp_path / "secret") + file.read_text().replace("</name>", "&b;</name>"))
    with pytest.raises(AlbenchError, match="has a document type declaration") as caught:
        load_voc(voc)
    assert "hidden" not in str(caught.value)


def test_joints_are_read_from_matlab_5_files_alone(tmp_path):
    LeedsSports.miniature(tmp_path)
    savemat(tmp_path / "lspet_dataset/joints.mat", {"joints": np.ones((14, 24))}, format="4")
    with pytest.raises(AlbenchError, match="it is no MATLAB 5 file"):
        LeedsSports().load(tmp_path)


def test_an_unverified_pickle_is_not_read(tmp_path, mark):
    with pytest.raises(AlbenchError, match="read only when verified"):
        cifar10.read_batch(evil_batch(tmp_path, mark), None, "labels")


def test_a_pickle_of_other_bytes_is_not_read(tmp_path, mark):
    with pytest.raises(AlbenchError, match="not the official bytes"):
        cifar10.read_batch(evil_batch(tmp_path, mark), cifar10.PYTHON["data_batch_1"], "labels")


def test_even_a_verified_pickle_builds_arrays_alone(tmp_path, mark):
    file = evil_batch(tmp_path, mark)
    with pytest.raises(AlbenchError, match="holds pathlib.Path.touch|holds pathlib"):
        cifar10.read_batch(file, md5_of(file.read_bytes()), "labels")


def test_arrays_come_out_of_a_batch(tmp_path):
    pixels = np.arange(2 * 3072).reshape(2, 3072).astype(np.uint8)
    content = pickle.dumps({b"labels": [3, 9], b"data": pixels}, protocol=3)
    for spelling in (content, content.replace(b"numpy._core.", b"numpy.core.")):
        (tmp_path / "batch").write_bytes(spelling)
        images, labels = cifar10.read_batch(tmp_path / "batch", md5_of(spelling), "labels")
        assert np.array_equal(images.reshape(2, 3072), pixels)
        assert labels.tolist() == [3, 9]


def evil_batch(folder, mark):
    file = folder / "data_batch_1"
    file.write_bytes(pickle.dumps({b"labels": [0], b"data": Evil(mark)}))
    return file


@pytest.mark.parametrize("write", [torch.save, lambda content, file: file.write_bytes(pickle.dumps(content))])
def test_weights_are_not_unpickled(tmp_path, mark, write):
    file = tmp_path / "vgg16.pth"
    write({"features.0.weight": Evil(mark)}, file)
    with pytest.raises(AlbenchError, match="cannot read VGG-16 weights"):
        load_vgg(Vgg(8), str(file))
    (tmp_path / "trained").mkdir()
    (tmp_path / "trained" / "x.safetensors").write_bytes(file.read_bytes())
    assert Store(tmp_path).weights("x") is None


# Downloads and archives ------------------------------------------------------------------------------------------


@pytest.mark.parametrize("task", [Cifar10(), PascalVoc()])
def test_a_forged_archive_is_not_unpacked(tmp_path, monkeypatch, task):
    class Answer(io.BytesIO):
        status, headers = 200, {}

    def forged(*_args, **_more):
        answer = Answer()
        with tarfile.open(fileobj=answer, mode="w:gz") as archive:
            for name in ("../escaped", str(tmp_path / "absolute"), "cifar-10-batches-py/data_batch_1"):
                entry = tarfile.TarInfo(name)
                entry.size = 4
                archive.addfile(entry, io.BytesIO(b"evil"))
        answer.seek(0)
        return answer

    monkeypatch.setattr("albench.download.urlopen", forged)
    root = tmp_path / "root"
    root.mkdir()
    with pytest.raises(AlbenchError, match="not the published sum"):
        task.fetch(root)
    assert {p.name for p in tmp_path.iterdir()} == {"root"}
    assert not list(root.rglob("data_batch_1"))


# A Dask worker unpacks the call that its own scheduler sends it, as Dask itself does: no file, nobody else's.
# Archives are unpacked after their published sum was checked, file by file, by tarfile's filter "data".
ARGUED = {("pools.py", "pickle.loads"), ("download.py", "opened.extract")}


def calls(tree):
    """Every call in a module: its dotted name, and the names of its keywords with constant values."""
    for node in ast.walk(tree):
        if isinstance(node, ast.Call):
            keywords = {k.arg: k.value.value for k in node.keywords if isinstance(k.value, ast.Constant)}
            yield ast.unparse(node.func), keywords


@pytest.mark.parametrize("room", ["albench", "strategies", "tasks"])
def test_nothing_in_the_package_unpickles_unpacks_or_evaluates(room):
    """What such code there is stands here by name; a new one has to be argued for."""
    wrong = []
    for file in sorted((ROOT / room).rglob("*.py")):
        for name, keywords in calls(ast.parse(file.read_text(encoding="utf-8"))):
            bad = (
                name in ("eval", "exec", "pickle.load", "pickle.loads", "joblib.load", "os.system", "yaml.load")
                or name.endswith((".extractall", ".extract", ".unpack_archive", ".read_pickle"))
                or (name == "torch.load" and keywords.get("weights_only") is not True)
                or (name == "np.load" and keywords.get("allow_pickle", False) is not False)
                or keywords.get("shell") is True
            )
            if bad and (file.name, name) not in ARGUED:
                wrong.append(f"{file.relative_to(ROOT)}: {name}")
    assert wrong == []


# Names -----------------------------------------------------------------------------------------------------------


def test_a_suite_names_no_code(tmp_path):
    for entry in ('strategy = "os:system"', 'companion = "os:system"'):
        (tmp_path / "s.toml").write_text(f"budget = 2\n[tasks.digits]\n[strategies.x]\n{entry}\nparams = {{}}\n")
        with pytest.raises(AlbenchError, match="no (strategy|companion) is called '(os:system|x)'"):
            resolve(read(str(tmp_path / "s.toml")))


def test_a_message_cannot_write_to_the_terminal():
    error = AlbenchError("class '\x1b[2J\x1b]0;evil\x07\n\u202e' is not ä")
    assert str(error) == r"class '\x1b[2J\x1b]0;evil\x07\n\u202e' is not ä"


PLUGIN = """
from pathlib import Path
import albench
with (Path(__file__).parent / "loaded").open("a") as file:
    file.write("x")

@albench.register_strategy("{name}")
class Mine(albench.Strategy):
    def observe(self, outputs):
        return {{"score": outputs.prediction.entropy()}}
"""


def test_a_report_runs_no_plugin_and_no_class_name(voc, tmp_path):
    from click.testing import CliRunner

    from albench import registry, report
    from albench.cli import main

    name = f"{tmp_path.name.replace('_', '-')}-mine"
    (tmp_path / "mine.py").write_text(PLUGIN.format(name=name))
    evil = "<script>alert(1)</script>"
    for file in (voc / "home" / "Annotations").glob("*.xml"):
        text = file.read_text()
        file.write_text(text.replace("<name>", f"<name>{evil}".replace("<script>", "&lt;script&gt;")
                                     .replace("</script>", "&lt;/script&gt;")))  # fmt: skip
    (tmp_path / "s.toml").write_text(
        "seeds = 1\nstages = 2\nbudget = 4\nrecipe = { updates = 2, batch = 4 }\n"
        f'strategies = ["random", "{name}"]\n[tasks.voc]\nparams = {{ folder = "home", size = 48, width = 8 }}\n'
    )
    folder, failed = albench.run(
        tmp_path / "s.toml", plugins=[tmp_path / "mine.py"], out=tmp_path / "run", data_root=voc, device="cpu", jobs=1,
        console=Console(file=io.StringIO()),
    )  # fmt: skip
    assert failed == []
    assert any(evil in c for c in Store(folder).manifest()["tasks"]["voc"]["classes"])
    (tmp_path / "loaded").unlink()
    del sys.modules[registry.strategies._plugins.pop(name).__module__]
    page = report.write([folder]).read_text(encoding="utf-8")
    assert name in page
    assert evil not in page
    assert "alert(1)</script>" not in page
    for command in ("doctor", "status"):
        assert CliRunner().invoke(main, [command, str(folder)]).exit_code == 0
    assert not (tmp_path / "loaded").exists()
