"""``oarstat --accounting``: what users asked for and used, in windows that touch a period."""

from __future__ import annotations

from collections.abc import Iterator, Mapping

import click

from oarpy.client import periods
from oarpy.client.conditions import condition
from oarpy.client.connection import Connection
from oarpy.client.periods import Use
from oarpy.client.selection import Selection
from oarpy.commands import formats
from oarpy.commands.dates import period_s
from oarpy.commands.listing import shown_date
from oarpy.errors import SyntaxRefused
from oarpy.model.exit_statuses import ExitStatus

_UNITS = (("year", 31_536_000), ("day", 86_400), ("hour", 3600), ("minute", 60), ("second", 1))


def show_accounting(conn: Connection, period: str, selection: Selection, style: str | None) -> None:
    """Print a table of users, or what one of them used, by project."""
    if selection.names_jobs:
        raise SyntaxRefused(
            "--accounting is by user and period; it does not go with jobs", exit_status=ExitStatus.REFUSED
        )
    begin_s, end_s = period_s(period)
    user = str(conn.value("SELECT oar.me()")) if selection.mine else selection.user
    texts: list[str] = []
    where = "true" if selection.filter is None else condition(selection.filter, periods.ACCOUNTING_COLUMNS, texts)
    users = periods.used(conn, "accounting_user", begin_s, end_s, user, where, texts)
    if user is None:
        if style:
            _write({name: _document(use) for name, use in users.items()}, style)
        else:
            click.echo("\n".join(_table(users)))
        return
    projects = periods.used(conn, "accounting_project", begin_s, end_s, user, where, texts)
    karmas = periods.last_karmas(conn, user, end_s)
    if style:
        by_project = {name: {**_document(use), "last_karma": karmas.get(name)} for name, use in projects.items()}
        _write({user: {**_document(users.get(user, Use())), "projects": by_project}}, style)
        return
    click.echo("\n".join(_summary(user, period, users.get(user, Use()), projects, karmas)))


def _write(users: Mapping[str, Mapping[str, object]], style: str) -> None:
    formats.write(users, style, rows=({"user": name} | dict(used) for name, used in users.items()))


def _document(use: Use) -> dict[str, object]:
    return {"ASKED": use.asked, "USED": use.used, "begin": use.begin_s, "end": use.end_s}


def _table(users: dict[str, Use]) -> Iterator[str]:
    yield "User       First window starts  Last window ends     Asked (seconds)  Used (seconds)"
    yield "---------- -------------------- -------------------- ---------------- ----------------"
    for name, use in users.items():
        yield f"{name:<10.10} {_date(use.begin_s):<20} {_date(use.end_s):<20} {use.asked:>16} {use.used:>16}"


def _summary(
    user: str, period: str, all_of_it: Use, projects: dict[str, Use], karmas: dict[str, float]
) -> Iterator[str]:
    start, _, end = period.partition(",")
    yield f"Usage summary for user '{user}' from {start.strip()} to {end.strip()}:"
    yield "-" * 61
    yield f"{'Start of the first window:':<28} {_date(all_of_it.begin_s)}"
    yield f"{'End of the last window:':<28} {_date(all_of_it.end_s)}"
    yield f"{'Asked consumption:':<28} {all_of_it.asked} ( {_in_words(all_of_it.asked)})"
    yield f"{'Used consumption:':<28} {all_of_it.used} ( {_in_words(all_of_it.used)})"
    yield "By project consumption:"
    for project, use in projects.items():
        yield f"  {project}:"
        yield f"{'    Asked :':<28} {use.asked} ( {_in_words(use.asked)})"
        yield f"{'    Used :':<28} {use.used} ( {_in_words(use.used)})"
        if project in karmas:
            yield f"{'    Last Karma :':<28} {karmas[project]:.3f}"


def _date(epoch_s: int | None) -> str:
    return "No window found" if epoch_s is None else shown_date(epoch_s)


def _in_words(seconds: int) -> str:
    """``1 day 2 hours ``, as OAR says it, with a blank after each part."""
    parts = ""
    for name, length in _UNITS:
        count, seconds = divmod(seconds, length)
        if count:
            parts += f"{count} {name}{'s' if count > 1 else ''} "
    return parts or "0 seconds "
