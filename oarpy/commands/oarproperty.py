"""``oarproperty``: the columns of resources."""

from __future__ import annotations

import json
import time
from collections.abc import Callable, Sequence
from functools import partial
from typing import TypeVar

import click

from oarpy.client import properties
from oarpy.client.connection import Connection, LockedOut
from oarpy.commands.session import OarCommand, connect, connect_as_admin, run, tell, with_version
from oarpy.errors import SyntaxRefused
from oarpy.model.exit_statuses import ExitStatus
from oarpy.model.states import JobState

T = TypeVar("T")
#: Of half a second each.
TRIES = 20


@click.command("oarproperty", cls=OarCommand)
@click.option("-l", "--list", "as_list", is_flag=True, help="Show the properties; so does no option at all.")
@click.option("-a", "--add", "added", multiple=True, metavar="NAME", help="Add a property.")
@click.option("-c", "--varchar", is_flag=True, help="With -a: its values are text; the same as --kind text.")
@click.option("--kind", type=click.Choice(list(properties.KINDS)), help="With -a: what its values are.")
@click.option(
    "-d", "--delete", "removed", multiple=True, metavar="NAME", help="Remove one that no request names, values and all."
)
@click.option("-r", "--rename", "renamed", multiple=True, metavar="OLD,NEW", help="Rename one that no request names.")
@click.option("--force", is_flag=True, help="With -d: even if jobs name it, which are held; even host, cpu or core.")
@click.option(
    "--dry-run",
    is_flag=True,
    help="With -d: remove nothing; show what would go with it, and the jobs whose requests name it.",
)
@click.option("-q", "--quiet", is_flag=True, help="Say nothing of what was done.")
@click.option("-J", "--json", "as_json", is_flag=True, help="Show them as JSON.")
@with_version
def oarproperty(
    as_list: bool,
    added: tuple[str, ...],
    varchar: bool,
    kind: str | None,
    removed: tuple[str, ...],
    renamed: tuple[str, ...],
    force: bool,
    dry_run: bool,
    quiet: bool,
    as_json: bool,
) -> None:
    """Show, add, remove or rename the properties of resources.

    \b
    Examples:
        oarproperty -a gpu_model -c
        oarproperty -a mem -a gpu
        oarproperty -d gpu_model --force --dry-run
        oarproperty -r mem,memory_mib

    Only root and the owner of the instance may change them.
    """
    if sum(map(bool, (added, removed, renamed))) + (as_list or as_json) > 1:
        raise SyntaxRefused("only one of -l, -a, -d and -r at a time", exit_status=ExitStatus.REFUSED)
    if (varchar or kind) and not added:
        raise SyntaxRefused("-c and --kind go with -a", exit_status=ExitStatus.REFUSED)
    if force and not removed:
        raise SyntaxRefused("--force goes with -d", exit_status=ExitStatus.REFUSED)
    if dry_run and not removed:
        raise SyntaxRefused("--dry-run goes with -d", exit_status=ExitStatus.REFUSED)
    if dry_run:
        _rehearse(removed, force=force)
        return
    pairs = [each.split(",") for each in renamed]
    if any(len(pair) != 2 for pair in pairs):
        raise SyntaxRefused("-r wants OLD,NEW", exit_status=ExitStatus.REFUSED)
    done: list[str] = []
    for name in added:
        chosen = kind or ("text" if varchar else "integer")
        _changed(partial(properties.add_property, name=name, kind=chosen))
        done.append(f"Added property: {name}")
    for name in removed:
        gone = _changed(partial(properties.remove_property, name=name, force=force))
        if gone.jobs:
            tell(f"jobs held: {gone.jobs}")
        if gone.resources and not quiet:
            tell(f"resources that have lost their {name}: {gone.resources}")
        done.append(f"Deleted property: {name}")
    for old, new in pairs:
        _changed(partial(properties.rename_property, old=old.strip(), new=new.strip()))
        done.append(f"Renamed property: {old.strip()} to {new.strip()}")
    if not (added or removed or renamed):
        _show(as_json)
    elif not quiet:
        click.echo("\n".join(done))


def _rehearse(names: Sequence[str], *, force: bool) -> None:
    connection: Connection = connect_as_admin()
    for name in names:
        properties.check_defined(connection, name)
        if losing := properties.valued(connection, name):
            click.echo(f"Property {name}: {losing} resource(s) would lose their value")
        for job_id, state in properties.jobs_naming(connection, name):
            would = "would be held" if force and state == JobState.WAITING.value else "names it"
            click.echo(f"Property {name}: job {job_id} ({state}) {would}")
    click.echo("Nothing was done")


def _changed(change: Callable[[Connection], T]) -> T:
    """What ``change`` returns, tried again while others use the table."""
    for _ in range(TRIES - 1):
        try:
            return _tried(change)
        except LockedOut:
            # In the pause those who queued behind this change have their turn.
            time.sleep(0.1)
    return _tried(change)


def _tried(change: Callable[[Connection], T]) -> T:
    connection: Connection = connect_as_admin()
    return connection.transaction(change)


def _show(as_json: bool) -> None:
    found = properties.properties(connect())
    if as_json:
        click.echo(json.dumps(dict(found), indent=2))
    else:
        click.echo("".join(f"{name}\n" for name, _ in found), nl=False)


def main() -> None:
    run(oarproperty)
