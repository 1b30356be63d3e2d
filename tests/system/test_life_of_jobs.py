"""Jobs as users see them, from oarsub to their end, on a running instance."""

from __future__ import annotations

import os

from tests.support.instance import System
from tests.support.node import is_zombie
from tests.support.waiting import wait_until


def host() -> str:
    return os.uname().nodename


def test_a_job_gets_oars_environment_and_files(system: System) -> None:
    job_id = system.oarsub(
        "-n",
        "trial",
        "--project",
        "wing",
        "-l",
        "/core=2,walltime=0:10:0",
        "env | grep ^OAR_ | sort; cat $OAR_NODEFILE",
    )

    system.wait_until_final(job_id)

    lines = system.read(f"OAR.trial.{job_id}.stdout").splitlines()
    seen = dict(line.split("=", 1) for line in lines if line.startswith("OAR_"))
    assert seen["OAR_JOB_ID"] == seen["OAR_JOBID"] == seen["OAR_ARRAY_ID"] == seen["OAR_ARRAYID"] == str(job_id)
    assert seen["OAR_ARRAY_INDEX"] == seen["OAR_ARRAYINDEX"] == "1"
    assert (seen["OAR_JOB_NAME"], seen["OAR_PROJECT_NAME"], seen["OAR_USER"]) == ("trial", "wing", system.user.pw_name)
    assert (seen["OAR_JOB_WALLTIME"], seen["OAR_JOB_WALLTIME_SECONDS"]) == ("0:10:0", "600")
    assert seen["OAR_WORKDIR"] == seen["OAR_WORKING_DIRECTORY"] == seen["OAR_O_WORKDIR"] == str(system.work)
    assert seen["OAR_NODEFILE"] == seen["OAR_NODE_FILE"] == seen["OAR_FILE_NODES"]
    assert [line for line in lines if not line.startswith("OAR_")] == [host(), host()]


def test_the_first_bash_of_a_job_reads_its_users_bashrc(system: System) -> None:
    script = "type module; bash -c 'type module'"
    command = f'echo "module() {{ :; }}" >.bashrc; HOME=$PWD bash -c "{script}"'

    job_id = system.oarsub(command)

    system.wait_until_final(job_id)
    said = system.read(f"OAR.{job_id}.stdout").splitlines(), system.read(f"OAR.{job_id}.stderr").splitlines()
    assert said[0][0] == "module is a function"
    assert said[1] == ["bash: line 1: type: module: not found"]


def test_a_job_runs_as_its_owner_with_its_umask_and_appends_to_its_files(system: System) -> None:
    (system.work / "log").write_text("before\n")
    os.chown(system.work / "log", system.user.pw_uid, system.user.pw_gid)

    job_id = system.oarsub("-O", "log", "-E", "log", "id -un; umask; echo trouble >&2")

    system.wait_until_final(job_id)
    assert system.read("log") == f"before\n{system.user.pw_name}\n0022\ntrouble\n"


def test_exit_status_and_signal_are_kept_as_wait_gives_them(system: System) -> None:
    failing, killed = system.oarsub("exit 3"), system.oarsub("kill -9 $$")

    system.wait_until_all_final([failing, killed])

    assert (system.job(failing).state, system.job(failing).exit_code) == ("Terminated", 768)
    assert system.job(killed).end_cause == "signal"
    assert system.job(killed).exit_code in (9, 137 << 8)


def test_a_directory_that_does_not_exist_ends_the_job_with_oars_event(system: System) -> None:
    job_id = system.oarsub("-d", "/nowhere/at/all", "true")

    job = system.wait_until_final(job_id)

    assert (job.state, job.end_cause) == ("Error", "launch_error")
    events = system.database.execute("SELECT type FROM events WHERE job_id = %s", (job_id,))
    assert ("WORKING_DIRECTORY",) in events
    assert system.database.execute("SELECT DISTINCT state FROM resources") == [("Alive",)]


def test_an_output_file_that_cannot_be_opened_ends_the_job_with_oars_event(system: System) -> None:
    job_id = system.oarsub("-O", "/proc/none", "true")

    job = system.wait_until_final(job_id)

    assert (job.state, job.end_cause) == ("Error", "launch_error")
    user = system.user.pw_name
    reason = f"{user} cannot write its standard output file /proc/none: {user} may not write in the directory /proc"
    events = "SELECT type, description FROM events WHERE job_id = %s"
    assert ("OUTPUT_FILES", reason) in system.database.execute(events, (job_id,))
    # Which is what a notification tells.
    assert job.message == reason


def test_a_job_that_overruns_its_walltime_is_killed(system: System) -> None:
    job_id = system.oarsub("-l", "/core=1,walltime=0:0:1", "sleep 60")

    job = system.wait_until_final(job_id)

    assert (job.state, job.end_cause) == ("Error", "walltime")
    assert ("WALLTIME",) in system.database.execute("SELECT type FROM events WHERE job_id = %s", (job_id,))


def test_a_deleted_job_ends_and_its_processes_with_it(system: System) -> None:
    job_id = system.oarsub("sleep 1000 & echo $! > child; wait")
    system.wait_until_state(job_id, "Running")
    wait_until(lambda: (system.work / "child").exists() and system.read("child").strip(), what="the child runs")

    said = system.run("oardel", str(job_id))

    assert "REGISTERED" in said.stdout
    assert system.wait_until_final(job_id).end_cause == "killed"
    assert is_zombie(int(system.read("child")))


def test_deleting_an_array_ends_what_waits_and_what_runs(system: System) -> None:
    elements = system.oarsub_array("--array", "8", "sleep 1000")
    system.wait_until_state(elements[0], "Running")

    system.run("oardel", "--array", str(elements[0]))

    system.wait_until_all_final(elements)
    assert {system.job(job_id).state for job_id in elements} == {"Error"}


def test_a_held_job_starts_when_it_is_resumed(system: System) -> None:
    job_id = system.oarsub("--hold", "true")
    behind = system.oarsub("true")
    system.wait_until_final(behind)
    assert system.job(job_id).state == "Hold"

    system.run("oarresume", str(job_id))

    assert system.wait_until_final(job_id).state == "Terminated"


def test_a_dependent_job_starts_after_the_job_it_waits_for(system: System) -> None:
    first = system.oarsub("sleep 0.5; touch first.done")
    second = system.oarsub("-a", str(first), "ls first.done")

    system.wait_until_final(second)

    assert system.read(f"OAR.{second}.stdout") == "first.done\n"


def test_a_besteffort_job_gives_way(system: System) -> None:
    guests = system.oarsub_array("-t", "besteffort", "--array", "4", "-l", "/core=1,walltime=1", "sleep 1000")
    for guest in guests:
        system.wait_until_state(guest, "Running")

    owner = system.oarsub("-l", "/core=4,walltime=0:5", "true")

    assert system.wait_until_final(owner).state == "Terminated"
    assert {system.job(guest).end_cause for guest in guests} == {"besteffort"}


def test_a_waiting_job_has_a_prediction_and_a_reason(system: System) -> None:
    running = system.oarsub("-l", "/core=4,walltime=1", "sleep 1000")
    system.wait_until_state(running, "Running")

    waiting = system.oarsub("-l", "/core=1,walltime=1", "true")

    predicted = "SELECT start_at > now(), reason FROM predictions WHERE job_id = %s"
    wait_until(lambda: system.database.execute(predicted, (waiting,)), what="the job is predicted")
    later, reason = system.database.execute(predicted, (waiting,))[0]
    assert later
    assert str(reason)


def test_hosts_made_absent_in_psql_take_no_job_until_they_return(hinted_system: System) -> None:
    system = hinted_system
    system.database.execute("UPDATE resources SET state = 'Absent'")
    waiting = system.oarsub("true")
    explained = "SELECT 1 FROM predictions WHERE job_id = %s"
    wait_until(lambda: system.database.execute(explained, (waiting,)), what="the wait is explained")
    assert system.job(waiting).state == "Waiting"

    system.database.execute("UPDATE resources SET state = 'Alive'")

    wait_until(lambda: system.job(waiting).state != "Waiting", what="it is seen")
    system.wait_until_final(waiting)


def test_a_queue_stopped_in_psql_starts_nothing_until_it_is_active(hinted_system: System) -> None:
    system = hinted_system
    system.database.execute("UPDATE queues SET state = 'notActive' WHERE queue_name = 'default'")
    waiting = system.oarsub("true")
    explained = "SELECT 1 FROM predictions WHERE job_id = %s"
    wait_until(lambda: system.database.execute(explained, (waiting,)), what="the wait is explained")
    assert system.job(waiting).state == "Waiting"

    system.database.execute("UPDATE queues SET state = 'Active' WHERE queue_name = 'default'")

    wait_until(lambda: system.job(waiting).state != "Waiting", what="it is seen")
    system.wait_until_final(waiting)


def test_resources_inserted_in_psql_are_used_at_once(hinted_system: System) -> None:
    system = hinted_system
    full = system.oarsub("-l", "/core=4,walltime=1", "sleep 1000")
    system.wait_until_state(full, "Running")
    waiting = system.oarsub("true")

    system.database.execute(
        "INSERT INTO resources (network_address, host, cpu, core) VALUES (%s, %s, 0, 5)", (host(), host())
    )

    wait_until(lambda: system.job(waiting).state != "Waiting", what="it is seen")
    system.wait_until_final(waiting)


def test_a_checkpoint_signal_comes_before_the_walltime_ends(system: System) -> None:
    job_id = system.oarsub(
        "--checkpoint",
        "55",
        "--signal",
        "10",
        "-l",
        "/core=1,walltime=0:1:0",
        "trap 'echo saved > state; exit 0' USR1; while :; do sleep 0.1; done",
    )

    job = system.wait_until_final(job_id, timeout_s=30)

    assert (job.state, job.end_cause) == ("Terminated", "exit")
    assert system.read("state") == "saved\n"


def test_a_dependent_job_starts_as_soon_as_the_end_it_waits_for_is_told(hinted_system: System) -> None:
    system = hinted_system
    first = system.oarsub("until [ -e go ]; do sleep 0.1; done")
    second = system.oarsub("-a", str(first), "true")
    explained = "SELECT 1 FROM predictions WHERE job_id = %s"
    wait_until(lambda: system.database.execute(explained, (second,)), what="it waits")

    (system.work / "go").touch()

    assert system.wait_until_final(second).state == "Terminated"
