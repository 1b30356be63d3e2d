"""``oarnodesetting``: add resources and change them."""

from __future__ import annotations

import time
from collections.abc import Mapping, Sequence

import click

from oarpy.client import resources
from oarpy.client.connection import Connection
from oarpy.commands.listing import shown_property, unfolded
from oarpy.commands.selecting import resource_numbers
from oarpy.commands.session import OarCommand, connect, connect_as_admin, run, tell, with_version
from oarpy.errors import RequestRefused, SyntaxRefused
from oarpy.model import numbering
from oarpy.model.exit_statuses import ExitStatus
from oarpy.model.filter_grammar import parse_filter
from oarpy.model.identifiers import property_name
from oarpy.model.states import ResourceState
from oarpy.model.wording import excerpt

#: How long jobs are waited for that are killed because their resources go away.
PATIENCE_S = 30.0
LOOK_AGAIN_S = 1.0
AWAY = (ResourceState.ABSENT.value, ResourceState.DEAD.value)


@click.command("oarnodesetting", cls=OarCommand, context_settings={"help_option_names": ["--help"]})
@click.option("-a", "--add", is_flag=True, help="Add a resource, on the host of -h, with the values of -p.")
@click.option("-h", "--hostname", "hosts", multiple=True, metavar="HOST", help="Host, or a set of them: c[1-16].")
@click.option("-f", "--file", "host_file", metavar="FILE", help="The hosts in a file, one a line; - is standard input.")
@click.option("-r", "--resource", "ids", multiple=True, metavar="ID[,ID]", help="Resource by its id.")
@click.option("--sql", metavar="CONDITION", help="Resources that satisfy it, such as \"type = 'gpu'\".")
@click.option(
    "-s", "--state", type=click.Choice([state.value for state in ResourceState]), help="The state they are in now."
)
@click.option(
    "-m",
    "--maintenance",
    "--care",
    type=click.Choice(["on", "off"]),
    help="on: Absent, and not to be woken; off: Alive, as they were before.",
)
@click.option("-d", "--drain", type=click.Choice(["on", "off"]), help="Whether they take no new jobs.")
@click.option("-p", "--property", "properties", multiple=True, metavar="NAME=VALUE", help="NAME! makes it unknown.")
@click.option("-n", "--no-wait", "--nowait", is_flag=True, help="Do not wait for the jobs that must end.")
@click.option("--last-property-value", "last_of", metavar="NAME", help="Print the highest value that a property has.")
@click.option("--dry-run", is_flag=True, help="Change nothing; show which resources, and which jobs would be killed.")
@click.option("--jobs-are-gone", is_flag=True, help="With -s Dead: I know that no job's process is left there.")
@with_version
def oarnodesetting(
    add: bool,
    hosts: tuple[str, ...],
    host_file: str | None,
    ids: tuple[str, ...],
    sql: str | None,
    state: str | None,
    maintenance: str | None,
    drain: str | None,
    properties: tuple[str, ...],
    no_wait: bool,
    last_of: str | None,
    dry_run: bool,
    jobs_are_gone: bool,
) -> int:
    """Add resources, or change those of a host, with an id, or that satisfy a condition.

    \b
    Examples:
        oarnodesetting -a -h node1 -p cpu=0 -p core=3
        oarnodesetting -h node[1-4] -s Absent
        oarnodesetting -r 17 -d on
        oarnodesetting --sql "cluster = 'blue' AND mem < 64000" -m on
        oarnodesetting -h node[1-4] -s Dead --dry-run

    Jobs on resources that become Absent or Dead are killed, and waited for, 30
    seconds at most; status 11 tells that some are still there.  Only root and the
    owner of the instance may change anything.
    """
    if last_of is not None:
        return _show_last(last_of, alone=not (add or hosts or host_file or ids or sql or state or properties))
    values = dict(map(_property, properties))
    if jobs_are_gone and state != ResourceState.DEAD.value:
        raise SyntaxRefused("--jobs-are-gone goes with -s Dead", exit_status=ExitStatus.REFUSED)
    if maintenance is not None and state is not None:
        raise SyntaxRefused("-m sets the state; -s does not go with it", exit_status=ExitStatus.REFUSED)
    if maintenance is not None and "available_upto" in values:
        raise SyntaxRefused("-m keeps available_upto; -p does not go with it", exit_status=ExitStatus.REFUSED)
    names = [*unfolded(hosts), *unfolded(_hosts_in(host_file))]
    if add:
        if dry_run:
            raise SyntaxRefused("--dry-run shows what a change chooses; -a adds", exit_status=ExitStatus.REFUSED)
        if ids or sql or drain or maintenance or jobs_are_gone:
            raise SyntaxRefused("-a goes with -h, -f, -p and -s alone", exit_status=ExitStatus.REFUSED)
        _add(names or [None], values, state)
        return ExitStatus.OK
    if not names and not ids and sql is None:
        raise SyntaxRefused("neither -h, -f, -r nor --sql names a resource", exit_status=ExitStatus.REFUSED)
    if not (values or state or drain or maintenance):
        raise SyntaxRefused("there is nothing to change; -s, -p, -m or -d says what", exit_status=ExitStatus.REFUSED)
    where = parse_filter(sql) if sql is not None else None

    def change(conn: Connection) -> tuple[list[int], list[str], list[int]]:
        named = [*resource_numbers(ids), *(resources.satisfying(conn, where) if where is not None else ())]
        chosen = resources.selected(conn, named, names)
        if values:
            resources.set_properties(conn, chosen, values)
        if drain:
            resources.set_drain(conn, chosen, drain == "on")
        if state:
            resources.set_state(conn, chosen, ResourceState(state))
        if maintenance == "on":
            resources.begin_maintenance(conn, chosen)
        elif maintenance == "off":
            chosen = _ended_maintenance(conn, chosen)
        gone = resources.declare_jobs_gone(conn, chosen) if jobs_are_gone else []
        leaves = state in AWAY or maintenance == "on"
        return chosen, gone, resources.jobs_on(conn, chosen) if leaves and (dry_run or not no_wait) else []

    connection: Connection = connect_as_admin()
    changed, emptied, doomed = (connection.rehearsal if dry_run else connection.transaction)(change)
    done = [f"{name} = {value}" if value is not None else f"{name} unknown" for name, value in values.items()]
    done += [f"drain {drain}"] if drain else []
    done += [state] if state else []
    done += [f"maintenance {maintenance}"] if maintenance else []
    if dry_run:
        click.echo(f"Would change the resources {', '.join(map(str, changed))}: {', '.join(done)}")
        if doomed:
            click.echo(f"Would kill the jobs {', '.join(map(str, doomed))}")
        click.echo("Nothing was done")
        return ExitStatus.OK
    click.echo(f"Resources {', '.join(map(str, changed))}: {', '.join(done)}")
    for host in emptied:
        click.echo(f"Host {host}: its jobs are taken to be gone")
    _warn(connection, values)
    return _wait(connection, doomed)


def _add(names: Sequence[str | None], values: Mapping[str, str | None], state: str | None) -> None:
    def add(conn: Connection) -> tuple[list[int], list[str]]:
        # Who drains a host does not want a part of it to take jobs because it was added later.
        drained = resources.drained_hosts(conn, [name for name in names if name is not None])
        added = [resources.add_resource(conn, each, values) for each in names]
        resources.drain_hosts(conn, drained)
        return added, drained

    connection: Connection = connect_as_admin()
    added, drained = connection.transaction(add)
    if state is not None and state != ResourceState.ALIVE.value:
        connection.transaction(lambda conn: resources.set_state(conn, added, ResourceState(state)))
    click.echo("\n".join(f"New resource: {resource_id}" for resource_id in added))
    for host in drained:
        tell(f"host {host} is drained, and what is new of it too; oarnodesetting -h {host} -d off ends that")
    _warn(connection, values)


def _ended_maintenance(conn: Connection, chosen: Sequence[int]) -> list[int]:
    ended = resources.end_maintenance(conn, chosen)
    if not ended:
        raise RequestRefused("none of these resources is in maintenance; -s Alive makes them usable")
    others = sorted(set(chosen) - set(ended))
    if others:
        tell(f"not in maintenance, and left as they are: {', '.join(map(str, others))}")
    return ended


def _wait(conn: Connection, job_ids: Sequence[int]) -> int:
    """Return when these jobs are over, or with status 11 after a while."""
    if not job_ids:
        return ExitStatus.OK
    click.echo("Check jobs to delete:")
    left = list(job_ids)
    deadline = time.monotonic() + PATIENCE_S
    while left and time.monotonic() < deadline:
        time.sleep(LOOK_AGAIN_S)
        still = resources.unfinished(conn, left)
        for job_id in sorted(set(left) - set(still)):
            click.echo(f"\t{job_id} Deleted")
        left = still
    for job_id in left:
        click.echo(f"\t{job_id} Timeout")
    click.echo("Check done")
    return ExitStatus.INTERACTIVE_OR_NOT_YET if left else ExitStatus.OK


def _show_last(name: str, *, alone: bool) -> int:
    if not alone:
        raise SyntaxRefused("--last-property-value changes nothing; it goes alone", exit_status=ExitStatus.REFUSED)
    connection: Connection = connect()
    value = resources.last_value(connection, property_name(name))
    if value is None:
        tell(f"no resource has a value of {name}")
    else:
        click.echo(shown_property(value))
    return ExitStatus.OK


def _hosts_in(path: str | None) -> list[str]:
    """The lines of a file that are neither empty nor comments."""
    if path is None:
        return []
    try:
        with click.open_file(path, encoding="utf-8", errors="replace") as file:
            return [line.strip() for line in file if line.strip() and not line.lstrip().startswith("#")]
    except OSError as error:
        raise RequestRefused(f"{path} cannot be read: {error.strerror}", exit_status=ExitStatus.HOST_FILE) from error


def _warn(conn: Connection, values: Mapping[str, str | None]) -> None:
    for name, number, hosts in resources.repeated_numbers(conn, values):
        tell(numbering.sentence(name, number, hosts))


def _property(text: str) -> tuple[str, str | None]:
    name, equals, value = text.partition("=")
    if equals:
        return property_name(name.strip()), value.strip()
    if text.endswith("!"):
        return property_name(text[:-1].strip()), None
    sentence = f"{excerpt(text)} is neither NAME=VALUE nor NAME!, which takes the value away"
    raise SyntaxRefused(sentence, exit_status=ExitStatus.REFUSED)


def main() -> None:
    run(oarnodesetting)
