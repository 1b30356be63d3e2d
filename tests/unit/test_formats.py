"""The formats of listings, each against a file and against a reader of that format."""

import io
import json
import os
import subprocess
import sys
from importlib import import_module
from pathlib import Path
from xml.etree import ElementTree

import pytest
import yaml

from oarpy.commands import formats, start, terminal
from oarpy.commands.listing import printable
from oarpy.errors import RequestRefused

GOLDEN = Path(__file__).parents[1] / "golden"
AWKWARD = [
    "", " ", "a ", "yes", "No", "null", "~", "true", "-", "- a", "a: b", "a:", "a #b", "#", "@x", "1", "007", "1e3",
    "0x1f", ".5", "+1", "1:30:0", "2026-01-02", "it's", 'say "x"', "back\\slash", "tab\there", "two\nlines", "ünïcödé",
    "日本", "😀", "\x1b[2J", "\u2028", '"$x@y\\ \x07\n',
    "%", "{a}", "[a]", "a,b", "=", "!", "&x", "*x", "|", ">", "?", "`", "<&>\"'",
]  # fmt: skip
DOCUMENT = {
    "7": {"name": None, "walltime": 5400, "types": ["a", "b=1"], "events": [], "share": 0.25, "flag": True},
    "8": {"name": 'it\'s <one> & "two"', "types": [], "nested": [{"hosts": ["c1"]}, []], "none": {}, "flag": False},
}


@pytest.mark.parametrize("style", ["json", "ndjson", "yaml", "xml", "dumper"])
def test_a_document_is_written_as_ever(style: str) -> None:
    assert formats.rendered(DOCUMENT, style) == (GOLDEN / f"formats.{style}").read_text()


@pytest.mark.parametrize("text", AWKWARD)
def test_any_text_is_read_back_from_yaml(text: str) -> None:
    document = {text: text, "list": [text, [text]]}

    assert yaml.safe_load(formats.rendered(document, "yaml")) == document


@pytest.mark.parametrize("text", AWKWARD)
def test_any_text_that_can_be_printed_is_read_back_from_xml(text: str) -> None:
    found = ElementTree.fromstring(formats.rendered({text: [text]}, "xml").encode()).find("hashref/item")

    shown = printable(text, but="\n\t")
    assert found is not None
    assert found.findtext("arrayref/item") == shown


def test_yaml_has_the_whole_document() -> None:
    assert yaml.safe_load(formats.rendered(DOCUMENT, "yaml")) == DOCUMENT


def test_what_perl_evaluates_is_the_document() -> None:
    program = (
        r"""local $/; my $d = eval <STDIN>; print join("\0", @{$d->{texts}}, $d->{"a'b\\"}[0] + 1, ref $d->{of})"""
    )
    text = formats.rendered({"texts": AWKWARD, "a'b\\": [1, None], "of": {}}, "dumper")

    read = subprocess.run(["perl", "-e", program], input=text.encode(), capture_output=True, check=True).stdout

    assert read.decode().split("\0") == [*AWKWARD, "2", "HASH"]


@pytest.mark.parametrize("style", ["json", "ndjson", "yaml", "xml", "dumper"])
def test_no_text_of_a_job_controls_the_terminal(style: str) -> None:
    text = '\x1b[2J \x9b2J \x7f \u2028 $HOME @{[ `id` ]} \\ "'

    shown = formats.rendered({"7": {"command": text}}, style)

    assert shown.replace("\n", "").isprintable()
    if style == "json":
        assert json.loads(shown) == {"7": {"command": text}}


def test_many_entries_are_one_line_each() -> None:
    document = {str(number): {"id": number, "types": ["a"]} for number in range(1000)}

    lines = formats.rendered(document, "json").splitlines()

    assert json.loads("\n".join(lines)) == document
    assert len(lines) == 1002


def test_entries_that_are_values_have_names_in_lines() -> None:
    assert formats.rendered({"7": "Running"}, "ndjson", names=("id", "state")) == '{"id": 7, "state": "Running"}\n'


def test_fields_are_chosen_in_the_order_that_was_asked_for() -> None:
    chosen = formats.only(DOCUMENT, formats.chosen("types, name,types"))

    assert next(list(entry.items()) for entry in chosen.values()) == [("types", ["a", "b=1"]), ("name", None)]


def test_a_field_that_does_not_exist_is_refused_with_the_one_that_was_meant() -> None:
    with pytest.raises(RequestRefused, match=r"there is no field 'waltime'; did you mean walltime\?"):
        formats.only(DOCUMENT, ["waltime"])


def test_a_table_has_its_fields_below_each_other() -> None:
    entries = {"7": {"id": 7, "name": None, "types": ["a", "b"]}, "12": {"id": 12, "name": "x\ny", "types": []}}

    assert formats.table(entries, ["id", "name", "types"]) == ["id name types", "7  -    a,b", r"12 x\ny -"]


class _Terminal(io.StringIO):
    def isatty(self) -> bool:
        return True

    def fileno(self) -> int:
        return 1


@pytest.mark.parametrize(
    ("stream", "environment", "expected"),
    [
        (_Terminal(), {"TERM": "xterm"}, True),
        (_Terminal(), {"TERM": "xterm", "NO_COLOR": "1"}, False),
        (_Terminal(), {"TERM": "dumb"}, False),
        (_Terminal(), {}, False),
        (io.StringIO(), {"TERM": "xterm"}, False),
    ],
)
def test_colours_are_for_a_terminal_whose_reader_wants_them(monkeypatch, stream, environment, expected) -> None:
    for name in ("TERM", "NO_COLOR"):
        monkeypatch.delenv(name, raising=False)
    for name, value in environment.items():
        monkeypatch.setenv(name, value)
    monkeypatch.setattr(sys, "stdout", stream)
    monkeypatch.setattr("os.get_terminal_size", lambda descriptor: os.terminal_size((80, 24)))

    assert terminal.coloured() is expected


def test_a_line_is_cut_where_the_terminal_ends() -> None:
    assert terminal.fitted("abcdef", 4) == "abc…"
    assert terminal.fitted("abcd", 4) == "abcd"
    assert terminal.fitted("abcdef", None) == "abcdef"


NAMES = [name for name in vars(start) if name.startswith("oar") and name != "oarpy"]


@pytest.mark.parametrize("name", NAMES)
def test_a_command_that_prints_json_has_a_schema(name: str) -> None:
    command = getattr(import_module(f"oarpy.commands.{name}"), name)

    prints = any("--json" in option.opts for option in command.params)

    assert prints == (Path(formats.__file__).parent / f"json_schemas/{name}.json").exists()
