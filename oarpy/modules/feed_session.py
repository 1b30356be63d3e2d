"""The one session in which the fan-out reads the feed, and hears that there may be more.

It listens to the hints that almighty and the runner are sent anyway.  From a hint on
until the look that it leads to, a flood of them is left where it is.
"""

from __future__ import annotations

import selectors
from logging import getLogger
from typing import Any, NamedTuple

import psycopg2
from psycopg2.extensions import ISOLATION_LEVEL_AUTOCOMMIT
from sqlalchemy import Engine
from sqlalchemy.exc import DBAPIError

from oarpy.database import feed
from oarpy.database.wake import Reader
from oarpy.model.feed import FeedEvent, Position

logger = getLogger(__name__)

PAGE = 2000
#: Changes of state that a new fan-out begins with, for those who hung on the one before.
CHANGES_AT_START = 2000
_CHANNELS = (Reader.ALMIGHTY.value, Reader.RUNNER.value)


class Page(NamedTuple):
    """What comes after ``begin``; if ``complete``, all that does now."""

    begin: Position
    events: list[FeedEvent]
    complete: bool


class FeedSession:
    """The feed from ``position`` on; ``selector`` wakes its owner for hints."""

    def __init__(self, engine: Engine, selector: selectors.BaseSelector) -> None:
        #: All before it has been read; None when nothing has.
        self.position: Position | None = None
        #: Whether there may be more than was read.
        self.hinted = False
        #: Since when an open transaction has kept the feed from going on, by the monotonic clock.
        self.held_since_s: float | None = None
        self._engine = engine
        self._selector = selector
        self._connection: Any = None
        #: Its descriptor, while hints on it are heeded; libpq may have closed it.
        self._heeded: int | None = None

    @property
    def is_open(self) -> bool:
        return self._connection is not None

    def hears_at(self, descriptor: int) -> bool:
        """Whether what can be read there is a hint."""
        return descriptor == self._heeded

    def read(self, now_s: float) -> Page | None:
        """The next page of the feed; None when the database does not answer."""
        self.hinted = False
        try:
            if self._connection is None:
                self._connect()
            with self._connection.cursor() as cursor:
                page = self._page(cursor, now_s)
            # What arrives together with an answer does not make the connection readable.
            self.hinted = bool(self._connection.notifies) or not page.complete
            self._connection.notifies.clear()
            self._heed()
        except (psycopg2.Error, DBAPIError) as error:
            logger.warning("fan-out: %s", str(getattr(error, "orig", error)).strip().split("\n")[0])
            self.close()
            return None
        return page

    def hear(self) -> None:
        """A hint has come."""
        self._ignore()
        self.hinted = True
        try:
            self._connection.poll()
            self._connection.notifies.clear()
        except psycopg2.Error as error:
            logger.warning("fan-out: connection lost (%s)", str(error).strip().split("\n")[0])
            self.close()

    def close(self) -> None:
        """Give the session back; the position stays valid."""
        self._ignore()
        if self._connection is not None:
            self._connection.close()
            self._connection = None

    def forget(self) -> None:
        """Give the session back, and begin anew with the next one."""
        self.close()
        self.position = None

    def _page(self, cursor: Any, now_s: float) -> Page:
        horizon = feed.horizon(cursor)
        here = Position(horizon.complete, 0)
        begin = self.position or feed.back(cursor, horizon.complete, CHANGES_AT_START)
        held = horizon.complete < horizon.next and begin >= here
        self.held_since_s = (self.held_since_s or now_s) if held else None
        events = feed.after(cursor, begin, horizon.complete, PAGE) if begin < here else []
        complete = len(events) < PAGE
        self.position = max(begin, here) if complete else events[-1].position
        return Page(begin, events, complete)

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
        if not self.hinted and self._heeded is None:
            self._heeded = self._connection.fileno()
            self._selector.register(self._heeded, selectors.EVENT_READ)

    def _ignore(self) -> None:
        if self._heeded is not None:
            self._selector.unregister(self._heeded)
            self._heeded = None
