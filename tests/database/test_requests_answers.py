"""How requests are taken up and answered: fairly, once, and one apart from the other."""

from __future__ import annotations

import signal
import subprocess
import sys
from itertools import takewhile
from pathlib import Path
from types import SimpleNamespace

import pytest

from oarpy.modules import appendice as appendice_module
from oarpy.settings import Requests, Settings
from tests.support.postgres import TestDatabase
from tests.support.requests import answer_to, appendice, ask, submission, with_hosts

RULE = "from oarpy.actions.admission import Refuse\ndef admit(submission):\n    {}\n"
#: A process that answers one batch and may not survive it.
ONE_TURN = """
import sys
from sqlalchemy import create_engine
from oarpy.modules.appendice import Appendice
from oarpy.modules.context import Context
from oarpy.settings import Settings
import psycopg2
engine = create_engine("postgresql+psycopg2://", creator=lambda: psycopg2.connect(sys.argv[1]))
Appendice(Context(engine, Settings()), sys.argv[2]).turn()
"""


def rules(directory: Path, body: str) -> str:
    (directory / "1_rule.py").write_text(RULE.format(body))
    return str(directory)


def one_turn(database: TestDatabase, directory: str, dies_at: str = "") -> int:
    """The exit status of a process that answers one batch."""
    dsn = " ".join(f"{key}={value}" for key, value in database.parameters("oar").items())
    environment = {"OARPY_DIES_AT": dies_at, "PATH": "/usr/bin:/bin"}
    return subprocess.run([sys.executable, "-c", ONE_TURN, dsn, directory], env=environment, check=False).returncode


def states(database: TestDatabase) -> list[object]:
    return [state for (state,) in database.execute("SELECT state FROM requests ORDER BY request_id")]


def test_users_take_turns(database: TestDatabase) -> None:
    with_hosts(database)
    flood = [ask(database, "submit", submission(), login="alice") for _ in range(10)]
    other = ask(database, "submit", submission(), login="bob")
    settings = Settings(requests=Requests(batch=3))

    appendice(database, settings).turn()

    assert answer_to(database, other)["ok"]
    assert [answer_to(database, request_id) is not None for request_id in flood[:3]] == [True, True, False]


def test_batches_become_small_while_they_take_long_and_large_again_afterwards(
    database: TestDatabase, monkeypatch: pytest.MonkeyPatch
) -> None:
    with_hosts(database)

    def clock(each_s: float) -> SimpleNamespace:
        """One by which each submission takes so long, and nothing else does."""
        stored = "SELECT count(*) FROM job_requests"
        return SimpleNamespace(monotonic=lambda: each_s * int(str(database.execute(stored)[0][0])))

    for _ in range(80):
        ask(database, "submit", submission())
    server = appendice(database, Settings(requests=Requests(batch=20)))

    monkeypatch.setattr(appendice_module, "time", clock(0.03))
    slow = [server.turn() for _ in range(3)]
    monkeypatch.setattr(appendice_module, "time", clock(0))
    fast = list(takewhile(bool, (server.turn() for _ in range(80))))

    assert slow[0] == 20
    # 30 ms each, of the 100 ms that a batch should take; and some try at more, when there was time left.
    assert max(slow[1:]) <= 6
    assert max(fast) > 6
    assert sum(slow + fast) == 80


def test_one_that_is_refused_spoils_nothing_for_the_others(database: TestDatabase) -> None:
    with_hosts(database)
    bad = ask(database, "submit", submission(dependencies=[[99, "afterany", None, None]]))
    good = ask(database, "submit", submission())

    answered = appendice(database).turn()

    assert answered == 2
    assert answer_to(database, bad)["ok"] is False
    assert answer_to(database, good)["ok"] is True


def test_one_that_the_server_fails_on_spoils_nothing_for_the_others(database: TestDatabase, tmp_path: Path) -> None:
    with_hosts(database)
    # What no rule should do, and no check foresees: the error comes from the database.
    directory = rules(tmp_path, "submission.project = submission.name and submission.name + chr(0)")
    bad = ask(database, "submit", submission(name="n"))
    good = ask(database, "delete", {"job_ids": [1]})

    appendice(database, rules=directory).turn()

    assert answer_to(database, bad) == {
        "ok": False,
        "exit_status": 70,
        "message": "the server failed on this request; nothing was done, and its log says why",
    }
    assert answer_to(database, good)["ok"] is True
    assert database.execute("SELECT count(*) FROM jobs") == [(0,)]


@pytest.mark.parametrize("verb", ["fly", "submit", "delete", "hold", "resume", "signal", "checkpoint"])
@pytest.mark.parametrize("payload", [{}, {"job_ids": "all"}, {"command": 3}])
def test_nonsense_is_answered_with_one_sentence(database: TestDatabase, verb: str, payload: dict[str, object]) -> None:
    request_id = ask(database, verb, payload)

    appendice(database).turn()

    answer = answer_to(database, request_id)
    assert answer["ok"] is False
    assert "\n" not in answer["message"]
    assert answer["exit_status"] != 70


def test_a_request_that_expired_is_never_carried_out(database: TestDatabase) -> None:
    with_hosts(database)
    ask(database, "submit", submission(), lifetime_s=-1)
    server = appendice(database)

    answered, expired = server.turn(), server.expire()

    assert (answered, expired, states(database)) == (0, 1, ["expired"])
    assert database.execute("SELECT count(*) FROM jobs") == [(0,)]


def test_a_request_withdrawn_while_it_was_judged_is_not_carried_out(database: TestDatabase, tmp_path: Path) -> None:
    with_hosts(database)
    # The rule stands for the client's ^C: it comes after the request was taken up.
    withdraw = (
        "import psycopg2; c = psycopg2.connect('{}'); c.autocommit = True; "
        "c.cursor().execute(\"UPDATE requests SET state = 'withdrawn'\")"
    ).format(" ".join(f"{key}={value}" for key, value in database.parameters("oar").items()))
    ask(database, "submit", submission())

    answered = appendice(database, rules=rules(tmp_path, withdraw)).turn()

    assert (answered, states(database)) == (0, ["withdrawn"])
    assert database.execute("SELECT count(*) FROM jobs") == [(0,)]


def test_a_large_array_does_not_delay_the_requests_that_came_with_it(database: TestDatabase) -> None:
    with_hosts(database)
    large = ask(database, "submit", submission(array_count=20_001), login="alice")
    small = ask(database, "submit", submission(), login="bob")

    appendice(database).turn()

    assert answer_to(database, large)["job_ids"] == [[2, 20_003]]
    assert answer_to(database, small)["job_ids"] == [[1, 2]]
    assert database.execute("SELECT count(DISTINCT submitted_at) FROM jobs") == [(2,)]


@pytest.mark.parametrize("point", ["appendice: requests taken", "appendice: answers written"])
def test_a_death_neither_loses_nor_doubles_a_job(database: TestDatabase, tmp_path: Path, point: str) -> None:
    with_hosts(database)
    request_id = ask(database, "submit", submission())

    died = one_turn(database, rules(tmp_path, "pass"), point)
    appendice(database).turn()

    assert died == -signal.SIGKILL
    assert answer_to(database, request_id)["job_ids"] == [[1, 2]]
    assert database.execute("SELECT job_id FROM jobs") == [(1,)]


def test_a_request_that_was_there_at_two_deaths_is_refused_and_the_others_are_not(
    database: TestDatabase, tmp_path: Path
) -> None:
    with_hosts(database)
    directory = rules(tmp_path, "import os; submission.name == 'fatal' and os.kill(os.getpid(), 9)")
    before = ask(database, "submit", submission(name="before"))
    fatal = ask(database, "submit", submission(name="fatal"))
    after = ask(database, "submit", submission(name="after"))

    deaths = 0
    for _ in range(6):
        deaths += one_turn(database, directory) == -signal.SIGKILL

    assert deaths == 2
    assert answer_to(database, before)["ok"]
    assert answer_to(database, after)["ok"]
    assert answer_to(database, fatal) == {
        "ok": False,
        "exit_status": 70,
        "message": "the server failed again and again on this request; nothing was done",
    }


def test_a_rule_that_never_ends_refuses_and_names_itself(
    database: TestDatabase, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    with_hosts(database)
    monkeypatch.setattr(appendice_module, "JUDGE_S", 1)
    monkeypatch.setattr(appendice_module, "TURN_S", 10)
    directory = rules(tmp_path, "while submission.name == 'endless': pass")
    endless = ask(database, "submit", submission(name="endless"))
    other = ask(database, "submit", submission(), login="bob")

    appendice(database, rules=directory).turn()

    assert answer_to(database, endless)["message"].startswith("the admission rule 1_rule.py failed (TookTooLong)")
    assert answer_to(database, other)["ok"] is True


def test_a_user_whose_requests_are_slow_to_judge_delays_others_once(
    database: TestDatabase, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    with_hosts(database)
    monkeypatch.setattr(appendice_module, "JUDGE_S", 1)
    monkeypatch.setattr(appendice_module, "TURN_S", 10)
    directory = rules(tmp_path, "while submission.user == 'mallory': pass")
    slow = [ask(database, "submit", submission(), login="mallory") for _ in range(3)]
    other = ask(database, "submit", submission(), login="alice")
    server = appendice(database, rules=directory)

    answered = [server.turn() for _ in range(3)]

    assert answered == [2, 1, 1]
    assert answer_to(database, other)["ok"] is True
    assert [answer_to(database, request_id)["exit_status"] for request_id in slow] == [254, 254, 254]


def test_whoever_waits_for_an_answer_is_told_when_it_is_there(database: TestDatabase) -> None:
    with_hosts(database)
    request_id = ask(database, "submit", submission())
    ((key,),) = database.execute(
        "SELECT replace(key::text, '-', '') FROM requests WHERE request_id = %s", (request_id,)
    )
    client = database.connect()
    client.autocommit = True
    client.cursor().execute(f"LISTEN oar_answer_{key}; LISTEN oar_almighty")

    appendice(database).turn()

    client.cursor().execute("SELECT 1")
    assert {notify.channel for notify in client.notifies} == {f"oar_answer_{key}", "oar_almighty"}
    client.close()


def test_a_request_that_changes_nothing_wakes_nobody_else(database: TestDatabase) -> None:
    with_hosts(database)
    ask(database, "submit", submission(queue="nowhere"))
    client = database.connect()
    client.autocommit = True
    client.cursor().execute("LISTEN oar_almighty")

    appendice(database).turn()

    client.cursor().execute("SELECT 1")
    assert client.notifies == []
    client.close()
