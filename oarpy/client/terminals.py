"""Waits until an interactive job runs, and finds the way to its terminal.

Who waits holds an advisory lock that is named by the job: the server looks for it, and
deletes a waiting job whose command is gone.
"""

from __future__ import annotations

import os
import shlex
import signal
import socket
import subprocess
import sys
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager, suppress
from typing import NamedTuple

from oarpy.client.asking import LOOK_AGAIN_S, persistently
from oarpy.client.connection import Connection, ConnectionLost
from oarpy.client.job_access import job_access
from oarpy.errors import RequestRefused, ServerUnavailable
from oarpy.instance import names_of_this_machine
from oarpy.model.exit_statuses import ExitStatus
from oarpy.model.terminals import python_words, terminal_name
from oarpy.node import oarsh, terminal, text

_LOOK = """
    SELECT state, job_type, extract(epoch FROM predicted_start_at)::bigint, COALESCE(why, ''), head, end_cause,
        job_user = oar.me()
    FROM oar.visible_jobs WHERE job_id = %s
"""
_TOKEN = "SELECT token::text FROM oar.visible_terminals WHERE job_id = %s"
_ATTEND = "SELECT oar.attend(%s)"
_REFUSED = "SELECT oar.access_refused(%s)"
_MINE = """
    SELECT job_id FROM oar.visible_jobs
    WHERE job_user = oar.me() AND state IN ('Running', 'Suspended', 'Resuming') ORDER BY job_id
"""
_OARSH = "from oarpy.commands.oarsh import main; main()"
#: How long a host may take to let a shell in, longer than it is given by the server unless that is told otherwise.
_LET_IN_S = 90.0
#: How long a job may take to end after its terminal has.
_END_S = 15.0
#: And what carried it there, which has only to be told.
_CARRIER_S = 5.0


class Sight(NamedTuple):
    """What is told of a job; ``predicted_s`` since the epoch."""

    state: str
    job_type: str
    predicted_s: int | None
    why: str
    head: str | None
    end_cause: str | None
    is_mine: bool

    @property
    def runs(self) -> bool:
        return self.state in ("Running", "Suspended", "Resuming")

    @property
    def is_over(self) -> bool:
        return self.state in ("Finishing", "Terminated", "Error", "toError")


class Seat(NamedTuple):
    """Where a terminal is."""

    host: str
    name: str


def mine(conn: Connection) -> list[int]:
    """The running jobs of the caller."""
    return [job_id for (job_id,) in conn.rows(_MINE)]


def look(conn: Connection, job_id: int) -> Sight | None:
    """None when there is no such job."""
    rows = conn.rows(_LOOK, (job_id,))
    return Sight(*rows[0]) if rows else None


def seen_running(conn: Connection, job_id: int) -> Sight:
    """What is told of a job that runs, or rests.

    Raises:
        RequestRefused: it does not, or there is no such job.
    """
    sight = look(conn, job_id)
    if sight is None or not sight.runs:
        reason = "does not exist" if sight is None else f"is {sight.state}, not Running"
        raise RequestRefused(f"job {job_id} {reason}", exit_status=ExitStatus.CONNECT)
    return sight


def seat(conn: Connection, job_id: int, head: str | None) -> Seat:
    """Where the terminal of a running job of the caller is.

    Raises:
        RequestRefused: it has none, or is not the caller's.
    """
    tokens = conn.rows(_TOKEN, (job_id,))
    if head is None or not tokens:
        raise RequestRefused(f"job {job_id} has no terminal of yours", exit_status=ExitStatus.CONNECT)
    return Seat(head, terminal_name(tokens[0][0]))


def admits_oarsh(conn: Connection, job_id: int, head: str) -> bool:
    """Whether oarsh comes to this host of a running job that the caller may enter."""
    found = job_access(conn, job_id)
    return found is not None and head in (found["hosts"] or ())


def wait_until_let_in(connect: Callable[[], Connection], job_id: int, head: str) -> None:
    """Return when oarsh comes to this host of a running job, for which that has been asked.

    Raises:
        RequestRefused: it does not, or the job has ended.
        ServerUnavailable: nobody says whether it does.
    """
    deadline = time.monotonic() + _LET_IN_S
    conn: Connection | None = None
    while time.monotonic() < deadline:
        try:
            if conn is None:
                conn = _reconnected(connect, job_id)
                conn.rows(f"LISTEN oar_access_{job_id:d}")
            sight = look(conn, job_id)
            if sight is None or not sight.runs:
                reason = f"ended before a shell could begin in it ({_cause(sight)})"
            elif admits_oarsh(conn, job_id, head):
                return
            elif (reason := conn.value(_REFUSED, (job_id,))) is not None:
                reason = f"cannot be entered on host {head}: {reason}"
            if reason is not None:
                raise RequestRefused(f"job {job_id} {reason}", exit_status=ExitStatus.CONNECT)
            conn.wait(LOOK_AGAIN_S)
        except ConnectionLost:
            conn = None
    raise ServerUnavailable(f"host {head} has not let a shell in for {_LET_IN_S:.0f} s; oarsub -C {job_id} asks again")


def wait_until_running(connect: Callable[[], Connection], job_id: int, show: Callable[[Sight], None]) -> Seat:
    """Where the terminal of ``job_id`` is, as soon as it runs; each look is given to ``show``.

    Raises:
        RequestRefused: the job ended before.
        ServerUnavailable: the server does not come back.
    """
    conn: Connection | None = None
    while True:
        try:
            if conn is None:
                conn = _reconnected(connect, job_id)
            # Each time: somebody else may have had the lock before.
            conn.rows(_ATTEND, (job_id,))
            sight = look(conn, job_id)
            if sight is None or sight.is_over:
                raise RequestRefused(
                    f"job {job_id} ended before its shell began ({_cause(sight)}); oarstat -f -j {job_id} tells more",
                    exit_status=ExitStatus.INTERACTIVE_OR_NOT_YET,
                )
            if sight.runs:
                return seat(conn, job_id, sight.head)
            show(sight)
            conn.wait(LOOK_AGAIN_S)
        except ConnectionLost:
            conn = None


def told_end(connect: Callable[[], Connection], job_id: int) -> str:
    """Why a terminal's link ended that nobody closed: what became of the job, as a sentence's rest."""
    conn = connect()
    deadline = time.monotonic() + _END_S
    while (sight := look(conn, job_id)) is not None and sight.end_cause is None:
        if time.monotonic() > deadline:
            return f"the link to its terminal is lost; oarsub -C {job_id} comes back while it runs"
        conn.wait(LOOK_AGAIN_S)
    return f"it ended ({_cause(sight)})"


@contextmanager
def link(job_id: int, seat: Seat) -> Iterator[socket.socket]:
    """A link to the terminal of a job of the caller, by way of oarsh where it is on another host.

    Raises:
        RequestRefused: there is no way to it.
    """
    if seat.host in names_of_this_machine():
        with _here(seat) as mine:
            yield mine
        return
    _check_name(seat.host)
    environment = {key: value for key, value in os.environ.items() if key not in oarsh.OF_A_JOB}
    attach = shlex.join([*python_words("python3", text("terminal")), "attach"])
    mine, theirs = socket.socketpair()
    with mine:
        mine.sendall(f"{seat.name}\n".encode())
        with theirs:
            carrier = subprocess.Popen(
                [sys.executable, "-c", _OARSH, "-T", *display_option(), seat.host, attach],
                stdin=theirs.fileno(),
                stdout=theirs.fileno(),
                start_new_session=True,
                env=environment | {"OAR_JOB_ID": str(job_id)},
            )
        try:
            yield mine
        finally:
            # Its ssh ends; else that would complain, in front of the user, about the end of the job.
            with suppress(ProcessLookupError, subprocess.TimeoutExpired):
                os.killpg(carrier.pid, signal.SIGINT)
                carrier.wait(timeout=_CARRIER_S)


def display_option() -> list[str]:
    """Where somebody sits before a display, what runs in a job of his may show something on it."""
    return ["-Y"] if os.environ.get("DISPLAY") else []


def _here(seat: Seat) -> socket.socket:
    try:
        return terminal.connected(seat.name)
    except OSError as error:
        raise _out_of_reach(seat.host, error) from error


def _check_name(host: str) -> None:
    # What carries the terminal would complain as well, and nobody would know of which it is.
    try:
        socket.getaddrinfo(host, None)
    except OSError as error:
        raise _out_of_reach(host, error) from error


def _out_of_reach(host: str, error: OSError) -> RequestRefused:
    sentence = f"the terminal on host {host} cannot be reached from {os.uname().nodename} ({error.strerror})"
    return RequestRefused(sentence, exit_status=ExitStatus.CONNECT)


def _cause(sight: Sight | None) -> str:
    return sight.end_cause or sight.state if sight is not None else "unknown"


def _reconnected(connect: Callable[[], Connection], job_id: int) -> Connection:
    try:
        return persistently(connect)
    except ServerUnavailable as error:
        raise ServerUnavailable(f"the server does not answer; oarsub -C {job_id} connects when it is back") from error
