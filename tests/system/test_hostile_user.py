"""One user's sessions attack the server, and another user's oarsub hardly notices.

The attacks are those of ``tools/bench_hostile``, which measures them.  Here they are
compared with what the same machine did a moment before.
"""

from __future__ import annotations

import json
import pwd
import statistics
import subprocess
import sys
import time
from collections.abc import Iterator
from contextlib import closing, contextmanager
from pathlib import Path

import pytest

from oarpy.settings import Requests
from tests.support import accounts
from tests.support.instance import System
from tests.support.waiting import wait_until

PROGRAM = Path(__file__).parents[2] / "tools" / "hostile_user.py"
RUNS = 5
#: So long an oarsub may take where attackers, and others besides, want two processors.
BUSY_S = 5.0
#: How often an attacker's requests were answered while somebody else's waited, and how many of those
#: that were asked before it had to wait longer.
FAIRNESS = """
    SELECT
        (SELECT count(*) FROM requests r WHERE r.login = %(attacker)s
            AND r.answered_at BETWEEN v.asked_at AND v.answered_at),
        (SELECT count(*) FROM requests r WHERE r.login = %(attacker)s
            AND r.asked_at < v.asked_at AND (r.answered_at IS NULL OR r.answered_at > v.answered_at))
    FROM requests v WHERE v.login = %(victim)s AND v.state = 'answered' AND v.request_id > %(after)s
"""


@contextmanager
def attacked(system: System, attack: str, attacker: pwd.struct_passwd) -> Iterator[subprocess.Popen[str]]:
    """``attack`` is under way by several sessions."""
    parameters = json.dumps(system.database.parameters("oar_user"))
    # The repository may be out of the attacker's reach.
    command = accounts.switched(attacker, [sys.executable, "-c", PROGRAM.read_text(), attack, parameters])
    with subprocess.Popen(command, stdout=subprocess.PIPE, cwd="/", text=True) as process:
        assert process.stdout is not None
        try:
            assert int(process.stdout.readline()) > 0
            yield process
            assert process.poll() is None
        finally:
            process.kill()


def oarsub_s(system: System) -> float:
    """How long the victim typically waits for oarsub; each of them succeeds."""
    taken = []
    for _ in range(RUNS):
        begun = time.monotonic()
        system.oarsub("--hold", "true")
        taken.append(time.monotonic() - begun)
    return statistics.median(taken)


@pytest.mark.parametrize("attack", ["notify", "payload", "hold", "temporary"])
def test_an_attack_delays_others_no_more_than_busy_processors_do(system: System, attack: str) -> None:
    attacker = accounts.account(accounts.BOB)
    quiet_s = oarsub_s(system)

    with attacked(system, attack, attacker):
        attacked_s = oarsub_s(system)
        temporary = system.database.execute("SELECT count(*) FROM pg_class WHERE relpersistence = 't'")

    # 70 ms and at most 700 ms on two quiet cores.
    assert attacked_s < max(BUSY_S, 15 * quiet_s)
    assert temporary == [(0,)]


@pytest.mark.parametrize("attack", ["pending", "submit"])
def test_more_requests_than_can_be_answered_delay_only_those_of_their_user(system: System, attack: str) -> None:
    attacker = accounts.account(accounts.BOB)
    quiet_s = oarsub_s(system)
    ((last,),) = system.database.execute("SELECT max(request_id) FROM requests")

    with attacked(system, attack, attacker):
        waiting = "SELECT count(*) >= 60 FROM requests WHERE state = 'pending' AND login = %s"
        wait_until(
            lambda: system.database.execute(waiting, [attacker.pw_name]) == [(True,)],
            timeout_s=60,
            what="the server is behind",
        )
        attacked_s = oarsub_s(system)

    values = {"attacker": attacker.pw_name, "victim": system.user.pw_name, "after": last}
    with closing(system.database.connect()) as session, session.cursor() as cursor:
        cursor.execute(FAIRNESS, values)
        fairness = cursor.fetchall()
    assert len(fairness) == RUNS
    # One batch may be under way, another may begin before the request is committed, and the next one is shared.
    assert max(answered for answered, _ in fairness) < 3 * Requests().batch
    assert sum(overtaken for _, overtaken in fairness) > 0
    assert attacked_s < max(BUSY_S, 15 * quiet_s)
