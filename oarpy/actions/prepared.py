"""A request that has been judged and waits to be written."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from typing import Any, Protocol

from sqlalchemy.engine import Connection

from oarpy.database.wake import Reader


class Answer(Protocol):
    """One of the answers of ``oarpy.model.payloads``."""

    def to_json(self) -> dict[str, Any]: ...


@dataclass(frozen=True, slots=True)
class Prepared:
    """``write`` does what was asked, in the caller's transaction, and answers.

    It may be called again after a rollback, and raises ``RequestRefused`` where
    the tables do not allow what was asked.  ``rows`` estimates how many jobs it
    touches; ``wakes`` are those who must look once it is committed.
    """

    write: Callable[[Connection], Answer]
    rows: int = 1
    wakes: tuple[Reader, ...] = ()
