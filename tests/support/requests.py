"""Requests as clients leave them in the tables, and what becomes of them."""

from __future__ import annotations

import json
import uuid
from collections.abc import Mapping
from typing import Any

from oarpy.modules.appendice import Appendice
from oarpy.modules.context import Context
from oarpy.settings import Settings
from tests.support.postgres import TestDatabase

_ASK = """
    INSERT INTO requests (key, verb, payload, requested_by, login, expires_at, takings)
    VALUES (%s, %s, %s, %s, %s, clock_timestamp() + %s * interval '1 s', %s) RETURNING request_id
"""


def with_hosts(database: TestDatabase, hosts: int = 2, cores: int = 4) -> None:
    """Resources: ``hosts`` hosts c1, c2, … of ``cores`` cores each."""
    database.execute(
        """
        INSERT INTO resources (network_address, host, cpu, core)
        SELECT 'c' || h, 'c' || h, 0, (h - 1) * %s + c FROM generate_series(1, %s) h, generate_series(1, %s) c
        """,
        (cores, hosts, cores),
    )


def submission(command: str = "true", **fields: object) -> dict[str, object]:
    """The payload of a submit that says as little as possible besides ``fields``."""
    return {"command": command, "directory": "/tmp", **fields}


def ask(
    database: TestDatabase,
    verb: str,
    payload: Mapping[str, object],
    *,
    login: str = "alice",
    lifetime_s: float = 60,
    takings: int = 0,
) -> int:
    """The id of a request that is pending now."""
    values = (str(uuid.uuid4()), verb, json.dumps(payload), f"peer:{login}", login, lifetime_s, takings)
    ((request_id,),) = database.execute(_ASK, values)
    assert isinstance(request_id, int)
    return request_id


def answer_to(database: TestDatabase, request_id: int) -> Any:
    """The answer, None while there is none."""
    ((answer,),) = database.execute("SELECT answer FROM requests WHERE request_id = %s", (request_id,))
    return answer


def appendice(database: TestDatabase, settings: Settings | None = None, rules: str | None = None) -> Appendice:
    """An appendice of no epoch; with the rules that come with oarpy unless ``rules`` names a directory."""
    return Appendice(Context(database.engine, settings or Settings()), rules)


def answered(
    database: TestDatabase,
    verb: str,
    payload: Mapping[str, object],
    *,
    login: str = "alice",
    rules: str | None = None,
    settings: Settings | None = None,
) -> Any:
    """The answer to a request that somebody asks now."""
    request_id = ask(database, verb, payload, login=login)
    appendice(database, settings, rules).turn()
    return answer_to(database, request_id)


_CHANGES = {
    "toLaunch": "walltime = '1 h', alternative = 0, planned_end_at = now() + interval '1 h'",
    "Running": "started_at = now()",
    "Terminated": "stopped_at = now(), exit_code = 0, end_cause = 'exit'",
    "Error": "stopped_at = now(), end_cause = 'killed'",
}


def submitted(database: TestDatabase, *, login: str = "alice", **fields: object) -> int:
    """The id of a job that waits, or of the first element of an array."""
    answer = answered(database, "submit", submission(**fields), login=login)  # type: ignore[arg-type]
    first: int = answer["job_ids"][0][0]
    return first


def bring(database: TestDatabase, job_id: int, *states: str) -> int:
    """Lead a job through ``states``; from toLaunch to Finishing it holds the resource of its own id."""
    for state in states:
        changes = ", ".join(["state = %s", *([_CHANGES[state]] if state in _CHANGES else [])])
        database.execute(f"UPDATE jobs SET {changes} WHERE job_id = %s", (state, job_id))
        if state == "toLaunch":
            database.execute(
                "INSERT INTO allocations (job_id, attempt, resources, held, share) SELECT job_id, attempt,"
                " int4multirange(int4range(job_id::int, job_id::int + 1)), tstzrange(now(), NULL), job_id"
                " FROM jobs WHERE job_id = %s",
                (job_id,),
            )
        elif state in ("Terminated", "Error"):
            database.execute("DELETE FROM allocations WHERE job_id = %s", (job_id,))
    return job_id


RUNNING = ("toLaunch", "Launching", "Running")
ENDED = (*RUNNING, "Finishing", "Terminated")
