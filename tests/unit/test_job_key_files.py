"""The key that ``oarsub -e`` writes: it is on the disk before anything is submitted."""

from __future__ import annotations

import os
import stat

import pytest

from oarpy.commands import job_keys
from oarpy.commands.job_keys import JobKey, submitted_with, wanted
from oarpy.errors import OutcomeUnknown, RequestRefused, ServerUnavailable
from oarpy.model.payloads import Submitted

PRIVATE = "the private key\n"


class Killed(BaseException):
    """Whatever ends a command in the middle."""


@pytest.fixture
def told():
    return []


def answering(*job_ids):
    return lambda: Submitted(job_ids=job_ids)


def contents(directory):
    return {path.name: path.read_text() for path in directory.iterdir()}


@pytest.mark.parametrize(
    ("file", "job_ids", "files"),
    [
        ("key", (7,), {"key"}),
        ("key.%jobid%", (7, 8), {"key.7", "key.8"}),
        ("key", (7, 8), {"key"}),
        ("key", (), set()),
    ],
)
def test_the_key_is_where_it_was_wanted_and_nowhere_else(tmp_path, told, file, job_ids, files):
    key = JobKey("public", PRIVATE, str(tmp_path / file))

    answer = submitted_with(key, answering(*job_ids), told.append)

    assert answer.job_ids == job_ids
    assert contents(tmp_path) == dict.fromkeys(files, PRIVATE)
    assert {stat.S_IMODE(path.stat().st_mode) for path in tmp_path.iterdir()} <= {0o600}
    assert told == []


def test_while_the_answer_is_awaited_the_key_is_in_a_file_of_its_owner_s(tmp_path, told):
    seen = {}

    def submit():
        (path,) = tmp_path.iterdir()
        seen[path.name] = (path.read_text(), stat.S_IMODE(path.stat().st_mode))
        return Submitted(job_ids=(7,))

    before = os.umask(0)
    try:
        submitted_with(JobKey("public", PRIVATE, str(tmp_path / "key.%jobid%")), submit, told.append)
    finally:
        os.umask(before)

    ((name, found),) = seen.items()
    assert name.startswith("key.job.new-")
    assert found == (PRIVATE, 0o600)


@pytest.mark.parametrize("error", [RequestRefused("no"), ServerUnavailable("not now")])
def test_a_job_that_is_refused_leaves_no_key(tmp_path, told, error):
    def submit():
        raise error

    with pytest.raises(type(error)):
        submitted_with(JobKey("public", PRIVATE, str(tmp_path / "key")), submit, told.append)

    assert contents(tmp_path) == {}
    assert told == []


@pytest.mark.parametrize("error", [OutcomeUnknown("k"), Killed()])
def test_a_job_that_may_run_leaves_its_key_and_says_where(tmp_path, told, error):
    def submit():
        raise error

    with pytest.raises(type(error)):
        submitted_with(JobKey("public", PRIVATE, str(tmp_path / "key")), submit, told.append)

    ((name, text),) = contents(tmp_path).items()
    assert text == PRIVATE
    assert told == [f"the key of the job, if there is one, is in {str(tmp_path / name)!r}"]


def test_a_file_that_came_meanwhile_is_not_written_over_and_the_key_is_kept(tmp_path, told):
    def submit():
        (tmp_path / "key").write_text("another's")
        return Submitted(job_ids=(7,))

    with pytest.raises(RequestRefused, match=r"submitted, but their key cannot be written to \S+ \(File exists\)"):
        submitted_with(JobKey("public", PRIVATE, str(tmp_path / "key")), submit, told.append)

    assert sorted(contents(tmp_path).values()) == ["another's", PRIVATE]


def test_a_directory_that_is_missing_is_named_before_anything_is_made(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)

    with pytest.raises(RequestRefused, match=r"'keys/%jobid%': there is no directory 'keys'$"):
        wanted({"import_job_key": None, "import_job_key_inline": None, "export_job_key": "keys/%jobid%"})

    assert list(tmp_path.iterdir()) == []


def test_no_link_is_followed(tmp_path, told, monkeypatch):
    (tmp_path / "stolen").mkdir()
    monkeypatch.setattr(job_keys.os, "urandom", lambda count: b"\0" * count)
    (tmp_path / "key.new-00000000").symlink_to(tmp_path / "stolen" / "key")

    with pytest.raises(RequestRefused, match="cannot be written to"):
        submitted_with(JobKey("public", PRIVATE, str(tmp_path / "key")), answering(7), told.append)

    assert contents(tmp_path / "stolen") == {}
