"""Private keys on the command line of oarsub, and where keys cannot be asked for."""

from __future__ import annotations

import sys

import click
import pytest
from click.testing import CliRunner

from oarpy.commands import job_keys, oarsub
from oarpy.errors import RequestRefused, SyntaxRefused

KEY = "-----BEGIN OPENSSH PRIVATE KEY-----\\nb3BlbnNzaC1r\\n-----END"


@pytest.mark.parametrize(
    "option",
    ["--import-job-key-inline", "--import-job-key-inline-priv", "--import-job-key-i", "--import-job-key-inline-p"],
)
@pytest.mark.parametrize("joined", [False, True], ids=["two words", "one word"])
def test_no_private_key_is_kept_with_what_was_asked_for(option, joined):
    words = [f"{option}={KEY}"] if joined else [option, KEY]

    kept = oarsub._as_typed(["oarsub", *words, *words, "-n", "a name", "true"])

    said = f"{option}=KEY" if joined else f"{option} KEY"
    assert kept == f"oarsub {said} {said} -n 'a name' true"


@pytest.mark.parametrize("which", [["--edit", "7"], ["--resubmit", "7"]])
@pytest.mark.parametrize(
    "words",
    [
        ["--use-job-key"],
        ["--import-job-key-from-file", "k"],
        ["--import-job-key-inline", KEY],
        ["--export-job-key-to-file", "k"],
    ],
    ids=lambda words: words[0],
)
def test_the_key_of_a_job_that_is_there_cannot_be_changed(monkeypatch, which, words):
    monkeypatch.setattr(sys, "argv", ["oarsub", *which, *words])
    command = next(each for each in vars(oarsub).values() if isinstance(each, click.Command) and each.name == "oarsub")

    done = CliRunner().invoke(command, [*which, *words], standalone_mode=False)

    assert isinstance(done.exception, SyntaxRefused)
    assert str(done.exception) == f"{words[0]} does not go with {which[0]}"


def test_a_file_that_is_there_is_not_written_over(tmp_path):
    file = tmp_path / "id_ed25519"
    file.write_text("the only copy")
    options = {"import_job_key": None, "import_job_key_inline": None, "export_job_key": str(file)}

    with pytest.raises(RequestRefused, match="is there already, and is not written over"):
        job_keys.wanted(options)

    assert file.read_text() == "the only copy"
