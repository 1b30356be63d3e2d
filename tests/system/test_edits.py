"""Jobs that are changed, given back and submitted again, on a running instance."""

from __future__ import annotations

from tests.support.instance import System


def ids(stdout: str) -> list[int]:
    return [int(line.partition("=")[2]) for line in stdout.splitlines() if line.startswith("OAR_JOB_ID=")]


def test_an_edited_job_runs_as_it_was_edited(system: System) -> None:
    job_id = system.oarsub("--hold", "-n", "before", "echo before")

    done = system.run("oarsub", "--edit", str(job_id), "-n", "after", "-l", "walltime=2h30", "echo $OAR_JOB_WALLTIME")
    system.run("oarresume", str(job_id))

    assert (done.returncode, done.stdout) == (0, f"Changing the job = {job_id} ...REGISTERED.\n")
    assert system.wait_until_final(job_id).state == "Terminated"
    assert system.read(f"OAR.after.{job_id}.stdout") == "2:30:0\n"
    late = system.run("oarsub", "--edit", str(job_id), "-n", "late", check=False)
    assert (late.returncode, late.stderr) == (
        1,
        f"oarsub: job {job_id} is over; oarsub --resubmit {job_id} submits it again, with changes\n",
    )


def test_a_deleted_job_comes_back_and_runs(system: System) -> None:
    job_id = system.oarsub("--hold", "echo alive")
    system.run("oardel", str(job_id))

    done = system.run("oardel", "--undo", str(job_id))

    (new,) = ids(done.stdout)
    system.run("oarresume", str(new))
    assert system.wait_until_final(new).state == "Terminated"
    assert system.read(f"OAR.{new}.stdout") == "alive\n"
    assert system.job(job_id).state == "Error"


def test_the_failed_elements_run_again_and_write_over_nothing(system: System) -> None:
    (system.work / "parameters").write_text("0\n3\n0\n")
    done = system.run(
        "oarsub", "--array-param-file", "parameters", "-O", "out", "-E", "/dev/null", "echo run $OAR_ARRAY_INDEX; exit"
    )
    first = ids(done.stdout)
    system.wait_until_all_final(first)

    again = system.run("oarsub", "--resubmit", str(first[0]), "--only", "failed")

    (new,) = ids(again.stdout)
    assert system.wait_until_final(new).exit_code == 768
    assert system.read("out.2") == "run 2\n"
    assert sorted(system.read("out").splitlines()) == ["run 1", "run 2", "run 3"]
    assert f"OAR_ARRAY_ID={first[0]}" in again.stdout
    assert system.job(first[1]).exit_code == 768


def test_a_dry_run_of_an_edit_shows_the_jobs_and_changes_none(system: System) -> None:
    array = system.oarsub_array("--hold", "-n", "many", "--array", "2", "true")
    over = system.oarsub("true")
    system.wait_until_final(over)

    done = system.run("oarsub", "--edit-array", str(array[0]), "--edit", str(over), "-n", "x", "--dry-run", check=False)

    user = system.user.pw_name
    assert done.stdout == (
        f"Would change the job = {array[0]} (Hold, {user}, many)\n"
        f"Would change the job = {array[1]} (Hold, {user}, many)\n2 jobs; nothing was done\n"
    )
    assert (done.returncode, done.stderr) == (
        1,
        f"oarsub: job {over} is over; oarsub --resubmit {over} submits it again, with changes\n",
    )
    assert system.database.execute("SELECT count(*) FROM events WHERE type = 'JOB_EDITED'") == [(0,)]
    assert system.database.execute("SELECT DISTINCT job_name FROM jobs WHERE job_name IS NOT NULL") == [("many",)]


def test_a_dry_run_of_an_edit_is_judged_as_the_edit_would_be(system: System) -> None:
    job_id = system.oarsub("--hold", "true")

    done = system.run("oarsub", "--edit", str(job_id), "-q", "nowhere", "--dry-run", check=False)

    assert (done.returncode, done.stdout) == (8, "")
    assert done.stderr == "oarsub: the queue 'nowhere' does not exist\n"


def test_a_dry_run_of_a_resubmission_shows_the_jobs_and_submits_none(system: System) -> None:
    array = system.oarsub_array("--array", "2", "exit $((OAR_ARRAY_INDEX - 1))")
    system.wait_until_all_final(array)

    done = system.run("oarsub", "--resubmit", str(array[0]), "--only", "failed", "--dry-run")

    user = system.user.pw_name
    assert done.stdout == f"Would submit again the job = {array[1]} (Terminated, {user})\n1 job; nothing was done\n"
    assert system.database.execute("SELECT count(*) FROM jobs") == [(2,)]


def test_a_dry_run_of_an_undo_shows_the_jobs_and_gives_none_back(system: System) -> None:
    array = system.oarsub_array("--hold", "--array", "2", "true")
    system.run("oardel", "--array", str(array[0]))

    done = system.run("oardel", "--undo", "--array", str(array[0]), "99", "--dry-run", check=False)

    user = system.user.pw_name
    assert done.stdout == (
        "".join(f"Would give back the job = {job_id} (Error, {user})\n" for job_id in array)
        + "2 jobs; nothing was done\n"
    )
    assert (done.returncode, done.stderr) == (4, "oardel: array 99 does not exist\n")
    assert system.database.execute("SELECT count(*) FROM jobs") == [(2,)]
