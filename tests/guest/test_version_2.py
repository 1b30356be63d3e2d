"""Control groups of version 2 with all their controllers, in a guest that has them."""

from __future__ import annotations

import json
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest

from oarpy.drivers.oarexec_program import archive

pytestmark = pytest.mark.guest

TOOL = Path(__file__).parents[2] / "tools" / "guest"


@pytest.fixture(scope="module")
def found(tmp_path_factory: pytest.TempPathFactory) -> dict[str, Any]:
    """What jobs in the guest have met."""
    program = tmp_path_factory.mktemp("program") / "oarexec.zip"
    program.write_bytes(archive())
    words = [sys.executable, str(TOOL), "run", str(Path(__file__).parent / "inside.py"), str(program)]
    done = subprocess.run(words, capture_output=True, text=True, check=False)
    lines = [line for line in done.stdout.splitlines() if line.startswith("found: ")]
    assert len(lines) == 1, done.stdout[-3000:] + done.stderr
    return dict(json.loads(lines[0].removeprefix("found: ")))


def test_everything_is_enforced(found: dict[str, Any]) -> None:
    assert found["containment"]["by"] == "cgroups v2"
    assert {*found["containment"]["enforces"]} == {"kill", "cpus", "memory", "devices"}


def test_a_job_stays_on_its_processors(found: dict[str, Any]) -> None:
    assert found["cpus"]["out"].split() == ["Cpus_allowed_list:", "1", "1"]


def test_a_job_that_uses_too_much_memory_ends_and_says_so(found: dict[str, Any]) -> None:
    said = "it used more memory than the 30 MiB that it may"
    assert found["over"]["cause"] == "out_of_memory"
    assert found["over"]["short_of_memory"].startswith(said)
    assert (found["went on"]["cause"], found["went on"]["status"]) == ("exit", 0)
    assert found["went on"]["short_of_memory"].startswith(said)
    assert (found["within"]["cause"], found["within"]["short_of_memory"]) == ("exit", None)


def test_groups_that_are_delegated_are_used_where_jobs_can_get_there(found: dict[str, Any]) -> None:
    assert found["delegated"] == {
        "outside": {"by": "processes", "end": ["exit", 0, None]},
        "within": {"by": "cgroups v2", "end": ["exit", 0, None]},
    }


def test_other_devices_are_denied(found: dict[str, Any]) -> None:
    assert found["devices"]["out"] == "zero\n"


def test_a_job_rests_goes_on_and_is_killed_with_all_it_started(found: dict[str, Any]) -> None:
    assert [found[name] for name in ("suspended", "frozen", "resumed", "thawed")] == [True] * 4
    assert found["killed"]["cause"] == "killed"
    assert found["groups left"] == []
    assert found["processes left"] == []
