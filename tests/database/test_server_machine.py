"""The server's own machine among the hosts, whatever the tables call it."""

from __future__ import annotations

from dataclasses import replace
from datetime import timedelta
from typing import Any

import pytest

from oarpy.database.launches import ToRun
from oarpy.model.payloads import OWN_KEY
from oarpy.model.states import JobId
from oarpy.modules import launching
from oarpy.modules.context import Context
from oarpy.modules.runner import Runner
from oarpy.settings import Nodes, Settings
from tests.support.postgres import TestDatabase

NAMES = ("fe.example.org", "fe", "localhost")
JOB = ToRun(
    job_id=JobId(1),
    attempt=1,
    array_id=1,
    array_index=1,
    name=None,
    user="alice",
    project="default",
    types=(),
    command="true",
    directory="/",
    stdout="out",
    stderr="err",
    walltime=timedelta(hours=1),
    umask=0o022,
    resources=(1,),
    head=None,
    others=(),
    key=None,
    terminal="t",
)


@pytest.fixture
def running(database: TestDatabase, monkeypatch: pytest.MonkeyPatch) -> Any:
    """A runner on fe.example.org, where a user's left-over processes are removed from hosts."""
    monkeypatch.setattr(launching, "names_of_this_machine", lambda: frozenset(NAMES))
    nowhere: Any = None
    return Runner(Context(database.engine, Settings(nodes=Nodes(clean_processes=True))), nowhere)


def with_resource(running: Any, database: TestDatabase, host: str) -> Any:
    database.execute(
        "INSERT INTO resources (resource_id, network_address, host) OVERRIDING SYSTEM VALUE VALUES (1, %s, %s)",
        (host, host),
    )
    with database.engine.begin() as conn:
        running._machines.refresh(conn)
    return running


@pytest.mark.parametrize("name", NAMES)
def test_under_no_name_it_is_swept(running: Any, database: TestDatabase, name: str) -> None:
    with_resource(running, database, name)

    assert running._launching.launch(JOB, name, (name,), None).sweep == ()


def test_another_host_is_swept(running: Any, database: TestDatabase) -> None:
    with_resource(running, database, "c1")

    assert running._launching.launch(JOB, "c1", ("c1",), None).sweep == ("processes", "ipc")


@pytest.mark.parametrize(("name", "needed"), [*((name, False) for name in NAMES), ("c1", True)])
def test_a_terminal_there_needs_no_key(running: Any, database: TestDatabase, name: str, needed: bool) -> None:
    with_resource(running, database, name)

    assert running._launching.has_key(JOB, (name,)) is needed
    assert running._launching.has_key(replace(JOB, key=OWN_KEY), (name,))


@pytest.mark.parametrize("name", NAMES)
def test_what_runs_on_the_server_goes_by_the_name_that_resources_have(
    running: Any, database: TestDatabase, name: str
) -> None:
    """Two sessions with one guard would fence each other."""
    with_resource(running, database, name)

    assert running._launching.where(replace(JOB, types=("cosystem",))) == (name,)
    assert running._launching.where(replace(JOB, types=("noop",))) == (name,)
