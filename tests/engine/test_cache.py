"""The cache of decoded data: built once, whole or not there, and never a reason to fail."""

import multiprocessing
import os
import time
from dataclasses import replace

import numpy as np
import pytest
import torch

from albench import cache
from albench.cache import cached, entries, remove, suspicious
from albench.samples import Data, Samples

BUILDERS = multiprocessing.get_context("fork")  # a test module has no name that a new process could import


def make(new, value=7):
    """Four images in the pool, two in the test set; the pool's are written in place, the test's copied."""
    pool = new("pool", (4, 3, 2, 2))
    pool.fill_(value)
    test = torch.full((2, 3, 2, 2), value + 1, dtype=torch.uint8)
    return Data(samples(pool), samples(test), ("a", "b"), "a note")


def samples(images):
    return Samples(images, {"label": torch.arange(len(images))}, [f"image {i}" for i in range(len(images))])


def entry(folder):
    return next(path for path in folder.iterdir() if path.is_dir())


def refuse(new):
    raise AssertionError("built a second time")


@pytest.fixture
def folder(tmp_path, monkeypatch):
    monkeypatch.setenv("ALBENCH_CACHE", str(tmp_path / "cache"))
    return tmp_path / "cache"


def test_what_was_built_is_read_the_next_time(folder):
    built, read = cached("key", make), cached("key", refuse)
    assert read.fingerprint() == built.fingerprint()
    assert (read.classes, read.notes, read.test.names) == (("a", "b"), "a note", ["image 0", "image 1"])
    assert torch.equal(read.pool.images, torch.full((4, 3, 2, 2), 7, dtype=torch.uint8))
    assert torch.equal(read.pool.targets["label"], torch.arange(4))


def spoil(folder):
    images = np.lib.format.open_memmap(entry(folder) / "pool.npy", "r+")
    images[0] = 0
    images.flush()


def test_the_fingerprint_lies_in_the_entry(folder):
    data = cached("key", make)
    assert cached("key", refuse).known == replace(data, known=None).fingerprint()


def test_a_damaged_entry_is_built_again(folder, capsys):
    sound = cached("key", make).fingerprint()
    spoil(folder)
    again = cached("key", make)
    assert again.pool.images.unique().tolist() == [7]
    assert again.fingerprint() == replace(again, known=None).fingerprint() == sound
    assert (
        capsys.readouterr().err == f"{entry(folder)}: damaged: it does not hold what was decoded; that is done again\n"
    )


def test_an_entry_that_was_copied_is_compared_once(folder, monkeypatch):
    cached("key", make)
    for file in entry(folder).iterdir():
        os.utime(file, (1, 1))
    taken = []
    monkeypatch.setattr(Data, "fingerprint", lambda data, take=Data.fingerprint: taken.append(data) or take(data))
    cached("key", refuse)
    assert len(taken) == 1
    cached("key", refuse)
    assert len(taken) == 1


def test_who_is_suspicious_finds_damage_that_left_no_trace(folder):
    """As a failing disk does it: the times are those of before."""
    cached("key", make)
    times = {file: file.stat().st_mtime_ns for file in entry(folder).iterdir()}
    spoil(folder)
    for file, time_ns in times.items():
        os.utime(file, ns=(time_ns, time_ns))
    assert cached("key", refuse).pool.images.unique().tolist() == [0, 7]
    with suspicious():
        assert cached("key", make).pool.images.unique().tolist() == [7]


def test_all_is_on_disk_before_the_entry_has_its_name(folder, monkeypatch):
    """A file system may put the name on disk first, and the power may fail then."""
    events = []
    monkeypatch.setattr(
        cache.os, "fsync", lambda opened: events.append(os.path.basename(os.readlink(f"/proc/self/fd/{opened}")))
    )
    monkeypatch.setattr(
        cache.os, "replace", lambda old, new, replace=os.replace: (replace(old, new), events.append("named"))
    )
    cached("key", make)
    assert {"pool.npy", "test.npy", "rest.safetensors"} <= set(events[: events.index("named")])


def test_another_key_is_another_entry(folder):
    cached("key", make)
    assert cached("other", lambda new: make(new, 9)).pool.images.unique().tolist() == [9]


def test_a_stray_write_stays_in_its_process(folder):
    cached("key", make).pool.images.fill_(0)
    assert cached("key", refuse).pool.images.unique().tolist() == [7]


@pytest.mark.parametrize("name", ["pool.npy", "test.npy", "rest.safetensors"])
@pytest.mark.parametrize("length", [None, 0, 20])
def test_a_torn_entry_is_built_again(folder, name, length):
    cached("key", make)
    file = entry(folder) / name
    if length is None:
        file.unlink()
    else:
        os.truncate(file, length)
    assert cached("key", make).pool.images.unique().tolist() == [7]
    assert cached("key", refuse).test.images.unique().tolist() == [8]


def slowly(new):
    with open(os.environ["BUILT"], "a") as file:
        file.write("built\n")
    time.sleep(1.0)
    return make(new)


def build_slowly():
    assert cached("key", slowly).pool.images.unique().tolist() == [7]


def build_and_die():
    cached("key", lambda new: (make(new), os._exit(9)))


def processes(*targets):
    started = [BUILDERS.Process(target=target) for target in targets]
    for process in started:
        process.start()
    for process in started:
        process.join(60)
    return [process.exitcode for process in started]


def test_two_builders_at_once_build_once(folder, tmp_path, monkeypatch):
    monkeypatch.setenv("BUILT", str(tmp_path / "built"))
    assert processes(build_slowly, build_slowly) == [0, 0]
    assert (tmp_path / "built").read_text() == "built\n"


def test_a_builder_that_was_killed_blocks_nobody_and_leaves_nothing(folder):
    assert processes(build_and_die) == [9]
    assert list(folder.glob("*.tmp"))
    assert cached("key", make).pool.images.unique().tolist() == [7]
    assert not list(folder.glob("*.tmp"))


def build_another_slowly():
    cached("other", slowly)


def test_what_other_builders_left_goes_and_what_one_alive_has_stays(folder, tmp_path, monkeypatch):
    monkeypatch.setenv("BUILT", str(tmp_path / "built"))
    assert processes(build_and_die) == [9]
    (left,) = folder.glob("*.tmp")
    alive = BUILDERS.Process(target=build_another_slowly)
    alive.start()
    while not (tmp_path / "built").exists():
        time.sleep(0.01)
    cached("third", make)
    assert not left.exists()
    assert len(list(folder.glob("*.tmp"))) == 1
    alive.join(60)
    assert alive.exitcode == 0


def test_what_another_user_s_builder_left_does_not_matter(folder, monkeypatch, capsys):
    """Its lock may not be taken. (Permissions do not bind root, so the lock itself refuses.)"""
    (folder / f"{'0' * 32}left.tmp").mkdir(parents=True)

    def lock(path, take=cache.FileLock):
        if "0" * 32 in str(path):
            raise PermissionError(13, "Permission denied", str(path))
        return take(path)

    monkeypatch.setattr(cache, "FileLock", lock)
    cached("key", make)
    assert cached("key", refuse).pool.images.unique().tolist() == [7]
    assert capsys.readouterr().err == ""


def test_who_waits_for_another_builder_says_so(folder, tmp_path, monkeypatch, capfd):
    monkeypatch.setenv("BUILT", str(tmp_path / "built"))
    monkeypatch.setattr(cache, "PATIENCE", 0.1)
    assert processes(build_slowly, build_slowly) == [0, 0]
    assert capfd.readouterr().err.startswith("key: waiting for another process that decodes these images into")


def test_a_folder_that_cannot_be_made_is_no_reason_to_fail_and_is_said_once(folder, capsys):
    folder.write_text("a file where the folder should be")
    for _ in range(2):
        assert cached("key", make).pool.images.unique().tolist() == [7]
    said = capsys.readouterr().err
    assert said.startswith(f"{folder}: images cannot be kept there (File exists): every process decodes them again")
    assert "ALBENCH_CACHE" in said
    assert said.count("\n") == 1


def test_an_error_of_the_builder_is_not_the_caches(folder, capsys):
    calls = []

    def lost(new):
        calls.append(new)
        raise OSError("the data's disk is gone")

    with pytest.raises(OSError, match="the data's disk is gone"):
        cached("key", lost)
    assert len(calls) == 1
    assert capsys.readouterr().err == ""


def test_a_full_disk_is_no_reason_to_fail(folder, monkeypatch, capsys):
    full = type("Usage", (), {"free": 0})
    monkeypatch.setattr(cache.shutil, "disk_usage", lambda path: full)
    assert cached("key", make).pool.images.unique().tolist() == [7]
    assert not [path for path in folder.iterdir() if path.is_dir()]
    assert "4.8e-08 GB are needed, 0 GB are free" in capsys.readouterr().err


def test_a_shared_cache_that_is_read_only_is_read(folder, monkeypatch):
    """Without its lock, which could not be taken there. (Permissions do not bind root, so the lock itself refuses.)"""
    cached("key", make)

    def refuses(path):
        raise PermissionError(f"the cache was to be locked: {path}")

    monkeypatch.setattr(cache, "FileLock", refuses)
    assert cached("key", refuse).pool.images.unique().tolist() == [7]
    assert cached("other", make).pool.images.unique().tolist() == [7]  # not there: in memory


def test_entries_are_listed_and_removed_unless_they_are_in_use(folder):
    held = cached(("kept", 1), make)
    cached(("old", 1), make)
    os.utime(next(e.folder for e in entries() if e.task == "old"), (1000, 1000))
    (folder / ("0" * 32)).mkdir()  # torn
    (folder / "checkpoints").mkdir()
    found = {e.task: e for e in entries()}
    assert set(found) == {"kept", "old", "?"}
    assert (found["old"].used, found["old"].size > 72) == (1000, True)
    cached(("old", 1), refuse)
    assert next(e.used for e in entries() if e.task == "old") > 1000
    assert {task: remove(e.folder) for task, e in found.items()} == {"kept": False, "old": True, "?": True}
    del held
    assert remove(found["kept"].folder)
    assert entries() == []
    assert (folder / "checkpoints").is_dir()


def test_an_entry_that_is_being_built_is_not_removed(folder, tmp_path, monkeypatch):
    monkeypatch.setenv("BUILT", str(tmp_path / "built"))
    cached("key", make)
    old = entry(folder)
    (old / "pool.npy").unlink()
    alive = BUILDERS.Process(target=build_slowly)
    alive.start()
    while not (tmp_path / "built").exists():
        time.sleep(0.01)
    assert not remove(old)
    alive.join(60)
