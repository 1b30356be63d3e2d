"""The server's log: one line a record on the standard error, for a file or systemd's journal.

``2026-11-20T14:24:37.123Z INFO runner[4711] job 42: started {event=STARTED job_id=42}``
"""

from __future__ import annotations

import logging
import sys
from datetime import UTC, datetime
from types import TracebackType
from typing import TypeAlias

ExceptionInfo: TypeAlias = tuple[type[BaseException], BaseException, TracebackType | None] | tuple[None, None, None]

# Whatever else a record carries was given with ``extra``.
_USUAL = frozenset(vars(logging.makeLogRecord({}))) | {"message", "asctime", "taskName"}


class Lines(logging.Formatter):
    """Formats a record as one line; a traceback follows it, indented."""

    def __init__(self, process: str) -> None:
        super().__init__(f"%(asctime)s %(levelname)s {process}[%(process)d] %(message)s")

    def formatTime(self, record: logging.LogRecord, datefmt: str | None = None) -> str:  # noqa: N802, the name is logging's
        moment = datetime.fromtimestamp(record.created, UTC)
        return moment.isoformat(timespec="milliseconds").replace("+00:00", "Z")

    def formatMessage(self, record: logging.LogRecord) -> str:  # noqa: N802, the name is logging's
        # What a user wrote must not look like lines of the server.
        line = super().formatMessage(record).replace("\n", "\\n").replace("\r", "\\r")
        given = [f"{name}={value}" for name, value in vars(record).items() if name not in _USUAL]
        return f"{line} {{{' '.join(given)}}}" if given else line

    def formatException(self, ei: ExceptionInfo) -> str:  # noqa: N802, the name is logging's
        return "\n".join(f"    {line}" for line in super().formatException(ei).splitlines())


def begin(process: str, level: str) -> None:
    """Log as ``process`` from here on, records of ``level`` and above."""
    handler = logging.StreamHandler(sys.stderr)
    root = logging.getLogger()
    root.handlers[:] = [handler]
    root.setLevel(level.upper())
    # They tell at INFO what they are made of.
    for chatty in ("sqlalchemy", "alembic"):
        logging.getLogger(chatty).setLevel(logging.WARNING)
    # A record that cannot be written (the disk is full) must not end the process, nor fill stderr itself.
    logging.raiseExceptions = False
    rename(process)


def rename(process: str) -> None:
    """Log under another name: this process is a copy of the one that began to log."""
    for handler in logging.getLogger().handlers:
        handler.setFormatter(Lines(process))
