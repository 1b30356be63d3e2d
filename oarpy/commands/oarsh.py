"""``oarsh`` and ``oarcp`` where oarpy is installed: into a job of one's own, by its id."""

from __future__ import annotations

import json
import os
import signal
import subprocess
import sys
import tempfile
from pathlib import Path
from typing import Any

import click

from oarpy.commands.session import OarCommand, connect, run
from oarpy.errors import RequestRefused
from oarpy.model.exit_statuses import ExitStatus
from oarpy.node import oarsh as program

_AS_TYPED = {"ignore_unknown_options": True, "allow_interspersed_args": False, "help_option_names": ["--help"]}


@click.command("oarsh", cls=OarCommand, context_settings=_AS_TYPED)
@click.argument(
    "words", nargs=-1, type=click.UNPROCESSED, metavar="[-46CfnqTtvxXY] [-i KEY_FILE] [-o OPTION] HOST [COMMAND]..."
)
def oarsh(words: tuple[str, ...]) -> int:
    """Run COMMAND, or a shell, on a host of a job, inside the job.

    \b
    Examples:
        export OAR_JOB_ID=42
        oarsh c2
        oarsh c2 ps -ef
        oarsh -X c2 xterm

    The job must be yours, run, and have several hosts, have been submitted with -k, or have been
    entered with oarsub -C.  Inside of a job OAR_JOB_ID is set.  The status is that of COMMAND, or
    255; 3: there is no such job to come to; 4: it has not this host; 5: an option of ssh that is
    not for jobs.
    """
    return enter("oarsh", words)


@click.command("oarcp", cls=OarCommand, context_settings=_AS_TYPED)
@click.argument(
    "words", nargs=-1, type=click.UNPROCESSED, metavar="[-46Cpqrv] [-i KEY_FILE] [-o OPTION] [HOST:]FILE... [HOST:]FILE"
)
def oarcp(words: tuple[str, ...]) -> int:
    """Copy files from and to hosts of a job.

    \b
    Example:
        oarcp -r c2:/tmp/results .

    Which job, and which statuses, as for oarsh.
    """
    return enter("oarcp", words)


def enter(name: str, words: tuple[str, ...]) -> int:
    """Let ssh or scp do it; their status."""
    try:
        if os.environ.get(program.VARIABLE):
            program.run_in_job(name, list(words), _connector())
        access = _access()
        with tempfile.TemporaryDirectory(prefix="oarsh-") as directory:
            _write(directory, access)
            connector = [*_connector(), "--connect", os.path.join(directory, "access")]
            line = program.command(name, list(words), access, directory, connector)
            program.check_names(name, line)
            # A ^C is for the other end; handlers, unlike ignored signals, are not inherited.
            signal.signal(signal.SIGINT, lambda number, frame: None)
            status = subprocess.call(line)
            return status if status >= 0 else 128 - status
    except program.Refused as error:
        raise _Refused(str(error), error.status) from error
    except OSError as error:
        raise RequestRefused(f"ssh cannot be run: {error.strerror}", exit_status=ExitStatus.REFUSED) from error


class _Refused(RequestRefused):
    """With a status of OAR's oarsh, which has a meaning of its own there."""

    def __init__(self, sentence: str, status: int) -> None:
        super().__init__(sentence, exit_status=ExitStatus(status))


def _connector() -> list[str]:
    return [sys.executable, "-I", "-S", str(program.__file__)]


def _access() -> dict[str, Any]:
    text = os.environ.get("OAR_JOB_ID", "")
    if not text.isdigit():
        raise program.Refused(program.NO_JOB, "which job? Put its id into OAR_JOB_ID")
    from oarpy.client.job_access import job_access

    found = job_access(connect(), int(text))
    if found is None or not found["hosts"]:
        wanted = "it must be yours, run, and have several hosts or a key (oarsub -k, oarsub -C)"
        raise program.Refused(program.NO_JOB, f"job {text} cannot be come to: {wanted}")
    return found


def _write(directory: str, access: dict[str, Any]) -> None:
    said = {name: value for name, value in access.items() if name != "private"}
    files = {"key": access["private"], "known_hosts": program.known_hosts(access), "access": json.dumps(said)}
    for name, text in files.items():
        path = Path(directory, name)
        path.touch(mode=0o600)
        path.write_text(text, encoding="ascii")


def main() -> None:
    run(oarsh)
