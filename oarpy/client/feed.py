"""Waits for what happens to jobs, without asking again and again.

A reader hangs on appendice's socket, which costs it no session with the database.
Where that is not reachable, on another host or while appendice is away for long, it
looks into the tables once a second.  It knows the position up to which it has read,
so nothing is lost or told twice, whichever way it comes and however often it breaks.
"""

from __future__ import annotations

import json
import math
import select
import socket
import time
from collections.abc import Callable, Iterator
from typing import Any

from oarpy.client.connection import Connection, ConnectionLost
from oarpy.errors import RequestRefused, ServerUnavailable
from oarpy.instance import short_path
from oarpy.model.feed import FeedEvent, Position, Wanted, parse_position

LOOK_S = 1.0
#: Between tries to reach the socket; and after so many without success the tables are looked at meanwhile.
RETRY_S = 1.0
RETRIES = 3
#: A fan-out that is silent for so long is not there, whatever the socket says.
SILENCE_S = 20.0
#: How long a database that is away is waited for.
ABSENCE_S = 300.0
PAGE = 5000
_FULL = 2**20

_HORIZON = "SELECT complete, next FROM oar.feed_horizon"
_AFTER = "SELECT * FROM oar.feed_after(%s, %s, %s){condition} LIMIT %s"
PLACE = "SELECT xid::text::bigint, event_id FROM oar.visible_feed WHERE event_id = %s"


class Feed:
    """What happens, after a position, to what is ``wanted``.

    ``after`` is a position, or None for what is yet to come.  ``connect`` opens sessions,
    for as long as they are needed.  ``path`` is the socket.  ``output`` is where what happens
    is shown: once nobody reads there any more, waiting ends with ``BrokenPipeError``.
    """

    def __init__(
        self,
        connect: Callable[[], Connection],
        path: str,
        wanted: Wanted,
        after: Position | None = None,
        *,
        output: int | None = None,
    ) -> None:
        self.position = after
        #: The feed does not go on: somebody's transaction has been open for long.
        self.held = False
        self._connect = connect
        self._path = path
        self._wanted = wanted
        self._output = output
        self._sock: socket.socket | None = None
        self._conn: Connection | None = None
        self._unread = b""
        self._early: list[FeedEvent] = []
        self._failures = 0
        self._retry_s = self._heard_s = self._look_s = 0.0
        self._absent_s: float | None = None
        #: What is known to be missing on the socket is read from the tables first.
        self._behind = after is not None

    def begin(self) -> Position:
        """From here on nothing is missed; the position."""
        while self.position is None:
            self._early += self._next(time.monotonic() + LOOK_S)
        return self.position

    def read(self, timeout_s: float) -> list[FeedEvent]:
        """What has happened; empty when nothing does for ``timeout_s``, or when that cannot be known now.

        Raises:
            ServerUnavailable: the database does not come back.
        """
        deadline = time.monotonic() + timeout_s
        while True:
            found, self._early = self._early, []
            found = found or self._next(deadline)
            if found or time.monotonic() >= deadline:
                return found

    def rest(self) -> Iterator[FeedEvent]:
        """All that has happened until now, and no more; read out of the tables."""
        while self._behind:
            yield from self._look()

    def close(self) -> None:
        self._hang_up()
        self._leave()

    def _next(self, deadline: float) -> list[FeedEvent]:
        """What comes of one step: a receipt, a look, a try to reach the socket, or a pause."""
        now_s = time.monotonic()
        if not self._behind and self._sock is None and now_s >= self._retry_s:
            self._reach()
        if self._sock is not None:
            return self._receive(deadline)
        looks = self._failures >= RETRIES
        if self._behind or (looks and now_s >= self._look_s):
            return self._look()
        until = min(self._retry_s, self._look_s) if looks else self._retry_s
        self._comes(None, min(deadline, until) - now_s)
        return []

    def _comes(self, sock: socket.socket | None, wait_s: float) -> bool:
        """Whether there is something to receive, after ``wait_s`` at most."""
        poller = select.poll()
        if sock is not None:
            poller.register(sock, select.POLLIN)
        if self._output is not None:
            # What is always told, without being asked for: that its other end is closed.
            poller.register(self._output, 0)
        ready = dict(poller.poll(math.ceil(max(0.0, wait_s) * 1000)))
        gone = 0 if self._output is None else ready.pop(self._output, 0)
        if gone & select.POLLNVAL:
            self._output = None
        elif gone:
            raise BrokenPipeError
        return bool(ready)

    def _reach(self) -> None:
        self._retry_s = time.monotonic() + RETRY_S
        try:
            self._sock = _connected(self._path)
            position = None if self.position is None else str(self.position)
            self._sock.sendall(json.dumps({"wanted": self._wanted.to_json(), "after": position}).encode() + b"\n")
        except (FileNotFoundError, PermissionError):
            # Nobody serves watchers on this host.
            self._hang_up()
            self._failures = RETRIES
            return
        except OSError:
            self._lost()
            return
        self._sock.setblocking(False)
        self._unread = b""
        self._heard_s = time.monotonic()

    def _receive(self, deadline: float) -> list[FeedEvent]:
        sock = self._sock
        if sock is None:
            return []
        patience_s = self._heard_s + SILENCE_S
        wait_s = max(0.0, min(deadline, patience_s) - time.monotonic())
        if not self._comes(sock, wait_s):
            if time.monotonic() >= patience_s:
                self._lost()
            return []
        try:
            data = sock.recv(_FULL)
        except BlockingIOError:
            return []
        except OSError:
            data = b""
        if not data:
            self._lost()
            return []
        self._heard_s = time.monotonic()
        *lines, self._unread = (self._unread + data).split(b"\n")
        return [event for line in lines if (event := self._heard(json.loads(line))) is not None]

    def _heard(self, document: dict[str, Any]) -> FeedEvent | None:
        if "event" in document:
            event = FeedEvent(**document["event"])
            self.position = event.position
            return event
        if "position" in document:
            self._failures = 0
            self._leave()
            position = parse_position(document["position"])
            self.position = position if self.position is None else max(self.position, position)
            self.held = bool(document.get("held"))
        elif "behind" in document:
            self._hang_up()
            self._behind = True
        else:
            self._failures = RETRIES
            self._hang_up()
            self._retry_s = time.monotonic() + SILENCE_S
        return None

    def _look(self) -> list[FeedEvent]:
        """A page of the feed out of the tables."""
        self._look_s = time.monotonic() + LOOK_S
        try:
            if self._conn is None:
                self._conn = self._connect()
            complete, following = self._conn.rows(_HORIZON)[0]
            here = Position(complete, 0)
            found = [] if self.position is None else read_page(self._conn, self._wanted, self.position, complete)
        except (ServerUnavailable, ConnectionLost):
            self._leave()
            self._absent_s = self._absent_s or time.monotonic()
            if time.monotonic() > self._absent_s + ABSENCE_S:
                raise
            self._comes(None, LOOK_S)
            return []
        self._absent_s = None
        self.held = complete < following
        if len(found) == PAGE:
            self.position = found[-1].position
            self._look_s = 0.0
            return found
        self.position = here if self.position is None else max(self.position, here)
        if self._behind:
            self._behind = False
            self._retry_s = 0.0
            self._leave()
        return found

    def _lost(self) -> None:
        self._hang_up()
        self._failures += 1

    def _hang_up(self) -> None:
        if self._sock is not None:
            self._sock.close()
            self._sock = None

    def _leave(self) -> None:
        if self._conn is not None:
            self._conn.close()
            self._conn = None


def read_page(conn: Connection, wanted: Wanted, after: Position, complete: int) -> list[FeedEvent]:
    """The first lines after a position, of transactions before ``complete``, at most ``PAGE``."""
    parts: list[str] = []
    parameters: list[object] = [*after, complete]
    for column, ids in (("job_id", wanted.job_ids), ("array_id", wanted.array_ids)):
        if ids:
            parts.append(f"{column} = ANY(%s::bigint[])")
            parameters.append(sorted(ids))
    if wanted.user is not None:
        parts.append("job_user = %s")
        parameters.append(wanted.user)
    condition = f" WHERE ({' OR '.join(parts)})" if parts else ""
    return [FeedEvent(*row) for row in conn.rows(_AFTER.format(condition=condition), [*parameters, PAGE])]


def place_of(conn: Connection, event_id: int) -> Position:
    """Where in the feed an event is; raises ``RequestRefused`` when it is not there (any more)."""
    if event_id == 0:
        return Position(0, 0)
    rows = conn.rows(PLACE, (event_id,))
    if not rows:
        raise RequestRefused(f"there is no event {event_id} (any more); --after 0 begins with the oldest that is kept")
    return Position(*rows[0])


def _connected(path: str) -> socket.socket:
    sock = socket.socket(socket.AF_UNIX, socket.SOCK_STREAM)
    try:
        sock.settimeout(RETRY_S)
        with short_path(path) as address:
            sock.connect(address)
    except BaseException:
        sock.close()
        raise
    return sock
