"""Messages to a program of the user, run as the user on the server's host.

The program gets ``<jobid> <name> <TAG> <comment>`` after its own arguments.  No
shell is involved.  Exit status 0 is success, 75 (EX_TEMPFAIL of sysexits.h) asks
for another try later, any other is final: the program ran, and what it made of
the message is its own matter.

When judas dies, so does the program; it is run again later, with the same number
in ``OAR_NOTIFICATION_ID``.
"""

from __future__ import annotations

import os
import pwd
import select
import signal
import subprocess
import time
from collections.abc import Sequence
from contextlib import suppress
from datetime import timedelta

from oarpy.drivers.accounts import Accounts
from oarpy.errors import ProgramFailed
from oarpy.model.wording import last_line
from oarpy.node.oarexec.keys import leave_keys
from oarpy.ports.messenger import Delivery, Fate, Message

TRY_LATER = 75
#: Of what the program writes; the rest is read and forgotten.
KEPT_OUTPUT = 4096
LONGEST_COMMENT = 1000
PATH = "/usr/local/bin:/usr/bin:/bin"
# What setpriv itself says: no permission to run the program, no such program.
_NOT_RUN = {126, 127}


class CommandMessenger:
    """Runs programs as their users when root runs it, else as the one account that it belongs to.

    Accounts below ``min_uid`` get no program run; by default, those that
    login.defs reserves for the system.
    """

    def __init__(self, timeout: timedelta, *, min_uid: int | None = None) -> None:
        self._timeout_s = timeout.total_seconds()
        self._accounts = Accounts(min_uid)

    @property
    def limit_s(self) -> float:
        """For one message, which is what this is given at a time."""
        return self._timeout_s + 1

    def deliver(self, messages: Sequence[Message]) -> list[Delivery]:
        """Run the program of each message, one after the other."""
        return [Delivery(message.number, *self._run(message)) for message in messages]

    def _run(self, message: Message) -> tuple[Fate, str]:
        try:
            account = self._account(message.login)
        except KeyError:
            return Fate.REFUSED, f"there is no account {message.login} on this host"
        if refusal := self._refusal(account):
            return Fate.REFUSED, refusal
        command = self._command(account, message)
        directory = account.pw_dir if os.path.isdir(account.pw_dir) else "/"
        if os.geteuid() == 0:
            leave_keys()
        try:
            process = subprocess.Popen(
                command,
                stdin=subprocess.DEVNULL,
                stdout=subprocess.PIPE,
                stderr=subprocess.STDOUT,
                cwd=directory,
                env=_environment(account, message),
                umask=0o022,
                start_new_session=True,
            )
        except OSError as error:
            return Fate.FAILED, f"could not be run: {error}"
        with process:
            output, in_time = _watch(process, self._timeout_s)
        return self._fate(process.returncode, in_time), self._words(process.returncode, in_time, output)

    def _account(self, login: str) -> pwd.struct_passwd:
        return pwd.getpwnam(login)

    def _command(self, account: pwd.struct_passwd, message: Message) -> list[str]:
        return [*_switch(account), *message.target.split(), *_arguments(message)]

    def _refusal(self, account: pwd.struct_passwd) -> str | None:
        if os.geteuid() != 0:
            own = account.pw_uid == os.geteuid()
            return None if own else f"this instance runs programs of {_name_of(os.geteuid())} alone"
        if self._accounts.is_of_system(account):
            return f"{account.pw_name} is an account of the system; its programs are not run"
        return None

    @staticmethod
    def _fate(status: int, in_time: bool) -> Fate:
        if status == 0 and in_time:
            return Fate.DELIVERED
        return Fate.FAILED if status == TRY_LATER and in_time else Fate.REFUSED

    def _words(self, status: int, in_time: bool, output: str) -> str:
        if not in_time:
            what = f"killed after {self._timeout_s:g} s"
        elif status < 0:
            what = f"died of signal {-status}"
        elif status in _NOT_RUN:
            what = f"could not be run (status {status})"
        else:
            what = f"exit status {status}"
        return f"{what}: {output}" if output else what


def output_of(words: Sequence[str], timeout: timedelta, *, complaints: bool = False) -> str:
    """What a program of the site prints, run as whoever calls this; it ends with the calling thread.

    With ``complaints`` what it says on stderr counts, too, and a failure tells the last line of it all.

    Raises:
        ProgramFailed: it could not be run, took longer than ``timeout``, or ended with another status than 0.
    """
    try:
        process = subprocess.Popen(
            ["setpriv", "--pdeathsig", "KILL", "--", *words],
            stdin=subprocess.DEVNULL,
            stdout=subprocess.PIPE,
            stderr=subprocess.STDOUT if complaints else subprocess.DEVNULL,
            cwd="/",
            start_new_session=True,
        )
    except OSError as error:
        raise ProgramFailed(f"could not be run: {error.strerror}") from error
    with process:
        output, in_time = _watch(process, timeout.total_seconds())
    if not in_time:
        raise ProgramFailed(f"took more than {timeout.total_seconds():g} s")
    if process.returncode in _NOT_RUN:
        raise ProgramFailed(f"could not be run (status {process.returncode})")
    if process.returncode != 0:
        last = last_line(output) if complaints else ""
        raise ProgramFailed(f"ended with status {process.returncode}" + (f": {last}" if last else ""))
    return output


class HookMessenger(CommandMessenger):
    """Runs programs of the site as the account of the server, with the id of a job and the comment.

    What is run stands in the settings, where users cannot write.
    """

    def _refusal(self, account: pwd.struct_passwd) -> str | None:
        return None

    def _account(self, login: str) -> pwd.struct_passwd:
        return pwd.getpwuid(os.geteuid())

    def _command(self, account: pwd.struct_passwd, message: Message) -> list[str]:
        job_id = "" if message.job_id is None else str(message.job_id)
        return ["setpriv", "--pdeathsig", "KILL", "--", *message.target.split(), job_id, message.comment]


def _switch(account: pwd.struct_passwd) -> list[str]:
    """What makes the program's process the user's, and ends it with judas."""
    ends = ["setpriv", "--pdeathsig", "KILL"]
    if os.geteuid() != 0:
        return [*ends, "--"]
    user = ["--reuid", str(account.pw_uid), "--regid", str(account.pw_gid), "--init-groups", "--inh-caps=-all"]
    return [*ends, *user, "--"]


def _arguments(message: Message) -> list[str]:
    job_id = "" if message.job_id is None else str(message.job_id)
    return [job_id, message.job_name, message.tag, message.comment[:LONGEST_COMMENT]]


def _environment(account: pwd.struct_passwd, message: Message) -> dict[str, str]:
    """As after a login of the user; nothing of the server's own."""
    return {
        "HOME": account.pw_dir,
        "USER": account.pw_name,
        "LOGNAME": account.pw_name,
        "SHELL": account.pw_shell or "/bin/sh",
        "PATH": PATH,
        "OAR_NOTIFICATION_ID": str(message.number),
    }


def _watch(process: subprocess.Popen[bytes], timeout_s: float) -> tuple[str, bool]:
    """What the program wrote, and whether it ended in time; nothing of its process group is left afterwards."""
    assert process.stdout is not None
    pipe = process.stdout.fileno()
    os.set_blocking(pipe, False)
    ending = os.pidfd_open(process.pid)
    deadline = time.monotonic() + timeout_s
    kept = b""
    poller = select.poll()
    poller.register(pipe, select.POLLIN)
    poller.register(ending, select.POLLIN)
    in_time = False
    try:
        while (rest := deadline - time.monotonic()) > 0:
            ready = {descriptor for descriptor, _ in poller.poll(rest * 1000)}
            in_time = ending in ready
            if pipe in ready:
                chunk = _read(pipe)
                kept = (kept + (chunk or b""))[:KEPT_OUTPUT]
                if chunk == b"":
                    poller.unregister(pipe)
            if in_time:
                break
    finally:
        os.close(ending)
        # Before it is waited for: until then nobody else can have its number.
        with suppress(ProcessLookupError, PermissionError):
            os.killpg(process.pid, signal.SIGKILL)
    return kept.decode("utf-8", "replace").strip().replace("\0", "\\0"), in_time


def _read(pipe: int) -> bytes | None:
    """What there is to read; empty at the end, None when there is nothing yet."""
    try:
        return os.read(pipe, 65536)
    except BlockingIOError:
        return None


def _name_of(uid: int) -> str:
    try:
        return pwd.getpwuid(uid).pw_name
    except KeyError:
        return str(uid)
