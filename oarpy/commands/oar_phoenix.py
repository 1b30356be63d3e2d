"""``oar_phoenix``: reboot hosts that are Suspected; for cron."""

from __future__ import annotations

import shlex
import subprocess
from collections.abc import Sequence
from concurrent.futures import ThreadPoolExecutor
from functools import partial

import click

from oarpy.client import phoenix
from oarpy.client.connection import Connection
from oarpy.client.phoenix import HARD, SOFT, Suspect
from oarpy.commands.session import OarCommand, complain, connect_as_admin, run, tell, with_version
from oarpy.errors import ConfigurationError
from oarpy.instance import find_instance
from oarpy.model.exit_statuses import ExitStatus
from oarpy.settings import Phoenix, load

_SAID = {SOFT: "rebooted", HARD: "rebooted the hard way"}


@click.command("oar_phoenix", cls=OarCommand)
@click.option("-n", "--dry-run", is_flag=True, help="Only tell what would be done.")
@with_version
def oar_phoenix(dry_run: bool) -> int:
    """Reboot Suspected hosts, with the commands of the section [phoenix]; those that jobs are on are left alone.

    \b
    Examples:
        oar_phoenix --dry-run
        */10 * * * * root oar_phoenix

    At first phoenix.soft_command, and phoenix.hard_after later, where the host is
    Suspected still, phoenix.hard_command; after that a person must look.  Only root
    and the owner of the instance may.
    """
    settings = load(find_instance().settings_file).phoenix
    if settings.soft_command is None and settings.hard_command is None:
        raise ConfigurationError(
            "neither phoenix.soft_command nor phoenix.hard_command says how a host is rebooted; oarpy.toml has them"
        )
    connection: Connection = connect_as_admin()

    def begin(conn: Connection) -> tuple[dict[str, str], list[Suspect]]:
        found = phoenix.suspects(conn)
        chosen = _chosen(found, settings)
        if not dry_run:
            # Before it is done: one that dies half-way does it no second time.
            for kind in (SOFT, HARD):
                hosts = [host for host, each in chosen.items() if each == kind]
                phoenix.note(conn, kind, hosts, str(_command(settings, kind)))
        return chosen, found

    chosen, found = connection.transaction(begin)
    for suspect in found:
        if suspect.jobs:
            tell(f"host {suspect.host}: left alone, {suspect.jobs} job(s) are on it")
        elif suspect.hard_s is not None:
            tell(f"host {suspect.host}: Suspected still, {suspect.hard_s:.0f} s after the last try; a person must look")
    if dry_run:
        for host, kind in chosen.items():
            click.echo(f"host {host}: would be {_SAID[kind]}")
        return ExitStatus.OK
    with ThreadPoolExecutor(max(1, settings.at_once)) as pool:
        failures = list(pool.map(partial(_reboot, settings), chosen.items()))
    status = ExitStatus.OK
    for (host, kind), failure in zip(chosen.items(), failures, strict=True):
        if failure is None:
            click.echo(f"host {host}: {_SAID[kind]}")
            continue
        complain(f"host {host}: {failure}")
        connection.transaction(partial(phoenix.note, type_=phoenix.ERROR, hosts=[host], description=failure))
        status = ExitStatus.REFUSED
    return status


def _chosen(suspects: Sequence[Suspect], settings: Phoenix) -> dict[str, str]:
    """What is to be done now, by host."""
    after = settings.hard_after.total_seconds()
    under_way = sum(1 for each in suspects if _last(each) is not None and (_last(each) or 0) < after)
    room = max(0, min(settings.at_once, settings.in_progress - under_way))
    chosen: dict[str, str] = {}
    for suspect in suspects:
        if len(chosen) == room:
            break
        if suspect.jobs or suspect.hard_s is not None:
            continue
        if suspect.soft_s is None and settings.soft_command is not None:
            chosen[suspect.host] = SOFT
        elif settings.hard_command is not None and (suspect.soft_s is None or suspect.soft_s >= after):
            chosen[suspect.host] = HARD
    return chosen


def _last(suspect: Suspect) -> float | None:
    """How long ago something was done to it."""
    return min((each for each in (suspect.soft_s, suspect.hard_s) if each is not None), default=None)


def _command(settings: Phoenix, kind: str) -> str | None:
    return settings.soft_command if kind == SOFT else settings.hard_command


def _reboot(settings: Phoenix, what: tuple[str, str]) -> str | None:
    """Run the command for a host; None, or a sentence that tells how it failed."""
    host, kind = what
    words = [word.replace("{NODENAME}", host) for word in shlex.split(_command(settings, kind) or "")]
    try:
        done = subprocess.run(
            words,
            stdin=subprocess.DEVNULL,
            stdout=subprocess.DEVNULL,
            stderr=subprocess.PIPE,
            text=True,
            errors="replace",
            timeout=settings.timeout.total_seconds(),
            check=False,
        )
    except subprocess.TimeoutExpired:
        return f"{words[0]} took more than {settings.timeout.total_seconds():.0f} s"
    except OSError as error:
        return f"{words[0]} cannot be run: {error.strerror}"
    last = next(iter(reversed(done.stderr.strip().splitlines())), "")
    return f"{words[0]} ended with {done.returncode}{f' ({last})' if last else ''}" if done.returncode else None


def main() -> None:
    run(oar_phoenix)
