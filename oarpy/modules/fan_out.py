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
from collections.abc import Callable
from contextlib import suppress
from logging import getLogger
from typing import Any

from sqlalchemy import Engine

from oarpy.errors import SyntaxRefused
from oarpy.instance import short_path
from oarpy.model.feed import FeedEvent, Position, Wanted, parse_position
from oarpy.modules.backlog import Backlog, Line
from oarpy.modules.feed_session import FeedSession
from oarpy.modules.watchers import MOST_WATCHERS, Watcher, Watchers

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
#: For a watcher to say what it wants.
INTRODUCTION_S = 10.0
#: For what else this process opens.
SPARE_DESCRIPTORS = 64
#: What may wait for one watcher to read it.
MOST_UNREAD = 2**15
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


class FanOut:
    """Serves watchers that connect to ``listening``, from one session of ``engine``."""

    def __init__(self, engine: Engine, listening: socket.socket, may_watch: Callable[[int], bool]) -> None:
        self._listening = listening
        self._may_watch = may_watch
        self._stop_r, self._stop_w = os.pipe2(os.O_CLOEXEC | os.O_NONBLOCK)
        self._selector = selectors.EpollSelector()
        self._selector.register(listening, selectors.EVENT_READ)
        self._selector.register(self._stop_r, selectors.EVENT_READ)
        self._watchers = Watchers()
        #: Those that have said what they want before there was a backlog.
        self._early: list[tuple[Watcher, Position | None]] = []
        #: What was read of the feed has been told to those who do not lag.
        self._feed = FeedSession(engine, self._selector)
        self._backlog = Backlog()
        #: Whether the backlog has reached the present.
        self._started = False
        self._looked_s = self._beat_s = self._wanted_s = 0.0
        self._thread = threading.Thread(target=self._run, name="fan-out", daemon=True)

    def start(self) -> None:
        self._watchers.most = _allow_descriptors(MOST_WATCHERS + SPARE_DESCRIPTORS) - SPARE_DESCRIPTORS
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
                self._close_all()
        self._close_all()
        self._listening.close()
        self._selector.close()

    def _turn(self) -> bool:
        """Wait for something to do, and do it; False when it is over."""
        for key, mask in self._selector.select(self._rest()):
            if key.fd == self._stop_r:
                return False
            if key.fileobj is self._listening:
                self._accept()
            elif self._feed.hears_at(key.fd):
                self._feed.hear()
            elif (watcher := self._watchers.at(key.fd)) is not None:
                if mask & selectors.EVENT_READ:
                    self._read(watcher)
                if mask & selectors.EVENT_WRITE and watcher in self._watchers:
                    self._write(watcher)
        now_s = time.monotonic()
        if self._watchers:
            self._wanted_s = now_s
            if now_s >= self._due_s():
                self._look(now_s)
            if now_s >= self._beat_s + BEAT_S:
                self._beat(now_s)
        elif self._feed.is_open and now_s >= self._wanted_s + IDLE_S:
            # What happens until somebody comes is not read line by line then.
            self._forget_feed()
        return True

    def _due_s(self) -> float:
        return self._looked_s + (HINTED_LOOK_S if self._feed.hinted else LOOK_S)

    def _rest(self) -> float | None:
        now_s = time.monotonic()
        if self._watchers:
            return max(0.0, min(self._due_s(), self._beat_s + BEAT_S) - now_s)
        return max(0.0, self._wanted_s + IDLE_S - now_s) if self._feed.is_open else None

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
            watcher = Watcher(sock, uid, time.monotonic())
            there_is_room = self._watchers.add(watcher)
            self._selector.register(sock, selectors.EVENT_READ)
            if not self._may_watch(uid):
                self._refuse(watcher, "this account may not use the instance")
            elif not there_is_room:
                self._refuse(watcher, "there are too many watchers")

    def _read(self, watcher: Watcher) -> None:
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
        may_go_on = self._watchers.listen_to(watcher, data)
        if b"\n" in data:
            self._introduce(watcher)
        elif not may_go_on:
            self._refuse(watcher, "that is too long")

    def _introduce(self, watcher: Watcher) -> None:
        try:
            document = json.loads(self._watchers.introduction(watcher))
            wanted = Wanted.from_json(document["wanted"])
            position = None if document.get("after") is None else parse_position(document["after"])
        except (ValueError, KeyError, TypeError, AttributeError, RecursionError, SyntaxRefused):
            self._refuse(watcher, "that is not how a watcher begins")
            return
        if not self._watchers.want(watcher, wanted):
            self._refuse(watcher, "too many jobs are watched")
            return
        watcher.lags = True
        if self._feed.position is None or not self._started:
            self._early.append((watcher, position))
            self._feed.hinted = True
        else:
            self._begin(watcher, position, self._feed.position)

    def _begin(self, watcher: Watcher, position: Position | None, here: Position) -> None:
        watcher.position = here if position is None else position
        if watcher.position < self._backlog.begin:
            self._say(watcher, {"behind": True}, last=True)
            return
        self._say(watcher, {"position": str(watcher.position)})

    def _catch_up(self, watcher: Watcher) -> None:
        """Serve one that has read all it got out of the backlog, as much as it may leave unread."""
        wanted = watcher.wanted
        # One that reads as fast as it is written to gets page after page: a loop, for the backlog has many.
        while watcher.lags and not watcher.unread and wanted is not None and self._feed.position is not None:
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
                watcher.position = max(watcher.position, self._feed.position)
                watcher.lags = False
            if not self._send(watcher):
                return

    def _look(self, now_s: float) -> None:
        self._looked_s = now_s
        for watcher in self._watchers:
            if watcher.wanted is None and now_s > watcher.begun_s + INTRODUCTION_S:
                self._forget(watcher)
        begins = self._feed.position is None
        page = self._feed.read(now_s)
        if page is None:
            self._looked_s = now_s + RETRY_S - LOOK_S
            return
        if begins:
            self._backlog.start(page.begin)
        self._tell(page.events)
        if page.complete:
            self._admit()

    def _admit(self) -> None:
        """Begin with those that came before there was a backlog."""
        self._started = True
        early, self._early = self._early, []
        for watcher, position in early:
            if self._feed.position is not None and watcher in self._watchers:
                self._begin(watcher, position, self._feed.position)

    def _tell(self, events: list[FeedEvent]) -> None:
        touched: set[Watcher] = set()
        for event in events:
            line = json.dumps({"event": event._asdict()}).encode() + b"\n"
            self._backlog.add(event.position, Line(event.job_id, event.array_id, event.user, line))
            for watcher in self._watchers.those_for(event):
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

    def _beat(self, now_s: float) -> None:
        self._beat_s = now_s
        here, held_since_s = self._feed.position, self._feed.held_since_s
        if here is None:
            return
        held = held_since_s is not None and now_s > held_since_s + HELD_S
        line = json.dumps({"position": str(here), "held": held}).encode() + b"\n"
        for watcher in self._watchers:
            # One that has something to read knows that all is well.
            if watcher.hears_now:
                watcher.position = max(watcher.position, here)
                watcher.unread += line
                self._write(watcher)

    def _say(self, watcher: Watcher, document: dict[str, Any], *, last: bool = False) -> None:
        watcher.unread += json.dumps(document).encode() + b"\n"
        if last:
            self._send(watcher)
            self._forget(watcher)
        else:
            self._write(watcher)

    def _refuse(self, watcher: Watcher, sentence: str) -> None:
        self._say(watcher, {"refused": sentence}, last=True)

    def _write(self, watcher: Watcher) -> None:
        """Send what the watcher's socket takes; the rest, and what is in the backlog for it, when it takes more."""
        if self._send(watcher):
            self._catch_up(watcher)

    def _send(self, watcher: Watcher) -> bool:
        """Send what the watcher's socket takes of what is unread; whether the watcher is still there."""
        if watcher not in self._watchers:
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

    def _forget(self, watcher: Watcher) -> None:
        if watcher in self._watchers:
            self._watchers.remove(watcher)
            self._selector.unregister(watcher.sock)
            watcher.sock.close()

    def _forget_feed(self) -> None:
        self._feed.forget()
        self._started = False
        self._backlog.start(Position(0, 0))

    def _close_all(self) -> None:
        for watcher in self._watchers:
            self._forget(watcher)
        self._early.clear()
        self._forget_feed()


def _allow_descriptors(wanted: int) -> int:
    """How many this process may have open, ``wanted`` if the system allows it."""
    soft, hard = resource.getrlimit(resource.RLIMIT_NOFILE)
    most = wanted if hard == resource.RLIM_INFINITY else min(wanted, hard)
    if soft != resource.RLIM_INFINITY and soft < most:
        resource.setrlimit(resource.RLIMIT_NOFILE, (most, hard))
    return most
