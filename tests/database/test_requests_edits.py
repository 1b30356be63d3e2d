"""Jobs are edited while they wait, submitted again when they are over, and given back after their deletion."""

from __future__ import annotations

from dataclasses import replace
from datetime import timedelta
from pathlib import Path
from typing import Any

import pytest
from sqlalchemy import event

from oarpy.modules import node_change_state, scheduler
from oarpy.modules.context import Context
from oarpy.modules.scheduler import Scheduler
from oarpy.settings import Settings
from tests.support.postgres import TestDatabase
from tests.support.requests import ENDED, RUNNING, answered, bring, submitted, with_hosts

FAILED = (*RUNNING, "Finishing", "Error")
TWO_CORES = [[[[["core", 2]], None]], None]
HOUR = [[], 3600]
#: Every submission costs the rules' time; these jobs are brought about by one.
RULE = """
def admit(submission):
    if submission.project == "closed":
        raise Refuse("the project is closed")
    submission.command = "nice " + submission.command
    submission.warn(f"{submission.elements} seen")
"""


def edit(
    database: TestDatabase, *job_ids: int, login: str = "alice", arrays: tuple[int, ...] = (), **changes: object
) -> Any:
    payload = {"job_ids": job_ids, "array_ids": arrays, "changes": changes, "said": "oarsub --edit"}
    return answered(database, "edit", payload, login=login)


def again(database: TestDatabase, *job_ids: int, login: str = "alice", **said: Any) -> Any:
    payload = {"job_ids": job_ids, "array_ids": said.pop("arrays", ()), "changes": said.pop("changes", {}), **said}
    return answered(database, "resubmit", payload, login=login)


def undelete(database: TestDatabase, *job_ids: int, login: str = "alice", **how: Any) -> Any:
    return answered(database, "undelete", {"job_ids": job_ids, "array_ids": how.pop("arrays", ())}, login=login, **how)


def delete(database: TestDatabase, *job_ids: int, login: str = "alice") -> None:
    answered(database, "delete", {"job_ids": job_ids}, login=login)


def wanted(text: str) -> str:
    """With the types that a rule adds."""
    return text.replace('"/', "\"{type = 'default'}/")


def columns(database: TestDatabase, job_id: int, names: str) -> tuple[object, ...]:
    return database.execute(
        f"SELECT {names} FROM jobs JOIN job_requests USING (job_request_id) WHERE job_id = %s", (job_id,)
    )[0]


def test_an_edited_job_asks_for_something_else_and_keeps_its_age(database: TestDatabase) -> None:
    with_hosts(database)
    database.execute("INSERT INTO queues (queue_name) VALUES ('night')")
    job_id = submitted(database, name="n", types=["t1"])
    before = columns(database, job_id, "submitted_at")

    answer = edit(
        database, job_id, wishes=[TWO_CORES], command="other", name="m", queue="night", project="p", types=["t2"]
    )

    assert answer["jobs"] == [[job_id, "REGISTERED", 0, ""]]
    assert columns(database, job_id, "submitted_at") == before
    assert columns(
        database, job_id, "state, command, job_name, queue_name, project, types, wanted_resources, stdout_file, message"
    ) == (
        *("Waiting", "other", "m", "night", "p", ["t2"], wanted('-l "/core=2,walltime=2:0:0"')),
        *(f"OAR.m.{job_id}.stdout", "R=2,W=2:0:0,J=B,N=m,Q=night,P=p,T=t2"),
    )
    assert database.execute("SELECT type, description FROM events WHERE job_id = %s", (job_id,)) == [
        ("JOB_EDITED", "alice changed command, name, project, queue, resources, types")
    ]


def test_what_an_edit_does_not_name_stays(database: TestDatabase) -> None:
    with_hosts(database)
    job_id = submitted(
        database,
        command="work",
        name="n",
        wishes=[TWO_CORES],
        stdout="out",
        checkpoint_s=60,
        initial_request="oarsub work",
    )
    kept = "command, job_name, stdout_file, checkpoint, launching_directory, state"
    before = columns(database, job_id, kept)

    edit(database, job_id, wishes=[HOUR])

    assert columns(database, job_id, kept) == before
    assert columns(database, job_id, "wanted_resources, initial_request") == (
        wanted('-l "/core=2,walltime=1:0:0"'),
        "oarsub work\noarsub --edit",
    )


def test_new_resources_keep_the_walltime(database: TestDatabase) -> None:
    with_hosts(database)
    job_id = submitted(database, wishes=[HOUR])

    edit(database, job_id, wishes=[TWO_CORES, [[[[["core", 1]], None]], 60]])

    assert columns(database, job_id, "wanted_resources") == (
        wanted('-l "/core=2,walltime=1:0:0" -l "/core=1,walltime=0:1:0"'),
    )


def test_what_is_taken_away_is_gone(database: TestDatabase) -> None:
    with_hosts(database)
    tree = ["=", "cpu", 0]
    job_id = submitted(database, name="n", checkpoint_s=60, properties="cpu = 0", filter=tree)

    edit(database, job_id, name=None, checkpoint_s=None, properties=None, filter=None)

    assert columns(database, job_id, "job_name, checkpoint, properties") == (None, None, None)
    assert columns(database, job_id, "wanted_resources") == (wanted('-l "/resource_id=1,walltime=2:0:0"'),)


def test_the_rules_see_what_the_user_wrote_and_not_what_they_made_of_it(database: TestDatabase, tmp_path: Path) -> None:
    with_hosts(database)
    (tmp_path / "1_rule.py").write_text("from oarpy.actions.admission import Refuse\n" + RULE)
    rules = str(tmp_path)
    job = {"command": "work", "directory": "/", "array_count": 3}
    first = answered(database, "submit", job, rules=rules)["job_ids"][0][0]
    payload = {"array_ids": [first], "changes": {"name": "n"}}

    answer = answered(database, "edit", payload, rules=rules)
    refused = answered(database, "edit", payload | {"changes": {"project": "closed"}}, rules=rules)

    assert (answer["warnings"], len(answer["jobs"])) == (["3 seen"], 3)
    assert columns(database, first, "command, project") == ("nice work", "default")
    assert (refused["exit_status"], refused["message"]) == (254, "the project is closed")


@pytest.mark.parametrize(
    ("states", "sentence"),
    [
        (RUNNING, "is Running; only what waits or is held can be changed, and oarwalltime prolongs what runs"),
        (("toLaunch",), "is toLaunch; only what waits or is held can be changed, and oarwalltime prolongs what runs"),
        (ENDED, "is over; oarsub --resubmit 1 submits it again, with changes"),
    ],
)
def test_what_no_longer_waits_is_not_edited(database: TestDatabase, states: tuple[str, ...], sentence: str) -> None:
    with_hosts(database)
    job_id = bring(database, submitted(database), *states)

    assert edit(database, job_id, name="m")["jobs"] == [[job_id, "REFUSED", 1, f"job {job_id} {sentence}"]]
    assert columns(database, job_id, "job_name") == (None,)


def test_a_held_job_is_edited_and_stays_held(database: TestDatabase) -> None:
    with_hosts(database)
    job_id = submitted(database, hold=True)

    edit(database, job_id, name="m")

    assert columns(database, job_id, "state, job_name") == ("Hold", "m")


def test_jobs_of_others_unknown_jobs_and_reservations_are_not_edited(database: TestDatabase) -> None:
    with_hosts(database)
    job_id = submitted(database)
    reservation = submitted(database, reservation=[4_000_000_000, None])

    assert edit(database, job_id, login="bob", name="m")["jobs"][0][3] == f"job {job_id} belongs to alice"
    assert edit(database, 99, name="m")["jobs"] == [[99, "REFUSED", 1, "job 99 does not exist"]]
    assert "is an advance reservation" in edit(database, reservation, name="m")["jobs"][0][3]
    assert edit(database, job_id, login="root", name="m")["jobs"][0][1] == "REGISTERED"
    assert columns(database, job_id, "job_name, job_user") == ("m", "alice")


@pytest.mark.parametrize(
    ("changes", "sentence"),
    [
        ({}, "nothing was named that is to be different; oarsub --help tells what can be"),
        ({"job_user": "bob"}, "'job_user' of a job cannot be changed"),
        ({"queue": "nosuch"}, "the queue 'nosuch' does not exist"),
        ({"wishes": [[[[[["core", 99]], None]], None]]}, "the job could never start"),
        ({"dependencies": [[77, "afterok", None, None]]}, "job 77, which this one is to wait for, does not exist"),
        ({"checkpoint_s": "soon"}, "checkpoint_s of the submission is not a number"),
        ({"command": None}, "a job without a command"),
    ],
)
def test_an_edit_that_makes_no_job_changes_nothing(
    database: TestDatabase, changes: dict[str, object], sentence: str
) -> None:
    with_hosts(database)
    job_id = submitted(database)

    answer = edit(database, job_id, **changes)

    assert sentence in answer["message"]
    assert columns(database, job_id, "command, queue_name") == ("true", "default")


def test_the_elements_of_an_array_keep_their_parameters(database: TestDatabase) -> None:
    with_hosts(database)
    first = submitted(database, command="work", parameters=["a", "b c", "d"])
    bring(database, first + 2, *RUNNING)

    answer = edit(database, arrays=(first,), command="play")
    edit(database, first + 1, name="m")
    edit(database, first + 1, command="rest")

    assert [job[0] for job in answer["jobs"]] == [first, first + 1]
    assert [columns(database, first + at, "command, job_name") for at in range(3)] == [
        ("play a", None),
        ("rest b c", "m"),
        ("work d", None),
    ]


def test_edits_without_end_leave_no_more_behind_than_a_few(database: TestDatabase) -> None:
    with_hosts(database)
    job_id = submitted(database, array_count=2, initial_request="oarsub --array 2 'first\nsecond'", hold=True)

    for number in range(25):
        changes = {"job_ids": [job_id], "array_ids": [], "changes": {"name": f"n{number}"}}
        answered(database, "edit", {**changes, "said": f"oarsub -n n{number} --edit {job_id}"})

    (said,) = columns(database, job_id, "initial_request")
    assert str(said).split("\n") == [
        "oarsub --array 2 'first",
        "second'",
        "…",
        *(f"oarsub -n n{number} --edit {job_id}" for number in range(5, 25)),
    ]
    assert database.execute("SELECT count(*) FROM job_requests") == [(2,)]


def test_dependencies_are_replaced_only_when_they_are_named(database: TestDatabase) -> None:
    with_hosts(database)
    first, second = submitted(database, hold=True), submitted(database, hold=True)
    job_id = submitted(database, dependencies=[[first, "afterok", None, None]])
    found = "SELECT job_id, job_id_required, kind FROM job_dependencies"

    edit(database, job_id, name="m")
    assert database.execute(found) == [(job_id, first, "afterok")]

    edit(database, job_id, dependencies=[[second, "after", 5, None]])
    assert database.execute(found) == [(job_id, second, "after")]

    edit(database, job_id, dependencies=None)
    assert database.execute(found) == []


def test_no_job_comes_to_wait_for_itself(database: TestDatabase) -> None:
    with_hosts(database)
    first = submitted(database)
    second = submitted(database, dependencies=[[first, "afterany", None, None]])
    third = submitted(database, dependencies=[[second, "afterany", None, None]])

    itself = edit(database, first, dependencies=[[first, "afterany", None, None]])
    ring = edit(database, first, dependencies=[[third, "afterany", None, None]])

    assert (itself["message"], ring["message"]) == (f"job {first} would wait for itself",) * 2
    assert database.execute("SELECT count(*) FROM job_dependencies WHERE job_id = %s", (first,)) == [(0,)]


def test_a_date_that_counts_from_the_submission_still_does(database: TestDatabase) -> None:
    with_hosts(database)
    job_id = submitted(database)
    database.execute("UPDATE jobs SET submitted_at = submitted_at - interval '1 h'")

    edit(database, job_id, types=["postpone=3"])

    assert columns(database, job_id, "not_before - submitted_at") == (timedelta(hours=3),)


def test_a_job_is_not_started_with_what_it_no_longer_asks_for(
    database: TestDatabase, monkeypatch: pytest.MonkeyPatch
) -> None:
    """An edit that comes between a decision and its writing: the decision is dropped."""
    with_hosts(database)
    job_id = submitted(database, wishes=[HOUR])
    write = scheduler.write

    def edited_meanwhile(*arguments: Any, **named: Any) -> Any:
        edit(database, job_id, wishes=[TWO_CORES])
        return write(*arguments, **named)

    one = Scheduler(Context(database.engine, Settings()))
    with monkeypatch.context() as patched:
        patched.setattr(scheduler, "write", edited_meanwhile)
        one.turn()
    assert columns(database, job_id, "state") == ("Waiting",)

    one.turn()
    assert columns(database, job_id, "state") == ("toLaunch",)
    held = "SELECT upper(r) - lower(r) FROM allocations, unnest(resources) AS r"
    assert database.execute(held) == [(2,)]


def test_a_planned_start_that_was_told_of_something_else_does_not_bind(database: TestDatabase) -> None:
    with_hosts(database, hosts=1, cores=4)
    answered(database, "submit", {"command": "true", "directory": "/", "wishes": [[[[[["core", 4]], None]], 3600]]})
    job_id = submitted(database, wishes=[[[[[["core", 4]], None]], 60]])
    one = Scheduler(Context(database.engine, Settings()))
    one.turn()
    one.turn()
    planned = "SELECT upper(r) - lower(r) FROM predictions, unnest(resources) AS r WHERE job_id = %s"
    assert database.execute(planned, (job_id,)) == [(4,)]

    edit(database, job_id, wishes=[[[[[["core", 1]], None]], 60]])
    one.turn()

    assert database.execute(planned, (job_id,)) == [(1,)]


def test_a_job_that_is_over_is_submitted_again(database: TestDatabase) -> None:
    with_hosts(database)
    waited_for = submitted(database, hold=True)
    job_id = submitted(
        database, command="work", name="n", hold=True, stdout="out", dependencies=[[waited_for, "afterok", None, None]]
    )
    dependent = submitted(database, dependencies=[[job_id, "afterany", None, None]])
    bring(database, job_id, "Waiting", *ENDED)

    answer = again(database, job_id, changes={"wishes": [HOUR]})

    ((new, _),) = answer["job_ids"]
    assert columns(
        database,
        new,
        "state, command, job_name, array_id, resubmit_job_id, resubmissions, stdout_file, wanted_resources",
    ) == ("Waiting", "work", "n", job_id, job_id, 1, "out.2", wanted('-l "/resource_id=1,walltime=1:0:0"'))
    assert database.execute("SELECT job_id, job_id_required FROM job_dependencies WHERE job_id > %s", (job_id,)) == [
        (dependent, new)
    ]


def test_two_copies_of_one_job_write_to_files_of_their_own(database: TestDatabase) -> None:
    with_hosts(database)
    job_id = bring(database, submitted(database, array_count=2, stdout="out", stderr="%attempt%.err"), *ENDED)

    copies = [again(database, job_id)["job_ids"][0][0] for _ in range(2)]
    bring(database, copies[0], *ENDED)
    copies.append(again(database, copies[0])["job_ids"][0][0])
    copies.append(again(database, bring(database, job_id + 1, *ENDED))["job_ids"][0][0])

    files = [columns(database, copy, "array_index, resubmissions, stdout_file, stderr_file") for copy in copies]
    assert files == [
        (1, 1, "out.2", "2.err"),
        (1, 2, "out.3", "3.err"),
        (1, 3, "out.4", "4.err"),
        (2, 1, "out.2", "2.err"),
    ]


def test_the_rules_judge_a_resubmission(database: TestDatabase) -> None:
    with_hosts(database)
    database.execute("INSERT INTO queues (queue_name) VALUES ('night')")
    job_id = bring(database, submitted(database, queue="night"), *ENDED)
    database.execute("DELETE FROM queues WHERE queue_name = 'night'")

    assert again(database, job_id)["message"] == "the queue 'night' does not exist"


def test_the_failed_elements_of_an_array_are_submitted_again(database: TestDatabase) -> None:
    with_hosts(database, hosts=4)
    first = submitted(database, command="work", parameters=["a", "b", "c", "d"])
    bring(database, first, *ENDED)
    bring(database, first + 1, *FAILED)
    bring(database, first + 2, *ENDED)
    database.execute("UPDATE jobs SET exit_code = 256 WHERE job_id = %s", (first + 2,))

    once = again(database, arrays=[first], only="failed")
    bring(database, first + 4, *ENDED)
    twice = again(database, arrays=[first], only="failed")

    assert (once["job_ids"], once["array_id"]) == ([[first + 4, first + 6]], first)
    assert columns(database, first + 4, "command, array_id, array_index") == ("work b", first, 2)
    assert columns(database, first + 5, "command, array_id, array_index") == ("work c", first, 3)
    assert twice["message"] == f"of array {first} no job has failed"


@pytest.mark.parametrize(
    ("payload", "sentence"),
    [
        ({"job_ids": [1]}, "job 1 is Waiting; it can be submitted again when it is over"),
        ({"job_ids": [2]}, "job 2 belongs to bob"),
        ({"job_ids": [3]}, "job 3 does not exist"),
        ({"array_ids": [1]}, "of array 1 no job is over"),
    ],
)
def test_what_cannot_be_submitted_again_is_refused(
    database: TestDatabase, payload: dict[str, object], sentence: str
) -> None:
    with_hosts(database)
    submitted(database)
    bring(database, submitted(database, login="bob"), *ENDED)

    answer = answered(database, "resubmit", payload)

    assert (answer["ok"], answer["exit_status"], answer["message"]) == (False, 4, sentence)


def test_copies_of_two_runs_of_one_job_do_not_write_to_the_same_file(database: TestDatabase) -> None:
    with_hosts(database)
    first = bring(database, submitted(database, stdout="out", stderr="err"), *ENDED)
    again(database, first)
    second = bring(database, first + 1, *ENDED)

    again(database, first, second)

    files = database.execute("SELECT stdout_file, stderr_file, resubmissions FROM jobs ORDER BY job_id")
    assert files == [("out", "err", 0), ("out.2", "err.2", 1), ("out.3", "err.3", 2), ("out.4", "err.4", 3)]


def test_a_chain_of_an_idempotent_job_that_asks_again_and_again_ends(database: TestDatabase) -> None:
    with_hosts(database)
    settings = replace(Settings(), jobs=replace(Settings().jobs, max_reruns=2))
    job_id = submitted(database, types=["idempotent"])

    for _ in range(4):
        newest = database.execute("SELECT max(job_id) FROM jobs")[0][0]
        assert isinstance(newest, int)
        if columns(database, newest, "state") != ("Waiting",):
            break
        bring(database, newest, *RUNNING)
        database.execute("UPDATE jobs SET started_at = now() - interval '2 min' WHERE job_id = %s", (newest,))
        bring(database, newest, "Finishing", "Terminated")
        database.execute("UPDATE jobs SET exit_code = 99 * 256 WHERE job_id = %s", (newest,))
        database.execute(
            "WITH e AS (INSERT INTO events (type, job_id) VALUES ('SWITCH_INTO_TERMINATE_STATE', %s) RETURNING *)"
            " INSERT INTO pending_events (event_id, type, job_id, date) SELECT event_id, type, job_id, date FROM e",
            (newest,),
        )
        node_change_state.turn(Context(database.engine, settings))

    assert database.execute("SELECT count(*) FROM jobs") == [(3,)]
    assert database.execute("SELECT job_id, description FROM events WHERE type = 'RESUBMISSION_LIMIT'") == [
        (job_id + 2, "not submitted again: 2 copies have been made already")
    ]


def test_a_deleted_job_is_given_back_with_its_age(database: TestDatabase) -> None:
    with_hosts(database)
    waited_for = submitted(database, hold=True)
    job_id = submitted(database, command="work", name="n", dependencies=[[waited_for, "afterok", None, None]])
    dependent = submitted(database, dependencies=[[job_id, "afterany", None, None]])
    database.execute("UPDATE jobs SET submitted_at = submitted_at - interval '1 h' WHERE job_id = %s", (job_id,))
    before = columns(database, job_id, "submitted_at, command, job_request_id")
    delete(database, job_id)

    answer = undelete(database, job_id)
    once_more = undelete(database, job_id)

    new = dependent + 1
    assert answer["jobs"] == [[job_id, str(new), 0, ""]]
    assert columns(database, new, "submitted_at, command, job_request_id") == before
    assert columns(database, new, "state, resubmit_job_id, resubmissions, stdout_file") == (
        *("Waiting", job_id, 0),
        f"OAR.n.{new}.stdout",
    )
    assert columns(database, job_id, "state") == ("Error",)
    assert database.execute("SELECT job_id, job_id_required FROM job_dependencies ORDER BY 1") == [
        (job_id, waited_for),
        (dependent, new),
        (new, waited_for),
    ]
    assert once_more["jobs"][0][3] == f"job {job_id} has been given back, or submitted again, as job {new}"


def test_held_jobs_come_back_held_and_arrays_whole(database: TestDatabase) -> None:
    with_hosts(database)
    first = submitted(database, array_count=3, hold=True)
    delete(database, first, first + 2)

    answer = undelete(database, arrays=(first,))

    assert answer["jobs"] == [[first, str(first + 3), 0, ""], [first + 2, str(first + 4), 0, ""]]
    assert columns(database, first + 4, "state, array_id, array_index") == ("Hold", first, 3)


def test_a_large_array_is_given_back_without_looking_up_each_job(database: TestDatabase) -> None:
    with_hosts(database)
    first = submitted(database, array_count=3000)
    answered(database, "delete", {"array_ids": [first]})

    said: list[object] = []
    event.listen(database.engine, "before_cursor_execute", lambda *_: said.append(1))
    answer = undelete(database, arrays=(first,))

    assert len(answer["jobs"]) == 3000
    assert len(said) < 100


def test_what_died_with_a_deleted_job_comes_back_with_it(database: TestDatabase) -> None:
    with_hosts(database)
    job_id = submitted(database)
    dependent = submitted(database, dependencies=[[job_id, "afterok", None, None]])
    delete(database, job_id)
    Scheduler(Context(database.engine, Settings())).turn()
    assert columns(database, dependent, "state, end_cause") == ("Error", "dependency")

    undelete(database, job_id, dependent)

    assert database.execute("SELECT job_id, job_id_required FROM job_dependencies WHERE job_id > %s", (dependent,)) == [
        (dependent + 2, dependent + 1)
    ]


def test_what_was_not_deleted_while_it_waited_is_not_given_back(database: TestDatabase) -> None:
    with_hosts(database, hosts=4)
    waiting, over, killed, old, admins, bobs = (
        *(submitted(database) for _ in range(5)),
        submitted(database, login="bob"),
    )
    bring(database, over, *ENDED)
    bring(database, killed, *FAILED)
    delete(database, old)
    database.execute("UPDATE jobs SET stopped_at = now() - interval '2 h' WHERE job_id = %s", (old,))
    delete(database, admins, login="root")
    delete(database, bobs, login="bob")

    answer = undelete(database, waiting, over, killed, old, admins, bobs, 99)

    assert [(status, said.partition(" ")[2].partition(" ")[2]) for _, _, status, said in answer["jobs"]] == [
        (1, "is Waiting; it was not deleted"),
        (1, "is Terminated; it was not deleted"),
        (1, f"was not deleted while it waited; oarsub --resubmit {killed} submits it again"),
        (1, f"was deleted more than 1:00:00 ago; oarsub --resubmit {old} submits it again"),
        (1, "was deleted by root"),
        (1, "belongs to bob"),
        (1, "does not exist"),
    ]
    assert database.execute("SELECT max(job_id) FROM jobs") == [(bobs,)]
    assert undelete(database, admins, login="root")["jobs"][0][2] == 0
