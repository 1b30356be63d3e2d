"""What a host says of itself when it is examined."""

from __future__ import annotations

import json
import subprocess
import tempfile
from collections.abc import Iterator
from pathlib import Path

import pytest

from oarpy.drivers.oarexec_program import archive
from tests.support.accounts import ALICE, account, switched

# The account may be kept from the interpreter that runs the tests, and a node has this one.
PYTHON = "/usr/bin/python3"


@pytest.fixture
def place() -> Iterator[Path]:
    """A directory that every account can reach."""
    with tempfile.TemporaryDirectory(prefix="oarpy-test-") as name:
        Path(name).chmod(0o755)
        yield Path(name)


def test_what_an_account_may_not_do_is_said_in_words(place: Path) -> None:
    alice = account(ALICE)
    program = place / "oarexec.zip"
    program.write_bytes(archive())
    command = [PYTHON, "-I", str(program), "doctor", "--spool", str(place / "spool")]

    said = subprocess.run(switched(alice, command), capture_output=True, text=True, check=True, cwd="/")

    sentences = json.loads(said.stdout)["findings"]
    assert sentences
    assert [sentence for sentence in sentences if "Errno" in sentence or "None" in sentence] == []
