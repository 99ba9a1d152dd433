import errno
import os
from pathlib import Path

import pytest
from refusals import refused

from pretext.files import read_lines, write_whole


@pytest.mark.parametrize("start", [b"", b"\xef\xbb\xbf"])
@pytest.mark.parametrize("end", [b"\n", b"\r\n"])
def test_lines_of_a_list(tmp_path, start, end):
    (tmp_path / "list.txt").write_bytes(start + b"a b" + end + end + "é\x0bc\u2028d".encode() + end)
    assert read_lines(tmp_path / "list.txt") == ["a b", "", "é\x0bc\u2028d"]


def test_names_that_are_not_utf8_keep_their_bytes(tmp_path):
    (tmp_path / "list.txt").write_bytes(b"caf\xe9.jpg\nlast")
    lines = read_lines(tmp_path / "list.txt")
    assert [os.fsencode(line) for line in lines] == [b"caf\xe9.jpg", b"last"]
    write_whole(tmp_path / "again.txt", "\n".join(lines))
    assert read_lines(tmp_path / "again.txt") == lines


@pytest.mark.parametrize(
    ("data", "received"), [(b"\x89PNG\r\n\0\0", "binary data"), ("a".encode("utf-16"), "text in UTF-16")]
)
def test_what_is_not_text_in_utf8_is_refused(tmp_path, data, received):
    (tmp_path / "list.txt").write_bytes(data)
    with refused(tmp_path / "list.txt", received=received):
        read_lines(tmp_path / "list.txt")


def test_a_list_that_cannot_be_read_is_refused(tmp_path):
    with refused(tmp_path):
        read_lines(tmp_path)


@pytest.fixture
def calls(monkeypatch):
    """Which files and folders are synced and renamed, in order."""
    done, sync, replace = [], os.fsync, Path.replace

    def fsync(descriptor):
        path = Path(f"/proc/self/fd/{descriptor}").readlink()
        done.append(("sync", path.suffix or path.name))
        sync(descriptor)

    def renamed(self, target):
        done.append(("rename", target.name))
        return replace(self, target)

    monkeypatch.setattr(os, "fsync", fsync)
    monkeypatch.setattr(Path, "replace", renamed)
    return done


def test_a_file_is_synced_before_its_name_and_its_name_after(tmp_path, calls):
    write_whole(tmp_path / "folder" / "file", "text")
    assert calls == [("sync", ".tmp"), ("rename", "file"), ("sync", "folder")]
    assert (tmp_path / "folder" / "file").read_text() == "text"
    assert (tmp_path / "folder" / "file").stat().st_mode & 0o777 == 0o644


@pytest.mark.parametrize("number", [errno.EINVAL, errno.EACCES])
def test_a_folder_that_cannot_be_synced_is_no_error(tmp_path, monkeypatch, number):
    fail_to_sync(tmp_path, monkeypatch, number)
    write_whole(tmp_path / "file", "text")
    assert (tmp_path / "file").read_text() == "text"


def test_a_disk_that_fails_is_an_error(tmp_path, monkeypatch):
    fail_to_sync(tmp_path, monkeypatch, errno.EIO)
    with refused(tmp_path / "file"):
        write_whole(tmp_path / "file", "text")


def fail_to_sync(folder, monkeypatch, number):
    sync = os.fsync

    def fsync(descriptor):
        if os.path.samestat(os.fstat(descriptor), folder.stat()):
            raise OSError(number, os.strerror(number))
        sync(descriptor)

    monkeypatch.setattr(os, "fsync", fsync)


def test_a_full_disk_leaves_the_old_file_alone(tmp_path, monkeypatch):
    write_whole(tmp_path / "file", "old")

    def full(descriptor):
        raise OSError(errno.ENOSPC, "No space left on device")

    monkeypatch.setattr(os, "fsync", full)
    with refused(tmp_path / "file", "No space left", allowed="3 bytes"):
        write_whole(tmp_path / "file", "new")
    assert [path.name for path in tmp_path.iterdir()] == ["file"]
    assert (tmp_path / "file").read_text() == "old"


def test_an_interruption_leaves_the_old_file_alone(tmp_path, monkeypatch):
    def interrupted(descriptor):
        raise KeyboardInterrupt

    write_whole(tmp_path / "file", "old")
    monkeypatch.setattr(os, "fsync", interrupted)
    with pytest.raises(KeyboardInterrupt):
        write_whole(tmp_path / "file", "new")
    assert [path.name for path in tmp_path.iterdir()] == ["file"]
    assert (tmp_path / "file").read_text() == "old"
