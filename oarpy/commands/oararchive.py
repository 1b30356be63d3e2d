"""``oararchive``: move jobs that ended long ago out of the tables, into a file."""

from __future__ import annotations

import gzip
import os
from typing import BinaryIO

import click

from oarpy.client import archive
from oarpy.client.connection import Connection
from oarpy.commands.session import OarCommand, connect_as_admin, run, with_version
from oarpy.errors import RequestRefused, SyntaxRefused
from oarpy.model.exit_statuses import ExitStatus


@click.command("oararchive", cls=OarCommand)
@click.option("--older-than", type=click.IntRange(1, 36_500), metavar="DAYS", help="Jobs that ended so long ago.")
@click.option("--to", "path", metavar="FILE", help="A new file: a line of JSON for each job, gzipped.")
@click.option("--keep", is_flag=True, help="Write the file and remove nothing.")
@click.option("-n", "--dry-run", is_flag=True, help="Only count them.")
@click.option("--chunk", type=click.IntRange(1, 100_000), default=2000, metavar="N", help="Jobs removed at once; 2000.")
@with_version
def oararchive(older_than: int | None, path: str | None, keep: bool, dry_run: bool, chunk: int) -> None:
    """Move jobs that ended long ago, with all that is known of them, from the tables into a file.

    \b
    Examples:
        oararchive --older-than 365 --dry-run
        oararchive --older-than 365 --to jobs-2025.json.gz

    Jobs go only once they are on the disk.  Sums in accounting stay; what still needs
    a job (a dependency, a copy that runs) keeps it.  The server need not be stopped.
    Only root and the owner of the instance may.
    """
    if older_than is None:
        raise SyntaxRefused("how old? --older-than tells", exit_status=ExitStatus.REFUSED)
    if dry_run and (path is not None or keep):
        raise SyntaxRefused("--dry-run writes and removes nothing", exit_status=ExitStatus.REFUSED)
    if not dry_run and path is None:
        raise SyntaxRefused("to which file? --to tells", exit_status=ExitStatus.REFUSED)
    connection: Connection = connect_as_admin()
    if path is None:
        click.echo(f"{archive.count(connection, older_than)} job(s)")
        return
    try:
        with open(path, "xb") as file:
            moved = _move(connection, file, older_than, chunk, keep=keep)
    except FileExistsError as error:
        raise RequestRefused(f"{path} exists already") from error
    except OSError as error:
        raise RequestRefused(
            f"{path} cannot be written: {error.strerror}; what is not in it was not removed"
        ) from error
    click.echo(f"{moved} job(s) {'written' if keep else 'moved'} to {path}")


def _move(connection: Connection, file: BinaryIO, days: int, chunk: int, *, keep: bool) -> int:
    moved = last = 0
    while True:

        def one(conn: Connection, after: int = last) -> list[int]:
            found = archive.take(conn, days, after, chunk)
            if found:
                # A member of its own: what stands before is readable, whatever becomes of the next.
                file.write(gzip.compress("".join(f"{text}\n" for _, text in found).encode()))
                file.flush()
                os.fsync(file.fileno())
                if not keep:
                    archive.remove(conn, [job_id for job_id, _ in found])
            return [job_id for job_id, _ in found]

        ids = connection.transaction(one)
        if not ids:
            return moved
        moved += len(ids)
        last = ids[-1]


def main() -> None:
    run(oararchive)
