import os

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
