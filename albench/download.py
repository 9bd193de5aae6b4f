"""Fetches large files: resumed where they were cut, checked against their published sum, with progress; unpacks."""

import hashlib
import http.client
import os
import shutil
import ssl
import tarfile
import time
from pathlib import Path
from typing import NamedTuple
from urllib.error import HTTPError, URLError
from urllib.request import Request, urlopen

from filelock import FileLock
from rich.console import Console
from rich.progress import BarColumn, DownloadColumn, Progress, TimeRemainingColumn, TransferSpeedColumn

from albench.errors import AlbenchError

CHUNK = 1 << 20  # bytes
TRIES = 4  # in a row that bring nothing new
PAUSE = 1.0  # seconds before the second try; twice, three times as long before the next
SILENCE = 30.0  # seconds without a byte after which a connection counts as lost
CUT = (
    URLError,
    http.client.HTTPException,
    ConnectionError,
    TimeoutError,
    ssl.SSLError,
)  # what a lost connection raises


class Source(NamedTuple):
    """A file on the web and its sum, "md5:…" or "sha256:…", in whole or the beginning of it."""

    url: str
    checksum: str


Wanted = tuple[Source, Path]  # and where it is to lie


def sum_of(file: Path, checksum: str) -> str:
    """A file's sum, written as this one in Source: of the same kind, and as much of it."""
    algorithm, _, expected = checksum.partition(":")
    with file.open("rb") as opened:
        return f"{algorithm}:{hashlib.file_digest(opened, algorithm).hexdigest()[: len(expected)]}"


def matches(file: Path, checksum: str) -> bool:
    """Whether a file has this sum, written as in Source."""
    return sum_of(file, checksum) == checksum


def download(source: Source, file: Path, *others: Wanted) -> bool:
    """Fetch a file unless it is there with the right sum; whether it was fetched. What a cut connection or a kill left
    is `file`.part: the next call goes on from it, where the server can. Two processes do not fetch a file at once.

    others: what the caller wants beside it, so that one message names all that is to be fetched by hand.

    Raises:
        AlbenchError: no connection, no such file, or a wrong sum: what to fetch by hand and where to put it.
        OSError: the folder cannot be written.
    """
    if _there((source, file)):  # without the lock: the folder may be read-only
        return False
    file.parent.mkdir(parents=True, exist_ok=True)
    with FileLock(file.with_name(f".{file.name}.lock")):
        if _there((source, file)):
            return False
        try:
            _fetch(source, file)
        except AlbenchError as error:
            raise AlbenchError(f"{_spoilt(source, file)}{error}; {by_hand((source, file), *others)}") from error
    return True


def by_hand(*wanted: Wanted) -> str:
    """What is to be done about files that are not there: fetch each from its address and put it into its place."""
    lacking = [(source, file) for source, file in dict.fromkeys(wanted) if not _there((source, file))]
    each = [f"fetch {source.url} ({source.checksum}) by hand and put it at {file}" for source, file in lacking]
    return "; ".join([*each, "then run the command again"])


def _there(wanted: Wanted) -> bool:
    source, file = wanted
    return file.is_file() and matches(file, source.checksum)


def _spoilt(source: Source, file: Path) -> str:
    """What is wrong with a file that somebody put there, for the beginning of a message."""
    if not file.is_file():
        return ""
    return f"{file} is there and has {sum_of(file, source.checksum)}, not {source.checksum}: cut short, or another; "


def _fetch(source: Source, file: Path) -> None:
    """Receive a file, from where an earlier try was cut; the part has the right sum when it is put into place.

    Raises:
        AlbenchError: no connection, no such file, or a wrong sum.
    """
    part = file.with_name(f"{file.name}.part")
    if part.exists():
        _receive_all(source.url, part)
        if _moved(part, file, source):
            return
    _receive_all(source.url, part)  # whole: the remains were of something else
    if not _moved(part, file, source):
        raise AlbenchError(f"what came from {source.url} has not the published sum")


def _moved(part: Path, file: Path, source: Source) -> bool:
    """Put a file with the right sum in place, and drop one with another."""
    if matches(part, source.checksum):
        os.replace(part, file)
        return True
    part.unlink()
    return False


def _receive_all(url: str, part: Path) -> None:
    """Receive what is missing of `part`, connection after connection, until it is whole or none brings anything."""
    fruitless, reason = 0, "the connection was closed early"
    while fruitless < TRIES:
        before = _size(part)
        try:
            if _receive(url, part):
                return
        except HTTPError as error:
            if error.code == http.HTTPStatus.REQUESTED_RANGE_NOT_SATISFIABLE and before:
                return  # nothing is missing, unless it is another file: the sum will tell
            if error.code < 500:
                raise AlbenchError(f"cannot fetch {url} ({_one_line(error)})") from error
            reason = _one_line(error)
        except CUT as error:
            reason = _one_line(getattr(error, "reason", "") or error) or type(error).__name__
        fruitless = 0 if _size(part) > before else fruitless + 1
        if fruitless < TRIES:
            time.sleep(PAUSE * fruitless)
    raise AlbenchError(f"cannot fetch {url} ({reason})")


def _one_line(error: object) -> str:
    return " ".join(str(error).split())


def _size(part: Path) -> int:
    return part.stat().st_size if part.exists() else 0


def _receive(url: str, part: Path) -> bool:
    """One connection, from where `part` ends if the server can, else from the start; whether all came."""
    have = _size(part)
    request = Request(url, headers={"Range": f"bytes={have}-"} if have else {})
    with urlopen(request, timeout=SILENCE) as answer:
        if answer.status != http.HTTPStatus.PARTIAL_CONTENT:
            have = 0  # the whole comes again
        length = answer.headers.get("Content-Length")
        total = None if length is None else have + int(length)
        with part.open("ab" if have else "wb") as out, _progress() as progress:
            bar = progress.add_task(part.stem, total=total, completed=have)
            while block := answer.read1(CHUNK):
                out.write(block)
                progress.advance(bar, len(block))
    return total is None or _size(part) == total


def _progress() -> Progress:
    columns = "{task.description}", BarColumn(), DownloadColumn(), TransferSpeedColumn(), TimeRemainingColumn()
    return Progress(*columns, console=Console(stderr=True))


def fetch_archive(source: Source, folder: Path, *others: Wanted) -> None:
    """Fetch a tar archive into a folder and unpack it there; see `download`. It is deleted if this call fetched it: one
    that was put there by hand is the user's.

    Raises:
        AlbenchError: as `download` and `unpack` do.
    """
    archive = folder / Path(source.url).name
    fetched = download(source, archive, *others)
    unpack(archive, folder)
    if fetched:
        archive.unlink()


def unpack(archive: Path, folder: Path) -> None:
    """Unpack a tar archive's files below a folder. Each is put in place whole, so a kill leaves none that is torn.

    Raises:
        AlbenchError: it is no whole archive, or a member is a link, a device, or leads out of the folder.
    """
    stage = folder / f".{archive.name}.unpacking"
    try:
        with tarfile.open(archive) as opened:
            for member in opened:
                if member.isdir():
                    continue
                if not member.isfile():
                    raise AlbenchError(f"{archive}: {member.name} is neither a file nor a folder; fetch it again")
                inside = tarfile.data_filter(member, str(stage))
                opened.extract(inside, stage, filter="data")
                target = folder / inside.name
                target.parent.mkdir(parents=True, exist_ok=True)
                os.replace(stage / inside.name, target)
    except (tarfile.TarError, EOFError) as error:
        raise AlbenchError(f"cannot unpack {archive}: {error}; fetch it again") from error
    finally:
        shutil.rmtree(stage, ignore_errors=True)
