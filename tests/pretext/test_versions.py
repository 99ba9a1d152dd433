import subprocess

import pytest
import torch

import pretext
from pretext import versions as module
from pretext.versions import DISTRIBUTIONS, versions


@pytest.fixture
def uncached():
    versions.cache_clear()
    yield
    versions.cache_clear()


def repository(folder):
    (folder / "pretext").mkdir()
    (folder / "pretext" / "versions.py").write_text("")
    for words in (["init", "-q"], ["add", "."], ["commit", "-qm", "first"]):
        author = ["-c", "user.name=A", "-c", "user.email=a@b.c"]
        subprocess.run(["git", *author, *words], cwd=folder, check=True)
    return subprocess.run(
        ["git", "rev-parse", "HEAD"], cwd=folder, check=True, capture_output=True, text=True
    ).stdout.strip()


def test_packages_are_named_with_their_versions(monkeypatch, uncached):
    monkeypatch.setitem(DISTRIBUTIONS, "gone", "no-such-distribution")
    found = versions()
    assert found["pretext-transfer"] == pretext.__version__
    assert found["torch"] == torch.__version__.partition("+")[0]
    assert found["gone"] is None
    assert found.keys() == {"pretext-transfer", "python", "git_commit", *DISTRIBUTIONS}


def test_the_commit_is_named_and_whether_files_differ_from_it(monkeypatch, tmp_path, uncached):
    monkeypatch.setattr(module, "__file__", str(tmp_path / "pretext" / "versions.py"))
    commit = repository(tmp_path)
    assert versions()["git_commit"] == commit
    versions.cache_clear()
    (tmp_path / "pretext" / "versions.py").write_text("changed")
    assert versions()["git_commit"] == f"{commit}+dirty"


def test_without_a_repository_there_is_no_commit(monkeypatch, tmp_path, uncached):
    monkeypatch.setattr(module, "__file__", str(tmp_path / "pretext" / "versions.py"))
    assert versions()["git_commit"] is None
