"""Every example of every help text, typed at a running system: users begin by copying them.

What an example names, such as a job, a host or a file, is there in the form of something
like it.  An example that is new runs as it stands.
"""

from __future__ import annotations

import os
import pwd
import re
import shlex
import signal
import subprocess
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass, field
from pathlib import Path

import click
import pytest

from oarpy.commands import manual
from tests.support import accounts, invariants
from tests.support.instance import COMMANDS, SETTINGS, System, running_system
from tests.support.place import a_place
from tests.support.postgres import TestServer
from tests.support.typist import Typist

#: Who types them is an ordinary user; whoever runs the instance types all others.
OF_USERS = set("oarsub oarstat oardel oarhold oarresume oarwalltime oarnodes oarprint oarsh oarcp".split())
#: On an instance of its own, in this order.
LIFE = [
    "oarpy up",
    "oarpy status --json",
    "oarpy doctor",
    "oarpy module sarko",
    "oarpy db upgrade",
    "oarpy down",
    "oarpy restore",
    "OARPY_HOME=/tmp/trial oarpy up",
]
#: What no script types: a terminal, or a command without an end.
BY_HAND = ["oarsub -I -l /core=2,walltime=0:30", "oarstat --watch -u"]
#: In the place of an empty database.
EMPTY = ["oar-database --setup", "oar-database --check", "oar-database --reset -y"]
HOST = os.uname().nodename
NIGHT = "def admit(submission):\n    pass\n"
QUOTAS = '{"quotas": {"*,*,*,*": [100, "ALL", "ALL"]}}'
TRACE = "; MaxProcs: 8\n1 0 -1 10 1 -1 -1 1 10 -1 1 1 1 1 1 1 -1 -1\n"
SETTING = f'{SETTINGS}[phoenix]\nsoft_command = "true {{NODENAME}}"\n'


def examples() -> list[str]:
    """All of them; those of subcommands too."""

    def of(command: click.Command) -> Iterator[str]:
        yield from manual.examples(command)
        for below in command.commands.values() if isinstance(command, click.Group) else ():
            yield from of(below)

    return list(dict.fromkeys(line for command in manual.commands().values() for line in of(command)))


@dataclass
class Site:
    """A running system, and what the examples name."""

    system: System
    bin: Path
    #: What stands in the place of a word of the example.
    instead: dict[str, str] = field(default_factory=dict)
    environment: dict[str, str] = field(default_factory=dict)

    def types(self, line: str, user: pwd.struct_passwd) -> subprocess.CompletedProcess[str]:
        for word, other in self.instead.items():
            line = re.sub(rf"(?<![\w./]){re.escape(word)}(?!\w)", other, line)
        path = f"{self.bin}:{COMMANDS}:{os.environ['PATH']}"
        inherited = {**self.system.environment, "PATH": path, **self.environment}
        return subprocess.run(
            accounts.switched(user, ["sh", "-c", line]),
            cwd=self.system.work,
            env={**accounts.environment_of(user, inherited), "HOME": str(self.system.work)},
            stdin=subprocess.DEVNULL,
            capture_output=True,
            text=True,
            check=False,
            timeout=300,
        )

    def jobs(self, *options: str, count: int = 9) -> list[int]:
        """An array, whose ids stand for 4242 and those after it; without options it waits for long."""
        words = options or ("-t", "postpone=2100-01-01", "true")
        made = self.system.oarsub_array("--array", str(count), *words) if count > 1 else [self.system.oarsub(*words)]
        self.instead.update({str(4242 + n): str(job_id) for n, job_id in enumerate(made)})
        return made

    def running(self, *options: str) -> int:
        job_id = self.system.oarsub(*options, "-l", "/core=1,walltime=3:00", "sleep 3600")
        self.system.wait_until_state(job_id, "Running", timeout_s=60)
        self.instead.update({"42": str(job_id), "4242": str(job_id)})
        return job_id

    def ended(self) -> None:
        self.system.wait_until_all_final(self.jobs("echo told; exit 0", count=1))

    def trace(self) -> None:
        self.ended()
        self.instead.update({"1200": "1", "4711": "1000000"})

    def failed(self) -> None:
        self.system.wait_until_all_final(self.jobs("exit 1", count=2))

    def deleted(self) -> None:
        for job_id in self.jobs(count=1):
            self.system.run("oardel", str(job_id))

    def held(self) -> None:
        self.jobs("--hold", "true")

    def event(self) -> None:
        self.ended()
        self.instead["1234"] = str(self.system.database.execute("SELECT max(event_id) FROM events")[0][0])

    def properties(self, *names: str) -> None:
        """Exactly these, besides those that every instance has."""
        there = self.system.admin("oarproperty").stdout.split()
        for name in {"cluster", "gpu", "gpu_model", "mem", "memory_mib"} & set(there) - set(names):
            self.system.admin("oarproperty", "-d", name)
        for name in names:
            if name not in there:
                self.system.admin("oarproperty", "-a", name, *(["-c"] if name in ("cluster", "gpu_model") else []))

    def cluster(self) -> None:
        self.properties("cluster", "mem", "gpu")
        self.system.database.execute("UPDATE resources SET cluster = 'blue', mem = 10 WHERE network_address = 'node1'")

    def no_night(self) -> None:
        self.system.admin("oarqueue", "--remove", "night", check=False)

    def night(self) -> None:
        if "night" not in self.system.admin("oarqueue", "-l").stdout:
            self.system.admin("oarqueue", "--add", "night,5")
        self.jobs()

    def resources(self) -> None:
        insert = "INSERT INTO resources (network_address, state) VALUES ('gone', 'Dead') RETURNING resource_id"
        self.instead.update({number: str(self.system.database.execute(insert)[0][0]) for number in ("17", "18")})

    def rule(self) -> None:
        done = self.system.admin("oaradmissionrules", "-n", "-r", str(self.system.work / "night.py"), "-P", "90")
        found = re.search(r"\d+", done.stdout)
        assert found is not None
        self.instead["1001"] = found[0]

    def here(self) -> None:
        self.instead.update({"'c[1-4]'": HOST, "'c[1-16]'": HOST, "c1": HOST})

    def inside(self) -> None:
        """What a command inside of a job sees of it."""
        # With a key it can be come to, though it is on one host.
        job_id = self.running("-k")
        self.instead.update({"c2": HOST, "/tmp/results": str(self.system.work / "results")})
        listed = self.system.work / "resources-of-the-job"
        listed.write_text(self.system.run("oarstat", "-p", "-j", str(job_id)).stdout)
        self.environment = {
            "OAR_JOB_ID": str(job_id),
            "OAR_RESOURCE_PROPERTIES_FILE": str(listed),
            "OAR_RESOURCE_FILE": str(listed),
        }

    def window(self) -> None:
        self.inside()
        self.instead["xterm"] = "true"

    def own_make(self) -> None:
        self.instead["make"] = "./make"

    def no_cron(self) -> None:
        """The fields of a crontab are left out."""
        self.instead["*/10 * * * * root"] = ""

    def own_man(self) -> None:
        self.instead["/usr/local/share/man"] = str(self.system.work / "man")


PREPARED: dict[str, Callable[[Site], object]] = {
    "oardel 4242 4243": Site.jobs,
    "oardel --array 4242": Site.jobs,
    "oardel -s SIGUSR1 4242": Site.running,
    "oardel 4242-4250 --dry-run": Site.jobs,
    "oardel -u --sql \"state = 'Waiting'\"": Site.jobs,
    "oardel --undo 4242": Site.deleted,
    "oarhold 4242 4243": Site.jobs,
    "oarhold -r 4244": Site.jobs,
    "oarhold --array 4242 --dry-run": Site.jobs,
    "oarresume 4242 4243": Site.held,
    "oarresume -u --sql \"state = 'Hold'\"": Site.held,
    'oarnodes -J --sql "gpu > 0"': Site.cluster,
    "oarnodesetting --sql \"cluster = 'blue' AND mem < 64000\" -m on": Site.cluster,
    "oarproperty -a gpu_model -c": Site.properties,
    "oarproperty -a mem -a gpu": Site.properties,
    "oarproperty -d gpu_model --force --dry-run": lambda site: site.properties("gpu_model"),
    "oarproperty -r mem,memory_mib": lambda site: site.properties("mem"),
    "oarnotify --add-queue night,5 -e night": Site.no_night,
    "oarqueue --add night,5,easy": Site.no_night,
    "oarsub --edit-array 4242 -q night --dry-run": Site.night,
    "oarsub -C 4242": Site.running,
    "oarsub --edit 4242 -l walltime=2h30": Site.jobs,
    "oarsub --resubmit 4242 --only failed": Site.failed,
    "oarsub --follow -l /core=2,walltime=0:10 make": Site.own_make,
    "oarnodesetting -r 17 -d on": Site.resources,
    "oarremoveresource 17 18": Site.resources,
    "oarremoveresource --dry-run 17": Site.resources,
    "oaradmissionrules -m 1001 -N": Site.rule,
    "oarstat -fj 4242": Site.ended,
    "oarstat --why 4242": Site.jobs,
    "oarstat --follow -j 4242": Site.ended,
    "oarstat --events --after 1234 -J": Site.event,
    "oar2trace -f october.swf -b 1200 -e 4711": Site.trace,
    "oar2trace -f - | gzip > all.swf.gz": Site.trace,
    "oarprint host -P host,core -F '% cores %' -C +": Site.inside,
    "oarstat -j 42 -p | oarprint network_address -f -": Site.inside,
    "export OAR_JOB_ID=42": Site.inside,
    "oarsh c2": Site.inside,
    "oarsh c2 ps -ef": Site.inside,
    "oarsh -X c2 xterm": Site.window,
    "oarcp -r c2:/tmp/results .": Site.inside,
    "*/10 * * * * root oar_phoenix": Site.no_cron,
    "echo 'c[1-4]' | oar_resources_init -x -y -": Site.here,
    "oarpy nodes import 'c[1-16]'": Site.here,
    "oarpy nodes import --dry-run c1": Site.here,
    "oarpy man /usr/local/share/man": Site.own_man,
    "oarwalltime --sql \"project = 'p'\" +1:00 --dry-run": lambda site: site.running("--project", "p"),
    **{f"oarwalltime 4242{change}": Site.running for change in ("", " +1:30", " -0:30", " 3:0:0", " +90m", " +0")},
}
#: A finding is no fault of the example.
MAY_END_WITH = {"oarpy doctor": (0, 1)}


@pytest.fixture(scope="module")
def running(postgres: TestServer) -> Iterator[System]:
    """Two hosts by name, both of them this one; four more that are not there; files and directories of the examples."""
    with postgres.database() as database, running_system(database, slots=8, settings=SETTING) as system:
        database.execute("UPDATE resources SET host = 'node' || core / 5, cpu = core / 5")
        database.execute(
            "INSERT INTO resources (network_address, state)"
            " SELECT 'node' || n, 'Absent' FROM generate_series(1, 4) AS n"
        )
        for name in ("simulate", "script.sh", "course", "make"):
            (system.work / name).write_text("#!/bin/sh\ntrue\n")
            (system.work / name).chmod(0o755)
        files = {
            "hosts.txt": f"{HOST}\n",
            "night.py": NIGHT,
            "quotas.json": QUOTAS,
            "cluster.hosts": "elsewhere sockets=1 cores=2 threads=2 memory=1024\n",
            "trace.swf": TRACE,
        }
        for name, text in files.items():
            (system.work / name).write_text(text)
        subprocess.run("gzip -c trace.swf > KTH-SP2.swf.gz", shell=True, cwd=system.work, check=True)
        for name in (".local/share/bash-completion/completions", ".config/fish/completions", "results"):
            (system.work / name).mkdir(parents=True)
        subprocess.run(["chmod", "-R", "a+rwX", str(system.work)], check=True)
        yield system
        assert invariants.broken(database.engine) == []


@pytest.fixture
def site(running: System, tmp_path: Path) -> Iterator[Site]:
    """The jobs of each example are gone after it, and the queues take jobs."""
    for name, text in {"sudo": 'shift 2\nexec "$@"', "psql": "cat"}.items():
        # Who may become postgres here is not what is tried.
        (tmp_path / name).write_text(f"#!/bin/sh\n{text}\n")
        (tmp_path / name).chmod(0o755)
    yield Site(running, tmp_path)
    left = [int(str(job)) for (job,) in running.database.execute("SELECT job_id FROM jobs WHERE stopped_at IS NULL")]
    if left:
        running.admin("oardel", *map(str, left), check=False)
        running.wait_until_all_final(left)
    running.admin("oarqueue", "-E")
    running.admin("oarpy", "quotas", "clear")


def typed_by(line: str, site: Site) -> pwd.struct_passwd:
    return site.system.user if line.split()[0] in OF_USERS else pwd.getpwuid(os.geteuid())


@pytest.mark.parametrize("line", [line for line in examples() if line not in (*LIFE, *BY_HAND, *EMPTY)])
def test_an_example_runs(site: Site, line: str) -> None:
    PREPARED.get(line, lambda _: None)(site)

    done = site.types(line, typed_by(line, site))

    assert done.returncode == 0, (site.instead, done.stdout, done.stderr)
    assert not re.search(r"^oar\w*: ", done.stderr, re.MULTILINE), done.stderr


def test_the_examples_of_an_instance_run_one_after_the_other() -> None:
    with a_place() as root:
        environment = {**os.environ, "OARPY_HOME": str(root / "home"), "PATH": f"{COMMANDS}:{os.environ['PATH']}"}
        environment.pop("OARPY_DATABASE", None)
        try:
            for line in LIFE:
                done = subprocess.run(
                    ["sh", "-c", line.replace("/tmp/trial", str(root / "trial"))],
                    env=environment,
                    cwd="/",
                    capture_output=True,
                    text=True,
                    check=False,
                    timeout=300,
                )
                assert done.returncode in MAY_END_WITH.get(line, (0,)), (line, done.stdout, done.stderr)
        finally:
            for name in ("home", "trial"):
                subprocess.run(["oarpy", "down"], env={**environment, "OARPY_HOME": str(root / name)}, check=False)


def test_the_examples_of_a_database_run_one_after_the_other(postgres: TestServer, tmp_path: Path) -> None:
    with postgres.database() as empty:
        for line in EMPTY:
            done = subprocess.run(
                shlex.split(line),
                env={
                    **os.environ,
                    "OARPY_HOME": str(tmp_path),
                    "OARPY_DATABASE": empty.url,
                    "PATH": f"{COMMANDS}:{os.environ['PATH']}",
                },
                capture_output=True,
                text=True,
                check=False,
                timeout=300,
            )
            assert done.returncode == 0, (line, done.stdout, done.stderr)


def test_an_interactive_job_is_a_shell(site: Site) -> None:
    environment = {**site.system.environment, "PATH": f"{COMMANDS}:{os.environ['PATH']}"}
    words: Sequence[str] = shlex.split(BY_HAND[0])
    window = Typist(words, site.system.user, cwd=site.system.work, environment=environment)
    try:
        window.type("echo inside-of-$OAR_JOB_ID; exit\r")
        window.wait_for(r"inside-of-\d", timeout_s=60)
        assert window.end(timeout_s=60) == 0
    finally:
        window.close()


def test_a_watched_listing_goes_on_until_it_is_interrupted(site: Site) -> None:
    site.running()
    watching = subprocess.Popen(
        accounts.switched(site.system.user, [str(COMMANDS / "oarstat"), *shlex.split(BY_HAND[1])[1:]]),
        env=accounts.environment_of(site.system.user, site.system.environment),
        stdout=subprocess.PIPE,
        text=True,
    )
    assert watching.stdout is not None
    assert watching.stdout.readline() != ""

    watching.send_signal(signal.SIGINT)

    watching.stdout.read()
    assert watching.wait(timeout=60) == 130


def test_what_is_prepared_is_an_example() -> None:
    assert {*PREPARED, *LIFE, *BY_HAND, *EMPTY} - set(examples()) == set()
