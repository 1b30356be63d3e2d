"""``oaraccounting``: bring the sums of what was used up to date."""

from __future__ import annotations

import time

import click

from oarpy.commands.session import OarCommand, connect_as_admin, run, with_version
from oarpy.errors import ServerUnavailable, SyntaxRefused
from oarpy.instance import find_instance
from oarpy.model.exit_statuses import ExitStatus


@click.command("oaraccounting", cls=OarCommand)
@click.option("--reinitialize", is_flag=True, help="Forget all sums, and make them again from the jobs.")
@click.option("--delete-before", type=click.IntRange(0, 10**10), metavar="SECONDS", help="Forget sums older than this.")
@with_version
def oaraccounting(reinitialize: bool, delete_before: int | None) -> None:
    """Add what ended jobs used and asked for to the table accounting, by windows of accounting.window.

    \b
    Examples:
        oaraccounting
        oaraccounting --delete-before 31536000

    The server does so by itself, every few seconds; nothing is counted twice.  Only
    root and the owner of the instance may.
    """
    if reinitialize and delete_before is not None:
        raise SyntaxRefused("--reinitialize or --delete-before, not both", exit_status=ExitStatus.REFUSED)
    connect_as_admin().close()
    # They take longer to import than most commands to run.
    from sqlalchemy.exc import DBAPIError

    from oarpy import settings
    from oarpy.database import accounting
    from oarpy.database.connection import open_engine, transaction

    instance = find_instance()
    whole_s = int(settings.load(instance.settings_file).accounting.window.total_seconds())
    engine = open_engine(instance.dsn("oar"), application_name="oaraccounting")
    try:
        if delete_before is not None:
            with transaction(engine, None, durable=True) as conn:
                forgotten = accounting.forget(conn, int(time.time()) - delete_before)
            click.echo(f"{forgotten} sum(s) forgotten")
            return
        if reinitialize:
            with transaction(engine, None, durable=True) as conn:
                accounting.begin_anew(conn)
        settled = 0
        while True:
            with transaction(engine, None, durable=True) as conn:
                now = accounting.settle(conn, whole_s)
            settled += now
            if not now:
                break
    except DBAPIError as error:
        raise ServerUnavailable(f"the database cannot do this now: {str(error.orig).strip()}") from error
    finally:
        engine.dispose()
    click.echo(f"{settled} job(s) accounted for")


def main() -> None:
    run(oaraccounting)
