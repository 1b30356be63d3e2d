"""What runs on a node: it starts jobs, watches them and says what became of them.

One file, standard library only, Python 3.6 or later, so that a node needs
nothing installed.  It has two lives::

    oarexec session --spool DIR --instance UUID [--min-uid N]
    oarexec guard   --spool DIR --instance UUID [--min-uid N]
    oarexec watch   --spool DIR --instance UUID [--min-uid N]
    oarexec doctor  --spool DIR
    oarexec sweep   UID GID WHAT [DIR …]

A **session** carries lines between its stdin and stdout (the runner's link) and
the guard's socket, starts a guard when there is none, and ends with either.  The
**guard**, one for each instance on a host, does everything: it starts jobs,
waits for them, kills what they leave behind, and fences old sessions.  It is
detached: sessions come and go, jobs and guard go on.  When it dies the next
session starts another, which takes over what it finds in the spool.

The protocol
============

JSON objects, one a line, at most 1 MiB each.  Durations are in seconds; ages
count back from the moment the line was written; no date of the node is told.
The runner begins::

    {"hello": {"protocol": 1, "instance": UUID, "session": [EPOCH, SEQUENCE], "oarsh": BOOL,
               "oarsh_ports": [FIRST, LAST] or null, "programs": {NAME: PYTHON, …}}}

and the answer is ``hello`` with the node's facts, then its whole inventory::

    {"hello": {"protocol": 1, "session": [E, S], "boot_id": …, "spool_id": …, "host": …,
               "containment": …, "memory_mib": …, "clock": CLOCK, "oarsh_port": …}}
    {"inventory": [REPORT, …], "more": true or false}

A number that is not above every earlier one is answered ``{"fenced": {"by": [E, S]}}``
and the link ends.  What cannot be understood is answered ``{"refused": TEXT}``, likewise.
Afterwards the runner may send::

    {"renew": {"session": [E, S]}}       a higher number on the same link; answered {"renewed": [E, S]}
    {"launches": [LAUNCH, …]}            answered by reports
    {"orders": [ORDER, …]}               each answered, {"answers": [{"order", "done", "text", "over"}, …]}
    {"ping": ANYTHING, "since": CLOCK}   answered {"pong": ANYTHING, "clock": CLOCK}; ``since`` may be missing

and the guard ``{"reports": [REPORT, …]}`` whenever something happened.

LAUNCH: ``job``, ``attempt``; ``user`` (name, null for oarexec's own account); ``command`` (for
the user's login shell), ``directory``, ``stdout``, ``stderr`` (relative to it), ``append``,
``umask``; ``environment`` (object), ``nodes`` and ``resources`` (contents of two files;
``{"deflated": BASE64}`` when long); ``walltime_s``, ``grace_s``, ``kill_after_s``;
``cpus`` ("0-3,8" or null), ``memory_mib`` (or null); ``devices`` (or null): ``denied``, paths that the
job must not use, and ``visible``, its own by their places among those of this host; ``part``: no
command runs, the containment is made and kept for what comes from the job's head, until the part is
killed; ``prologue`` and
``epilogue``: programs of the administrator's on this node, or null, and ``program_timeout_s``;
``sweep`` (or null): what to remove of the job's user when no other job of his is here, any of the
words ``processes`` and ``ipc``, then directories;
``access`` (or null): how oarsh comes to this job, ``private`` and ``public`` of the job's own key
pair, ``authorized``, more public keys, ``proof``, and ``hosts``, the ports of oarexec on them.

A launch may be **leased**: ``lease_s``, and ``since``, a clock that this guard has told.  It is killed, with the
cause ``fenced``, when so much time has passed since the last clock that the server has told back, in this
launch or in a ping.  So whatever is late on its way prolongs nothing, and the server, which counts from when
it heard that clock, knows when nothing of the launch runs any more.

ORDER: ``order`` (its number), ``kind``, ``job``, ``attempt`` and

========== =======================================================================
kill       ``kill_after_s`` (0: at once), ``cause``.  TERM, later KILL, to everything in the
           containment.  An attempt that is not known is given up, as by ``refuse``.
signal     ``signal``: sent to the job's first process (checkpoints are such signals)
suspend    freezes the containment; ``resume`` thaws it
walltime   ``walltime_s``: the new one, counted from the beginning
access     ``access``, as a launch has it, ``environment`` and ``visible`` (or null), as the launch of
           the job had them: from now on oarsh comes to it, and to nothing that came before
refuse     makes the tombstone, unless the attempt is known
forget     removes the entry of what is over; only by a session newer than its own
check      ``text`` of the answer is the doctor's JSON; needs no job
========== =======================================================================

REPORT: ``job``, ``attempt``, ``is`` one of

* ``starting``: accepted, the command has not begun;
* ``began``: ``age_s``, ``suspended``;
* ``refused``: it did not begin and never will; ``text`` when that is because the spool could not be written;
* ``ended``: ``ran`` (whether the command began), ``status`` (as of wait(2), or null), ``cause``,
  ``event`` and ``text`` where OAR has an event for it, ``age_s`` of the beginning and
  ``ended_age_s`` of the end (null after a reboot), ``cpu_s`` (what all in its control group used here, where
  that is counted; else its processes as far as somebody waited for them; or null), ``peak_mib`` (or null), and
  ``short_of_memory``: a sentence where processes were killed for using too much of it, or null.

oarsh
=====

Asked to in ``hello``, the guard listens on a port, one of those that are named (the same one as the guard
before it, if it can; one that jobs here know is kept, whatever is named later).
Whoever connects says ``oarsh JOB.ATTEMPT PROOF`` in one line; with the proof of a job that runs here
it is answered ``go``, and an sshd goes on with the connection: one for each, as the job's user, in
the job's containment, with the job's key as host key and as the key that it lets in.  So nothing of
it needs root, and what comes in is killed with the job.  ``programs`` are what jobs find in their
PATH: oarsh, oarcp and oarprint, so that nothing need be installed.

The spool
=========

``SPOOL/UUID/`` holds ``lock`` (the guard's), ``lease`` (boot id, and the last clock told back), ``guard.sock``,
``session`` (the highest number, and
the boot in which it came), ``spool_id``, ``guard.log`` and ``jobs/JOB.ATTEMPT/``, one directory per
launch.  Whoever makes that directory decides the attempt's fate: it is launched, or given up.
(Forgotten ones wait in ``free`` and become new ones by one rename.)  Besides, ``port`` and ``bin``
are for oarsh, ``sh`` is a shell that users can execute and not read, ``bashrc`` is what the first bash of a job reads.
In an entry:

* ``progress``: lines.  The first is ``launch``: boot id, pid and start time of the wrapper, written
  before the wrapper is let through its gate.  An entry that lacks it never began and never will,
  unless the host was rebooted since: then nobody knows, and it is over.
  The wrapper appends ``begun``, ``error``, ``exit``, the guard ``cause``, ``suspended``,
  ``resumed``, ``walltime``, ``access`` (the proof, of a job to which oarsh came later), ``end``.
* ``refused``: this is a tombstone.
* ``oarsh``: keys and configuration, which only the job's user can read; gone when the job is over.
* ``nodes``, ``resources``: what OAR_NODEFILE and OAR_RESOURCE_PROPERTIES_FILE name; links to a
  file in ``shared`` that other entries have alike.

A spool that is full, or cannot be written for another reason, stops launches and nothing else: they
are refused, by a guard that remembers it when not even a tombstone can be made.  (Another guard can
be told of such a launch only by a newer session, whose runner knows that it did not begin.)  What
the progress of a job needs at its end fits into the block that its first line took.

While something leased lives, a **watch** stands beside the guard, which tells it each lease.  When the guard
has died, it becomes another one, so that a host that nobody can reach is not left without.  A guard may also
stand still: stopped, or waiting for a disk that does not answer.  Then the watch, which touches no disk, kills
what has outlived its lease by itself, and soon the guard, too.  A machine that stood still as a whole is no
exception: both look at the clock before they do anything else.

Making a file costs thirty times as much as linking one, and emptying one makes ext4 write it out
at once; a launch therefore makes no file where it can reuse those of a forgotten entry.

A **prologue** runs when the containment is made, before the wrapper, an **epilogue** when the
containment is empty and gone, before the end is reported; both as oarexec's own account, outside of
the containment.  A guard that died lets the next one begin the epilogue anew; a prologue that had
not ended belongs to a launch that never began.

A **sweep** removes what is left of a user when his last job here is over, before the epilogue: it runs
as that user, so it can remove nothing that he could not, and follows no links.  Unless his processes
are to be killed, too, a living one means that nothing else is touched; one in the control group of a job, which
is another instance's, always means that.  Launches of the user wait for it.

A **wrapper** is a small shell: it waits at its gate (a pipe; end of file means that it must
not run), writes ``begun``, runs the command as its user, and writes ``exit``.  It outlives the guard.
A job is over when its containment is empty; what is left in it is killed first.
"""

import base64
import errno
import fcntl
import heapq
import json
import os
import pwd
import re
import select
import signal
import socket
import stat
import struct
import sys
import time
import zlib
from collections import deque
from contextlib import suppress
from functools import lru_cache
from typing import Any, Callable, Deque, Dict, Iterable, List, Optional, Sequence, Set, Tuple

PROTOCOL = 1
MAX_LINE = 1 << 20
# Reports and answers are cut to below 1 KiB each, so that such a line stays below the limit.
ITEMS_PER_LINE = 500
MAX_TEXT = 400
# time.CLOCK_BOOTTIME exists since Python 3.7.
CLOCK_BOOTTIME = 7
# The kernel's limit on one argument, less its final zero.
MAX_COMMAND = 131071
# Descriptors of a wrapper: stdin, stdout, stderr, its gate, the guard's ear, its progress file.
GATE, EAR, PROGRESS = 3, 4, 5
MARK = "OARPY_JOB"
# As oarpy.node.terminal has it: the command serves a terminal, whose shell reads what it reads.
TERMINAL = "OAR_TERMINAL"
PROGRAM = re.compile(r"[a-z]+\Z")
# A connection that says nothing, and how much one may say; and how many wait at a time.
CALL_S, CALL_LENGTH, MOST_CALLS = 10.0, 200, 64
PR_SET_CHILD_SUBREAPER = 36
MCL_CURRENT, MCL_FUTURE = 1, 2
SPAWNED_AT_ONCE = 16
# Whoever started the server may have ignored signals (nohup, a shell's &); its jobs have them as after a login.
DEFAULTED = frozenset(signal.Signals) - {signal.SIGKILL, signal.SIGSTOP}
# Making and removing files is what a launch costs most on some file systems.
KEPT_FREE = 1000
KEPT_SHARED_BYTES = 4 << 20
# What the server knows as the cause of an end.
CAUSES = (
    "exit",
    "signal",
    "walltime",
    "killed",
    "besteffort",
    "launch_error",
    "node_rebooted",
    "vanished",
    "out_of_memory",
    "exterminated",
    "fenced",
    "prologue",
    "epilogue",
    "dependency",
    "never_fits",
    "expired",
    "container",
    "reservation",
    "admin",
)
WRAPPER_EVENTS = ("CPUSET_ERROR", "WORKING_DIRECTORY", "OUTPUT_FILES", "USER_SHELL")
# No host is up, and no job runs, for three centuries.
LONGEST_S = 1e10
# For programs of the administrator's.
ADMIN_PATH = "/usr/local/sbin:/usr/local/bin:/usr/sbin:/usr/bin:/sbin:/bin"
IDLE_S = 5.0
LEASE_LOOK_S = 1.0
# So much later than the guard the watch kills; and so often it looks in vain before it kills the guard.
WATCH_LATER_S = 0.5
WATCH_PATIENCE = 10
LOCK_S = 5.0
# A guard that has taken its door away may hold its lock for a moment longer.
CONNECT_AFTER_S = (0.0, 0.0, 0.1, 0.3, 1.0, 2.0)
WATCH_S = 1.0
FREEZE_S = 10.0
NOTE_S = 2.0
RETRY_S = 2.0

Key = Tuple[int, int]
Number = Tuple[int, int]
Json = Dict[str, Any]


class Refusal(Exception):
    """A launch that fails for a reason to be told: OAR's event and a sentence."""

    def __init__(self, event: str, text: str) -> None:
        super().__init__(text)
        self.event = event
        self.text = text


class SpoolFailed(Exception):
    """The spool cannot take what a launch has to leave in it."""


class Garbled(Exception):
    """A line that does not follow the protocol."""


# The wrapper.  What its gate lets through is the time since the boot, in seconds, from which on its lease is over, or
# nothing: guard and wrapper may stand still in between.
# Traps other than '' are reset in what it starts, so the job gets
# every signal's default while signals to the whole process group spare the wrapper.
# $1 entry, $2 files to join by, $3 what changes to the user, its words apart by one space, $4 the opening;
# the rest is the opening's.
# Where nothing has to be joined and nobody else to become, the wrapper opens the job's files itself:
# it then starts the command without copying itself first (a third of what the wrapper costs).
_HEAD = """
trap : HUP INT QUIT USR1 USR2 PIPE ALRM TERM TSTP TTIN TTOU VTALRM PROF XCPU XFSZ
read -r until <&3 || exit 0
exec 3<&-
read -r up rest </proc/uptime
[ -z "$until" ] || [ "${up%.*}" -lt "$until" ] || exit 0
echo "begun $up" >&5 || exit 0
echo "$1 $up" >&4
exec 4>&-
"""
_APART = """
(
for file in $2; do
  echo 0 >"$file" || { echo "error CPUSET_ERROR join" >&5; exit 1; }
done
"""
_AS_USER = """
change=$3 opening=$4
shift 4
exec $change -c "$opening" oarexec "$@"
"""
# Whoever opens them keeps its own stdout and stderr: a shell may speak of its children's deaths.
# A folder that bears the id of the job is made after the submission (submitit does that) or may, just made, not be seen
# here yet: the job may be quicker.
# $1 directory, $2 stdout, $3 stderr, $4 append or truncate, $5 umask, $6 shell; then what to execute.
_OPENING = """
unopened() {
  why=
  folder=.
  case $2 in /*) folder=/${2%/*} ;; */*) folder=${2%/*} ;; esac
  if [ -d "$2" ]; then why=directory
  elif [ -e "$2" ]; then [ -w "$2" ] || why=forbidden
  elif [ -d "$folder" ]; then { [ -w "$folder" ] && [ -x "$folder" ]; } || why=closed
  else
    why=absent
    while [ ! -e "$folder" ]; do
      case $folder in /*) folder=/${folder%/*} ;; */*) folder=${folder%/*} ;; *) folder=. ;; esac
    done
    if [ ! -d "$folder" ]; then why=file; elif [ ! -x "$folder" ]; then why=closed; fi
  fi
  echo "error OUTPUT_FILES $1 $why" >&5
  exit 1
}
umask "$5"
if ! cd -- "$1"; then
  if [ ! -e "$1" ]; then why=absent; elif [ ! -d "$1" ]; then why=file; else why=forbidden; fi
  echo "error WORKING_DIRECTORY $why" >&5; exit 1
fi 2>/dev/null
waited=0
for file in "$2" "$3"; do
  case $file in */*) ;; *) continue ;; esac
  while [ ! -d "${file%/*}/" ] && [ "$waited" -lt 3 ]; do
    sleep 1
    waited=$((waited + 1))
  done
done
if [ "$4" = truncate ]; then
  command exec 6>"$2" || unopened stdout "$2"
else
  command exec 6>>"$2" || unopened stdout "$2"
fi
if [ "$2" = "$3" ]; then
  exec 7>&6
elif [ "$4" = truncate ]; then
  command exec 7>"$3" || unopened stderr "$3"
else
  command exec 7>>"$3" || unopened stderr "$3"
fi
[ -x "$6" ] || { echo "error USER_SHELL shell" >&5; exit 1; }
shift 6
"""
_BECOME = """
exec "$@" >&6 2>&7 5>&- 6>&- 7>&-
"""
_APART_END = """
)
"""
_BESIDE = """
"$@" >&6 2>&7 5>&- 6>&- 7>&-
"""
_TAIL = """
status=$?
read -r up rest </proc/uptime
echo "exit $status $up" >&5
exit "$status"
"""
OPENING_AS_USER = _OPENING + _BECOME
WRAPPER_AS_USER = _HEAD + _APART + _AS_USER + _APART_END + _TAIL
WRAPPER_IN_GROUP = _HEAD + _APART + "shift 4" + OPENING_AS_USER + _APART_END + _TAIL
WRAPPER_ALONE = _HEAD + "shift 4" + _OPENING + _BESIDE + _TAIL
# A part runs nothing: this outlives the guard, and is nothing that its user could kill.
WRAPPER_OF_PART = _HEAD + "sleep 2147483647 5>&-" + _TAIL
# $1 files to join by; the rest is what to execute.
ENTERING = 'for file in $1; do echo 0 >"$file" || exit 1; done; shift; exec "$@"'
# Whoever stays when the rest of a job is told to end.
STAYING = "trap '' TERM; " + ENTERING
# Appends one line to a file that only the user may be able to reach.
NOTE = 'cd -- "$1" && echo "$3" >>"$2"'

# What a job's first bash reads (BASH_ENV), so that a batch job has what its user's shells have.
BASHRC = "unset BASH_ENV\nif [ -r ~/.bashrc ]; then . ~/.bashrc; fi\n"

# What may stand in the environment of a wrapper that runs as root; the job gets the rest after the change of user.
HARMLESS = re.compile(
    r"(OAR_[A-Z0-9_]*|OARSH_ACCESS|OARPY_JOB|HOME|PATH|SHELL|LOGNAME|USER|TERM|SHLVL|LANG|LC_[A-Z]+|SUDO_COMMAND)\Z"
)
PLAIN = re.compile(r"[^\x00-\x1f\x7f\"\\]*\Z")
VARIABLE = re.compile(r"[A-Za-z_][A-Za-z0-9_]*\Z")
INSTANCE = re.compile(r"[0-9a-f]{8}(-[0-9a-f]{4}){3}-[0-9a-f]{12}\Z")
# How programs are told which GPUs to use where nothing keeps them from the others.
VISIBLE = ("CUDA_VISIBLE_DEVICES", "ROCR_VISIBLE_DEVICES")
CPU_LIST = re.compile(r"\d+(-\d+)?(,\d+(-\d+)?)*\Z")
ENTRY = re.compile(r"(\d+)\.(\d+)\Z")
PROOF = re.compile(r"[0-9a-f]{64}\Z")
IN_JOB = re.compile(r"/oarpy/[0-9a-f]{8}(-[0-9a-f]{4}){3}-[0-9a-f]{12}/\d+\.\d+$", re.M)


# Nearly all jobs have the same variables.
@lru_cache(1000)
def harmless(name: str) -> bool:
    return HARMLESS.match(name) is not None


@lru_cache(1000)
def names_variable(name: str) -> bool:
    return VARIABLE.match(name) is not None


def clock() -> float:
    """Seconds since the boot, sleep included."""
    return time.clock_gettime(CLOCK_BOOTTIME)


def uptime_offset() -> float:
    """What to add to ``clock()`` for what wrappers read in /proc/uptime (a container may have its own)."""
    with open("/proc/uptime") as file:
        return float(file.read().split()[0]) - clock()


def memory_mib() -> Optional[int]:
    """What this host has for all its processes."""
    found = re.search(r"^MemTotal: +(\d+) kB", read_text("/proc/meminfo") or "", re.M)
    return None if found is None else int(found.group(1)) >> 10


def boot_id() -> str:
    with open("/proc/sys/kernel/random/boot_id") as file:
        return file.read().strip()


def read_text(path: str) -> Optional[str]:
    """The contents of a file, None when there is none."""
    try:
        fd = os.open(path, os.O_RDONLY | os.O_CLOEXEC)
    except (FileNotFoundError, NotADirectoryError):
        return None
    try:
        data = part = os.read(fd, 65536)
        while part:
            part = os.read(fd, 65536)
            data += part
    finally:
        os.close(fd)
    return data.decode("utf-8", "surrogateescape")


def write_file(path: str, text: str, mode: int = 0o600) -> None:
    fd = os.open(path, os.O_WRONLY | os.O_CREAT | os.O_TRUNC | os.O_CLOEXEC, mode)
    try:
        data = text.encode("utf-8", "surrogateescape")
        while data:
            data = data[os.write(fd, data) :]
    finally:
        os.close(fd)


def renew(path: str, text: str, mode: int) -> None:
    """Let a file say ``text``; who reads it meanwhile reads the whole of one or the other."""
    if read_text(path) != text:
        write_file(path + ".new", text, mode)
        os.rename(path + ".new", path)


def append_line(path: str, line: str) -> None:
    """Append in one write, so that lines of wrapper and guard never mix."""
    fd = os.open(path, os.O_WRONLY | os.O_CREAT | os.O_APPEND | os.O_CLOEXEC, 0o600)
    try:
        write_line(fd, line)
    finally:
        os.close(fd)


def write_line(fd: int, line: str) -> None:
    data = (line + "\n").encode("utf-8", "surrogateescape")
    if os.write(fd, data) != len(data):
        raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC))


def complain(text: str) -> None:
    """Say something in the guard's log, unless that cannot be written either."""
    with suppress(OSError):
        os.write(2, (text.rstrip("\n") + "\n").encode("utf-8", "surrogateescape"))


def open_progress(path: str) -> int:
    """Open a file of lines anew, for appending.

    What stood in it is cut down to an empty line, not to nothing: a file that is
    emptied and closed is written out by ext4 at once.
    """
    fd = os.open(path, os.O_RDWR | os.O_CREAT | os.O_APPEND | os.O_CLOEXEC, 0o600)
    if os.read(fd, 1) == b"\n":
        os.ftruncate(fd, 1)
    else:
        os.ftruncate(fd, 0)
        os.write(fd, b"\n")
    return fd


def sync_directory(path: str) -> None:
    fd = os.open(path, os.O_RDONLY | os.O_DIRECTORY | os.O_CLOEXEC)
    try:
        os.fsync(fd)
    finally:
        os.close(fd)


def write_durably(directory: str, name: str, text: str) -> None:
    """Replace a file so that after a power cut it holds the old text or the new one."""
    new = os.path.join(directory, name + ".new")
    fd = os.open(new, os.O_WRONLY | os.O_CREAT | os.O_TRUNC | os.O_CLOEXEC, 0o600)
    try:
        os.write(fd, text.encode())
        os.fsync(fd)
    finally:
        os.close(fd)
    os.rename(new, os.path.join(directory, name))
    sync_directory(directory)


def overwrite_durably(path: str, text: str) -> None:
    """The same for a short text, in the sector that the old one has already: a full disk has no other."""
    fd = os.open(path, os.O_WRONLY | os.O_CLOEXEC)
    try:
        # What is left of a longer one would follow.
        write_line(fd, text.rstrip("\n").ljust(os.fstat(fd).st_size - 1))
        os.fsync(fd)
    finally:
        os.close(fd)


class Process:
    """One line of the process table."""

    __slots__ = ("parent", "running", "session", "start", "zombie")

    def __init__(self, stat_line: str) -> None:
        # The command stands in parentheses and may hold anything.
        fields = stat_line[stat_line.rindex(")") + 2 :].split()
        self.zombie = fields[0] in "ZX"
        # Or about to run: a stopped one does neither.
        self.running = fields[0] in "RS"
        self.parent = int(fields[1])
        self.session = int(fields[3])
        self.start = int(fields[19])


def process(pid: int) -> Optional[Process]:
    try:
        line = read_text("/proc/%d/stat" % pid)
        return None if line is None else Process(line)
    except (OSError, ValueError):
        return None


def processes() -> Dict[int, Process]:
    """The living processes of the machine; costs some 10 µs for each."""
    found = {}
    for name in os.listdir("/proc"):
        if name.isdigit():
            one = process(int(name))
            if one is not None and not one.zombie:
                found[int(name)] = one
    return found


def children(pid: int) -> Optional[List[int]]:
    """The children of a single-threaded process, None where the kernel does not tell."""
    try:
        with open("/proc/%d/task/%d/children" % (pid, pid)) as file:
            return [int(child) for child in file.read().split()]
    except FileNotFoundError:
        # Either the process is gone or the kernel lacks CONFIG_PROC_CHILDREN.
        return [] if os.path.exists("/proc/self/task/%d/children" % os.getpid()) else None
    except OSError:
        return []


def marked(pid: int, mark: bytes) -> bool:
    """Whether a process was started with this mark in its environment."""
    try:
        with open("/proc/%d/environ" % pid, "rb") as file:
            return mark in file.read().split(b"\0")
    except OSError:
        return False


def send_signal(pid: int, number: int) -> None:
    with suppress(ProcessLookupError, PermissionError):
        os.kill(pid, number)


def kill_group(pid: int) -> None:
    """Kill the process group of a program that was started in a session of its own."""
    with suppress(ProcessLookupError, PermissionError):
        os.killpg(pid, signal.SIGKILL)


def signal_all(pids: Iterable[int], number: int) -> None:
    """Signal parents before their children: a shell that sees its command die first goes on to the next one."""
    found = ((process(pid), pid) for pid in pids)
    for _, pid in sorted((one.start, pid) for one, pid in found if one is not None):
        send_signal(pid, number)


def login_defs() -> Dict[str, str]:
    words = {}
    for line in (read_text("/etc/login.defs") or "").splitlines():
        fields = line.split(None, 1)
        if len(fields) == 2 and not fields[0].startswith("#"):
            words[fields[0]] = fields[1].strip()
    return words


class Entry:
    """One launch, or the tombstone of one."""

    __slots__ = (
        "attempt",
        "began_at",
        "boot_id",
        "cause",
        "cgroup",
        "counted",
        "deadline",
        "directory",
        "end",
        "epilogue",
        "fenced",
        "grace_s",
        "groups",
        "inherited",
        "job",
        "joins",
        "kill_after_s",
        "kill_at",
        "lease_from",
        "lease_s",
        "name",
        "note_pid",
        "note_until",
        "number",
        "outcome",
        "pid",
        "pidfd",
        "program_pid",
        "program_s",
        "proof",
        "seen",
        "start",
        "state",
        "stderr",
        "stdout",
        "suspended_at",
        "suspended_s",
        "sweep",
        "trouble",
        "uid",
        "used_s",
        "user",
        "visitors",
        "walltime_s",
    )

    # starting: given its directory; begun: the command runs; finishing: the wrapper is gone, its
    # containment not yet known to be empty; ended and refused are final.
    STARTING, BEGUN, FINISHING, ENDED, REFUSED = "starting", "began", "finishing", "ended", "refused"

    def __init__(self, job: int, attempt: int, number: Number) -> None:
        self.job = job
        self.attempt = attempt
        self.name = "%d.%d" % (job, attempt)
        self.number = number
        self.state = Entry.STARTING
        self.boot_id = ""
        self.pid: Optional[int] = None
        self.start = 0
        self.pidfd: Optional[int] = None
        self.inherited = False
        self.user = ""
        self.uid = -1
        self.groups = ""
        self.directory = "/"
        self.stdout = "/dev/null"
        self.stderr = "/dev/null"
        self.cgroup = False
        # Whether others than its wrapper's descendants may be in it, and what they are known to have used.
        self.counted = False
        self.used_s = 0.0
        # What came in by oarsh and has not gone.
        self.visitors: Set[int] = set()
        # What was to be killed, with its start, where no control group names it.
        self.seen: Dict[int, int] = {}
        self.walltime_s: Optional[float] = None
        self.grace_s = 0.0
        self.kill_after_s = 20.0
        self.began_at: Optional[float] = None
        self.suspended_at: Optional[float] = None
        self.suspended_s = 0.0
        self.deadline: Optional[float] = None
        self.kill_at: Optional[float] = None
        self.lease_s: Optional[float] = None
        self.lease_from = 0.0
        # Whether it is being killed because its lease is over.
        self.fenced = False
        self.cause: Optional[str] = None
        self.note_pid: Optional[int] = None
        self.note_until = 0.0
        # What is to run when the containment is gone, and how long it or the prologue may take.
        self.epilogue: Optional[str] = None
        self.program_s = 60.0
        self.program_pid: Optional[int] = None
        # What oarsh has to know of the job, None when it cannot come in; and how it enters the containment.
        self.proof: Optional[str] = None
        self.joins: List[str] = []
        self.sweep: List[str] = []
        self.outcome: Json = {}
        self.end: Json = {}
        # Why the spool could not take it.
        self.trouble: Optional[str] = None

    @property
    def key(self) -> Key:
        return (self.job, self.attempt)

    @property
    def over(self) -> bool:
        return self.state in (Entry.ENDED, Entry.REFUSED)

    def path(self, name: str) -> str:
        """The path of a file of this entry, from the instance's directory."""
        return "jobs/%s/%s" % (self.name, name)

    def record(self) -> Json:
        """What another guard needs to take over."""
        return {
            "session": self.number,
            "job": self.job,
            "attempt": self.attempt,
            "boot_id": self.boot_id,
            "pid": self.pid,
            "start": self.start,
            "user": self.user,
            "uid": self.uid,
            "groups": self.groups,
            "directory": self.directory,
            "stdout": self.stdout,
            "stderr": self.stderr,
            "cgroup": self.cgroup,
            "walltime_s": self.walltime_s,
            "grace_s": self.grace_s,
            "kill_after_s": self.kill_after_s,
            "epilogue": self.epilogue,
            "program_s": self.program_s,
            "sweep": self.sweep,
            "lease_s": self.lease_s,
            "lease_from": self.lease_from,
            "proof": self.proof,
            "joins": self.joins,
        }

    def lease(self) -> Json:
        """What a watch needs to kill what outlives its lease."""
        names = ("job", "attempt", "boot_id", "pid", "start", "uid", "cgroup", "lease_s", "lease_from")
        return {"session": self.number, **{name: getattr(self, name) for name in names}}

    def lease_ends_at(self, since: float) -> float:
        """When its lease is over, ``since`` being the last clock that the server has told back."""
        assert self.lease_s is not None
        return max(since, self.lease_from) + self.lease_s

    def recall(self, record: Json) -> None:
        self.number = (record["session"][0], record["session"][1])
        for name in record:
            if name != "session":
                setattr(self, name, record[name])

    def wrapper_lives(self) -> bool:
        if self.pid is None:
            return False
        found = process(self.pid)
        return found is not None and not found.zombie and found.start == self.start


class Progress:
    """What the lines of a ``progress`` file say; one that is not complete, or is damaged, says nothing.

    While the command is being prepared its user can write to the file, too.
    """

    def __init__(self, text: str) -> None:
        self.began_at: Optional[float] = None
        self.error: Optional[Tuple[str, str]] = None
        self.status: Optional[int] = None
        self.ended_at: Optional[float] = None
        self.cause: Optional[str] = None
        self.suspended_at: Optional[float] = None
        self.suspended_s = 0.0
        self.end: Optional[Json] = None
        self.launch: Optional[str] = None
        self.walltime_s: Optional[float] = None
        self.proof: Optional[str] = None
        for line in text.split("\n")[:-1]:
            with suppress(ValueError):
                self._read(*line.partition(" ")[::2])

    def _read(self, word: str, rest: str) -> None:
        """Take in one line.  Raises ``ValueError`` when it is damaged."""
        if word == "launch" and self.launch is None:
            # Only the guard can write before the wrapper runs.
            self.launch = rest
        elif word == "begun":
            self.began_at = duration(rest)
        elif word == "error":
            event, _, detail = rest.partition(" ")
            if event not in WRAPPER_EVENTS:
                raise ValueError(rest)
            self.error = (event, detail)
        elif word == "exit":
            status, _, at = rest.partition(" ")
            if not 0 <= int(status) <= 255:
                raise ValueError(rest)
            self.status, self.ended_at = int(status), duration(at)
        elif word == "cause":
            if rest not in CAUSES:
                raise ValueError(rest)
            self.cause = rest
        elif word == "suspended":
            self.suspended_at = duration(rest)
        elif word == "resumed" and self.suspended_at is not None:
            self.suspended_s += duration(rest) - self.suspended_at
            self.suspended_at = None
        elif word == "walltime":
            self.walltime_s = duration(rest)
        elif word == "access":
            if not PROOF.match(rest):
                raise ValueError(rest)
            self.proof = rest
        elif word == "end":
            end = parsed(rest)
            if end is None or not credible(end):
                raise ValueError(rest)
            self.end = end


def credible(end: Json) -> bool:
    """Whether a server can take in what is said of an end."""
    numbers = [end.get(name) for name in ("began_at", "ended_at", "cpu_s", "peak_mib")]
    status = end.get("status")
    return (
        end.get("cause") in CAUSES
        and (status is None or (isinstance(status, int) and 0 <= status <= 0xFFFF))
        and all(one is None or (isinstance(one, (int, float)) and 0 <= one < LONGEST_S) for one in numbers)
        and isinstance(end.get("short_of_memory", ""), str)
    )


def duration(text: str) -> float:
    """Seconds that can be reckoned with.  Raises ``ValueError`` for other text: nan, inf and millennia, too."""
    found = float(text)
    if not 0 <= found < LONGEST_S:
        raise ValueError(text)
    return found


def wait_status(shell_status: int) -> int:
    """The status of wait(2) that a shell's ``$?`` stands for: above 128 a death by signal."""
    if 128 < shell_status <= 128 + 64:
        return shell_status - 128
    return shell_status << 8


class Loose:
    """Containment without cgroups.

    Members of a job are the descendants of its wrapper, its session, and
    whatever carries its mark in its environment.  The guard being their
    subreaper, orphans become its children.  A process that leaves session and
    parents and clears its environment escapes.
    """

    name = "processes"
    enforces: Tuple[str, ...] = ()

    def __init__(self, instance: str) -> None:
        self.instance = instance

    def mark(self, entry: Entry) -> str:
        return "%s:%s" % (self.instance, entry.name)

    def prepare(
        self, entry: Entry, cpus: Optional[str], memory_mib: Optional[int], denied: Sequence[str] = ()
    ) -> List[str]:
        """Make room for a job; returns the files by which a process joins, writing 0."""
        return []

    def pin(self, pid: int, cpus: Optional[str]) -> None:
        """Bind a wrapper to processors; here its user can undo it."""
        if cpus is not None:
            # The machine lacks one of them; the job may run on what there is.
            with suppress(OSError):
                os.sched_setaffinity(pid, parse_cpus(cpus))

    def members(self, entry: Entry) -> Set[int]:
        """The living processes of a job, its wrapper excepted."""
        table = processes()
        leader = table.get(entry.pid or 0)
        if leader is not None and leader.start != entry.start:
            leader = None
            session = None
        else:
            session = entry.pid
        mark = ("%s=%s" % (MARK, self.mark(entry))).encode()
        mine = set()
        for pid, one in table.items():
            if one.start < entry.start or pid == entry.pid:
                continue
            # An sshd shows its environment to nobody.
            came = one.session == session or pid in entry.visitors
            if came or (self._may_read(pid, entry.uid) and marked(pid, mark)):
                mine.add(pid)
        roots = mine | ({entry.pid} if leader is not None and entry.pid is not None else set())
        offspring: Dict[int, List[int]] = {}
        for pid, one in table.items():
            offspring.setdefault(one.parent, []).append(pid)
        waiting = list(roots)
        while waiting:
            for pid in offspring.get(waiting.pop(), ()):
                if pid not in mine and pid != entry.pid:
                    mine.add(pid)
                    waiting.append(pid)
        return mine

    def _may_read(self, pid: int, uid: int) -> bool:
        try:
            return os.stat("/proc/%d" % pid).st_uid == uid
        except OSError:
            return False

    def kill(self, entry: Entry) -> None:
        signal_all(self.members(entry), signal.SIGKILL)

    def freeze(self, entry: Entry) -> bool:
        """Stop everything; False while something still runs."""
        stopped: Set[int] = set()
        # What was forked meanwhile is found by looking again.
        while True:
            new = self.members(entry) - stopped
            if not new:
                break
            signal_all(new, signal.SIGSTOP)
            stopped |= new
        # The signal is heeded only when each gets to it.
        return not any(one.running for one in map(process, stopped) if one is not None)

    def thaw(self, entry: Entry) -> None:
        signal_all(self.members(entry), signal.SIGCONT)

    def pin_like_wrapper(self, pid: int, entry: Entry) -> None:
        """Bind what comes into a job to the job's processors, where nothing else keeps it to them."""
        if entry.pid is not None and "cpus" not in self.enforces:
            # Either may be gone this instant.
            with suppress(OSError):
                os.sched_setaffinity(pid, os.sched_getaffinity(entry.pid))

    def facts(self, entry: Entry) -> Json:
        """What is known of a job at its end: cpu_s, peak_mib, short_of_memory."""
        return {}

    def release(self, entry: Entry) -> bool:
        """Undo ``prepare``; False when that must be tried again."""
        return True

    def close(self) -> None:
        """The guard ends: nothing of this instance lives here any more."""


def parse_cpus(cpus: str) -> Set[int]:
    found: Set[int] = set()
    for part in cpus.split(","):
        first, _, last = part.partition("-")
        found.update(range(int(first), int(last or first) + 1))
    return found


def write_control(path: str, text: str) -> None:
    fd = os.open(path, os.O_WRONLY | os.O_CLOEXEC)
    try:
        os.write(fd, text.encode())
    finally:
        os.close(fd)


def read_pids(path: str) -> Set[int]:
    try:
        with open(path) as file:
            return {int(pid) for pid in file.read().split()}
    except OSError:
        return set()


class Cgroups(Loose):
    """What both versions of cgroups have in common: one group for each job, below ``oarpy/INSTANCE``."""

    def members(self, entry: Entry) -> Set[int]:
        if not entry.cgroup:
            return super().members(entry)
        found = read_pids(self.procs(entry))
        if entry.pid is not None and entry.wrapper_lives():
            # A child of the wrapper that has not joined yet.
            found.update(children(entry.pid) or ())
        return found

    def pin(self, pid: int, cpus: Optional[str]) -> None:
        if "cpus" not in self.enforces:
            super().pin(pid, cpus)

    def procs(self, entry: Entry) -> str:
        raise NotImplementedError


class CgroupsV1(Cgroups):
    name = "cgroups v1"

    def __init__(self, instance: str, mounts: Dict[str, str]) -> None:
        super().__init__(instance)
        self.roots: Dict[str, str] = {}
        # Only root may deny devices.
        devices = ("devices",) if os.geteuid() == 0 else ()
        for controller in ("freezer", "cpuset", "memory", *devices, "cpuacct"):
            if controller in mounts:
                try:
                    self.roots[controller] = self._base(mounts[controller])
                except OSError:
                    if controller == "freezer":
                        raise
        self.enforces = tuple(
            what
            for what, by in (("kill", "freezer"), ("cpus", "cpuset"), ("memory", "memory"), ("devices", "devices"))
            if by in self.roots
        )

    def _base(self, mount: str) -> str:
        path = mount
        for part in ("oarpy", self.instance):
            parent, path = path, os.path.join(path, part)
            make_group(path)
            if os.path.exists(os.path.join(path, "cpuset.cpus")):
                for name in ("cpuset.cpus", "cpuset.mems"):
                    write_control(os.path.join(path, name), read_text(os.path.join(parent, name)) or "")
                # A job's group begins with the memory nodes and processors of this one.
                write_control(os.path.join(path, "cgroup.clone_children"), "1")
        return path

    def _path(self, controller: str, entry: Entry, name: str = "") -> str:
        return os.path.join(self.roots[controller], entry.name, name)

    def procs(self, entry: Entry) -> str:
        return self._path("freezer", entry, "cgroup.procs")

    def prepare(
        self, entry: Entry, cpus: Optional[str], memory_mib: Optional[int], denied: Sequence[str] = ()
    ) -> List[str]:
        joins = []
        unused = {
            "cpuset": cpus is None,
            "memory": memory_mib is None,
            "devices": not denied,
            # The kernel tells the guard as much of its own children.
            "cpuacct": not entry.counted,
        }
        for controller in self.roots:
            if unused.get(controller, False):
                continue
            os.mkdir(self._path(controller, entry), 0o755)
            if controller == "devices":
                for kind, major, minor in device_numbers(denied):
                    rule = "%s %d:%d rwm" % (kind, major, minor)
                    write_control(self._path(controller, entry, "devices.deny"), rule)
            if controller == "cpuset" and cpus is not None:
                write_control(self._path(controller, entry, "cpuset.cpus"), cpus)
            if controller == "memory" and memory_mib is not None:
                limit = str(memory_mib << 20)
                write_control(self._path(controller, entry, "memory.limit_in_bytes"), limit)
                # Without swap accounting memory alone is limited.
                with suppress(OSError):
                    write_control(self._path(controller, entry, "memory.memsw.limit_in_bytes"), limit)
            # A process that moves itself through "tasks" spares the lock over all forks
            # that "cgroup.procs" takes, which costs a grace period of RCU (3 ms).
            joins.append(self._path(controller, entry, "tasks"))
        entry.cgroup = True
        return joins

    def kill(self, entry: Entry) -> None:
        if not entry.cgroup:
            super().kill(entry)
            return
        # Frozen processes cannot fork while the list is read.
        self._freezer(entry, "FROZEN")
        signal_all(self.members(entry), signal.SIGKILL)
        self._freezer(entry, "THAWED")

    def _freezer(self, entry: Entry, state: str) -> None:
        # Released already.
        with suppress(OSError):
            write_control(self._path("freezer", entry, "freezer.state"), state)

    def freeze(self, entry: Entry) -> bool:
        if not entry.cgroup:
            return super().freeze(entry)
        self._freezer(entry, "FROZEN")
        return (read_text(self._path("freezer", entry, "freezer.state")) or "").strip() == "FROZEN"

    def thaw(self, entry: Entry) -> None:
        if entry.cgroup:
            self._freezer(entry, "THAWED")
        else:
            super().thaw(entry)

    def facts(self, entry: Entry) -> Json:
        if not entry.cgroup:
            return {}
        found = {}
        if "cpuacct" in self.roots:
            used = (read_text(self._path("cpuacct", entry, "cpuacct.usage")) or "").strip()
            if used.isdigit():
                found["cpu_s"] = round(int(used) / 1e9, 3)
        if "memory" not in self.roots:
            return found
        peak = read_text(self._path("memory", entry, "memory.max_usage_in_bytes"))
        limit = read_text(self._path("memory", entry, "memory.limit_in_bytes"))
        return dict(found, **memory_facts(peak, limit, read_text(self._path("memory", entry, "memory.oom_control"))))

    def release(self, entry: Entry) -> bool:
        left = [controller for controller in self.roots if not remove_group(self._path(controller, entry))]
        return not left

    def close(self) -> None:
        for path in self.roots.values():
            remove_group(path)


class CgroupsV2(Cgroups):
    name = "cgroups v2"

    def __init__(self, instance: str, mount: str) -> None:
        super().__init__(instance)
        path = mount
        for part in ("oarpy", instance):
            self._enable(path)
            path = os.path.join(path, part)
            make_group(path)
        self._enable(path)
        self.root = path
        if not self._can_be_entered():
            remove_group(path)
            raise PermissionError(errno.EACCES, "belongs to this account, but nothing may move there from here", path)
        enabled = (read_text(os.path.join(path, "cgroup.subtree_control")) or "").split()
        limits = [what for what, by in (("cpus", "cpuset"), ("memory", "memory")) if by in enabled]
        if self._can_deny_devices():
            limits.append("devices")
        self.enforces = ("kill", *limits)

    def _can_be_entered(self) -> bool:
        """Whether a job would get in: where groups are delegated, only from within what is."""
        path = os.path.join(self.root, "probe")
        make_group(path)
        pid = os.fork()
        if pid == 0:
            status = 1
            try:
                write_control(os.path.join(path, "cgroup.procs"), "0")
                status = 0
            finally:
                os._exit(status)
        _, status = os.waitpid(pid, 0)
        remove_group(path)
        return status == 0

    def _can_deny_devices(self) -> bool:
        """Whether the kernel takes a program of ours that watches over a group's devices."""
        if os.geteuid() != 0:
            return False
        path = os.path.join(self.root, "probe")
        try:
            make_group(path)
            deny_devices(path, [("c", 1, 3)])
        except OSError:
            return False
        finally:
            remove_group(path)
        return True

    def _enable(self, path: str) -> None:
        present = (read_text(os.path.join(path, "cgroup.controllers")) or "").split()
        for controller in ("cpuset", "memory"):
            if controller in present:
                # Not delegated to us: that limit is not enforced, and doctor says so.
                with suppress(OSError):
                    write_control(os.path.join(path, "cgroup.subtree_control"), "+" + controller)

    def _path(self, entry: Entry, name: str = "") -> str:
        return os.path.join(self.root, entry.name, name)

    def procs(self, entry: Entry) -> str:
        return self._path(entry, "cgroup.procs")

    def prepare(
        self, entry: Entry, cpus: Optional[str], memory_mib: Optional[int], denied: Sequence[str] = ()
    ) -> List[str]:
        os.mkdir(self._path(entry), 0o755)
        if "devices" in self.enforces:
            numbers = device_numbers(denied)
            if numbers:
                deny_devices(self._path(entry), numbers)
        if cpus is not None and "cpus" in self.enforces:
            write_control(self._path(entry, "cpuset.cpus"), cpus)
        if memory_mib is not None and "memory" in self.enforces:
            write_control(self._path(entry, "memory.max"), str(memory_mib << 20))
        entry.cgroup = True
        return [self.procs(entry)]

    def kill(self, entry: Entry) -> None:
        if not entry.cgroup:
            super().kill(entry)
            return
        # Before Linux 5.14, or released already.
        with suppress(OSError):
            write_control(self._path(entry, "cgroup.kill"), "1")
        signal_all(self.members(entry), signal.SIGKILL)

    def freeze(self, entry: Entry) -> bool:
        if not entry.cgroup:
            return super().freeze(entry)
        self._freeze(entry, "1")
        return "frozen 1" in (read_text(self._path(entry, "cgroup.events")) or "")

    def thaw(self, entry: Entry) -> None:
        if not entry.cgroup:
            super().thaw(entry)
            return
        self._freeze(entry, "0")

    def _freeze(self, entry: Entry, wanted: str) -> None:
        # Released already.
        with suppress(OSError):
            write_control(self._path(entry, "cgroup.freeze"), wanted)

    def facts(self, entry: Entry) -> Json:
        if not entry.cgroup:
            return {}
        names = ("memory.peak", "memory.max", "memory.events")
        found = memory_facts(*(read_text(self._path(entry, name)) for name in names))
        # Without any controller, too.
        used = re.search(r"^usage_usec (\d+)", read_text(self._path(entry, "cpu.stat")) or "", re.M)
        if used is not None:
            found["cpu_s"] = round(int(used.group(1)) / 1e6, 3)
        return found

    def release(self, entry: Entry) -> bool:
        return remove_group(self._path(entry))

    def close(self) -> None:
        remove_group(self.root)


def device_numbers(paths: Sequence[str]) -> List[Tuple[str, int, int]]:
    """The type, major and minor number of each device there is; one that this host lacks need not be denied.

    Raises ``OSError`` for what is no device.
    """
    found = []
    for path in paths:
        try:
            status = os.stat(path)
        except FileNotFoundError:
            continue
        if not stat.S_ISCHR(status.st_mode) and not stat.S_ISBLK(status.st_mode):
            raise OSError(errno.ENODEV, os.strerror(errno.ENODEV), path)
        kind = "c" if stat.S_ISCHR(status.st_mode) else "b"
        found.append((kind, os.major(status.st_rdev), os.minor(status.st_rdev)))
    return found


# The system call bpf(2) by machine; its commands, and what they are told here.
BPF_CALLS = {"x86_64": 321, "aarch64": 280, "ppc64le": 361, "riscv64": 280, "armv7l": 386}
BPF_PROG_LOAD, BPF_PROG_ATTACH = 5, 8
BPF_PROG_TYPE_CGROUP_DEVICE = 15
BPF_CGROUP_DEVICE = 6
# What stands above us (a service manager, a container) goes on to decide as well.
BPF_F_ALLOW_MULTI = 2


def device_program(denied: Sequence[Tuple[str, int, int]]) -> bytes:
    """The program that answers 0 to the use of denied devices, and 1 to that of others."""
    load, mask, unless, answer, leave = 0x61, 0x57, 0x55, 0xB7, 0x95

    def step(code: int, to: int = 0, source: int = 0, offset: int = 0, value: int = 0) -> bytes:
        return struct.pack("<BBhi", code, to | source << 4, offset, value)

    # r1 names three words: kind (in its lower half) and access, major, minor.
    steps = [step(load, 2, 1), step(mask, 2, value=0xFFFF), step(load, 3, 1, 4), step(load, 4, 1, 8)]
    for kind, major, minor in denied:
        steps += [
            step(unless, 2, offset=4, value=1 if kind == "b" else 2),
            step(unless, 3, offset=3, value=major),
            step(unless, 4, offset=2, value=minor),
            step(answer, 0),
            step(leave),
        ]
    return b"".join([*steps, step(answer, 0, value=1), step(leave)])


def deny_devices(group: str, denied: Sequence[Tuple[str, int, int]]) -> None:
    """Keep what is in a control group of version 2 from devices.  Raises ``OSError`` where that cannot be had."""
    import ctypes

    call = BPF_CALLS.get(os.uname().machine)
    if call is None:
        raise OSError(errno.ENOSYS, os.strerror(errno.ENOSYS), group)
    libc = ctypes.CDLL(None, use_errno=True)

    def bpf(command: int, attributes: bytes) -> int:
        buffer = ctypes.create_string_buffer(attributes, len(attributes))
        done = libc.syscall(ctypes.c_long(call), command, buffer, ctypes.c_uint(len(attributes)))
        if done < 0:
            raise OSError(ctypes.get_errno(), os.strerror(ctypes.get_errno()), group)
        return int(done)

    code = device_program(denied)
    steps, licence = ctypes.create_string_buffer(code, len(code)), ctypes.create_string_buffer(b"BSD")
    where = (ctypes.addressof(steps), ctypes.addressof(licence))
    program = bpf(BPF_PROG_LOAD, struct.pack("<IIQQ32x", BPF_PROG_TYPE_CGROUP_DEVICE, len(code) // 8, *where))
    try:
        directory = os.open(group, os.O_RDONLY | os.O_DIRECTORY | os.O_CLOEXEC)
        try:
            # Kept by the group, and gone with it.
            bpf(BPF_PROG_ATTACH, struct.pack("<IIII", directory, program, BPF_CGROUP_DEVICE, BPF_F_ALLOW_MULTI))
        finally:
            os.close(directory)
    finally:
        os.close(program)


def memory_facts(peak: Optional[str], limit: Optional[str], events: Optional[str]) -> Json:
    """What a control group's files tell of a job's memory; none of them need be there."""
    found: Json = {}
    if peak is not None:
        found["peak_mib"] = int(peak) >> 20
    kills = re.search(r"^oom_kill (\d+)", events or "", re.M)
    if kills is not None and int(kills.group(1)) > 0:
        # Before Linux 5.19 nobody knows the peak in version 2.
        used = "" if peak is None else ", %d MiB at its peak" % (int(peak) >> 20)
        # Without a limit of its own it was the host that had no more.
        known = limit is not None and limit.strip().isdigit() and int(limit) < 1 << 60
        may = "the %d MiB that it may" % (int(limit or 0) >> 20) if known else "its host has"
        found["short_of_memory"] = "it used more memory than %s%s (processes killed: %s)" % (may, used, kills.group(1))
    return found


def make_group(path: str) -> None:
    """Make a control group that we may write to, or find it; guards of several instances may begin at once."""
    with suppress(FileExistsError):
        os.mkdir(path, 0o755)
    if not os.access(path, os.W_OK):
        raise PermissionError(errno.EACCES, "belongs to another account", path)


def remove_group(path: str) -> bool:
    """Remove a control group; False while something is still in it."""
    try:
        os.rmdir(path)
    except FileNotFoundError:
        return True
    except OSError:
        return False
    return True


def cgroup_mounts(mountinfo: str) -> Dict[str, str]:
    """Where controllers are mounted, from /proc/self/mountinfo; version 2 under the name ``v2``."""
    found: Dict[str, str] = {}
    for line in mountinfo.splitlines():
        before, _, after = line.partition(" - ")
        fields, kinds = before.split(), after.split()
        if len(fields) < 5 or len(kinds) < 3:
            continue
        if kinds[0] == "cgroup2":
            found.setdefault("v2", fields[4])
        elif kinds[0] == "cgroup":
            for option in kinds[2].split(","):
                found.setdefault(option, fields[4])
    return found


def find_containment(instance: str) -> Tuple[Loose, Optional[str]]:
    """The strongest containment that works here, and why it is not a stronger one."""
    mounts = cgroup_mounts(read_text("/proc/self/mountinfo") or "")
    try:
        if "freezer" in mounts:
            return CgroupsV1(instance, mounts), None
        if "v2" in mounts:
            return CgroupsV2(instance, mounts["v2"]), None
    except OSError as error:
        return Loose(instance), "control groups cannot be made here (%s: %s)" % (error.filename, error.strerror)
    return Loose(instance), "no control groups are mounted"


def leave_service_cgroup(mounts: Dict[str, str]) -> None:
    """Move this process out of the group by which a service manager would end it."""
    for hierarchy in ("v2", "name=systemd"):
        if hierarchy in mounts:
            path = os.path.join(mounts[hierarchy], "oarpy", "guards")
            try:
                os.makedirs(path, 0o755, exist_ok=True)
                write_control(os.path.join(path, "cgroup.procs"), "0")
            except OSError:
                # Not ours to decide; a service manager may then end the jobs with its service.
                continue


def leave_service_priority() -> None:
    """Give up what a service manager granted the server: jobs inherit it, and are to go before the server goes."""
    with suppress(OSError):
        os.setpriority(os.PRIO_PROCESS, 0, 0)
        write_control("/proc/self/oom_score_adj", "0")


class Launch:
    """One launch as the runner sent it, its types checked."""

    def __init__(self, message: Json) -> None:
        self.job = expect(message, "job", int)
        self.attempt = expect(message, "attempt", int)
        self.user = expect(message, "user", str, None)
        self.command = expect(message, "command", str)
        self.directory = expect(message, "directory", str)
        self.stdout = expect(message, "stdout", str)
        self.stderr = expect(message, "stderr", str)
        self.append = expect(message, "append", bool, True)
        self.umask = expect(message, "umask", int, 0o022) & 0o777
        self.environment = expect(message, "environment", dict, {})
        self.nodes = inflated(message.get("nodes", ""))
        self.resources = inflated(message.get("resources", ""))
        self.walltime_s = expect(message, "walltime_s", float, None)
        self.grace_s = expect(message, "grace_s", float, 0.0)
        self.kill_after_s = expect(message, "kill_after_s", float, 20.0)
        self.cpus = expect(message, "cpus", str, None)
        self.memory_mib = expect(message, "memory_mib", int, None)
        devices = expect(message, "devices", dict, {})
        self.denied = expect(devices, "denied", list, [])
        self.visible = expect(devices, "visible", str, None)
        self.part = expect(message, "part", bool, False)
        self.sweep = expect(message, "sweep", list, [])
        self.prologue = expect(message, "prologue", str, None)
        self.epilogue = expect(message, "epilogue", str, None)
        self.program_timeout_s = expect(message, "program_timeout_s", float, 60.0)
        self.lease_s = expect(message, "lease_s", float, None)
        self.since = expect(message, "since", float, 0.0)
        access = expect(message, "access", dict, None)
        self.access = None if access is None else Access(access)
        if self.cpus is not None and not CPU_LIST.match(self.cpus):
            raise Garbled("cpus is %r" % self.cpus)
        if not all(isinstance(path, str) and os.path.isabs(path) and "\0" not in path for path in self.denied):
            raise Garbled("devices denied are %r" % self.denied)
        if not all(isinstance(word, str) and "\0" not in word for word in self.sweep):
            raise Garbled("sweep is %r" % self.sweep)
        check_environment(self.environment)


def check_environment(environment: Json) -> None:
    """Raises ``Garbled``."""
    for name, value in environment.items():
        if not isinstance(value, str) or not names_variable(name):
            raise Garbled("environment holds %r" % name)


class Access:
    """How oarsh comes to a job."""

    def __init__(self, message: Json) -> None:
        self.private = expect(message, "private", str)
        self.public = expect(message, "public", str)
        self.authorized = expect(message, "authorized", list, [])
        self.proof = expect(message, "proof", str)
        self.hosts = expect(message, "hosts", dict)
        if not all(isinstance(key, str) and "\n" not in key for key in [self.public, *self.authorized]):
            raise Garbled("access holds a key that is none")


_NO_DEFAULT = object()


def expect(message: Json, name: str, kind: type, default: Any = _NO_DEFAULT) -> Any:
    """The field ``name``; Raises ``Garbled`` unless it is of ``kind``, or missing where there is a default."""
    value = message.get(name)
    if value is None and default is not _NO_DEFAULT:
        return default
    if kind is float and type(value) is int:
        value = float(value)
    if type(value) is not kind:
        raise Garbled("%s is %r" % (name, value))
    return value


def inflated(text: Any) -> str:
    if isinstance(text, str):
        return text
    try:
        return zlib.decompress(base64.b64decode(text["deflated"])).decode("utf-8", "surrogateescape")
    except (TypeError, KeyError, ValueError, zlib.error) as error:
        raise Garbled("a file that cannot be inflated: %s" % error) from error


def number_of(message: Json) -> Number:
    number = expect(message, "session", list)
    if len(number) != 2 or not all(type(part) is int for part in number):
        raise Garbled("session is %r" % number)
    return (number[0], number[1])


class Account:
    """Who runs a job, and the environment of a login."""

    def __init__(self, entry: pwd.struct_passwd, path: str) -> None:
        self.name = entry.pw_name
        self.uid = entry.pw_uid
        self.groups = [entry.pw_gid]
        self.groups += [gid for gid in os.getgrouplist(entry.pw_name, entry.pw_gid) if gid != entry.pw_gid]
        self.shell = entry.pw_shell or "/bin/sh"
        self.environment = {
            "HOME": entry.pw_dir,
            "PATH": path,
            "SHELL": self.shell,
            "LOGNAME": self.name,
            "USER": self.name,
        }


class Accounts:
    """Resolves users by name; refuses those that may not run jobs."""

    # A name service may be slow, and an account hardly ever changes.
    KEPT_S = 60.0

    def __init__(self, min_uid: Optional[int]) -> None:
        defs = login_defs()
        self._min_uid = min_uid if min_uid is not None else int(defs.get("UID_MIN", "1000"))
        path = defs.get("ENV_PATH", "PATH=/usr/local/bin:/usr/bin:/bin")
        self._path = path[len("PATH=") :] if path.startswith("PATH=") else path
        self._known: Dict[Optional[str], Tuple[float, Account]] = {}

    def find(self, name: Optional[str]) -> Account:
        until, account = self._known.get(name, (0.0, None))
        if account is None or until < clock():
            account = self._look_up(name)
            self._known[name] = (clock() + self.KEPT_S, account)
        return account

    def _look_up(self, name: Optional[str]) -> Account:
        myself = os.geteuid()
        try:
            found = pwd.getpwuid(myself) if name is None else pwd.getpwnam(name)
        except (KeyError, ValueError):
            raise Refusal("USER_UNKNOWN", "this host knows no account %s" % (name or myself)) from None
        if myself != 0 and found.pw_uid != myself:
            raise Refusal(
                "USER_REFUSED", "without root this host runs jobs of user id %d alone, not of %s" % (myself, name)
            )
        if myself == 0 and (found.pw_uid < max(1, self._min_uid) or found.pw_uid in (65534, 65535)):
            raise Refusal("USER_REFUSED", "jobs of system accounts are not run: %s" % found.pw_name)
        return Account(found, self._path)


class Link:
    """One connection of a session to the guard."""

    def __init__(self, sock: socket.socket) -> None:
        self.socket = sock
        self.fd = sock.fileno()
        self.number: Optional[Number] = None
        self.received = bytearray()
        self.to_send = bytearray()

    def lines(self) -> Iterable[bytes]:
        while True:
            end = self.received.find(b"\n")
            if end < 0:
                if len(self.received) > MAX_LINE:
                    raise Garbled("a line is longer than %d bytes" % MAX_LINE)
                return
            line = bytes(self.received[:end])
            del self.received[: end + 1]
            yield line

    def say(self, message: Json) -> None:
        self.to_send += json.dumps(message, separators=(",", ":")).encode() + b"\n"

    def say_parts(self, word: str, items: List[Json]) -> None:
        """One line for each ``ITEMS_PER_LINE`` of ``items``."""
        for first in range(0, len(items), ITEMS_PER_LINE):
            self.say({word: items[first : first + ITEMS_PER_LINE]})

    def say_inventory(self, items: List[Json]) -> None:
        for first in range(0, max(1, len(items)), ITEMS_PER_LINE):
            rest = first + ITEMS_PER_LINE
            self.say({"inventory": items[first:rest], "more": rest < len(items)})


class SharedFiles:
    """Contents that many launches have alike, each made a file once and linked from then on."""

    def __init__(self, directory: str) -> None:
        self._directory = directory
        self._paths: Dict[str, str] = {}
        self._made = 0

    def clear(self) -> None:
        """Forget what was made; what has been put somewhere stays there."""
        for name in os.listdir(self._directory):
            os.unlink(os.path.join(self._directory, name))
        self._paths.clear()

    def put(self, path: str, text: str) -> None:
        """Let ``path`` be a file that holds ``text``, for everybody to read."""
        with suppress(FileNotFoundError):
            os.unlink(path)
        try:
            os.link(self._path(text), path)
        except OSError:
            # Too many links to one file, or a file system that has none.
            self.clear()
            write_file(path, text, 0o444)

    def _path(self, text: str) -> str:
        path = self._paths.get(text)
        if path is None:
            if sum(map(len, self._paths)) + len(text) > KEPT_SHARED_BYTES:
                self.clear()
            self._made += 1
            path = os.path.join(self._directory, str(self._made))
            write_file(path, text, 0o444)
            self._paths[text] = path
        return path


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
        until = self.timers[0][0] - clock() if self.timers else 60.0
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
        for message in launches:
            entry = self._make_entry(expect(message, "job", int), expect(message, "attempt", int), number)
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
            import traceback  # 0.5 MiB for which there is seldom a use

            complain(traceback.format_exc())
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
        except OSError as error:
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
        except OSError as error:
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
        said = {
            ("WORKING_DIRECTORY", "absent"): "the working directory %s does not exist" % entry.directory,
            ("WORKING_DIRECTORY", "file"): "the working directory %s is not a directory" % entry.directory,
            ("WORKING_DIRECTORY", "forbidden"): "%s may not enter the working directory %s"
            % (entry.user, entry.directory),
            ("USER_SHELL", "shell"): "the login shell of %s cannot be executed" % entry.user,
            ("CPUSET_ERROR", "join"): "the job cannot enter its control group",
        }
        if event == "OUTPUT_FILES":
            return self._unopened(entry, *detail.partition(" ")[::2])[:MAX_TEXT]
        return said.get((event, detail), detail)[:MAX_TEXT]

    def _unopened(self, entry: Entry, which: str, why: str) -> str:
        path = os.path.join(entry.directory, entry.stderr if which == "stderr" else entry.stdout)
        name = "standard error" if which == "stderr" else "standard output"
        folder = os.path.dirname(path)
        reason = {
            "absent": ": the directory %s does not exist; mkdir -p makes it" % folder,
            "file": ": %s is not a directory" % folder,
            "directory": ": it is a directory",
            "forbidden": ": it is there and not %s's to write" % entry.user,
            "closed": ": %s may not write in the directory %s" % (entry.user, folder),
        }.get(why, "")
        return "%s cannot write its %s file %s%s" % (entry.user, name, path, reason)

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

        arguments = [sys.executable, "-I", "-S", os.path.abspath(__file__), "sweep", str(uid), gid, ",".join(words)]
        self.sweeping.add(uid)
        try:
            self._run_program(entry, [*arguments, *directories], ended)
        except OSError as error:
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
        arguments = [sys.executable, "-I", "-S", os.path.abspath(__file__), "watch"]
        arguments += ["--spool", self.spool, "--instance", self.instance, *self.options]
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
                members = self.containment.members(entry)
                self._claim(entry, members)
                signal_all(members, signal.SIGTERM)
            self._thaw(entry)
            when = clock() + kill_after_s
            if entry.kill_at is None or when < entry.kill_at:
                entry.kill_at = when
                self._kill_hard(entry, 0.05) if kill_after_s <= 0 else self._at(when, self._kill_hard, entry, 0.05)

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

    def _suspend(self, entry: Entry, order: Json, deadline: float) -> None:
        if entry.state != Entry.BEGUN:
            self._answer(order, False, "the job is over", over=True)
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
            self._after(0.02, self._suspend, entry, order, deadline)

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
        job, attempt = expect(order, "job", int), expect(order, "attempt", int)
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
            self._kill(entry, expect(order, "kill_after_s", float, entry.kill_after_s), cause)
            self.changed[entry.key] = entry
            self._answer(order, True)
        elif entry.state != Entry.BEGUN:
            over = entry.state != Entry.STARTING
            self._answer(order, False, "the job is over" if over else "the job has not begun", over)
        elif kind == "signal":
            self._answer(order, *self._signal(entry, expect(order, "signal", int)))
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

    def _signal(self, entry: Entry, number: int) -> Tuple[bool, str]:
        if not 0 < number < signal.NSIG:
            return False, "%d is not a signal" % number
        first = [] if entry.pid is None else children(entry.pid)
        if first is None:
            first = [pid for pid, one in processes().items() if one.parent == entry.pid]
        for pid in first:
            send_signal(pid, number)
        return (True, "") if first else (False, "the job has no process")

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
                if link.fd not in self.links:
                    return
                self._obey(link, json.loads(line.decode()))
        except (Garbled, ValueError, OSError) as error:
            link.say({"refused": str(error)[:MAX_TEXT]})
            self._drop(link)

    def _obey(self, link: Link, message: Any) -> None:
        if not isinstance(message, dict):
            raise Garbled("a line is not an object")
        if "hello" in message:
            self._greet(link, message["hello"])
        elif link is not self.current:
            raise Garbled("hello comes first")
        elif "launches" in message:
            self._launch(message["launches"], link.number or self.number)
        elif "orders" in message:
            for order in message["orders"]:
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
        if self.links.pop(link.fd, None) is None:
            return
        if self.current is link:
            self.current = None
        with suppress(OSError):
            link.socket.send(link.to_send)
        self.poll.unregister(link.fd)
        link.socket.close()


def parsed(text: Optional[str]) -> Optional[Json]:
    """The JSON object of a file that may have been cut short, None then."""
    try:
        found = json.loads(text or "")
    except (ValueError, RecursionError):
        return None
    return found if isinstance(found, dict) else None


def trouble(error: OSError) -> str:
    """What is said of a spool that cannot be written."""
    return ("the spool cannot be written: %s" % (error.strerror or error))[:MAX_TEXT]


def chroot_as(uid: int, groups: str) -> List[str]:
    """Options of chroot(1) that only change the user; its numbers are not looked up."""
    numbers = ["+" + gid for gid in groups.split(",")]
    return ["--userspec=+%d:%s" % (uid, numbers[0]), "--groups=" + ",".join(numbers), "--skip-chdir", "/"]


def make_hidden_shell() -> Optional[str]:
    """Make ``sh`` in the current directory, a shell that users can execute and not read.

    The kernel lets nobody trace what runs such a file (ptrace(2)), so a user gets no hold of what it
    has open.  Only, whoever executes it must not be root any more, which setpriv still is in part and
    chroot is not: returns the path of that, None where all this does not work.
    """
    chroot = find_program("chroot")
    if chroot is None:
        return None
    try:
        with open("/bin/sh", "rb") as program, open("sh.new", "wb") as copy:
            copy.write(program.read())
        os.chmod("sh.new", 0o711)
        os.rename("sh.new", "sh")
        nobody = spawn([chroot, *chroot_as(65534, "65534"), "./sh", "-c", "[ ! -r ./sh ]"], {}, {})
    except OSError as error:
        complain("the shell that opens the files of jobs: %s" % trouble(error))
        return None
    return chroot if os.waitpid(nobody, 0)[1] == 0 else None


def python_of_users() -> str:
    """A python3 that everybody can run: root's may lie in root's own directory."""
    mine = os.path.realpath(sys.executable)
    if os.geteuid() != 0 or reachable(os.path.dirname(mine)):
        return sys.executable
    return find_program("python3") or sys.executable


def remove_tree(path: str) -> None:
    """Remove a directory with its files, and with those of directories in it."""
    for name in os.listdir(path):
        inner = os.path.join(path, name)
        if os.path.isdir(inner) and not os.path.islink(inner):
            remove_tree(inner)
        else:
            os.unlink(inner)
    os.rmdir(path)


def let_read(path: str, uid: int) -> None:
    """Let one user besides root read a file.

    By an access control list: an owner could write, and fill the disk of the spool.
    Where the file system has none the user becomes the owner.
    """
    everybody = 0xFFFFFFFF
    entries = ((0x01, 6, everybody), (0x02, 4, uid), (0x04, 0, everybody), (0x10, 4, everybody), (0x20, 0, everybody))
    try:
        packed = struct.pack("<I", 2) + b"".join(struct.pack("<HHI", *entry) for entry in entries)
        os.setxattr(path, "system.posix_acl_access", packed)
    except OSError:
        os.chown(path, uid, -1)
        os.chmod(path, 0o400)


def span_of(hello: Json) -> Optional[Tuple[int, int]]:
    """The first and the last of the ports that are named; Raises ``Garbled``."""
    span = expect(hello, "oarsh_ports", list, None)
    if span is None:
        return None
    if len(span) != 2 or not all(type(port) is int for port in span) or not 0 < span[0] <= span[1] < 65536:
        raise Garbled("oarsh_ports is %r" % span)
    return (span[0], span[1])


def listen_anywhere(ports: Iterable[int]) -> socket.socket:
    """A socket that listens on all addresses, on the first of ``ports`` that nobody has; 0 is any."""
    for wanted in ports:
        for family, address in ((socket.AF_INET6, "::"), (socket.AF_INET, "")):
            sock = None
            try:
                sock = socket.socket(family, socket.SOCK_STREAM)
                sock.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
                if family == socket.AF_INET6:
                    sock.setsockopt(socket.IPPROTO_IPV6, socket.IPV6_V6ONLY, 0)
                sock.bind((address, wanted))
                sock.listen(64)
                return sock
            except OSError:
                if sock is not None:
                    sock.close()
    raise OSError(errno.EADDRINUSE, os.strerror(errno.EADDRINUSE))


# What a terminal, or a login, sets for itself.
NOT_FOR_SSHD = ("TERM", "SHLVL", "HOME", "SHELL", "USER", "LOGNAME")


def sshd_config(directory: str, variables: Dict[str, str]) -> str:
    """What an sshd of a job, which runs as the job's user, has to know."""
    # Older ones cannot read every character back.
    told = {name: value for name, value in variables.items() if name not in NOT_FOR_SSHD and PLAIN.match(value)}
    lines = [
        'HostKey "%skey"' % directory,
        'AuthorizedKeysFile "%sauthorized_keys"' % directory.replace("%", "%%"),
        "AuthenticationMethods publickey",
        "UsePAM no",
        "UseDNS no",
        "StrictModes no",
        "PrintMotd no",
        "PrintLastLog no",
        "PidFile none",
        "LogLevel ERROR",
        "LoginGraceTime 30",
        "ClientAliveInterval 60",
        "AcceptEnv LANG LC_*",
        # A port of the loopback interface, and a cookie in the user's own file.
        "X11Forwarding yes",
        "X11UseLocalhost yes",
        "Subsystem sftp internal-sftp",
        "SetEnv " + " ".join('"%s=%s"' % item for item in sorted(told.items())),
    ]
    return "".join(line + "\n" for line in lines)


def become_subreaper() -> bool:
    """Make orphans of the jobs our children; False where that cannot be had."""
    import ctypes

    try:
        done = ctypes.CDLL(None, use_errno=True).prctl(PR_SET_CHILD_SUBREAPER, 1, 0, 0, 0)
    except (OSError, AttributeError):
        return False
    return bool(done == 0)


def find_program(name: str) -> Optional[str]:
    """The path of a system's program; the environment has no say in it."""
    for directory in ("/usr/bin", "/bin", "/usr/sbin", "/sbin"):
        path = os.path.join(directory, name)
        if os.access(path, os.X_OK):
            return path
    return None


def spawn(arguments: List[str], environment: Dict[str, str], descriptors: Dict[int, int]) -> int:
    """Start a program in a session of its own; its pid.  Of stdin, stdout and stderr what is not given is /dev/null."""
    if os.geteuid() == 0:
        leave_keys()
    argv: List[Any] = arguments
    env: Dict[Any, Any] = environment
    if sys.getfilesystemencoding() != "utf-8":
        argv = [argument.encode("utf-8", "surrogateescape") for argument in arguments]
        env = {name.encode(): value.encode("utf-8", "surrogateescape") for name, value in environment.items()}
    if hasattr(os, "posix_spawn"):
        actions: List[Any] = [(os.POSIX_SPAWN_OPEN, fd, "/dev/null", os.O_RDWR, 0) for fd in range(3)]
        actions += [(os.POSIX_SPAWN_DUP2, source, target) for target, source in descriptors.items()]
        try:
            return os.posix_spawn(
                argv[0],
                argv,
                env,
                file_actions=actions,
                setsid=True,
                setsigmask=(),
                setsigdef=DEFAULTED,
            )
        except NotImplementedError:
            # A C library without POSIX_SPAWN_SETSID.
            pass
    pid = os.fork()
    if pid != 0:
        return pid
    try:
        os.setsid()
        for number in DEFAULTED:
            signal.signal(number, signal.SIG_DFL)
        null = os.open("/dev/null", os.O_RDWR)
        for target, source in [(0, null), (1, null), (2, null), *descriptors.items()]:
            os.dup2(source, target)
        os.execve(argv[0], argv, env)
    finally:
        os._exit(127)


# The system call keyctl(2) by machine.
KEYCTL_CALLS = {"x86_64": 250, "aarch64": 219, "ppc64le": 271, "riscv64": 219, "armv7l": 311, "s390x": 280}
KEYCTL_JOIN_SESSION_KEYRING = 1


@lru_cache(1)
def keyctl() -> Optional[Callable[[int, Optional[int]], int]]:
    import ctypes

    number = KEYCTL_CALLS.get(os.uname().machine)
    if number is None:
        return None
    call = ctypes.CDLL(None).syscall
    return lambda operation, argument: int(call(ctypes.c_long(number), operation, argument))


def leave_keys() -> None:
    """Begin a new session of keys (session-keyring(7)).

    Whoever inherits one may read what is in it, whatever account he becomes: jobs would have that of
    oarexec's own login, and all of them the same.
    """
    call = keyctl()
    if call is not None:
        # Where the kernel has none, or a container may not, there is nothing to leave.
        call(KEYCTL_JOIN_SESSION_KEYRING, None)


# The kinds of System V IPC: what /proc calls them, their ids, and how they are removed.
IPC = {"shm": "shmid", "sem": "semid", "msg": "msqid"}
IPC_RMID = 0
PR_SET_PDEATHSIG = 1
DEATH_S = 5.0
# Nobody who does not mean harm makes deeper ones; each level keeps a descriptor open.
DEEPEST = 200


def ipc_of(kind: str, uid: int) -> List[int]:
    """The ids of what a user owns or made, of one kind of System V IPC."""
    lines = (read_text("/proc/sysvipc/" + kind) or "").splitlines()
    names = lines[0].split() if lines else []
    rows = (dict(zip(names, line.split())) for line in lines[1:])  # noqa: B905 (strict came with Python 3.10)
    return [int(row[IPC[kind]]) for row in rows if str(uid) in (row["uid"], row["cuid"])]


def processes_of(uid: int) -> List[int]:
    """The living processes that run as a user in any way, this one excepted."""
    found = []
    for name in os.listdir("/proc"):
        if name.isdigit() and int(name) != os.getpid():
            try:
                status = read_text("/proc/%s/status" % name) or ""
            except OSError:
                continue
            uids = re.search(r"^Uid:(.*)", status, re.M)
            if uids and str(uid) in uids.group(1).split() and not re.search(r"^State:\s+[ZX]", status, re.M):
                found.append(int(name))
    return found


def in_job(pid: int) -> bool:
    """Whether a process is in the control group of a job, of whatever instance."""
    try:
        return IN_JOB.search(read_text("/proc/%d/cgroup" % pid) or "") is not None
    except OSError:
        return False


def sweep(uid: int, gid: int, words: List[str], directories: List[str]) -> int:
    """Remove what is left of a user, being him."""
    import ctypes

    libc = ctypes.CDLL(None, use_errno=True)
    os.setgroups([])
    os.setresgid(gid, gid, gid)
    os.setresuid(uid, uid, uid)
    if 0 in os.getresuid():
        return 1
    # Another guard begins with nothing of this going on.
    libc.prctl(PR_SET_PDEATHSIG, signal.SIGKILL, 0, 0, 0)
    deadline = clock() + DEATH_S
    living = processes_of(uid)
    while living:
        # What lives may use what else there is; and it may be another instance's job, whose last one is not over.
        if "processes" not in words or any(map(in_job, living)):
            return 0
        if clock() > deadline:
            return 3
        with suppress(ProcessLookupError):
            # All at once, so that none can fork in between.
            os.kill(-1, signal.SIGKILL)
        time.sleep(0.02)
        living = processes_of(uid)
    if "ipc" in words:
        for kind in IPC:
            for number in ipc_of(kind, uid):
                if kind == "sem":
                    libc.semctl(number, 0, IPC_RMID)
                else:
                    getattr(libc, kind + "ctl")(number, IPC_RMID, None)
    for path in directories:
        with suppress(OSError):
            remove_owned(os.open(path, os.O_RDONLY | os.O_DIRECTORY | os.O_CLOEXEC), uid, 0)
    return 0


def remove_owned(directory: int, uid: int, depth: int) -> None:
    """Remove what a user owns in a directory, which is closed.

    Goes into his directories alone, of the same file system, by descriptors: whatever others put
    in their place meanwhile, or links to, is left alone.
    """
    try:
        device = os.fstat(directory).st_dev
        for name in os.listdir(directory):
            with suppress(OSError):
                found = os.stat(name, dir_fd=directory, follow_symlinks=False)
                if found.st_uid != uid:
                    continue
                if not stat.S_ISDIR(found.st_mode):
                    os.unlink(name, dir_fd=directory)
                    continue
                flags = os.O_RDONLY | os.O_DIRECTORY | os.O_NOFOLLOW | os.O_CLOEXEC
                inner = os.open(name, flags, dir_fd=directory)
                status = os.fstat(inner)
                if status.st_uid == uid and status.st_dev == device and depth < DEEPEST:
                    if status.st_mode & stat.S_IRWXU != stat.S_IRWXU:
                        # Else he could not remove what is in it.
                        os.fchmod(inner, stat.S_IRWXU)
                    remove_owned(inner, uid, depth + 1)
                else:
                    os.close(inner)
                os.rmdir(name, dir_fd=directory)
    finally:
        os.close(directory)


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


class Watch:
    """Stands beside a guard while something has a lease: kills what outlives it, and says when the guard has died.

    It hears of the leases on its stdin, whose end is the guard's.  It reads and writes nothing that lies on a disk.
    """

    def __init__(self, instance: str) -> None:
        self.guard = os.getppid()
        self.boot_id = boot_id()
        self.containment, _ = find_containment(instance)
        self.received = bytearray()
        self.since = 0.0
        self.leased: Dict[Key, Entry] = {}
        # How many looks, a second apart, found that the guard had said nothing of what had outlived its lease.
        self.in_vain = 0
        self.counted_at = 0.0

    def run(self) -> None:
        """Return when there is no guard any more."""
        poll = select.poll()
        poll.register(0, select.POLLIN)
        patience_s = LEASE_LOOK_S
        while True:
            # What the guard has said is heard before anything is judged: it may be that a lease was prolonged.
            while poll.poll(1000 * patience_s):
                data = os.read(0, 1 << 16)
                if not data:
                    return
                self.received += data
                patience_s = 0
            self._hear()
            patience_s = self._look()

    def _hear(self) -> None:
        *lines, rest = bytes(self.received).split(b"\n")
        self.received = bytearray(rest)
        for line in lines:
            self._take(json.loads(line.decode()))

    def _take(self, message: Json) -> None:
        if "since" in message:
            self.since = message["since"]
        elif "lease" in message:
            record = message["lease"]
            entry = Entry(record["job"], record["attempt"], (0, 0))
            entry.recall(record)
            self.leased[entry.key] = entry
        elif "fenced" in message and tuple(message["fenced"]) in self.leased:
            self.leased[tuple(message["fenced"])].fenced = True
        elif "over" in message:
            self.leased.pop(tuple(message["over"]), None)

    def _look(self) -> float:
        """Kill what there is to kill; how long to wait before the next look, in seconds."""
        now = clock()
        ends = {key: entry.lease_ends_at(self.since) + WATCH_LATER_S for key, entry in self.leased.items()}
        late = [self.leased[key] for key, end in ends.items() if now >= end]
        for entry in late:
            if entry.boot_id == self.boot_id:
                self.containment.kill(entry)
        if all(entry.fenced for entry in late):
            self.in_vain = 0
        elif now >= self.counted_at + LEASE_LOOK_S:
            self.in_vain += 1
            self.counted_at = now
        if self.in_vain > WATCH_PATIENCE and os.getppid() == self.guard:
            # It does not do what it is there for, and answers no session either.
            os.kill(self.guard, signal.SIGKILL)
        return max(0.01, min([LEASE_LOOK_S, *(end - now for end in ends.values() if end > now)]))


def take_precedence() -> None:
    """Go on where a machine is short of memory or time, or its disk does not answer; becoming a guard undoes it."""
    import ctypes

    # A container may not grant any of them.
    with suppress(OSError):
        os.setpriority(os.PRIO_PROCESS, 0, -20)
    with suppress(OSError):
        write_control("/proc/self/oom_score_adj", "-1000")
    ctypes.CDLL(None, use_errno=True).mlockall(MCL_CURRENT | MCL_FUTURE)


def watch(spool: str, instance: str, options: List[str]) -> int:
    """Stand beside the guard, and become one when it has died, unless there is another."""
    lock = os.open(os.path.join(spool, instance, "lock"), os.O_RDWR | os.O_CREAT | os.O_CLOEXEC, 0o600)
    if os.geteuid() == 0:
        take_precedence()
    Watch(instance).run()
    until = clock() + LOCK_S
    while True:
        try:
            # Executing another program gives it up, and whoever is first then is the guard.
            fcntl.flock(lock, fcntl.LOCK_EX | fcntl.LOCK_NB)
            break
        except BlockingIOError:
            # What the guard was starting when it died may still hold it.
            if clock() > until:
                return 0
            time.sleep(0.02)
    log = os.open(os.path.join(spool, instance, "guard.log"), os.O_WRONLY | os.O_CREAT | os.O_APPEND, 0o600)
    os.dup2(log, 2)
    os.close(log)
    null = os.open("/dev/null", os.O_RDWR)
    os.dup2(null, 0)
    os.close(null)
    arguments = ["guard", "--spool", spool, "--instance", instance, *options]
    os.execv(sys.executable, [sys.executable, "-I", "-S", os.path.abspath(__file__), *arguments])
    return 1


# What a session does for as long as it lives: without the rest of this file python takes half of the memory.
RELAY = """\
import os, select, sys
link = int(sys.argv[-1])
to = {0: link, link: 1}
poll = select.poll()
for fd in to:
    poll.register(fd, select.POLLIN)
while True:
    for fd, _ in poll.poll():
        data = os.read(fd, 1 << 18)
        if not data:
            sys.exit(fd != 0)
        while data:
            data = data[os.write(to[fd], data) :]
"""


def session(spool: str, instance: str, options: List[str]) -> int:
    """Become what carries lines between stdin, stdout and the guard until one of them ends."""
    try:
        make_spool(spool, instance)
        link = connect(spool, instance, options)
    except OSError as error:
        raise SystemExit("oarexec: the spool %s cannot be used: %s" % (spool, error.strerror or error)) from None
    link.set_inheritable(True)
    arguments = ["session", "--spool", spool, "--instance", instance, *options, str(link.fileno())]
    os.execv(sys.executable, [sys.executable, "-I", "-S", "-c", RELAY, *arguments])
    return 1


def make_spool(spool: str, instance: str) -> None:
    # Users reach their node files below it, and can list nothing.
    mode = 0o711 if os.geteuid() == 0 else 0o700
    own = os.path.join(spool, instance)
    for path in (spool, own, *(os.path.join(own, name) for name in ("jobs", "free", "shared", "bin"))):
        if not os.path.isdir(path):
            os.makedirs(path, exist_ok=True)
            os.chmod(path, mode)
    for path in (spool, own):
        if os.geteuid() == 0 and not is_of_root(path):
            raise OSError(errno.EPERM, "it must be root's, and nobody else may write to it")


def is_of_root(path: str) -> bool:
    """Whether nobody but root can change what is in a directory, or put another one in its place below /tmp."""
    found = os.stat(path)
    return {found.st_uid, os.lstat(path).st_uid} == {0} and not found.st_mode & (stat.S_IWGRP | stat.S_IWOTH)


def connect(spool: str, instance: str, options: List[str]) -> socket.socket:
    """A connection to the guard, which is started when nothing answers."""
    os.chdir(os.path.join(spool, instance))
    for pause_s in CONNECT_AFTER_S:
        time.sleep(pause_s)
        link = socket.socket(socket.AF_UNIX, socket.SOCK_STREAM)
        try:
            link.connect("guard.sock")
            return link
        except (FileNotFoundError, ConnectionRefusedError):
            link.close()
        start_guard(spool, instance, options)
    raise SystemExit("oarexec: no guard could be started; see %s" % os.path.join(spool, instance, "guard.log"))


def start_guard(spool: str, instance: str, options: List[str]) -> None:
    """Start a guard and wait until it is ready, or has found that there is another."""
    ready, write_end = os.pipe2(os.O_CLOEXEC)
    log = os.open("guard.log", os.O_WRONLY | os.O_CREAT | os.O_APPEND | os.O_CLOEXEC, 0o600)
    arguments = [sys.executable, "-I", "-S", os.path.abspath(__file__), "guard"]
    arguments += ["--spool", spool, "--instance", instance, *options]
    try:
        spawn(arguments, {"PATH": "/usr/bin:/bin"}, {1: write_end, 2: log})
    finally:
        os.close(write_end)
        os.close(log)
    while os.read(ready, 64):
        pass
    os.close(ready)


# File systems that lose the spool at a reboot, or do not keep it on this node's disk.
UNFIT = re.compile(r"(tmpfs|ramfs|devtmpfs|nfs\d*|cifs|smb3|9p|ceph|lustre|gpfs|fuse\..*)\Z")


def file_system(path: str, mountinfo: str) -> str:
    """The type of the file system that ``path`` lies on."""
    best, kind = "", "unknown"
    for line in mountinfo.splitlines():
        before, _, after = line.partition(" - ")
        point = before.split()[4]
        if (path + "/").startswith(point.rstrip("/") + "/") and len(point) >= len(best):
            best, kind = point, after.split()[0]
    return kind


def diagnosis(spool: str, containment: Loose, weakness: Optional[str]) -> Json:
    """What this host can and cannot do for its jobs."""
    existing = os.path.realpath(spool)
    while not os.path.isdir(existing):
        existing = os.path.dirname(existing)
    kind = file_system(existing, read_text("/proc/self/mountinfo") or "")
    room = os.statvfs(existing)
    root = os.geteuid() == 0
    findings = []
    if UNFIT.match(kind):
        findings.append("the spool %s lies on %s; it must be on a disk of this node" % (spool, kind))
    if room.f_flag & os.ST_NOEXEC:
        findings.append("nothing can be executed in the spool %s (noexec); jobs have no oarsh there" % spool)
    if room.f_bavail * room.f_frsize < 64 << 20:
        findings.append("less than 64 MiB are free for the spool %s" % spool)
    if weakness is not None:
        findings.append("%s; a determined user can leave processes behind" % weakness)
    if root and find_program("setpriv") is None:
        findings.append("setpriv (util-linux) is missing; no job can be started")
    if root and (room.f_flag & os.ST_NOEXEC or find_program("chroot") is None):
        findings.append("a determined user can falsify what is told of jobs: chroot is missing, or the spool is noexec")
    if root and not reachable(existing):
        findings.append("users cannot reach their node files: a directory above %s is closed to them" % spool)
    for what in ("cpus", "memory", "devices"):
        if what not in containment.enforces:
            findings.append("jobs are not kept to their %s" % what)
    return {
        "protocol": PROTOCOL,
        "host": socket.gethostname(),
        "boot_id": boot_id(),
        "python": "%d.%d.%d" % sys.version_info[:3],
        "root": root,
        "containment": {"by": containment.name, "enforces": list(containment.enforces)},
        "spool": {"path": spool, "file_system": kind, "free_mib": (room.f_bavail * room.f_frsize) >> 20},
        "findings": findings,
    }


def reachable(path: str) -> bool:
    """Whether every directory down to ``path`` lets everybody pass."""
    while True:
        if not os.stat(path).st_mode & stat.S_IXOTH:
            return False
        if path == "/":
            return True
        path = os.path.dirname(path)


def doctor(spool: str) -> int:
    containment, weakness = find_containment("doctor-%d" % os.getpid())
    print(json.dumps(diagnosis(spool, containment, weakness), indent=2))
    containment.close()
    return 0


USAGE = "usage: oarexec session|guard|watch|doctor --spool DIR [--instance UUID] [--min-uid N]"


def main(arguments: List[str]) -> int:
    if arguments[:1] == ["sweep"] and len(arguments) >= 4 and arguments[1].isdigit() and arguments[2].isdigit():
        return sweep(int(arguments[1]), int(arguments[2]), arguments[3].split(","), arguments[4:])
    options = dict(zip(arguments[1::2], arguments[2::2]))  # noqa: B905 (strict came with Python 3.10)
    spool = options.get("--spool", "")
    instance = options.get("--instance", "")
    min_uid = options.get("--min-uid")
    known = set(options) <= {"--spool", "--instance", "--min-uid"} and len(arguments) % 2 == 1
    if not known or not os.path.isabs(spool) or (min_uid is not None and not min_uid.isdigit()):
        raise SystemExit(USAGE)
    if arguments[0] == "doctor":
        return doctor(spool)
    if not INSTANCE.match(instance):
        raise SystemExit(USAGE)
    if arguments[0] == "session":
        return session(spool, instance, [] if min_uid is None else ["--min-uid", min_uid])
    if arguments[0] == "watch":
        return watch(spool, instance, [] if min_uid is None else ["--min-uid", min_uid])
    if arguments[0] == "guard":
        return guard(spool, instance, None if min_uid is None else int(min_uid))
    raise SystemExit(USAGE)


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
