"""Who watches what, and how much of the fan-out each user may have."""

from __future__ import annotations

import socket
from collections import Counter
from collections.abc import Collection, Hashable, Iterator
from typing import TypeVar

from oarpy.model.feed import MOST_NAMED, FeedEvent, Position, Wanted

#: For what the watcher wants; it is one line, sent at once.
LONGEST_INTRODUCTION = 2**20
MOST_WATCHERS = 8192
MOST_OF_ONE_USER = 4096
#: Jobs and arrays that all watchers of one user may name, and what they may have said without coming to an end.
MOST_NAMES_OF_ONE_USER = 2 * MOST_NAMED
MOST_SAID_OF_ONE_USER = 8 * LONGEST_INTRODUCTION
N = TypeVar("N", bound=Hashable)


class Watcher:
    """``position``: what comes after it has not been put into ``unread`` yet.

    ``lags``: it is not written to as things happen, it is served from the backlog.
    ``said`` is what it has told so far of what it wants, ``wanted`` that when it has told all.
    """

    __slots__ = ("begun_s", "descriptor", "lags", "position", "said", "sock", "uid", "unread", "wanted", "writing")

    def __init__(self, sock: socket.socket, uid: int, now_s: float) -> None:
        self.sock = sock
        self.descriptor = sock.fileno()
        self.uid = uid
        self.begun_s = now_s
        self.said = b""
        self.wanted: Wanted | None = None
        self.position = Position(0, 0)
        self.unread = bytearray()
        self.lags = False
        self.writing = False

    @property
    def hears_now(self) -> bool:
        """Whether it has read all and hears things as they happen."""
        return self.wanted is not None and not self.lags and not self.unread


class Watchers:
    """Those who are connected, ``most`` at the most."""

    def __init__(self) -> None:
        self.most = MOST_WATCHERS
        self._watchers: dict[int, Watcher] = {}
        self._of_user: Counter[int] = Counter()
        self._names_of_user: Counter[int] = Counter()
        self._said_of_user: Counter[int] = Counter()
        self._by_job: dict[int, set[Watcher]] = {}
        self._by_array: dict[int, set[Watcher]] = {}
        self._by_user: dict[str, set[Watcher]] = {}
        self._of_everything: set[Watcher] = set()

    def __len__(self) -> int:
        return len(self._watchers)

    def __iter__(self) -> Iterator[Watcher]:
        """Those who are there now; they may be removed meanwhile."""
        return iter(list(self._watchers.values()))

    def __contains__(self, watcher: Watcher) -> bool:
        return self._watchers.get(watcher.descriptor) is watcher

    def at(self, descriptor: int) -> Watcher | None:
        return self._watchers.get(descriptor)

    def add(self, watcher: Watcher) -> bool:
        """Whether there is a place for it; it is among them in any case."""
        self._watchers[watcher.descriptor] = watcher
        self._of_user[watcher.uid] += 1
        return len(self) <= self.most and self._of_user[watcher.uid] <= min(MOST_OF_ONE_USER, self.most // 2)

    def remove(self, watcher: Watcher) -> None:
        wanted = watcher.wanted or Wanted()
        del self._watchers[watcher.descriptor]
        self._of_user[watcher.uid] -= 1
        self._said_of_user[watcher.uid] -= len(watcher.said)
        self._names_of_user[watcher.uid] -= len(wanted.job_ids) + len(wanted.array_ids)
        if not self._of_user[watcher.uid]:
            for counter in (self._of_user, self._said_of_user, self._names_of_user):
                del counter[watcher.uid]
        self._of_everything.discard(watcher)
        _remove(self._by_job, wanted.job_ids, watcher)
        _remove(self._by_array, wanted.array_ids, watcher)
        _remove(self._by_user, _users(wanted), watcher)

    def listen_to(self, watcher: Watcher, data: bytes) -> bool:
        """Take in a part of what it says it wants; whether it may go on."""
        watcher.said += data
        self._said_of_user[watcher.uid] += len(data)
        return len(watcher.said) <= LONGEST_INTRODUCTION and self._said_of_user[watcher.uid] <= MOST_SAID_OF_ONE_USER

    def introduction(self, watcher: Watcher) -> bytes:
        """The line that it has said; it says no more."""
        line = watcher.said.partition(b"\n")[0]
        self._said_of_user[watcher.uid] -= len(watcher.said)
        watcher.said = b""
        return line

    def want(self, watcher: Watcher, wanted: Wanted) -> bool:
        """Note what it wants to hear of; False when that is more than its user may name."""
        names = len(wanted.job_ids) + len(wanted.array_ids)
        if self._names_of_user[watcher.uid] + names > MOST_NAMES_OF_ONE_USER:
            return False
        self._names_of_user[watcher.uid] += names
        watcher.wanted = wanted
        _add(self._by_job, wanted.job_ids, watcher)
        _add(self._by_array, wanted.array_ids, watcher)
        _add(self._by_user, _users(wanted), watcher)
        if wanted.everything():
            self._of_everything.add(watcher)
        return True

    def those_for(self, event: FeedEvent) -> set[Watcher]:
        """Those who want to hear of it."""
        found = set(self._of_everything)
        if event.job_id is not None:
            found |= self._by_job.get(event.job_id, set())
        if event.array_id is not None:
            found |= self._by_array.get(event.array_id, set())
        if event.user is not None:
            found |= self._by_user.get(event.user, set())
        return found


def _users(wanted: Wanted) -> Collection[str]:
    return () if wanted.user is None else (wanted.user,)


def _add(index: dict[N, set[Watcher]], names: Collection[N], watcher: Watcher) -> None:
    for name in names:
        index.setdefault(name, set()).add(watcher)


def _remove(index: dict[N, set[Watcher]], names: Collection[N], watcher: Watcher) -> None:
    for name in names:
        there = index.get(name)
        if there is not None:
            there.discard(watcher)
            if not there:
                del index[name]
