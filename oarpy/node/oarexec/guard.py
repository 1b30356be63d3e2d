"""The guard.

A **prologue** runs when the containment is made, before the wrapper, an **epilogue** when the
containment is empty and gone, before the end is reported; both as oarexec's own account, outside of
the containment.  A guard that died lets the next one begin the epilogue anew; a prologue that had
not ended belongs to a launch that never began.
"""

import errno
import fcntl
import heapq
import json
import os
import select
import signal
import socket
import struct
import time
from collections import deque
from contextlib import suppress
from typing import Any, Callable, Deque, Dict, List, Optional, Set, Tuple

from .accounts import Account, Accounts
from .cgroups import cgroup_mounts, leave_service_cgroup, leave_service_priority
from .containment import find_containment
from .doctor import diagnosis
from .entries import ENTRY, Entry, Progress, duration, wait_status
from .files import (
    NAME_MAX,
    SharedFiles,
    SpoolFailed,
    append_line,
    complain,
    complain_of,
    let_read,
    open_progress,
    overwrite_durably,
    parsed,
    read_text,
    remove_tree,
    renew,
    shortened,
    sync_directory,
    trouble,
    write_durably,
    write_file,
    write_line,
)
from .host import boot_id, clock, find_program, memory_mib, uptime_offset
from .oarsh import CALL_LENGTH, CALL_S, MOST_CALLS, PROGRAM, listen_anywhere, python_of_users, sshd_config
from .processes import MARK, children, kill_group, marked, process, processes, send_signal, signal_all
from .protocol import (
    CAUSES,
    MAX_TEXT,
    PROOF,
    PROTOCOL,
    Access,
    Garbled,
    Json,
    Key,
    Launch,
    Link,
    Number,
    Refusal,
    check_environment,
    expect,
    key_of,
    number_of,
    span_of,
)
from .spawning import become_subreaper, myself, spawn
from .sweeps import IPC, ipc_of
from .watch import LEASE_LOOK_S, WATCH_LATER_S
from .wrappers import (
    BASHRC,
    EAR,
    ENTERING,
    GATE,
    NOTE,
    OPENING_AS_USER,
    PROGRESS,
    STAYING,
    WRAPPER_ALONE,
    WRAPPER_AS_USER,
    WRAPPER_IN_GROUP,
    WRAPPER_OF_PART,
    chroot_as,
    harmless,
    make_hidden_shell,
)

# The kernel's limit on one argument, less its final zero.
MAX_COMMAND = 131071
# As oarpy.node.terminal has it: the command serves a terminal, whose shell reads what it reads.
TERMINAL = "OAR_TERMINAL"
SPAWNED_AT_ONCE = 16
# Making and removing files is what a launch costs most on some file systems.
KEPT_FREE = 1000
# For programs of the administrator's.
ADMIN_PATH = "/usr/local/sbin:/usr/local/bin:/usr/sbin:/usr/bin:/sbin:/bin"
IDLE_S = 5.0
# The loop comes round so often whatever it waits for: epoll refuses to wait for 25 days, which walltimes may be.
LOOP_S = 60.0
WATCH_S = 1.0
FREEZE_S = 10.0
NOTE_S = 2.0
RETRY_S = 2.0
# What a wrapper may take from its word that the command begins to executing it.
FORK_S = 1.0
# How programs are told which GPUs to use where nothing keeps them from the others.
VISIBLE = ("CUDA_VISIBLE_DEVICES", "ROCR_VISIBLE_DEVICES")


class Guard:
    """Starts jobs, waits for them, and makes sure that nothing of them is left.

    One thread, one loop; nothing in it waits for a user's file or process.
    """

    def __init__(self, spool: str, instance: str, min_uid: Optional[int]) -> None:
        self.instance = instance
        self.spool = spool
        self.options = [] if min_uid is None else ["--min-uid", str(min_uid)]
        self.directory = os.path.join(spool, instance)
        self.root = os.geteuid() == 0
        self.boot_id = boot_id()
        self.offset = uptime_offset()
        self.accounts = Accounts(min_uid)
        self.setpriv = find_program("setpriv")
        self.containment, self.weakness = find_containment(instance)
        self.entries: Dict[Key, Entry] = {}
        self.wrappers: Dict[int, Entry] = {}
        self.notes: Dict[int, Entry] = {}
        # What waits for each running prologue or epilogue, given its status.
        self.programs: Dict[int, Callable[[int], None]] = {}
        # What came into jobs by oarsh, until it is gone.
        self.visitors: Dict[int, Entry] = {}
        # The users of whom something is being removed.
        self.sweeping: Set[int] = set()
        self.watched: Dict[int, Entry] = {}
        self.strays: Dict[int, Optional[Key]] = {}
        self.free = os.listdir(os.path.join(self.directory, "free"))
        self.shared = SharedFiles("shared")
        self.waiting: Deque[Tuple[Entry, Launch]] = deque()
        self.changed: Dict[Key, Entry] = {}
        self.gone: List[Entry] = []
        self.timers: List[Tuple[float, int, Any, Tuple[Any, ...]]] = []
        self.timers_made = 0
        self.answers: List[Json] = []
        self.links: Dict[int, Link] = {}
        self.port: Optional[int] = None
        self.port_listener: Optional[socket.socket] = None
        # Connections to the port that have not said yet to which job they want, with what they said.
        self.calls: Dict[int, Tuple[socket.socket, bytearray]] = {}
        self.current: Optional[Link] = None
        self.number: Number = (0, 0)
        # The last clock of ours that the server told back, and what becomes a guard when this one dies.
        self.lease_since = 0.0
        self.leased: Dict[Key, Entry] = {}
        self.watch: Optional[int] = None
        self.to_watch: Optional[int] = None
        self.unsaid = bytearray()
        self.idle_since = clock()

    def run(self) -> None:
        """Serve until there is neither a link nor a live entry."""
        self._open()
        self._take_over()
        print("ready", flush=True)
        # The session that started us waits for the end of this pipe.
        null = os.open("/dev/null", os.O_RDWR)
        os.dup2(null, 1)
        os.close(null)
        while not (self._idle() and self._leaves()):
            ready = self.poll.poll(self._patience())
            # Before all else: this process, or the machine, may have stood still for hours.
            self._fence()
            for fd, _ in ready:
                self._serve(fd)
            self._fire_timers()
            self._start_waiting()
            self._settle_gone()
            self._flush()
        if self.watch is not None:
            send_signal(self.watch, signal.SIGKILL)
        self.containment.close()

    def _open(self) -> None:
        # Descriptors below 10 are a wrapper's own; these keep them from being given to anything else.
        while os.dup(2) < 9:
            pass
        os.chdir(self.directory)
        self.chroot = make_hidden_shell() if self.root else None
        try:
            renew("bashrc", BASHRC, 0o644)
        except OSError as error:
            complain("what bash reads before jobs: %s" % trouble(error))
        self.shared.clear()
        self.spool_id = (read_text("spool_id") or "").strip()
        if not self.spool_id:
            self.spool_id = os.urandom(16).hex()
            write_durably(".", "spool_id", self.spool_id + "\n")
        words = (read_text("session") or "0 0").split()
        self.number = (int(words[0]), int(words[1]))
        told = (read_text("lease") or "").split()
        if told[:1] == [self.boot_id] and len(told) == 2:
            with suppress(ValueError):
                self.lease_since = min(clock(), duration(told[1]))
        # That of an earlier boot stays there until a session is greeted, which is after all entries were looked at.
        self.rebooted = words[2:] not in ([], [self.boot_id])
        self.poll = select.epoll()
        self.ear, self.ear_for_wrappers = os.pipe2(os.O_CLOEXEC | os.O_NONBLOCK)
        # Wrappers block rather than lose what they say.
        os.set_blocking(self.ear_for_wrappers, True)
        self.wakeup, alarm = os.pipe2(os.O_CLOEXEC | os.O_NONBLOCK)
        signal.set_wakeup_fd(alarm)
        signal.signal(signal.SIGCHLD, lambda number, frame: None)
        signal.signal(signal.SIGHUP, signal.SIG_IGN)
        self.subreaper = become_subreaper()
        self.listener = socket.socket(socket.AF_UNIX, socket.SOCK_STREAM)
        with suppress(FileNotFoundError):
            os.unlink("guard.sock")
        # A relative name: the spool's own path may be longer than a socket's may be.
        self.listener.bind("guard.sock")
        os.chmod("guard.sock", 0o600)
        self.listener.listen(16)
        self.listener.setblocking(False)
        for fd in (self.ear, self.wakeup, self.listener.fileno()):
            self.poll.register(fd, select.EPOLLIN)

    def _idle(self) -> bool:
        if self.links or not all(entry.over for entry in self.entries.values()):
            self.idle_since = clock()
        return clock() - self.idle_since > IDLE_S

    def _leaves(self) -> bool:
        """Take the door away, for good unless somebody has just come in."""
        try:
            os.rename("guard.sock", "guard.sock.old")
        except OSError:
            # The whole spool is gone, or closed to writing.
            return True
        # Who comes from now on finds nobody and starts another guard.
        while self._accept():
            pass
        if self.links:
            os.rename("guard.sock.old", "guard.sock")
            return False
        os.unlink("guard.sock.old")
        return True

    def _patience(self) -> float:
        if self.waiting or self.gone:
            return 0.0
        until = min(self.timers[0][0] - clock(), LOOP_S) if self.timers else LOOP_S
        if not self.links:
            until = min(until, IDLE_S)
        if self.leased:
            # The kernel's timers stand still while a machine sleeps, leases do not.
            ends = [entry.lease_ends_at(self.lease_since) for entry in self.leased.values() if not entry.fenced]
            until = min([until, LEASE_LOOK_S, *(end - clock() for end in ends)])
        return max(0.0, until)

    def _serve(self, fd: int) -> None:
        if fd == self.ear:
            self._hear()
        elif fd == self.wakeup:
            self._reap()
        elif fd == self.listener.fileno():
            self._accept()
        elif self.port_listener is not None and fd == self.port_listener.fileno():
            self._take_call()
        elif fd in self.calls:
            self._hear_call(fd)
        elif fd in self.watched:
            self._inherited_ended(self.watched[fd])
        elif fd in self.links:
            self._receive(self.links[fd])
        elif fd == self.to_watch:
            self._send_to_watch()

    def _at(self, when: float, act: Any, *arguments: Any) -> None:
        self.timers_made += 1
        heapq.heappush(self.timers, (when, self.timers_made, act, arguments))

    def _after(self, seconds: float, act: Any, *arguments: Any) -> None:
        self._at(clock() + seconds, act, *arguments)

    def _fire_timers(self) -> None:
        while self.timers and self.timers[0][0] <= clock():
            _, _, act, arguments = heapq.heappop(self.timers)
            act(*arguments)

    # The entries that another guard left.

    def _take_over(self) -> None:
        for name in os.listdir("jobs"):
            match = ENTRY.match(name)
            if match is None:
                continue
            entry = Entry(int(match.group(1)), int(match.group(2)), self.number)
            self.entries[entry.key] = entry
            self._find_out(entry)
        self._settle_gone()

    def _find_out(self, entry: Entry) -> None:
        """What became of an entry, from what stands in its directory and in /proc."""
        progress = Progress(read_text(entry.path("progress")) or "")
        record = parsed(progress.launch)
        if record is not None and (record.get("job"), record.get("attempt")) != entry.key:
            # Left from the entry that this directory was before.
            record, progress = None, Progress("")
        if record is not None:
            entry.recall(record)
        if progress.walltime_s is not None:
            entry.walltime_s = progress.walltime_s
        if progress.proof is not None:
            entry.proof = progress.proof
        entry.began_at = None if progress.began_at is None else progress.began_at - self.offset
        entry.cause = progress.cause
        entry.suspended_s = progress.suspended_s
        entry.suspended_at = None if progress.suspended_at is None else progress.suspended_at - self.offset
        if read_text(entry.path("refused")) is not None:
            entry.state = Entry.REFUSED
        elif progress.end is not None and not self._lives(entry):
            entry.state = Entry.ENDED
            entry.end = progress.end
        elif record is None and self.rebooted:
            # A power cut loses what was written last: that the command began, perhaps.
            self._begin_progress(entry)
            self._record_outcome(entry, progress, "node_rebooted")
            self._conclude(entry)
        elif record is None:
            # Never let through its gate, which closed with the guard that held it.
            self._give_up(entry)
        elif entry.boot_id != self.boot_id:
            entry.cgroup = False
            self._record_outcome(entry, progress, "node_rebooted")
            self._conclude(entry)
        elif entry.wrapper_lives():
            entry.inherited = True
            if entry.began_at is not None:
                self._begun(entry, entry.began_at)
            if entry.cause is not None:
                # The other guard's patience ended with it.
                self._after(entry.kill_after_s, self._kill_hard, entry, 0.05)
            self._watch(entry)
            self._begin_lease(entry)
        else:
            entry.inherited = True
            self._wrapper_gone(entry, None)

    def _lives(self, entry: Entry) -> bool:
        """Whether anything of an entry still runs, whatever its lines say of an end."""
        if entry.boot_id != self.boot_id:
            return False
        return entry.wrapper_lives() or bool(self.containment.members(entry))

    def _watch(self, entry: Entry) -> None:
        if hasattr(os, "pidfd_open") and entry.pid is not None:
            # Gone this instant, or a kernel before 5.3: looked at by the timer.
            with suppress(OSError):
                entry.pidfd = os.pidfd_open(entry.pid)
        if entry.pidfd is not None:
            self.watched[entry.pidfd] = entry
            self.poll.register(entry.pidfd, select.EPOLLIN)
        self._look_at(entry)

    def _look_at(self, entry: Entry) -> None:
        """Besides the pidfd: it tells of the end, nothing tells of the beginning."""
        if entry.state not in (Entry.STARTING, Entry.BEGUN):
            return
        if not entry.wrapper_lives():
            self._inherited_ended(entry)
            return
        if entry.state == Entry.STARTING:
            progress = Progress(read_text(entry.path("progress")) or "")
            if progress.began_at is not None:
                self._begun(entry, progress.began_at - self.offset)
        if entry.pidfd is None or entry.state == Entry.STARTING:
            self._after(WATCH_S, self._look_at, entry)

    def _inherited_ended(self, entry: Entry) -> None:
        if entry.pidfd is not None:
            self.poll.unregister(entry.pidfd)
            os.close(entry.pidfd)
            del self.watched[entry.pidfd]
            entry.pidfd = None
        if entry.state in (Entry.STARTING, Entry.BEGUN):
            self._wrapper_gone(entry, None)

    # Starting.

    def _launch(self, launches: List[Json], number: Number) -> None:
        """Decide the fate of each attempt, durably; the wrappers are started by the loop."""
        accepted = []
        # All of them are looked at before one is taken: what is taken must get as far as the disk.
        for key, message in [(key_of(message), message) for message in launches]:
            entry = self._make_entry(*key, number)
            if entry is None:
                continue
            accepted.append(entry)
            try:
                launch = Launch(message)
            except Garbled as error:
                self._fail(entry, Refusal("BAD_HASHTABLE_DUMP", str(error)))
                continue
            self.waiting.append((entry, launch))
            entry.lease_s, entry.lease_from = launch.lease_s, launch.since
            # One that was too long on its way is given up here.
            self._begin_lease(entry)
        if accepted:
            try:
                sync_directory("jobs")
            except OSError as error:
                for entry in accepted:
                    entry.trouble = trouble(error)
                    self._give_up(entry)

    def _make_entry(self, job: int, attempt: int, number: Number) -> Optional[Entry]:
        """The entry, new; None when the attempt has one already, or can have none, which is reported."""
        known = self.entries.get((job, attempt))
        if known is not None:
            self.changed[known.key] = known
            return None
        entry = Entry(job, attempt, number)
        self.entries[entry.key] = entry
        try:
            if self.free:
                os.rename("free/" + self.free.pop(), "jobs/" + entry.name)
            else:
                os.mkdir("jobs/" + entry.name, 0o711 if self.root else 0o700)
        except OSError as error:
            entry.trouble = trouble(error)
            entry.state = Entry.REFUSED
            self.changed[entry.key] = entry
            return None
        return entry

    def _start_waiting(self) -> None:
        for _ in range(min(SPAWNED_AT_ONCE, len(self.waiting))):
            entry, launch = self.waiting.popleft()
            if entry.state == Entry.STARTING:
                self._try(entry, self._start, launch)

    def _try(self, entry: Entry, step: Callable[..., None], *arguments: Any) -> None:
        """One step of a launch; where it fails, so does the launch."""
        try:
            step(entry, *arguments)
        except Refusal as refusal:
            self._fail(entry, refusal)
        except SpoolFailed as error:
            entry.trouble = str(error)
            if entry.pid is None:
                self._give_up(entry)
            # Else its wrapper stands before a closed gate and will be reaped.
        except Exception as error:  # one launch is no other's business
            complain_of(error)
            self._fail(entry, Refusal("EXIT_VALUE_OAREXEC", "the job cannot be started: %r" % error))

    def _start(self, entry: Entry, launch: Launch) -> None:
        account = self.accounts.find(launch.user)
        if not os.path.isabs(launch.directory):
            raise Refusal("WORKING_DIRECTORY", "the working directory %r is not absolute" % launch.directory)
        if len(launch.command.encode("utf-8", "surrogateescape")) > MAX_COMMAND:
            raise Refusal("USER_SHELL", "the command is longer than %d bytes; put it into a script" % MAX_COMMAND)
        if self.root and self.setpriv is None:
            raise Refusal("EXIT_VALUE_OAREXEC", "setpriv (util-linux) is missing on this host")
        if account.uid in self.sweeping:
            # What begins now would be taken for something that is left.
            self._after(0.02, self.waiting.append, (entry, launch))
            return
        entry.user, entry.uid = account.name, account.uid
        entry.sweep = launch.sweep if self.root else []
        entry.groups = ",".join(map(str, account.groups))
        entry.directory = launch.directory
        entry.stdout, entry.stderr = launch.stdout, launch.stderr
        entry.walltime_s, entry.grace_s, entry.kill_after_s = launch.walltime_s, launch.grace_s, launch.kill_after_s
        try:
            # A file of its own: prompts take its date for the start of the job.
            with suppress(FileNotFoundError):
                os.unlink(entry.path("nodes"))
            write_file(entry.path("nodes"), launch.nodes, 0o444)
            self.shared.put(entry.path("resources"), launch.resources)
        except OSError as error:
            raise SpoolFailed(trouble(error)) from error
        entry.counted = launch.part or launch.access is not None
        try:
            joins = self.containment.prepare(entry, launch.cpus, launch.memory_mib, launch.denied)
        except OSError as error:
            raise Refusal("CPUSET_ERROR", "the job's control group cannot be made: %s" % error) from error
        entry.program_s = launch.program_timeout_s
        entry.joins = joins
        if launch.access is not None:
            self._write_access(entry, launch.access, self._environment(entry, launch), account)
        if launch.prologue is None:
            self._go_on(entry, launch, account, joins)
            return
        walltime = [] if launch.walltime_s is None else ["%d" % launch.walltime_s]
        words = [launch.prologue, str(entry.job), entry.user, self._node_file(entry), *walltime]
        try:
            self._run_program(entry, words, lambda said: self._prologue_ended(entry, launch, account, joins, said))
        except (OSError, ValueError) as error:
            raise Refusal("PROLOGUE_ERROR", "the prologue cannot be run: %s" % error) from error

    def _prologue_ended(
        self, entry: Entry, launch: Launch, account: "Account", joins: List[str], said: Optional[str]
    ) -> None:
        if entry.state != Entry.STARTING:
            return
        if entry.cause is not None:
            self._give_up(entry)
        elif said is not None:
            self._fail(entry, Refusal("PROLOGUE_ERROR", "the prologue " + said))
        else:
            self._try(entry, self._go_on, launch, account, joins)

    def _go_on(self, entry: Entry, launch: Launch, account: "Account", joins: List[str]) -> None:
        """What was to come before is done: start the wrapper."""
        entry.epilogue = launch.epilogue
        try:
            self._spawn(entry, launch, account, joins)
        except (OSError, ValueError) as error:
            if isinstance(error, OSError) and error.errno == errno.E2BIG:
                raise Refusal("USER_SHELL", "command and environment are too long for this host") from error
            raise Refusal("EXIT_VALUE_OAREXEC", "the job cannot be started: %s" % error) from error

    def _run_program(self, entry: Entry, words: List[str], ended: Callable[[Optional[str]], None]) -> None:
        """Start a program of the administrator's; ``ended`` is told what it did wrong, None when nothing."""
        environment = {"PATH": ADMIN_PATH, "OAR_JOB_ID": str(entry.job), "OAR_NODEFILE": self._node_file(entry)}
        late: List[str] = []

        def reaped(status: int) -> None:
            entry.program_pid = None
            if late:
                ended("took more than %g s" % entry.program_s)
            elif status == 0:
                ended(None)
            elif os.WIFSIGNALED(status):
                ended("was killed by signal %d" % os.WTERMSIG(status))
            else:
                ended("ended with %d" % os.WEXITSTATUS(status))

        def stop() -> None:
            if self.programs.get(pid) is reaped:
                late.append("late")
                kill_group(pid)

        pid = spawn(words, environment, {})
        entry.program_pid = pid
        self.programs[pid] = reaped
        self._after(entry.program_s, stop)

    def _node_file(self, entry: Entry) -> str:
        return os.path.join(self.directory, entry.path("nodes"))

    def _begin_epilogue(self, entry: Entry) -> None:
        """Run what follows the job; it is concluded afterwards."""

        def ended(said: Optional[str]) -> None:
            entry.epilogue = None
            if said is not None:
                complain("job %s: the epilogue %s" % (entry.name, said))
                # Of what failed before, or never began, there is something else to tell.
                if entry.outcome.get("ran") is not False and "event" not in entry.outcome:
                    entry.outcome["event"], entry.outcome["text"] = "EPILOGUE_ERROR", "the epilogue " + said
            self.gone.append(entry)

        try:
            words = [entry.epilogue or "", str(entry.job), entry.user, self._node_file(entry)]
            self._run_program(entry, words, ended)
        except (OSError, ValueError) as error:
            ended("cannot be run: %s" % error)

    def _spawn(self, entry: Entry, launch: Launch, account: Account, joins: List[str]) -> None:
        """Start the wrapper and let it through; nothing of the job runs unless its record is written."""
        environment = dict(account.environment, PATH=self._path(account))
        # Not root's: what its start files do is not for every job.
        if account.uid != 0 and TERMINAL not in launch.environment:
            environment["BASH_ENV"] = os.path.join(self.directory, "bashrc")
        late = []
        for name, value in sorted(self._environment(entry, launch).items()):
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
            WRAPPER_AS_USER if self.root else wrapper,
            "oarexec",
            entry.name,
            " ".join(joins),
            " ".join(self._shell_as(entry)) if self.root else "",
            OPENING_AS_USER if self.root else "",
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
            entry.pid = spawn(arguments, environment, {GATE: gate, EAR: self.ear_for_wrappers, PROGRESS: progress})
            self.wrappers[entry.pid] = entry
            started = process(entry.pid)
            if started is None:
                raise OSError(errno.ECHILD, "the wrapper vanished")
            entry.start = started.start
            entry.boot_id = self.boot_id
            self.containment.pin(entry.pid, launch.cpus)
            try:
                write_line(progress, "launch " + json.dumps(entry.record()))
            except OSError as error:
                raise SpoolFailed(trouble(error)) from error
            if entry.lease_s is None:
                os.write(key, b"\n")
            else:
                self._say_to_watch({"lease": entry.lease()})
                os.write(key, b"%d\n" % (entry.lease_ends_at(self.lease_since) + self.offset))
        finally:
            for fd in closed_at_end:
                os.close(fd)

    def _changing_to(self, entry: Entry) -> List[str]:
        """The words in front of a command that root runs as the user of an entry."""
        # Groups are numbers: setpriv --init-groups would ask the name service for each job.
        who = ["--reuid", str(entry.uid), "--regid", entry.groups.partition(",")[0], "--groups", entry.groups]
        return [str(self.setpriv), *who, "--"]

    def _shell_as(self, entry: Entry) -> List[str]:
        """The same with a shell that the user gets no hold of, where there is one."""
        if self.chroot is None:
            return [*self._changing_to(entry), "/bin/sh"]
        return [self.chroot, *chroot_as(entry.uid, entry.groups), "./sh"]

    def _open_progress(self, entry: Entry) -> int:
        try:
            return open_progress(entry.path("progress"))
        except OSError as error:
            raise SpoolFailed(trouble(error)) from error

    def _begin_progress(self, entry: Entry) -> None:
        """Let the lines of an entry of which nothing is known begin as those of a launch do."""
        try:
            fd = open_progress(entry.path("progress"))
            try:
                write_line(fd, "launch " + json.dumps(entry.record()))
            finally:
                os.close(fd)
        except OSError as error:
            complain("job %s: %s" % (entry.name, trouble(error)))

    def _append(self, entry: Entry, line: str) -> bool:
        """Add a line to the progress; False when it cannot be written, so that only this guard knows."""
        try:
            append_line(entry.path("progress"), line)
        except OSError as error:
            complain("job %s: %s" % (entry.name, trouble(error)))
            return False
        return True

    def _environment(self, entry: Entry, launch: Launch) -> Dict[str, str]:
        return self._variables(entry, launch.environment, launch.visible, launch.access is not None)

    def _variables(self, entry: Entry, given: Json, visible: Optional[str], has_access: bool) -> Dict[str, str]:
        """What a job is given, and what names what is made for it here."""
        found = dict(given)
        nodes = self._node_file(entry)
        for name in ("OAR_NODEFILE", "OAR_NODE_FILE", "OAR_FILE_NODES", "OAR_RESOURCE_FILE"):
            found[name] = nodes
        found["OAR_RESOURCE_PROPERTIES_FILE"] = os.path.join(self.directory, entry.path("resources"))
        found[MARK] = self.containment.mark(entry)
        # Where the others are denied the job's own are all there is, and the libraries count them from 0.
        if visible is not None and "devices" not in self.containment.enforces:
            found.update(dict.fromkeys(VISIBLE, visible))
        if has_access:
            found["OARSH_ACCESS"] = self._access_file(entry, "access")
            found["OAR_JOB_KEY_FILE"] = self._access_file(entry, "key")
        return found

    def _path(self, account: "Account") -> str:
        return "%s:%s" % (os.path.join(self.directory, "bin"), account.environment["PATH"])

    def _access_file(self, entry: Entry, name: str) -> str:
        return os.path.join(self.directory, entry.path("oarsh"), name)

    # oarsh.

    def _write_access(self, entry: Entry, access: "Access", environment: Dict[str, str], account: "Account") -> None:
        """Make what oarsh and its sshd read, for the job's user alone."""
        variables = dict(environment, PATH=self._path(account))
        said = {"name": entry.name, "user": account.name, "hosts": access.hosts, "public": access.public}
        files = {
            "key": access.private,
            "authorized_keys": "".join(key + "\n" for key in [access.public, *access.authorized]),
            "known_hosts": "oarpy %s\n" % access.public,
            "access": json.dumps(said),
            "sshd_config": sshd_config(self._access_file(entry, ""), variables),
        }
        try:
            with suppress(FileExistsError):
                os.mkdir(entry.path("oarsh"), 0o711 if self.root else 0o700)
            entry.proof = access.proof
            for name, text in files.items():
                path = self._access_file(entry, name)
                renew(path, text, 0o600)
                if self.root:
                    let_read(path, account.uid)
        except OSError as error:
            raise SpoolFailed(trouble(error)) from error

    def _let_in(self, entry: Entry, order: Json) -> Tuple[bool, str]:
        """Let oarsh come to a job that was launched without; whether that is done, and why not."""
        access = Access(expect(order, "access", dict))
        environment = expect(order, "environment", dict)
        check_environment(environment)
        if not PROOF.match(access.proof):
            raise Garbled("proof is %r" % access.proof)
        if entry.cgroup and not entry.joins:
            return False, "an older oarexec launched the job, and left no word how to enter its control group"
        variables = self._variables(entry, environment, expect(order, "visible", str, None), True)
        try:
            account = self.accounts.find(entry.user)
            # First of all, so that whatever guard sees the job's end removes what is made now.
            if entry.proof != access.proof and not self._append(entry, "access " + access.proof):
                return False, "the spool cannot be written"
            self._write_access(entry, access, variables, account)
        except Refusal as refusal:
            return False, refusal.text[:MAX_TEXT]
        except SpoolFailed as error:
            return False, str(error)
        return True, ""

    def _drop_access(self, entry: Entry) -> None:
        if entry.proof is None:
            return
        entry.proof = None
        try:
            remove_tree(entry.path("oarsh"))
        except FileNotFoundError:
            # Another guard had begun to end it, or to let oarsh in.
            pass
        except OSError as error:
            complain("job %s: %s" % (entry.name, trouble(error)))

    def _take_programs(self, programs: Json) -> None:
        """Put the programs of jobs where they find them."""
        for name, text in programs.items():
            if not PROGRAM.match(name) or not isinstance(text, str):
                raise Garbled("programs hold %r" % name)
            path = "bin/" + name
            text = "#!%s -IS\n%s" % (python_of_users(), text)
            try:
                renew(path, text, 0o755)
            except OSError as error:
                complain("the programs of jobs: %s" % trouble(error))

    def _open_port(self, span: Optional[Tuple[int, int]]) -> None:
        """Listen for oarsh, where the guard before this one did if that can be."""
        before = (read_text("port") or "").strip()
        wanted = int(before) if before.isdigit() else 0
        if span is not None and not span[0] <= wanted <= span[1] and not self._is_known_to_jobs():
            wanted = span[0]
            self._close_port()
        if self.port_listener is not None:
            return
        try:
            listener = listen_anywhere([wanted, *([0] if span is None else range(span[0], span[1] + 1))])
        except OSError as error:
            complain("oarsh: no port can be opened: %s" % error)
            return
        listener.setblocking(False)
        self.port_listener, self.port = listener, listener.getsockname()[1]
        self.poll.register(listener.fileno(), select.EPOLLIN)
        try:
            write_file("port", "%d\n" % self.port)
        except OSError as error:
            complain("oarsh: %s" % trouble(error))

    def _is_known_to_jobs(self) -> bool:
        """Whether jobs have been told where oarsh is taken in."""
        return any(entry.proof is not None and not entry.over for entry in self.entries.values())

    def _close_port(self) -> None:
        if self.port_listener is not None:
            self.poll.unregister(self.port_listener.fileno())
            self.port_listener.close()
            self.port_listener = self.port = None

    def _take_call(self) -> None:
        try:
            assert self.port_listener is not None
            sock, _ = self.port_listener.accept()
        except OSError:
            return
        sock.setblocking(False)
        if len(self.calls) >= MOST_CALLS:
            # Whoever means it says so at once: those who have waited longest say nothing.
            oldest = next(iter(self.calls))
            self._end_call(oldest, self.calls[oldest][0])
        self.calls[sock.fileno()] = (sock, bytearray())
        self.poll.register(sock.fileno(), select.EPOLLIN)
        self._after(CALL_S, self._end_call, sock.fileno(), sock)

    def _end_call(self, fd: int, sock: socket.socket) -> None:
        if fd in self.calls and self.calls[fd][0] is sock:
            del self.calls[fd]
            self.poll.unregister(fd)
            sock.close()

    def _hear_call(self, fd: int) -> None:
        sock, said = self.calls[fd]
        try:
            part = sock.recv(CALL_LENGTH)
        except BlockingIOError:
            return
        except OSError:
            part = b""
        said += part
        if part and not said.endswith(b"\n") and len(said) < CALL_LENGTH:
            return
        # Taken out before it is closed: its number may be another's at once.
        del self.calls[fd]
        self.poll.unregister(fd)
        with sock:
            if part:
                refusal = self._admit(sock, said.decode("ascii", "replace").split())
                if refusal is not None:
                    with suppress(OSError):
                        sock.send((refusal + "\n").encode())

    def _admit(self, sock: socket.socket, words: List[str]) -> Optional[str]:
        """Let an sshd of the job go on with a connection; why not, where not."""
        match = ENTRY.match(words[1]) if len(words) == 3 and words[0] == "oarsh" else None
        entry = None if match is None else self.entries.get((int(match.group(1)), int(match.group(2))))
        if entry is None or entry.proof is None or entry.proof != words[2]:
            return "no job of yours that oarsh can come to is here"
        if entry.state != Entry.BEGUN:
            return "the job does not run"
        if entry.suspended_at is not None:
            # What enters stands still before it is the user's, whose limits are not root's.
            return "the job is suspended"
        sshd = find_program("sshd")
        if sshd is None:
            return "this host has no sshd"
        arguments = ["/bin/sh", "-c", ENTERING, "oarexec", " ".join(entry.joins)]
        if self.root:
            arguments += self._changing_to(entry)
        arguments += [sshd, "-i", "-f", self._access_file(entry, "sshd_config")]
        environment = {"PATH": "/usr/bin:/bin", MARK: self.containment.mark(entry)}
        try:
            sock.setblocking(True)
            sock.sendall(b"go\n")
            pid = spawn(arguments, environment, {0: sock.fileno(), 1: sock.fileno()})
            self.containment.pin_like_wrapper(pid, entry)
            self.visitors[pid] = entry
            entry.visitors.add(pid)
        except OSError as error:
            return "sshd cannot be started: %s" % error
        return None

    def _fail(self, entry: Entry, refusal: Refusal) -> None:
        """The launch failed before its command began, for a reason that ends the job."""
        entry.outcome = {
            "ran": False,
            "status": None,
            "cause": "prologue" if refusal.event == "PROLOGUE_ERROR" else "launch_error",
            "event": refusal.event,
            "text": refusal.text[:MAX_TEXT],
        }
        entry.state = Entry.FINISHING
        if entry.pid is None:
            self.gone.append(entry)
        # Else its wrapper stands before a closed gate and will be reaped.

    def _give_up(self, entry: Entry) -> None:
        """Make the entry a tombstone."""
        self._drop_access(entry)
        self._end_lease(entry)
        entry.state = Entry.REFUSED
        try:
            write_file(entry.path("refused"), "%d %d\n" % self.number)
        except OSError as error:
            # Another guard will see that it never began.
            complain("job %s: %s" % (entry.name, trouble(error)))
        self._release(entry)
        self.changed[entry.key] = entry

    def _begun(self, entry: Entry, began_at: float) -> None:
        entry.state = Entry.BEGUN
        entry.began_at = began_at
        self._set_deadline(entry)
        self.changed[entry.key] = entry

    def _hear(self) -> None:
        """Wrappers say that their command begins."""
        try:
            text = os.read(self.ear, 65536).decode()
        except BlockingIOError:
            return
        # A read never splits a wrapper's line: pipes keep writes this short whole, and 64 KiB is all a pipe holds.
        for line in text.splitlines():
            name, _, at = line.partition(" ")
            job, _, attempt = name.partition(".")
            entry = self.entries.get((int(job), int(attempt)))
            if entry is not None and entry.state == Entry.STARTING:
                self._begun(entry, float(at) - self.offset)

    # Ending.

    def _reap(self) -> None:
        with suppress(BlockingIOError):
            os.read(self.wakeup, 4096)
        while True:
            try:
                found = os.waitid(os.P_ALL, 0, os.WEXITED | os.WNOHANG | os.WNOWAIT)
                if found is None:
                    return
                pid, status, usage = os.wait4(found.si_pid, 0)
            except ChildProcessError:
                return
            used_s = usage.ru_utime + usage.ru_stime
            self._count(pid, found.si_uid, used_s)
            if pid == self.watch:
                self._watch_ended()
            entry = self.wrappers.pop(pid, None)
            if entry is not None:
                self._wrapper_gone(entry, used_s, status)
            entry = self.notes.pop(pid, None)
            if entry is not None:
                entry.note_pid = None
            program = self.programs.pop(pid, None)
            if program is not None:
                program(status)

    def _count(self, pid: int, uid: int, used_s: float) -> None:
        """Add what a child of ours used to its job, unless it is none, or a wrapper."""
        owner = self.strays.pop(pid, None)
        visited = self.visitors.pop(pid, None)
        if visited is not None:
            visited.visitors.discard(pid)
        entry = visited or (None if owner is None else self.entries.get(owner))
        ours = (self.wrappers, self.notes, self.programs)
        if entry is None and pid != self.watch and not any(pid in known for known in ours):
            # An orphan that nobody has asked whose it is.
            lives = (Entry.BEGUN, Entry.FINISHING)
            mine = [one for one in self.entries.values() if one.uid == uid and one.state in lives]
            entry = mine[0] if len(mine) == 1 else None
        if entry is not None:
            entry.used_s += used_s

    def _wrapper_gone(self, entry: Entry, cpu_s: Optional[float], status: Optional[int] = None) -> None:
        if not entry.outcome:
            progress = Progress(read_text(entry.path("progress")) or "")
            if status is not None and progress.status is None and progress.error is None and os.WIFEXITED(status):
                # It came to its end and could not write so.
                progress.status, progress.ended_at = os.WEXITSTATUS(status), clock() + self.offset
            if progress.began_at is None:
                # Whatever its gate was, it did not act on it: the command never ran.
                entry.outcome = {"ran": False}
            else:
                entry.began_at = progress.began_at - self.offset
                self._record_outcome(entry, progress, "vanished")
                entry.outcome["cpu_s"] = cpu_s
        entry.state = Entry.FINISHING
        self.gone.append(entry)

    def _record_outcome(self, entry: Entry, progress: Progress, otherwise: str) -> None:
        """Why and how the command ended; ``otherwise`` is the cause when it left no status."""
        outcome: Json = {"ran": progress.began_at is not None, "status": None, "cause": otherwise}
        outcome["began_at"] = progress.began_at
        outcome["ended_at"] = progress.ended_at if progress.status is not None else clock() + self.offset
        outcome["boot_id"] = entry.boot_id
        if progress.error is not None:
            outcome["ran"] = False
            outcome["cause"] = "launch_error"
            outcome["event"], outcome["text"] = progress.error[0], self._explain(entry, *progress.error)
        elif progress.status is not None:
            outcome["status"] = wait_status(progress.status)
            outcome["cause"] = "signal" if 0 < outcome["status"] < 128 else "exit"
        killed = outcome["cause"] == "vanished" or outcome["status"] == signal.SIGKILL
        late = entry.boot_id == self.boot_id and self._outlives(entry, outcome["ended_at"] - self.offset)
        if killed and late and entry.cause is None:
            # By the watch, perhaps.
            entry.cause = "fenced"
        if entry.cause is not None and progress.error is None:
            outcome["cause"] = entry.cause
        entry.outcome = outcome

    def _explain(self, entry: Entry, event: str, detail: str) -> str:
        directory = shortened(entry.directory)
        said = {
            ("WORKING_DIRECTORY", "absent"): "the working directory %s does not exist" % directory,
            ("WORKING_DIRECTORY", "file"): "the working directory %s is not a directory" % directory,
            ("WORKING_DIRECTORY", "forbidden"): "%s may not enter the working directory %s" % (entry.user, directory),
            ("USER_SHELL", "shell"): "the login shell of %s cannot be executed" % entry.user,
            ("CPUSET_ERROR", "join"): "the job cannot enter its control group",
        }
        if event == "OUTPUT_FILES":
            return self._unopened(entry, *detail.partition(" ")[::2])[:MAX_TEXT]
        return said.get((event, detail), detail)[:MAX_TEXT]

    def _unopened(self, entry: Entry, which: str, why: str) -> str:
        path = os.path.join(entry.directory, entry.stderr if which == "stderr" else entry.stdout)
        name = "standard error" if which == "stderr" else "standard output"
        folder = shortened(os.path.dirname(path))
        reason = {
            "long": ": its name is too long",
            "absent": ": the directory %s does not exist; mkdir -p makes it" % folder,
            "file": ": %s is not a directory" % folder,
            "directory": ": it is a directory",
            "forbidden": ": it is there and not %s's to write" % entry.user,
            "closed": ": %s may not write in the directory %s" % (entry.user, folder),
        }.get("long" if max(map(len, os.fsencode(path).split(b"/"))) > NAME_MAX else why, "")
        return "%s cannot write its %s file %s%s" % (entry.user, name, shortened(path), reason)

    def _settle_gone(self) -> None:
        """Conclude what is empty of those whose wrapper is gone; kill what is left of the others."""
        if not self.gone:
            return
        gone = self.gone.copy()
        # Emptied, not replaced: timers hold it.
        self.gone.clear()
        # Looking into a user's process may take as long as that likes; whose containment names them needs no look.
        own = None if all(entry.cgroup or entry.pid is None for entry in gone) else self._own_strays()
        for entry in gone:
            if entry.note_pid is not None:
                # Writing it may hang with the user's file system.
                if clock() > entry.note_until:
                    send_signal(entry.note_pid, signal.SIGKILL)
                    entry.note_pid = None
                self._after(0.005, self.gone.append, entry)
                continue
            left = self._left_behind(entry, own)
            if left:
                self._claim(entry, left)
                self.containment.kill(entry)
                signal_all(self._still_there(entry), signal.SIGKILL)
                self._after(0.02, self.gone.append, entry)
                continue
            self._take_facts(entry)
            if not self.containment.release(entry):
                self._after(0.005, self.gone.append, entry)
            elif self._is_swept_after(entry):
                self._begin_sweep(entry)
            elif entry.epilogue is not None:
                self._begin_epilogue(entry)
            elif entry.outcome.get("ran") is False and "event" not in entry.outcome:
                self._give_up(entry)
            else:
                self._conclude(entry)

    def _is_swept_after(self, entry: Entry) -> bool:
        """Whether something of the entry's user is to be removed now: it is his last, and there may be something."""
        if not entry.sweep or entry.boot_id != self.boot_id or entry.uid <= 0:
            return False
        if any(other is not entry and other.uid == entry.uid and not other.over for other in self.entries.values()):
            return False
        return entry.sweep != ["ipc"] or any(ipc_of(kind, entry.uid) for kind in IPC)

    def _begin_sweep(self, entry: Entry) -> None:
        """Remove what is left of a user; the job goes on to its end afterwards."""
        uid, gid, sweep = entry.uid, entry.groups.partition(",")[0], entry.sweep
        words = [name for name in ("processes", "ipc") if name in sweep]
        directories = [path for path in sweep if os.path.isabs(path)]

        def ended(said: Optional[str]) -> None:
            self.sweeping.discard(uid)
            entry.sweep = []
            if said is not None:
                complain("job %s: the sweep %s" % (entry.name, said))
            self.gone.append(entry)

        arguments = myself("sweep", str(uid), gid, ",".join(words))
        self.sweeping.add(uid)
        try:
            self._run_program(entry, [*arguments, *directories], ended)
        except (OSError, ValueError) as error:
            ended("cannot be run: %s" % error)

    def _take_facts(self, entry: Entry) -> None:
        """Add to an outcome what the containment tells: what it used, and whether that was too much memory."""
        # All of it is dead, and perhaps not waited for.
        self._reap()
        for pid in [pid for pid, owner in self.strays.items() if owner == entry.key]:
            del self.strays[pid]
        found = self.containment.facts(entry)
        if entry.outcome.get("cpu_s") is not None:
            entry.outcome["cpu_s"] = round(entry.outcome["cpu_s"] + entry.used_s, 3)
            entry.used_s = 0.0
        entry.outcome.update(found)
        # A command that outlived what was killed, and succeeded, has had enough.
        failed = entry.outcome.get("status") != 0 and entry.outcome.get("cause") in ("exit", "signal", "vanished")
        if failed and "short_of_memory" in found:
            entry.outcome["cause"] = "out_of_memory"

    def _own_strays(self) -> Optional[Set[Key]]:
        """The jobs to which processes belong that became the guard's children; None when that cannot be known."""
        mine = children(os.getpid()) if self.subreaper else None
        if mine is None:
            return None
        owners = set()
        for pid in mine:
            if pid in self.wrappers or pid in self.notes or pid in self.programs:
                continue
            if pid in self.visitors:
                owners.add(self.visitors[pid].key)
                continue
            if pid not in self.strays:
                self.strays[pid] = self._owner(pid)
            owner = self.strays[pid]
            if owner is not None:
                owners.add(owner)
        return owners

    def _owner(self, pid: int) -> Optional[Key]:
        one = process(pid)
        if one is None or one.zombie:
            return None
        for entry in self.entries.values():
            if not entry.over and entry.pid == one.session:
                return entry.key
        for entry in self.entries.values():
            if not entry.over and marked(pid, ("%s=%s" % (MARK, self.containment.mark(entry))).encode()):
                return entry.key
        return None

    def _left_behind(self, entry: Entry, own: Optional[Set[Key]]) -> Set[int]:
        if entry.boot_id != self.boot_id or (entry.pid is None and not entry.cgroup):
            return set()
        if not entry.cgroup and not entry.inherited and own is not None and entry.key not in own:
            return set()
        return self.containment.members(entry) | self._still_there(entry)

    def _claim(self, entry: Entry, pids: Set[int]) -> None:
        """Count what these have used when they are reaped here, their parents being killed with them."""
        self.strays.update(dict.fromkeys(pids, entry.key))
        if not entry.cgroup:
            found = ((pid, process(pid)) for pid in pids)
            entry.seen.update((pid, one.start) for pid, one in found if one is not None)

    def _still_there(self, entry: Entry) -> Set[int]:
        """What was seen in an entry and lives: an sshd whose parent died before it bears no mark any more."""
        found = ((pid, start, process(pid)) for pid, start in entry.seen.items())
        return {pid for pid, start, one in found if one is not None and not one.zombie and one.start == start}

    def _conclude(self, entry: Entry) -> None:
        """The containment is empty: the job is over."""
        self._drop_access(entry)
        self._end_lease(entry)
        entry.state = Entry.ENDED
        entry.end = entry.outcome
        self._write_end(entry)
        self.changed[entry.key] = entry

    def _write_end(self, entry: Entry) -> None:
        if self.entries.get(entry.key) is entry and not self._append(entry, "end " + json.dumps(entry.end)):
            self._after(RETRY_S, self._write_end, entry)

    def _release(self, entry: Entry) -> None:
        if not self.containment.release(entry):
            self._after(0.05, self._release, entry)

    # Killing and other orders.

    def _set_deadline(self, entry: Entry) -> None:
        if entry.walltime_s is None or entry.began_at is None:
            return
        entry.deadline = entry.began_at + entry.walltime_s + entry.grace_s + entry.suspended_s
        self._at(entry.deadline, self._check_deadline, entry)

    def _check_deadline(self, entry: Entry) -> None:
        if entry.state != Entry.BEGUN or entry.suspended_at is not None or entry.deadline is None:
            return
        # A later deadline has a timer of its own.
        if clock() >= entry.deadline:
            self._kill(entry, entry.kill_after_s, "walltime")

    def _begin_lease(self, entry: Entry) -> None:
        """From now on, kill an entry when its lease is over; that may be at once."""
        if entry.lease_s is None or entry.state not in (Entry.STARTING, Entry.BEGUN):
            return
        self.leased[entry.key] = entry
        if self.watch is None:
            self._start_watch()
        elif entry.pid is not None:
            self._say_to_watch({"lease": entry.lease()})
        self._fence()

    def _end_lease(self, entry: Entry) -> None:
        """Nothing of an entry is left."""
        if self.leased.pop(entry.key, None) is not None:
            self._say_to_watch({"over": entry.key})

    def _fence(self) -> None:
        """Kill what the server has not been heard of for too long."""
        if not self.leased:
            return
        late = [entry for entry in self.leased.values() if not entry.fenced and self._outlives(entry, clock())]
        # All of them first: what is written then may take its time.
        for entry in late:
            if entry.pid is not None:
                self.containment.kill(entry)
        for entry in late:
            entry.fenced = True
            self._say_to_watch({"fenced": entry.key})
            if entry.state in (Entry.STARTING, Entry.BEGUN):
                self._kill(entry, 0.0, "fenced")

    def _outlives(self, entry: Entry, at: float) -> bool:
        """Whether the lease of an entry is over at that time; without one it never is."""
        return entry.lease_s is not None and at >= entry.lease_ends_at(self.lease_since)

    def _renew_leases(self, since: float) -> None:
        if not self.lease_since < since <= clock():
            return
        self.lease_since = since
        self._say_to_watch({"since": since})
        try:
            fd = os.open("lease", os.O_WRONLY | os.O_CREAT | os.O_CLOEXEC, 0o600)
            try:
                # Over the one before, which is as long: a full disk has room for it.
                write_line(fd, "%s %016.3f" % (self.boot_id, since))
            finally:
                os.close(fd)
        except OSError as error:
            complain("lease: %s" % trouble(error))

    def _start_watch(self) -> None:
        """Let another process see to the leases, too."""
        arguments = myself("watch", "--spool", self.spool, "--instance", self.instance, *self.options)
        heard, said = os.pipe2(os.O_CLOEXEC | os.O_NONBLOCK)
        self.to_watch = said
        self.unsaid.clear()
        self.poll.register(said, 0)
        # Said before there is anybody to hear it: from its first moment on it knows what to see to.
        self._say_to_watch({"since": self.lease_since})
        for entry in self.leased.values():
            if entry.pid is not None:
                self._say_to_watch({"lease": entry.lease()})
            if entry.fenced:
                self._say_to_watch({"fenced": entry.key})
        try:
            os.set_blocking(heard, True)
            self.watch = spawn(arguments, {"PATH": "/usr/bin:/bin"}, {0: heard})
        except OSError as error:
            complain("no watch can be started: %s" % error)
            self._leave_watch()
            self._after(RETRY_S, self._miss_watch)
        finally:
            os.close(heard)

    def _miss_watch(self) -> None:
        if self.watch is None and self.leased:
            self._start_watch()

    def _watch_ended(self) -> None:
        self.watch = None
        self._leave_watch()
        self._after(WATCH_LATER_S, self._miss_watch)

    def _leave_watch(self) -> None:
        """Nobody hears any more what is said to it."""
        if self.to_watch is not None:
            self.poll.unregister(self.to_watch)
            os.close(self.to_watch)
            self.to_watch = None

    def _say_to_watch(self, message: Json) -> None:
        if self.to_watch is not None:
            self.unsaid += json.dumps(message, separators=(",", ":")).encode() + b"\n"
            self._send_to_watch()

    def _send_to_watch(self) -> None:
        """Tell the watch what it has room for; what dies before it has read is reaped."""
        assert self.to_watch is not None
        try:
            while self.unsaid:
                del self.unsaid[: os.write(self.to_watch, self.unsaid)]
        except BlockingIOError:
            pass
        except OSError:
            self.unsaid.clear()
        self.poll.modify(self.to_watch, select.EPOLLOUT if self.unsaid else 0)

    def _kill(self, entry: Entry, kill_after_s: float, cause: str) -> None:
        if entry.state == Entry.STARTING:
            # Before its gate, or just behind it: whether it began is read once the wrapper is gone.
            if entry.program_pid is not None:
                entry.cause = cause
                kill_group(entry.program_pid)
            elif entry.pid is None:
                self._give_up(entry)
            else:
                entry.cause = cause
                send_signal(entry.pid, signal.SIGKILL)
        elif entry.state == Entry.BEGUN:
            first = entry.cause is None
            if first:
                entry.cause = cause
                self._append(entry, "cause " + cause)
            if first and kill_after_s > 0:
                self._note_kill(entry)
            if kill_after_s > 0:
                self._tell_to_end(entry)
            self._thaw(entry)
            when = clock() + kill_after_s
            if entry.kill_at is None or when < entry.kill_at:
                entry.kill_at = when
                self._kill_hard(entry, 0.05) if kill_after_s <= 0 else self._at(when, self._kill_hard, entry, 0.05)

    def _tell_to_end(self, entry: Entry) -> None:
        members = self.containment.members(entry)
        self._claim(entry, members)
        signal_all(members, signal.SIGTERM)
        if entry.state == Entry.BEGUN and entry.began_at is not None and clock() < entry.began_at + FORK_S:
            # What has just begun is not there yet, or as a copy of its wrapper, which is deaf.
            self._at(entry.began_at + FORK_S, self._tell_to_end, entry)

    def _kill_hard(self, entry: Entry, again_s: float) -> None:
        if entry.state != Entry.BEGUN or entry.pid is None:
            return
        self._claim(entry, self.containment.members(entry))
        self.containment.kill(entry)
        # The wrapper may have been stopped together with its process group.
        send_signal(entry.pid, signal.SIGCONT)
        if again_s > 2.0 and not self.containment.members(entry):
            # Nothing is left but a wrapper that cannot end.
            send_signal(entry.pid, signal.SIGKILL)
        self._after(again_s, self._kill_hard, entry, min(2 * again_s, 5.0))

    def _note_kill(self, entry: Entry) -> None:
        """Tell the user, where the job's errors go, that it was killed."""
        now = time.strftime("%Y-%m-%d %H:%M:%S")
        line = "## OAR [%s] Job %d KILLED ##" % (now, entry.job)
        # In the containment: its user may make it wait, and make it something else meanwhile.
        arguments = ["/bin/sh", "-c", STAYING, "oarexec", " ".join(entry.joins)]
        if self.root:
            arguments += self._changing_to(entry)
        arguments += ["/bin/sh", "-c", NOTE, "oarexec", entry.directory, entry.stderr, line]
        try:
            entry.note_pid = spawn(arguments, {"PATH": "/usr/bin:/bin"}, {})
        except OSError as error:
            complain("job %d: cannot note its kill: %s" % (entry.job, error))
        else:
            self.notes[entry.note_pid] = entry
            entry.note_until = clock() + NOTE_S

    def _suspend(self, entry: Entry, order: Json, deadline: float, since: Optional[float] = None) -> None:
        """Freeze a job; ``since`` is when that was begun, where it takes longer."""
        if entry.state != Entry.BEGUN:
            self._answer(order, False, "the job is over", over=True)
            return
        if entry.cause is not None:
            # What it does at its end is not for later.
            self._answer(order, False, "the job is being killed", over=True)
            return
        if since is not None and entry.suspended_at != since:
            self._answer(order, False, "it was resumed meanwhile", over=True)
            return
        if entry.suspended_at is None:
            entry.suspended_at = clock()
            self._append(entry, "suspended %.2f" % (entry.suspended_at + self.offset))
        if self.containment.freeze(entry):
            self.changed[entry.key] = entry
            self._answer(order, True)
        elif clock() > deadline:
            self._thaw(entry)
            self._answer(order, False, "some processes of the job cannot be frozen")
        else:
            self._after(0.02, self._suspend, entry, order, deadline, entry.suspended_at)

    def _thaw(self, entry: Entry) -> None:
        self.containment.thaw(entry)
        if entry.suspended_at is not None:
            entry.suspended_s += clock() - entry.suspended_at
            entry.suspended_at = None
            self._append(entry, "resumed %.2f" % (clock() + self.offset))
            self._set_deadline(entry)
            self.changed[entry.key] = entry

    def _order(self, link: Link, order: Json) -> None:
        expect(order, "order", int)
        kind = expect(order, "kind", str)
        if kind == "check":
            self._answer(order, True, json.dumps(diagnosis(self.spool, self.containment, self.weakness)))
            return
        job, attempt = key_of(order)
        entry = self.entries.get((job, attempt))
        if kind in ("refuse", "kill") and entry is None:
            made = self._make_entry(job, attempt, link.number or self.number)
            if made is not None:
                self._give_up(made)
                sync_directory("jobs")
            self._answer(order, True)
        elif kind == "refuse":
            self.changed[(job, attempt)] = self.entries[(job, attempt)]
            self._answer(order, True)
        elif kind == "forget":
            self._answer(order, *self._forget(entry, link.number or self.number))
        elif entry is None:
            self._answer(order, False, "this attempt is not known here")
        elif kind == "kill":
            cause = expect(order, "cause", str, "killed")
            if cause not in CAUSES:
                raise Garbled("cause is %r" % cause)
            self._kill(entry, expect(order, "kill_after_s", float, entry.kill_after_s), cause)
            self.changed[entry.key] = entry
            self._answer(order, True)
        elif entry.state != Entry.BEGUN:
            over = entry.state != Entry.STARTING
            self._answer(order, False, "the job is over" if over else "the job has not begun", over)
        elif kind == "signal":
            self._signal(entry, order, expect(order, "signal", int), clock() + FORK_S)
        elif kind == "suspend":
            self._suspend(entry, order, clock() + FREEZE_S)
        elif kind == "resume":
            self._thaw(entry)
            self._answer(order, True)
        elif kind == "walltime":
            entry.walltime_s = expect(order, "walltime_s", float)
            written = self._append(entry, "walltime %r" % entry.walltime_s)
            self._set_deadline(entry)
            self._answer(order, written, "" if written else "the spool cannot be written")
        elif kind == "access":
            self._answer(order, *self._let_in(entry, order))
        else:
            self._answer(order, False, "no such order: %s" % kind)

    def _signal(self, entry: Entry, order: Json, number: int, deadline: float) -> None:
        if not 0 < number < signal.NSIG:
            self._answer(order, False, "%d is not a signal" % number)
            return
        if entry.state != Entry.BEGUN:
            self._answer(order, False, "the job is over", over=True)
            return
        first = [] if entry.pid is None else children(entry.pid)
        if first is None:
            first = [pid for pid, one in processes().items() if one.parent == entry.pid]
        if not first and clock() < deadline:
            # Just begun, or just ended.
            self._after(0.02, self._signal, entry, order, number, deadline)
            return
        for pid in first:
            send_signal(pid, number)
        self._answer(order, bool(first), "" if first else "the job has no process")

    def _forget(self, entry: Optional[Entry], number: Number) -> Tuple[bool, str]:
        if entry is None:
            return True, ""
        if not entry.over:
            return False, "the job is not over"
        if entry.number >= number:
            return False, "the entry belongs to this very session"
        try:
            self._clear_away(entry)
        except OSError as error:
            return False, trouble(error)
        del self.entries[entry.key]
        self.changed.pop(entry.key, None)
        return True, ""

    def _clear_away(self, entry: Entry) -> None:
        path = "jobs/" + entry.name
        if len(self.free) < KEPT_FREE and entry.pid is not None and entry.state == Entry.ENDED:
            # Its first line names this attempt, so that nothing in it counts for another one.
            with suppress(OSError):
                # But for one of the same name, of a part that was made twice.
                os.rename(path, "free/" + entry.name)
                self.free.append(entry.name)
                return
        # One that the spool could not take has no directory.
        with suppress(FileNotFoundError):
            remove_tree(path)

    def _answer(self, order: Json, done: bool, text: str = "", over: bool = False) -> None:
        if self.current is not None:
            self.answers.append({"order": order["order"], "done": done, "text": text, "over": over})

    # Speaking with sessions.

    def _accept(self) -> bool:
        """Let a session in; False when none is there."""
        try:
            sock, _ = self.listener.accept()
        except OSError:
            return False
        peer = struct.unpack("3i", sock.getsockopt(socket.SOL_SOCKET, socket.SO_PEERCRED, struct.calcsize("3i")))
        if peer[1] not in (0, os.geteuid()):
            sock.close()
            return True
        sock.setblocking(False)
        link = Link(sock)
        self.links[link.fd] = link
        self.poll.register(link.fd, select.EPOLLIN)
        return True

    def _receive(self, link: Link) -> None:
        try:
            data = link.socket.recv(1 << 18)
        except BlockingIOError:
            data = None
        except OSError:
            data = b""
        if data == b"":
            self._drop(link)
            return
        if data:
            link.received += data
        try:
            for line in link.lines():
                if self.links.get(link.fd) is not link:
                    return
                self._obey(link, json.loads(line.decode()))
        except (Garbled, ValueError, OSError, RecursionError) as error:
            self._refuse(link, str(error))
        except Exception as error:  # whatever one session says, the others' jobs are to be watched
            complain_of(error)
            self._refuse(link, "%s: %s" % (type(error).__name__, error))

    def _refuse(self, link: Link, text: str) -> None:
        link.say({"refused": text[:MAX_TEXT]})
        self._drop(link)

    def _obey(self, link: Link, message: Any) -> None:
        if not isinstance(message, dict):
            raise Garbled("a line is not an object")
        if "hello" in message:
            self._greet(link, expect(message, "hello", dict))
        elif link is not self.current:
            raise Garbled("hello comes first")
        elif "launches" in message:
            self._launch(expect(message, "launches", list), link.number or self.number)
        elif "orders" in message:
            for order in expect(message, "orders", list):
                self._order(link, order)
        elif "renew" in message:
            number = number_of(message["renew"])
            if number <= self.number:
                raise Garbled("%r is not a higher number" % (number,))
            self._store_number(number)
            link.number = number
            link.say({"renewed": number})
        elif "ping" in message:
            since = expect(message, "since", float, None)
            if since is not None:
                self._renew_leases(since)
            link.say({"pong": message["ping"], "clock": clock()})
        else:
            raise Garbled("unknown message: %s" % ", ".join(sorted(message)))

    def _greet(self, link: Link, hello: Json) -> None:
        if link is self.current:
            raise Garbled("hello comes once")
        if hello.get("protocol") != PROTOCOL:
            raise Garbled("this guard speaks protocol %d" % PROTOCOL)
        if hello.get("instance") != self.instance:
            raise Garbled("this guard serves instance %s" % self.instance)
        number = number_of(hello)
        if number <= self.number:
            link.say({"fenced": {"by": self.number}})
            self._drop(link)
            return
        self._store_number(number)
        self._take_programs(expect(hello, "programs", dict, {}))
        if hello.get("oarsh") or self._is_known_to_jobs():
            self._open_port(span_of(hello))
        if self.current is not None:
            self.current.say({"fenced": {"by": number}})
            self._drop(self.current)
        # What an older session asked for and has not been started will not be.
        for entry, _ in self.waiting:
            if entry.state == Entry.STARTING:
                self._give_up(entry)
        self.waiting.clear()
        link.number = number
        self.current = link
        greeting = {
            "protocol": PROTOCOL,
            "session": number,
            "boot_id": self.boot_id,
            "spool_id": self.spool_id,
            "host": socket.gethostname(),
            "containment": {"by": self.containment.name, "enforces": self.containment.enforces},
            "memory_mib": memory_mib(),
            "clock": clock(),
            "oarsh_port": self.port,
        }
        link.say({"hello": greeting})
        link.say_inventory([self._report(entry) for entry in self.entries.values()])
        self.changed.clear()
        self.answers.clear()

    def _store_number(self, number: Number) -> None:
        text = "%d %d %s\n" % (number[0], number[1], self.boot_id)
        try:
            write_durably(".", "session", text)
        except OSError as error:
            if error.errno not in (errno.ENOSPC, errno.EDQUOT):
                raise
            overwrite_durably("session", text)
        self.number = number

    def _report(self, entry: Entry) -> Json:
        report: Json = {"job": entry.job, "attempt": entry.attempt, "is": entry.state}
        if entry.state == Entry.BEGUN and entry.began_at is not None:
            report["age_s"] = round(clock() - entry.began_at, 2)
            report["suspended"] = entry.suspended_at is not None
        elif entry.state == Entry.FINISHING:
            # Until its containment is empty a job that began still runs.
            ran = entry.began_at is not None
            report["is"] = Entry.BEGUN if ran else Entry.STARTING
            if entry.began_at is not None:
                report["age_s"] = round(clock() - entry.began_at, 2)
                report["suspended"] = False
        elif entry.state == Entry.REFUSED:
            report["text"] = entry.trouble
        elif entry.state == Entry.ENDED:
            for name in ("ran", "status", "cause", "event", "text", "cpu_s", "peak_mib", "short_of_memory"):
                report[name] = entry.end.get(name)
            same_boot = entry.end.get("boot_id") == self.boot_id
            for name, instant in (("age_s", "began_at"), ("ended_age_s", "ended_at")):
                at = entry.end.get(instant)
                report[name] = round(clock() + self.offset - at, 2) if same_boot and at is not None else None
        return report

    def _flush(self) -> None:
        if self.current is not None:
            self.current.say_parts("answers", self.answers)
            self.current.say_parts("reports", [self._report(entry) for entry in self.changed.values()])
        self.changed.clear()
        self.answers.clear()
        for link in list(self.links.values()):
            self._send(link)

    def _send(self, link: Link) -> None:
        try:
            while link.to_send:
                del link.to_send[: link.socket.send(link.to_send)]
        except BlockingIOError:
            self.poll.modify(link.fd, select.EPOLLIN | select.EPOLLOUT)
            return
        except OSError:
            self._drop(link)
            return
        if link.fd in self.links:
            self.poll.modify(link.fd, select.EPOLLIN)

    def _drop(self, link: Link) -> None:
        """End a link; what was said last is sent if that needs no waiting."""
        # Its number may be another's by now.
        if self.links.get(link.fd) is not link:
            return
        del self.links[link.fd]
        if self.current is link:
            self.current = None
        # The loop may have waited for it for long.
        self.idle_since = clock()
        with suppress(OSError):
            link.socket.send(link.to_send)
        self.poll.unregister(link.fd)
        link.socket.close()


def guard(spool: str, instance: str, min_uid: Optional[int]) -> int:
    """Be the guard, unless there is one already."""
    os.umask(0o022)
    lock = os.open(os.path.join(spool, instance, "lock"), os.O_RDWR | os.O_CREAT | os.O_CLOEXEC, 0o600)
    try:
        fcntl.flock(lock, fcntl.LOCK_EX | fcntl.LOCK_NB)
    except BlockingIOError:
        return 0
    leave_service_cgroup(cgroup_mounts(read_text("/proc/self/mountinfo") or ""))
    leave_service_priority()
    Guard(spool, instance, min_uid).run()
    return 0
