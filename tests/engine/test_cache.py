"""The cache of decoded data: built once, whole or not there, and never a reason to fail."""

import multiprocessing
import os
import time
from dataclasses import replace

import numpy as np
import pytest
import torch

from albench import cache
from albench.cache import cached
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


def test_the_fingerprint_lies_in_the_entry_and_counts_until_an_image_is_written(folder):
    data = cached("key", make)
    taken_anew = replace(data, known=None).fingerprint()
    assert cached("key", refuse).known == taken_anew
    images = np.lib.format.open_memmap(entry(folder) / "pool.npy", "r+")
    images[0] = 0
    images.flush()
    changed = cached("key", refuse)
    assert changed.known is None
    assert changed.fingerprint() != taken_anew


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


def test_a_folder_that_cannot_be_made_is_no_reason_to_fail(folder):
    folder.write_text("a file where the folder should be")
    assert cached("key", make).pool.images.unique().tolist() == [7]


def test_a_full_disk_is_no_reason_to_fail(folder, monkeypatch):
    full = type("Usage", (), {"free": 0})
    monkeypatch.setattr(cache.shutil, "disk_usage", lambda path: full)
    assert cached("key", make).pool.images.unique().tolist() == [7]
    assert not [path for path in folder.iterdir() if path.is_dir()]


def test_a_shared_cache_that_is_read_only_is_read(folder, monkeypatch):
    """Without its lock, which could not be taken there. (Permissions do not bind root, so the lock itself refuses.)"""
    cached("key", make)

    def refuses(path):
        raise PermissionError(f"the cache was to be locked: {path}")

    monkeypatch.setattr(cache, "FileLock", refuses)
    assert cached("key", refuse).pool.images.unique().tolist() == [7]
    assert cached("other", make).pool.images.unique().tolist() == [7]  # not there: in memory
