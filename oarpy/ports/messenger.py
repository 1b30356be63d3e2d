"""How users are told something: by mail, or by a program of theirs."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from enum import Enum
from typing import Protocol


@dataclass(frozen=True, slots=True)
class Message:
    """What is told to whom.

    ``number`` stays the same however often it is tried, so that who gets it twice
    can tell.  ``facts`` are pairs of a name and a value, for people to read.
    """

    number: int
    target: str
    login: str
    tag: str
    comment: str
    job_id: int | None
    job_name: str = ""
    facts: tuple[tuple[str, str], ...] = ()


class Fate(Enum):
    """What became of a message."""

    DELIVERED = "delivered"
    #: Another try may succeed.
    FAILED = "failed"
    #: No other try would.
    REFUSED = "refused"
    #: It was not begun; that says nothing about it.
    UNTRIED = "untried"


@dataclass(frozen=True, slots=True)
class Delivery:
    """The fate of one message; ``detail`` says it in words, with what the other side had to say."""

    number: int
    fate: Fate
    detail: str


class Messenger(Protocol):
    """One way of telling users something."""

    @property
    def limit_s(self) -> float:
        """After how many seconds at most ``deliver`` returns."""

    def deliver(self, messages: Sequence[Message]) -> list[Delivery]:
        """Try each message once; their fates, in the same order.  What goes wrong is a fate, never an exception."""
