"""``oarnodes``: show resources."""

from __future__ import annotations

import json
import time
from itertools import groupby
from typing import Any

import click

from oarpy.client import resource_view
from oarpy.client.connection import Connection
from oarpy.commands.listing import shown_date, shown_property, unfolded
from oarpy.commands.session import OarCommand, connect, run, with_version

UNSUPPORTED = {
    "-e": "the events of nodes",
    "--events": "the events of nodes",
    "-j": "the jobs of each node",
    "--jobs": "the jobs of each node",
}
#: Shown apart from the properties.
_APART = ("network_address", "resource_id", "state", "jobs")


@click.command("oarnodes", cls=OarCommand, unsupported=UNSUPPORTED)
@click.argument("hosts", metavar="[HOST]...", nargs=-1)
@click.option("-r", "--resource", "ids", type=int, multiple=True, metavar="ID", help="This resource.")
@click.option("--sql", metavar="CONDITION", help='Resources that satisfy it, such as "gpu > 0".')
@click.option("-s", "--state", is_flag=True, help="States alone, by host.")
@click.option("-l", "--list", "names", is_flag=True, help="Names of hosts alone.")
@click.option("-J", "--json", "as_json", is_flag=True, help="As JSON.")
@with_version
def oarnodes(
    hosts: tuple[str, ...], ids: tuple[int, ...], sql: str | None, state: bool, names: bool, as_json: bool
) -> None:
    """Show resources: all, or those of HOSTs.

    \b
    Examples:
        oarnodes
        oarnodes -s node1 node2
        oarnodes -J --sql "gpu > 0"
    """
    conn: Connection = connect()
    found = resource_view.resources(conn, ids=ids, hosts=unfolded(hosts), where=_filter(sql))
    if names:
        listed = list(dict.fromkeys(row["network_address"] for row in found if row["network_address"]))
        click.echo(json.dumps(listed) if as_json else "\n".join(listed), nl=bool(listed or as_json))
    elif state:
        _show_states(found, as_json)
    else:
        energy = resource_view.energy(conn)
        _show(found, energy, as_json=as_json)


def _show(found: list[dict[str, Any]], energy: dict[str, dict[str, Any]], *, as_json: bool) -> None:
    if as_json:
        documents = {str(row["resource_id"]): row | {"jobs": row["jobs"] or []} for row in found}
        for document in documents.values():
            if document["network_address"] in energy:
                document["energy_plan"] = energy[document["network_address"]]
        click.echo(json.dumps(documents, indent=2))
        return
    now_s = int(time.time())
    for row in found:
        click.echo(_block(row, now_s, energy.get(row["network_address"])))


def _filter(sql: str | None) -> Any:
    if sql is None:
        return None
    from oarpy.model.filter_grammar import parse_filter

    return parse_filter(sql)


def _show_states(found: list[dict[str, Any]], as_json: bool) -> None:
    def host_of(row: dict[str, Any]) -> str:
        return str(row["network_address"])

    by_host = {
        host: {str(row["resource_id"]): row["state"] for row in rows}
        for host, rows in groupby(sorted(found, key=host_of), host_of)
    }
    if as_json:
        click.echo(json.dumps(by_host, indent=2))
        return
    for host, states in by_host.items():
        click.echo("\n".join([f"{host}:", *(f"    {resource}: {state}" for resource, state in states.items())]))


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
