"""``oar_resources_init``: resources for hosts, from what these tell of themselves."""

from __future__ import annotations

import shlex
import sys
from collections.abc import Mapping, Sequence
from datetime import timedelta

import click

from oarpy.client.connection import Connection
from oarpy.commands import new_resources
from oarpy.commands.listing import unfolded
from oarpy.commands.session import OarCommand, complain, connect, run, tell, with_version
from oarpy.errors import RequestRefused, SyntaxRefused
from oarpy.instance import find_instance
from oarpy.model.exit_statuses import ExitStatus
from oarpy.model.host_rows import HostSeen, is_host_name
from oarpy.model.wording import excerpt

UNSUPPORTED = {"-c": "a configuration of OAR; this instance's is OARPY_HOME/oarpy.toml"}
#: For what one host has to tell.
PATIENCE = timedelta(seconds=60)


@click.command("oar_resources_init", cls=OarCommand, unsupported=UNSUPPORTED)
@click.argument("hostfile", required=False)
@click.option("-H", "hyperthreading", is_flag=True, help="Give a core all its threads, not its first one alone.")
@click.option("-T", "use_threads", is_flag=True, help="A resource for each thread, with the property thread.")
@click.option("-o", "script_file", metavar="FILE", help="Write the commands to a file; else to standard output.")
@click.option("-x", "execute", is_flag=True, help="Add the resources now, all or none.")
@click.option("-y", "yes", is_flag=True, help="With -x: do not ask before.")
@click.option("-v", "verbose", is_flag=True, help="With -o or -x: show the commands as well.")
@click.option("-e", "ssh", metavar="COMMAND", help="How hosts are reached; by default nodes.ssh.")
@click.option("-n", "oarnodesetting", default="oarnodesetting", metavar="PATH", help="In the script: this program.")
@click.option("-p", "oarproperty", default="oarproperty", metavar="PATH", help="In the script: this program.")
@with_version
def oar_resources_init(
    hostfile: str | None,
    hyperthreading: bool,
    use_threads: bool,
    script_file: str | None,
    execute: bool,
    yes: bool,
    verbose: bool,
    ssh: str | None,
    oarnodesetting: str,
    oarproperty: str,
) -> int:
    """Ask hosts for their processors, cores and memory, and write the commands that add them; -x adds them.

    \b
    Examples:
        oar_resources_init -H hosts.txt
        echo 'c[1-4]' | oar_resources_init -x -y -

    HOSTFILE names a host, or a set of them, on each line.  A host needs sshd and
    python3.  Processors and cores are numbered on from those
    in the tables, the memory in MiB becomes the property mem.
    """
    if hostfile is None:
        raise SyntaxRefused("which hosts? name a file of them, or -", exit_status=ExitStatus.REFUSED)
    if execute and script_file is not None:
        raise SyntaxRefused("-x adds the resources itself; -o does not go with it", exit_status=ExitStatus.REFUSED)
    if execute and (oarnodesetting, oarproperty) != ("oarnodesetting", "oarproperty"):
        raise SyntaxRefused("-x runs no command; -n and -p do not go with it", exit_status=ExitStatus.REFUSED)
    if yes and not execute:
        raise SyntaxRefused("nothing is asked without -x; -y goes with it", exit_status=ExitStatus.REFUSED)
    hosts = _hosts(hostfile)
    from oarpy import settings
    from oarpy.drivers.discovery import discover

    instance = find_instance()
    nodes = settings.load(instance.settings_file).nodes
    try:
        command = nodes.ssh_words if ssh is None else shlex.split(ssh)
    except ValueError as error:
        raise SyntaxRefused(f"-e: {excerpt(str(ssh))} has a quote that is not closed") from error
    if not command:
        raise RequestRefused("nodes.ssh is empty, so no other host can be asked; -e names a command")
    found: list[HostSeen] = []
    status = int(ExitStatus.OK)
    for host, said in discover(hosts, command, nodes.python, PATIENCE):
        if isinstance(said, str):
            complain(f"host {host}: {said}")
            status = int(ExitStatus.REFUSED)
        else:
            found.append(said)
    if status and execute:
        raise RequestRefused("nothing was added, for not all hosts could be asked")
    connection: Connection = connect()
    rows = _rows(found, new_resources.next_numbers(connection, ("cpu", "core", "thread")), hyperthreading, use_threads)
    kinds = new_resources.kinds_of(rows)
    text = new_resources.script(rows, kinds, oarproperty=oarproperty, oarnodesetting=oarnodesetting)
    if verbose or not (execute or script_file):
        click.echo(text, nl=False)
    if script_file is not None:
        new_resources.write_script(text, script_file)
        tell(f"{len(rows)} resource(s) of {len(found)} host(s); sh {shlex.quote(script_file)} adds them")
    if execute and _agreed(yes, len(rows), len(found)):
        new_resources.add(rows, kinds)
    return status


def _rows(
    hosts: Sequence[HostSeen], first: Mapping[str, int], hyperthreading: bool, use_threads: bool
) -> list[dict[str, str]]:
    rows = []
    cpu_base, core, thread = first["cpu"], first["core"], first["thread"]
    for host in hosts:
        cpus = {socket: cpu_base + n for n, socket in enumerate(sorted({each.socket for each in host.cores}))}
        cpu_base += len(cpus)
        for each in host.cores:
            row = {"host": host.name, "cpu": str(cpus[each.socket]), "core": str(core)}
            mem = {"mem": str(host.memory_mib or 0)}
            core += 1
            if use_threads:
                for number in each.threads:
                    rows.append(row | {"thread": str(thread), "cpuset": str(number)} | mem)
                    thread += 1
            else:
                threads = each.threads if hyperthreading else each.threads[:1]
                rows.append(row | {"cpuset": ",".join(map(str, threads))} | mem)
    return rows


def _hosts(path: str) -> list[str]:
    try:
        with click.open_file(path, encoding="utf-8", errors="replace") as file:
            lines = [line.partition("#")[0].strip() for line in file]
    except OSError as error:
        raise RequestRefused(f"{path} cannot be read: {error.strerror}") from error
    hosts = unfolded([line for line in lines if line])
    if not hosts:
        raise RequestRefused(f"{path} names no host")
    for host in hosts:
        if not is_host_name(host):
            raise SyntaxRefused(f"{excerpt(host)} is not the name of a host", exit_status=ExitStatus.REFUSED)
    return hosts


def _agreed(yes: bool, resources: int, hosts: int) -> bool:
    if yes:
        return True
    if not sys.stdin.isatty():
        raise RequestRefused("nobody is there to agree; -y adds the resources without asking")
    return click.confirm(f"Add {resources} resource(s) of {hosts} host(s)?", err=True)


def main() -> None:
    run(oar_resources_init)
