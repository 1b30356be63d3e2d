"""``oarnodes``, ``oarnodesetting``, ``oarproperty``, ``oarqueue``."""

import json
import os
import re
from types import SimpleNamespace

import pytest

from oarpy.client.constraints import in_words
from oarpy.model.states import JobState
from tests.support import rows
from tests.support.accounts import ALICE, account
from tests.support.commands import WORDS, Commands
from tests.support.postgres import TestDatabase
from tests.support.waiting import wait_until


def test_oarnodes_tells_which_hosts_may_sleep_and_which_must_wake(
    database: TestDatabase, commands: Commands, two_hosts: list[int]
) -> None:
    database.execute(
        "INSERT INTO energy_plan (network_address, wish, needed_at, job_id, sleep_from) VALUES"
        " ('c1', 'sleep', NULL, NULL, '2030-01-01 10:00:00+00'),"
        " ('c2', 'wake', '2030-01-01 11:00:00+00', 7, NULL)"
    )

    said = {line for line in commands.run("oarnodes").stdout.splitlines() if line.startswith("energy_plan")}
    as_json = json.loads(commands.run("oarnodes", "-J").stdout)

    asleep, awake = sorted(said)
    assert asleep.startswith("energy_plan: idle, may sleep from 20")
    assert re.fullmatch(r"energy_plan: must be awake at .*, for job 7", awake)
    plans = {row["network_address"]: row.get("energy_plan") for row in as_json.values()}
    assert plans["c2"] == {"wish": "wake", "needed_at": 1893495600, "job_id": 7, "sleep_from": None}
    assert plans["c1"]["sleep_from"] == 1893492000


def test_each_resource_is_a_block_of_lines(database, commands, two_hosts):
    with database.engine.begin() as conn:
        job = rows.submitted(conn)
        rows.brought(conn, job, JobState.RUNNING, holds=f"{{[{two_hosts[0]},{two_hosts[1]})}}")

    done = commands.run("oarnodes", "-r", str(two_hosts[0]))

    lines = done.stdout.splitlines()
    assert lines[:4] == ["network_address: c1", f"resource_id: {two_hosts[0]}", "state: Alive", f"jobs: {job[0]}"]
    assert re.fullmatch(r"properties: .*besteffort=YES.*, type=default", lines[4])
    assert lines[5:] == [""]


def test_states_are_shown_by_host(commands, two_hosts):
    done = commands.run("oarnodes", "-s")
    as_json = commands.run("oarnodes", "-s", "-J")

    a, b, c = two_hosts
    assert done.stdout == f"c1:\n    {a}: Alive\n    {b}: Alive\nc2:\n    {c}: Alive\n"
    assert json.loads(as_json.stdout) == {"c1": {str(a): "Alive", str(b): "Alive"}, "c2": {str(c): "Alive"}}


def test_hosts_are_listed_one_a_line(commands, two_hosts):
    assert commands.run("oarnodes", "-l").stdout == "c1\nc2\n"
    assert commands.run("oarnodes", "-l", "c[2-3]").stdout == "c2\n"


def test_resources_are_chosen_by_a_condition(commands, two_hosts):
    done = commands.run("oarnodes", "-J", "--sql", "network_address = 'c2' AND state = 'Alive' AND core IS NULL")

    document = json.loads(done.stdout)
    assert list(document) == [str(two_hosts[2])]
    assert document[str(two_hosts[2])]["network_address"] == "c2"
    assert document[str(two_hosts[2])]["jobs"] == []


def test_a_resource_that_can_be_woken_is_in_standby(database, commands, two_hosts):
    database.execute("UPDATE resources SET state = 'Absent', available_upto = now() + '1 day'")

    assert "state: Absent (standby)\n" in commands.run("oarnodes").stdout


def test_a_resource_is_added_with_its_properties(database, commands):
    done = commands.run("oarnodesetting", "-a", "-h", "c9", "-p", "cpu=1", "-p", "core = 3")

    added = re.fullmatch(r"New resource: (\d+)\n", done.stdout)
    assert database.execute("SELECT network_address, host, cpu, core, state FROM resources WHERE resource_id = %s",
                            (added[1],)) == [("c9", "c9", 1, 3, "Alive")]  # fmt: skip


def test_a_set_of_hosts_is_added_at_once(database, commands):
    commands.run("oarnodesetting", "-a", "-h", "n[1-3]", "-s", "Absent")

    assert database.execute("SELECT network_address, state FROM resources ORDER BY 1") == [
        ("n1", "Absent"), ("n2", "Absent"), ("n3", "Absent"),
    ]  # fmt: skip


@pytest.mark.parametrize(
    ("words", "said"),
    [
        (["oarnodesetting", "-a", "-h", "c[1-3]"], "# host c1 is drained, and what is new of it too; "),
        (["oar_resources_add", "-x", "/host=c{1-3}"], "# drained, and what is new of them too: c1\n"),
    ],
)
def test_what_is_new_of_a_drained_host_is_drained(database, commands, two_hosts, words, said):
    commands.run("oarnodesetting", "-h", "c1", "-d", "on")
    database.execute("INSERT INTO resources (network_address, drain) VALUES ('c2', true)")

    done = commands.run(*words)

    assert done.returncode == 0
    assert done.stderr.startswith(said)
    assert done.stderr.count("\n") == 1
    drains = "SELECT network_address, array_agg(drain ORDER BY resource_id) FROM resources GROUP BY 1 ORDER BY 1"
    assert database.execute(drains) == [("c1", [True, True, True]), ("c2", [False, True, False]), ("c3", [False])]


def test_a_number_that_another_host_has_already_is_warned_of(database, commands, two_hosts):
    first = commands.run("oarnodesetting", "-h", "c1", "-p", "core=0", "-p", "cpu=0")
    second = commands.run("oarnodesetting", "-a", "-h", "c2", "-p", "core=0", "-p", "cpu=1")
    third = commands.run("oarnodesetting", "-h", "c3", "-a", "-p", "core=0")

    assert (first.stderr, second.returncode) == ("", 0)
    assert second.stderr == (
        "# core 0 is on 2 hosts: /core=1 takes both; number cores uniquely, or ask for /host=1/core=1\n"
    )
    assert third.stderr.startswith("# core 0 is on 3 hosts: /core=1 takes all 3; ")


def test_numbers_are_compared_even_where_their_columns_were_renamed(database, commands, two_hosts):
    commands.run("oarproperty", "-r", "core,thread")

    done = commands.run("oarnodesetting", "-h", "c[1-2]", "-p", "thread=0", "-p", "cpu=0")

    assert (done.returncode, done.stderr[: len("# cpu 0 is on 2 hosts: ")]) == (0, "# cpu 0 is on 2 hosts: ")


def test_hosts_and_resources_change_state_and_properties(database, commands, two_hosts):
    by_host = commands.run("oarnodesetting", "-h", "c1", "-s", "Absent", "-p", "core=5")
    by_id = commands.run("oarnodesetting", "-r", str(two_hosts[2]), "-d", "on", "-p", "besteffort=NO")
    unset = commands.run("oarnodesetting", "-h", "c1", "-p", "core!")

    assert [done.returncode for done in (by_host, by_id, unset)] == [0, 0, 0]
    assert by_host.stdout == f"Resources {two_hosts[0]}, {two_hosts[1]}: core = 5, Absent\n"
    assert database.execute("SELECT state, core, drain, besteffort FROM resources ORDER BY resource_id") == [
        ("Absent", None, False, True), ("Absent", None, False, True), ("Alive", None, True, False),
    ]  # fmt: skip


def test_what_makes_no_sense_changes_nothing(database, commands, two_hosts):
    done = commands.run("oarnodesetting", "-h", "c1", "-p", "core=5", "-s", "Suspected", "-h", "nowhere")

    assert done.returncode == 1
    assert done.stderr == "oarnodesetting: there is no host 'nowhere'; oarnodes -l lists them\n"
    assert database.execute("SELECT DISTINCT state, core FROM resources") == [("Alive", None)]


def test_a_persons_word_that_jobs_are_gone_is_logged(database, commands, two_hosts):
    done = commands.run("oarnodesetting", "-h", "c1", "-s", "Dead", "--jobs-are-gone")

    assert "Host c1: its jobs are taken to be gone" in done.stdout
    assert database.execute("SELECT type, hosts FROM pending_events") == [("JOBS_ARE_GONE", ["c1"])]


@pytest.mark.parametrize(
    ("arguments", "status"),
    [
        ([], 1),
        (["-h", "c1"], 1),
        (["-s", "Dead"], 1),
        (["-h", "c1", "-s", "Asleep"], 1),
        (["-h", "c1", "-s", "Absent", "--jobs-are-gone"], 1),
        (["-h", "c1", "-p", "core"], 1),
        (["-h", "c1", "-p", "nonsense=1"], 1),
        (["-h", "c1", "-p", "core=abc"], 8),
        (["-h", "c1", "-p", "cpuset=all"], 8),
        (["-h", "c1", "-p", "type="], 8),
        (["-h", "c1", "-p", "type!"], 8),
        (["-h", "c1", "-p", "network_address="], 8),
        (["-h", "c1", "-p", "state=Dead"], 1),
        (["-h", "c1", "-p", "resource_id=1"], 1),
        (["-h", "c1", "-p", 'x" = 1; DROP TABLE jobs; --=1'], 18),
        (["-h", "c[1-", "-s", "Absent"], 1),
        (["-r", "x", "-s", "Absent"], 1),
        (["-r", "999999", "-s", "Absent"], 1),
        (["-h", "c1", "-d", "perhaps"], 1),
        (["-a", "-r", "1"], 1),
        (["-a"], 8),
        (["-m", "perhaps", "-h", "c1"], 1),
        (["-m", "on", "-s", "Dead", "-h", "c1"], 1),
        (["-m", "on", "-p", "available_upto=2030-01-01", "-h", "c1"], 1),
        (["-m", "off", "-h", "c1"], 1),
        (["-m", "on"], 1),
        (["--sql", "core > 10000", "-s", "Dead"], 12),
        (["--sql", "core >", "-s", "Dead"], 18),
        (["--sql", "nonsense = 1", "-s", "Dead"], 1),
        (["--sql", "true; DROP TABLE jobs", "-s", "Dead"], 18),
        (["-f", "/nowhere/hosts", "-s", "Dead"], 13),
        (["--last-property-value", "nonsense"], 1),
        (["--last-property-value", "core", "-h", "c1"], 1),
        (["-a", "-m", "on"], 1),
    ],
)
def test_bad_settings_are_one_sentence_and_change_nothing(unchanged, tmp_path, arguments, status):
    before = unchanged.execute("SELECT * FROM resources ORDER BY resource_id")

    done = Commands(unchanged, str(tmp_path)).run("oarnodesetting", *arguments)

    assert (done.returncode, done.stdout) == (status, "")
    assert re.fullmatch(rf"oarnodesetting: {WORDS}\n", done.stderr), done.stderr
    assert unchanged.execute("SELECT * FROM resources ORDER BY resource_id") == before


def test_a_dry_run_shows_resources_and_jobs_and_changes_nothing(database, commands, two_hosts):
    with database.engine.begin() as conn:
        rows.brought(conn, rows.submitted(conn), JobState.RUNNING, holds="{[1,2)}")
    before = database.execute("SELECT * FROM resources ORDER BY resource_id")

    done = commands.run("oarnodesetting", "-h", "c1", "-s", "Absent", "-p", "core=5", "--dry-run")

    assert (done.returncode, done.stderr) == (0, "")
    assert done.stdout == "Would change the resources 1, 2: core = 5, Absent\nWould kill the jobs 1\nNothing was done\n"
    assert database.execute("SELECT * FROM resources ORDER BY resource_id") == before


def test_a_dry_run_refuses_what_the_change_would_refuse(commands, two_hosts):
    done = commands.run("oarnodesetting", "-h", "c1", "-m", "off", "--dry-run")

    assert (done.returncode, done.stdout) == (1, "")


def test_a_dry_run_of_a_removal_shows_the_jobs_that_name_the_property(database, commands, two_hosts):
    commands.run("oarproperty", "-a", "gpu")
    with database.engine.begin() as conn:
        (job_id,) = rows.submitted(conn)
    database.execute("""UPDATE job_requests SET request = '[[[[[["gpu", 1]], null]], 60]]'""")

    looked = commands.run("oarproperty", "-d", "gpu", "--dry-run")
    forced = commands.run("oarproperty", "-d", "gpu", "--force", "--dry-run")
    unknown = commands.run("oarproperty", "-d", "gpv", "--dry-run")

    assert looked.stdout == f"Property gpu: job {job_id} (Waiting) names it\nNothing was done\n"
    assert forced.stdout == f"Property gpu: job {job_id} (Waiting) would be held\nNothing was done\n"
    assert (unknown.returncode, unknown.stdout) == (1, "")
    assert "gpu" in commands.run("oarproperty").stdout


def test_a_dry_run_removes_no_resource(database, commands, two_hosts):
    database.execute("UPDATE resources SET state = 'Dead' WHERE resource_id = 1")

    done = commands.run("oarremoveresource", "--dry-run", "1", "2")

    assert (done.returncode, done.stdout) == (2, "Resource 1 would be removed.\n")
    assert len(database.execute("SELECT * FROM resources")) == len(two_hosts)


def test_properties_come_and_go(database, commands, two_hosts):
    added = commands.run("oarproperty", "-a", "gpu_model", "-c")
    commands.run("oarproperty", "-a", "gpu")
    set_ = commands.run("oarnodesetting", "-h", "c1", "-p", "gpu_model=A 100", "-p", "gpu=2")
    shown = commands.run("oarnodes", "-J", "--sql", "gpu > 1")
    renamed = commands.run("oarproperty", "-r", "gpu,gpus")
    removed = commands.run("oarproperty", "-d", "gpu_model")
    listed = commands.run("oarproperty")

    assert [done.returncode for done in (added, set_, renamed, removed)] == [0, 0, 0, 0]
    assert {row["gpu_model"] for row in json.loads(shown.stdout).values()} == {"A 100"}
    assert listed.stdout == "core\ncpu\ngpus\nhost\n"
    assert set(json.loads(commands.run("oarnodes", "-J").stdout)[str(two_hosts[0])]) >= {"gpus"}


def test_a_property_that_a_live_request_names_stays(database, commands, two_hosts):
    commands.run("oarproperty", "-a", "gpu")
    with database.engine.begin() as conn:
        job = rows.submitted(conn)[0]
    request = json.dumps([[[[[["core", 1]], [">", "gpu", 0]]], 60]])
    database.execute("UPDATE job_requests SET request = %s", (request,))
    database.execute("INSERT INTO predictions (job_id, code, reason) VALUES (%s, 'BUSY', 'it waits')", (job,))

    refused = commands.run("oarproperty", "-d", "gpu")
    not_renamed = commands.run("oarproperty", "-r", "gpu,gpus")
    forced = commands.run("oarproperty", "-d", "gpu", "--force")

    assert refused.returncode == not_renamed.returncode == 1
    assert f"job {job};" in refused.stderr
    assert forced.returncode == 0
    assert (forced.stderr, forced.stdout) == ("# jobs held: 1\n", "Deleted property: gpu\n")
    assert database.execute("SELECT job_state FROM job_state_logs ORDER BY date_start") == [("Waiting",), ("Hold",)]
    assert database.execute("SELECT type, job_id, description FROM events") == [
        ("HOLD_WAITING_JOB", job, "the property gpu, which its request names, was removed")
    ]
    assert database.execute("SELECT why FROM visible_jobs") == [(None,)]
    assert "gpu" not in commands.run("oarproperty").stdout


def test_a_property_is_tried_again_while_others_use_the_table(database, commands):
    waiting = "SELECT pid FROM pg_stat_activity WHERE application_name = 'oarproperty' AND wait_event_type = 'Lock'"
    with database.connect() as other, other.cursor() as cursor:
        cursor.execute("LOCK TABLE resources IN ACCESS SHARE MODE")
        running = commands.start("oarproperty", "-a", "gpu")
        first = wait_until(lambda: database.execute(waiting))
        wait_until(lambda: set(database.execute(waiting)) - set(first), what="a second session tries")

    stdout, stderr = running.communicate(timeout=60)
    assert (running.returncode, stdout, stderr) == (0, "Added property: gpu\n", "")


def test_a_changed_property_makes_a_new_topology(database, commands):
    before = database.execute("SELECT version FROM topology")

    commands.run("oarproperty", "-a", "gpu")

    assert database.execute("SELECT version FROM topology") > before


@pytest.mark.parametrize(
    ("arguments", "status"),
    [
        (["-a", "core"], 8),
        (["-a", "state"], 8),
        (["-a", "jobs"], 8),
        (["-a", "GPU"], 18),
        (["-a", "a b"], 18),
        (["-a", "x" * 64], 18),
        (["-a", 'x" integer; DROP TABLE jobs; --'], 18),
        (["-a", "x", "--kind", "json"], 1),
        (["-c"], 1),
        (["-d", "nonsense"], 1),
        (["-d", "state"], 1),
        (["-r", "core"], 1),
        (["-r", "core,CPU"], 18),
        (["-r", "core,cpu"], 8),
        (["-r", "nonsense,x"], 1),
        (["-a", "x", "-d", "y"], 1),
        (["-r", "core,a,b"], 1),
        (["--force"], 1),
    ],
)
def test_bad_properties_are_one_sentence_and_change_nothing(unchanged, tmp_path, arguments, status):
    done = Commands(unchanged, str(tmp_path)).run("oarproperty", *arguments)

    assert (done.returncode, done.stdout) == (status, "")
    assert re.fullmatch(rf"oarproperty: {WORDS}\n", done.stderr), done.stderr
    assert unchanged.execute("SELECT name FROM properties ORDER BY 1") == [("core",), ("cpu",), ("host",)]


def test_queues_are_added_changed_stopped_and_removed(database, commands):
    commands.run("oarqueue", "--add", "night,5,easy")
    commands.run("oarqueue", "--change", "night,7,first:3")
    commands.run("oarqueue", "-d", "night")

    listed = commands.run("oarqueue", "-J")
    text_form = commands.run("oarqueue", "-l")
    commands.run("oarqueue", "--remove", "night")

    assert json.loads(listed.stdout)["night"] == {
        "priority": 7, "state": "notActive", "policy": "first", "depth": 3, "ordering": "fifo", "replan": "earlier",
    }  # fmt: skip
    assert "night\npriority = 7\npolicy = first:3\nordering = fifo\nreplan = earlier\nnotActive\n\n" in text_form.stdout
    assert "night" not in commands.run("oarqueue", "-J").stdout


def test_all_queues_are_stopped_and_started(database, commands):
    commands.run("oarqueue", "-D")
    stopped = database.execute("SELECT DISTINCT state FROM queues")
    commands.run("oarqueue", "-E")

    assert stopped == [("notActive",)]
    assert database.execute("SELECT DISTINCT state FROM queues") == [("Active",)]


@pytest.mark.parametrize(
    ("arguments", "status"),
    [
        (["--add", "night"], 1),
        (["--add", "night,high"], 1),
        (["--add", "night,5,random"], 8),
        (["--add", "night,5,first"], 8),
        (["--add", "night,5,first:0"], 8),
        (["--add", "night,5,easy:3"], 8),
        (["--add", "night,1000001"], 8),
        (["--change", "default,5,first"], 8),
        (["--add", "default,5"], 8),
        (["--add", "a b,5"], 8),
        (["--add", "night,99999999999"], 8),
        (["--change", "nonsense,5"], 1),
        (["-d", "nonsense"], 1),
        (["--remove", "nonsense"], 1),
        (["-e", "default", "-d", "default"], 1),
    ],
)
def test_bad_queues_are_one_sentence_and_change_nothing(unchanged, tmp_path, arguments, status):
    before = unchanged.execute("SELECT * FROM queues ORDER BY 1")

    done = Commands(unchanged, str(tmp_path)).run("oarqueue", *arguments)

    assert (done.returncode, done.stdout) == (status, "")
    assert re.fullmatch(rf"oarqueue: {WORDS}\n", done.stderr), done.stderr
    assert unchanged.execute("SELECT * FROM queues ORDER BY 1") == before


def test_a_queue_with_jobs_stays(database, commands):
    with database.engine.begin() as conn:
        rows.submitted(conn)

    done = commands.run("oarqueue", "--remove", "default")

    assert done.returncode == 8
    assert "unfinished job" in done.stderr


def test_every_constraint_on_what_administrators_change_has_its_words(unchanged):
    constraints = unchanged.execute(
        "SELECT conname FROM pg_constraint WHERE contype IN ('c', 'p', 'u')"
        " AND conrelid = ANY ('{oar.queues,oar.resources,oar.properties}'::regclass[])"
    )

    diagnoses = [SimpleNamespace(constraint_name=name) for (name,) in constraints]

    assert diagnoses
    assert [each for each in diagnoses if in_words("23514", each) is None] == []


@pytest.mark.skipif(os.geteuid() != 0, reason="needs root, to act as somebody else")
@pytest.mark.parametrize(
    ("command", "arguments"),
    [
        ("oarnodesetting", ["-h", "c1", "-s", "Dead"]),
        ("oarproperty", ["-a", "x"]),
        ("oarqueue", ["-d", "default"]),
    ],
)
def test_only_administrators_change_anything(database, commands, two_hosts, command, arguments):
    done = commands.run(command, *arguments, user=account(ALICE), cwd="/")

    assert (done.returncode, done.stdout) == (8, "")
    assert done.stderr == f"{command}: only root and the owner of the instance may do this\n"


@pytest.mark.skipif(os.geteuid() != 0, reason="needs root, to act as somebody else")
def test_anybody_may_look(database, commands, two_hosts):
    alice = account(ALICE)

    nodes = commands.run("oarnodes", "-l", user=alice, cwd="/")
    queues = commands.run("oarqueue", "-J", user=alice, cwd="/")

    assert nodes.stdout == "c1\nc2\n"
    assert "default" in json.loads(queues.stdout)
