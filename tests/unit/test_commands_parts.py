"""The parts of commands that need no server."""

import os
import signal
import socket
import subprocess
import sys
import time

import pytest

from oarpy.client.asking import check_key, new_key
from oarpy.client.conditions import condition
from oarpy.client.submissions import in_current_directory
from oarpy.commands.listing import printable, shown_date, shown_hosts, unfolded
from oarpy.commands.oarnodes import oarnodes
from oarpy.commands.oarstat import oarstat
from oarpy.commands.signals import parse_signal
from oarpy.errors import RequestRefused, SyntaxRefused
from oarpy.model.columns import Column, Kind
from oarpy.model.exit_statuses import ExitStatus
from oarpy.model.filter_grammar import parse_filter
from oarpy.model.ranges import parsed_ranges, written_ranges
from oarpy.node import oarsh

COLUMNS = {"a": Column("a"), "b": Column("extract(epoch FROM b_at)", Kind.REAL)}


@pytest.mark.parametrize(
    ("text", "sql", "values"),
    [
        ("a = 1", "a = %s", ["1"]),
        ("b >= 2.5", "extract(epoch FROM b_at) >= %s", ["2.5"]),
        ("a IN (1, 'x')", "a IN (%s, %s)", ["1", "x"]),
        ("a NOT LIKE 'x%'", "a::text NOT LIKE %s", ["x%"]),
        ("a BETWEEN 1 AND 2", "a BETWEEN %s AND %s", ["1", "2"]),
        ("a IS NOT NULL", "a IS NOT NULL", []),
        ("NOT (a = 1 OR TRUE) AND b = 2", "(NOT ((a = %s) OR (true))) AND (extract(epoch FROM b_at) = %s)", ["1", "2"]),
        ("a = 'x; DROP TABLE jobs --%s'", "a = %s", ["x; DROP TABLE jobs --%s"]),
    ],
)
def test_a_condition_binds_its_values(text, sql, values):
    bound: list[str] = []

    assert condition(parse_filter(text), COLUMNS, bound) == sql
    assert bound == values


@pytest.mark.parametrize("text", ["c = 1", "a = 1 AND NOT c IS NULL", '"select" IN (1)'])
def test_a_condition_names_known_columns_only(text):
    with pytest.raises(RequestRefused, match="these are: a, b"):
        condition(parse_filter(text), COLUMNS, [])


@pytest.mark.parametrize(
    ("multirange", "ranges"),
    [("{}", ()), ("{[1,5)}", ((1, 5),)), ("{[1,5),[7,8),[10,20)}", ((1, 5), (7, 8), (10, 20)))],
)
def test_ranges_are_read_as_they_are_written(multirange, ranges):
    assert parsed_ranges(multirange) == ranges
    assert written_ranges(ranges) == multirange


def test_a_key_may_have_dashes():
    assert check_key("01234567-89AB-cdef-0123-456789abcdef") == "0123456789abcdef0123456789abcdef"
    assert check_key(new_key())


@pytest.mark.parametrize("text", ["", "0123", "g" * 32, "0" * 33, "'; DROP TABLE jobs; --00000000000"])
def test_what_is_no_key_is_refused(text):
    with pytest.raises(SyntaxRefused):
        check_key(text)


@pytest.mark.parametrize(("text", "number"), [("10", 10), ("USR1", 10), ("sigterm", 15), ("64", 64)])
def test_a_signal_has_a_number_and_a_name(text, number):
    assert parse_signal(text) == number


@pytest.mark.parametrize("text", ["", "0", "65", "-9", "SIG", "SIG_IGN", "1e1", "²"])
def test_what_is_no_signal_is_refused(text):
    with pytest.raises(SyntaxRefused):
        parse_signal(text)


def test_hosts_are_folded_and_unfolded():
    assert shown_hosts(["c1"]) == "c1"
    assert shown_hosts(["c1", "c2", "c3", "c1"]) == "c[1-3]"
    assert unfolded(["c[1-2]", "d"]) == ["c1", "c2", "d"]
    with pytest.raises(SyntaxRefused):
        unfolded(["c[1-"])


def test_dates_are_in_the_zone_of_the_caller(monkeypatch):
    monkeypatch.setenv("TZ", "Europe/Paris")
    time.tzset()

    shown = shown_date(0)

    monkeypatch.undo()
    time.tzset()
    assert shown == "1970-01-01 01:00:00"


def test_what_controls_a_terminal_is_escaped():
    assert printable("é a\tb\x1b[2J\n") == "é a\\tb\\x1b[2J\\n"
    assert printable("a\nb\x07", but="\n") == "a\nb\\x07"


OARSTAT = [sys.executable, "-c", "from oarpy.commands.oarstat import main; main()"]


def test_results_that_cannot_be_written_are_no_success():
    with open("/dev/full", "wb") as full:
        done = subprocess.run([*OARSTAT, "--help"], stdout=full, stderr=subprocess.PIPE, text=True)

    assert done.returncode == ExitStatus.OUTPUT_LOST
    assert done.stderr == (
        "oarstat: standard output cannot be written (No space left on device); what was asked for may have been done\n"
    )


def test_a_closed_standard_output_is_no_success_where_there_are_results():
    done = subprocess.run(["sh", "-c", 'exec "$@" >&-', "sh", *OARSTAT, "--help"], capture_output=True, text=True)

    assert (done.returncode, done.stderr) == (
        ExitStatus.OUTPUT_LOST,
        "oarstat: standard output cannot be written (it is closed); what was asked for may have been done\n",
    )


#: What oarsub does once its jobs exist.
SUBMITTED = """
import sys, click
from oarpy.commands import session
session.run(click.Command("oarsub", callback=lambda: click.echo(sys.stdin.read())))
"""
ARRAY = "OAR_JOB_ID=7\nOAR_JOB_ID=8\nOAR_JOB_ID=9\nOAR_ARRAY_ID=7"


@pytest.mark.parametrize(
    ("redirected", "status", "why"),
    [
        (">&-", 74, "standard output cannot be written (it is closed)"),
        (">/dev/full", 74, "standard output cannot be written (No space left on device)"),
        ("", 128 + signal.SIGPIPE, "nobody reads standard output"),
    ],
)
@pytest.mark.parametrize(("printed", "jobs"), [("OAR_JOB_ID=7", "the job is 7"), (ARRAY, "the jobs are 7-9")])
def test_a_job_is_told_where_its_id_cannot_be_printed(redirected, status, why, printed, jobs):
    reader, writer = os.pipe()
    os.close(reader)
    command = f"exec {sys.executable} -c '{SUBMITTED}' {redirected}"
    done = subprocess.run(["sh", "-c", command], input=printed, stdout=writer, stderr=subprocess.PIPE, text=True)
    os.close(writer)

    assert (done.returncode, done.stderr) == (status, f"oarsub: {why}; {jobs}\n")


@pytest.mark.parametrize(
    ("typed", "style"),
    [
        ([], None),
        (["-J"], "json"),
        (["-J", "-J"], "json"),
        (["-J", "-Y"], "yaml"),
        (["-Y", "-J"], "yaml"),
        (["-JYXD"], "dumper"),
        (["-D", "-X"], "dumper"),
        (["--xml", "--json"], "xml"),
        (["--ndjson"], "ndjson"),
    ],
)
def test_of_several_formats_oars_first_is_written(typed, style):
    assert oarstat.make_context("oarstat", typed).params["style"] == style


@pytest.mark.parametrize("typed", [["-J", "--ndjson"], ["--ndjson", "-J"]])
def test_a_format_that_is_not_oars_goes_alone(typed):
    with pytest.raises(SyntaxRefused, match=r"^--ndjson and --json are two formats; choose one$"):
        oarstat.make_context("oarstat", typed)


@pytest.mark.parametrize(
    ("redirected", "words", "status"),
    [
        (">&- 2>&-", ["--help"], 74),
        (">&- 2>&-", ["--no-such"], 1),
        (">&- 2>&- <&-", ["--no-such"], 1),
        ("2>&-", ["--no-such"], 1),
        ("2>/dev/full", ["-j", "x"], 4),
    ],
)
def test_a_command_goes_without_the_streams_that_its_caller_closed(tmp_path, redirected, words, status):
    environment = {**os.environ, "OARPY_HOME": str(tmp_path)}
    done = subprocess.run(
        ["sh", "-c", f'exec "$@" {redirected}', "sh", *OARSTAT, *words], env=environment, capture_output=True
    )

    assert (done.returncode, done.stdout, done.stderr) == (status, b"", b"")


@pytest.mark.parametrize(
    ("program", "words"),
    [("oarsh", ["c9", "cat", "c1:x"]), ("oarcp", ["here", "c1:/etc/hosts", "c9:there"])],
)
def test_a_host_whose_name_is_not_known_is_told_before_ssh_could(monkeypatch, program, words):
    def addresses(host, _port):
        if host != "c1":
            raise socket.gaierror(socket.EAI_NONAME, "Name or service not known")

    monkeypatch.setattr("socket.getaddrinfo", addresses)

    with pytest.raises(oarsh.Refused, match=r"^c9 cannot be reached: Name or service not known$") as refused:
        oarsh.check_names(program, ["ssh", "-o", "x", "--", *words])

    assert refused.value.status == oarsh.NO_HOST
    oarsh.check_names("oarsh", ["ssh", "--", "c1"])


@pytest.mark.parametrize("redirected", ["2>/dev/full", "2>&-", "2>&0"])
def test_what_cannot_be_said_keeps_no_result_back(redirected):
    told = SUBMITTED.replace("click.echo", "session.tell(chr(233)) or click.echo")
    command = f"exec {sys.executable} -c '{told}' {redirected}"
    done = subprocess.run(["sh", "-c", command], stdin=subprocess.DEVNULL, capture_output=True, text=True)

    assert (done.returncode, done.stdout) == (0, "\n")


def test_a_standard_input_that_is_closed_is_empty():
    done = subprocess.run(
        ["sh", "-c", 'exec "$@" <&-', "sh", sys.executable, "-c", SUBMITTED], capture_output=True, text=True
    )

    assert (done.returncode, done.stdout, done.stderr) == (0, "\n", "")


@pytest.mark.parametrize("zone", ["UTC+99:99", "UTC-24"])
def test_a_time_zone_that_cannot_be_is_refused(zone):
    done = subprocess.run([*OARSTAT, "--help"], env={**os.environ, "TZ": zone}, capture_output=True, text=True)

    assert (done.returncode, done.stdout) == (1, "")
    assert done.stderr == f"oarstat: TZ={zone} is no time zone: it is a day or more away from UTC\n"


def test_a_full_path_needs_no_current_directory(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    tmp_path.rmdir()

    assert in_current_directory("/tmp/x") == "/tmp/x"
    for path in (None, "x"):
        with pytest.raises(RequestRefused, match=r"^the current directory does not exist any more; cd to another one$"):
            in_current_directory(path)


def test_no_two_statuses_are_the_same_number():
    assert len(ExitStatus.__members__) == len(list(ExitStatus))


def test_a_host_behind_the_option_for_events_is_told_its_place(monkeypatch):
    monkeypatch.setattr("oarpy.commands.oarnodes.connect", lambda: None)

    with pytest.raises(SyntaxRefused, match=r"^'c7' is not a date; .+; a host stands before -e$"):
        oarnodes.main(["-e", "c7"], standalone_mode=False)
