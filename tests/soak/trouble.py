"""What may happen to hosts, at random, and when it did."""

from __future__ import annotations

import json
import random
import shlex
import time
from collections.abc import Callable
from contextlib import suppress
from dataclasses import dataclass

from tests.support.cluster import Cluster

#: What processes on several hosts that speak with one another need not outlive.  Guards let them in to one another.
SEVERS = frozenset({"sshd dies", "guard dies", "wrapper dies", "link is cut", "host stands still", "host is rebooted"})


@dataclass
class Fault:
    """What a host had, from when to when by the clock."""

    what: str
    host: str
    begun: float
    ended: float = float("inf")
    #: The job whose own process it was.
    job_id: int | None = None

    def __str__(self) -> str:
        job = "" if self.job_id is None else f", of job {self.job_id}"
        duration = self.ended - self.begun
        lasted = f" for {duration:.1f} s" if duration > 1 else ""
        return f"{time.strftime('%H:%M:%S', time.localtime(self.begun))} {self.host}: {self.what}{lasted}{job}"


class Trouble:
    """The faults of ``hosts``."""

    def __init__(self, system: Cluster, hosts: list[str], luck: random.Random) -> None:
        self.system = system
        self.box = system.box
        self.hosts = hosts
        self.luck = luck
        self.faults: list[Fault] = []
        #: Those that last, with when they end, and how; one of each kind at a host.
        self._lasting: list[tuple[float, Fault, Callable[[], None]]] = []

    def make(self, count: int, jobs: int, all_submitted: Callable[[], bool], *, long_s: float) -> None:
        """``count`` faults, one after the other and at once, as long as there are jobs.

        They are spread over the time that the ``jobs`` take.  Links are cut for ``long_s`` or twice as long, too.
        """
        kinds = [
            self.sshd_dies, self.session_dies, self.guard_dies, self.wrapper_dies, self.runner_dies, self.fill_disk,
            self.freeze, self.reboot, lambda host: self.cut(host, self.luck.uniform(1, 6)),
        ]  # fmt: skip
        if long_s:
            kinds.append(lambda host: self.cut(host, self.luck.uniform(long_s, 2 * long_s)))
        order = kinds * (count // len(kinds) + 1)
        self.luck.shuffle(order)
        lately = time.monotonic()
        try:
            while len(self.faults) < count and not (all_submitted() and self._jobs("stopped_at IS NULL") == 0):
                self._end_those_over()
                over = self._jobs("stopped_at IS NOT NULL")
                if over * count >= len(self.faults) * jobs or time.monotonic() - lately > 5:
                    kind = order.pop(0)
                    if not self._somewhere(kind):
                        order.append(kind)
                    lately = time.monotonic()
                time.sleep(self.luck.uniform(0.2, 1.5))
        finally:
            while self._lasting:
                self._end_those_over()
                time.sleep(0.2)

    def _somewhere(self, kind: Callable[[str], None]) -> bool:
        """Let a fault happen to a host that can have it now; whether there is one."""
        before = len(self.faults)
        for host in self.luck.sample(self.hosts, len(self.hosts)):
            kind(host)
            if len(self.faults) > before:
                return True
        return False

    def revive(self) -> None:
        """Do what a person does for a host that was Suspected and does not come back by itself."""
        suspected = "SELECT DISTINCT network_address FROM resources WHERE state = 'Suspected' AND NOT finaud_decision"
        for (host,) in self.system.database.execute(suspected):
            if not self._has("disk is full", str(host)):
                self.system.admin("oarnodesetting", "-s", "Alive", "-h", str(host), check=False)

    def revive_while_jobs_last(self, timeout_s: float) -> None:
        deadline = time.monotonic() + timeout_s
        while self._jobs("stopped_at IS NULL") and time.monotonic() < deadline:
            self.revive()
            time.sleep(0.5)

    def on(self, host: str, *command: str) -> str:
        """What a command says, whether it finds anything or not."""
        return self.box.do("exec", host, "sh", "-c", shlex.join(command) + " || true")

    # Those that are over at once.

    def sshd_dies(self, host: str) -> None:
        """And with it what came in by ``oarsh``, which is an sshd too."""
        self._kill("sshd dies", host, "-x", "sshd")

    def session_dies(self, host: str) -> None:
        self._kill("session dies", host, "-f", f"[s]ession --spool {self.system.spool}")

    def guard_dies(self, host: str) -> None:
        self._kill("guard dies", host, "-f", f"[g]uard --spool {self.system.spool}")

    def wrapper_dies(self, host: str) -> None:
        """That of one job that runs there."""
        if self._is_away(host):
            return
        for entry in self.luck.sample(found := sorted(self.system.spool_of(host).glob("*/jobs/*")), len(found)):
            with suppress(OSError, ValueError, StopIteration):
                lines = (entry / "progress").read_text().split("\n")
                record = json.loads(next(line for line in lines if line.startswith("launch "))[7:])
                begun = any(line.startswith("begun ") for line in lines)
                if begun and f"{record['job']}.{record['attempt']}" == entry.name and "exit" not in lines[-2]:
                    self._note("wrapper dies", host, record["job"])
                    self.on(host, "kill", "-9", str(record["pid"]))
                    self._over()
                    return

    def runner_dies(self, host: str) -> None:
        self._note("runner dies", "the server")
        self.system.kill_process("runner")
        self._over()

    def _kill(self, what: str, host: str, *which: str) -> None:
        if not self._is_away(host):
            self._note(what, host)
            self.on(host, "pkill", "-9", *which)
            self._over()

    # Those that last.

    def cut(self, host: str, duration_s: float) -> None:
        # A link cannot be mended on a host that is not there, and is another one afterwards.
        if not self._has("link is cut", host) and not self._is_away(host):
            self._note("link is cut", host)
            self.box.do("cut", host)
            self._last(duration_s, lambda: self.box.do("mend", host))

    def fill_disk(self, host: str) -> None:
        """Of the host's spool; a person sets the host Alive when there is room again."""
        if not self._has("disk is full", host):
            self._note("disk is full", host)
            self.box.do("fill", host, "--of", self.luck.choice(["bytes", "files"]))
            self._last(self.luck.uniform(1, 10), lambda: self.box.do("empty", host))

    def freeze(self, host: str) -> None:
        if not self._is_away(host):
            self._note("host stands still", host)
            self.box.do("freeze", host)
            self._last(self.luck.uniform(1, 15), lambda: self.box.do("thaw", host))

    def reboot(self, host: str) -> None:
        if not self._has("link is cut", host) and not self._is_away(host):
            self._note("host is rebooted", host)
            self.box.do("kill", host)
            self._last(self.luck.uniform(0, 10), lambda: self.box.do("boot", host))

    def _last(self, duration_s: float, end: Callable[[], object]) -> None:
        self._lasting.append((time.monotonic() + duration_s, self.faults[-1], end))

    def _end_those_over(self) -> None:
        for one in [one for one in self._lasting if time.monotonic() >= one[0]]:
            _, fault, end = one
            end()
            self._lasting.remove(one)
            fault.ended = time.time()
        self.revive()

    def _has(self, what: str, host: str) -> bool:
        return any((fault.what, fault.host) == (what, host) for _, fault, _ in self._lasting)

    def _is_away(self, host: str) -> bool:
        return self._has("host is rebooted", host) or self._has("host stands still", host)

    def _note(self, what: str, host: str, job_id: int | None = None) -> None:
        self.faults.append(Fault(what, host, time.time(), job_id=job_id))

    def _over(self) -> None:
        self.faults[-1].ended = time.time()

    def _jobs(self, which: str) -> int:
        return int(str(self.system.database.execute(f"SELECT count(*) FROM jobs WHERE {which}")[0][0]))
