"""Completion in the shells themselves: bash, zsh and fish are typed to as people do."""

from __future__ import annotations

import os
import pwd
import re
import subprocess
import sys
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest

from tests.support.postgres import TestDatabase, TestServer
from tests.support.requests import ENDED, bring, submitted, with_hosts
from tests.support.typist import Typist

PROGRAMS = str(Path(sys.executable).parent)
ME = pwd.getpwuid(os.geteuid())
#: What is typed before the tabulator, and what stands there afterwards; of several that fit, they are listed.
UNIQUE = [
    ("oarsub --resub", "oarsub --resubmit "),
    ("oarsub -q be", "oarsub -q besteffort "),
    ("oarsub -l /ho", "oarsub -l /host="),
    ("oarsub -l /host=1/co", "oarsub -l /host=1/core="),
    ("oarsub -p 'cpu = 1 and co", "oarsub -p 'cpu = 1 and core="),
    ("oarsub -t idem", "oarsub -t idempotent "),
    ("oarsub --edit=", "oarsub --edit=1 "),
    ("oarstat --com", "oarstat --compact "),
    ("oarstat -j ", "oarstat -j 1 "),
    ("oardel ", "oardel 1 "),
    ("oardel --undo --ar", "oardel --undo --array "),
    ("oarnodes c2", "oarnodes c2 "),
    ("oarnodes --sum", "oarnodes --summary "),
    ("oarnodesetting -h c1", "oarnodesetting -h c1 "),
    ("oarproperty -d cor", "oarproperty -d core "),
    ("oarpy stat", "oarpy status "),
    ("oarpy completion f", "oarpy completion fish "),
    ("oarsub -O fil", "oarsub -O file-of-output "),
]
SEVERAL = [
    ("oarsub -q ", {"admin", "besteffort", "default"}),
    ("oarnodes ", {"c1", "c2"}),
    ("oarproperty -d c", {"core", "cpu"}),
    ("oarpy db ", {"upgrade", "bootstrap"}),
]


@pytest.fixture(scope="module")
def site(postgres: TestServer) -> Iterator[TestDatabase]:
    """Two hosts, two jobs of the one who runs the tests, one of which is over, and one of somebody else's."""
    with postgres.database() as database:
        with_hosts(database)
        me = database.execute("SELECT oar.me()")[0][0]
        submitted(database)
        bring(database, submitted(database), *ENDED)
        submitted(database)
        database.execute("UPDATE jobs SET job_user = %s WHERE job_id <= 2", (me,))
        yield database


@pytest.fixture(scope="module")
def home(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Where the shells are started: it has one file."""
    made = tmp_path_factory.mktemp("home")
    (made / "file-of-output").write_text("")
    return made


def environment(site: TestDatabase, home: Path) -> dict[str, str]:
    clean = {name: value for name, value in os.environ.items() if not name.startswith(("OAR", "XDG", "ZDOTDIR"))}
    places = {"HOME": str(home), "XDG_CONFIG_HOME": str(home / "config"), "XDG_DATA_HOME": str(home / "share")}
    path = f"{PROGRAMS}:{clean['PATH']}"
    return {**clean, **places, "OARPY_DATABASE": site.url, "OARPY_HOME": str(home), "PATH": path}


def script(site: TestDatabase, home: Path, shell: str, name: str) -> Path:
    """What ``oarpy completion`` prints, in a file."""
    place = home / shell
    place.mkdir(exist_ok=True)
    said = subprocess.run(
        ["oarpy", "completion", shell], env=environment(site, home), capture_output=True, text=True, check=True
    )
    (place / name).write_text(said.stdout)
    return place / name


class Shell:
    """A shell at a terminal, in which ^G tells what is typed so far, and begins the line anew."""

    def __init__(self, site: TestDatabase, home: Path, words: list[str], beginning: str) -> None:
        self._typist = Typist(words, ME, cwd=home, environment=environment(site, home))
        self._typist.type(f"{beginning}\r")
        self._typist.wait_for("READY ", timeout_s=30)

    def completed(self, line: str) -> str:
        """What ``line`` is after the tabulator."""
        self._typist.type(f"{line}\t\x07")
        written = self._typist.wait_for(r"<<(.*?)>>", timeout_s=30)[1]
        self._typist.wait_for("READY ", timeout_s=30)
        return written

    def listed(self, line: str) -> set[str]:
        """The words that are shown below ``line``."""
        self._typist.type(f"{line}\t\x07")
        shown = self._typist.wait_for(r"(?s)^.*<<", timeout_s=30)[0]
        self._typist.wait_for("READY ", timeout_s=30)
        return set(re.findall(r"[\w.-]+", re.sub(r"\x1b\[[\d;?]*[A-Za-z]", " ", shown)))

    def close(self) -> None:
        self._typist.close()


# The prompts are spelt so that they are not found where they are typed.
BASH = (
    "bind 'set enable-bracketed-paste off'; bind 'set show-all-if-ambiguous on';"
    " show() { printf '<<%s>>\\n' \"$READLINE_LINE\"; READLINE_LINE=; READLINE_POINT=0; };"
    " bind -x '\"\\C-g\": show'; PS1='REA''DY '"
)
ZSH = (
    'show() { zle -I; print -r -- "<<$BUFFER>>"; BUFFER=; }; zle -N show; bindkey "^G" show;'
    " unsetopt list_ambiguous; autoload -Uz compinit; PS1='REA''DY '"
)
FISH = (
    "function show; echo '<<'(commandline)'>>'; commandline ''; commandline -f repaint; end; bind \\cg show;"
    " function fish_prompt; echo 'REA''DY '; end"
)


def bash(site: TestDatabase, home: Path) -> Shell:
    return Shell(site, home, ["bash", "--norc", "-i"], f"source {script(site, home, 'bash', 'oarsub')}; {BASH}")


def zsh(site: TestDatabase, home: Path) -> Shell:
    """The file is read by ``source``."""
    file = script(site, home, "zsh", "sourced")
    return Shell(site, home, ["zsh", "-f", "-i"], f"{ZSH}; compinit -u -D; source {file}")


def zsh_that_finds_it(site: TestDatabase, home: Path) -> Shell:
    """The file is found in a directory of functions."""
    place = script(site, home, "zsh", "_oarpy").parent
    return Shell(site, home, ["zsh", "-f", "-i"], f"{ZSH}; fpath+=({place}); compinit -u -D")


def fish(site: TestDatabase, home: Path) -> Shell:
    return Shell(
        site, home, ["fish", "--no-config", "-i"], f"source {script(site, home, 'fish', 'oarsub.fish')}; {FISH}"
    )


@pytest.fixture(scope="module", params=[bash, zsh, zsh_that_finds_it, fish], ids=lambda each: each.__name__)
def shell(request: pytest.FixtureRequest, site: TestDatabase, home: Path) -> Iterator[Shell]:
    start: Callable[[TestDatabase, Path], Shell] = request.param
    at = start(site, home)
    yield at
    at.close()


@pytest.mark.parametrize(("line", "after"), UNIQUE)
def test_what_fits_alone_is_written_out(shell: Shell, line: str, after: str) -> None:
    written = shell.completed(line)

    # bash closes the quote, too.
    assert written.removesuffix("'") == after


@pytest.mark.parametrize(("line", "words"), SEVERAL)
def test_of_several_that_fit_all_are_shown(shell: Shell, line: str, words: set[str]) -> None:
    assert words <= shell.listed(line)
