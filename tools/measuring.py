"""What the benchmarks share: a throw-away instance, process accounting, tables.

A benchmark runs on an instance of its own, with as many declared slots as it
asks for, whatever the machine has, and leaves nothing behind.
"""

from __future__ import annotations

import json
import os
import platform
import pwd
import resource
import shutil
import statistics
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable, Iterable, Sequence
from contextlib import AbstractContextManager
from pathlib import Path
from types import TracebackType

import psycopg2

from oarpy.instance import Instance

BIN = Path(sys.executable).parent
TICKS = os.sysconf("SC_CLK_TCK")
LIVES = ("guard", "session")


def as_account(name: str | None) -> None:
    """Run this program again as ``name``; nothing when it is that account already."""
    if name is None or pwd.getpwuid(os.getuid()).pw_name == name:
        return
    account = pwd.getpwnam(name)
    environment = os.environ | {"HOME": account.pw_dir, "USER": name, "LOGNAME": name}
    program = os.path.abspath(sys.argv[0])
    os.chdir("/")
    switch = ["setpriv", "--reuid", name, "--regid", str(account.pw_gid), "--init-groups"]
    os.execvpe("setpriv", [*switch, sys.executable, program, *sys.argv[1:]], environment)


class Bench(AbstractContextManager["Bench"]):
    """A running instance with ``slots`` single-core resources on this host.

    ``submitter`` is the account whose jobs they are: when root measures, one
    with a uid that may run jobs.
    """

    def __init__(self, slots: int, submitter: str | None = None) -> None:
        self.slots = slots
        self.submitter = submitter
        # Not /tmp: it is often memory, and a real spool is on a disk.
        self.root = Path(tempfile.mkdtemp(prefix="oarpy-bench-", dir="/var/tmp"))
        self.root.chmod(0o755)
        self.home = self.root / "home"
        self.work = self.root / "work"
        self.work.mkdir()
        if submitter is not None:
            account = pwd.getpwnam(submitter)
            os.chown(self.work, account.pw_uid, account.pw_gid)
        self.environment = os.environ | {"OARPY_HOME": str(self.home)}

    def __enter__(self) -> Bench:
        self.admin("oarpy", "up")
        self.database = psycopg2.connect(**Instance(str(self.home)).dsn("oar"))
        self.database.autocommit = True
        host = os.uname().nodename
        self.sql("UPDATE resources SET state = 'Dead'")
        self.sql("DELETE FROM resources")
        self.sql(
            "INSERT INTO resources (network_address, host, cpu, core) "
            "SELECT %s, %s, 0, n FROM generate_series(1, %s) AS n",
            (host, host, self.slots),
        )
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.sql("UPDATE queues SET state = 'notActive'")
        self.database.close()
        self.admin("oarpy", "down")
        shutil.rmtree(self.root, ignore_errors=True)

    def sql(self, statement: str, values: Sequence[object] = ()) -> list[tuple[object, ...]]:
        with self.database.cursor() as cursor:
            cursor.execute(statement, values)
            return cursor.fetchall() if cursor.description else []

    def admin(self, *command: str) -> str:
        done = subprocess.run(
            [BIN / command[0], *command[1:]], env=self.environment, capture_output=True, text=True, check=False
        )
        if done.returncode:
            raise SystemExit(f"{' '.join(command)}: status {done.returncode}\n{done.stdout}{done.stderr}")
        return done.stdout

    def as_user(self, *command: str) -> list[str]:
        """The words that run ``command`` of oarpy as the submitting account."""
        words = [str(BIN / command[0]), *command[1:]]
        if self.submitter is None:
            return words
        account = pwd.getpwnam(self.submitter)
        return ["setpriv", "--reuid", str(account.pw_uid), "--regid", str(account.pw_gid), "--init-groups", *words]

    def run(self, *command: str) -> str:
        """The standard output of a user's command, run in the directory of the jobs."""
        done = subprocess.run(
            self.as_user(*command), env=self.environment, cwd=self.work, capture_output=True, text=True, check=False
        )
        if done.returncode:
            raise SystemExit(f"{' '.join(command)}: status {done.returncode}\n{done.stdout}{done.stderr}")
        return done.stdout

    def wait_until(self, holds: Callable[[], object], *, within_s: float, every_s: float = 0.1) -> None:
        deadline = time.monotonic() + within_s
        while not holds():
            if time.monotonic() > deadline:
                raise SystemExit("the benchmark did not come to its end in time")
            time.sleep(every_s)

    def unfinished(self) -> int:
        return int(str(self.sql("SELECT count(*) FROM jobs WHERE stopped_at IS NULL")[0][0]))

    def processes(self) -> dict[int, str]:
        """pid -> command line of every process of this instance, PostgreSQL's too."""
        parents: dict[int, int] = {}
        lines: dict[int, str] = {}
        for entry in os.listdir("/proc"):
            if not entry.isdigit():
                continue
            try:
                line = Path(f"/proc/{entry}/cmdline").read_bytes().replace(b"\0", b" ").decode(errors="replace")
                status = Path(f"/proc/{entry}/stat").read_text().rpartition(")")[2].split()
                environment = Path(f"/proc/{entry}/environ").read_bytes()
            except OSError:
                continue
            parents[int(entry)] = int(status[1])
            lines[int(entry)] = line
            if str(self.home) in line or f"OARPY_HOME={self.home}\0".encode() in environment + b"\0":
                parents[int(entry)] = -1
        mine = {pid for pid, parent in parents.items() if parent == -1}
        grown = True
        while grown:
            children = {pid for pid, parent in parents.items() if parent in mine} - mine
            mine |= children
            grown = bool(children)
        return {pid: lines[pid] for pid in mine - {os.getpid()}}

    def cpu_s(self) -> dict[str, float]:
        """CPU seconds of the instance's processes and of the children they have waited for, by what they are."""
        names = {str(pid): str(name) for name, pid in self.sql("SELECT name, pid FROM processes")}
        total: dict[str, float] = {}
        for pid, line in self.processes().items():
            try:
                fields = Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()
            except OSError:
                continue
            own, children = sum(map(int, fields[11:13])), sum(map(int, fields[13:15]))
            if "postgres" in line:
                own, children, name = own + children, 0, "PostgreSQL"
            else:
                name = names.get(str(pid)) or next((f"oarexec {life}" for life in LIVES if life in line), "other")
            total[name] = total.get(name, 0) + own / TICKS
            # What the guard has waited for are the jobs themselves.
            waited_for = "jobs" if name == "oarexec guard" else name
            total[waited_for] = total.get(waited_for, 0) + children / TICKS
        return total

    def pss_mib(self) -> tuple[float, float]:
        """Memory of oarpy's processes and of PostgreSQL's, each page shared out among its users."""
        ours = database = 0
        for pid, line in self.processes().items():
            try:
                rollup = Path(f"/proc/{pid}/smaps_rollup").read_text()
            except OSError:
                continue
            kib = next((int(row.split()[1]) for row in rollup.splitlines() if row.startswith("Pss:")), 0)
            if line.startswith("postgres:") or "/postgres " in line:
                database += kib
            else:
                ours += kib
        return ours / 1024, database / 1024


def children_cpu_s() -> float:
    """CPU seconds of the commands that this program has run and waited for."""
    usage = resource.getrusage(resource.RUSAGE_CHILDREN)
    return usage.ru_utime + usage.ru_stime


def wall_ms(command: Sequence[str], *, bench: Bench, runs: int) -> list[float]:
    """Wall times of ``command``, in ms, each run for itself."""
    times = []
    for _ in range(runs):
        begun = time.perf_counter()
        subprocess.run(
            bench.as_user(*command), env=bench.environment, cwd=bench.work, stdout=subprocess.DEVNULL, check=True
        )
        times.append((time.perf_counter() - begun) * 1000)
    return times


def summary(values: Iterable[float]) -> dict[str, float]:
    ordered = sorted(values)
    return {
        "min": round(ordered[0], 2),
        "median": round(statistics.median(ordered), 2),
        "p95": round(ordered[min(len(ordered) - 1, int(len(ordered) * 0.95))], 2),
    }


def machine() -> str:
    model = next(
        (row.split(":")[1].strip() for row in Path("/proc/cpuinfo").read_text().splitlines() if "model name" in row),
        platform.machine(),
    )
    return f"{len(os.sched_getaffinity(0))} cores, {model}, Python {platform.python_version()}"


def report(title: str, rows: dict[str, object], *, as_json: bool) -> None:
    """Print the figures: one JSON object, or a table for people."""
    if as_json:
        print(json.dumps({"benchmark": title, "machine": machine(), "load": os.getloadavg()[0]} | rows))
        return
    print(f"{title}  ({machine()}, load {os.getloadavg()[0]:.1f})")
    width = max(map(len, rows))
    for name, value in rows.items():
        shown = "  ".join(f"{k} {v}" for k, v in value.items()) if isinstance(value, dict) else value
        print(f"  {name:<{width}}  {shown}")
