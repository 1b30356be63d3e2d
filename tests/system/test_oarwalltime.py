"""oarwalltime on a running system."""

from __future__ import annotations

import json

from tests.support.instance import System
from tests.support.waiting import wait_until


def facts(system: System, job_id: int) -> dict[str, object]:
    found = json.loads(system.run("oarwalltime", "-J", str(job_id)).stdout)
    return dict(found[str(job_id)])


def test_a_job_gets_more_as_far_as_nobody_waits_for_its_cores(system: System) -> None:
    job_id = system.oarsub("-l", "/core=4,walltime=0:10", "sleep 600")
    system.wait_until_state(job_id, "Running")

    said = system.run("oarwalltime", str(job_id), "+0:5").stdout

    assert said.startswith(f"Job {job_id}: the request is accepted")
    wait_until(lambda: facts(system, job_id)["walltime_s"] == 900, what="the walltime has grown")
    assert "walltime = 0:15:0" in system.run("oarstat", "-fj", str(job_id)).stdout
    wait_until(
        lambda: system.database.execute("SELECT succeeded FROM orders WHERE kind = 'walltime'") == [(True,)],
        what="the node knows of it",
    )

    behind = system.oarsub("-l", "/core=4,walltime=0:10", "true")
    wait_until(
        lambda: system.database.execute("SELECT start_at IS NOT NULL FROM predictions") == [(True,)],
        what="the next job is planned",
    )
    system.run("oarwalltime", str(job_id), "+0:5")
    assert int(str(facts(system, job_id)["walltime_s"])) < 960, "the grid leaves less than a minute"
    system.run("oardel", str(behind))
    wait_until(lambda: facts(system, job_id)["walltime_s"] == 1200, what="the walltime has grown again")


def test_quotas_let_it_grow_to_their_limit(system: System) -> None:
    system.database.execute("INSERT INTO quotas (job_user, resource_hours) VALUES ('/', '0.25')")
    job_id = system.oarsub("-l", "resource_id=1,walltime=0:10", "sleep 600")
    system.wait_until_state(job_id, "Running")

    system.run("oarwalltime", str(job_id), "+1")

    # Its start and its end are not on a whole second, so a second may be lost.
    wait_until(lambda: 898 <= int(str(facts(system, job_id)["walltime_s"])) <= 900, what="the walltime has grown")
    system.database.execute("DELETE FROM quotas")
    wait_until(lambda: facts(system, job_id)["walltime_s"] == 4200, what="the walltime has grown again")


def test_a_job_that_was_made_shorter_ends_then(system: System) -> None:
    job_id = system.oarsub("-l", "walltime=0:10", "sleep 600")
    system.wait_until_state(job_id, "Running")

    said = system.run("oarwalltime", str(job_id), "0:0:3").stdout

    assert said == f"Job {job_id}: the walltime is changed.\n"
    assert system.wait_until_final(job_id, timeout_s=30).end_cause == "walltime"


def test_what_can_be_had_is_shown_as_oar_shows_it(system: System) -> None:
    job_id = system.oarsub("-l", "walltime=0:10", "sleep 600")
    system.wait_until_state(job_id, "Running")

    assert system.run("oarwalltime", str(job_id)).stdout == (
        f"Walltime change for job {job_id} (job is running):\n"
        "  Current walltime:       0:10:0\n"
        "  Possible increase:   UNLIMITED\n"
        "  Already granted:         0:0:0\n"
        "  Pending/unsatisfied:     0:0:0\n"
    )


def test_oar_137_running_jobs_are_chosen_as_everywhere(system: System) -> None:
    running = system.oarsub_array("-n", "chosen", "--array", "2", "-l", "/core=1,walltime=0:10", "sleep 600")
    held = system.oarsub("-n", "chosen", "--hold", "-l", "walltime=0:10", "sleep 600")
    for job_id in running:
        system.wait_until_state(job_id, "Running")

    dry = system.run("oarwalltime", "--sql", "name = 'chosen'", "-0:2", "--dry-run").stdout
    shorter = system.run("oarwalltime", "--sql", "name = 'chosen'", "-0:2").stdout
    shown = json.loads(system.run("oarwalltime", "-J", "--array", str(running[0])).stdout)
    named = system.run("oarwalltime", f"{held},{running[0]}-{running[1]}", "-0:1").stdout
    one_by_one = system.run("oarwalltime", f"{held},{running[0]}", "-0:1", check=False)

    user = system.user.pw_name
    assert dry == (
        "".join(f"Would change the walltime of the job = {each} (Running, {user}, chosen)\n" for each in running)
        + "2 jobs; nothing was done\n"
    )
    assert shorter == "".join(f"Job {each}: the walltime is changed.\n" for each in running)
    assert {each: of["walltime_s"] for each, of in shown.items()} == {str(each): 480 for each in running}
    assert named == shorter
    assert one_by_one.stdout == f"Job {running[0]}: the walltime is changed.\n"
    assert (one_by_one.returncode, one_by_one.stderr) == (1, f"oarwalltime: job {held} is Hold, not Running\n")


def test_bad_input_is_one_sentence(system: System) -> None:
    job_id = system.oarsub("-l", "walltime=0:10", "sleep 600")
    system.wait_until_state(job_id, "Running")

    for words, status, sentence in (
        ((str(job_id), "soon"), 4, "is not a walltime"),
        ((str(job_id), "+"), 4, "is not a walltime"),
        ((str(job_id), "--bogus"), 4, "'--bogus' is not a walltime"),
        (("x", "+1"), 4, "is not"),
        (("99999", "+1"), 4, "does not exist"),
        ((str(job_id), "--force"), 4, "without a change"),
        ((str(job_id), "+1", "--force"), 3, "may not use --force"),
        ((str(job_id), "+1", "extra"), 1, "unexpected extra argument"),
        ((), 1, "Missing argument"),
        (("--sql", "name = 'nosuch'", "+1"), 4, "no running job"),
        (("--array", "99999"), 4, "no running job"),
        (("--sql", "true", str(job_id), "+1"), 4, "stand in the place of JOB"),
        (("--sql", "state = 'Foo'", "+1"), 8, "state is one of"),
    ):
        said = system.run("oarwalltime", *words, check=False)
        assert said.returncode == status, (words, said)
        assert len(said.stderr.splitlines()) == 1, (words, said)
        assert sentence in said.stderr, (words, said)
