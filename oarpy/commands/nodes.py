"""``oarpy nodes``: the hosts of an instance, made its resources."""

from __future__ import annotations

import sys
from collections.abc import Sequence
from datetime import timedelta
from pathlib import Path

import click

from oarpy.client import host_import
from oarpy.client.connection import Connection
from oarpy.commands.listing import shown_hosts, unfolded
from oarpy.commands.session import OarGroup, connect_as_admin, tell
from oarpy.errors import RequestRefused, SyntaxRefused
from oarpy.instance import find_instance
from oarpy.model import host_rows
from oarpy.model.exit_statuses import ExitStatus
from oarpy.model.host_rows import HostSeen
from oarpy.model.wording import excerpt


@click.group("nodes", cls=OarGroup)
def nodes() -> None:
    """Make hosts known, with all that they have.

    \b
    Example:
        oarpy nodes import 'c[1-16]'
    """


@nodes.command("import")
@click.argument("hosts", nargs=-1)
@click.option("-f", "--file", "host_file", metavar="FILE", help="Read what hosts have from FILE; - is standard input.")
@click.option("-n", "--dry-run", is_flag=True, help="Show what would be added, in the form of such a file.")
@click.option("--memory-row", type=click.IntRange(min=1), metavar="MIB", help="How much a row of memory stands for.")
@click.option("--no-memory", is_flag=True, help="Make no rows of memory.")
@click.option("--timeout", type=click.IntRange(1, 3600), default=30, metavar="SECONDS", help="For each host (30).")
def import_nodes(
    hosts: tuple[str, ...],
    host_file: str | None,
    dry_run: bool,
    memory_row: int | None,
    no_memory: bool,
    timeout: int,
) -> None:
    """Add the cores, GPUs and memory of HOSTS, which are asked over ssh what they have, or of those in a file.

    A host that has resources already is left as it is.  If one does not answer, or a line
    of the file is wrong, nothing is added.  A line is a host, or a set of them, and what
    each has: c[1-4] sockets=2 cores=16 threads=2 memory=65536 gpus=2 cluster=blue

    \b
    Examples:
        oarpy nodes import 'c[1-16]'
        oarpy nodes import --dry-run c1
        oarpy nodes import --file cluster.hosts

    Only root and the owner of the instance may.
    """
    if bool(hosts) == (host_file is not None):
        raise SyntaxRefused("name either hosts or, with -f, a file", exit_status=ExitStatus.REFUSED)
    if no_memory and memory_row is not None:
        raise SyntaxRefused("--no-memory and --memory-row exclude each other", exit_status=ExitStatus.REFUSED)
    wanted = list(dict.fromkeys(unfolded(hosts)))
    described = _read(host_file) if host_file is not None else ()
    connection: Connection = connect_as_admin()
    known = host_import.known_hosts(connection, wanted or [host.name for host in described])
    for name, count in known.items():
        tell(f"{name} has {count} resources already, which are left as they are")
    found: Sequence[HostSeen] = [host for host in described if host.name not in known]
    if wanted:
        found = _discovered([name for name in wanted if name not in known], timedelta(seconds=timeout))
    if dry_run:
        for host in found:
            click.echo(host_rows.line_of(host))
        return
    row_mib = 0 if no_memory else memory_row
    added = connection.transaction(lambda conn: host_import.add_hosts(conn, found, row_mib)) if found else 0
    click.echo(f"{len(found)} host(s), {added} resource(s) added")
    for line in host_rows.summary(found):
        click.echo(f"  {line}")


def _read(file: str) -> tuple[HostSeen, ...]:
    try:
        text = sys.stdin.read() if file == "-" else Path(file).read_text(encoding="utf-8")
    except (OSError, ValueError) as error:
        reason = error.strerror if isinstance(error, OSError) else "it is not text in UTF-8"
        raise RequestRefused(f"{file} cannot be read: {reason}") from None
    said = host_rows.read_hosts(text, unfolded)
    for mistake in said.mistakes:
        click.echo(f"oarpy: {file}: {mistake}", err=True)
    if said.mistakes:
        raise RequestRefused(
            f"{file} has {len(said.mistakes)} mistake(s); nothing was added", exit_status=ExitStatus.SYNTAX
        )
    return said.hosts


def _discovered(names: Sequence[str], timeout: timedelta) -> list[HostSeen]:
    from oarpy import settings
    from oarpy.drivers.discovery import discover

    for name in names:
        if not host_rows.is_host_name(name):
            raise SyntaxRefused(f"{excerpt(name)} cannot be the name of a host")
    reached = settings.load(find_instance().settings_file).nodes
    found: list[HostSeen] = []
    silent: list[str] = []
    for name, said in discover(names, reached.ssh_words or ("ssh",), reached.python, timeout):
        if isinstance(said, str):
            click.echo(f"oarpy: host {name}: {said}", err=True)
            silent.append(name)
        else:
            found.append(said)
    if silent:
        raise RequestRefused(f"{shown_hosts(silent)} did not tell; nothing was added", exit_status=ExitStatus.TRY_LATER)
    return found
