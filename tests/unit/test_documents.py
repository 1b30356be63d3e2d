"""The documents say all that they must, and nothing that is not so."""

from __future__ import annotations

import ast
import configparser
import re
import shlex
from collections.abc import Iterator
from contextlib import suppress
from datetime import timedelta
from importlib import import_module
from pathlib import Path
from typing import Any, get_type_hints

import click
import pytest

from oarpy import settings
from oarpy.automata.resource import RESOURCE
from oarpy.commands import start
from oarpy.database import tables
from oarpy.model.events import EFFECTS, Resubmits, Suspects
from oarpy.model.exit_statuses import ExitStatus
from oarpy.model.states import EndCause, JobState, ResourceState

ROOT = Path(__file__).parents[2]
DOCUMENTS = sorted([*ROOT.glob("*.md"), *(ROOT / "docs").rglob("*.md"), *(ROOT / "schemas").glob("*.md")])
README = (ROOT / "README.md").read_text(encoding="utf-8")
REFERENCE = (ROOT / "docs/reference.md").read_text(encoding="utf-8")
USER_GUIDE = (ROOT / "docs/user-guide.md").read_text(encoding="utf-8")

SUSPECTS = {
    Suspects.NONE: "",
    Suspects.EVENT_HOSTS: "its hosts",
    Suspects.HEAD: "the first host",
    Suspects.ALL: "all of the job",
}


def _entries() -> dict[str, str]:
    setup = configparser.ConfigParser()
    setup.read(ROOT / "setup.cfg", encoding="utf-8")
    return dict(line.split(" = ") for line in setup["options.entry_points"]["console_scripts"].split("\n") if line)


ENTRIES = _entries()
MODULES = {name: name.replace("-", "_") for name in ENTRIES}
COMMANDS: dict[str, click.Command] = {
    name: getattr(import_module(f"oarpy.commands.{module}"), module) for name, module in MODULES.items()
}


def _with_subcommands(name: str, command: click.Command) -> Iterator[tuple[str, click.Command]]:
    yield name, command
    if isinstance(command, click.Group):
        for word, below in command.commands.items():
            yield from _with_subcommands(f"{name} {word}", below)


ALL_COMMANDS = dict(pair for name, command in COMMANDS.items() for pair in _with_subcommands(name, command))


def test_every_command_begins_where_an_interrupt_makes_no_traceback() -> None:
    assert {name: f"oarpy.commands.start:{module}" for name, module in MODULES.items()} == ENTRIES
    assert set(MODULES.values()) <= set(vars(start))


def _rows(text: str, columns: int) -> list[list[str]]:
    """The cells of all tables that have so many columns, their heads and rules left out."""
    lines = [line for line in text.splitlines() if line.startswith("|") and not line.startswith("|---")]
    rows = [[cell.strip() for cell in re.split(r"(?<!\\)\|", line)[1:-1]] for line in lines]
    return [row for row in rows if len(row) == columns]


def _section(text: str, title: str) -> str:
    """What stands below the heading that begins with ``title``, to the next of its level or above."""
    begin = re.search(rf"^(#+) {re.escape(title)}", text, re.MULTILINE)
    assert begin is not None, f"there is no section {title}"
    rest = text[begin.end() :]
    end = re.search(rf"^#{{1,{len(begin[1])}}} ", rest, re.MULTILINE)
    return rest[: end.start() if end else None]


def _names(text: str) -> set[str]:
    return set(re.findall(r"`([^`\s]+)`", text))


def _without_code(text: str) -> str:
    return re.sub(r"```.*?```", "", text, flags=re.DOTALL)


@pytest.mark.parametrize("name", ALL_COMMANDS)
def test_a_command_has_help_and_an_example_of_itself(name: str):
    said = ALL_COMMANDS[name].help or ""

    assert re.match(r"[A-Z].+\.", said)
    assert re.search(rf"Examples?:\n(.*\n)*? +(OARPY_HOME=\S+ )?{name} ?", said + "\n")


@pytest.mark.parametrize("name", ALL_COMMANDS)
def test_every_option_says_what_it_does(name: str):
    mute = [each.name for each in ALL_COMMANDS[name].params if isinstance(each, click.Option) and not each.help]

    assert mute == []


@pytest.mark.parametrize("name", COMMANDS)
def test_the_readme_has_a_line_for_each_command(name: str):
    assert [row for row in _rows(README, 2) if f"`{name}`" in row[0]]


def test_the_readme_names_what_oarpy_itself_can_do():
    line = next(row[1] for row in _rows(README, 2) if row[0] == "`oarpy`")

    for name in ALL_COMMANDS:
        words = name.split()[1:]
        if words and not isinstance(ALL_COMMANDS[name], click.Group):
            assert re.search(rf"`{' '.join(words)}( [A-Z]+)?`", line), name


def _examples() -> Iterator[Any]:
    """Each command line that a document or a help text shows, as (name, words)."""
    for path in DOCUMENTS:
        for block in re.findall(r"^```\n(.*?)^```", path.read_text(encoding="utf-8"), re.DOTALL | re.MULTILINE):
            yield from _lines(path.name, block)
    for name, command in ALL_COMMANDS.items():
        yield from _lines(f"{name} --help", (command.help or "").partition("Example")[2])


def _lines(source: str, block: str) -> Iterator[Any]:
    for line in block.splitlines():
        words = re.sub(r"^ *(\$ |OARPY_HOME=\S+ )?", "", line)
        if words.split(" ")[0] in COMMANDS:
            yield pytest.param(words, id=f"{source}: {words.split('  ')[0]}")


@pytest.mark.parametrize("line", list(_examples()))
def test_an_example_uses_options_that_exist(line: str):
    lexer = shlex.shlex(line, posix=True, punctuation_chars="|&;>")
    lexer.whitespace_split = True
    words = list(lexer)
    words = words[: next((at for at, word in enumerate(words) if word and set(word) <= set("|&;>")), None)]

    name = words.pop(0)
    command = COMMANDS[name]
    while isinstance(command, click.Group) and not words[0].startswith("-"):
        name = words.pop(0)
        command = command.commands[name]
    with suppress(click.exceptions.Exit):  # --help and --version
        command.make_context(name, words)


def test_every_setting_stands_in_the_reference_with_its_default():
    documented = {row[0].strip("`"): row[1] for row in _rows(_section(REFERENCE, "Settings"), 3)[1:]}
    defaults = settings.Settings()
    known = {
        f"{section}.{key}": getattr(getattr(defaults, section), key)
        for section, kind in get_type_hints(settings.Settings).items()
        for key in get_type_hints(kind)
    }

    assert {name: _read(text, known.get(name)) for name, text in documented.items()} == known


def _read(text: str, like: object) -> object:
    if text == "-":
        return None
    if isinstance(like, timedelta):
        return settings.parse_duration(text)
    if isinstance(like, tuple):
        return () if text == "[]" else tuple(text.split(", "))
    if isinstance(like, bool):
        return text == "true"
    if isinstance(like, int | float | dict):
        return ast.literal_eval(text)
    return text


def _titles() -> dict[str, str]:
    """Which heading of the reference speaks of which table."""
    headings = re.findall(r"^### (.+)$", _section(REFERENCE, "Tables"), re.MULTILINE)
    return {name: heading for heading in headings for name in _names(heading.partition(":")[0])}


def test_the_reference_has_each_table_and_no_other():
    assert set(_titles()) == set(tables.metadata.tables)


@pytest.mark.parametrize("name", tables.metadata.tables)
def test_the_reference_has_each_column_of_a_table(name: str):
    first_cells = [row[0] for row in _rows(_section(REFERENCE, _titles()[name]), 2)]

    missing = {column.name for column in tables.metadata.tables[name].columns} - _names(" ".join(first_cells))

    assert missing == set()


def test_the_reference_tells_what_each_event_does():
    documented = {row[0]: row[1:4] for row in _rows(_section(REFERENCE, "Events"), 5)[1:]}

    assert documented == {
        f"`{name}`{' !' if effect.alarms else ''}": [
            SUSPECTS[effect.suspects] + (", certain" if effect.host_at_fault else ""),
            effect.fails.value if effect.fails else "",
            effect.resubmits.value if effect.resubmits is not Resubmits.NONE else "",
        ]
        for name, effect in EFFECTS.items()
    }


def _events_written() -> set[str]:
    """The types of the events that the server makes, as far as they stand in its code as they are."""
    found = set()
    for path in sorted((ROOT / "oarpy").rglob("*.py")):
        for node in ast.walk(ast.parse(path.read_text(encoding="utf-8"))):
            if isinstance(node, ast.Call) and node.args and ast.unparse(node.func) in ("Event", "events.Event"):
                match node.args[0]:
                    case ast.Constant(str(name)):
                        found.add(name)
    return found


def test_the_reference_has_each_event_that_the_server_writes():
    assert _events_written() - _names(_section(REFERENCE, "Events")) == set()


def test_the_reference_has_each_exit_status():
    documented = {(row[0], row[1]) for row in _rows(_section(REFERENCE, "Exit statuses"), 3)[1:]}

    assert documented == {(str(int(status)), status.name) for status in ExitStatus}


def test_the_user_guide_names_no_other_exit_statuses():
    said = {number for row in _rows(_section(USER_GUIDE, "Exit statuses"), 2)[1:] for number in row[0].split(", ")}

    assert said <= {str(int(status)) for status in ExitStatus}


@pytest.mark.parametrize("kind", [JobState, ResourceState, EndCause])
def test_the_reference_has_each_state_and_cause(kind: Any):
    assert {member.value for member in kind} - _names(_section(REFERENCE, "States")) == set()


@pytest.mark.parametrize("name", ["user-guide", "admin-guide"])
def test_a_guide_lists_its_sections_in_their_order(name: str):
    text = _without_code((ROOT / f"docs/{name}.md").read_text(encoding="utf-8"))
    head, *sections = re.split(r"^## ", text, flags=re.MULTILINE)

    assert re.findall(r"^- \[(.+)\]\(#", head, re.MULTILINE) == [each.partition("\n")[0] for each in sections]


def test_the_admin_guide_names_the_rules_of_a_new_instance():
    said = _section((ROOT / "docs/admin-guide.md").read_text(encoding="utf-8"), "Admission rules")
    rows = [row[0] for row in _rows(said, 2)]

    rules = sorted(path.name for path in (ROOT / "conf/admission_rules.d").glob("*.py"))
    assert [row.strip("`") for row in rows if row.endswith(".py`")] == rules


def test_the_user_guide_explains_each_cause_of_an_end():
    assert {cause.value for cause in EndCause} - _names(_section(USER_GUIDE, "Looking")) == set()


def test_the_admin_guide_tells_which_states_of_nodes_follow_each_other():
    said = _section((ROOT / "docs/admin-guide.md").read_text(encoding="utf-8"), "States of nodes")
    sentence = re.search(r"Allowed changes: (.*?)\. ", said, re.DOTALL)
    assert sentence is not None
    documented = {}
    for part in sentence[1].split(";"):
        before, *after = re.findall(r"`(\w+)`", part)
        documented[before] = set(after) or {state.value for state in ResourceState} - {before}

    pairs = {(before, each) for before, after in documented.items() for each in after}
    assert pairs == {(before.value, after.value) for before, after in RESOURCE.pairs()}


def _links() -> Iterator[Any]:
    for path in DOCUMENTS:
        for target in re.findall(r"\]\(([^)\s]+)\)", _without_code(path.read_text(encoding="utf-8"))):
            if not target.startswith(("http://", "https://")):
                yield pytest.param(path, target, id=f"{path.name}: {target}")


@pytest.mark.parametrize(("path", "target"), list(_links()))
def test_a_link_leads_somewhere(path: Path, target: str):
    place, _, anchor = target.partition("#")
    found = path.parent / place if place else path

    assert found.exists()
    if anchor:
        assert anchor in _anchors(found.read_text(encoding="utf-8"))


def _anchors(text: str) -> set[str]:
    headings = re.findall(r"^#+ (.+)$", _without_code(text), re.MULTILINE)
    return {re.sub(r"[^\w\- ]", "", heading.lower()).replace(" ", "-") for heading in headings}


def _modules_named() -> Iterator[str]:
    """What the architecture calls ``package.module`` of oarpy, or ``package/module.py``."""
    text = (ROOT / "docs/architecture.md").read_text(encoding="utf-8")
    for package, module in re.findall(r"`(?:oarpy[./])?(\w+)[./](\w+)(?:\.\w+)?`", text):
        if (ROOT / "oarpy" / package).is_dir():
            yield f"{package}.{module}"


@pytest.mark.parametrize("name", sorted(set(_modules_named())))
def test_a_module_that_the_architecture_names_exists(name: str):
    path = ROOT / "oarpy" / name.replace(".", "/")
    assert path.with_suffix(".py").is_file() or (path / "__init__.py").is_file()


def test_the_architecture_names_each_package():
    table = (ROOT / "docs/architecture.md").read_text(encoding="utf-8").partition("## Layers")[2]
    packages = {path.parent.name for path in (ROOT / "oarpy").glob("*/__init__.py")}

    assert set(re.findall(r"^\| `(\w+)` \|", table, re.MULTILINE)) == packages
