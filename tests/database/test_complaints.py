"""What reading OAR's modules showed: not here.

Each test is named after the module of OAR 3 in which the defect was seen; its doc string
says what the defect was.
"""

from __future__ import annotations

from dataclasses import replace
from datetime import timedelta
from pathlib import Path

import pytest
from sqlalchemy import text

from oarpy.model.states import JobState
from oarpy.modules import finaud, sarko
from oarpy.modules.context import Context
from oarpy.settings import Health, Settings
from tests.support import rows
from tests.support.postgres import TestDatabase


def checking(database: TestDatabase, tmp_path: Path, script: str, **values: object) -> Context:
    """Each host is checked by ``script``, which is told its name, at each turn."""
    program = tmp_path / "check"
    program.write_text(f"#!/bin/sh\n{script}\n")
    program.chmod(0o755)
    at_once = {"interval": timedelta(), "retry": timedelta(), "tries": 1}
    health = Health(**{"check": "command", "command": str(program), **at_once, **values})  # type: ignore[arg-type]
    return Context(database.engine, replace(Settings(), health=health))


@pytest.mark.parametrize(("suspended_for", "killed"), [(timedelta(), 1), (timedelta(minutes=5), 0)])
def test_sarko_the_time_of_a_suspension_does_not_count(
    database: TestDatabase, suspended_for: timedelta, killed: int
) -> None:
    """Of a job that had been suspended, the time of the suspension was compared with the walltime."""
    with database.engine.begin() as conn:
        rows.resources(conn, "c1")
        over = text("now() - interval '1 min'")
        rows.brought(conn, rows.submitted(conn), JobState.RUNNING, planned_end_at=over, suspended_for=suspended_for)

    sarko.turn(Context(database.engine, Settings()))

    assert database.execute("SELECT count(*) FROM frag_jobs") == [(killed,)]


def test_finaud_a_host_on_which_a_job_runs_is_not_checked_where_the_site_says_so(
    database: TestDatabase, tmp_path: Path
) -> None:
    """``no`` in the configuration was compared with "NO", so busy hosts were checked all the same."""
    with database.engine.begin() as conn:
        rows.resources(conn, "c1")
        rows.brought(conn, rows.submitted(conn), JobState.RUNNING, holds="{[1,2)}")

    finaud.turn(checking(database, tmp_path, f"echo $1 >> {tmp_path}/checked", busy_hosts=False))
    assert not (tmp_path / "checked").exists()
    finaud.turn(checking(database, tmp_path, f"echo $1 >> {tmp_path}/checked", busy_hosts=True))

    assert (tmp_path / "checked").read_text() == "c1\n"


@pytest.mark.parametrize(("status", "state"), [(0, "Alive"), (1, "Suspected")])
def test_tools_pingchecker_what_the_check_says_is_what_the_host_becomes(
    database: TestDatabase, tmp_path: Path, status: int, state: str
) -> None:
    """The functions that read the answers of the checking programs used names that nobody had defined."""
    with database.engine.begin() as conn:
        rows.resources(conn, "c1", 2)

    finaud.turn(checking(database, tmp_path, f"exit {status}"))

    assert database.execute("SELECT DISTINCT state::text FROM resources") == [(state,)]
