"""Every option of OAR's commands, typed at a running system: it does something, or is refused by name."""

from __future__ import annotations

import os
import re
import shlex
import subprocess
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from pathlib import Path

import pytest

from tests.support import invariants
from tests.support.commands import Commands
from tests.support.instance import SETTINGS, System, running_system
from tests.support.postgres import TestServer
from tests.support.waiting import wait_until

#: Of each command of OAR, the options that it knows.
OPTIONS = {
    "oarsub": "-l --resource -q --queue -I --interactive -p --property -r --reservation -C --connect -t --type"
    " -d --directory -n --name --project -a --anterior --after --hold --array --array-param-file --checkpoint --signal"
    " --notify --resubmit -S --scanscript -k --use-job-key -i --import-job-key-from-file --import-job-key-inline"
    " --import-job-key-inline-priv -e --export-job-key-to-file -O --stdout -E --stderr -D --dumper -X --xml -Y --yaml"
    " -J --json -v --verbose -h --help -V --version -T --api-token --stagein --stagein-md5sum",
    "oarstat": "-j --job -f --full -s --state -u --user --array -c --compact -g --gantt -e --events -p --properties"
    " --accounting --sql --format -D --dumper -X --xml -Y --yaml -J --json -h --help -V --version",
    "oarnodes": "-r --resource -s --state -j --jobs -l --list -e --events --sql -D --dumper -X --xml -Y --yaml"
    " -J --json -h --help -V --version",
    "oardel": "-c --checkpoint -s --signal -b --besteffort --array --sql --force-terminate-finishing-job -h --help"
    " -V --version",
    "oarhold": "-r --running --array --sql -h --help -V --version",
    "oarresume": "--array --sql -h --help -V --version",
    "oarwalltime": "-f --force -w --whole -d --delay-next-jobs -t --timeout -h --help -V --version",
    "oarprint": "-f --file -P --properties -F --format -T --token -C --comma -l --list -h --help",
    "oarnodesetting": "-a --add -s --state -m --maintenance --care -d --drain -h --hostname -r --resource -f --file"
    " --sql -p --property -n --no-wait --nowait --last-property-value --help -V --version",
    "oarproperty": "-l --list -a --add -c --varchar -d --delete -r --rename -q --quiet -h --help -V --version",
    "oarqueue": "-l --list -e --enable -d --disable -E --enable-all-queues -D --disable-all --add --change --remove"
    " -h --help -V --version",
    "oarnotify": "-e --enable-queue -d --disable-queue -E --Enable-all-queues -D --Disable-all-queues --add-queue"
    " --remove-queue -l --list-queues --enable_queue --disable_queue --Enable_all_queues --Disable_all_queues"
    " --add_queue --remove_queue --list_queues -h --help -V --version",
    "oaradmissionrules": "-S --show-all -s --show -I --id -f --full -H --no-header -w --to-file -n --new -m --modify"
    " -e --edit -r --from-file -P --priority -Y --enabled -N --disabled -d --delete -h --help -V --version",
    "oarremoveresource": "-h --help -V --version",
    "oaraccounting": "--reinitialize --delete-before -h --help -V --version",
    "oar_resources_add": "-T --use-threads -H --hosts -C --cpus -c --cores -t --threads -g --gpus --host-prefix"
    " --host-suffix --host0 --cpu0 --core0 --thread0 --gpu0 --cpusets --cputopo --gpudevices --gpudevice-prefix"
    " --gputopo -A --append -o --write-to -p --no-create-properties -a --auto-offset -Y --yaml -h --help",
    "oar_resources_init": "-H -T -o -x -y -v -e -n -p -c -h",
    "oar-database": "--create --drop --upgrade --reset --check --setup --fix-ro-user-priv --conf --update-conf -f"
    " --force-sql -y --force-yes --db-is-local --db-admin-user --db-admin-pass --db-type --db-user --db-pass --db-host"
    " --db-port --db-name --db-ro-user --db-ro-pass --debug -h --help",
    "oar_phoenix": "-h --help",
    "oararchive": "-h --help",
    "oar2trace": "--db-url -f --trace-file -b --first-jobid -e --last-jobid -p -m --mode --chunk-size --metadata-file"
    " -h --help",
}
UNSUPPORTED = 69
#: How each is typed, a line for a command line, with ``=>`` and the statuses that may be where that is not 0.  Words in
#: brackets are made for it; those of administrators are typed by one.
TYPED = """
oarsub -l /core=1,walltime=0:05 --resource /core=2 -q default -p 'core>=0' -t noop -d {dir} -n name --project p true
oarsub --queue besteffort --property true --type besteffort --directory={dir} --name=n --hold true
oarsub -a {held} true
oarsub --anterior {held} --after {held} true
oarsub -r now -l walltime=0:00:10 -t noop
oarsub --reservation '2099-01-01 10:00:00' -l walltime=0:00:10 -t noop
oarsub --array 2 --hold true
oarsub --array-param-file {params} --hold ./run
oarsub --checkpoint 60 --signal 10 --notify exec:/bin/true --hold true
oarsub -S --hold {script}
oarsub --scanscript --hold {script}
oarsub -O out -E err --hold true
oarsub --stdout out.%jobid% --stderr err.%jobid% --hold true
oarsub -D --hold true
oarsub --dumper --hold true
oarsub -X --hold true
oarsub --xml --hold true
oarsub -Y --hold true
oarsub --yaml --hold true
oarsub -J --hold true
oarsub --json --hold true
oarsub -h
oarsub --help
oarsub -V
oarsub --version
oarsub -I
oarsub --interactive true
oarsub -C {held} => 20
oarsub --connect {held} => 20
oarsub --resubmit {ended}
oarsub -k --hold true
oarsub --use-job-key --hold true
oarsub -i {params} --hold true => 15
oarsub -i {key} --hold true
oarsub --import-job-key-from-file {params} --hold true => 15
oarsub --import-job-key-from-file {key} --hold true
oarsub --import-job-key-inline x --hold true => 15
oarsub --import-job-key-inline '{key_text}' --hold true
oarsub --import-job-key-inline-priv x --hold true => 15
oarsub --import-job-key-inline-priv '{key_text}' --hold true
oarsub -e {new} --hold true
oarsub --export-job-key-to-file {new} --hold true
oarsub -v --hold true
oarsub --verbose --hold true
oarsub -T => 69
oarsub --api-token => 69
oarsub --stagein x --hold true => 69
oarsub --stagein-md5sum x --hold true => 69
oarstat -j {ended} -f
oarstat --job {ended} --full
oarstat -s -j {ended}
oarstat --state --job {ended}
oarstat -u
oarstat --user alice
oarstat --array {array}
oarstat -c
oarstat --compact
oarstat -g '2020-01-01 00:00:00, 2020-01-02 00:00:00'
oarstat --gantt '2020-01-01 00:00:00, 2020-01-02 00:00:00'
oarstat -e -j {ended}
oarstat --events --job {ended}
oarstat -p -j {ended}
oarstat --properties --job {ended}
oarstat --accounting '2020-01-01, 2020-01-02'
oarstat --sql "state = 'Waiting'"
oarstat --format 1
oarstat -D
oarstat --dumper
oarstat -X
oarstat --xml
oarstat -Y
oarstat --yaml
oarstat -J
oarstat --json
oarstat -h
oarstat --help
oarstat -V
oarstat --version
oarnodes -r {spare}
oarnodes --resource {spare}
oarnodes -s
oarnodes --state
oarnodes -j
oarnodes --jobs
oarnodes -l
oarnodes --list
oarnodes -e
oarnodes --events
oarnodes --sql "state = 'Alive'"
oarnodes -D
oarnodes --dumper
oarnodes -X
oarnodes --xml
oarnodes -Y
oarnodes --yaml
oarnodes -J
oarnodes --json
oarnodes -h
oarnodes --help
oarnodes -V
oarnodes --version
oardel -c {running}
oardel --checkpoint {running}
oardel -s USR1 {running}
oardel --signal 10 {running}
oardel --array {array}
oardel --sql "job_id = {held}"
oardel -b {running} => 8
oardel --besteffort {running} => 8
oardel --force-terminate-finishing-job {running} => 8
admin oardel -b {running}
admin oardel --force-terminate-finishing-job {running} => 10
oardel -h
oardel --help
oardel -V
oardel --version
admin oarhold -r {running}
admin oarhold --running {running}
oarhold --array {array}
oarhold --sql "job_id = {held}"
oarhold -h
oarhold --help
oarhold -V
oarhold --version
oarresume --array {array}
oarresume --sql "job_id = {held}"
oarresume -h
oarresume --help
oarresume -V
oarresume --version
oarwalltime -w {running} +0:01
oarwalltime --whole -t 1:00 {running} +0:01
oarwalltime --timeout 1:00 {running} +0:01
admin oarwalltime -f {running} +0:01
admin oarwalltime --force {running} +0:01
admin oarwalltime -d {running} +0:01
admin oarwalltime --delay-next-jobs {running} +0:01
oarwalltime -h
oarwalltime --help
oarwalltime -V
oarwalltime --version
oarprint host -f {properties}
oarprint host --file {properties} -P core,host -F '% on %' -C + -T %
oarprint host --file {properties} --properties core --format '@' --comma , --token @
oarprint -l -f {properties}
oarprint --list -f {properties}
oarprint -h
oarprint --help
admin oarnodesetting -a -h spare -p core=77 -d on => 1
admin oarnodesetting -a -h away -p core=77 -s Absent
admin oarnodesetting --add --hostname away --property core=78 --state Absent
admin oarnodesetting -r {spare} -m on -n
admin oarnodesetting --resource {spare} --maintenance off
admin oarnodesetting -r {spare} --care on --no-wait
admin oarnodesetting -r {spare} --care off --nowait
admin oarnodesetting -r {spare} -d off
admin oarnodesetting --sql 'resource_id = {spare}' --drain on
admin oarnodesetting -f {hosts} -p core=9
admin oarnodesetting --file {hosts} -p core!
admin oarnodesetting --last-property-value core
oarnodesetting --help
oarnodesetting -V
oarnodesetting --version
admin oarproperty -a colour -c -q
admin oarproperty -r colour,shade
admin oarproperty -d shade
admin oarproperty --add colour --varchar --quiet
admin oarproperty --rename colour,shade
admin oarproperty --delete shade
oarproperty -l
oarproperty --list
oarproperty -h
oarproperty --help
oarproperty -V
oarproperty --version
admin oarqueue --add extra,1,fifo
admin oarqueue --change extra,2,fairsharing
admin oarqueue -d extra
admin oarqueue --disable extra
admin oarqueue -e extra
admin oarqueue --enable extra
admin oarqueue --remove extra
admin oarqueue -D
admin oarqueue --disable-all
admin oarqueue -E
admin oarqueue --enable-all-queues
oarqueue -l
oarqueue --list
oarqueue -h
oarqueue --help
oarqueue -V
oarqueue --version
admin oarnotify --add-queue extra,1,oar_sched_gantt_with_timesharing -e extra -d extra -l
admin oarnotify --enable-queue extra --disable-queue extra --list-queues
admin oarnotify --remove-queue extra
admin oarnotify --add_queue extra,1 --enable_queue extra --disable_queue extra --list_queues
admin oarnotify --remove_queue extra
admin oarnotify -D
admin oarnotify --Disable-all-queues --Disable_all_queues
admin oarnotify -E
admin oarnotify --Enable-all-queues --Enable_all_queues
admin oarnotify Term
admin oarnotify Finaud
admin oarnotify Nonsense => 69
oarnotify -h
oarnotify --help
oarnotify -V
oarnotify --version
admin oaradmissionrules -n -r {rule} -P 3 -N
admin oaradmissionrules --new --from-file {rule} --priority 3 --disabled
admin oaradmissionrules --new --edit true --enabled
admin oaradmissionrules -S -I
admin oaradmissionrules --show-all --id
admin oaradmissionrules -S -Y
admin oaradmissionrules -s 1 -f
admin oaradmissionrules --show 1001 --full
admin oaradmissionrules -s 1001 -H
admin oaradmissionrules --show 1001 --no-header
admin oaradmissionrules -s 1001 -w {new}
admin oaradmissionrules -s 1001 --to-file {new}
admin oaradmissionrules -m 1001 -e true
admin oaradmissionrules --modify 1001 -N
admin oaradmissionrules -d 1001
admin oaradmissionrules --delete 1002
oaradmissionrules -h
oaradmissionrules --help
oaradmissionrules -V
oaradmissionrules --version
admin oarremoveresource {dead}
oarremoveresource -h
oarremoveresource --help
oarremoveresource -V
oarremoveresource --version
admin oaraccounting
admin oaraccounting --reinitialize
admin oaraccounting --delete-before 100000
oaraccounting -h
oaraccounting --help
oaraccounting -V
oaraccounting --version
oar_resources_add -T -H 2 -C 1 -c 2 -t 2 -g 1 -A mem=1 -p -Y
oar_resources_add --use-threads --hosts 2 --cpus 1 --cores 2 --threads 2 --gpus 1 --append mem=1 --yaml
oar_resources_add -H 1 --host-prefix n --host-suffix .x --host0 5 --cpu0 1 --core0 2 --thread0 3 --gpu0 4 -a
oar_resources_add -H 1 -c 2 -g 2 --cpusets 1 --cputopo 1,0 --gpudevices 1 --gpudevice-prefix /dev/x --gputopo 1,0
oar_resources_add -H 1 --no-create-properties --auto-offset -o {new}
oar_resources_add -H 1 --write-to {new}
oar_resources_add -h
oar_resources_add --help
admin oar_resources_init -H -T -v -o {new} -e ssh -n a -p b {this_host}
admin oar_resources_init -x -y {nobody} => 1
admin oar_resources_init -c x {this_host} => 69
oar_resources_init -h
admin oar-database --check
admin oar-database --upgrade
admin oar-database --setup
admin oar-database --fix-ro-user-priv
admin oar-database --create => 1
admin oar-database --drop -y => 1
admin oar-database --reset --force-yes => 1
admin oar-database --conf x => 69
admin oar-database --update-conf => 69
admin oar-database --create -f => 69
admin oar-database --create --force-sql => 69
admin oar-database --create --db-is-local => 69
admin oar-database --create --db-admin-user x => 69
admin oar-database --create --db-admin-pass x => 69
admin oar-database --create --db-type x => 69
admin oar-database --create --db-user x => 69
admin oar-database --create --db-pass x => 69
admin oar-database --create --db-host x => 69
admin oar-database --create --db-port x => 69
admin oar-database --create --db-name x => 69
admin oar-database --create --db-ro-user x => 69
admin oar-database --create --db-ro-pass x => 69
admin oar-database --create --debug => 69
oar-database -h
oar-database --help
oar_phoenix -h
oar_phoenix --help
oararchive -h
oararchive --help
oar2trace -f {new} -b 1 -e 1000000 -p -m swf --chunk-size 100 --metadata-file {new}
oar2trace --trace-file {new} --first-jobid 1 --last-jobid 1000000 --mode swf
oar2trace --db-url x => 69
oar2trace -h
oar2trace --help
"""
LINES = TYPED.strip().splitlines()
RULE = "def admit(submission):\n    pass\n"


@dataclass
class Bench:
    """A running system, and things for options to be tried on."""

    system: System
    directory: Path
    ended: int
    #: As long as it is there, the site's epilogue lasts.
    hold: Path
    made: int = 0

    def thing(self, name: str) -> str:
        """What ``{name}`` stands for in a line; things that a command changes are made anew each time."""
        maker: Callable[[], object] = getattr(self, f"_{name}")
        return str(maker())

    def _running(self) -> int:
        job = self.system.oarsub("-l", "/core=1,walltime=0:10", "sleep 600")
        self.system.wait_until_state(job, "Running", timeout_s=60)
        return job

    def _held(self) -> int:
        return self.system.oarsub("--hold", "true")

    def _array(self) -> int:
        return self.system.oarsub_array("--hold", "--array", "2", "true")[0]

    def _ended(self) -> int:
        return self.ended

    def _dir(self) -> Path:
        return self.system.work

    def _spare(self) -> object:
        return self.system.database.execute("SELECT max(resource_id) FROM resources WHERE network_address = 'spare'")[
            0
        ][0]

    def _dead(self) -> object:
        return self.system.database.execute(
            "INSERT INTO resources (network_address, state) VALUES ('dead', 'Dead') RETURNING resource_id"
        )[0][0]

    def _dying(self) -> int:
        """A job that somebody has asked to be deleted, and that is left to run for the test."""
        job = self._running()
        self.system.database.execute(
            "INSERT INTO frag_jobs (job_id, state, asked_by) VALUES (%s, 'FRAGGED', 'test')", (job,)
        )
        return job

    def _finishing(self) -> int:
        """A job that is over on its host, and not closed as long as the site's epilogue lasts."""
        self.hold.touch()
        job = self.system.oarsub("-l", "/core=1,walltime=0:01", "true")
        self.system.wait_until_state(job, "Finishing", timeout_s=60)
        return job

    def _held_forever(self) -> object:
        """What such a job holds."""
        held = "SELECT lower(resources) FROM allocations WHERE job_id = %s"
        return self.system.database.execute(held, (self._finishing(),))[0][0]

    def _reserved(self) -> str:
        """A date at which all cores are taken."""
        date = "'2098-01-01 10:00:00'"
        self.system.oarsub("-r", date.strip("'"), "-l", "/core=4,walltime=1:00", "true")
        return date

    def _new(self) -> Path:
        self.made += 1
        return self.directory / f"new{self.made}"

    def _written(self, name: str, text: str) -> Path:
        path = self.directory / name
        path.write_text(text)
        path.chmod(0o755)
        return path

    def _params(self) -> Path:
        return self._written("params", "1\n2\n")

    def _key(self) -> Path:
        """A private key that the user may read, and nobody else."""
        path = self.directory / "key"
        if not path.exists():
            subprocess.run(["ssh-keygen", "-q", "-t", "ed25519", "-N", "", "-f", str(path)], check=True)
            os.chown(path, self.system.user.pw_uid, self.system.user.pw_gid)
        return path

    def _key_text(self) -> str:
        """The same on one line."""
        return self._key().read_text().strip().replace("\n", "\\n")

    def _script(self) -> Path:
        return self._written("script", "#!/bin/sh\n#OAR -n scanned\ntrue\n")

    def _hosts(self) -> Path:
        return self._written("hosts", "spare\n")

    def _this_host(self) -> Path:
        return self._written("this_host", f"{os.uname().nodename}\n")

    def _nobody(self) -> Path:
        return self._written("nobody", "\n")

    def _rule(self) -> Path:
        return self._written("rule", RULE)

    def _properties(self) -> Path:
        return self._written("properties", "core = '1' , host = 'c1'\n")


@pytest.fixture(scope="module")
def bench(postgres: TestServer, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Bench]:
    place = tmp_path_factory.mktemp("epilogue")
    epilogue = place / "epilogue"
    epilogue.write_text(f"#!/bin/sh\nwhile [ -e {place}/hold ]; do sleep 0.1; done\n")
    epilogue.chmod(0o755)
    settings = f'{SETTINGS}[prologue]\nserver_epilogue = "{epilogue}"\ntimeout = "10 min"\n'
    with postgres.database() as database, running_system(database, settings=settings) as system:
        database.execute(
            "INSERT INTO resources (network_address, host, state, drain) VALUES ('spare', 'spare', 'Absent', true)"
        )
        directory = system.root / "things"
        directory.mkdir()
        directory.chmod(0o777)
        ended = system.oarsub("true")
        system.wait_until_final(ended)
        yield Bench(system, directory, ended, place / "hold")
        assert invariants.broken(database.engine) == []


@pytest.fixture(autouse=True)
def _nothing_is_left(bench: Bench) -> Iterator[None]:
    database = bench.system.database
    yield
    bench.hold.unlink(missing_ok=True)
    database.execute("DELETE FROM frag_jobs WHERE asked_by = 'test'")
    left = [int(str(job)) for (job,) in database.execute("SELECT job_id FROM jobs WHERE stopped_at IS NULL")]
    if left:
        bench.system.admin("oardel", *map(str, left), check=False)
        bench.system.wait_until_all_final(left)
    database.execute(
        "UPDATE resources SET state = 'Alive' WHERE state <> 'Alive' AND host = %s", (os.uname().nodename,)
    )


def _words(bench: Bench, line: str) -> list[str]:
    return shlex.split(re.sub(r"\{(\w+)\}", lambda found: bench.thing(found[1]), line))


@pytest.mark.parametrize("line", LINES)
def test_an_option_does_something_or_is_refused_by_name(bench: Bench, line: str) -> None:
    typed, _, said = line.partition(" => ")
    expected = {int(status) for status in said.split()} or {0}
    admin = typed.startswith("admin ")

    words = _words(bench, typed.removeprefix("admin "))
    done = (bench.system.admin if admin else bench.system.run)(*words, check=False)

    assert done.returncode in expected, (done.stdout, done.stderr)
    if done.returncode:
        assert re.search(rf"^{words[0]}: [^\n]+$", done.stderr, re.MULTILINE), done.stderr
        assert "Traceback" not in done.stderr
    if done.returncode == UNSUPPORTED:
        assert any(word in done.stderr for word in words[1:]), done.stderr


@pytest.mark.parametrize("command", OPTIONS)
def test_no_option_is_forgotten(command: str) -> None:
    typed = " ".join(
        line.partition(" => ")[0] for line in LINES if line.removeprefix("admin ").startswith(f"{command} ")
    )
    words = set(re.split(r"[ =]", typed))

    assert set(OPTIONS[command].split()) - words == set()


#: What makes each command end with each status of the reference's table.  What begins with ``elsewhere`` is typed
#: where the database has no schema.
STATUSES = """
oarsub -a x true => 4
oarsub => 5
oarsub --array 0 true => 6
oarsub -r someday -l /core=1 true => 7
oarsub -q nowhere true => 8
oarsub --array-param-file /nowhere true => 9
oarsub -r {reserved} -l /core=4,walltime=1:00 true => 10
oarsub -S /nowhere => 12
oarsub -i /nowhere true => 15
oarsub --notify nonsense true => 16
oarsub -l /core=x true => 18
oarsub -q admin true => 254
oarstat --sql "state = 'Foo'" => 8
oarstat --sql 'state =' => 18
oardel 99999999 => 1
oardel x => 4
oardel -c {held} => 5
oardel {dying} => 6
oardel -b {held} => 8
admin oardel -b {held} => 9
admin oardel --force-terminate-finishing-job {held} => 10
admin oardel --force-terminate-finishing-job {finishing} => 11
oarhold x => 4
oarresume x => 4
oarsh c1 true => 3
oarcp c1:file . => 3
oarwalltime --force {running} +0:01 => 3
oarwalltime 99999999 +0:01 => 4
oarnodes --sql "state = 'Foo'" => 8
oarnodes --sql 'state =' => 18
admin oarnodesetting -r {spare} -p core=abc => 8
admin oarnodesetting -r {held_forever} -s Absent => 11
admin oarnodesetting --sql 'core > 100000' -d on => 12
admin oarnodesetting -f /nowhere -d on => 13
admin oarnodesetting -r {spare} -p 'a b=1' => 18
admin oarproperty -a core => 8
admin oarproperty -a 'a b' => 18
admin oarqueue --add 'a b,3' => 8
admin oarnotify --add-queue 'a b,3' => 8
admin oarremoveresource {spare} => 2
admin oaradmissionrules -n -r {params} => 18
admin oar_resources_add /cpu=2 => 18
admin oar_phoenix => 78
admin oarpy => 2
elsewhere oar-database --check => 78
""".strip().splitlines()
REFERENCE = Path(__file__).parents[2] / "docs" / "reference.md"


@pytest.mark.parametrize("line", STATUSES)
def test_a_command_ends_with_the_status_that_the_reference_says(
    bench: Bench, postgres: TestServer, tmp_path: Path, line: str
) -> None:
    typed, _, status = line.partition(" => ")
    who, _, rest = typed.partition(" ")

    if who == "elsewhere":
        with postgres.database() as empty:
            commands = Commands(empty, str(tmp_path))
            commands.run("oar_database", "--drop", "-y")
            done = commands.run(*(word.replace("oar-database", "oar_database") for word in shlex.split(rest)))
    elif who == "admin":
        done = bench.system.admin(*_words(bench, rest), check=False)
    else:
        done = bench.system.run(*_words(bench, typed), check=False)

    assert done.returncode == int(status), (done.stdout, done.stderr)
    assert done.stderr or who == "admin"


def test_the_reference_has_these_statuses_and_no_others() -> None:
    section = REFERENCE.read_text(encoding="utf-8").partition("## Statuses by command")[2].partition("\n## ")[0]
    documented = set(re.findall(r"^\| `([\w-]+)` \| (\d+) \|", section, re.MULTILINE))

    provoked = set()
    for line in STATUSES:
        typed, _, status = line.partition(" => ")
        command = next(word for word in typed.split() if word not in ("admin", "elsewhere"))
        provoked.add((command, status))
    assert documented == provoked


def test_a_job_that_stays_in_finishing_is_ended_by_force(bench: Bench) -> None:
    job = int(bench.thing("finishing"))
    bench.system.database.execute(
        "UPDATE job_state_logs SET date_start = date_start - interval '1 h' WHERE job_id = %s", (job,)
    )

    done = bench.system.admin("oardel", "--force-terminate-finishing-job", str(job))

    assert done.stdout == f"Force the termination of the job = {job} ...REGISTERED.\n"
    ended = bench.system.wait_until_final(job)
    assert ended.state == "Error"
    held = "SELECT count(*) FROM allocations WHERE job_id = %s AND upper_inf(held)"
    assert bench.system.database.execute(held, (job,)) == [(0,)]
    suspected = "SELECT DISTINCT host FROM resources WHERE state = 'Suspected'"
    host = os.uname().nodename
    wait_until(lambda: (host,) in bench.system.database.execute(suspected), what="the host is Suspected")


def test_a_running_job_becomes_besteffort_and_makes_room(bench: Bench) -> None:
    job = bench.system.oarsub("-l", "/core=4,walltime=0:10", "sleep 600")
    bench.system.wait_until_state(job, "Running", timeout_s=60)

    added = bench.system.admin("oardel", "-b", str(job))
    other = bench.system.oarsub("-l", "/core=1,walltime=0:01", "true")

    assert added.stdout == f"Add besteffort type for the job {job}.\n"
    assert bench.system.wait_until_final(other, timeout_s=60).state == "Terminated"
    assert bench.system.wait_until_final(job, timeout_s=60).end_cause == "besteffort"


def test_the_type_besteffort_is_taken_away_again(bench: Bench) -> None:
    job = bench.system.oarsub("-t", "besteffort", "-l", "/core=4,walltime=0:10", "sleep 600")
    bench.system.wait_until_state(job, "Running", timeout_s=60)

    removed = bench.system.admin("oardel", "-b", str(job))

    assert removed.stdout == f"Remove besteffort type for the job {job}.\n"
    events = "SELECT type FROM events WHERE job_id = %s AND type LIKE '%%BESTEFFORT%%'"
    assert bench.system.database.execute(events, (job,)) == [("DELETE_BESTEFFORT_JOB_TYPE",)]
    assert bench.system.database.execute("SELECT types FROM jobs WHERE job_id = %s", (job,)) == [([],)]


def test_jobs_of_resources_that_go_away_are_killed_and_waited_for(bench: Bench) -> None:
    job = int(bench.thing("running"))
    held = "SELECT lower(resources) FROM allocations WHERE job_id = %s"
    resource = bench.system.database.execute(held, (job,))[0][0]

    done = bench.system.admin("oarnodesetting", "-r", str(resource), "-s", "Absent")

    assert done.stdout == f"Resources {resource}: Absent\nCheck jobs to delete:\n\t{job} Deleted\nCheck done\n"
    assert bench.system.job(job).end_cause == "admin"


def test_oarprint_reads_the_file_of_its_job(bench: Bench) -> None:
    program = Path(__file__).parents[2] / "oarpy" / "node" / "oarprint.py"
    command = f"python3 {program} host -P host,core -F '% has %' -C +"

    job = bench.system.oarsub("-l", "/core=2,walltime=0:01", "-O", "printed", "-E", "printed", command)

    assert bench.system.wait_until_final(job).state == "Terminated"
    assert re.fullmatch(rf"{re.escape(os.uname().nodename)} has \d\+\d\n", bench.system.read("printed"))


def test_what_oarstat_shows_of_resources_is_what_oarprint_reads(bench: Bench) -> None:
    job = bench.system.oarsub("-l", "/core=2,walltime=0:01", "true")
    bench.system.wait_until_final(job)
    shown = bench.system.run("oarstat", "-p", "-j", str(job)).stdout

    printed = bench.system.run("oarprint", "network_address", "-f", "-", stdin=shown)

    assert printed.stdout == f"{os.uname().nodename}\n"
