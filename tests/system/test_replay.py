"""``oarpy simulate --from-database``: what was submitted to a running system, under another configuration."""

from __future__ import annotations

import csv
import json
import xml.etree.ElementTree as ElementTree

from tests.support import accounts
from tests.support.instance import System


def test_what_was_submitted_is_simulated_with_its_own_ids(system: System) -> None:
    jobs = system.oarsub_array("--array", "3", "-l", "resource_id=1,walltime=0:10", "true")
    gone = system.oarsub("--hold", "true")
    system.run("oardel", str(gone))
    system.wait_until_all_final([*jobs, gone])
    waiting = system.oarsub("--hold", "true")
    written, drawn = system.root / "jobs.csv", system.root / "out.svg"

    done = system.admin(
        *("oarpy", "simulate", "--from-database", "--policy", "easy", "--from", "2020-01-01", "--json"),
        *("--jobs-out", str(written), "--gantt", str(drawn)),
    )

    found = json.loads(done.stdout)
    assert (found["jobs"], found["never_started"]) == (3, 0)
    assert found["left_out"] == {"never ran": 1, "not over yet": 1}
    with written.open() as file:
        assert [int(row["job_id"]) for row in csv.DictReader(file)] == jobs
    assert ElementTree.parse(drawn).getroot() is not None
    assert system.job(waiting).state == "Hold"
    table = system.admin("oarpy", "simulate", "--from-database", "--to", "2020-01-01").stdout
    assert "jobs                   0" in table


def test_others_are_no_administrators(system: System) -> None:
    for command in (("oarpy", "simulate", "--from-database"), ("oarpy", "status")):
        done = system.run(*command, user=accounts.account(accounts.BOB), check=False)

        assert done.returncode == 8
        assert done.stderr == "oarpy: only root and the owner of the instance may do this\n"
