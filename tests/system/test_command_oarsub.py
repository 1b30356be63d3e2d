"""``oarsub``: what it asks for, what it prints, and what it says when things go wrong."""

import json
import os
import re
import signal
import subprocess
import sys
from collections.abc import Iterator
from contextlib import closing
from pathlib import Path

import pytest

from oarpy.drivers import postgresql
from oarpy.model.payloads import Estimate, Refusal, Submission, Submitted
from tests.support.commands import Commands, answering, stored_requests
from tests.support.postgres import TestDatabase, TestServer
from tests.support.waiting import wait_until

HEAVY = {"sqlalchemy", "alembic", "ClusterShell", "asyncio", "logging", "subprocess", "tomllib", "importlib.metadata"}
ONE = Submitted((7,)).to_json()


@pytest.fixture(scope="module")
def unchanged(postgres: TestServer) -> Iterator[TestDatabase]:
    """A database for all the tests of refusals: they change nothing."""
    with postgres.database() as database:
        yield database


@pytest.fixture
def commands(database: TestDatabase, tmp_path: Path) -> Commands:
    return Commands(database, str(tmp_path))


def test_the_id_of_the_job_stands_alone_on_its_line(database, commands):
    with answering(database, ONE):
        done = commands.run("oarsub", "true")

    assert (done.returncode, done.stdout, done.stderr) == (0, "OAR_JOB_ID=7\n", "")


def test_an_array_prints_its_jobs_and_then_its_id(database, commands):
    with answering(database, Submitted((7, 8, 9), 7).to_json()) as asked:
        done = commands.run("oarsub", "--array", "3", "true")

    assert done.stdout == "OAR_JOB_ID=7\nOAR_JOB_ID=8\nOAR_JOB_ID=9\nOAR_ARRAY_ID=7\n"
    assert asked[0][1]["array_count"] == 3


def test_json_holds_the_id_as_a_text(database, commands):
    with answering(database, ONE):
        done = commands.run("oarsub", "-J", "true")

    ids, _, document = done.stdout.partition("{")
    assert ids == "OAR_JOB_ID=7\n"
    assert json.loads("{" + document) == {"job_id": "7"}
    assert document.count("\n") == 3


@pytest.mark.parametrize("walltime", ["2h30", "90m", "1d"])
def test_a_walltime_that_oar_does_not_know_is_told_as_it_was_understood(database, commands, walltime):
    with answering(database, ONE) as asked:
        done = commands.run("oarsub", "-l", f"walltime={walltime}", "true")

    seconds = {"2h30": 9000, "90m": 5400, "1d": 86_400}[walltime]
    assert asked[0][1]["wishes"] == [[[], seconds]]
    assert done.stdout == "OAR_JOB_ID=7\n"
    assert re.fullmatch(r"# walltime [\d:]+: started now, it ends by \d{4}-\d\d-\d\d [\d:]{8}\n", done.stderr)


def test_what_was_understood_is_told_to_who_asks_for_it(database, commands):
    with answering(database, ONE):
        done = commands.run("oarsub", "-v", "-l", "walltime=2", "true")

    assert done.stderr.startswith("# walltime 2:0:0: started now, it ends by ")


def test_an_edit_asks_for_what_was_named_and_nothing_else(database, commands, tmp_path):
    reply = {"ok": True, "jobs": [[7, "REGISTERED", 0, ""], [8, "REFUSED", 1, "job 8 is over"]], "warnings": ["so"]}
    with answering(database, reply) as asked:
        done = commands.run(
            *("oarsub", "--edit", "7", "--edit", "8", "--edit-array", "9", "-l", "walltime=2h"),
            *("-p", "", "--checkpoint", "5m", "-a", "afterok:3", "-n", "", "-d", "sub", "--", "./new", "-x"),
        )

    ((verb, payload),) = asked
    said = payload.pop("said")
    assert (verb, payload) == (
        "edit",
        {
            "job_ids": [7, 8],
            "array_ids": [9],
            "changes": {
                "wishes": [[[], 7200]],
                "resources": ["walltime=2h"],
                "properties": None,
                "filter": None,
                "checkpoint_s": 300,
                "dependencies": [[3, "afterok", None, None]],
                "name": None,
                "directory": f"{tmp_path}/sub",
                "command": "./new -x",
            },
        },
    )
    assert said.startswith("oarsub --edit 7 --edit 8")
    assert (done.returncode, done.stdout) == (
        1,
        "Changing the job = 7 ...REGISTERED.\nChanging the job = 8 ...REFUSED\n",
    )
    assert done.stderr == "# so\noarsub: job 8 is over\n"


def test_what_an_edit_came_to_can_be_asked_by_its_key(database, commands):
    key = "2f1c5c8e-6d1f-4a50-9f43-5f3e7f3f0c11"
    with answering(database, {"ok": True, "jobs": [[7, "REGISTERED", 0, ""]], "warnings": []}):
        commands.run("oarsub", "--edit", "7", "-n", "m", "--key", key)

    done = commands.run("oarsub", "--key", key)

    assert (done.returncode, done.stdout) == (0, "Changing the job = 7 ...REGISTERED.\n")


def test_a_resubmission_prints_the_new_ids(database, commands):
    with answering(database, Submitted((17, 18), 7).to_json()) as asked:
        done = commands.run("oarsub", "--resubmit", "7", "--only", "failed", "-l", "walltime=3")

    ((verb, payload),) = asked
    assert (verb, payload["array_ids"], payload["only"]) == ("resubmit", [7], "failed")
    assert payload["changes"] == {"wishes": [[[], 10_800]], "resources": ["walltime=3"]}
    assert done.stdout == "OAR_JOB_ID=17\nOAR_JOB_ID=18\nOAR_ARRAY_ID=7\n"


def test_warnings_go_to_stderr_behind_a_hash(database, commands):
    with answering(database, Submitted((7,), None, ("the queue is slow",)).to_json()):
        done = commands.run("oarsub", "true")

    assert done.stdout == "OAR_JOB_ID=7\n"
    assert done.stderr == "# the queue is slow\n"


def test_a_refusal_is_one_sentence_with_its_status(database, commands):
    with answering(database, Refusal(254, "no jobs on Sundays").to_json()):
        done = commands.run("oarsub", "true")

    assert (done.returncode, done.stdout, done.stderr) == (254, "", "oarsub: no jobs on Sundays\n")


def test_all_that_was_said_is_asked_for(database, commands, tmp_path):
    with answering(database, ONE) as asked:
        commands.run(
            "oarsub", "-l", "{mem > 2}/nodes=2/core=4,walltime=1:30", "-lcore=1", "-p", "gpu = 1", "-p", "cpu = 3",
            "-qnight", "--name=my job", "--project", "p", "-t", "besteffort", "-t", "origin=execo", "-d", "sub",
            "-OFILE.%jobid%", "-E/tmp/err", "-a", "5", "-a", "afterok:6,,60", "--hold", "--notify",
            "[END]mail:a@b", "--checkpoint", "300", "--signal", "SIGUSR1", "--dry-run", "--", "./run", "-n", "5",
        )  # fmt: skip

    submission = Submission.from_json(asked[0][1])
    assert asked[0][0] == "submit"
    assert submission.command == "./run -n 5"
    assert submission.directory == f"{tmp_path}/sub"
    assert submission.resources == ("{mem > 2}/nodes=2/core=4,walltime=1:30", "core=1")
    assert [wish.walltime_s for wish in submission.wishes] == [5400, None]
    assert submission.properties == "cpu = 3"
    assert submission.queue == "night"
    assert (submission.name, submission.project) == ("my job", "p")
    assert submission.types == ("besteffort", "origin=execo")
    assert (submission.stdout, submission.stderr) == ("FILE.%jobid%", "/tmp/err")
    assert [(each.job_id, each.kind.value, each.window_s) for each in submission.dependencies] == [
        (5, "afterany", (None, None)),
        (6, "afterok", (None, 60)),
    ]
    assert (submission.hold, submission.dry_run) == (True, True)
    assert (submission.notify.method, submission.notify.target) == ("mail", "a@b")
    assert (submission.checkpoint_s, submission.signal) == (300, 10)
    assert submission.initial_request.startswith("oarsub -l '{mem > 2}/nodes=2/core=4,walltime=1:30' -lcore=1")


def test_a_command_of_several_lines_is_one_text_for_the_shell(database, commands):
    with answering(database, ONE) as asked:
        commands.run("oarsub", "\n\ncd /tmp\necho 'a b'\n")

    assert asked[0][1]["command"] == "\n\ncd /tmp\necho 'a b'\n"


def test_the_folder_is_where_the_process_is_whatever_pwd_says(database, commands, tmp_path):
    with answering(database, ONE) as asked:
        commands.run("oarsub", "true", environment={"PWD": "/elsewhere"})

    assert asked[0][1]["directory"] == str(tmp_path)


def test_options_of_a_script_are_taken_where_the_command_line_says_nothing(database, commands, tmp_path):
    script = tmp_path / "run me.sh"
    script.write_text(
        "#!/bin/sh\n#OAR -n script\n#OAR -l core=2\n#OAR -p mem > 3\n#OAR -t a\n#OAR -q night\n#OAR --hold\n"
    )
    script.chmod(0o755)

    with answering(database, ONE) as asked:
        done = commands.run("oarsub", "-n", "line", "-l", "core=1", "-p", "cpu = 1", "-t", "b", "-S", "run me.sh", "x")

    payload = asked[0][1]
    assert payload["name"] == "line"
    assert payload["queue"] == "night"
    assert payload["hold"] is True
    assert payload["resources"] == ["core=1", "core=2"]
    assert payload["types"] == ["b", "a"]
    assert payload["filter"] == ["and", ["=", "cpu", 1], [">", "mem", 3]]
    assert payload["command"] == f"'{script}' x"
    assert payload["initial_request"].splitlines() == [
        "oarsub -n line -l core=1 -p 'cpu = 1' -t b -S 'run me.sh' x",
        "#OAR -n script -l core=2 -p 'mem > 3' -t a -q night --hold",
    ]
    assert done.stderr == "# --name of the script gives way to that of the command line\n"


def test_a_script_with_its_arguments_in_one_word_is_found(database, commands, tmp_path):
    script = tmp_path / "run.sh"
    script.write_text("#!/bin/sh\n")
    script.chmod(0o755)

    with answering(database, ONE) as asked:
        commands.run("oarsub", "-S", "./run.sh 1 2")

    assert asked[0][1]["command"] == f"{script} 1 2"


def test_parameters_make_an_array(database, commands, tmp_path):
    (tmp_path / "params").write_text("# x y\n1 2\n\n3 4\n")

    with answering(database, ONE) as asked:
        commands.run("oarsub", "--array-param-file", "params", "./run")

    assert asked[0][1]["parameters"] == ["1 2", "3 4"]


def test_a_dry_run_says_when_and_where(database, commands):
    estimates = (Estimate("-l /core=2", 86400, 3600, ("c1", "c2"), ""), Estimate("-l /core=99", None, 3600, (), "no"))

    with answering(database, Submitted((), None, (), estimates).to_json()):
        done = commands.run("oarsub", "--dry-run", "true")

    assert done.stdout == (
        "This would be accepted.\n-l /core=2: starts 1970-01-02 00:00:00 on c[1-2]\n-l /core=99: does not start; no\n"
    )


@pytest.mark.parametrize(
    ("arguments", "status"),
    [
        ([], 5),
        ([""], 5),
        ([" \n "], 5),
        (["-l", "nodes=0", "true"], 18),
        (["-l", "nodes=1,walltime=abc", "true"], 18),
        (["-l", "nodes=1/", "true"], 18),
        (["-l", "{mem >}/nodes=1", "true"], 18),
        (["-p", "mem = ; DROP TABLE jobs", "true"], 18),
        (["-p", "x" * 70_000, "true"], 18),
        (["-n", "a\nb", "true"], 18),
        (["-q", "", "true"], 18),
        (["-q", "a\nb", "true"], 18),
        (["-t", "a b", "true"], 18),
        (["-a", "x", "true"], 4),
        (["--array", "0", "true"], 6),
        (["--array", "-5", "true"], 6),
        (["--array", "x", "true"], 1),
        (["--array", "2", "--array-param-file", "/etc/hostname", "true"], 6),
        (["--array-param-file", "/nonexistent", "true"], 9),
        (["--array-param-file", "/dev/null", "true"], 9),
        (["--notify", "exec:/bin/x;y", "true"], 16),
        (["--notify", "nobody", "true"], 16),
        (["--checkpoint", "0", "true"], 18),
        (["--checkpoint", "soon", "true"], 1),
        (["--signal", "SIGNONE", "true"], 1),
        (["-O", "a\nb", "true"], 18),
        (["-S", "/nonexistent"], 12),
        (["-S", "/"], 12),
        (["-S", "/etc/hostname"], 12),
        (["-S"], 5),
        (["-r", "someday", "true"], 7),
        (["-i", "/nowhere", "true"], 15),
        (["--stagein", "f", "true"], 69),
        (["-T", "true"], 69),
        (["--edit", "x", "-n", "m"], 4),
        (["--edit", "5", "--resubmit", "6"], 1),
        (["--edit", "5", "--array", "3"], 1),
        (["--edit", "5", "--dry-run", "-I"], 1),
        (["--edit", "5", "--hold"], 1),
        (["--edit", "5", "-I"], 1),
        (["--only", "failed", "true"], 1),
        (["--resubmit", "5", "-r", "now"], 1),
        (["--resubmit", "5", "--only", "some"], 1),
        (["-r", "in a while", "true"], 7),
        (["--frobnicate", "true"], 1),
        (["-l"], 1),
        (["--key", "xyz", "true"], 1),
        (["x" * 131_000] * 9, 18),
        ([b"echo \xff"], 18),
    ],
)
def test_bad_input_is_one_sentence_and_leaves_nothing_behind(unchanged, tmp_path, arguments, status):
    done = Commands(unchanged, str(tmp_path)).run("oarsub", *arguments)

    assert (done.returncode, done.stdout) == (status, "")
    assert re.fullmatch(r"oarsub: [^\n]+\n", done.stderr), done.stderr
    assert stored_requests(unchanged) == []


def test_long_options_may_be_cut_short_as_oars_may(database, commands):
    with answering(database, ONE) as asked:
        done = commands.run("oarsub", "--nam", "x", "--proj=p", "--resou", "core=2", "--ho", "--", "true", "--nam")

    ((_, submission),) = asked
    assert done.returncode == 0, done.stderr
    assert (submission["name"], submission["project"], submission["hold"]) == ("x", "p", True)
    assert (submission["resources"], submission["command"]) == (["core=2"], "true --nam")


@pytest.mark.parametrize("option", ["--res", "--stage", "--p", "--zzz"])
def test_what_begins_several_options_or_none_is_refused(unchanged, tmp_path, option):
    done = Commands(unchanged, str(tmp_path)).run("oarsub", option, "x", "true")

    assert (done.returncode, done.stdout) == (1, "")
    assert re.fullmatch(rf"oarsub: No such option '{option}'[^\n]+\n", done.stderr), done.stderr
    assert stored_requests(unchanged) == []


@pytest.mark.parametrize("words", [("-p", ""), ("-p", " "), ("-p", "core = 1", "-p", "")])
def test_an_empty_filter_is_none(database, commands, words):
    with answering(database, ONE) as asked:
        done = commands.run("oarsub", *words, "true")

    ((_, submission),) = asked
    assert done.returncode == 0
    assert not {"properties", "filter"} & set(submission)


def test_empty_names_are_not_said(database, commands):
    with answering(database, ONE) as asked:
        done = commands.run("oarsub", "-n", "", "--project", "", "-O", "", "-E", "", "true")

    ((_, submission),) = asked
    assert done.returncode == 0
    assert not {"name", "project", "stdout", "stderr"} & set(submission)


@pytest.mark.parametrize(
    "line",
    [
        *("#OAR --frobnicate", "#OAR -l nodes=0", "#OAR -n 'x", "#OAR word", "#OAR -q"),
        # Of the command line alone.
        *("#OAR --edit 5", "#OAR -I", "#OAR -C 5", "#OAR -J", "#OAR --dry-run", "#OAR -S", "#OAR --help", "#OAR -V"),
    ],
)
def test_a_bad_line_in_a_script_is_one_sentence_and_leaves_nothing_behind(unchanged, tmp_path, line):
    script = tmp_path / "run.sh"
    script.write_text(f"#!/bin/sh\n{line}\n")
    script.chmod(0o755)

    done = Commands(unchanged, str(tmp_path)).run("oarsub", "-S", "./run.sh")

    assert done.returncode in (12, 18)
    assert done.stdout == ""
    assert re.fullmatch(r"oarsub: [^\n]+\n", done.stderr), done.stderr
    assert stored_requests(unchanged) == []


def test_a_script_that_cannot_be_run_is_refused(commands, tmp_path):
    (tmp_path / "run.sh").write_text("#!/bin/sh\n")

    done = commands.run("oarsub", "-S", "./run.sh")

    assert done.returncode == 12
    assert "not executable" in done.stderr


def test_without_a_server_the_submission_is_refused_as_temporary(commands, tmp_path):
    done = commands.run("oarsub", "true", environment={"OARPY_DATABASE": f"host={tmp_path} dbname=oar"})

    assert (done.returncode, done.stdout) == (75, "")
    assert re.fullmatch(r"oarsub: the server does not answer .*; nothing was done\n", done.stderr)


def test_a_request_that_nobody_takes_is_withdrawn(database, commands):
    done = commands.run("oarsub", "true")

    assert (done.returncode, done.stdout) == (75, "")
    assert "nothing was done" in done.stderr
    assert stored_requests(database) == [("submit", "withdrawn")]


def test_an_interrupt_withdraws_the_request(database, commands):
    running = commands.start("oarsub", "true")
    wait_until(lambda: stored_requests(database))

    running.send_signal(signal.SIGINT)

    stdout, stderr = running.communicate(timeout=60)
    assert (running.returncode, stdout, stderr) == (130, "", "oarsub: interrupted; nothing was done\n")
    assert stored_requests(database) == [("submit", "withdrawn")]


def test_an_interrupt_that_comes_too_late_tells_of_the_job(database, commands):
    running = commands.start("oarsub", "true")
    wait_until(lambda: stored_requests(database))
    with database.connect() as server, server.cursor() as cursor:
        cursor.execute("SELECT FROM requests FOR UPDATE")
        running.send_signal(signal.SIGINT)
        wait_until(
            lambda: database.execute(
                "SELECT pid FROM pg_stat_activity WHERE application_name = 'oarsub' AND wait_event_type = 'Lock'"
            )
        )
        cursor.execute("UPDATE requests SET state = 'answered', answer = %s", (json.dumps(ONE),))

    stdout, stderr = running.communicate(timeout=60)

    assert (running.returncode, stdout, stderr) == (0, "OAR_JOB_ID=7\n", "")


def test_a_broken_connection_asks_again_and_submits_once(database, commands):
    running = commands.start("oarsub", "true")
    wait_until(lambda: stored_requests(database))
    ended = "SELECT pg_terminate_backend(pid) FROM pg_stat_activity WHERE application_name = 'oarsub'"
    wait_until(lambda: database.execute(ended))

    with answering(database, ONE):
        stdout, stderr = running.communicate(timeout=60)

    assert (running.returncode, stdout, stderr) == (0, "OAR_JOB_ID=7\n", "")
    assert stored_requests(database) == [("submit", "answered")]


def test_a_connection_that_does_not_come_back_leaves_a_key_to_ask_with(postgres, database, commands):
    running = commands.start("oarsub", "true")
    wait_until(lambda: stored_requests(database))
    with closing(postgresql.connect(postgres.cluster)) as admin, admin.cursor() as cursor:
        cursor.execute(f"ALTER DATABASE {database.name} ALLOW_CONNECTIONS false")
        cursor.execute("SELECT pg_terminate_backend(pid) FROM pg_stat_activity WHERE application_name = 'oarsub'")
        running.send_signal(signal.SIGINT)
        stdout, stderr = running.communicate(timeout=60)
        cursor.execute(f"ALTER DATABASE {database.name} ALLOW_CONNECTIONS true")

    told = re.fullmatch(r"oarsub: the connection broke .*; --key (\w{32}) asks what became of it\n", stderr)
    assert (running.returncode, stdout) == (76, "")
    with answering(database, ONE):
        assert commands.run("oarsub", "--key", told[1]).stdout == "OAR_JOB_ID=7\n"


def test_a_key_alone_asks_what_the_request_came_to(database, commands):
    key = "0123456789abcdef0123456789abcdef"
    with answering(database, ONE):
        commands.run("oarsub", "--key", key, "true")

    done = commands.run("oarsub", "--key", key)

    assert done.stdout == "OAR_JOB_ID=7\n"


def test_the_same_key_gets_the_first_answer(database, commands):
    key = "0123456789abcdef0123456789abcdef"
    with answering(database, ONE) as asked:
        first = commands.run("oarsub", "--key", key, "true")
        second = commands.run("oarsub", "--key", key, "true")
        other = commands.run("oarsub", "--key", key, "false")

    assert first.stdout == second.stdout == "OAR_JOB_ID=7\n"
    assert len(asked) == 1
    assert (other.returncode, other.stdout) == (8, "")
    assert "belongs to another request" in other.stderr


def test_a_key_that_nobody_used_has_done_nothing(database, commands):
    done = commands.run("oarsub", "--key", "f" * 32)

    assert (done.returncode, done.stdout) == (75, "")
    assert "nothing was done" in done.stderr


def test_too_many_pending_requests_are_refused_for_now(database, commands):
    database.execute("UPDATE request_limits SET max_pending = 1")
    waiting = commands.start("oarsub", "true")
    wait_until(lambda: stored_requests(database))

    done = commands.run("oarsub", "true")

    waiting.send_signal(signal.SIGINT)
    waiting.communicate(timeout=60)
    assert done.returncode == 75
    assert "waiting for an answer" in done.stderr


def test_a_reader_that_leaves_early_is_no_error(database, commands):
    answer = Submitted(tuple(range(1, 50_001)), 1).to_json()
    with answering(database, answer):
        running = commands.start("oarsub", "--array", "50000", "true")
        running.stdout.readline()
        running.stdout.close()
        stderr = running.stderr.read()
        running.wait(timeout=60)
    running.stderr.close()

    assert stderr == ""


@pytest.mark.parametrize(
    ("option", "shown"),
    [
        ("-J", '{\n   "job_id" : "7"\n}\n'),
        ("--yaml", "---\njob_id: '7'\n"),
        ("-D", "{\n  'job_id' => '7'\n}\n"),
        ("-X", '<?xml version="1.0" encoding="UTF-8"?>\n<perldata>\n <hashref>\n'
         '  <item key="job_id">7</item>\n </hashref>\n</perldata>\n'),
    ],
)  # fmt: skip
def test_the_id_is_shown_in_each_format_after_its_line(database, commands, option, shown):
    with answering(database, Submitted((7,)).to_json()):
        done = commands.run("oarsub", option, "true")

    assert done.stdout == f"OAR_JOB_ID=7\n{shown}"


def test_what_oarsub_imports_is_frozen(database, commands):
    # Every start of the command pays for each of them.
    with answering(database, ONE):
        running = commands.start("oarsub", "-l", "core=1", "true", environment={"PYTHONPROFILEIMPORTTIME": "1"})
        _, report = running.communicate(timeout=60)

    imported = re.findall(r"\| +([\w.]+)$", report, re.MULTILINE)
    assert {"click", "psycopg2"} <= set(imported)
    assert set(imported).isdisjoint(HEAVY)
    assert sorted(name for name in imported if name.startswith("oarpy")) == [
        "oarpy",
        "oarpy.client",
        "oarpy.client.api",
        "oarpy.client.asking",
        "oarpy.client.connection",
        "oarpy.client.submissions",
        "oarpy.commands",
        "oarpy.commands.oarsub",
        "oarpy.commands.session",
        "oarpy.errors",
        "oarpy.instance",
        "oarpy.model",
        "oarpy.model.dependencies",
        "oarpy.model.durations",
        "oarpy.model.exit_statuses",
        "oarpy.model.identifiers",
        "oarpy.model.job_types",
        "oarpy.model.notifications",
        "oarpy.model.payloads",
        "oarpy.model.request",
        "oarpy.model.resource_grammar",
        "oarpy.model.states",
        "oarpy.model.wording",
    ]


def test_the_directory_that_was_removed_is_told(tmp_path):
    gone = tmp_path / "gone"
    gone.mkdir()
    script = f"import os; os.rmdir({str(gone)!r}); from oarpy.commands.oarsub import main; main()"

    done = subprocess.run(
        [sys.executable, "-c", script, "true"], cwd=gone, capture_output=True, text=True, check=False,
        env={**os.environ, "PYTHONPATH": str(Path.cwd())},
    )  # fmt: skip

    assert done.returncode == 1
    assert done.stderr == "oarsub: the current directory does not exist any more; cd to another one\n"
