"""Which revision the schema is at, and whether this oarpy can work on it.

Told from the names of the migrations (``0007_what_it_does.py`` makes revision 0007):
to read them as alembic does would take almighty longer than the rest of its start.
"""

from __future__ import annotations

import os
import re

from sqlalchemy import text
from sqlalchemy.engine import Connection

from oarpy.errors import ConfigurationError
from oarpy.instance import shared

#: How many of the newest revisions a server works on: a new oarpy may be started before its migration is run.
USABLE = 2

_IS_THERE = text("SELECT to_regclass('alembic_version') IS NOT NULL")
_REVISION = text("SELECT version_num FROM alembic_version")


def known() -> list[str]:
    """The revisions that this oarpy knows, oldest first."""
    names = os.listdir(shared("migrations", "versions"))
    return sorted(match[1] for name in names if (match := re.fullmatch(r"(\d{4})_\w+\.py", name)))


def check_usable(conn: Connection) -> None:
    """Raises ``ConfigurationError``, saying what to do, unless the server can work on this schema."""
    found = conn.execute(_REVISION).scalar() if conn.execute(_IS_THERE).scalar_one() else None
    revisions = known()
    if found is None:
        raise ConfigurationError("the database has no schema yet: oarpy db upgrade")
    if found not in revisions:
        raise ConfigurationError(f"the schema is at {found}, which a newer oarpy made; that one should be used")
    if found not in revisions[-USABLE:]:
        raise ConfigurationError(f"the schema is at {found}, too old for this oarpy: oarpy db upgrade")
