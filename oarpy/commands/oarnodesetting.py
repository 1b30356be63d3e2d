"""``oarnodesetting``: add resources and change them."""

from __future__ import annotations

from collections.abc import Mapping, Sequence

import click

from oarpy.client import administration
from oarpy.client.connection import Connection
from oarpy.commands.listing import unfolded
from oarpy.commands.session import OarCommand, connect_as_admin, run, tell, with_version
from oarpy.errors import RequestRefused, SyntaxRefused
from oarpy.model import numbering
from oarpy.model.exit_statuses import ExitStatus
from oarpy.model.identifiers import property_name
from oarpy.model.states import ResourceState
from oarpy.model.wording import excerpt

UNSUPPORTED = {
    "-f": "hosts from a file",
    "--file": "hosts from a file",
    "--sql": "choosing resources by a condition",
    "-m": "maintenance",
    "--maintenance": "maintenance",
    "--last-property-value": "the highest value of a property",
}


@click.command(
    "oarnodesetting", cls=OarCommand, unsupported=UNSUPPORTED, context_settings={"help_option_names": ["--help"]}
)
@click.option("-a", "--add", is_flag=True, help="Add a resource, on the host of -h, with the values of -p.")
@click.option("-h", "--hostname", "hosts", multiple=True, metavar="HOST", help="Host, or a set of them: c[1-16].")
@click.option("-r", "--resource", "ids", multiple=True, metavar="ID[,ID]", help="Resource by its id.")
@click.option(
    "-s", "--state", type=click.Choice([state.value for state in ResourceState]), help="The state they are in now."
)
@click.option("-p", "--property", "properties", multiple=True, metavar="NAME=VALUE", help="NAME! makes it unknown.")
@click.option("-d", "--drain", type=click.Choice(["on", "off"]), help="Whether they take no new jobs.")
@click.option("-n", "--no-wait", is_flag=True, help="For scripts of OAR: this command never waits.")
@click.option("--jobs-are-gone", is_flag=True, help="With -s Dead: I know that no job's process is left there.")
@with_version
def oarnodesetting(
    add: bool,
    hosts: tuple[str, ...],
    ids: tuple[str, ...],
    state: str | None,
    properties: tuple[str, ...],
    drain: str | None,
    no_wait: bool,
    jobs_are_gone: bool,
) -> None:
    """Add resources, or change those of a host or with an id.

    \b
    Examples:
        oarnodesetting -a -h node1 -p cpu=0 -p core=3
        oarnodesetting -h node[1-4] -s Absent
        oarnodesetting -r 17 -d on

    Only root and the owner of the instance may.
    """
    values = dict(map(_property, properties))
    if jobs_are_gone and state != ResourceState.DEAD.value:
        raise SyntaxRefused("--jobs-are-gone goes with -s Dead", exit_status=ExitStatus.REFUSED)
    if add:
        names: list[str | None] = [*unfolded(hosts)] or [None]
        if ids or drain or jobs_are_gone:
            raise SyntaxRefused("-a goes with -h, -p and -s alone", exit_status=ExitStatus.REFUSED)
        connection: Connection = connect_as_admin()
        added = connection.transaction(lambda conn: [administration.add_resource(conn, each, values) for each in names])
        if state is not None and state != ResourceState.ALIVE.value:
            connection.transaction(lambda conn: administration.set_state(conn, added, ResourceState(state)))
        click.echo("\n".join(f"New resource: {resource_id}" for resource_id in added))
        _warn(connection, values)
        return
    if not hosts and not ids:
        raise SyntaxRefused("neither -h nor -r names a resource", exit_status=ExitStatus.REFUSED)
    if not (values or state or drain):
        raise SyntaxRefused("there is nothing to change", exit_status=ExitStatus.REFUSED)

    def change(conn: Connection) -> tuple[list[int], list[str]]:
        chosen = administration.selected(conn, _ids(ids), unfolded(hosts))
        if values:
            administration.set_properties(conn, chosen, values)
        if drain:
            administration.set_drain(conn, chosen, drain == "on")
        if state:
            administration.set_state(conn, chosen, ResourceState(state))
        return chosen, administration.declare_jobs_gone(conn, chosen) if jobs_are_gone else []

    connection = connect_as_admin()
    changed, emptied = connection.transaction(change)
    done = [f"{name} = {value}" if value is not None else f"{name} unknown" for name, value in values.items()]
    done += [f"drain {drain}"] if drain else []
    done += [state] if state else []
    click.echo(f"Resources {', '.join(map(str, changed))}: {', '.join(done)}")
    for host in emptied:
        click.echo(f"Host {host}: its jobs are taken to be gone")
    _warn(connection, values)


def _warn(conn: Connection, values: Mapping[str, str | None]) -> None:
    for name, number, hosts in administration.repeated_numbers(conn, values):
        tell(numbering.sentence(name, number, hosts))


def _property(text: str) -> tuple[str, str | None]:
    name, equals, value = text.partition("=")
    if equals:
        return property_name(name.strip()), value.strip()
    if text.endswith("!"):
        return property_name(text[:-1].strip()), None
    raise SyntaxRefused(f"{excerpt(text)} is neither NAME=VALUE nor NAME!", exit_status=ExitStatus.REFUSED)


def _ids(texts: Sequence[str]) -> list[int]:
    numbers = []
    for text in ",".join(texts).split(",") if texts else ():
        if not (text.isascii() and text.isdigit() and len(text) <= 9):
            raise RequestRefused(f"{excerpt(text)} is not the id of a resource")
        numbers.append(int(text))
    return numbers


def main() -> None:
    run(oarnodesetting)
