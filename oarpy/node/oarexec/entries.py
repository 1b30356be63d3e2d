"""The spool, and what stands in it of each launch.

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

Making a file costs thirty times as much as linking one, and emptying one makes ext4 write it out
at once; a launch therefore makes no file where it can reuse those of a forgotten entry.
"""

import re
from contextlib import suppress
from typing import Dict, List, Optional, Set, Tuple

from .files import parsed
from .processes import process
from .protocol import CAUSES, LONGEST_S, PROOF, Json, Key, Number

WRAPPER_EVENTS = ("CPUSET_ERROR", "WORKING_DIRECTORY", "OUTPUT_FILES", "USER_SHELL")
ENTRY = re.compile(r"(\d+)\.(\d+)\Z")


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
