"""The protocol between the runner and the guard.

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
suspend    freezes the containment, unless the job is being killed or is resumed meanwhile; ``resume`` thaws it
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
"""

import base64
import os
import re
import zlib
from functools import lru_cache
from typing import Any, Dict, Optional, Tuple

PROTOCOL = 1
MAX_LINE = 1 << 20
# Reports and answers are cut to below 1 KiB each, so that such a line stays below the limit.
ITEMS_PER_LINE = 500
MAX_TEXT = 400
# No host is up, and no job runs, for three centuries.
LONGEST_S = 1e10
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
Key = Tuple[int, int]
Number = Tuple[int, int]
Json = Dict[str, Any]
VARIABLE = re.compile(r"[A-Za-z_][A-Za-z0-9_]*\Z")
CPU_LIST = re.compile(r"\d+(-\d+)?(,\d+(-\d+)?)*\Z")
PROOF = re.compile(r"[0-9a-f]{64}\Z")
_NO_DEFAULT = object()


class Refusal(Exception):
    """A launch that fails for a reason to be told: OAR's event and a sentence."""

    def __init__(self, event: str, text: str) -> None:
        super().__init__(text)
        self.event = event
        self.text = text


class Garbled(Exception):
    """A line that does not follow the protocol."""


@lru_cache(1000)
def names_variable(name: str) -> bool:
    return VARIABLE.match(name) is not None


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


def expect(message: Json, name: str, kind: type, default: Any = _NO_DEFAULT) -> Any:
    """The field ``name``; Raises ``Garbled`` unless it is of ``kind``, or missing where there is a default."""
    if not isinstance(message, dict):
        raise Garbled("%r is not an object" % (message,))
    value = message.get(name)
    if value is None and default is not _NO_DEFAULT:
        return default
    if kind is float and type(value) is int and abs(value) <= LONGEST_S:
        value = float(value)
    # Not "greater", which nan is not.
    if type(value) is not kind or (isinstance(value, float) and not abs(value) <= LONGEST_S):
        raise Garbled("%s is %r" % (name, value))
    return value


def key_of(message: Json) -> Key:
    """Which attempt a launch or an order is about."""
    job, attempt = expect(message, "job", int), expect(message, "attempt", int)
    # What the server's tables hold: it would not understand a report of any other.
    if not (0 <= job < 1 << 63 and 0 <= attempt < 1 << 31):
        raise Garbled("no attempt is %d.%d" % (job, attempt))
    return (job, attempt)


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


def span_of(hello: Json) -> Optional[Tuple[int, int]]:
    """The first and the last of the ports that are named; Raises ``Garbled``."""
    span = expect(hello, "oarsh_ports", list, None)
    if span is None:
        return None
    if len(span) != 2 or not all(type(port) is int for port in span) or not 0 < span[0] <= span[1] < 65536:
        raise Garbled("oarsh_ports is %r" % span)
    return (span[0], span[1])
