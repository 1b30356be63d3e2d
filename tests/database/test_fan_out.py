"""Appendice's fan-out, and the readers on both sides of its socket."""

from __future__ import annotations

import json
import socket
import sys
import time
from collections.abc import Iterator, Sequence
from contextlib import closing, contextmanager, suppress
from pathlib import Path
from typing import Any

import pytest

from oarpy.client.connection import Connection
from oarpy.client.feed import Feed
from oarpy.database.events import Event, append
from oarpy.database.restoration import restore
from oarpy.instance import short_path
from oarpy.model.feed import FeedEvent, Position, Wanted
from oarpy.model.states import JobState
from oarpy.modules import backlog, fan_out, feed_session, watchers
from oarpy.modules.fan_out import FanOut
from tests.support import rows
from tests.support.postgres import TestDatabase
from tests.support.waiting import wait_until

BEGINNING = Position(0, 0)


@contextmanager
def served(database: TestDatabase, path: Path, *, may_watch: bool = True) -> Iterator[FanOut]:
    """A fan-out on ``path`` while the block runs."""
    serving = FanOut(database.engine, fan_out.listen(str(path), everybody=False), lambda uid: may_watch)
    serving.start()
    try:
        yield serving
    finally:
        serving.stop()


@pytest.fixture
def path(tmp_path: Path) -> Path:
    # Longer than the name of a socket may be.
    directory = tmp_path / ("d" * 120)
    directory.mkdir()
    return directory / "watch.sock"


@pytest.fixture
def serving(database: TestDatabase, path: Path) -> Iterator[FanOut]:
    with served(database, path) as serving:
        yield serving


def connect(database: TestDatabase) -> Connection:
    return Connection(database.parameters("oar_user"), "test")


def feed(database: TestDatabase, path: Path, wanted: Wanted | None = None, after: Position | None = BEGINNING) -> Feed:
    return Feed(lambda: connect(database), str(path), wanted or Wanted(), after)


def read(reader: Feed, count: int, timeout_s: float = 60) -> list[FeedEvent]:
    """So many events; fails the test when they do not come."""
    found: list[FeedEvent] = []

    def more() -> bool:
        found.extend(reader.read(0.2))
        return len(found) >= count

    wait_until(more, timeout_s=timeout_s, what=f"{count} events have come")
    return found


def happen(database: TestDatabase, *types: str, job_id: int | None = None) -> None:
    with database.engine.begin() as conn:
        append(conn, [Event(each, job_id=job_id) for each in types])  # type: ignore[arg-type]


def types(events: Sequence[FeedEvent]) -> list[str]:
    return [event.type for event in events]


def raw(path: Path, introduction: bytes) -> socket.socket:
    """A watcher that says what it likes."""
    sock = socket.socket(socket.AF_UNIX)
    with short_path(str(path)) as address:
        sock.connect(address)
    sock.settimeout(60)
    # Who is refused at the door may be so before it has said anything.
    with suppress(BrokenPipeError):
        sock.sendall(introduction)
    return sock


def line_of(sock: socket.socket) -> dict[str, Any]:
    """The first line that comes; the test fails when none does."""
    with sock.makefile("rb") as file:
        document: dict[str, Any] = json.loads(file.readline())
        return document


def introduction(**wanted: Any) -> bytes:
    return json.dumps({"wanted": wanted, "after": None}).encode() + b"\n"


def test_events_and_changes_of_state_come_in_one_order(database, serving, path):
    with closing(feed(database, path, after=None)) as reader:
        reader.begin()
        with database.engine.begin() as conn:
            (job_id,) = rows.submitted(conn)
        happen(database, "FIRST", job_id=job_id)
        with database.engine.begin() as conn:
            rows.brought(conn, [job_id], JobState.HOLD)
        happen(database, "SECOND")

        events = read(reader, 4)

    assert [(event.type, event.state) for event in events] == [
        ("STATE", "Waiting"),
        ("FIRST", None),
        ("STATE", "Hold"),
        ("SECOND", None),
    ]
    assert events == sorted(events, key=lambda event: event.position)
    assert events[0].user == events[1].user == "alice"


def test_a_watcher_hears_of_its_jobs_only(database, serving, path):
    with database.engine.begin() as conn:
        first, second = rows.submitted(conn)[0], rows.submitted(conn)[0]
    with closing(feed(database, path, Wanted(job_ids=frozenset({second})), after=None)) as reader:
        reader.begin()

        happen(database, "OTHER", job_id=first)
        happen(database, "OWN", job_id=second)

        assert types(read(reader, 1)) == ["OWN"]


@pytest.mark.parametrize("wanted", [{"user": "alice"}, {"array_ids": frozenset({1})}])
def test_a_watcher_hears_of_a_users_jobs_or_of_an_array(database, serving, path, wanted):
    with database.engine.begin() as conn:
        (own,) = rows.submitted(conn)
        (other,) = rows.submitted(conn, owner="bob")
    assert own == 1
    with closing(feed(database, path, Wanted(**wanted), after=None)) as reader:
        reader.begin()

        happen(database, "OTHER", job_id=other)
        happen(database, "OWN", job_id=own)

        assert types(read(reader, 1)) == ["OWN"]


@pytest.mark.parametrize("there", [True, False])
def test_what_commits_late_is_told_late_and_not_lost(database, path, there):
    """Its number is lower than that of what committed before it."""
    with closing(feed(database, path)) as reader, closing(database.connect()) as slow, slow.cursor() as cursor:
        cursor.execute("INSERT INTO events (type) VALUES ('SLOW')")
        happen(database, "QUICK")

        def all_told() -> list[FeedEvent]:
            assert reader.read(0.5) == []
            slow.commit()
            return read(reader, 2)

        if there:
            with served(database, path):
                told = all_told()
        else:
            told = all_told()

    assert types(told) == ["SLOW", "QUICK"]


def test_who_reconnects_goes_on_where_it_was(database, path):
    with closing(feed(database, path)) as reader:
        told: list[FeedEvent] = []
        for number in range(3):
            with served(database, path):
                happen(database, f"E{2 * number}")
                told += read(reader, 2 * number + 1 - len(told))
            happen(database, f"E{2 * number + 1}")
        with served(database, path):
            told += read(reader, 6 - len(told))

    assert types(told) == [f"E{number}" for number in range(6)]


def test_without_a_socket_the_tables_are_looked_at(database, path):
    with closing(feed(database, path, after=None)) as reader:
        reader.begin()
        happen(database, "ONE", "TWO")
        assert types(read(reader, 2)) == ["ONE", "TWO"]

        with served(database, path):
            happen(database, "THREE")
            assert types(read(reader, 1)) == ["THREE"]


def test_who_is_far_behind_reads_the_tables_and_comes_back(database, path, monkeypatch):
    monkeypatch.setattr(backlog, "BACKLOG", 10)
    monkeypatch.setattr(feed_session, "CHANGES_AT_START", 10)
    with (
        served(database, path),
        closing(feed(database, path, after=None)) as present,
        closing(feed(database, path)) as late,
    ):
        present.begin()
        for number in range(50):
            happen(database, f"E{number}")
        assert types(read(present, 50)) == [f"E{number}" for number in range(50)]

        late._behind = False  # it believes that the socket will do
        assert types(read(late, 50)) == [f"E{number}" for number in range(50)]

        happen(database, "NEW")
        assert types(read(late, 1)) == types(read(present, 1)) == ["NEW"]


def test_who_is_far_behind_is_told_so_once(database, serving, path, monkeypatch, caplog):
    monkeypatch.setattr(backlog, "BACKLOG", 2)
    with closing(feed(database, path, after=None)) as reader:
        reader.begin()
        happen(database, *(f"E{number}" for number in range(10)))
        read(reader, 10)

        with closing(raw(path, b'{"wanted": {}, "after": "0:0"}\n')) as late, late.makefile("rb") as file:
            assert file.readlines() == [b'{"behind": true}\n']

        happen(database, "LATER")
        assert types(read(reader, 1)) == ["LATER"]
    assert not caplog.records


def test_a_long_backlog_is_served_without_depth(database, serving, path, monkeypatch, caplog):
    count = 1000
    with closing(feed(database, path, after=None)) as reader:
        reader.begin()
        database.execute("INSERT INTO events (type) SELECT 'E' || n FROM generate_series(1, %s) AS n", (count,))
        read(reader, count)
        # Each line is a page of its own; some hundreds of them fit into the socket at once.
        monkeypatch.setattr(fan_out, "MOST_UNREAD", 1)
        deepest = sys.getrecursionlimit()
        sys.setrecursionlimit(300)
        try:
            with closing(raw(path, b'{"wanted": {}, "after": "0:0"}\n')) as late, late.makefile("rb") as file:
                assert json.loads(file.readline()) == {"position": "0:0"}
                told = [json.loads(file.readline())["event"]["type"] for _ in range(count)]
        finally:
            sys.setrecursionlimit(deepest)

    assert told == [f"E{number}" for number in range(1, count + 1)]
    assert not caplog.records


def test_who_is_ahead_of_the_fan_out_hears_nothing_twice(database, serving, path, monkeypatch):
    with closing(feed(database, path, after=None)) as present, closing(feed(database, path)) as ahead:
        present.begin()
        monkeypatch.setattr(fan_out, "LOOK_S", 60.0)
        present.read(1.5)  # the look that was due is over
        happen(database, "READ_IN_THE_TABLES")
        assert types(read(ahead, 1)) == ["READ_IN_THE_TABLES"]
        ahead.read(0.5)

        with database.engine.begin() as conn:
            append(conn, [Event("HEARD")])
            conn.exec_driver_sql("NOTIFY oar_almighty")

        assert types(read(present, 2)) == ["READ_IN_THE_TABLES", "HEARD"]
        assert types(read(ahead, 1)) == ["HEARD"]


def test_who_does_not_read_holds_nobody_up_and_misses_nothing(database, serving, path, monkeypatch):
    monkeypatch.setattr(fan_out, "MOST_UNREAD", 2000)
    count = 3000
    with closing(raw(path, introduction())) as sleeper, closing(feed(database, path, after=None)) as reader:
        assert "position" in line_of(sleeper)
        reader.begin()

        database.execute("INSERT INTO events (type) SELECT 'E' || n FROM generate_series(1, %s) AS n", (count,))

        assert len(read(reader, count)) == count
        unread = max(len(watcher.unread) for watcher in serving._watchers)
        assert 0 < unread < 10_000
        told = []
        with sleeper.makefile("rb") as file:
            while len(told) < count:
                document = json.loads(file.readline())
                if "event" in document:
                    told.append(document["event"]["type"])
        assert told == [f"E{number}" for number in range(1, count + 1)]


@pytest.mark.parametrize(
    "said",
    [
        b"\n",
        b"{}\n",
        b"[]\n",
        b"\xff\xfe\n",
        b'{"wanted": {"jobs": ["x"]}}\n',
        b'{"wanted": {"jobs": 3}}\n',
        b'{"wanted": {"user": 3}}\n',
        b'{"wanted": {}, "after": "1"}\n',
        b'{"wanted": {}, "after": "99999999999999999999:0"}\n',
        b"[" * 100_000 + b"\n",
        b"x" * (watchers.LONGEST_INTRODUCTION + 70_000),
    ],
    ids=lambda said: repr(said[:30]),
)
def test_who_says_nonsense_is_refused_and_harms_nobody(database, serving, path, said):
    with closing(feed(database, path, after=None)) as reader:
        reader.begin()
        # One that goes on talking may find itself cut off before it hears why.
        with closing(raw(path, said)) as sock, suppress(ConnectionResetError):
            assert "refused" in line_of(sock)

        happen(database, "STILL_THERE")
        assert types(read(reader, 1)) == ["STILL_THERE"]


def test_who_says_nothing_is_not_kept(database, serving, path, monkeypatch):
    monkeypatch.setattr(fan_out, "INTRODUCTION_S", 0.0)

    with closing(raw(path, b"")) as sock:
        assert sock.recv(1) == b""


def test_who_may_not_watch_is_refused(database, path):
    with served(database, path, may_watch=False), closing(raw(path, introduction())) as sock:
        assert line_of(sock) == {"refused": "this account may not use the instance"}


def test_one_user_cannot_take_all_places(database, serving, path, monkeypatch):
    monkeypatch.setattr(watchers, "MOST_OF_ONE_USER", 2)
    with closing(raw(path, introduction())) as one, closing(raw(path, introduction())) as two:
        assert "position" in line_of(one)
        assert "position" in line_of(two)

        with closing(raw(path, b"")) as three:
            assert line_of(three) == {"refused": "there are too many watchers"}


def test_one_user_cannot_name_jobs_without_end(database, serving, path, monkeypatch):
    monkeypatch.setattr(watchers, "MOST_NAMES_OF_ONE_USER", 5)
    with closing(raw(path, introduction(jobs=[1, 2], arrays=[3]))) as one:
        assert "position" in line_of(one)
        with closing(raw(path, introduction(jobs=[1, 2, 3]))) as two:
            assert line_of(two) == {"refused": "too many jobs are watched"}

    def place_again() -> bool:
        with closing(raw(path, introduction(jobs=[1, 2, 3, 4, 5]))) as three:
            return "position" in line_of(three)

    wait_until(place_again)


def test_one_user_cannot_talk_without_end(database, serving, path, monkeypatch):
    monkeypatch.setattr(watchers, "MOST_SAID_OF_ONE_USER", 1000)
    with closing(raw(path, b"x" * 900)), closing(raw(path, b"x" * 900)) as two:
        assert line_of(two) == {"refused": "that is too long"}


def test_the_socket_is_its_owners_alone(serving, path):
    assert path.stat().st_mode & 0o777 == 0o600


def test_a_hint_is_followed_at_once(database, serving, path, monkeypatch):
    monkeypatch.setattr(fan_out, "LOOK_S", 60.0)
    with closing(feed(database, path, after=None)) as reader:
        reader.begin()
        begun = time.monotonic()
        with database.engine.begin() as conn:
            append(conn, [Event("HINTED")])
            conn.exec_driver_sql("NOTIFY oar_almighty")

        assert types(read(reader, 1)) == ["HINTED"]
        assert time.monotonic() - begun < 40


def test_watchers_share_one_session_and_without_them_there_is_none(database, serving, path, monkeypatch):
    monkeypatch.setattr(fan_out, "IDLE_S", 0.0)
    here = "SELECT count(*) FROM pg_stat_activity WHERE datname = current_database() AND pid <> pg_backend_pid()"
    database.engine.dispose()
    readers = [feed(database, path, after=None) for _ in range(20)]
    for reader in readers:
        reader.begin()

    # A session that was closed may take a moment to go.
    wait_until(lambda: database.execute(here) == [(1,)], what="there is one session")
    for reader in readers:
        reader.close()
    wait_until(lambda: database.execute(here) == [(0,)], what="the session is given back")


def test_the_fan_out_outlives_its_session(database, serving, path):
    with closing(feed(database, path, after=None)) as reader:
        reader.begin()
        database.execute(
            "SELECT pg_terminate_backend(pid) FROM pg_stat_activity"
            " WHERE datname = current_database() AND pid <> pg_backend_pid()"
        )
        database.engine.dispose()
        happen(database, "AFTERWARDS")

        assert types(read(reader, 1)) == ["AFTERWARDS"]


def test_what_was_restored_from_another_cluster_lies_before_what_happens_now(database, path):
    happen(database, "OLD")
    database.execute("UPDATE events SET xid = '9000000000'")
    with database.engine.begin() as conn:
        restore(conn)
    happen(database, "NEW")

    with closing(feed(database, path)) as reader:
        assert types(read(reader, 2)) == ["OLD", "NEW"]
