"""One process at a time on a run folder: a run, or a repair."""

import contextlib
from collections.abc import Callable, Iterator
from pathlib import Path

from filelock import BaseFileLock, FileLock, Timeout

from albench import store
from albench.errors import AlbenchError
from albench.store import Store


@contextlib.contextmanager
def alone_on(folder: Path, say: Callable[[str], object], refusal: str) -> Iterator[None]:
    """Hold a folder, or refuse.

    A lock of the kernel's tells at once, where the file system has such; but one that is mounted on several hosts may
    keep them to each. The lease is seen by all; that of a dead one on another host is waited out, and `say` says so.

    Raises:
        AlbenchError: another process holds it; `refusal` says what that means.
    """
    (folder / ".locks").mkdir(parents=True, exist_ok=True)
    lock, lease = FileLock(folder / ".locks" / "run"), Store(folder).lock("run")
    with contextlib.ExitStack() as held:
        try:
            with contextlib.suppress(NotImplementedError):
                lock.acquire(timeout=0)
                held.callback(lock.release)
            try:
                lease.acquire(timeout=1)
            except Timeout:
                wait = 1.2 * store.LEASE
                say(f"{folder}: does a run on another machine work on it? That shows within {wait:g} s.")
                lease.acquire(timeout=wait)
            held.callback(lease.release)
        except Timeout:
            raise AlbenchError(f"{folder}: {refusal}") from None
        yield


def at_work(folder: Path) -> bool:
    """Whether a process seems to hold a folder; one that died on another host seems to until its lease has ended."""
    kernel, lease = FileLock(folder / ".locks" / "run"), Store(folder).lock("run")
    return any(_held(lock) for lock in (kernel, lease))


def _held(lock: BaseFileLock) -> bool:
    if not Path(lock.lock_file).is_file():
        return False
    try:
        with lock.acquire(timeout=0):
            return False
    except Timeout:
        return True
    except OSError:  # somebody else's folder
        return False
