"""Whatever is typed at a command: one sentence, a documented status, and nothing left behind."""

from __future__ import annotations

import gzip
import os
import pwd
from collections.abc import Iterator

import pytest

from oarpy.model.exit_statuses import ExitStatus
from tests.support import accounts, invariants
from tests.support.instance import System, running_system
from tests.support.postgres import TestServer

ROWS = """
    SELECT (SELECT count(*) FROM jobs), (SELECT count(*) FROM job_requests), (SELECT count(*) FROM resources),
        (SELECT count(*) FROM queues), (SELECT count(*) FROM properties), (SELECT count(*) FROM frag_jobs),
        (SELECT count(*) FROM orders),
        (SELECT count(*) FROM walltime_changes), (SELECT count(*) FROM quotas),
        (SELECT count(*) FROM requests WHERE state = 'pending'),
        (SELECT md5(string_agg(r::text, ' ' ORDER BY resource_id)) FROM resources r),
        (SELECT md5(string_agg(q::text, ' ' ORDER BY queue_name)) FROM queues q)
"""
LONG = "x" * 100_000
SCRIPTS = {
    "latin.sh": b"#!/bin/sh\n#OAR -n caf\xe9\n",
    "unknown.sh": b"#!/bin/sh\n#OAR --frobnicate\n",
    "quote.sh": b'#!/bin/sh\n#OAR -n "open\n',
    "request.sh": b"#!/bin/sh\n#OAR -l core=abc\n",
    "empty.txt": b"# nothing\n\n",
    "zero.txt": b"a\0b\n",
    "long.txt": b"y" * 140_000 + b"\n",
}
#: By "quotas-" and the number, files that `oarpy quotas load` refuses with one mistake.
QUOTAS = [
    b"",
    b"[]",
    b"\0",
    b"[" * 100_000,
    b'{"quotas": []}',
    b'{"quotas": {"*,*,*": [1, 2, 3]}}',
    b'{"quotas": {"*,*,*,*": [1, 2]}}',
    b'{"quotas": {"*,*,*,*": [-2, 2, 3]}}',
    b'{"quotas": {"*,*,*,*": [true, 2, 3]}}',
    b'{"quotas": {"*,*,*,*": [1, 2, NaN]}}',
    b'{"quotas": {"*,*,*,*": [1, 2, 1e400]}}',
    b'{"quotas": {"*,*,*,*": [99999999999999999999, 2, 3]}}',
    b'{"quotas": {"*,*,*,*": ["-1*ALL", 2, 3]}}',
    b'{"quotas": {"*,*,/,*": [1, 2, 3]}}',
    b'{"quotas": {"*,*,*,\\u0000": [1, 2, 3]}}',
    b'{"quotas": {"*,*,*,\\ud800": [1, 2, 3]}}',
    b'{"quotas": {"*,*,*,a": [1, 2, 3], "*,*,*,a": [1, 2, 4]}}',
    b'{"quotas": {"*,*,*,' + b"u" * 5000 + b'": [1, 2, 3]}}',
    b'{"x": {}, "periodical": [["25:00-19:00 mon * *", "x"]]}',
    b'{"x": {}, "periodical": [["* fun * *", "x"]]}',
    b'{"x": {}, "periodical": [["* * 32 *", "x"]]}',
    b'{"x": {}, "periodical": [["* mon * *", "x", "nul\\u0000"]]}',
    b'{"periodical": [["* mon * *", "x"]]}',
    b'{"x": {}, "oneshot": [["2026-13-01 00:00", "2027-01-01 00:00", "x"]]}',
    b'{"x": {}, "oneshot": [["2026-02-01 00:00", "2026-01-01 00:00", "x"]]}',
]
_JOB = b"1 0 -1 10 2 -1 -1 2 20 -1 1 1 1 -1 1 -1 -1 -1\n"
TRACES = {
    "good.swf": b"; MaxProcs: 4\n" + _JOB,
    "short.swf": b"; MaxProcs: 4\n1 0 -1\n",
    "words.swf": b"; MaxProcs: 4\n" + b"a " * 18 + b"\n",
    "inf.swf": b"; MaxProcs: 4\n" + _JOB.replace(b"10", b"inf"),
    "noise.swf": bytes(range(128, 256)),
    "nosize.swf": _JOB,
    "wide.swf": b"; MaxProcs: 99999999999\n" + _JOB,
    "cut.swf.gz": gzip.compress(_JOB * 100)[:40],
    "nothing.toml": b"",
    "broken.toml": b"[[hosts\n",
    "wide.toml": b"[[hosts]]\nname = 'c'\ncount = 99999999\ncores = 99999999\n",
    "core.toml": b"[[hosts]]\nname = 'c'\ncores = 2\ncore = 3\n",
}

BRACKETS = [
    "/host=1[",
    "/host=1[]",
    "/host=1[gpu]",
    "/host=1[gpu=]",
    "/host=1[gpu=0]",
    "/host=1[gpu=-1]",
    "/host=1[gpu=ALL]",
    "/host=1[gpu=1.5]",
    "/host=1[gpu=99999999999999999999]",
    "/host=1[gpu=1]]",
    "/host=1[[gpu=1]]",
    "/host=1[gpu=1,]",
    "/host=1[gpu=1,gpu=2]",
    "/host=1[g'pu=1]",
    "/host=1[" + "x" * 5000 + "=1]",
    "[gpu=1]/core=1",
]
RESERVATIONS = [
    "",
    ",",
    "soon",
    "now,",
    "now, now",
    "2030-02-30 00:00:00",
    "9999-12-31 23:59:59",
    "now, 9999-12-31 23:59:59",
    "2030-05-04 09:00:00, 2030-05-04 08:00:00",
    "2001-01-01 00:00:00, 2001-01-02 00:00:00",
    "2030-05-04 09:00:00'; DROP TABLE jobs",
    "9" * 30,
    LONG,
]
TYPES = [
    "postpone",
    "postpone=",
    "postpone=soon",
    "postpone=2026-13-01",
    "postpone=9999-12-31 23:59:59",
    "deadline='",
    "deadline=" + "9" * 200,
    "deadline=2026-12-01 08:00:00\n",
    "expire=0",
    "expire=-4:00",
    "token",
    "token:=3",
    "token:x=0",
    "token:x=99999999999999999999",
    "token:nosuch=1",
    "token:x'=1",
    "inner",
    "inner=",
    "inner=a\nb",
    "container=" + "c" * 300,
    "timesharing=user",
    "timesharing=bob,*",
    "timesharing=*,*,*",
    "placeholder",
    "placeholder=",
    "allowed=a\nb",
    "state=alive",
    "state=permissive",
    "noop=always",
    "nice=101",
    "nice=-1",
    "nice=" + "9" * 30,
    "qos=1",
    "=x",
    "a;b",
]
CONTRADICTIONS = [
    ("container", "container=x"),
    ("inner=1", "inner=2"),
    ("placeholder=a", "allowed=a"),
    ("timesharing=*,*", "timesharing=user,*"),
    ("postpone=1:00", "postpone=2:00"),
    ("nice=1", "nice=2"),
]
SUBMISSIONS: list[tuple[int, tuple[str, ...]]] = [
    (5, ()),
    (5, ("   ",)),
    (18, ("-l", "nodes=0", "true")),
    (18, ("-l", "nodes=-1", "true")),
    (18, ("-l", "core=99999999999999999999", "true")),
    (8, ("-l", "core=5", "true")),
    (8, ("-l", "shelf=1", "true")),
    (18, ("-l", "", "true")),
    (18, ("-l", "core=1+", "true")),
    (18, ("-l", "/core=1/host=1/core=1", "true")),
    (18, ("-l", "(" * 5000, "true")),
    (18, ("-l", "+".join(["core=1"] * 3000), "true")),
    (18, ("-l", "{core>1/core=1", "true")),
    (18, ("-l", "core=1,walltime=abc", "true")),
    (18, ("-l", "core=1,walltime=0", "true")),
    (18, ("-l", "core=1,walltime=-1:00", "true")),
    (18, ("-l", "core=1,walltime=99999999999:0:0", "true")),
    (18, ("-p", "nonsense", "true")),
    (18, ("-p", "host = 'open", "true")),
    (18, ("-p", "1=1; DROP TABLE jobs", "true")),
    (18, ("-p", "host LIKE '%' || (SELECT 1)", "true")),
    (18, ("-p", "host='a' OR pg_sleep(10) IS NULL", "true")),
    (18, ("-p", "(" * 5000 + "core=1" + ")" * 5000, "true")),
    (18, ("-p", "core = 1e400", "true")),
    (8, ("-p", "shelf = 1", "true")),
    (8, ("-p", "core = 'abc'", "true")),
    (8, ("-p", "core = 77", "true")),
    (8, ("-q", "nosuch", "true")),
    (18, ("-q", "a\nb", "true")),
    (8, ("-q", "x'; DROP TABLE jobs", "true")),
    (254, ("-q", "admin", "true")),
    (18, ("-q", LONG, "true")),
    (18, ("-t", "", "true")),
    (18, ("-t", "best effort\n", "true")),
    (18, ("-n", "a\nb", "true")),
    (18, ("-n", "x" * 256, "true")),
    (18, ("-n", os.fsdecode(b"\xff"), "true")),
    (18, ("--project", "a\tb", "true")),
    (18, ("-d", "x" * 5000, "true")),
    (18, ("-O", "a\nb", "true")),
    (4, ("-a", "abc", "true")),
    (4, ("-a", "9" * 30, "true")),
    (8, ("-a", "99999", "true")),
    (18, ("-a", "never:1", "true")),
    (6, ("--array", "0", "true")),
    (6, ("--array", "1000000", "true")),
    (1, ("--array", "many", "true")),
    (9, ("--array-param-file", "missing", "true")),
    (9, ("--array-param-file", "/", "true")),
    (9, ("--array-param-file", "empty.txt", "true")),
    (9, ("--array-param-file", "zero.txt", "true")),
    (8, ("--array-param-file", "long.txt", "true")),
    (1, ("--checkpoint", "soon", "true")),
    (18, ("--checkpoint", "99999999999999999999", "true")),
    (1, ("--signal", "FOO", "true")),
    (16, ("--notify", "shout", "true")),
    (16, ("--notify", "exec:rm", "true")),
    (16, ("--notify", 'exec:/bin/sh -c "id"', "true")),
    (16, ("--notify", "exec:/bin/x;id", "true")),
    (16, ("--notify", "exec:/bin/$(id)", "true")),
    (16, ("--notify", "exec:/bin/x\nid", "true")),
    (16, ("--notify", "mail:a@b\nBcc: c@d", "true")),
    (16, ("--notify", "mail:-oQ/tmp", "true")),
    (12, ("-S", "missing.sh")),
    (12, ("-S", "/")),
    (12, ("-S", "latin.sh")),
    (12, ("-S", "unknown.sh")),
    (12, ("-S", "quote.sh")),
    (18, ("-S", "request.sh")),
    (1, ("--frobnicate", "true")),
    (69, ("-T",)),
    *((18, ("-l", request, "true")) for request in BRACKETS),
    (8, ("-l", "/host=1[gpu=1]", "true")),
    (8, ("-l", "/core=1[core=1]", "true")),
    *((7, ("-r", dates, "true")) for dates in RESERVATIONS),
    (7, ("-r", "now", "--array", "2", "true")),
    (7, ("-r", "now", "--hold", "true")),
    (7, ("-r", "now", "-a", "1", "true")),
    (7, ("-r", "now", "-t", "deadline=2030-01-01", "true")),
    (254, ("-r", "now", "-t", "besteffort", "true")),
    (8, ("-r", "now", "-l", "core=99", "true")),
    *((18, ("-t", job_type, "true")) for job_type in TYPES),
    *((18, ("-t", one, "-t", other, "true")) for one, other in CONTRADICTIONS),
    (8, ("-t", "inner=99999", "true")),
    (8, ("-t", "inner=0", "true")),
    (8, ("-t", "inner=1", "true")),
    (8, ("-t", "deadline=2001-01-01", "true")),
    (8, ("-t", "expire=2001-01-01", "true")),
    (8, ("-t", "postpone=4:00", "-t", "deadline=3:00", "true")),
    (254, ("-t", "no_quotas", "true")),
    (1, ("--key", "short", "true")),
    (75, ("--key", "0" * 32)),
    (8, ("x" * 131_000, "y" * 100)),
]
OTHERS: list[tuple[int, tuple[str, ...]]] = [
    (4, ("oardel",)),
    (4, ("oardel", "abc")),
    (4, ("oardel", "9" * 40)),
    (4, ("oardel", "1; DROP TABLE jobs")),
    (1, ("oardel", "99999")),
    (1, ("oardel", "-s", "FOO", "1")),
    (5, ("oardel", "-s", "USR1", "1")),
    (5, ("oardel", "-c", "1")),
    (4, ("oardel", "--array", "99999")),
    (8, ("oardel", "-b", "1")),
    (8, ("oardel", "--force-terminate-finishing-job", "1")),
    (1, ("oardel", "-b", "-c", "1")),
    (1, ("oarprint", "-f", "/nowhere", "host")),
    (1, ("oar2trace", "-f", "/nowhere/trace")),
    (18, ("oardel", "--sql", "1=1; DROP TABLE jobs")),
    (1, ("oardel", "--sql", "shelf = 1")),
    (8, ("oardel", "--sql", "state = 'nosuch'")),
    (4, ("oardel", "5-3")),
    (1, ("oarstat", "-u", "\udcff")),
    (1, ("oarstat", "--sql", "name = '\udcff'")),
    (1, ("oarstat", "--forecast", "\udcff")),
    (4, ("oarstat", "-j", "\udcff")),
    (1, ("oarnodes", "\udcff")),
    (4, ("oardel", "5,,6")),
    (1, ("oardel", "99990-99999")),
    (1, ("oardel", "--dry-run", "99999")),
    (4, ("oarhold",)),
    (4, ("oarhold", "1.5")),
    (1, ("oarhold", "99999")),
    (4, ("oarresume", "")),
    (1, ("oarresume", "99999")),
    (4, ("oarstat", "-j", "abc")),
    (4, ("oarstat", "-j", "9" * 40)),
    (18, ("oarstat", "--sql", "1=1; DROP TABLE jobs")),
    (1, ("oarstat", "--sql", "shelf = 1")),
    (8, ("oarstat", "--sql", "state = 'nosuch'")),
    (18, ("oarstat", "--sql", "job_id = 99999999999999999999999")),
    (4, ("oarstat", "--why", "abc")),
    (4, ("oarstat", "--why", "0")),
    (4, ("oarstat", "--why", "9" * 40)),
    (4, ("oarstat", "--why", "1; DROP TABLE jobs")),
    (1, ("oarstat", "--why", "99999")),
    (1, ("oarstat", "-J", "--why", "99999")),
    (1, ("oarstat", "--forecast", "nosuch")),
    (1, ("oarstat", "--forecast", "a\nb")),
    (1, ("oarstat", "--forecast", "99999")),
    (4, ("oarstat", "--forecast", "9" * 40)),
    (1, ("oarwalltime",)),
    (4, ("oarwalltime", "abc")),
    (4, ("oarwalltime", "1; DROP TABLE jobs", "+1")),
    (4, ("oarwalltime", "9" * 40, "+1")),
    (4, ("oarwalltime", "99999", "+1")),
    (1, ("oarwalltime", "1", "+1")),
    *(
        (4, ("oarwalltime", "1", change))
        for change in ("", "+", "--1", "+-1", "+1.5", "+1:2:3:4", "+1'", "+" + "9" * 30)
    ),
    *((4, ("oarwalltime", "1", "+1", "-t", timeout)) for timeout in ("", "0", "soon", "9" * 30)),
    (4, ("oarwalltime", "1", "--whole")),
    (1, ("oarnodes", "c[1-")),
    (1, ("oarnodes", "c[1-999999999]")),
    (1, ("oarnodes", "c[1-9999]d[1-9999]")),
    (18, ("oarnodes", "--sql", "x;y")),
    (1, ("oarnodes", "--sql", "shelf = 1")),
    (8, ("oarnodes", "--sql", "core = 'a'")),
    (8, ("oarnodesetting", "-r", "1", "-s", "Dead")),
    (8, ("oarproperty", "-a", "shelf")),
    (8, ("oarqueue", "-d", "default")),
    (8, ("oarqueue", "--ordering", "default,fairshare")),
    (8, ("oarpy", "quotas", "clear")),
    (1, ("oarpy", "quotas", "load", "missing")),
    (1, ("oarpy", "quotas", "load", "/")),
    (1, ("oarpy", "quotas", "load", "latin.sh")),
    *((1, ("oarpy", "simulate", name)) for name in ("missing", "/", "a\nb", *TRACES) if name != "good.swf"),
    *(
        (1, ("oarpy", "simulate", "good.swf", option, value))
        for option, value in (
            ("--policy", "guess"),
            ("--policy", "first=0"),
            ("--replan", "guess"),
            ("--cores", "0"),
            ("--cores", "9" * 30),
            ("--grid", "0"),
            ("--platform", "missing"),
            ("--platform", "nothing.toml"),
            ("--platform", "broken.toml"),
            ("--platform", "wide.toml"),
            ("--platform", "core.toml"),
            ("--jobs-out", "/dev/full"),
            ("--gantt", "/nowhere/x"),
            ("--from", "2026-01-01"),
            ("--to", "2026-01-01"),
        )
    ),
    (1, ("oarpy", "simulate")),
    (1, ("oarpy", "simulate", "/dev/zero")),
    (1, ("oarpy", "simulate", "good.swf", "--from-database")),
    (1, ("oarpy", "simulate", "--from-database", "--cores", "2")),
    (8, ("oarpy", "simulate", "--from-database")),
    *((18, ("oarpy", "simulate", "--from-database", "--from", date)) for date in ("", "soon", "1:0", "2026-13-01")),
    (8, ("oarpy", "down")),
    (8, ("oarpy", "db", "upgrade")),
    (8, ("oarpy", "module", "sarko")),
]
ADMINISTRATION: list[tuple[int, tuple[str, ...]]] = [
    (1, ("oarnodesetting",)),
    (1, ("oarnodesetting", "-r", "abc", "-s", "Dead")),
    (1, ("oarnodesetting", "-r", ",", "-d", "on")),
    (1, ("oarnodesetting", "-r", "9999", "-s", "Dead")),
    (1, ("oarnodesetting", "-h", "nosuch", "-s", "Dead")),
    (1, ("oarnodesetting", "-h", "\udcff", "-s", "Dead")),
    (1, ("oarnodesetting", "-r", "1", "-p", "host=\udcff")),
    (1, ("oarqueue", "--add", "\udcff,1")),
    (1, ("oarnodesetting", "-r", "1", "-s", "Tired")),
    (8, ("oarnodesetting", "-r", "1", "-p", "core=abc")),
    (1, ("oarnodesetting", "-r", "1", "-p", "shelf=1")),
    (18, ("oarnodesetting", "-r", "1", "-p", '"x"=1')),
    (1, ("oarnodesetting", "-r", "1", "-p", "resource_id=7")),
    (8, ("oarnodesetting", "-r", "1", "-p", "network_address=a b")),
    (8, ("oarnodesetting", "-a", "-h", "")),
    (8, ("oarnodesetting", "-a", "-h", "a\nb")),
    (8, ("oarnodesetting", "-a", "-h", "-oProxyCommand=id")),
    (8, ("oarnodesetting", "-a", "-h", "n" * 300)),
    (1, ("oarnodesetting", "-a", "-h", "n[1-99999999]")),
    (18, ("oarproperty", "-a", "a b")),
    (18, ("oarproperty", "-a", 'x"; DROP TABLE jobs')),
    (8, ("oarproperty", "-a", "core")),
    (8, ("oarproperty", "-a", "xmin")),
    (8, ("oarproperty", "-a", "walltime")),
    (8, ("oarproperty", "-a", "nodes")),
    (1, ("oarproperty", "-d", "nosuch")),
    (1, ("oarproperty", "-d", "state")),
    (1, ("oarproperty", "-r", "core")),
    (1, ("oarqueue", "--add", "x")),
    (1, ("oarqueue", "--add", "x,high")),
    (8, ("oarqueue", "--add", "default,5")),
    (8, ("oarqueue", "--add", "a\nb,1")),
    (8, ("oarqueue", "--add", "x,99999999999999999999")),
    (8, ("oarqueue", "--add", "x,1,guess")),
    (8, ("oarqueue", "--add", "x,1,first:-1")),
    (1, ("oarqueue", "--change", "nosuch,1")),
    (1, ("oarqueue", "--remove", "nosuch")),
    (8, ("oarqueue", "--remove", "default")),
    (1, ("oarqueue", "--ordering", "default")),
    (1, ("oarqueue", "--ordering", "default,guess")),
    (1, ("oarqueue", "--ordering", "nosuch,fifo")),
    (1, ("oarqueue", "--ordering", "a\nb,fifo")),
    (1, ("oarqueue", "--ordering", "x'; DROP TABLE jobs,fifo")),
    (8, ("oarqueue", "--add", "x,1,first:99999999999")),
    (78, ("oarpy", "module", "nosuch")),
]


@pytest.fixture(scope="module")
def busy(postgres: TestServer) -> Iterator[System]:
    """A running instance with one job, which is held."""
    with postgres.database() as database, running_system(database) as system:
        for name, content in (SCRIPTS | TRACES).items():
            path = system.work / name
            path.write_bytes(content)
            path.chmod(0o755)
        for number, text in enumerate(QUOTAS):
            (system.work / f"quotas-{number}").write_bytes(text)
        assert system.oarsub("--hold", "true") == 1
        yield system
        assert invariants.broken(database.engine) == []


def name_of(words: tuple[str, ...]) -> str:
    return " ".join(words)[:50].encode("unicode_escape").decode()


def check_refused(system: System, status: int, words: tuple[str, ...], user: pwd.struct_passwd | None = None) -> None:
    before = system.database.execute(ROWS)

    done = system.run(*words, user=user, check=False)

    # What begins with # is something to know, and no refusal.
    sentences = [line for line in done.stderr.splitlines() if not line.startswith("# ")]
    assert (done.returncode, len(sentences)) == (status, 1), done.stderr
    assert ExitStatus(status)
    assert sentences[0].startswith(f"{words[0]}: ")
    assert system.database.execute(ROWS) == before
    assert "Traceback" not in done.stderr + system.log()
    assert " ERROR " not in system.log()


@pytest.mark.parametrize(
    ("status", "words"), SUBMISSIONS, ids=lambda each: name_of(each) if each and isinstance(each, tuple) else None
)
def test_a_bad_submission_is_refused_in_one_sentence(busy: System, status: int, words: tuple[str, ...]) -> None:
    check_refused(busy, status, ("oarsub", *words))


@pytest.mark.parametrize(
    ("status", "words"), OTHERS, ids=lambda each: name_of(each) if isinstance(each, tuple) else None
)
def test_bad_input_of_users_is_refused_in_one_sentence(busy: System, status: int, words: tuple[str, ...]) -> None:
    if status == ExitStatus.DENIED and words[0] not in ("oarstat", "oarnodes") and os.geteuid() != 0:
        pytest.skip("who runs the tests is the administrator here")
    check_refused(busy, status, words)


@pytest.mark.parametrize(
    ("status", "words"), ADMINISTRATION, ids=lambda each: name_of(each) if isinstance(each, tuple) else None
)
def test_bad_input_of_administrators_is_refused_in_one_sentence(
    busy: System, status: int, words: tuple[str, ...]
) -> None:
    check_refused(busy, status, words, user=pwd.getpwuid(os.geteuid()))


@pytest.mark.parametrize("number", range(len(QUOTAS)))
def test_a_broken_file_of_quotas_is_refused_with_its_mistake(busy: System, number: int) -> None:
    before = busy.database.execute(ROWS)

    done = busy.run("oarpy", "quotas", "load", f"quotas-{number}", user=pwd.getpwuid(os.geteuid()), check=False)

    mistake, last = done.stderr.splitlines()
    assert done.returncode == ExitStatus.SYNTAX
    assert mistake.startswith(f"oarpy: quotas-{number}: ")
    assert mistake.isprintable()
    assert len(mistake) < 300
    assert last == f"oarpy: quotas-{number} has 1 mistake(s); no quota was changed"
    assert busy.database.execute(ROWS) == before


def test_a_command_line_of_two_mebibytes_is_refused_and_leaves_nothing(busy: System) -> None:
    before = busy.database.execute(ROWS)

    # The kernel takes 128 KiB an argument, so many make it up; the command is their sum.
    done = busy.run("oarsub", *["x" * 100_000] * 19, check=False)

    assert done.returncode in (ExitStatus.SYNTAX, ExitStatus.DENIED)
    assert len(done.stderr.splitlines()) == 1
    assert busy.database.execute(ROWS) == before


@pytest.mark.parametrize(
    "words", [("oardel", "1"), ("oarhold", "1"), ("oarresume", "1"), ("oardel", "--array", "1"), ("oardel", "-c", "1")]
)
def test_the_jobs_of_others_are_let_alone(busy: System, words: tuple[str, ...]) -> None:
    check_refused(busy, ExitStatus.REFUSED, words, user=accounts.account(accounts.BOB))


def test_root_has_no_jobs(busy: System) -> None:
    check_refused(busy, ExitStatus.ADMISSION, ("oarsub", "true"), user=accounts.root())


@pytest.mark.parametrize(
    "words",
    [
        ("oarsub", "true"),
        ("oarsub", "-r", "now", "true"),
        ("oarstat",),
        ("oarstat", "--why", "1"),
        ("oarstat", "--forecast"),
        ("oardel", "1"),
        ("oarwalltime", "1", "+1"),
        ("oarnodes",),
        ("oarqueue",),
        ("oarpy", "quotas", "show"),
    ],
)
def test_commands_without_a_database_say_so_in_one_sentence(busy: System, words: tuple[str, ...]) -> None:
    kept = busy.environment["OARPY_DATABASE"]
    busy.environment["OARPY_DATABASE"] = f"host={busy.work} port=5432 dbname=oarpy"
    try:
        done = busy.run(*words, check=False)
    finally:
        busy.environment["OARPY_DATABASE"] = kept

    assert (done.returncode, done.stdout, len(done.stderr.splitlines())) == (ExitStatus.TRY_LATER, "", 1)
