"""How launches begin."""

import errno
import json
import os
from collections import deque
from contextlib import suppress
from typing import Any, Callable, Deque, Dict, List, Optional, Tuple

from .access import write_access
from .accounts import Account, Accounts
from .children import Children
from .endings import Endings
from .entries import Entry
from .files import SpoolFailed, complain_of, open_progress, trouble, write_file, write_line
from .leases import Leases
from .loop import Loop
from .processes import process
from .programs import Programs
from .protocol import Garbled, Json, Launch, Number, Refusal, key_of
from .running import Running
from .site import Site
from .spawning import spawn
from .spool import Spool
from .variables import search_path, variables
from .wrappers import (
    EAR,
    GATE,
    OPENING_AS_USER,
    PROGRESS,
    WRAPPER_ALONE,
    WRAPPER_AS_USER,
    WRAPPER_IN_GROUP,
    WRAPPER_OF_PART,
    harmless,
)

SPAWNED_AT_ONCE = 16
# The kernel's limit on one argument, less its final zero.
MAX_COMMAND = 131071
# As oarpy.node.terminal has it: the command serves a terminal, whose shell reads what it reads.
TERMINAL = "OAR_TERMINAL"


class Launches:
    """Takes launches in, and starts the wrapper of each when all that comes before is done.

    Owns those that wait for it, and the pipe by which wrappers say that their command begins.  Once that is
    said a launch is the business of ``Running``; one that fails, of ``Endings``.
    """

    def __init__(
        self,
        site: Site,
        spool: Spool,
        loop: Loop,
        children: Children,
        programs: Programs,
        leases: Leases,
        endings: Endings,
        running: Running,
        accounts: Accounts,
    ) -> None:
        self._site = site
        self._spool = spool
        self._loop = loop
        self._children = children
        self._programs = programs
        self._leases = leases
        self._endings = endings
        self._running = running
        self._accounts = accounts
        self._waiting: Deque[Tuple[Entry, Launch]] = deque()
        self._ear, self._ear_for_wrappers = os.pipe2(os.O_CLOEXEC | os.O_NONBLOCK)
        # Wrappers block rather than lose what they say.
        os.set_blocking(self._ear_for_wrappers, True)
        loop.listen(self._ear, self._hear)

    @property
    def waiting(self) -> bool:
        return bool(self._waiting)

    def drop_waiting(self) -> None:
        """What an older session asked for and has not been started will not be."""
        for entry, _ in self._waiting:
            if entry.state == Entry.STARTING:
                self._endings.give_up(entry)
        self._waiting.clear()

    def take(self, launches: List[Json], number: Number) -> None:
        """Decide the fate of each attempt, durably; the wrappers are started by the loop."""
        accepted = []
        # All of them are looked at before one is taken: what is taken must get as far as the disk.
        for key, message in [(key_of(message), message) for message in launches]:
            entry = self._spool.make_entry(*key, number)
            if entry is None:
                continue
            accepted.append(entry)
            try:
                launch = Launch(message)
            except Garbled as error:
                self._endings.fail(entry, Refusal("BAD_HASHTABLE_DUMP", str(error)))
                continue
            self._waiting.append((entry, launch))
            entry.lease_s, entry.lease_from = launch.lease_s, launch.since
            if self._leases.begin(entry):
                # One that was too long on its way is given up here.
                self._running.fence()
        if accepted:
            try:
                self._spool.sync()
            except OSError as error:
                for entry in accepted:
                    entry.trouble = trouble(error)
                    self._endings.give_up(entry)

    def start_some(self) -> None:
        for _ in range(min(SPAWNED_AT_ONCE, len(self._waiting))):
            entry, launch = self._waiting.popleft()
            if entry.state == Entry.STARTING:
                self._try(entry, self._start, launch)

    def _try(self, entry: Entry, step: Callable[..., None], *arguments: Any) -> None:
        """One step of a launch; where it fails, so does the launch."""
        try:
            step(entry, *arguments)
        except Refusal as refusal:
            self._endings.fail(entry, refusal)
        except SpoolFailed as error:
            entry.trouble = str(error)
            if entry.pid is None:
                self._endings.give_up(entry)
            # Else its wrapper stands before a closed gate and will be reaped.
        except Exception as error:  # one launch is no other's business
            complain_of(error)
            self._endings.fail(entry, Refusal("EXIT_VALUE_OAREXEC", "the job cannot be started: %r" % error))

    def _start(self, entry: Entry, launch: Launch) -> None:
        account = self._accounts.find(launch.user)
        if not os.path.isabs(launch.directory):
            raise Refusal("WORKING_DIRECTORY", "the working directory %r is not absolute" % launch.directory)
        if len(launch.command.encode("utf-8", "surrogateescape")) > MAX_COMMAND:
            raise Refusal("USER_SHELL", "the command is longer than %d bytes; put it into a script" % MAX_COMMAND)
        if self._site.root and self._site.setpriv is None:
            raise Refusal("EXIT_VALUE_OAREXEC", "setpriv (util-linux) is missing on this host")
        if self._endings.sweeps(account.uid):
            self._loop.after(0.02, self._waiting.append, (entry, launch))
            return
        entry.user, entry.uid = account.name, account.uid
        entry.sweep = launch.sweep if self._site.root else []
        entry.groups = ",".join(map(str, account.groups))
        entry.directory = launch.directory
        entry.stdout, entry.stderr = launch.stdout, launch.stderr
        entry.walltime_s, entry.grace_s, entry.kill_after_s = launch.walltime_s, launch.grace_s, launch.kill_after_s
        try:
            # A file of its own: prompts take its date for the start of the job.
            with suppress(FileNotFoundError):
                os.unlink(entry.path("nodes"))
            write_file(entry.path("nodes"), launch.nodes, 0o444)
            self._spool.shared.put(entry.path("resources"), launch.resources)
        except OSError as error:
            raise SpoolFailed(trouble(error)) from error
        entry.counted = launch.part or launch.access is not None
        try:
            joins = self._site.containment.prepare(entry, launch.cpus, launch.memory_mib, launch.denied)
        except OSError as error:
            raise Refusal("CPUSET_ERROR", "the job's control group cannot be made: %s" % error) from error
        entry.program_s = launch.program_timeout_s
        entry.joins = joins
        if launch.access is not None:
            write_access(self._site, entry, launch.access, self._variables(entry, launch), account)
        if launch.prologue is None:
            self._go_on(entry, launch, account, joins)
            return
        walltime = [] if launch.walltime_s is None else ["%d" % launch.walltime_s]
        words = [launch.prologue, str(entry.job), entry.user, self._site.path(entry, "nodes"), *walltime]
        try:
            self._programs.run(entry, words, lambda said: self._prologue_ended(entry, launch, account, joins, said))
        except (OSError, ValueError) as error:
            raise Refusal("PROLOGUE_ERROR", "the prologue cannot be run: %s" % error) from error

    def _prologue_ended(
        self, entry: Entry, launch: Launch, account: Account, joins: List[str], said: Optional[str]
    ) -> None:
        if entry.state != Entry.STARTING:
            return
        if entry.cause is not None:
            self._endings.give_up(entry)
        elif said is not None:
            self._endings.fail(entry, Refusal("PROLOGUE_ERROR", "the prologue " + said))
        else:
            self._try(entry, self._go_on, launch, account, joins)

    def _go_on(self, entry: Entry, launch: Launch, account: Account, joins: List[str]) -> None:
        """What was to come before is done: start the wrapper."""
        entry.epilogue = launch.epilogue
        try:
            self._spawn(entry, launch, account, joins)
        except (OSError, ValueError) as error:
            if isinstance(error, OSError) and error.errno == errno.E2BIG:
                raise Refusal("USER_SHELL", "command and environment are too long for this host") from error
            raise Refusal("EXIT_VALUE_OAREXEC", "the job cannot be started: %s" % error) from error

    def _spawn(self, entry: Entry, launch: Launch, account: Account, joins: List[str]) -> None:
        """Start the wrapper and let it through; nothing of the job runs unless its record is written."""
        environment = dict(account.environment, PATH=search_path(self._site, account))
        # Not root's: what its start files do is not for every job.
        if account.uid != 0 and TERMINAL not in launch.environment:
            environment["BASH_ENV"] = os.path.join(self._site.directory, "bashrc")
        late = []
        for name, value in sorted(self._variables(entry, launch).items()):
            if name in account.environment or not harmless(name):
                late.append("%s=%s" % (name, value))
            else:
                environment[name] = value
        what = [account.shell, "-c", launch.command]
        if late:
            what = ["/usr/bin/env", *late, *what]
        mode = "append" if launch.append else "truncate"
        wrapper = WRAPPER_IN_GROUP if joins else WRAPPER_ALONE
        arguments = [
            "/bin/sh",
            "-c",
            WRAPPER_AS_USER if self._site.root else wrapper,
            "oarexec",
            entry.name,
            " ".join(joins),
            " ".join(self._site.shell_as(entry)) if self._site.root else "",
            OPENING_AS_USER if self._site.root else "",
        ]
        arguments += [
            launch.directory,
            launch.stdout,
            launch.stderr,
            mode,
            "%04o" % launch.umask,
        ]
        arguments += [account.shell, *what]
        if launch.part:
            arguments = ["/bin/sh", "-c", WRAPPER_OF_PART, "oarexec", entry.name]
        closed_at_end = []
        try:
            progress = self._open_progress(entry)
            closed_at_end.append(progress)
            gate, key = os.pipe2(os.O_CLOEXEC)
            closed_at_end += [gate, key]
            entry.pid = spawn(arguments, environment, {GATE: gate, EAR: self._ear_for_wrappers, PROGRESS: progress})
            self._children.expect(entry.pid, self._reaped(entry))
            started = process(entry.pid)
            if started is None:
                raise OSError(errno.ECHILD, "the wrapper vanished")
            entry.start = started.start
            entry.boot_id = self._site.boot_id
            self._site.containment.pin(entry.pid, launch.cpus)
            try:
                write_line(progress, "launch " + json.dumps(entry.record()))
            except OSError as error:
                raise SpoolFailed(trouble(error)) from error
            if entry.lease_s is None:
                os.write(key, b"\n")
            else:
                self._leases.tell(entry)
                os.write(key, b"%d\n" % (self._leases.ends_at(entry) + self._site.offset))
        finally:
            for fd in closed_at_end:
                os.close(fd)

    def _variables(self, entry: Entry, launch: Launch) -> Dict[str, str]:
        has_access = launch.access is not None
        return variables(self._site, entry, launch.environment, launch.visible, access=has_access)

    def _reaped(self, entry: Entry) -> Callable[[int, float], None]:
        return lambda status, used_s: self._endings.wrapper_gone(entry, used_s, status)

    def _open_progress(self, entry: Entry) -> int:
        try:
            return open_progress(entry.path("progress"))
        except OSError as error:
            raise SpoolFailed(trouble(error)) from error

    def _hear(self) -> None:
        """Wrappers say that their command begins."""
        try:
            text = os.read(self._ear, 65536).decode()
        except BlockingIOError:
            return
        # A read never splits a wrapper's line: pipes keep writes this short whole, and 64 KiB is all a pipe holds.
        for line in text.splitlines():
            name, _, at = line.partition(" ")
            job, _, attempt = name.partition(".")
            entry = self._spool.entries.get((int(job), int(attempt)))
            if entry is not None and entry.state == Entry.STARTING:
                self._running.begun(entry, float(at) - self._site.offset)
