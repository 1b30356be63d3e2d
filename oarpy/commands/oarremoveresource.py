"""``oarremoveresource``: remove resources that are Dead."""

from __future__ import annotations

from functools import partial

import click

from oarpy.client import resources
from oarpy.client.connection import Connection
from oarpy.commands.selecting import resource_numbers
from oarpy.commands.session import OarCommand, complain, connect_as_admin, run, with_version
from oarpy.errors import RequestRefused, SyntaxRefused
from oarpy.model.exit_statuses import ExitStatus


@click.command("oarremoveresource", cls=OarCommand)
@click.argument("ids", metavar="ID...", nargs=-1)
@click.option("--dry-run", is_flag=True, help="Remove nothing; show what would be removed.")
@with_version
def oarremoveresource(ids: tuple[str, ...], dry_run: bool) -> int:
    """Remove resources that are Dead and that no job holds; what is known of their past, and of their jobs, stays.

    \b
    Examples:
        oarremoveresource 17 18
        oarremoveresource --dry-run 17

    All of several are tried.  Status 2 tells that one is not Dead.  Only root and the
    owner of the instance may.
    """
    if not ids:
        raise SyntaxRefused("no resource was named; give ids, as oarnodes shows them", exit_status=ExitStatus.REFUSED)
    numbers = resource_numbers(ids)
    status = int(ExitStatus.OK)
    for number in numbers:
        connection: Connection = connect_as_admin()
        try:
            (connection.rehearsal if dry_run else connection.transaction)(
                partial(resources.remove_resource, resource_id=number)
            )
        except RequestRefused as refusal:
            complain(str(refusal))
            status = max(status, int(refusal.exit_status))
        else:
            connection.close()
            click.echo(f"Resource {number} would be removed." if dry_run else f"Resource {number} removed.")
    return status


def main() -> None:
    run(oarremoveresource)
