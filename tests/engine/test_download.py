"""Downloads from a server on this machine: cut, resumed, wrong, missing; and archives that would write elsewhere."""

import hashlib
import io
import os
import ssl
import tarfile
import threading
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer

import pytest

from albench import download as module
from albench.download import Source, download, fetch_archive, matches, unpack
from albench.errors import AlbenchError

CONTENT = os.urandom(300_000)
SUM = f"md5:{hashlib.md5(CONTENT).hexdigest()}"


class Server(ThreadingHTTPServer):
    """Gives CONTENT. `ranges`: it can go on from a byte. `cuts`: after so many bytes of an answer it hangs up."""

    daemon_threads = True
    ranges, cuts, content = True, (), CONTENT

    def __init__(self):
        super().__init__(("127.0.0.1", 0), Answer)
        self.asked = []
        self.cuts = []

    @property
    def url(self):
        return f"http://127.0.0.1:{self.server_address[1]}/set.tar"


class Answer(BaseHTTPRequestHandler):
    def do_GET(self):
        server, wanted = self.server, self.headers.get("Range")
        server.asked.append(wanted)
        if self.path != "/set.tar":
            self.send_error(404)
            return
        start = int(wanted.removeprefix("bytes=").rstrip("-")) if wanted and server.ranges else 0
        if start >= len(server.content):
            self.send_error(416)
            return
        body = server.content[start:]
        self.send_response(206 if start else 200)
        self.send_header("Content-Length", str(len(body)))
        self.end_headers()
        self.wfile.write(body[: server.cuts.pop(0)] if server.cuts else body)

    def log_message(self, *_):
        pass


@pytest.fixture
def server(monkeypatch):
    monkeypatch.setattr(module, "PAUSE", 0)
    with Server() as running:
        threading.Thread(target=running.serve_forever, daemon=True).start()
        yield running
        running.shutdown()


def test_a_cut_connection_is_taken_up_where_it_was_cut(server, tmp_path):
    server.cuts = [100_000, 50_000]
    file = tmp_path / "new" / "set.tar"
    download(Source(server.url, SUM), file)
    assert file.read_bytes() == CONTENT
    assert server.asked == [None, "bytes=100000-", "bytes=150000-"]
    assert not (tmp_path / "new" / "set.tar.part").exists()
    download(Source(server.url, SUM), file)  # it is there: nothing is asked
    assert len(server.asked) == 3


@pytest.mark.parametrize(
    "lost", [ConnectionResetError("reset"), ssl.SSLError("EOF occurred"), TimeoutError("timed out")]
)
def test_a_connection_that_is_lost_in_whatever_way_is_made_again(server, tmp_path, monkeypatch, lost):
    errors = [lost]

    def receive(url, part, receive=module._receive):
        if errors:
            raise errors.pop()
        return receive(url, part)

    monkeypatch.setattr(module, "_receive", receive)
    download(Source(server.url, SUM), tmp_path / "set.tar")
    assert (tmp_path / "set.tar").read_bytes() == CONTENT


@pytest.mark.parametrize("ranges", [True, False])
def test_what_a_killed_download_left_is_used_where_the_server_can(server, tmp_path, ranges):
    server.ranges = ranges
    file = tmp_path / "set.tar"
    (tmp_path / "set.tar.part").write_bytes(CONTENT[:200_000])
    download(Source(server.url, SUM), file)
    assert file.read_bytes() == CONTENT
    assert server.asked == ["bytes=200000-"]


@pytest.mark.parametrize("left", [b"x" * 1000, b"x" * 400_000, CONTENT])
def test_remains_of_another_file_do_not_matter(server, tmp_path, left):
    file = tmp_path / "set.tar"
    (tmp_path / "set.tar.part").write_bytes(left)
    download(Source(server.url, SUM), file)
    assert file.read_bytes() == CONTENT


def test_a_file_with_another_sum_is_fetched_again_and_a_wrong_download_is_not_kept(server, tmp_path):
    file = tmp_path / "set.tar"
    file.write_bytes(b"spoilt")
    download(Source(server.url, SUM), file)
    assert file.read_bytes() == CONTENT
    server.content = CONTENT[:-1] + bytes([CONTENT[-1] ^ 1])
    with pytest.raises(AlbenchError, match=r"not the published sum.*md5:.*by hand and put it at .*other.tar") as caught:
        download(Source(server.url, SUM), tmp_path / "other.tar")
    assert "\n" not in str(caught.value)
    assert {p.name for p in tmp_path.iterdir() if not p.name.endswith(".lock")} == {"set.tar"}


def test_what_was_put_there_with_another_sum_is_told_where_it_cannot_be_fetched(server, tmp_path):
    file = tmp_path / "set.tar"
    file.write_bytes(CONTENT[:1000])
    found = f"md5:{hashlib.md5(CONTENT[:1000]).hexdigest()}"
    with pytest.raises(AlbenchError, match=f"set.tar is there and has {found}, not {SUM}.*cannot fetch.*by hand"):
        download(Source(server.url.replace("set", "gone"), SUM), file)
    assert file.read_bytes() == CONTENT[:1000]


def test_a_message_names_what_else_is_wanted_and_not_there(server, tmp_path):
    gone = [(Source(server.url.replace("set", name), SUM), tmp_path / name) for name in ("gone", "lost", "here")]
    (tmp_path / "here").write_bytes(CONTENT)
    with pytest.raises(AlbenchError) as caught:
        download(*gone[0], *gone)
    assert str(caught.value).count(f"gone.tar ({SUM}) by hand and put it at {tmp_path}/gone;") == 1
    assert str(caught.value).count(f"lost.tar ({SUM}) by hand and put it at {tmp_path}/lost;") == 1
    assert "here" not in str(caught.value)


def test_an_archive_is_deleted_only_if_it_was_fetched(server, tmp_path):
    server.content = archive(tmp_path / "made", a=b"a").read_bytes()
    source = Source(server.url, f"md5:{hashlib.md5(server.content).hexdigest()}")
    for name in ("fetched", "by hand"):
        (tmp_path / name).mkdir()
        if name == "by hand":
            (tmp_path / name / "set.tar").write_bytes(server.content)
        fetch_archive(source, tmp_path / name)
        assert (tmp_path / name / "a").read_bytes() == b"a"
        assert (tmp_path / name / "set.tar").exists() == (name == "by hand")


def test_what_is_there_is_found_in_a_folder_that_cannot_be_written(server, tmp_path, monkeypatch):
    (tmp_path / "set.tar").write_bytes(CONTENT)
    monkeypatch.setattr(module, "FileLock", None)  # root may write everywhere: no lock is taken
    download(Source(server.url, SUM), tmp_path / "set.tar")
    assert server.asked == []


def test_the_beginning_of_a_sum_is_enough(tmp_path):
    (tmp_path / "a").write_bytes(CONTENT)
    digest = hashlib.sha256(CONTENT).hexdigest()
    assert matches(tmp_path / "a", f"sha256:{digest[:8]}")
    assert not matches(tmp_path / "a", f"sha256:{digest[1:9]}")


def test_no_such_file_and_no_network_are_one_line_that_says_what_to_fetch_by_hand(server, tmp_path):
    with pytest.raises(AlbenchError, match=r"404.*fetch http.*/gone.tar .* by hand and put it at .*set.tar") as caught:
        download(Source(server.url.replace("set", "gone"), SUM), tmp_path / "set.tar")
    assert "\n" not in str(caught.value)
    assert len(server.asked) == 1  # asking again would not help
    with pytest.raises(AlbenchError, match=r"refused.*by hand") as caught:
        download(Source("http://127.0.0.1:9/set.tar", SUM), tmp_path / "set.tar")
    assert "\n" not in str(caught.value)


def test_a_server_that_hangs_up_at_once_every_time_is_given_up(server, tmp_path):
    server.cuts = [0] * 9
    with pytest.raises(AlbenchError, match="closed early"):
        download(Source(server.url, SUM), tmp_path / "set.tar")
    assert len(server.asked) == module.TRIES


def archive(file, **members):
    with tarfile.open(file, "w") as opened:
        for name, content in members.items():
            info = tarfile.TarInfo(name)
            if isinstance(content, bytes):
                info.size = len(content)
                opened.addfile(info, io.BytesIO(content))
            else:
                info.type, info.linkname = tarfile.SYMTYPE, content
                opened.addfile(info)
    return file


def test_an_archive_is_unpacked_beside_what_is_there(tmp_path):
    (tmp_path / "set").mkdir()
    (tmp_path / "set" / "old").write_bytes(b"old")
    unpack(archive(tmp_path / "a.tar", **{"set/new": b"new", "/set/deep/b": b"b"}), tmp_path)
    assert {p.name: p.read_bytes() for p in (tmp_path / "set").rglob("*") if p.is_file()} == {
        "old": b"old",
        "new": b"new",
        "b": b"b",
    }
    assert {p.name for p in tmp_path.iterdir()} == {"a.tar", "set"}


@pytest.mark.parametrize(
    "members", [{"../evil": b"x"}, {"a/../../evil": b"x"}, {"evil": "/etc/passwd"}, {"a": "..", "a/evil": b"x"}]
)
def test_an_archive_writes_nothing_elsewhere(tmp_path, members):
    (tmp_path / "home").mkdir()
    with pytest.raises(AlbenchError, match=r"a\.tar") as caught:
        unpack(archive(tmp_path / "a.tar", **members), tmp_path / "home")
    assert "\n" not in str(caught.value)
    assert not [p for p in tmp_path.rglob("*") if p.name == "evil" or p.is_symlink()]


def test_a_cut_archive_is_told(tmp_path):
    archive(tmp_path / "a.tar", a=b"x" * 10_000)
    (tmp_path / "a.tar").write_bytes((tmp_path / "a.tar").read_bytes()[:5000])
    with pytest.raises(AlbenchError, match=r"cannot unpack .*a\.tar"):
        unpack(tmp_path / "a.tar", tmp_path / "home")
    assert not (tmp_path / "home" / "a").exists()
