"""What existing programs call and read, replayed on a running instance without the programs.

Each test is one program of docs/integrations: its commands word for word, its regular
expressions and its assumptions.  What fails here has broken that program.  Two of them are
small enough to be tried for real: the examples of execo and submitit run at the end.
"""

from __future__ import annotations

import ast
import json
import os
import re
import shlex
import shutil
import signal
import subprocess
import sys
import time
from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path

import pytest

from tests.support import invariants
from tests.support.accounts import environment_of, switched
from tests.support.instance import COMMANDS, System, running_system
from tests.support.postgres import TestServer
from tests.support.typist import Typist
from tests.support.waiting import wait_until

ROOT = Path(__file__).parents[2]
INTEGRATIONS = ROOT / "integrations"
PAGES = ROOT / "docs/integrations"


@pytest.fixture(scope="module")
def running(postgres: TestServer) -> Iterator[System]:
    """One instance for all these tests, of which each leaves it idle."""
    with postgres.database() as database, running_system(database) as system:
        yield system
        assert invariants.broken(database.engine) == []


@pytest.fixture
def place(running: System, tmp_path: Path) -> Path:
    """A directory of the user's for one program."""
    made = running.work / tmp_path.name
    made.mkdir()
    os.chown(made, running.user.pw_uid, running.user.pw_gid)
    return made


def call(
    system: System,
    words: Sequence[str],
    cwd: Path,
    *,
    stdin: str | None = None,
    environment: Mapping[str, str] | None = None,
    merged: bool = False,
) -> subprocess.CompletedProcess[str]:
    """A program of the user's that finds the commands on its path; its status is nobody's business here."""
    inherited = {**system.environment, "PATH": f"{COMMANDS}:{os.environ['PATH']}", **(environment or {})}
    return subprocess.run(
        switched(system.user, words),
        cwd=cwd,
        env=environment_of(system.user, inherited),
        stdin=subprocess.DEVNULL if stdin is None else None,
        input=stdin,
        stdout=subprocess.PIPE,
        stderr=subprocess.STDOUT if merged else subprocess.PIPE,
        text=True,
        check=False,
        timeout=120,
    )


def shell(system: System, line: str, cwd: Path) -> subprocess.CompletedProcess[str]:
    return call(system, ["sh", "-c", line], cwd)


def copied(name: str, place: Path, system: System) -> Path:
    """The files of an integration where its user may write."""
    target = place / name
    shutil.copytree(INTEGRATIONS / name, target)
    for path in [target, *target.rglob("*")]:
        os.chown(path, system.user.pw_uid, system.user.pw_gid)
    return target


def text_of(path: Path) -> str:
    """What a file holds; nothing while it is not there."""
    return path.read_text() if path.exists() else ""


def test_every_integration_has_its_page_and_every_page_its_example() -> None:
    named = {path.stem for path in PAGES.glob("*.md")} - {"README"}
    kept = {path.name.replace("_", "-") for path in INTEGRATIONS.iterdir() if path.is_dir()}
    index = (PAGES / "README.md").read_text(encoding="utf-8")
    shown = (INTEGRATIONS / "README.md").read_text(encoding="utf-8")

    assert named == kept
    assert all(f"({name}.md)" in index and f"docs/integrations/{name}.md" in shown for name in named)


# dask-jobqueue: one argument that is a whole script, the id by search, status 0.
def test_dask_jobqueue_submits_a_worker_and_deletes_it(running: System, place: Path) -> None:
    header = (
        "#!/usr/bin/env bash\n\n#OAR -n dask-worker\n#OAR -q default\n#OAR --project demo\n"
        "#OAR -l /nodes=1/core=1,walltime=00:30:00\n#OAR -t besteffort\n"
    )
    lines = [*header.splitlines(keepends=True), "\n", "echo begun\n", "sleep 300 # --name dummy-name\n", "\n"]
    options = [line.replace("#OAR ", "").strip() for line in lines if line.startswith("#OAR ")]
    script = "".join(line for line in lines if not line.startswith("#"))
    words = [*shlex.split(" ".join(["oarsub", *options])), script]

    # Nothing but the path: a worker's submission does not depend on a login.
    submitted = call(running, words, place, environment={"PWD": "/nowhere"})
    assert submitted.returncode == 0
    found = re.search(r"OAR_JOB_ID=(?P<job_id>\d+)", submitted.stdout)
    assert found is not None
    job_id = int(found["job_id"])
    running.wait_until_state(job_id, "Running")
    wait_until(lambda: text_of(place / f"OAR.dask-worker.{job_id}.stdout") == "begun\n", what="the script runs")

    assert call(running, ["oardel", str(job_id)], place).returncode == 0
    assert running.wait_until_final(job_id).state == "Error"


def test_dask_jobqueue_asks_for_memory_by_a_property(running: System, place: Path) -> None:
    words = shlex.split("oarsub -p 'core >= 0 AND core>=1' -l /nodes=1/core=1 true")

    submitted = call(running, words, place)

    assert submitted.returncode == 0, submitted.stderr
    running.wait_until_final(int(re.findall(r"OAR_JOB_ID=(\d+)", submitted.stdout)[0]))


# execo: everything on a terminal, so stdout and stderr are one, and lines end in \r\n.
class Execo:
    def __init__(self, system: System, cwd: Path) -> None:
        self._system, self._cwd = system, cwd

    def says(self, line: str) -> tuple[int, str]:
        environment = {**self._system.environment, "PATH": f"{COMMANDS}:{os.environ['PATH']}", "TZ": "Europe/Paris"}
        window = Typist(["sh", "-c", line], self._system.user, cwd=self._cwd, environment=environment)
        try:
            return window.end(), window.shown
        finally:
            window.close()

    def information(self, job_id: int) -> dict[str, str]:
        _, said = self.says(f"oarstat -fj {job_id}")
        patterns = {
            "start_date": r"^\s*start(T|_t)ime = (\d\d\d\d-\d\d-\d\d \d\d:\d\d:\d\d)\s*$",
            "walltime": r"^\s*walltime = ()(\d+:\d?\d:\d?\d)\s*$",
            "scheduled_start": r"^\s*scheduled(S|_s)tart = (\d\d\d\d-\d\d-\d\d \d\d:\d\d:\d\d)\s*$",
            "state": r"^\s*state = ()(\w*)\s*$",
            "name": r"^\s*name = ()([ \t\S]*)\s*$",
        }
        found = {key: re.search(pattern, said, re.MULTILINE) for key, pattern in patterns.items()}
        return {key: match[2] for key, match in found.items() if match}


def paris(text: str) -> float:
    done = subprocess.run(
        [sys.executable, "-c", f"import time; print(time.mktime(time.strptime({text!r}, '%Y-%m-%d %H:%M:%S')))"],
        env={"TZ": "Europe/Paris"},
        capture_output=True,
        text=True,
        check=True,
    )
    return float(done.stdout)


def test_execo_submits_looks_and_deletes(running: System, place: Path) -> None:
    execo = Execo(running, place)
    status, said = execo.says(
        'oarsub -l "core=1,walltime=0:10:0" -t "origin=execo" --project "demo" -n "from execo" "sleep 300"'
    )
    found = re.search(r"^OAR_JOB_ID=(\d+)\s*$", said, re.MULTILINE)
    assert status == 0
    assert found is not None
    job_id = int(found[1])
    running.wait_until_state(job_id, "Running")

    information = execo.information(job_id)
    assert abs(paris(information.pop("start_date")) - time.time()) < 60
    assert abs(paris(information.pop("scheduled_start")) - time.time()) < 60
    assert information.pop("name").strip() == "from execo"
    assert information == {"walltime": "0:10:0", "state": "Running"}

    listed = execo.says("oarstat -u")[1]
    assert re.findall(r"^(\d+)\s", listed, re.MULTILINE) == [str(job_id)]

    nodes = (
        f"(oarstat -sj {job_id} | grep 'Running\\|Terminated\\|Error') > /dev/null 2>&1"
        f" && oarstat -pj {job_id} | oarprint network_address -f - | sort"
    )
    assert re.findall(r"(\S+)", execo.says(nodes)[1]) == [os.uname().nodename]

    execo.says(f"oardel {job_id}")
    running.wait_until_final(job_id)
    assert execo.information(job_id)["state"] == "Error"


def test_execo_reserves_in_the_time_of_paris(running: System, place: Path) -> None:
    execo = Execo(running, place)
    begin = int(time.time()) + 3600
    _, date = execo.says(f"date -d @{begin} '+%Y-%m-%d %H:%M:%S'")
    status, said = execo.says(
        f'oarsub -l "core=1,walltime=0:10:0" -t "origin=execo" -r "{date.strip()}" "sleep 31536000"'
    )
    found = re.search(r"^OAR_JOB_ID=(\d+)\s*$", said, re.MULTILINE)
    assert status == 0
    assert found is not None

    information = execo.information(int(found[1]))
    assert "start_date" not in information
    assert paris(information["scheduled_start"]) == begin
    execo.says(f"oardel {found[1]}")
    running.wait_until_final(int(found[1]))


def test_execo_takes_a_refusal_for_no_job(running: System, place: Path) -> None:
    status, said = Execo(running, place).says('oarsub -l "core=1" -t "origin=execo" -q "no-such-queue" "true"')

    assert status != 0
    assert re.search(r"^OAR_JOB_ID=(\d+)\s*$", said, re.MULTILINE) is None


# Snakemake (cluster-generic): the first line of the submission is the id; one word of the status command.
def test_snakemake_submits_asks_and_cancels(running: System, place: Path) -> None:
    work = copied("snakemake", place, running)

    def submit(script: str) -> str:
        name = f"snakejob.{len(list(work.iterdir()))}.sh"
        (work / name).write_text(f"#!/bin/sh\n# properties = {{}}\n{script}\n")
        (work / name).chmod(0o755)
        line = f'./oarsubmit -n snakemake-rule -l /nodes=1/core=1,walltime=0:10:0 "{work / name}"'
        said = shell(running, line, work)
        assert said.returncode == 0, said.stderr
        first = said.stdout.split("\n")[0].strip()
        assert first.isdecimal()
        return first

    def status(job: str) -> str:
        said = shell(running, f"./oarstatus '{job}'", work)
        assert said.returncode == 0
        return said.stdout.strip()

    well, badly, long = submit("exit 0"), submit("exit 3"), submit("sleep 300")
    running.wait_until_all_final([int(well), int(badly)])
    running.wait_until_state(int(long), "Running")
    assert [status(job) for job in (well, badly, long)] == ["success", "failed", "running"]

    # Snakemake gives up after two seconds: what is deleted is not waited for, here a job that cannot end.
    runner = running.processes()["runner"]
    os.kill(runner, signal.SIGSTOP)
    try:
        assert call(running, ["oardel", long, well], place).returncode == 0
        assert running.job(int(long)).state == "Running"
    finally:
        os.kill(runner, signal.SIGCONT)
    running.wait_until_final(int(long))
    assert status(long) == "failed"


def test_snakemake_sees_that_a_submission_is_refused(running: System, place: Path) -> None:
    work = copied("snakemake", place, running)

    said = shell(running, './oarsubmit -q no-such-queue "./job.sh"', work)

    assert said.returncode != 0
    assert said.stdout == ""


# Nextflow: the calls are a program of their own, for people as for this test.
def test_nextflow_runs_its_tasks(running: System, place: Path) -> None:
    work = copied("nextflow", place, running)
    running.admin("oarproperty", "-a", "memnode", "-q")
    running.admin("oarnodesetting", "--sql", "core > 0", "-p", "memnode=4")

    said = call(running, [sys.executable, "calls.py"], work)

    assert said.returncode == 0, said.stdout + said.stderr
    assert said.stdout.endswith("all went well\n")


def test_nextflow_finds_nothing_when_nothing_is_active(running: System, place: Path) -> None:
    said = shell(running, "oarstat -f default | grep -E '(Job_Id:|state =)' ", place)

    # What Nextflow takes for "no news", not for "no such job".
    assert (said.returncode, said.stdout, said.stderr) == (1, "", "")


# submitit_oar: options split on blanks, JSON that is complete when oarsub returns.
def test_submitit_submits_an_array_and_follows_it(running: System, place: Path) -> None:
    options = (
        f"--array 3 -E {place}/%jobid%_0_log.err -O {place}/%jobid%_0_log.out -l /core=1,walltime=00:10 -n submitit"
    )
    words = ["oarsub", *options.split(), "export SUBMITIT_EXECUTOR=oar; echo $OAR_ARRAY_INDEX of $OAR_ARRAY_ID"]
    submitted = call(running, words, place)
    found = re.search(r"OAR_JOB_ID=(?P<id>[0-9]+)", submitted.stdout)
    assert found is not None
    array = found["id"]

    listed = json.loads(call(running, ["oarstat", "--array", array, "-J"], place).stdout)
    jobs = sorted(listed, key=int)
    assert len(jobs) == 3
    assert jobs[0] == array

    running.wait_until_all_final([int(job) for job in jobs])
    repeated = [word for job in jobs for word in ("-j", job)]
    shown = json.loads(call(running, ["oarstat", "-f", "-J", *repeated], place).stdout)
    assert {job: (shown[job]["state"], shown[job]["assigned_network_address"]) for job in jobs} == {
        job: ("Terminated", [os.uname().nodename]) for job in jobs
    }
    assert sorted((place / f"{job}_0_log.out").read_text() for job in jobs) == [f"{n} of {array}\n" for n in (1, 2, 3)]
    assert json.loads(call(running, ["oarstat", "--array", array, "-J"], place).stdout).keys() == set(jobs)


def test_submitit_asks_for_resubmissions_and_for_jobs_that_are_not_there(running: System, place: Path) -> None:
    none = call(running, ["oarstat", "--sql", "resubmit_job_id='4711'", "-J"], place)
    unknown = call(running, ["oarstat", "-f", "-J", "-j", "4711"], place)

    assert (none.returncode, json.loads(none.stdout)) == (0, {})
    assert (unknown.returncode, json.loads(unknown.stdout)) == (0, {})


def test_submitit_checkpoints_signals_and_cancels(running: System, place: Path) -> None:
    catcher = "trap 'echo checkpoint' USR2; echo ready; while :; do sleep 0.1; done"
    words = ["oarsub", *"-t besteffort -t idempotent -l /core=1,walltime=00:10 -n submitit".split(), catcher]
    job = re.findall(r"OAR_JOB_ID=(\d+)", call(running, words, place).stdout)[0]
    output = place / f"OAR.submitit.{job}.stdout"
    wait_until(lambda: "ready" in text_of(output), what="the job is ready")

    assert call(running, ["oardel", "-c", job], place).returncode == 0
    wait_until(lambda: "checkpoint" in output.read_text(), what="the job is told to save its work")
    assert call(running, ["oardel", "-s", "SIGTERM", job], place).returncode == 0
    running.wait_until_final(int(job))
    assert call(running, ["oardel", "--array", job], place).returncode == 0


# ReFrame: relative output files, -fj for jobs that are over, the raw status.
def test_reframe_submits_polls_and_cancels(running: System, place: Path) -> None:
    def submit(name: str, command: str) -> str:
        path = place / f"rfm_{name}.sh"
        path.write_text(
            f'#!/bin/bash\n#OAR -n "rfm_{name}"\n#OAR -O rfm_{name}.out\n#OAR -E rfm_{name}.err\n'
            f"#OAR -l /host=1/core=1,walltime=0:10:0\n{command}\n"
        )
        path.chmod(0o755)
        # ReFrame changes its directory and not $PWD.
        said = call(running, shlex.split(f"oarsub -S {path}"), place, environment={"PWD": "/"})
        assert said.returncode == 0, said.stderr
        found = re.search(r".*OAR_JOB_ID=(?P<jobid>\S+)", said.stdout)
        assert found is not None
        return found["jobid"]

    def poll(job: str) -> tuple[str | None, int | None]:
        said = call(running, shlex.split(f"oarstat -fj {job}"), Path("/"))
        assert said.returncode == 0
        named = re.search(r"^(Job_Id|id):\s*(?P<jobid>\S+)", said.stdout, re.MULTILINE)
        assert named is not None
        assert named["jobid"] == job
        shown = re.search(r"^\s*state = (?P<state>[A-Z]\S+)", said.stdout, re.MULTILINE)
        code = re.search(r"^\s*exit_code = (?P<code>\d+)", said.stdout, re.MULTILINE)
        return shown and shown["state"], code and int(code["code"])

    well, badly, long = submit("well", "echo done"), submit("badly", "exit 3"), submit("long", "sleep 300")
    for job, name in ((well, "well"), (badly, "badly")):
        wait_until(lambda job=job: poll(job)[0] == "Terminated", what=f"job {job} is over")
        # At once: ReFrame looks for them as soon as it knows that the job is over.
        assert (place / f"rfm_{name}.out").exists()
        assert (place / f"rfm_{name}.err").exists()
    assert (poll(well), poll(badly)) == (("Terminated", 0), ("Terminated", 768))
    assert (place / "rfm_well.out").read_text() == "done\n"

    assert call(running, shlex.split(f"oardel {long}"), place).returncode == 0
    wait_until(lambda: poll(long)[0] == "Error", what="it is cancelled")
    gone = call(running, shlex.split("oarstat -fj 4711"), place)
    assert (gone.returncode, gone.stdout) == (0, "")


# batchspawner: the script and the patterns are those that people copy.
def _traits() -> dict[str, str]:
    """The values of OarSpawner, which cannot be imported without batchspawner."""
    tree = ast.parse((INTEGRATIONS / "batchspawner/oarspawner.py").read_text(encoding="utf-8"))
    spawner = next(node for node in tree.body if isinstance(node, ast.ClassDef))
    return {
        assign.targets[0].id: assign.value.func.value.args[0].value
        for assign in spawner.body
        if isinstance(assign, ast.Assign)
        and isinstance(assign.targets[0], ast.Name)
        and isinstance(assign.value, ast.Call)
        and isinstance(assign.value.func, ast.Attribute)
        and isinstance(assign.value.func.value, ast.Call)
        and isinstance(assign.value.func.value.args[0], ast.Constant)
    }


def test_batchspawner_starts_a_notebook_server_and_stops_it(running: System, place: Path) -> None:
    work = copied("batchspawner", place, running)
    traits = _traits()
    environment = {"JUPYTERHUB_API_TOKEN": "it's secret", "HOME": str(place)}
    script = traits["batch_script"].format(
        nprocs="1",
        runtime="0:10:0",
        homedir=place,
        prologue="",
        epilogue="",
        cmd='echo "$JUPYTERHUB_API_TOKEN"; sleep 300',
    )

    def shown(job: str) -> str:
        return call(running, shlex.split(traits["batch_query_cmd"].format(job_id=job)), place).stdout.strip()

    def submit(text: str) -> subprocess.CompletedProcess[str]:
        inherited = [f"{name}={value}" for name, value in environment.items()]
        words = ["env", *inherited, sys.executable, str(work / "submit.py"), "HOME,JUPYTERHUB_API_TOKEN,ABSENT"]
        return call(running, words, place, stdin=text)

    submitted = submit(script)
    assert submitted.returncode == 0, submitted.stderr
    found = re.search(r"^OAR_JOB_ID=(\d+)$", submitted.stdout.strip(), re.MULTILINE)
    assert found is not None
    job = found[1]
    wait_until(lambda: re.search(traits["state_running_re"], shown(job)), what="the server runs")
    host = re.search(traits["state_exechost_re"], shown(job))
    assert host is not None
    assert host[1] == os.uname().nodename
    log = place / f".jupyterhub.{job}.log"
    wait_until(lambda: text_of(log) == "it's secret\n", what="the server has its token")
    # Nobody else has it: the script is gone, and oarstat does not know it.
    assert list((place / ".jupyterhub").iterdir()) == []
    assert "secret" not in call(running, ["oarstat", "-fj", job], place).stdout

    assert call(running, shlex.split(traits["batch_cancel_cmd"].format(job_id=job)), place).returncode == 0
    running.wait_until_final(int(job))
    assert not re.search(traits["state_running_re"], shown(job))
    assert not re.search(traits["state_pending_re"], shown(job))

    refused = submit(script.replace("#OAR -n", "#OAR -q no-such-queue -n"))
    assert refused.returncode != 0
    assert list((place / ".jupyterhub").iterdir()) == []


# Programs without a page, whose calls are known.
@pytest.fixture
def ended(running: System) -> list[str]:
    """Two jobs that are over."""
    jobs = [running.oarsub("-n", f"over{number}", "true") for number in (1, 2)]
    running.wait_until_all_final(jobs)
    return [str(job) for job in jobs]


def test_nipype_takes_the_id_from_json_and_puts_it_on_a_command_line(running: System, place: Path) -> None:
    words = ["oarsub", "-O", str(place / "out"), "-E", str(place / "err"), "-J", "-n", "a_name", "-S", "./script.sh"]
    (place / "script.sh").write_text("#!/bin/sh\necho done\n")
    (place / "script.sh").chmod(0o755)
    lines = call(running, words, place).stdout.splitlines()
    begin = next(number for number, line in enumerate(lines) if line.startswith("{"))
    end = next(number for number, line in enumerate(lines) if line.startswith("}"))
    job = json.loads("\n".join(lines[begin : end + 1]))["job_id"]

    running.wait_until_final(int(job))
    said = call(running, ["oarstat", "-J", "-s", "-j", job], place).stdout

    assert json.loads(said)[job].lower() == "terminated"
    assert (place / "out").read_text() == "done\n"


def test_pydra_names_options_with_an_equals_sign(running: System, place: Path) -> None:
    options = ["--name=X", f"--stdout={place}/oar-%jobid%.out", f"--stderr={place}/oar-%jobid%.err"]
    submitted = call(running, ["oarsub", *options, "echo done"], place)
    job = re.findall(r"OAR_JOB_ID=(\d+)", submitted.stdout)[0]

    running.wait_until_final(int(job))

    assert (place / f"oar-{job}.out").read_text() == "done\n"
    again = call(running, ["oarstat", "-J", "--sql", f"resubmit_job_id='{job}'"], place)
    assert (again.returncode, json.loads(again.stdout)) == (0, {})


def test_fluiddyn_reads_the_second_format(running: System, place: Path) -> None:
    job = running.oarsub("-n", "fluid", "-l", "/core=1,walltime=0:10:0", "sleep 300")
    running.wait_until_state(job, "Running")

    said = call(running, ["oarstat", "-u"], place, environment={"OAR_OARSTAT_OUTPUT_FORMAT": "2"}).stdout
    line = next(line for line in said.splitlines() if "fluid" in line)
    words = line.split()
    message = dict(part.split("=") for part in words[4].split(","))

    assert (words[0], words[1], words[2]) == (str(job), "R", running.user.pw_name)
    assert {key: message[key] for key in "RWJN"} == {"R": "1", "W": "0:10:0", "J": "B", "N": "fluid"}
    call(running, ["oardel", str(job)], place)
    running.wait_until_final(job)


def test_melissa_asks_for_states_and_deletes_what_is_over(running: System, place: Path, ended: list[str]) -> None:
    command = "env 'A=b' sh -c 'echo -x $A' -- cmd"
    options = [f"--directory={place}", "--resource=core=1", "--name", "m"]
    submitted = call(running, ["oarsub", *options, "--", command], place)
    job = int(re.findall(r"OAR_JOB_ID=(\d+)", submitted.stdout)[0])
    running.wait_until_final(job)
    states = call(running, ["oarstat", "--state", *(word for one in ended for word in ("--job", one))], place).stdout

    assert (place / f"OAR.m.{job}.stdout").read_text() == "-x b\n"
    assert [re.fullmatch(r"([0-9]+): ([A-Za-z]+)", line)[0] for line in states.splitlines()] == [
        f"{one}: Terminated" for one in ended
    ]
    assert call(running, ["oardel", *ended], place).returncode in (0, 6)


def test_gridscale_glues_values_and_reads_the_second_word(running: System, place: Path) -> None:
    words = ["oarsub", "-Oout", "-Eerr", "-t", "besteffort", "-q", "default", "-d", str(place), "echo done"]
    submitted = call(running, words, place).stdout.splitlines()
    job = next(line for line in submitted if line.startswith("OAR_JOB_ID")).split("=")[1]
    assert job.isdecimal()

    running.wait_until_final(int(job))
    said = call(running, ["oarstat", "-j", job, "-s"], place).stdout.splitlines()

    assert said[0].split()[1] == "Terminated"
    assert (place / "out").read_text() == "done\n"


def test_libbatch_takes_what_follows_the_last_equals_sign(running: System, place: Path) -> None:
    (place / "x_Batch.sh").write_text("#!/bin/sh\ncat $OAR_NODEFILE\n")
    (place / "x_Batch.sh").chmod(0o755)
    line = f"oarsub -t allow_classic_ssh -d {place} -S {place}/x_Batch.sh 2>&1"
    lines = shell(running, line, place).stdout.split("\n")
    job = lines[lines.index("") - 1].rpartition("=")[2]

    running.wait_until_final(int(job))

    assert (place / f"OAR.{job}.stdout").read_text() == f"{os.uname().nodename}\n"


def test_scripts_print_hosts_and_export_the_id(running: System, place: Path) -> None:
    line = "export $(oarsub 'sleep 300' | grep OAR_JOB_ID); echo $OAR_JOB_ID"
    job = shell(running, line, place).stdout.strip()
    running.wait_until_state(int(job), "Running")
    line = f"oarstat -j {job} -p | oarprint core -P host -F '% ' -f -"

    assert shell(running, line, place).stdout.split() == [os.uname().nodename]
    assert list(json.loads(call(running, ["oarstat", "-J", "-j", job, "-p"], place).stdout)) == [job]
    assert call(running, ["oardel", "-s", "SIGTERM", job], place).returncode == 0
    running.wait_until_final(int(job))


@pytest.mark.parametrize("command", ["oarsub", "oarstat", "oardel", "oarnodes"])
def test_programs_that_ask_for_a_version_get_one(running: System, place: Path, command: str) -> None:
    said = call(running, [command, "--version"], place)

    assert said.returncode == 0
    assert re.search(r"\d+\.\d+", said.stdout)


@pytest.mark.parametrize(("name", "program"), [("execo", "example"), ("execo", "hosts"), ("submitit", "example")])
def test_an_example_runs_with_the_program_itself(running: System, place: Path, name: str, program: str) -> None:
    work = copied(name, place, running)

    said = call(running, [sys.executable, f"{program}.py"], work, merged=True)

    assert said.returncode == 0, said.stdout
    assert said.stdout.endswith("all went well\n")
