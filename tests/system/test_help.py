"""Manual pages, completion and what is said of a word that was mistyped."""

from __future__ import annotations

import os
import shlex
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

import pytest

from oarpy.commands import manual
from oarpy.commands.completion import SHELLS
from tests.support.commands import Commands
from tests.support.postgres import TestDatabase, TestServer
from tests.support.requests import ENDED, bring, submitted, with_hosts

PROGRAMS = str(Path(sys.executable).parent)


@pytest.fixture(scope="module")
def site(postgres: TestServer) -> Iterator[TestDatabase]:
    """Two hosts, two jobs of the one who runs the tests, one of which is over, and one of somebody else's."""
    with postgres.database() as database:
        with_hosts(database)
        me = database.execute("SELECT oar.me()")[0][0]
        mine = submitted(database)
        bring(database, submitted(database), *ENDED)
        submitted(database)
        database.execute("UPDATE jobs SET job_user = %s WHERE job_id <= 2", (me,))
        assert mine == 1
        yield database


def environment(site: TestDatabase, home: Path) -> dict[str, str]:
    clean = {name: value for name, value in os.environ.items() if not name.startswith("OAR")}
    path = f"{PROGRAMS}:{clean['PATH']}"
    return {**clean, "OARPY_DATABASE": site.url, "OARPY_HOME": str(home), "PATH": path}


def completed(site: TestDatabase, home: Path, *words: str) -> list[str]:
    done = subprocess.run(
        ["oarpy", "complete", *words],
        env=environment(site, home),
        capture_output=True,
        text=True,
        timeout=30,
        check=True,
    )
    return done.stdout.split("\n")[:-1]


@pytest.mark.parametrize(
    ("line", "words"),
    [
        ("oarsub --ar", ["--array", "--array-param-file"]),
        ("oardel ''", ["1"]),
        ("oarstat -j ''", ["1"]),
        ("oarsub -a ''", ["3", "1"]),
        ("oarsub --resubmit ''", ["2"]),
        ("oarsub --edit=''", ["--edit=1"]),
        ("oarsub --only ''", ["failed", "all"]),
        ("oarsub -q be", ["besteffort"]),
        ("oarqueue -d ad", ["admin"]),
        ("oarsub -l /ho", ["/host="]),
        ("oarsub -l /host=1/co", ["/host=1/core="]),
        ("oarsub -p 'cpu = 1 and co'", ["cpu = 1 and core="]),
        ("oarsub -t bes", ["besteffort"]),
        ("oarsub -O x", ["<files>"]),
        ("oarsub ./", ["<files>"]),
        ("oarnodes c", ["c1", "c2"]),
        ("oarnodesetting -h c2", ["c2"]),
        ("oarpy st", ["status"]),
        ("oarpy status --j", ["--json"]),
        ("oarpy completion ''", ["bash", "zsh", "fish"]),
        ("--line 'oarsub -l /host=1/co' 1/co", ["1/core="]),
        ('--line "oarsub -p \'cpu = 1 and co" "\'cpu = 1 and co"', ["cpu = 1 and core="]),
        ("--line 'oarsub --edit=' ''", ["1"]),
        ("nosuch ''", []),
    ],
)
def test_what_fits_is_offered(site: TestDatabase, tmp_path: Path, line: str, words: list[str]) -> None:
    assert completed(site, tmp_path, *shlex.split(line)) == words


def test_without_an_instance_there_are_options_and_no_complaint(site: TestDatabase, tmp_path: Path) -> None:
    away = {**environment(site, tmp_path), "OARPY_DATABASE": "postgresql://localhost:1/none"}

    for words, offered in ((["oardel", ""], ""), (["oardel", "--und"], "--undo\n")):
        done = subprocess.run(["oarpy", "complete", *words], env=away, capture_output=True, text=True, timeout=30)
        assert (done.returncode, done.stdout, done.stderr) == (0, offered, "")


def in_bash(site: TestDatabase, home: Path, line: str) -> list[str]:
    """What bash puts in place of the last word, as it breaks words."""
    script = subprocess.run(
        ["oarpy", "completion", "bash"], env=environment(site, home), capture_output=True, text=True, check=True
    ).stdout
    words = line.replace("=", " = ").split(" ") if "=" in line else line.split(" ")
    words = [word for word in words[:-1] if word] + [words[-1]]
    quoted = " ".join(map(shlex.quote, words))
    done = subprocess.run(
        ["bash", "--norc", "-c", f"compopt() {{ :; }}\n{script}\nCOMP_WORDS=({quoted})\nCOMP_CWORD={len(words) - 1}\n"
         f"COMP_LINE={shlex.quote(line)}\nCOMP_POINT={len(line)}\n_oarpy\nprintf '%s\\n' \"${{COMPREPLY[@]}}\""],
        env=environment(site, home), cwd=home, capture_output=True, text=True, timeout=60,
    )  # fmt: skip
    assert done.stderr == ""
    return done.stdout.split("\n")[:-1]


def test_bash_completes_behind_its_own_breaks(site: TestDatabase, tmp_path: Path) -> None:
    (tmp_path / "a file").write_text("")

    assert in_bash(site, tmp_path, "oarsub -l /ho") == ["/host="]
    assert in_bash(site, tmp_path, "oarsub -l /host=1/co") == ["1/core="]
    assert in_bash(site, tmp_path, "oarsub --edit=") == ["1"]
    assert in_bash(site, tmp_path, "oardel ") == ["1"]
    assert in_bash(site, tmp_path, "oarsub -O a") == ["a file"]


@pytest.mark.parametrize("shell", SHELLS)
def test_every_shell_understands_its_script(site: TestDatabase, tmp_path: Path, shell: str) -> None:
    said = subprocess.run(
        ["oarpy", "completion", shell], env=environment(site, tmp_path), capture_output=True, text=True, check=True
    ).stdout

    assert "oarpy complete" in said
    assert "oarsub oarwalltime" in said
    assert " oar-database " in said
    subprocess.run([shell, "-n"], input=said, text=True, check=True, timeout=30)


def test_there_is_a_manual_page_for_each_command(site: TestDatabase, tmp_path: Path) -> None:
    done = subprocess.run(
        ["oarpy", "man", str(tmp_path)], env=environment(site, tmp_path), capture_output=True, text=True, check=True
    )

    pages = sorted(path.name for path in (tmp_path / "man1").iterdir())
    assert pages == sorted(f"{name}.1" for name in manual.commands())
    assert done.stdout == f"{len(pages)} pages in {tmp_path}/man1\n"


def test_a_manual_page_says_what_the_help_says(tmp_path: Path) -> None:
    page = manual.page("oarsub", manual.commands()["oarsub"])

    plain = page.replace("\\-", "-").replace("\\&", "").replace("\\e", "\\").replace("\\(aq", "'")
    assert ".SH NAME\noarsub - Submit COMMAND, a line for the shell, as a job\n" in plain
    assert ".SH EXAMPLES\n.nf\noarsub -l /host=2/core=4,walltime=1:30 ./simulate\n" in plain
    assert ".TP\n.B -q, --queue NAME\nQueue.\n" in plain
    assert ".TP\n.B -r, --reservation \\(dqSTART[, END]\\(dq\n" in plain
    assert not [line for line in page.split("\n") if line.startswith("'")]


@pytest.mark.parametrize("name", manual.commands())
def test_a_manual_page_is_shown_without_a_warning_and_has_examples(tmp_path: Path, name: str) -> None:
    (tmp_path / f"{name}.1").write_text(manual.page(name, manual.commands()[name]))
    environment = {"PATH": os.environ["PATH"], "LC_ALL": "C.UTF-8", "MANWIDTH": "80", "MANROFFOPT": "-ww"}

    shown = subprocess.run(
        ["man", "--warnings", "-l", f"{name}.1"],
        env=environment,
        cwd=tmp_path,
        capture_output=True,
        text=True,
        check=True,
        timeout=60,
    )

    assert shown.stderr == ""
    examples = shown.stdout.partition("\nEXAMPLES\n")[2].partition("\nEXIT STATUS\n")[0]
    assert name in examples
    assert all(f" {line}\n" in examples for line in manual.examples(manual.commands()[name]))


def test_a_manual_that_cannot_be_written_is_one_sentence(site: TestDatabase, tmp_path: Path) -> None:
    done = Commands(site, str(tmp_path)).run("oarpy", "man", "/proc/nowhere")

    assert (done.returncode, done.stdout) == (78, "")
    assert done.stderr.startswith("oarpy: /proc/nowhere")
    assert "cannot be written" in done.stderr


@pytest.mark.parametrize(
    ("words", "hint"),
    [
        (["oarsub", "--arry", "3", "true"], "--array"),
        (["oardel", "--checkpont", "3"], "--checkpoint"),
        (["oarpy", "statsu"], "'status'"),
        (["oarsub", "--frobnicate"], "oarsub --help lists them"),
        (["oarqueue", "-d", "defualt"], "did you mean default?"),
        (["oarproperty", "-d", "cores"], "did you mean core?"),
        (["oarnodesetting", "-h", "c1", "-p", "hst=x"], "did you mean host?"),
    ],
)
def test_a_mistyped_word_is_answered_with_what_was_meant(
    site: TestDatabase, tmp_path: Path, words: list[str], hint: str
) -> None:
    done = Commands(site, str(tmp_path)).run(*words)

    assert done.returncode != 0
    assert hint in done.stderr
    assert done.stderr.count("\n") == 1


@pytest.mark.parametrize(
    ("words", "next_step"),
    [
        (["oarsub"], "give one, or a script (-S), or -I for a shell"),
        (["oarsub", "-a", "x", "true"], "'x' is not the id of a job, which is a number"),
        (["oarsub", "-a", "1,x", "true"], "'x' is not a number of seconds, nor such as 10m"),
        (["oarsub", "--signal", "USR3", "true"], "did you mean USR2?"),
        (["oarsub", "--key", "abc", "true"], "which has 32 hexadecimal digits"),
        (["oarstat", "-j"], "only inside of a job"),
        (["oarstat", "--follow", "-j", "99"], "oarstat -u lists your jobs"),
        (["oarstat", "--forecast", "nowhere"], "oarqueue lists the queues"),
        (["oardel"], "give ids, ranges such as 12-20, --array, -u or --sql"),
        (["oarwalltime"], "oarwalltime --help shows how it is used"),
        (["oarqueue", "default"], "oarqueue --help shows how it is used"),
        (["oarpy", "frobnicate"], "oarpy --help shows how it is used"),
        (["oarqueue", "-d", "xyz"], "oarqueue lists them"),
        (["oarqueue", "--add", "night"], "such as night,5"),
        (["oarnodesetting", "-h", "c11", "-s", "Dead"], "did you mean c1?"),
        (["oarnodesetting", "-h", "elsewhere", "-s", "Dead"], "oarnodes -l lists them"),
        (["oarnodesetting", "-r", "99", "-s", "Dead"], "oarnodes shows those that are"),
        (["oarnodesetting", "-h", "c1", "-p", "zone=5"], "oarproperty -a zone makes it"),
        (["oarnodesetting", "-h", "c1", "-p", "state=Dead"], "-s sets the state"),
        (["oarnodesetting", "-h", "c1"], "-s, -p, -m or -d says what"),
        (["oaradmissionrules", "-s", "99"], "-S lists them"),
        (["oarremoveresource"], "give ids, as oarnodes shows them"),
    ],
)
def test_a_refusal_says_what_to_do_next(site: TestDatabase, tmp_path: Path, words: list[str], next_step: str) -> None:
    done = Commands(site, str(tmp_path)).run(*words)

    assert done.returncode != 0
    assert next_step in done.stderr
    assert done.stderr.count("\n") == 1


def test_a_host_that_does_not_exist_is_told_and_is_no_error(site: TestDatabase, tmp_path: Path) -> None:
    done = Commands(site, str(tmp_path)).run("oarnodes", "-s", "c1", "c11")

    assert (done.returncode, done.stderr) == (0, "# there is no host 'c11'; did you mean c1?\n")
    assert done.stdout.startswith("c1:\n")


def test_a_place_without_an_instance_is_told(tmp_path: Path) -> None:
    nowhere = {"PATH": os.environ["PATH"], "OARPY_HOME": str(tmp_path / "nowhere")}

    done = subprocess.run([f"{PROGRAMS}/oarstat"], env=nowhere, capture_output=True, text=True, timeout=60)

    assert done.returncode == 75
    said = f"there is no instance in {tmp_path}/nowhere; OARPY_HOME names another one, oarpy up makes it"
    assert done.stderr == f"oarstat: {said}\n"
