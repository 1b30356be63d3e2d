"""What oarstat and oarnodes show besides what is: the past, plans, use; and all of it in each format."""

import json
import os
import pty
import re
import subprocess
import sys
from pathlib import Path
from xml.etree import ElementTree

import pytest
import yaml
from sqlalchemy import text

from oarpy.database import events
from oarpy.database.events import Event
from oarpy.model.payloads import Submitted, WalltimeAnswer
from oarpy.model.states import JobState
from tests.support import rows
from tests.support.commands import Commands, answering
from tests.support.postgres import TestDatabase
from tests.support.schemas import SCHEMAS, schema

GOLDEN = Path(__file__).parents[1] / "golden"
STYLES = {"json": "-J", "yaml": "-Y", "xml": "-X", "dumper": "-D", "ndjson": "--ndjson"}
# All that happened has its date: job 1 ran from 10:00 to 12:00, job 2 has run since 11:00, 3 to 5 wait.
PAST = """
    UPDATE resource_logs SET date_start = '2026-01-02 08:00Z';
    UPDATE job_state_logs SET date_start = CASE job_state WHEN 'Waiting' THEN '2026-01-02 09:00Z'
        WHEN 'Running' THEN CASE job_id WHEN 1 THEN '2026-01-02 10:00Z' ELSE '2026-01-02 11:00Z' END
        WHEN 'toLaunch' THEN CASE job_id WHEN 1 THEN '2026-01-02 09:59Z' ELSE '2026-01-02 10:59Z' END
        WHEN 'Launching' THEN CASE job_id WHEN 1 THEN '2026-01-02 09:59:30Z' ELSE '2026-01-02 10:59:30Z' END
        WHEN 'Finishing' THEN '2026-01-02 11:59:59Z' ELSE '2026-01-02 12:00Z' END::timestamptz;
    UPDATE jobs SET submitted_at = '2026-01-02 09:00Z', message = 'R=2,W=1:0:0,J=B', walltime = '4 h';
    UPDATE jobs SET started_at = '2026-01-02 10:00Z', stopped_at = '2026-01-02 12:00Z', exit_code = 768, head = 'c1',
        cpu_used = '3 h', cpu_hosts = 1, peak_memory_mib = 512 WHERE job_id = 1;
    UPDATE jobs SET started_at = '2026-01-02 11:00Z', planned_end_at = '2040-01-01 00:00Z', types = '{a,b=1}'
        WHERE job_id = 2;
    UPDATE allocations SET held = tstzrange('2026-01-02 09:59Z', '2026-01-02 12:00Z') WHERE job_id = 1;
    UPDATE allocations SET held = tstzrange('2026-01-02 10:59Z', NULL) WHERE job_id = 2;
    UPDATE events SET date = '2026-01-02 12:00:01Z';
    UPDATE job_requests SET request = '[[[[[["core", 1]], null]], 5400]]', initial_request = '';
    INSERT INTO predictions (job_id, start_at, alternative, resources, code, reason)
        VALUES (3, '2026-01-03 10:00Z', 0, '{[1,2)}', 'planned', 'planned');
    INSERT INTO accounting VALUES
        ('2026-01-02', '2026-01-03', 'alice', 'p', 'default', 'USED', 14400),
        ('2026-01-02', '2026-01-03', 'alice', 'p', 'default', 'ASKED', 28800),
        ('2026-01-03', '2026-01-04', 'alice', 'q', 'default', 'USED', 90061),
        ('2026-01-02', '2026-01-03', 'bob', 'p', 'default', 'USED', 1);
"""


@pytest.fixture
def commands(database: TestDatabase, tmp_path: Path) -> Commands:
    with database.engine.begin() as conn:
        conn.execute(text("SET LOCAL TIME ZONE 'UTC'"))
        # First, for their numbers are shown, and changes of state take some as well.
        events.append(
            conn, [Event("FRAG_JOB_REQUEST", 1, ("c1",), "it's <over>\nby bob"), Event("LOG_SUSPECTED", hosts=("c2",))]
        )
        rows.resources(conn, "c1", 2)
        rows.resources(conn, "c2", 2)
        conn.execute(text("INSERT INTO resources (type, network_address, quantity) VALUES ('mem_mib', 'c1', 2048)"))
        ended, running = rows.submitted(conn, owner="alice", name="first"), rows.submitted(conn, owner="bob")
        rows.submitted(conn, 3, owner="alice", name="many")
        rows.brought(conn, ended, JobState.TERMINATED, holds="{[1,3),[5,6)}")
        rows.brought(conn, running, JobState.RUNNING, holds="{[2,4)}")
        conn.exec_driver_sql(PAST)
    return Commands(database, str(tmp_path))


def golden(name: str, output: str) -> None:
    """Compare with the file; GOLDEN=1 in the environment writes it anew, to be looked at before it is committed."""
    if os.environ.get("GOLDEN"):
        (GOLDEN / name).write_text(output)
    assert output == (GOLDEN / name).read_text()


@pytest.mark.parametrize("style", STYLES)
def test_jobs_are_shown_in_each_format(commands, style):
    done = commands.run("oarstat", STYLES[style], "-j", "1-3")

    golden(f"oarstat.{style}", done.stdout)


@pytest.mark.parametrize("style", STYLES)
def test_resources_are_shown_in_each_format(commands, style):
    done = commands.run("oarnodes", STYLES[style], "-r", "2", "-r", "5")

    golden(f"oarnodes.{style}", done.stdout)


@pytest.mark.parametrize(
    ("name", "arguments"),
    [
        ("full", ["-f", "-j", "1-3"]),
        ("full-3", ["--format", "3", "-fj1"]),
        ("table-1", ["--format", "1", "-j", "1-5"]),
        ("arrays-1", ["--format", "1", "--array", "3"]),
        ("arrays-2", ["--array", "3"]),
        ("compact", ["-c", "-u", "alice"]),
        ("ended", ["-j", "1"]),
        ("events", ["-e", "-j", "1"]),
        ("fields", ["-j", "1-3", "--fields", "id,state,types,walltime,name"]),
        ("accounting", ["--accounting", "2026-01-02, 2026-01-05"]),
        ("accounting-user", ["--accounting", "2026-01-02, 2026-01-05", "-u", "alice"]),
        ("efficiency", ["--efficiency", "-j", "1-5"]),
        ("at", ["--at", "2026-01-02 11:30"]),
        ("at-full", ["--at", "2026-01-02 11:30", "-fj", "1"]),
        ("gantt", ["-g", "2026-01-02 00:00:00, 2026-01-04 00:00:00"]),
    ],
)
def test_text_is_laid_out_to_the_column(commands, name, arguments):
    done = commands.run("oarstat", *arguments)

    assert done.returncode == 0
    golden(f"oarstat-{name}.txt", done.stdout)


@pytest.mark.parametrize(
    ("name", "arguments"),
    [
        ("blocks", ["c1"]),
        ("states", ["-s"]),
        ("states-by-id", ["-s", "--sql", "network_address = 'c2'"]),
        ("jobs", ["-j"]),
        ("summary", ["-S"]),
        ("list", ["-l"]),
        ("events", ["-e"]),
        ("events-since", ["-e", "2026-01-02", "c2"]),
        ("at", ["--at", "2026-01-02 11:30", "-S"]),
        ("fields", ["--fields", "resource_id,network_address,besteffort,jobs"]),
    ],
)
def test_nodes_are_laid_out_to_the_column(commands, name, arguments):
    done = commands.run("oarnodes", *arguments)

    assert (done.returncode, done.stderr) == (0, "")
    golden(f"oarnodes-{name}.txt", done.stdout)


@pytest.mark.parametrize(
    ("condition", "shown"),
    [
        ("resource_id = 1", "c1           Alive (1 drained)         1      0      2 [####################]"),
        ("network_address = 'c1'", "c1           Alive (drained)           1      0      2 [####################]"),
    ],
)
def test_the_summary_tells_what_is_drained(database, commands, condition, shown):
    database.execute(f"UPDATE resources SET drain = true WHERE type = 'default' AND {condition}")

    done = commands.run("oarnodes", "-S", "c1")

    assert done.stdout.splitlines()[2:] == [shown]


def test_each_format_says_the_same(commands):
    as_json = json.loads(commands.run("oarstat", "-J", "-j", "1-3").stdout)
    as_yaml = yaml.safe_load(commands.run("oarstat", "-Y", "-j", "1-3").stdout)
    lines = commands.run("oarstat", "--ndjson", "-j", "1-3").stdout.splitlines()
    root = ElementTree.fromstring(commands.run("oarstat", "--xml", "--full", "--job", "1").stdout.encode())

    assert as_yaml == as_json
    assert [json.loads(line) for line in lines] == list(as_json.values())
    assert [item.text for item in root.iterfind(".//item[@key='state']")] == ["Terminated"]
    assert [item.text for item in root.iterfind(".//item[@key='exit_code']")] == ["768"]


@pytest.mark.parametrize(
    ("at", "states"),
    [
        ("2026-01-02 08:30", {}),
        ("2026-01-02 09:30", dict.fromkeys("12345", "Waiting")),
        ("2026-01-02 10:30", {"1": "Running"} | dict.fromkeys("2345", "Waiting")),
        ("2026-01-02 11:30", {"1": "Running", "2": "Running"} | dict.fromkeys("345", "Waiting")),
        ("2026-01-02 12:30", {"2": "Running"} | dict.fromkeys("345", "Waiting")),
    ],
)
def test_jobs_are_shown_as_they_were(commands, at, states):
    done = commands.run("oarstat", "--at", at, "-s", "-J")

    assert json.loads(done.stdout) == states


def test_a_condition_is_of_what_was_then(commands):
    done = commands.run("oarstat", "--at", "2026-01-02 10:30", "-s", "--sql", "state = 'Running' AND exit_code IS NULL")

    assert done.stdout == "1: Running\n"


def test_resources_are_shown_as_they_were(database, commands):
    database.execute("UPDATE resources SET state = 'Absent', drain = true WHERE resource_id = 4")

    then = json.loads(commands.run("oarnodes", "--at", "2026-01-02 10:30", "-J").stdout)
    now = json.loads(commands.run("oarnodes", "-J").stdout)
    before = json.loads(commands.run("oarnodes", "--at", "2026-01-01", "-J").stdout)

    assert (then["4"]["state"], then["4"]["drain"], now["4"]["state"], now["4"]["drain"]) == (
        "Alive", "NO", "Absent", "YES",
    )  # fmt: skip
    assert [resource for resource, row in then.items() if row["jobs"] == [1]] == ["1", "2", "5"]
    assert before == {}
    assert then["1"].keys() == now["1"].keys()


def test_dates_are_in_the_zone_of_the_caller(commands):
    done = commands.run("oarstat", "--at", "2026-01-02 19:30", "-s", environment={"TZ": "Asia/Tokyo"})

    assert "1: Running" in done.stdout


def test_a_period_has_the_jobs_that_held_and_will_hold_something(database, commands):
    database.execute("UPDATE resources SET state = 'Suspected' WHERE resource_id = 4")

    def jobs(period: str) -> list[str]:
        return list(json.loads(commands.run("oarstat", "-J", "-g", period).stdout)["jobs"])

    assert jobs("2026-01-02 00:00:00, 2026-01-02 09:00:00") == []
    assert jobs("2026-01-02 10:00:00, 2026-01-02 10:30:00") == ["1"]
    assert jobs("2026-01-02 11:30:00, 2026-01-02 11:31:00") == ["1", "2"]
    assert jobs("2026-01-03 10:00:00, 2026-01-03 11:00:00") == ["2", "3"]
    outages = json.loads(commands.run("oarstat", "-J", "-g", "2026-01-01, 2100-01-01").stdout)["dead_resources"]
    assert {resource: [state for *_, state in of] for resource, of in outages.items()} == {"4": ["Suspected"]}


def _on_a_terminal(commands: Commands, *arguments: str, **environment: str) -> str:
    """What oarstat writes to a terminal of 60 columns."""
    program = f"from oarpy.commands.oarstat import main; import sys; sys.argv[1:] = {list(arguments)!r}; main()"
    master, slave = pty.openpty()
    subprocess.run(["stty", "cols", "60"], stdin=slave, check=True)
    done = subprocess.Popen(
        [sys.executable, "-c", program], env=commands._environment | {"TERM": "xterm"} | environment, stdout=slave
    )
    os.close(slave)
    output = b""
    while True:
        try:
            part = os.read(master, 65536)
        except OSError:
            break
        if not part:
            break
        output += part
    assert done.wait(timeout=30) == 0
    os.close(master)
    return output.decode().replace("\r\n", "\n")


def test_at_a_terminal_a_table_is_cut_and_states_have_colours(database, commands):
    database.execute("UPDATE jobs SET message = repeat('x', 200)")

    lines = _on_a_terminal(commands).splitlines()
    plain = _on_a_terminal(commands, NO_COLOR="1").splitlines()

    assert [len(line) for line in plain] == [46, 60, 60, 60, 60, 60]
    assert re.match(r"^2         \x1b\[32mR\x1b\[0m bob ", lines[2])
    assert [re.sub(r"\x1b\[\d+m", "", line) for line in lines] != []
    assert re.sub(r"\x1b\[\d+m", "", lines[3]) == plain[3]


def test_records_are_the_same_at_a_terminal(commands):
    assert _on_a_terminal(commands, "-fj1") == commands.run("oarstat", "-fj1").stdout


def test_what_a_job_gave_back_before_its_end_is_free_from_then_on(database, commands):
    database.execute(
        "UPDATE allocations SET resources = '{[2,3),[5,6)}', returned = '{[1,2)}', returned_at = '2026-01-02 11:30Z'"
        " WHERE job_id = 1"
    )

    def jobs_on(resource, at):
        said = commands.run("oarnodes", "-J", "--at", f"2026-01-02 {at}", "-r", str(resource)).stdout
        return json.loads(said)[str(resource)].get("jobs")

    assert [jobs_on(1, "11:15"), jobs_on(2, "11:15")] == [[1], [1, 2]]
    assert [jobs_on(1, "11:45"), jobs_on(2, "11:45")] == [[], [1, 2]]
    assert "assigned_resources = 1+2+5\n" in commands.run("oarstat", "-fj1").stdout
    assert "assigned_resources = 1+2+5\n" in commands.run("oarstat", "-fj1", "--at", "2026-01-02 11:45").stdout
    bar = json.loads(commands.run("oarstat", "-J", "--gantt", "2026-01-02 09:00, 2026-01-02 13:00").stdout)["jobs"]["1"]
    assert bar["stop_time"] - bar["start_time"] == 91 * 60


def test_the_efficiency_of_an_array_is_one_line(database, commands):
    with database.engine.begin() as conn:
        array = rows.submitted(conn, 4, owner="carol", name="many")
        for job_id, holds in zip(array, ("{[1,2)}", "{[4,5)}", "{[4,5)}"), strict=False):
            rows.brought(conn, [job_id], JobState.TERMINATED, holds=holds)
    database.execute(
        "UPDATE jobs SET started_at = stopped_at - interval '100 s', head = 'c1', walltime = '200 s'"
        " WHERE array_id = %s AND stopped_at IS NOT NULL",
        (array[0],),
    )
    used = "UPDATE jobs SET cpu_hosts = 1, cpu_used = make_interval(secs => %s), peak_memory_mib = %s WHERE job_id = %s"
    database.execute(used, (50, 100, array[0]))
    database.execute("UPDATE jobs SET head = 'c2' WHERE job_id = ANY(%s)", (array[1:3],))
    database.execute(used, (100, 300, array[1]))

    done = commands.run("oarstat", "--efficiency", "-J", "--array", str(array[0]))
    table = commands.run("oarstat", "--efficiency", "--array", str(array[0]))

    (found,) = json.loads(done.stdout).values()
    assert found["id"] == f"3@{array[0]}"
    assert (found["jobs"], found["measured"], found["hosts"]) == (3, 2, 1)
    assert (found["cpu_time"], found["cpu_held"], found["cpu_efficiency"]) == (150, 200, 0.75)
    assert (found["elapsed"], found["walltime"], found["walltime_used"]) == (300, 600, 0.5)
    assert (found["peak_memory_mib"], found["asked_memory_mib"]) == (300, None)
    assert table.stdout.splitlines()[2].split() == [f"3@{array[0]}", "carol", "0:02:30", "75%", "50%", "300", "-", "-"]
    assert table.stderr == "# of jobs without a CPU time their hosts, or some of them, did not tell what they used\n"


@pytest.mark.parametrize(
    ("command", "view", "arguments"),
    [
        ("oarstat", "jobs", ["-j", "1-5"]),
        ("oarstat", "jobs", ["-j", "999"]),
        ("oarstat", "jobs", ["--at", "2026-01-02 11:30"]),
        ("oarstat", "states", ["-s"]),
        ("oarstat", "events", ["-e", "-j", "1-3"]),
        ("oarstat", "properties", ["-p", "-j", "1-3"]),
        ("oarstat", "gantt", ["-g", "2026-01-02, 2026-01-04"]),
        ("oarstat", "accounting", ["--accounting", "2026-01-02, 2026-01-04"]),
        ("oarstat", "accounting_of_user", ["--accounting", "2026-01-02, 2026-01-04", "-u", "alice"]),
        ("oarstat", "efficiency", ["--efficiency", "-j", "1-5"]),
        ("oarstat", "why", ["--why", "1"]),
        ("oarnodes", "resources", []),
        ("oarnodes", "states", ["-s"]),
        ("oarnodes", "states_by_id", ["-s", "-r", "1"]),
        ("oarnodes", "hosts", ["-l"]),
        ("oarnodes", "jobs", ["-j"]),
        ("oarnodes", "summary", ["-S"]),
        ("oarnodes", "events", ["-e"]),
        ("oarqueue", "queues", []),
        ("oarproperty", "properties", []),
        ("oaradmissionrules", "rules", ["-S"]),
    ],
)
def test_what_is_printed_is_what_the_schema_says(database, commands, command, view, arguments):
    database.execute("UPDATE resources SET state = 'Suspected' WHERE resource_id = 4")

    done = commands.run(command, "-J", *arguments)

    schema(command, view).validate(json.loads(done.stdout))


def test_a_schema_refuses_what_is_not_so(commands):
    document = json.loads(commands.run("oarstat", "-J", "-j", "1").stdout)

    for name, value in (("state", "Sleeping"), ("walltime", "1:0:0"), ("types", None), ("shelf", 1)):
        assert not schema("oarstat", "jobs").is_valid({"1": document["1"] | {name: value}})
    del document["1"]["exit_code"]
    assert not schema("oarstat", "jobs").is_valid(document)


def test_the_schemas_of_what_is_asked_of_the_server_hold(database, commands):
    with answering(database, Submitted((7, 8), array_id=7).to_json()):
        submitted = commands.run("oarsub", "-J", "--array", "2", "true").stdout
    with answering(database, WalltimeAnswer(2, "", 3600, None, 0, 0, 0, 0, 0).to_json()):
        walltime = commands.run("oarwalltime", "-J", "2").stdout

    first, second = re.findall(r"^\{.*?^\}", submitted, re.MULTILINE | re.DOTALL)
    assert json.loads(second) == {"job_id": "8"}
    schema("oarsub", "submitted").validate(json.loads(first))
    schema("oarwalltime", "answers").validate(json.loads(walltime))


def test_each_schema_is_named_in_the_documents():
    page = (SCHEMAS.parents[2] / "docs/formats.md").read_text()

    for path in SCHEMAS.glob("*.json"):
        assert f"`{path.name}`" in page
