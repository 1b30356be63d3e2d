"""``oarnodes``: show resources."""

from __future__ import annotations

import time
from collections.abc import Iterable, Mapping, Sequence
from itertools import groupby
from typing import Any

import click

from oarpy.client import resource_view
from oarpy.client.connection import Connection
from oarpy.commands import formats
from oarpy.commands.listing import printable, shown_date, shown_property, unfolded
from oarpy.commands.resource_documents import as_oar_has_it
from oarpy.commands.selecting import resource_numbers
from oarpy.commands.session import OarCommand, connect, run, tell, with_formats, with_lines, with_version
from oarpy.errors import SyntaxRefused
from oarpy.model.exit_statuses import ExitStatus
from oarpy.model.wording import did_you_mean, excerpt

#: Shown apart from the properties.
_APART = ("network_address", "resource_id", "state", "jobs")
_LEFT_OUT = " "
_VIEWS = ("state", "names", "jobs", "events", "summary")


@click.command("oarnodes", cls=OarCommand)
@click.argument("hosts", metavar="[HOST]...", nargs=-1)
@click.option("-r", "--resource", "ids", multiple=True, metavar="ID[,ID]", help="This resource.")
@click.option("--sql", metavar="CONDITION", help='Resources that satisfy it, such as "gpu > 0".')
@click.option("-s", "--state", is_flag=True, help="States alone, by host; with -r or --sql by resource.")
@click.option("-l", "--list", "names", is_flag=True, help="Names of hosts alone.")
@click.option("-j", "--jobs", is_flag=True, help="The jobs on each host.")
@click.option("-S", "--summary", is_flag=True, help="A line for each host: states, jobs, what is drained and free.")
@click.option(
    "-e",
    "--events",
    is_flag=False,
    flag_value=_LEFT_OUT,
    metavar="DATE",
    help="What happened to hosts since DATE; without it, the last 30 events.",
)
@click.option("--at", metavar="DATE", help="Resources as they were then.")
@with_formats
@with_lines
@with_version
def oarnodes(hosts: tuple[str, ...], ids: tuple[str, ...], sql: str | None, **options: Any) -> None:
    """Show resources: all, or those of HOSTs.

    \b
    Examples:
        oarnodes
        oarnodes -s node1 node2
        oarnodes -J --sql "gpu > 0"
        oarnodes -S
        oarnodes node1 -e
        oarnodes --at "2026-01-31 08:00" -s
    """
    view = _view(options)
    by_resource = bool(ids) or sql is not None
    if view == "events" and by_resource:
        raise _refused("-e is of hosts; it goes neither with -r nor with --sql")
    style, fields, at_s = options["style"], formats.chosen(options["fields"]), None
    if options["at"] is not None:
        from oarpy.commands.dates import past_s

        at_s = past_s(options["at"])
    numbers = resource_numbers(ids)
    conn: Connection = connect()
    names = unfolded(hosts)
    if view == "events":
        _show_events(conn, names, options["events"], at_s, style)
        return
    found = resource_view.resources(conn, ids=numbers, hosts=names, where=_filter(sql), at_s=at_s)
    if names and at_s is None:
        _tell_unknown(conn, names, {row["network_address"] for row in found})
    match view:
        case "names":
            listed = list(dict.fromkeys(row["network_address"] for row in found if row["network_address"]))
            _print(listed, style, listed, ({"network_address": host} for host in listed))
        case "state" if by_resource:
            states = {str(row["resource_id"]): row["state"] for row in found}
            _print(states, style, (f"{resource}: {state}" for resource, state in states.items()), _state_rows(found))
        case "state":
            by_host = {host: {str(row["resource_id"]): row["state"] for row in rows} for host, rows in _by_host(found)}
            _print(by_host, style, _states(by_host), _state_rows(found))
        case "jobs":
            from oarpy.commands.node_views import jobs_by_host, jobs_lines, jobs_rows

            load = jobs_by_host(conn, found, at_s)
            _print(load, style, jobs_lines(load), jobs_rows(load))
        case "summary":
            from oarpy.commands.node_views import summary, summary_lines

            lines = summary(_by_host(found))
            _print(lines, style, summary_lines(lines), ({"network_address": host} | of for host, of in lines.items()))
        case _:
            energy = resource_view.energy(conn) if at_s is None else {}
            _show(found, energy, style, fields, now_s=int(time.time()) if at_s is None else at_s)


def _tell_unknown(conn: Connection, hosts: Sequence[str], shown: set[str]) -> None:
    """Say which hosts do not exist, whether by mistake or not: nothing found is no error."""
    missing = [host for host in hosts if host not in shown]
    if missing:
        known = {row["network_address"] for row in resource_view.resources(conn)} - {None, ""}
        for host in (host for host in missing if host not in known):
            tell(f"there is no host {excerpt(host)}{did_you_mean(host, known) or '; oarnodes -l lists them'}")


def _view(options: Mapping[str, Any]) -> str | None:
    views = [view for view in _VIEWS if options[view] not in (None, False)]
    if len(views) > 1:
        raise _refused("of -s, -l, -j, -S and -e only one can be shown")
    if views and options["fields"] is not None:
        raise _refused("--fields is of whole resources; it goes with none of -s, -l, -j, -S and -e")
    return views[0] if views else None


def _refused(sentence: str) -> SyntaxRefused:
    return SyntaxRefused(sentence, exit_status=ExitStatus.REFUSED)


def _state_rows(found: Iterable[Mapping[str, Any]]) -> Iterable[dict[str, Any]]:
    for row in found:
        yield {name: row[name] for name in ("network_address", "resource_id", "state")}


def _print(document: Any, style: str | None, lines: Iterable[str], rows: Iterable[Mapping[str, Any]]) -> None:
    """Print a view as text, or as a document, of which ``rows`` are the lines of NDJSON."""
    if style:
        formats.write(document, style, rows=rows)
        return
    text = "\n".join(lines)
    if text:
        click.echo(text)


def _show(
    found: list[dict[str, Any]],
    energy: dict[str, dict[str, Any]],
    style: str | None,
    fields: tuple[str, ...],
    *,
    now_s: int,
) -> None:
    if style or fields:
        documents = {str(row["resource_id"]): as_oar_has_it(row) | {"jobs": row["jobs"] or []} for row in found}
        for document in documents.values():
            if document["network_address"] in energy:
                document["energy_plan"] = energy[document["network_address"]]
        if style:
            formats.write(formats.only(documents, fields) if fields else documents, style)
        elif documents:
            click.echo("\n".join(formats.table(documents, fields)))
        return
    if found:
        click.echo("\n".join(_block(row, now_s, energy.get(row["network_address"])) for row in found))


def _filter(sql: str | None) -> Any:
    if sql is None:
        return None
    from oarpy.model.filter_grammar import parse_filter

    return parse_filter(sql)


def _by_host(found: list[dict[str, Any]]) -> list[tuple[str, list[dict[str, Any]]]]:
    def host_of(row: dict[str, Any]) -> str:
        return str(row["network_address"])

    return [(host, list(rows)) for host, rows in groupby(sorted(found, key=host_of), host_of)]


def _states(by_host: Mapping[str, Mapping[str, str]]) -> Iterable[str]:
    for host, states in by_host.items():
        yield f"{host}:"
        yield from (f"    {resource}: {state}" for resource, state in states.items())


def _show_events(conn: Connection, hosts: list[str], since: str, at_s: int | None, style: str | None) -> None:
    from oarpy.commands.dates import instant_s

    try:
        since_s = None if since == _LEFT_OUT else instant_s(since)
    except SyntaxRefused as error:
        raise _refused(f"{error}; a host stands before -e") from error
    found = resource_view.events(conn, hosts, since_s=since_s, until_s=at_s)
    listed: dict[str, list[dict[str, Any]]] = {}
    for event in found:
        for host in event.hosts:
            if not hosts or host in hosts:
                listed.setdefault(host, []).append(
                    {
                        "event_id": event.event_id,
                        "type": event.type,
                        "job_id": event.job_id,
                        "date": event.date_s,
                        "description": event.description,
                    }
                )
    lines = (
        f"{shown_date(event['date'])}|{host}|{event['job_id']}| {event['type']}: {printable(event['description'])}"
        for host, events in sorted(listed.items())
        for event in events
    )
    _print(listed, style, lines, ({"network_address": host} | event for host, of in listed.items() for event in of))


def _block(row: dict[str, Any], now_s: int, energy: dict[str, Any] | None) -> str:
    standby = row["state"] == "Absent" and (row["available_upto"] or 0) >= now_s
    lines = [
        f"network_address: {row['network_address']}",
        f"resource_id: {row['resource_id']}",
        f"state: {row['state']}{' (standby)' if standby else ''}",
    ]
    if row["jobs"]:
        lines.append(f"jobs: {', '.join(map(str, row['jobs']))}")
    if energy is not None:
        lines.append(f"energy_plan: {_plan(energy)}")
    properties = (f"{name}={shown_property(value)}" for name, value in sorted(row.items()) if name not in _APART)
    lines.append(f"properties: {', '.join(properties)}")
    return "\n".join(lines) + "\n"


def _plan(said: dict[str, Any]) -> str:
    needed_s, sleep_s = said["needed_at"], said["sleep_from"]
    if said["wish"] == "wake":
        return f"must be awake at {shown_date(needed_s)}, for job {said['job_id']}"
    until = "" if needed_s is None else f", is needed at {shown_date(needed_s)}"
    return f"idle{until}" if sleep_s is None else f"idle, may sleep from {shown_date(sleep_s)} on{until}"


def main() -> None:
    run(oarnodes)
