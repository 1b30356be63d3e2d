"""The columns of resources, which differ from site to site: what each can hold, in conditions and to be set."""

from __future__ import annotations

from collections.abc import Mapping
from datetime import UTC, datetime

from oarpy.client.connection import Connection
from oarpy.errors import SyntaxRefused
from oarpy.model.columns import SMALL, Column, Kind, settable
from oarpy.model.exit_statuses import ExitStatus
from oarpy.model.states import ResourceState
from oarpy.model.wording import excerpt

_TYPES = {
    "text": Column("{}"),
    "int4": Column("{}", Kind.INTEGER, highest=SMALL),
    "int8": Column("{}", Kind.INTEGER),
    "float8": Column("{}", Kind.REAL),
    "bool": Column("{}", Kind.BOOLEAN),
    "timestamptz": Column("coalesce(extract(epoch FROM {}), 0)", Kind.DATE),
    "resource_state": Column("{}", Kind.WORD, tuple(state.value for state in ResourceState)),
}


def columns(conn: Connection) -> dict[str, Column]:
    """By name, in the table's order."""
    rows = conn.rows(
        """
        SELECT attname, typname FROM pg_attribute JOIN pg_type ON pg_type.oid = atttypid
        WHERE attrelid = 'oar.resources'::regclass AND attnum > 0 AND NOT attisdropped ORDER BY attnum
        """
    )
    return {
        name: column._replace(sql=column.sql.format(f'"{name}"'))
        for name, type_ in rows
        if (column := _TYPES.get(type_)) is not None
    }


def values(known: Mapping[str, Column], written: Mapping[str, str | None]) -> dict[str, str | None]:
    """What ``written`` gives to columns, as the database reads it; None is unknown, and so is the date 0.

    Raises:
        SyntaxRefused: a column can never have its value.
    """
    now = datetime.now().astimezone()
    return {name: None if text is None else _value(name, known[name], text, now) for name, text in written.items()}


def _value(name: str, column: Column, text: str, now: datetime) -> str | None:
    found = settable(name, column, text, now)
    if column.kind is not Kind.DATE:
        return found
    try:
        # As OAR has it: never.
        return datetime.fromtimestamp(float(found), UTC).isoformat() if float(found) else None
    except (ValueError, OverflowError, OSError):
        raise SyntaxRefused(f"{name} is a date, and never {excerpt(text)}", exit_status=ExitStatus.DENIED) from None
