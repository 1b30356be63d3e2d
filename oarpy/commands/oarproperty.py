"""``oarproperty``: the columns of resources."""

from __future__ import annotations

import json
import time
from collections.abc import Callable
from typing import TypeVar

import click

from oarpy.client import administration
from oarpy.client.connection import Connection, LockedOut
from oarpy.commands.session import OarCommand, connect, connect_as_admin, run, tell, with_version
from oarpy.errors import SyntaxRefused
from oarpy.model.exit_statuses import ExitStatus

T = TypeVar("T")
#: Of half a second each.
TRIES = 20
UNSUPPORTED = {"-q": "being quiet", "--quiet": "being quiet"}


@click.command("oarproperty", cls=OarCommand, unsupported=UNSUPPORTED)
@click.option("-l", "--list", "as_list", is_flag=True, help="Show the properties; so does no option at all.")
@click.option("-a", "--add", metavar="NAME", help="Add a property.")
@click.option("-c", "--varchar", is_flag=True, help="With -a: its values are text; the same as --kind text.")
@click.option("--kind", type=click.Choice(list(administration.KINDS)), help="With -a: what its values are.")
@click.option("-d", "--delete", "removed", metavar="NAME", help="Remove a property that no request names.")
@click.option("-r", "--rename", metavar="OLD,NEW", help="Rename a property that no request names.")
@click.option("--force", is_flag=True, help="With -d: hold the waiting jobs whose requests name it.")
@click.option("-J", "--json", "as_json", is_flag=True, help="Show them as JSON.")
@with_version
def oarproperty(
    as_list: bool,
    add: str | None,
    varchar: bool,
    kind: str | None,
    removed: str | None,
    rename: str | None,
    force: bool,
    as_json: bool,
) -> None:
    """Show, add, remove or rename the properties of resources.

    \b
    Examples:
        oarproperty -a gpu_model -c
        oarproperty -d gpu_model
        oarproperty -r mem,memory_mib

    Only root and the owner of the instance may change them.
    """
    if sum(each is not None for each in (add, removed, rename)) + (as_list or as_json) > 1:
        raise SyntaxRefused("only one of -l, -a, -d and -r at a time", exit_status=ExitStatus.REFUSED)
    if (varchar or kind) and add is None:
        raise SyntaxRefused("-c and --kind go with -a", exit_status=ExitStatus.REFUSED)
    if add is not None:
        chosen = kind or ("text" if varchar else "integer")
        _changed(lambda conn: administration.add_property(conn, add, chosen))
        click.echo(f"Added property: {add}")
    elif removed is not None:
        held = _changed(lambda conn: administration.remove_property(conn, removed, force=force))
        if held:
            tell(f"jobs held: {held}")
        click.echo(f"Deleted property: {removed}")
    elif rename is not None:
        old, comma, new = rename.partition(",")
        if not comma:
            raise SyntaxRefused("-r wants OLD,NEW", exit_status=ExitStatus.REFUSED)
        _changed(lambda conn: administration.rename_property(conn, old, new))
        click.echo(f"Renamed property: {old} to {new}")
    else:
        _show(as_json)


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
    found = administration.properties(connect())
    if as_json:
        click.echo(json.dumps(dict(found), indent=2))
    else:
        click.echo("".join(f"{name}\n" for name, _ in found), nl=False)


def main() -> None:
    run(oarproperty)
