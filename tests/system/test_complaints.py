"""What people complained of in OAR when they submitted jobs, and what reading its code showed: not here.

Each test is named after the complaint, by the number of its issue (``oar``, ``oar3``) or the
module that it was seen in.  Those about listings have a file of their own.
"""

from __future__ import annotations

import json
import os
import re
from collections.abc import Iterator

import pytest

from tests.support import invariants
from tests.support.instance import System, running_system
from tests.support.postgres import TestServer
from tests.support.waiting import wait_until


@pytest.fixture(scope="module")
def running(postgres: TestServer) -> Iterator[System]:
    """One instance for all these tests, of which each leaves it idle."""
    with postgres.database() as database, running_system(database) as system:
        system.database.execute("INSERT INTO resources (type, host) VALUES ('gpu', %s)", (os.uname().nodename,))
        yield system
        assert invariants.broken(database.engine) == []


def script(system: System, name: str, *lines: str) -> str:
    path = system.work / name
    path.write_text("\n".join(["#!/bin/sh", *lines, ""]))
    path.chmod(0o755)
    os.chown(path, system.user.pw_uid, system.user.pw_gid)
    return f"./{name}"


def column(system: System, job_id: int, name: str) -> object:
    return system.database.execute(f"SELECT {name} FROM visible_jobs WHERE job_id = %s", (job_id,))[0][0]


def events_of(system: System, job_id: int) -> dict[object, object]:
    return dict(system.database.execute("SELECT type, description FROM events WHERE job_id = %s", (job_id,)))  # type: ignore[arg-type]


def test_oar_183_the_directory_is_the_current_one_and_not_what_pwd_says(
    running: System, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setitem(running.environment, "PWD", "/somewhere/else")

    job_id = running.oarsub("pwd")

    running.wait_until_final(job_id)
    assert running.read(f"OAR.{job_id}.stdout") == f"{running.work}\n"


def test_oar3_42_oar_workdir_is_the_working_directory(running: System) -> None:
    (running.work / "sub").mkdir()
    os.chown(running.work / "sub", running.user.pw_uid, running.user.pw_gid)

    job_id = running.oarsub("-d", "sub", "echo $OAR_WORKDIR $OAR_WORKING_DIRECTORY $OAR_O_WORKDIR; pwd")

    running.wait_until_final(job_id)
    sub = f"{running.work}/sub"
    assert (running.work / "sub" / f"OAR.{job_id}.stdout").read_text() == f"{sub} {sub} {sub}\n{sub}\n"


def test_oar3_pr_60_a_directory_that_is_missing_on_the_node_is_named(running: System) -> None:
    job_id = running.oarsub("-d", "/no/such/place", "true")

    assert running.wait_until_final(job_id).state == "Error"
    assert "/no/such/place" in str(events_of(running, job_id)["WORKING_DIRECTORY"])


@pytest.mark.parametrize(
    "words",
    [
        ("-r", "2030-01-01 10:00:00 junk", "true"),
        ("-r", "2030-01-01 10:00:00, 2030-01-01 11:00:00, junk", "true"),
        ("-r", "now", "--junk", "true"),
        ("-I", "--junk"),
        ("-I", "-l", "core=1 junk"),
        ("-I", "-r", "junk"),
    ],
)
def test_oar_132_junk_beside_a_reservation_or_a_shell_is_refused(running: System, words: tuple[str, ...]) -> None:
    done = running.run("oarsub", *words, check=False)

    assert done.returncode in (1, 7, 18)
    assert (done.stdout, done.stderr.count("\n")) == ("", 1)
    assert "junk" in done.stderr


def test_oar_116_a_noop_job_warns_that_it_runs_nothing(running: System) -> None:
    done = running.run("oarsub", "-t", "noop", "-l", "walltime=0:0:1", "./important")

    job_id = int(done.stdout.partition("=")[2])
    assert done.stderr == "# a job of type noop runs nothing: its command is kept, and ignored\n"
    running.wait_until_final(job_id)


def test_oar_116_there_is_no_coming_to_a_noop_job_and_that_is_said(running: System) -> None:
    job_id = running.oarsub("-t", "noop", "-l", "walltime=0:5")
    running.wait_until_state(job_id, "Running")

    done = running.run("oarsub", "-C", str(job_id), check=False)

    assert (done.returncode, done.stdout, done.stderr.count("\n")) == (20, "", 1)
    assert done.stderr == f"oarsub: job {job_id} is of type noop and runs nothing\n"
    running.run("oardel", str(job_id))
    running.wait_until_final(job_id)


def test_oar_205_the_help_says_what_array_parameters_are(running: System) -> None:
    said = " ".join(running.run("oarsub", "--help").stdout.split())

    assert "--array-param-file FILE One job for each line, which is appended to the command." in said


def test_oar_147_output_files_of_an_array_that_would_collide_are_warned_of(running: System) -> None:
    done = running.run("oarsub", "--array", "2", "-O", "same", "-E", "%jobid%.err", "true")

    assert done.stderr == ("# all elements write their stdout to same; %jobid% in the name keeps them apart\n")
    running.wait_until_all_final([int(line.partition("=")[2]) for line in done.stdout.splitlines()[:2]])


def test_oar3_72_every_element_of_an_array_runs(running: System) -> None:
    job_ids = running.oarsub_array("--array", "7", "echo $OAR_ARRAY_INDEX")

    running.wait_until_all_final(job_ids)
    assert [running.read(f"OAR.{job_id}.stdout") for job_id in job_ids] == [f"{number}\n" for number in range(1, 8)]


def test_oar3_146_dependents_choose_between_the_ends_that_they_wait_for(running: System) -> None:
    failing = running.oarsub("exit 1")
    running.wait_until_final(failing)

    after = {kind: running.oarsub("-a", f"{kind}:{failing}", "true") for kind in ("afterok", "afternotok", "afterany")}

    running.wait_until_all_final(list(after.values()))
    states = {kind: running.job(job_id).state for kind, job_id in after.items()}
    assert states == {"afterok": "Error", "afternotok": "Terminated", "afterany": "Terminated"}
    assert running.job(after["afterok"]).end_cause == "dependency"


@pytest.mark.parametrize(("count", "lines"), [("ALL", 4), ("BEST", 4), ("BESTHALF", 2)])
def test_oar3_57_counts_may_be_words(running: System, count: str, lines: int) -> None:
    job_id = running.oarsub("-l", f"/core={count}", "wc -l < $OAR_NODEFILE")

    running.wait_until_final(job_id)
    assert running.read(f"OAR.{job_id}.stdout") == f"{lines}\n"


def test_oar3_66_and_88_a_script_with_lines_of_options_takes_arguments(running: System) -> None:
    path = script(running, "with_options.sh", "#OAR -n scanned", "#OAR -l walltime=0:5", 'echo "$#:$2"')

    together, apart = running.oarsub("-S", f"{path} a 'b c'"), running.oarsub("-S", path, "a", "'b c'")

    running.wait_until_all_final([together, apart])
    assert {running.read(f"OAR.scanned.{job_id}.stdout") for job_id in (together, apart)} == {"2:b c\n"}
    shown = json.loads(running.run("oarstat", "-J", "-f", "-j", str(together)).stdout)[str(together)]
    assert shown["walltime"] == 300


def test_oar3_85_words_behind_a_script_are_its_arguments_even_if_they_look_like_options(running: System) -> None:
    path = script(running, "with_arguments.sh", "#OAR -n words", 'printf "%s\\n" "$@"')

    job_id = running.oarsub("-S", "--", path, "-n", "other", "--array=5")

    running.wait_until_final(job_id)
    assert running.read(f"OAR.words.{job_id}.stdout") == "-n\nother\n--array=5\n"


def test_oar_111_a_shorter_walltime_that_would_start_earlier_is_told(running: System) -> None:
    start = running.database.execute("SELECT to_char(now() + interval '30 min', 'YYYY-MM-DD HH24:MI:SS UTC')")[0][0]
    reserved = running.run("oarsub", "-r", str(start), "-l", "/core=4,walltime=1", "true").stdout
    too_long = running.oarsub("-l", "/core=4,walltime=0:45", "sleep 600")
    planned = "SELECT start_at > now() FROM predictions WHERE job_id = %s"
    wait_until(lambda: running.database.execute(planned, (too_long,)) == [(True,)], timeout_s=30, what="it is planned")

    said = running.run("oarstat", "--why", str(too_long)).stdout

    running.run("oardel", str(too_long), reserved.split()[0].partition("=")[2])
    assert re.search(r"^With a walltime of 0:2\d:\d\d or less it would start now\.$", said, re.MULTILINE), said


def test_oar_142_a_command_runs_as_a_job_as_if_it_ran_here(running: System) -> None:
    done = running.run(
        "oarsub", "--follow", "-l", "/core=1,walltime=0:1", "echo out; echo err >&2; exit 3", check=False
    )

    assert done.returncode == 3
    assert done.stdout.splitlines()[1:] == ["out"]
    assert done.stderr.splitlines() == ["err"]


def test_oar_169_no_character_of_a_script_is_lost(running: System) -> None:
    path = script(running, "last.sh", "#OAR -n abc")

    job_id = running.oarsub("-S", path)

    running.wait_until_final(job_id)
    shown = json.loads(running.run("oarstat", "-J", "-f", "-j", str(job_id)).stdout)[str(job_id)]
    assert shown["initial_request"].endswith("-n abc")
    assert shown["name"] == "abc"


def test_oar_99_and_107_a_gpu_is_asked_for_beside_cores(running: System) -> None:
    job_id = running.oarsub("-l", "/host=1[gpu=1]/core=2,walltime=0:1", "wc -l < $OAR_NODEFILE")

    assert running.wait_until_final(job_id).state == "Terminated"
    assert running.read(f"OAR.{job_id}.stdout") == "2\n"


@pytest.mark.parametrize("request_", ["nodes=0", "/core=0", "/host=1/core=0"])
def test_oar_133_and_54_a_count_of_nothing_is_refused_and_harms_nobody(running: System, request_: str) -> None:
    done = running.run("oarsub", "-l", request_, "true", check=False)

    assert (done.returncode, done.stdout) == (18, "")
    assert running.wait_until_final(running.oarsub("true")).state == "Terminated"


def test_oar3_132_and_kao_scheduling_a_container_that_is_missing_harms_nobody(running: System) -> None:
    by_id = running.run("oarsub", "-t", "inner=999999", "true", check=False)
    by_name = running.oarsub("-t", "inner=nosuch", "true")

    assert by_id.returncode != 0
    assert "999999" in by_id.stderr
    assert running.wait_until_final(running.oarsub("true")).state == "Terminated"
    running.run("oardel", str(by_name))


def test_job_handling_a_type_that_is_almost_a_known_one_is_warned_of(running: System) -> None:
    done = running.run("oarsub", "-t", "allow=x", "--hold", "true")

    assert done.stderr == "# the type 'allow' has no meaning of its own; did you mean allowed?\n"
    running.run("oardel", done.stdout.strip().partition("=")[2])


def test_job_handling_a_job_that_depends_on_a_running_one_starts_after_it(running: System) -> None:
    first = running.oarsub("until [ -e second.asked ]; do sleep 0.1; done; echo first >> order")
    running.wait_until_state(first, "Running")

    second = running.oarsub("-a", str(first), "echo second >> order")
    (running.work / "second.asked").touch()

    running.wait_until_all_final([first, second])
    assert running.read("order") == "first\nsecond\n"


def test_job_handling_the_filters_of_job_and_group_are_joined_with_parentheses(running: System) -> None:
    job_id = running.oarsub("-p", "core = 1 or core = 2", "-l", "{core = 3 or core = 2}/core=1", "--hold", "true")

    wanted = str(column(running, job_id, "wanted_resources"))
    running.run("oarresume", str(job_id))
    running.wait_until_final(job_id)
    assert "(core = 3 OR core = 2)" in wanted
    assert "(core = 1 OR core = 2)" in wanted
    used = "SELECT r.core FROM allocations a JOIN resources r ON a.resources @> r.resource_id WHERE a.job_id = %s"
    assert running.database.execute(used, (job_id,)) == [(2,)]


def test_job_handling_the_window_of_a_dependency_is_kept(running: System) -> None:
    first = running.oarsub("true")
    running.wait_until_final(first)

    second = running.oarsub("-a", f"{first},1h,2h", "true")

    windows = "SELECT extract(epoch FROM window_min)::int, extract(epoch FROM window_max)::int FROM job_dependencies"
    assert running.database.execute(f"{windows} WHERE job_id = %s", (second,)) == [(3600, 7200)]
    assert running.job(second).state == "Waiting"
    running.run("oardel", str(second))


def test_job_handling_a_checkpoint_and_a_signal_are_told_apart(running: System) -> None:
    path = script(running, "trap.sh", "trap 'echo saved' USR2", "trap 'echo told; exit' USR1", "touch ready",
                  "while :; do sleep 0.1; done")  # fmt: skip
    job_id = running.oarsub("-l", "walltime=0:5", f"exec {path}")
    running.wait_until_state(job_id, "Running")
    wait_until(lambda: (running.work / "ready").exists())

    running.run("oardel", "-c", str(job_id))
    wait_until(lambda: running.read(f"OAR.{job_id}.stdout") == "saved\n")
    running.run("oardel", "-s", "USR1", str(job_id))

    running.wait_until_final(job_id)
    assert running.read(f"OAR.{job_id}.stdout") == "saved\ntold\n"
    assert {"CHECKPOINT", "SIGNAL_10"} <= set(events_of(running, job_id))


def test_submission_a_reservation_that_is_refused_has_a_status_of_its_own(running: System) -> None:
    first = running.run("oarsub", "-r", "2030-05-04 10:00:00", "-l", "/core=4,walltime=1", "true")

    second = running.run("oarsub", "-r", "2030-05-04 10:30:00", "-l", "/core=4,walltime=1", "true", check=False)

    assert "# Reservation valid --> OK" in first.stdout
    assert second.returncode == 10
    assert "# Reservation not valid --> KO" in second.stdout
    running.run("oardel", first.stdout.split()[0].partition("=")[2])


def test_node_change_state_holding_what_runs_does_not_suspend_it(running: System) -> None:
    job_id = running.oarsub("until [ -e held ]; do sleep 0.1; done")
    running.wait_until_state(job_id, "Running")

    done = running.run("oarhold", str(job_id), check=False)
    (running.work / "held").touch()

    assert done.returncode == 1
    assert "is Running" in done.stderr
    assert running.wait_until_final(job_id).state == "Terminated"


def test_bipbip_what_failed_at_the_launch_is_told_by_its_own_name(running: System) -> None:
    no_directory = running.oarsub("-d", "/no/such/place", "true")
    no_output = running.oarsub("-O", "/proc/none", "true")

    running.wait_until_all_final([no_directory, no_output])
    assert "WORKING_DIRECTORY" in events_of(running, no_directory)
    assert "OUTPUT_FILES" in events_of(running, no_output)


def test_oar3_149_a_very_long_command_with_escapes_runs_or_is_refused_and_no_node_suffers(running: System) -> None:
    job_id = running.oarsub("echo " + "\\\\'\"$x`#`" * 3000 + "; true")

    assert running.wait_until_final(job_id).state in ("Terminated", "Error")
    assert running.database.execute("SELECT DISTINCT state::text FROM resources") == [("Alive",)]
    assert running.wait_until_final(running.oarsub("true")).state == "Terminated"


def test_oar_14_a_moldable_reservation_is_judged_by_its_first_alternative(running: System) -> None:
    words = ("-r", "2031-05-04 10:00:00", "-l", "/core=4,walltime=1", "-l", "/core=1,walltime=2", "true")

    done = running.run("oarsub", *words)

    job_id = int(done.stdout.split()[0].partition("=")[2])
    assert column(running, job_id, "walltime::text") == "01:00:00"
    running.run("oardel", str(job_id))
