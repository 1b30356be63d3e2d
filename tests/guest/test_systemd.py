"""The unit in conf/, under a real systemd: what the admin guide says of it, tried from the installation to a reboot."""

from __future__ import annotations

import json
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest

pytestmark = pytest.mark.guest

TOOL = Path(__file__).parents[2] / "tools" / "guest"


@pytest.fixture(scope="module")
def found() -> dict[str, Any]:
    words = [sys.executable, str(TOOL), "boot", str(Path(__file__).parent / "under_systemd.py")]
    done = subprocess.run(words, capture_output=True, text=True, check=False)
    lines = [line for line in done.stdout.splitlines() if line.startswith("found: ")]
    assert len(lines) == 1, done.stdout[-8000:] + done.stderr
    return dict(json.loads(lines[0].removeprefix("found: ")))


def test_it_is_started_when_it_leads(found: dict[str, Any]) -> None:
    assert found["status"].startswith("leads epoch ")


def test_only_what_acts_for_others_runs_as_root(found: dict[str, Any]) -> None:
    as_root = {name for name, account in found["accounts"].items() if account == "root"}
    assert as_root == {"oar-almighty", "oar-supervisor", "oar-runner", "oar-judas"}
    assert found["accounts"]["postgres"] == found["accounts"]["oar-scheduler"] == "oar"


def test_doctor_finds_nothing_to_mend(found: dict[str, Any]) -> None:
    assert [line for line in found["doctor"] if not line.startswith("ok ")] == []
    assert any("contained by cgroups v2" in line for line in found["doctor"])


def test_jobs_and_their_guard_are_outside_of_the_service(found: dict[str, Any]) -> None:
    assert found["groups"]["almighty"] == "/system.slice/oarpy.service"
    assert found["groups"]["guards"] == ["/oarpy/guards"]
    assert found["groups"]["job"].startswith("/oarpy/")


def test_a_reload_moves_no_job_and_loosens_none(found: dict[str, Any]) -> None:
    assert found["the job's group after a reload"] == found["groups"]["job"]
    assert found["its processors"] in ("0", "1")
    assert found["what it counts"] == "1"
    assert found["too much memory"] == ["Error", "out_of_memory"]


def test_it_stops_in_time_and_jobs_live_on(found: dict[str, Any]) -> None:
    assert found["stop"] == ["inactive", "success", True, True]
    assert found["start"] == ["Running", True]


def test_a_killed_almighty_is_started_again(found: dict[str, Any]) -> None:
    assert found["kill"] == ["Running", True, "1"]
    assert found["deleted"] == ["Error", "killed", False]


def test_what_a_person_must_mend_is_said_once(found: dict[str, Any]) -> None:
    assert found["bad settings"] == ["failed", "78"]
    assert "nodse" in found["their reason"]


def test_it_comes_back_after_a_reboot(found: dict[str, Any]) -> None:
    assert found["after the reboot"][0] in ("Terminated", "Error")
    assert found["a new job"] == ["Terminated", "exit"]
    assert "not properly shut down" not in found["log of the database"]
