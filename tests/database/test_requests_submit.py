"""What a submission leaves in the tables."""

from __future__ import annotations

import json
import threading

import pytest

from oarpy.model.filter_grammar import filter_to_json, parse_filter
from oarpy.model.resource_grammar import parse_wishes, request_from_json, wishes_to_json
from oarpy.settings import Scheduler, Settings, Tokens
from tests.support.postgres import TestDatabase
from tests.support.requests import (
    ENDED,
    RUNNING,
    answer_to,
    answered,
    appendice,
    ask,
    bring,
    submission,
    submitted,
    with_hosts,
)
from tests.support.waiting import wait_until


def test_a_submission_becomes_a_waiting_job_of_the_one_who_asked(database: TestDatabase) -> None:
    with_hosts(database)

    answer = answered(database, "submit", submission("echo a 'b'", name="n"), login="alice")

    assert answer == {"ok": True, "job_ids": [[1, 2]], "array_id": None, "warnings": [], "estimates": []}
    assert database.execute(
        "SELECT job_id, array_id, array_index, job_user, queue_name, project, state, command, stdout_file, stderr_file,"
        " message FROM jobs"
    ) == [
        (1, 1, 1, "alice", "default", "default", "Waiting", "echo a 'b'", "OAR.n.1.stdout", "OAR.n.1.stderr",
         "R=1,W=2:0:0,J=B,N=n")
    ]  # fmt: skip


def test_the_request_is_stored_as_the_scheduler_reads_it(database: TestDatabase) -> None:
    with_hosts(database)
    wishes = wishes_to_json(parse_wishes(["/nodes=2/core=1,walltime=0:5"]))
    payload = submission(wishes=wishes, filter=filter_to_json(parse_filter("core > 1")))

    answered(database, "submit", payload)

    ((request, wanted, properties),) = database.execute(
        "SELECT request, wanted_resources, properties FROM job_requests"
    )
    assert request_from_json(request).alternatives[0].walltime_s == 300
    assert wanted == "-l \"{core > 1 AND type = 'default'}/network_address=2/core=1,walltime=0:5:0\""
    assert properties == "core > 1"


def test_everything_that_a_user_can_say_is_kept(database: TestDatabase) -> None:
    with_hosts(database)
    notify = {"method": "mail", "target": "a@b.org", "tags": ["END"]}
    payload = submission(
        name="x/y",
        project="p",
        types=["devel", "devel"],
        stdout="out.%jobid%.%jobname%",
        stderr="/tmp/err",
        notify=notify,
        checkpoint_s=60,
        signal=10,
        hold=True,
        umask=0o077,
        initial_request="oarsub true",
    )

    answered(database, "submit", payload)

    assert database.execute(
        "SELECT job_name, project, types, stdout_file, stderr_file, state, message FROM jobs"
    ) == [("x/y", "p", ["devel"], "out.1.x_y", "/tmp/err", "Hold", "R=1,W=2:0:0,J=B,N=x/y,P=p,T=devel")]  # fmt: skip
    assert database.execute(
        "SELECT notify, extract(epoch FROM checkpoint)::int, checkpoint_signal, umask, initial_request"
        " FROM job_requests"
    ) == [([notify], 60, 10, 0o077, "oarsub true")]


def test_the_elements_of_an_array_have_consecutive_ids_and_files_of_their_own(database: TestDatabase) -> None:
    with_hosts(database)
    answered(database, "submit", submission())

    answer = answered(database, "submit", submission(array_count=3))

    assert (answer["job_ids"], answer["array_id"]) == ([[2, 5]], 2)
    assert database.execute("SELECT job_id, array_id, array_index, stdout_file FROM jobs WHERE job_id > 1") == [
        (2, 2, 1, "OAR.2.stdout"),
        (3, 2, 2, "OAR.3.stdout"),
        (4, 2, 3, "OAR.4.stdout"),
    ]


def test_each_line_of_parameters_is_one_element(database: TestDatabase) -> None:
    with_hosts(database)

    answer = answered(database, "submit", submission("./run", parameters=["1 'a b'", "2 %s :x"]))

    assert answer["array_id"] == 1
    assert database.execute("SELECT array_index, command FROM jobs ORDER BY 1") == [
        (1, "./run 1 'a b'"),
        (2, "./run 2 %s :x"),
    ]


def test_an_array_of_ten_thousand_is_one_statement(database: TestDatabase) -> None:
    with_hosts(database)
    request_id = ask(database, "submit", submission(array_count=10_000))

    appendice(database).turn()

    assert answer_to(database, request_id)["job_ids"] == [[1, 10_001]]
    assert database.execute("SELECT count(*), count(DISTINCT job_request_id), max(array_index) FROM jobs") == [
        (10_000, 1, 10_000)
    ]


def test_ids_that_somebody_else_took_in_between_are_not_given(database: TestDatabase) -> None:
    with_hosts(database)
    request_id = ask(database, "submit", submission(array_count=300))
    server = appendice(database)
    takes = "CREATE TABLE taken AS SELECT nextval('job_ids') AS id FROM generate_series(1, 1000000)"
    meanwhile = threading.Thread(target=database.execute, args=(takes,))
    meanwhile.start()
    wait_until(lambda: database.execute("SELECT last_value > 1 FROM job_ids") == [(True,)])

    server.turn()

    meanwhile.join()
    ((first, end),) = answer_to(database, request_id)["job_ids"]
    assert end - first == 300
    assert database.execute("SELECT count(*) FROM jobs JOIN taken ON id = job_id") == [(0,)]


def test_a_job_waits_for_the_jobs_that_it_names(database: TestDatabase) -> None:
    with_hosts(database)
    answered(database, "submit", submission())
    dependencies = [[1, "afterok", None, 3600], [1, "afterok", None, 3600]]

    answered(database, "submit", submission(array_count=2, dependencies=dependencies))

    assert database.execute(
        "SELECT job_id, job_id_required, kind, window_min, extract(epoch FROM window_max)::int FROM job_dependencies"
    ) == [(2, 1, "afterok", None, 3600), (3, 1, "afterok", None, 3600)]


def test_a_dependency_on_a_job_that_does_not_exist_is_refused(database: TestDatabase) -> None:
    with_hosts(database)

    answer = answered(database, "submit", submission(dependencies=[[7, "afterany", None, None]]))

    assert answer == {
        "ok": False,
        "exit_status": 8,
        "message": "job 7, which this one is to wait for, does not exist",
    }
    assert database.execute("SELECT count(*) FROM job_requests") == [(0,)]


def test_a_refusal_leaves_no_row(database: TestDatabase) -> None:
    with_hosts(database)

    answer = answered(database, "submit", submission(wishes=wishes_to_json(parse_wishes(["nodes=3"]))))

    assert answer["exit_status"] == 8
    assert database.execute("SELECT count(*) FROM jobs") == [(0,)]


def test_a_dry_run_leaves_no_row(database: TestDatabase) -> None:
    with_hosts(database)

    answer = answered(database, "submit", submission(dry_run=True))

    assert (answer["ok"], answer["job_ids"]) == (True, [])
    assert database.execute("SELECT count(*) FROM jobs") == [(0,)]


def test_a_dry_run_tells_where_the_job_would_start_now(database: TestDatabase) -> None:
    with_hosts(database, hosts=2, cores=1)

    answer = answered(database, "submit", submission(dry_run=True, wishes=wishes_to_json(parse_wishes(["nodes=2"]))))

    (estimate,) = answer["estimates"]
    ((now_s,),) = database.execute("SELECT extract(epoch FROM now())::float")
    assert estimate["wanted"] == "{type = 'default'}/network_address=2,walltime=2:0:0"
    assert estimate["hosts"] == ["c1", "c2"]
    assert now_s - 60 < estimate["start_s"] <= now_s


def test_a_dry_run_tells_for_each_alternative_when_what_it_needs_will_be_free(database: TestDatabase) -> None:
    with_hosts(database, hosts=1, cores=2)
    bring(database, submitted(database), *RUNNING)
    wishes = wishes_to_json(parse_wishes(["core=2,walltime=1", "core=1,walltime=1"]))

    answer = answered(database, "submit", submission(dry_run=True, wishes=wishes))

    later, now = answer["estimates"]
    assert now["start_s"] + 3000 < later["start_s"]
    assert "1 of the 2 resources that it may use are free now" in later["reason"]


def test_a_dry_run_gives_each_alternative_the_place_that_it_would_have_alone(database: TestDatabase) -> None:
    with_hosts(database, hosts=1, cores=2)
    wishes = wishes_to_json(parse_wishes(["core=2,walltime=1", "core=1,walltime=2"]))

    answer = answered(database, "submit", submission(dry_run=True, wishes=wishes))

    assert [estimate["reason"] for estimate in answer["estimates"]] == ["", ""]


def test_a_dry_run_behind_more_jobs_than_are_planned_says_whether_it_would_start_now(database: TestDatabase) -> None:
    with_hosts(database, hosts=1, cores=4)
    submitted(database, wishes=wishes_to_json(parse_wishes(["core=4"])), array_count=3)
    settings = Settings(scheduler=Scheduler(plan_first=2))
    wishes = wishes_to_json(parse_wishes(["core=2"]))
    request = ask(database, "submit", submission(dry_run=True, wishes=wishes))

    appendice(database, settings).turn()

    (estimate,) = answer_to(database, request)["estimates"]
    assert estimate["start_s"] is None
    assert estimate["reason"].startswith("it is behind the 2 jobs that get a planned start")


def test_dry_runs_see_what_has_changed_since_the_last_one(database: TestDatabase) -> None:
    with_hosts(database, hosts=1, cores=2)
    serving = appendice(database)
    request = ask(database, "submit", submission(dry_run=True))
    serving.turn()
    bring(database, submitted(database, wishes=wishes_to_json(parse_wishes(["core=1"]))), *RUNNING)
    database.execute("UPDATE resources SET state = 'Absent' WHERE resource_id = 2")
    again = ask(database, "submit", submission(dry_run=True))

    serving.turn()

    assert [answer_to(database, one)["estimates"][0]["reason"] for one in (request, again)] == [
        "",
        "0 of the 1 resources that it may use are free now; waiting jobs before it: 0; job 1 must end first",
    ]


def test_besteffort_goes_to_its_queue_and_to_resources_that_allow_it(database: TestDatabase) -> None:
    with_hosts(database, hosts=1, cores=2)
    database.execute("UPDATE resources SET besteffort = false WHERE core = 1")
    everything = wishes_to_json(parse_wishes(["core=2"]))

    alone = answered(database, "submit", submission(types=["besteffort"]))
    too_much = answered(database, "submit", submission(types=["besteffort"], wishes=everything))

    assert alone["ok"]
    assert database.execute("SELECT queue_name, types FROM jobs") == [("besteffort", ["besteffort"])]
    assert "among the 1 of 2 resources that its filter matches, 1 would do" in too_much["message"]


def test_what_an_admin_changes_holds_for_the_next_submission(database: TestDatabase) -> None:
    with_hosts(database, hosts=1, cores=2)
    server = appendice(database)
    first = ask(database, "submit", submission(filter=filter_to_json(parse_filter("core = 3"))))
    server.turn()

    database.execute("INSERT INTO resources (network_address, core) VALUES ('c9', 3)")
    second = ask(database, "submit", submission(filter=filter_to_json(parse_filter("core = 3"))))
    server.turn()

    assert answer_to(database, first)["ok"] is False
    assert answer_to(database, second)["ok"] is True


def test_a_rule_of_the_table_is_called_among_those_of_the_files(database: TestDatabase) -> None:
    with_hosts(database)
    rule = "def admit(submission):\n    submission.queue = 'admin' if submission.queue is None else submission.queue"
    database.execute("INSERT INTO admission_rules (name, priority, rule) VALUES ('all to admin', 5, %s)", (rule,))

    answer = answered(database, "submit", submission(), login="nobody")

    assert answer["message"] == "only members of the group admin can submit jobs to the queue admin"


def test_dates_among_the_types_become_columns(database: TestDatabase) -> None:
    with_hosts(database)
    types = ["postpone=1:00", "deadline=2199-01-31 08:00:00+02:00", "expire=3:00"]

    answered(database, "submit", submission(types=types))

    assert database.execute(
        "SELECT not_before - submitted_at = '1 h', deadline = '2199-01-31 06:00:00+00',"
        " expires_at - submitted_at = '3 h' FROM jobs"
    ) == [(True, True, True)]


def test_a_date_that_is_none_is_refused(database: TestDatabase) -> None:
    with_hosts(database)

    answer = answered(database, "submit", submission(types=["expire=soon"]))

    assert (answer["ok"], answer["exit_status"]) == (False, 18)
    assert "'soon' is neither a date" in answer["message"]


def dry_reason(database: TestDatabase, *types: str, settings: Settings | None = None) -> tuple[str, list[str]]:
    wishes = wishes_to_json(parse_wishes(["core=1,walltime=0:10"]))
    answer = answered(database, "submit", submission(dry_run=True, types=list(types), wishes=wishes), settings=settings)
    return answer["estimates"][0]["reason"], answer["warnings"]


@pytest.mark.parametrize("fields", [{"hold": True}, {}])
def test_a_dry_run_inside_a_container_that_does_not_run_says_how_it_stands(
    database: TestDatabase, fields: dict[str, object]
) -> None:
    with_hosts(database, hosts=1, cores=2)
    bring(database, submitted(database, wishes=wishes_to_json(parse_wishes(["core=2,walltime=1"]))), *RUNNING)
    wishes = wishes_to_json(parse_wishes(["core=2,walltime=2"]))
    container = submitted(database, types=["container"], wishes=wishes, **fields)

    reason, _ = dry_reason(database, f"inner={container}")

    expected = "no start is planned of its container" if fields else f"its container, job {container}, is expected to"
    assert expected in reason


def test_a_dry_run_inside_a_container_that_is_over_says_so(database: TestDatabase) -> None:
    with_hosts(database, hosts=1, cores=2)
    container = submitted(database, types=["container"])
    bring(database, container, *ENDED)

    assert "is over or is none" in dry_reason(database, f"inner={container}")[0]


@pytest.mark.parametrize(
    ("fields", "sentence"),
    [
        ({"types": ["inner=4711"]}, "job 4711, which is to be its container, does not exist"),
        ({"types": ["inner={other}"]}, "job {other}, which is to be its container, is no container"),
        ({"dependencies": [[4711, "afterok", None, None]]}, "job 4711, which this one is to wait for, does not exist"),
    ],
)
@pytest.mark.parametrize("dry_run", [True, False])
def test_a_dry_run_is_refused_for_the_jobs_that_it_names_as_the_submission_would_be(
    database: TestDatabase, fields: dict[str, list[object]], sentence: str, dry_run: bool
) -> None:
    with_hosts(database)
    other = submitted(database)
    named = json.loads(json.dumps(fields).replace("{other}", str(other)))

    answer = answered(database, "submit", submission(dry_run=dry_run, **named))

    assert (answer["ok"], answer["exit_status"], answer["message"]) == (False, 8, sentence.format(other=other))


def test_a_dry_run_with_tokens_knows_how_many_were_counted(database: TestDatabase) -> None:
    with_hosts(database, hosts=1, cores=2)
    settings = Settings(tokens=Tokens(scripts={"fluent": "/bin/true"}))
    uncounted = dry_reason(database, "token:fluent=2", settings=settings)
    database.execute("INSERT INTO token_counts (token, free) VALUES ('fluent', 1)")
    counted = dry_reason(database, "token:fluent=2", settings=settings)

    assert uncounted == (
        "",
        ["the token fluent is counted when a job waits for it; the estimate takes enough for free"],
    )
    assert counted == ("it needs 2 of the token fluent, and 1 are free", [])


@pytest.mark.parametrize(("types", "accepted"), [(["container"], True), (["container=lab"], True), (["noop"], False)])
def test_what_is_no_container_takes_no_inner_jobs(database: TestDatabase, types: list[str], accepted: bool) -> None:
    with_hosts(database)
    outer = submitted(database, types=types)

    answer = answered(database, "submit", submission(types=[f"inner={outer}"]))

    assert answer["ok"] is accepted
    if not accepted:
        assert answer["exit_status"] == 8
        assert answer["message"] == f"job {outer}, which is to be its container, is no container"
