"""A lock is its holder's while that lives, on this host and on others."""

import subprocess
import sys

import pytest
from filelock import Timeout

from albench import store
from albench.store import Store, Trial

HOLDER = """
import socket, sys, time
from pathlib import Path
socket.gethostname = lambda: sys.argv[2]
from albench import store
store.LEASE = float(sys.argv[3])
with store.Store(Path(sys.argv[1])).lock("a training"):
    print("held", flush=True)
    time.sleep(60)
"""


def holder(folder, host, lease):
    process = subprocess.Popen(
        [sys.executable, "-c", HOLDER, str(folder), host, str(lease)], stdout=subprocess.PIPE, text=True
    )
    assert process.stdout.readline() == "held\n"
    return process


def test_a_lock_whose_holder_died_on_this_host_is_free_at_once(tmp_path):
    import socket

    process = holder(tmp_path, socket.gethostname(), store.LEASE)
    lock = Store(tmp_path).lock("a training")
    with pytest.raises(Timeout):
        lock.acquire(timeout=0.3)
    process.kill()
    process.wait()
    lock.acquire(timeout=store.LEASE / 2)
    lock.release()


def test_a_lock_whose_holder_died_on_another_host_is_free_after_the_lease(tmp_path, monkeypatch):
    monkeypatch.setattr(store, "LEASE", 1.5)
    process = holder(tmp_path, "elsewhere", 1.5)
    lock = Store(tmp_path).lock("a training")
    with pytest.raises(Timeout):  # it lives, and says so
        lock.acquire(timeout=3.5)
    process.kill()
    process.wait()
    with pytest.raises(Timeout):
        lock.acquire(timeout=0.5)
    lock.acquire(timeout=20)
    lock.release()


def test_a_record_that_two_processes_made_is_there_once(tmp_path):
    trial = Trial("digits", "random", 0)
    for _ in range(2):
        Store(tmp_path).append(trial, {"kind": "trained", "stage": 0})
    assert len(Store(tmp_path).records(trial)) == 1
