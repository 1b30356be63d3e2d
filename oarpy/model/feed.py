"""The feed: every event and every change of a job's state, in one order that all readers share.

A reader's place is a ``Position``, the transaction and the number of the last line
that it had.  Numbers alone would not do: of two transactions the one that got the
higher number may have committed first.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any, NamedTuple

from oarpy.errors import SyntaxRefused
from oarpy.model.wording import excerpt

#: The type of a line that says in which state a job is from then on.
STATE = "STATE"
HIGHEST_NUMBER = 2**63 - 1
#: Jobs, arrays that one watcher may name; the rest is better watched as those of a user.
MOST_NAMED = 100_000


class Position(NamedTuple):
    """After the line with this number, of this transaction."""

    xid: int
    event_id: int

    def __str__(self) -> str:
        return f"{self.xid}:{self.event_id}"


class FeedEvent(NamedTuple):
    """One line of the feed: an event, or (``type`` is STATE) a job's new ``state``.

    ``exit_code`` is the raw wait status and ``end_cause`` says why the job is over;
    both only where ``state`` is final.  ``date`` is seconds since the epoch.
    """

    xid: int
    event_id: int
    type: str
    job_id: int | None
    date: float
    state: str | None
    hosts: list[str]
    description: str
    array_id: int | None
    array_index: int | None
    user: str | None
    name: str | None
    exit_code: int | None
    end_cause: str | None

    @property
    def position(self) -> Position:
        return Position(self.xid, self.event_id)

    def to_json(self) -> dict[str, Any]:
        """What programs read; ``event_id`` is what ``--after`` takes."""
        document = {key: value for key, value in self._asdict().items() if key != "xid"}
        document["hostnames"] = document.pop("hosts")
        return document


class Wanted(NamedTuple):
    """What a watcher wants to hear of: these jobs, these arrays, a user's jobs; without any of them, everything."""

    job_ids: frozenset[int] = frozenset()
    array_ids: frozenset[int] = frozenset()
    user: str | None = None

    def everything(self) -> bool:
        return not self.job_ids and not self.array_ids and self.user is None

    def covers(self, job_id: int | None, array_id: int | None, user: str | None) -> bool:
        """Whether a line about such a job is wanted."""
        return (
            self.everything()
            or (job_id is not None and job_id in self.job_ids)
            or (array_id is not None and array_id in self.array_ids)
            or (user is not None and user == self.user)
        )

    def to_json(self) -> dict[str, Any]:
        return {"jobs": sorted(self.job_ids), "arrays": sorted(self.array_ids), "user": self.user}

    @classmethod
    def from_json(cls, document: Mapping[str, Any]) -> Wanted:
        """Raises ``SyntaxRefused``."""
        user = document.get("user")
        if user is not None and not isinstance(user, str):
            raise SyntaxRefused("user is not a name")
        return cls(_ids(document.get("jobs", [])), _ids(document.get("arrays", [])), user)


def parse_position(text: object) -> Position:
    """Raises ``SyntaxRefused``."""
    xid, colon, number = str(text).partition(":")
    if not (colon and _is_number(xid) and _is_number(number)):
        raise SyntaxRefused(f"{excerpt(str(text))} is no position in the feed")
    return Position(int(xid), int(number))


def parse_event_id(text: str) -> int:
    """The number of an event, 0 for the beginning; raises ``SyntaxRefused``."""
    if not _is_number(text):
        raise SyntaxRefused(f"{excerpt(text)} is not the number of an event")
    return int(text)


def _is_number(text: str) -> bool:
    return text.isascii() and text.isdigit() and len(text) < 20 and int(text) <= HIGHEST_NUMBER


def _ids(listed: object) -> frozenset[int]:
    if not isinstance(listed, list) or len(listed) > MOST_NAMED:
        raise SyntaxRefused(f"not a list of at most {MOST_NAMED} ids")
    if not all(isinstance(each, int) and not isinstance(each, bool) for each in listed):
        raise SyntaxRefused("an id is a number")
    return frozenset(listed)
