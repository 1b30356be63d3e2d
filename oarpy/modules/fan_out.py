"""Appendice's fan-out: everybody who watches jobs hangs on one socket, and one session reads the feed for all.

It is a thread beside the one that answers requests.  While nobody watches it has no
session and does nothing.  Otherwise it looks once a second, and sooner when a hint
comes for almighty or the runner, which every change of interest sends anyway: so
watchers cost those who change the tables nothing.

The last lines are kept in a *backlog*.  A watcher that comes back names the position
up to which it has read, and is served from there.  One that reads slowly is not
written to until it has read; then it gets what it missed out of the backlog.  One
that wants more than the backlog has is told so, and reads the tables itself.

Who connects is what the kernel says (SO_PEERCRED).  What is told is what the view
shows to everybody who may use the database.

The protocol is one line of JSON each.  The watcher says ``{"wanted": {...}, "after":
"XID:ID" or null}``.  The answer is ``{"position": ...}``, or ``{"behind": true}`` or
``{"refused": SENTENCE}`` and the end; then come ``{"event": {...}}``, and at
least every few seconds ``{"position": ..., "held": BOOL}``, where ``held`` says that an
open transaction keeps the feed from going on.
"""

from __future__ import annotations

import json
import os
import resource
import selectors
import signal
import socket
import struct
import threading
import time
from bisect import bisect_right
from collections import Counter
from collections.abc import Callable, Iterator
from contextlib import suppress
from logging import getLogger
from typing import Any, NamedTuple

import psycopg2
from psycopg2.extensions import ISOLATION_LEVEL_AUTOCOMMIT
from sqlalchemy import Engine
from sqlalchemy.exc import DBAPIError

from oarpy.database import feed
from oarpy.database.wake import Reader
from oarpy.errors import SyntaxRefused
from oarpy.instance import short_path
from oarpy.model.feed import MOST_NAMED, FeedEvent, Position, Wanted, parse_position

logger = getLogger(__name__)

#: Without a hint; and how soon after a look a hint is heeded, which bounds what a flood of hints costs.
LOOK_S = 1.0
HINTED_LOOK_S = 0.05
#: How often a watcher hears that all is well, which also takes its position forward.
BEAT_S = 5.0
#: After so long without progress the feed is said to be held up.
HELD_S = 5.0
#: Without watchers, until the session is given back.
IDLE_S = 30.0
RETRY_S = 1.0
#: For what the watcher wants; it is one line, sent at once.
INTRODUCTION_S = 10.0
LONGEST_INTRODUCTION = 2**20
MOST_WATCHERS = 8192
MOST_OF_ONE_USER = 4096
#: For what else this process opens.
SPARE_DESCRIPTORS = 64
#: Jobs and arrays that all watchers of one user may name, and what they may have said without coming to an end.
MOST_NAMES_OF_ONE_USER = 2 * MOST_NAMED
MOST_SAID_OF_ONE_USER = 8 * LONGEST_INTRODUCTION
#: What may wait for one watcher to read it.
MOST_UNREAD = 2**15
PAGE = 2000
#: Lines kept at least; twice as many at most.
BACKLOG = 5000
#: Changes of state that a new fan-out begins with, for those who hung on the one before.
BACKLOG_AT_START = 2000
_CHANNELS = (Reader.ALMIGHTY.value, Reader.RUNNER.value)
_CREDENTIALS = struct.Struct("3i")


def listen(path: str, *, everybody: bool) -> socket.socket:
    """A listening socket at ``path``, in place of one that is there; for its owner alone unless ``everybody``."""
    sock = socket.socket(socket.AF_UNIX, socket.SOCK_STREAM | socket.SOCK_NONBLOCK)
    try:
        # The name appears when it can be connected to, with the right mode.
        with short_path(f"{path}.{os.getpid()}") as beginning:
            with suppress(FileNotFoundError):
                os.unlink(beginning)
            sock.bind(beginning)
            os.chmod(beginning, 0o666 if everybody else 0o600)
            sock.listen(1024)
            os.rename(beginning, path)
    except BaseException:
        sock.close()
        raise
    return sock


class _Line(NamedTuple):
    """What is sent, and whom it may concern."""

    job_id: int | None
    array_id: int | None
    user: str | None
    text: bytes


class Backlog:
    """The last lines of the feed, in its order."""

    def __init__(self) -> None:
        self.begin = Position(0, 0)
        self._positions: list[Position] = []
        self._lines: list[_Line] = []

    def start(self, begin: Position) -> None:
        """Forget all; what comes is after ``begin``."""
        self.begin = begin
        self._positions.clear()
        self._lines.clear()

    def add(self, position: Position, line: _Line) -> None:
        if len(self._lines) >= 2 * BACKLOG:
            self.begin = self._positions[BACKLOG - 1]
            del self._positions[:BACKLOG], self._lines[:BACKLOG]
        self._positions.append(position)
        self._lines.append(line)

    def after(self, position: Position) -> Iterator[tuple[Position, _Line]]:
        """The lines after ``position``, which must not be before ``begin``."""
        for index in range(bisect_right(self._positions, position), len(self._lines)):
            yield self._positions[index], self._lines[index]


class _Watcher:
    """``position``: what comes after it has not been put into ``unread`` yet.

    ``lags``: it is not written to as things happen, it is served from the backlog.
    """

    __slots__ = ("begun_s", "lags", "position", "said", "sock", "uid", "unread", "wanted", "writing")

    def __init__(self, sock: socket.socket, uid: int, now_s: float) -> None:
        self.sock = sock
        self.uid = uid
        self.begun_s = now_s
        self.said = b""
        self.wanted: Wanted | None = None
        self.position = Position(0, 0)
        self.unread = bytearray()
        self.lags = False
        self.writing = False


class FanOut:
    """Serves watchers that connect to ``listening``, from one session of ``engine``."""

    def __init__(self, engine: Engine, listening: socket.socket, may_watch: Callable[[int], bool]) -> None:
        self._engine = engine
        self._listening = listening
        self._may_watch = may_watch
        self._stop_r, self._stop_w = os.pipe2(os.O_CLOEXEC | os.O_NONBLOCK)
        self._selector = selectors.EpollSelector()
        self._selector.register(listening, selectors.EVENT_READ)
        self._selector.register(self._stop_r, selectors.EVENT_READ)
        self._watchers: dict[int, _Watcher] = {}
        self._of_user: Counter[int] = Counter()
        self._names_of_user: Counter[int] = Counter()
        self._said_of_user: Counter[int] = Counter()
        self._by_job: dict[int, set[_Watcher]] = {}
        self._by_array: dict[int, set[_Watcher]] = {}
        self._by_user: dict[str, set[_Watcher]] = {}
        self._of_everything: set[_Watcher] = set()
        #: Those that have said what they want before there was a backlog.
        self._early: list[tuple[_Watcher, Position | None]] = []
        self._backlog = Backlog()
        self._connection: Any = None
        #: Its descriptor, while hints on it are heeded; libpq may have closed it.
        self._heeded: int | None = None
        #: All before it is in the backlog, and has been told to those who do not lag.
        self._position: Position | None = None
        #: Whether the backlog has reached the present.
        self._started = False
        self._most = MOST_WATCHERS
        self._hinted = False
        self._held_since_s: float | None = None
        self._looked_s = self._beat_s = self._wanted_s = 0.0
        self._thread = threading.Thread(target=self._run, name="fan-out", daemon=True)

    def start(self) -> None:
        self._most = _allow_descriptors(MOST_WATCHERS + SPARE_DESCRIPTORS) - SPARE_DESCRIPTORS
        self._thread.start()

    def stop(self) -> None:
        """Close all connections; returns when that is done."""
        os.write(self._stop_w, b"x")
        self._thread.join()

    def _run(self) -> None:
        # The alarm that ends a request that takes too long must interrupt the thread that judges it.
        signal.pthread_sigmask(signal.SIG_BLOCK, signal.valid_signals())
        while True:
            try:
                if not self._turn():
                    break
            except Exception:  # one watcher, or one line, must not end all the others' watching
                logger.exception("fan-out: a turn failed")
                self._forget_everything()
        self._forget_everything()
        self._listening.close()
        self._selector.close()

    def _turn(self) -> bool:
        """Wait for something to do, and do it; False when it is over."""
        for key, mask in self._selector.select(self._rest()):
            if key.fd == self._stop_r:
                return False
            if key.fileobj is self._listening:
                self._accept()
            elif key.fd == self._heeded:
                self._hear()
            elif (watcher := self._watchers.get(key.fd)) is not None:
                if mask & selectors.EVENT_READ:
                    self._read(watcher)
                if mask & selectors.EVENT_WRITE and key.fd in self._watchers:
                    self._write(watcher)
        now_s = time.monotonic()
        if self._watchers:
            self._wanted_s = now_s
            if now_s >= self._due_s():
                self._look(now_s)
            if now_s >= self._beat_s + BEAT_S:
                self._beat(now_s)
        elif self._connection is not None and now_s >= self._wanted_s + IDLE_S:
            self._disconnect()
            # What happens until somebody comes is not read line by line then.
            self._position = None
            self._started = False
            self._backlog.start(Position(0, 0))
        return True

    def _due_s(self) -> float:
        return self._looked_s + (HINTED_LOOK_S if self._hinted else LOOK_S)

    def _rest(self) -> float | None:
        now_s = time.monotonic()
        if self._watchers:
            return max(0.0, min(self._due_s(), self._beat_s + BEAT_S) - now_s)
        return None if self._connection is None else max(0.0, self._wanted_s + IDLE_S - now_s)

    def _accept(self) -> None:
        while True:
            try:
                sock, _ = self._listening.accept()
            except BlockingIOError:
                return
            except OSError as error:
                logger.warning("fan-out: a watcher could not be accepted (%s)", error.strerror)
                # It stays at the door, which would be looked at again at once.
                time.sleep(HINTED_LOOK_S)
                return
            sock.setblocking(False)
            _, uid, _ = _CREDENTIALS.unpack(sock.getsockopt(socket.SOL_SOCKET, socket.SO_PEERCRED, _CREDENTIALS.size))
            watcher = _Watcher(sock, uid, time.monotonic())
            self._watchers[sock.fileno()] = watcher
            self._of_user[uid] += 1
            self._selector.register(sock, selectors.EVENT_READ)
            if not self._may_watch(uid):
                self._refuse(watcher, "this account may not use the instance")
            elif len(self._watchers) > self._most or self._of_user[uid] > min(MOST_OF_ONE_USER, self._most // 2):
                self._refuse(watcher, "there are too many watchers")

    def _read(self, watcher: _Watcher) -> None:
        try:
            data = watcher.sock.recv(65536)
        except BlockingIOError:
            return
        except OSError:
            data = b""
        if not data:
            self._forget(watcher)
            return
        if watcher.wanted is not None:
            return  # it has said all that there is to say
        watcher.said += data
        self._said_of_user[watcher.uid] += len(data)
        if b"\n" in data:
            self._introduce(watcher)
        elif len(watcher.said) > LONGEST_INTRODUCTION or self._said_of_user[watcher.uid] > MOST_SAID_OF_ONE_USER:
            self._refuse(watcher, "that is too long")

    def _introduce(self, watcher: _Watcher) -> None:
        line = watcher.said.partition(b"\n")[0]
        self._said_of_user[watcher.uid] -= len(watcher.said)
        watcher.said = b""
        try:
            document = json.loads(line)
            wanted = Wanted.from_json(document["wanted"])
            position = None if document.get("after") is None else parse_position(document["after"])
        except (ValueError, KeyError, TypeError, AttributeError, RecursionError, SyntaxRefused):
            self._refuse(watcher, "that is not how a watcher begins")
            return
        names = len(wanted.job_ids) + len(wanted.array_ids)
        if self._names_of_user[watcher.uid] + names > MOST_NAMES_OF_ONE_USER:
            self._refuse(watcher, "too many jobs are watched")
            return
        self._names_of_user[watcher.uid] += names
        watcher.wanted = wanted
        for index, ids in ((self._by_job, wanted.job_ids), (self._by_array, wanted.array_ids)):
            for name in ids:
                index.setdefault(name, set()).add(watcher)
        if wanted.user is not None:
            self._by_user.setdefault(wanted.user, set()).add(watcher)
        if wanted.everything():
            self._of_everything.add(watcher)
        watcher.lags = True
        if self._position is None or not self._started:
            self._early.append((watcher, position))
            self._hinted = True
        else:
            self._begin(watcher, position, self._position)

    def _begin(self, watcher: _Watcher, position: Position | None, here: Position) -> None:
        watcher.position = here if position is None else position
        if watcher.position < self._backlog.begin:
            self._say(watcher, {"behind": True}, last=True)
            return
        self._say(watcher, {"position": str(watcher.position)})

    def _catch_up(self, watcher: _Watcher) -> None:
        """Serve one that has read all it got out of the backlog, as much as it may leave unread."""
        wanted = watcher.wanted
        # One that reads as fast as it is written to gets page after page: a loop, for the backlog has many.
        while watcher.lags and not watcher.unread and wanted is not None and self._position is not None:
            if watcher.position < self._backlog.begin:
                self._say(watcher, {"behind": True}, last=True)
                return
            for position, line in self._backlog.after(watcher.position):
                if len(watcher.unread) >= MOST_UNREAD:
                    break
                watcher.position = position
                if wanted.covers(line.job_id, line.array_id, line.user):
                    watcher.unread += line.text
            else:
                watcher.position = max(watcher.position, self._position)
                watcher.lags = False
            if not self._send(watcher):
                return

    def _look(self, now_s: float) -> None:
        self._looked_s = now_s
        self._hinted = False
        for watcher in [each for each in self._watchers.values() if each.wanted is None]:
            if now_s > watcher.begun_s + INTRODUCTION_S:
                self._forget(watcher)
        try:
            if self._connection is None:
                self._connect()
            with self._connection.cursor() as cursor:
                more = self._advance(cursor, now_s)
            # What arrives together with an answer does not make the connection readable.
            if self._connection.notifies:
                self._connection.notifies.clear()
                more = True
            self._hinted = more
            self._heed()
        except (psycopg2.Error, DBAPIError) as error:
            logger.warning("fan-out: %s", str(getattr(error, "orig", error)).strip().split("\n")[0])
            self._disconnect()
            self._looked_s = now_s + RETRY_S - LOOK_S

    def _advance(self, cursor: Any, now_s: float) -> bool:
        """Tell what is new; whether there is more."""
        horizon = feed.horizon(cursor)
        if self._position is None:
            self._position = feed.back(cursor, horizon.complete, BACKLOG_AT_START)
            self._backlog.start(self._position)
        here = Position(horizon.complete, 0)
        held = horizon.complete < horizon.next and self._position >= here
        self._held_since_s = (self._held_since_s or now_s) if held else None
        if self._position >= here:
            self._admit()
            return False
        events = feed.after(cursor, self._position, horizon.complete, PAGE)
        self._tell(events)
        complete = len(events) < PAGE
        self._position = here if complete else events[-1].position
        if complete:
            self._admit()
        return not complete

    def _admit(self) -> None:
        """Begin with those that came before there was a backlog."""
        self._started = True
        early, self._early = self._early, []
        for watcher, position in early:
            if self._position is not None and watcher.sock.fileno() in self._watchers:
                self._begin(watcher, position, self._position)

    def _tell(self, events: list[FeedEvent]) -> None:
        touched: set[_Watcher] = set()
        for event in events:
            line = json.dumps({"event": event._asdict()}).encode() + b"\n"
            self._backlog.add(event.position, _Line(event.job_id, event.array_id, event.user, line))
            for watcher in self._those_for(event):
                if watcher.lags or event.position <= watcher.position:
                    continue
                if len(watcher.unread) >= MOST_UNREAD:
                    # It goes on from here once it has read.
                    watcher.lags = True
                    continue
                watcher.position = event.position
                watcher.unread += line
                touched.add(watcher)
        for watcher in touched:
            self._write(watcher)

    def _those_for(self, event: FeedEvent) -> set[_Watcher]:
        found = set(self._of_everything)
        if event.job_id is not None:
            found |= self._by_job.get(event.job_id, set())
        if event.array_id is not None:
            found |= self._by_array.get(event.array_id, set())
        if event.user is not None:
            found |= self._by_user.get(event.user, set())
        return found

    def _beat(self, now_s: float) -> None:
        self._beat_s = now_s
        if self._position is None:
            return
        held = self._held_since_s is not None and now_s > self._held_since_s + HELD_S
        line = json.dumps({"position": str(self._position), "held": held}).encode() + b"\n"
        for watcher in list(self._watchers.values()):
            # One that has something to read knows that all is well.
            if watcher.wanted is not None and not watcher.lags and not watcher.unread:
                watcher.position = max(watcher.position, self._position)
                watcher.unread += line
                self._write(watcher)

    def _say(self, watcher: _Watcher, document: dict[str, Any], *, last: bool = False) -> None:
        watcher.unread += json.dumps(document).encode() + b"\n"
        if last:
            self._send(watcher)
            self._forget(watcher)
        else:
            self._write(watcher)

    def _refuse(self, watcher: _Watcher, sentence: str) -> None:
        self._say(watcher, {"refused": sentence}, last=True)

    def _write(self, watcher: _Watcher) -> None:
        """Send what the watcher's socket takes; the rest, and what is in the backlog for it, when it takes more."""
        if self._send(watcher):
            self._catch_up(watcher)

    def _send(self, watcher: _Watcher) -> bool:
        """Send what the watcher's socket takes of what is unread; whether the watcher is still there."""
        if watcher.sock.fileno() not in self._watchers:
            return False
        try:
            while watcher.unread:
                del watcher.unread[: watcher.sock.send(watcher.unread)]
        except BlockingIOError:
            pass
        except OSError:
            self._forget(watcher)
            return False
        if bool(watcher.unread) != watcher.writing:
            watcher.writing = bool(watcher.unread)
            events = selectors.EVENT_READ | (selectors.EVENT_WRITE if watcher.writing else 0)
            self._selector.modify(watcher.sock, events)
        return True

    def _forget(self, watcher: _Watcher) -> None:
        descriptor = watcher.sock.fileno()
        if self._watchers.pop(descriptor, None) is None:
            return
        self._selector.unregister(watcher.sock)
        watcher.sock.close()
        wanted = watcher.wanted or Wanted()
        self._of_user[watcher.uid] -= 1
        self._said_of_user[watcher.uid] -= len(watcher.said)
        self._names_of_user[watcher.uid] -= len(wanted.job_ids) + len(wanted.array_ids)
        if not self._of_user[watcher.uid]:
            for counter in (self._of_user, self._said_of_user, self._names_of_user):
                del counter[watcher.uid]
        self._of_everything.discard(watcher)
        _remove(self._by_job, wanted.job_ids, watcher)
        _remove(self._by_array, wanted.array_ids, watcher)
        _remove(self._by_user, () if wanted.user is None else (wanted.user,), watcher)

    def _forget_everything(self) -> None:
        for watcher in list(self._watchers.values()):
            self._forget(watcher)
        self._early.clear()
        self._disconnect()

    def _connect(self) -> None:
        raw = self._engine.raw_connection()
        connection: Any = raw.driver_connection
        raw.detach()
        connection.set_isolation_level(ISOLATION_LEVEL_AUTOCOMMIT)
        with connection.cursor() as cursor:
            cursor.execute("; ".join(f'LISTEN "{channel}"' for channel in _CHANNELS))
        self._connection = connection

    def _heed(self) -> None:
        """Heed hints again, unless one is to be followed anyway."""
        if not self._hinted and self._heeded is None:
            self._heeded = self._connection.fileno()
            self._selector.register(self._heeded, selectors.EVENT_READ)

    def _ignore(self) -> None:
        if self._heeded is not None:
            self._selector.unregister(self._heeded)
            self._heeded = None

    def _hear(self) -> None:
        # Until the look that the hint leads to, a flood of them is left where it is.
        self._ignore()
        self._hinted = True
        try:
            self._connection.poll()
            self._connection.notifies.clear()
        except psycopg2.Error as error:
            logger.warning("fan-out: connection lost (%s)", str(error).strip().split("\n")[0])
            self._disconnect()

    def _disconnect(self) -> None:
        """Give the session back; the position and the backlog stay valid."""
        self._ignore()
        if self._connection is not None:
            self._connection.close()
            self._connection = None


def _remove(index: dict[Any, set[_Watcher]], names: Any, watcher: _Watcher) -> None:
    for name in names:
        there = index.get(name)
        if there is not None:
            there.discard(watcher)
            if not there:
                del index[name]


def _allow_descriptors(wanted: int) -> int:
    """How many this process may have open, ``wanted`` if the system allows it."""
    soft, hard = resource.getrlimit(resource.RLIMIT_NOFILE)
    most = wanted if hard == resource.RLIM_INFINITY else min(wanted, hard)
    if soft != resource.RLIM_INFINITY and soft < most:
        resource.setrlimit(resource.RLIMIT_NOFILE, (most, hard))
    return most
