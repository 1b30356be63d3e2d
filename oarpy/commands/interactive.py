"""``oarsub -I`` and ``oarsub -C``: a shell inside a job."""

from __future__ import annotations

import os
import signal
import sys
import time
from collections.abc import Callable

import click

from oarpy.client.conversation import converse
from oarpy.client.terminals import (
    Seat,
    Sight,
    admits_oarsh,
    display_option,
    link,
    mine,
    seat,
    seen_running,
    told_end,
    wait_until_let_in,
    wait_until_running,
)
from oarpy.commands.listing import shown_date
from oarpy.commands.session import client, connect, tell
from oarpy.errors import RequestRefused
from oarpy.model.exit_statuses import ExitStatus
from oarpy.model.payloads import JobSelection
from oarpy.model.states import JobId, JobState
from oarpy.node import oarsh

#: The user's own shell, where the job has been submitted from; his login shell, whichever it is, reads this first.
_SSH_FAILED = 255
_SHELL = 'exec /bin/sh -c \'cd -- "$OAR_WORKDIR"; exec "$SHELL" -l\''


def open_shell(job_id: int, *, keep: bool, begun: Callable[[], None]) -> None:
    """Wait for an interactive job that was just submitted, and be its terminal, from when ``begun`` is called.

    Before that a window that is closed is an interrupt, too.

    Raises:
        RequestRefused: it failed.
    """
    signal.signal(signal.SIGHUP, signal.default_int_handler)
    _say("# Interactive mode: waiting...")
    found = wait_until_running(connect, job_id, _Predictions().show)
    _say("# Starting...")

    def keys_are_the_jobs() -> None:
        signal.signal(signal.SIGHUP, signal.SIG_DFL)
        begun()

    _converse(job_id, found, keep=keep, begun=keys_are_the_jobs)


def reconnect(job_id: int | None, *, keep: bool) -> int:
    """Be the terminal of a running job; without an id, of the caller's only one.

    A job that was not submitted with ``-I`` gives another shell, by way of oarsh.

    Raises:
        RequestRefused: there is none, it is somebody else's, or it cannot be entered.
        ServerUnavailable: nobody says whether it can.
    """
    conn = connect()
    if job_id is None:
        running = mine(conn)
        if len(running) != 1:
            _say("No job of yours runs." if not running else f"Choose one: {' '.join(map(str, running))}")
            return 0
        job_id = running[0]
    sight = seen_running(conn, job_id)
    try:
        found = seat(conn, job_id, sight.head)
    except RequestRefused:
        if sight.head is None:
            raise
        if sight.state != JobState.RUNNING.value:
            # What enters would stand still.
            sentence = f"job {job_id} is {sight.state}, not Running"
            raise RequestRefused(sentence, exit_status=ExitStatus.CONNECT) from None
        if not admits_oarsh(conn, job_id, sight.head):
            _let_in(job_id, sight.head)
        return _enter(job_id, sight.head, shows=sight.is_mine)
    _converse(job_id, found, keep=keep)
    return 0


def _let_in(job_id: int, host: str) -> None:
    """Have the host of a job that was launched without let oarsh in."""
    for job in client().order("access", JobSelection((JobId(job_id),))):
        if job.status:
            raise RequestRefused(job.message, exit_status=ExitStatus.CONNECT)
    wait_until_let_in(connect, job_id, host)


def _enter(job_id: int, host: str, *, shows: bool) -> int:
    """A shell of its own beside the command of a job; its status.

    ``shows``: what runs in the job may use the display of who enters it, and watch there what is typed elsewhere.
    """
    from oarpy.commands.oarsh import enter

    os.environ["OAR_JOB_ID"] = str(job_id)
    for name in oarsh.OF_A_JOB:
        os.environ.pop(name, None)
    _say(f"# Connect to OAR job {job_id} via the node {host}")
    terminal = ["-t"] if os.isatty(0) else []
    status = enter("oarsh", (*(display_option() if shows else []), *terminal, host, _SHELL))
    _say(f"# Disconnected from OAR job {job_id}")
    if terminal and status == _SSH_FAILED:
        tell(f"if {host} gives no terminals, oarsub -C {job_id} <FILE runs the commands of a file there without one")
    return status


def _converse(job_id: int, found: Seat, *, keep: bool, begun: Callable[[], None] = lambda: None) -> None:
    _say(f"# Connect to OAR job {job_id} via the node {found.host}")
    with link(job_id, found) as mine:
        parting = converse(mine, keep=keep, begun=begun)
    if parting.left and keep:
        _say(f"# Left OAR job {job_id}; oarsub -C {job_id} comes back")
    elif parting.status is not None or parting.left:
        _say(f"# Disconnected from OAR job {job_id}")
    else:
        reason = parting.reason or told_end(connect, job_id)
        raise RequestRefused(f"job {job_id}: {reason}", exit_status=ExitStatus.INTERACTIVE_OR_NOT_YET)


class _Predictions:
    """Tells of a waiting job what has changed since the last look."""

    def __init__(self) -> None:
        self._told: tuple[int | None, str] = (None, "")

    def show(self, sight: Sight) -> None:
        told = (sight.predicted_s, sight.why)
        if told == self._told or told == (None, ""):
            return
        self._told = told
        start = "no prediction" if sight.predicted_s is None else shown_date(sight.predicted_s)
        why = f" ({sight.why})" if sight.why else ""
        _say(f"# [{shown_date(int(time.time()))}] Start prediction: {start}{why}")


def _say(line: str) -> None:
    click.echo(line)
    sys.stdout.flush()
