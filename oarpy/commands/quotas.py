"""``oarpy quotas``: what users, projects, queues and job types may have at once."""

from __future__ import annotations

import json
import sys
from datetime import tzinfo
from pathlib import Path

import click

from oarpy.client import quotas as tables
from oarpy.client.connection import Connection
from oarpy.commands.session import OarGroup, connect, connect_as_admin, tell
from oarpy.errors import RequestRefused
from oarpy.instance import find_instance
from oarpy.model import quota_file
from oarpy.model.exit_statuses import ExitStatus
from oarpy.model.quota_file import PeriodRow, RuleRow
from oarpy.model.quotas import DEFAULT_SET
from oarpy.model.wording import excerpt


@click.group("quotas", cls=OarGroup)
def quotas() -> None:
    """Limit what users, projects, queues and job types may have at once.

    \b
    Example:
        oarpy quotas show
    """


@quotas.command("load")
@click.argument("file")
def load(file: str) -> None:
    """Replace all quotas by those of FILE, JSON as OAR 3 has it; - is the standard input.

    A file with mistakes changes nothing; each of them is told, and the status is 18.

    \b
    Example:
        oarpy quotas load quotas.json
    """
    read = quota_file.read_quotas(_text(file), _zone())
    for mistake in read.mistakes:
        click.echo(f"oarpy: {file}: {' '.join(mistake.split())}", err=True)
    if read.mistakes:
        raise RequestRefused(
            f"{file} has {len(read.mistakes)} mistake(s); no quota was changed", exit_status=ExitStatus.SYNTAX
        )
    connection: Connection = connect_as_admin()
    connection.transaction(lambda conn: tables.replace(conn, read.rules, read.periods))
    for name in tables.unknown_queues(connection, read.rules):
        tell(f"there is no queue {excerpt(name)}, which a rule names")
    for name in sorted({rule.ruleset for rule in read.rules} - {period.ruleset for period in read.periods}):
        if name != DEFAULT_SET:
            tell(f"no period names the set {excerpt(name)}, so its rules never hold")
    click.echo(f"{len(read.rules)} rule(s), {len(read.periods)} period(s)")


@quotas.command("show")
@click.option("-J", "--json", "as_json", is_flag=True, help="The JSON that load reads.")
def show(as_json: bool) -> None:
    """Show the rules, and when which of them hold.

    Of the periods the first that covers an instant counts; where none does, the set
    default holds.

    \b
    Example:
        oarpy quotas show --json
    """
    connection: Connection = connect()
    rules, periods = tables.listed(connection)
    zone = _zone()
    if as_json:
        click.echo(json.dumps(quota_file.written_quotas(rules, periods, zone), indent=2))
        return
    sets = {rule.ruleset for rule in rules}
    for rule in rules:
        click.echo(_line(rule))
    for period in periods:
        click.echo(_when(period, zone) + ("" if period.ruleset in sets else "  (has no rules: nothing is limited)"))


@quotas.command("clear")
def clear() -> None:
    """Remove all quotas.

    \b
    Example:
        oarpy quotas clear
    """
    connection: Connection = connect_as_admin()
    connection.transaction(lambda conn: tables.replace(conn, (), ()))


def _text(file: str) -> str:
    try:
        return sys.stdin.read() if file == "-" else Path(file).read_text(encoding="utf-8")
    except (OSError, ValueError) as error:
        reason = error.strerror if isinstance(error, OSError) else "it is not text in UTF-8"
        raise RequestRefused(f"{file} cannot be read: {reason}") from None


def _zone() -> tzinfo | None:
    """Whose local time dates are in; None is that of this machine."""
    from zoneinfo import ZoneInfo

    from oarpy import settings

    name = settings.load(find_instance().settings_file).quotas.timezone
    return ZoneInfo(name) if name is not None else None


def _line(rule: RuleRow) -> str:
    limits = (
        (rule.resources, "resources"),
        (rule.running_jobs, "running jobs"),
        (rule.resource_hours, "resource-hours"),
    )
    said = ", ".join(f"{limit} {what}" for limit, what in limits if limit is not None)
    return f"{rule.ruleset:12} {quota_file.shown_key(rule):30} {said or 'no limit'}"


def _when(period: PeriodRow, zone: tzinfo | None) -> str:
    if period.begins_at is not None and period.ends_at is not None:
        dates = (quota_file.shown_date(date, zone) for date in (period.begins_at, period.ends_at))
        when = " to ".join(dates)
    else:
        when = quota_file.shown_when(period)
    return f"{period.ruleset:12} {when:30} {period.comment}".rstrip()
