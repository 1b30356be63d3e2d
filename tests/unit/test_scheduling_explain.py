"""Each reason has a sentence, and whoever gives a reason gives the numbers that it needs."""

from __future__ import annotations

import ast
import re
from collections.abc import Iterator
from pathlib import Path

import pytest

import oarpy
from oarpy.scheduling import explain
from oarpy.scheduling.explain import sentence
from oarpy.scheduling.plan import Why

CODES = sorted(name for name, value in vars(explain).items() if name.isupper() and value == name)
SOURCES = sorted(Path(oarpy.__file__).parent.rglob("*.py"))


def names_in(code: str) -> list[str]:
    return re.findall(r"\{(\w+)\}", explain._SENTENCES[code])


def reasons() -> Iterator[tuple[str, list[str], str]]:
    """Code, names of the numbers and place of each ``Why(CODE, {...})`` in the sources."""
    for path in SOURCES:
        for node in ast.walk(ast.parse(path.read_text(encoding="utf-8"))):
            match node:
                case ast.Call(func=ast.Name("Why"), args=[ast.Name(code), ast.Dict(keys=keys)]) if code.isupper():
                    yield code, [ast.literal_eval(key) for key in keys if key], f"{path.name}:{node.lineno}"


def test_there_are_reasons_to_look_at():
    assert len(CODES) > 25
    assert len(list(reasons())) > 15


@pytest.mark.parametrize("code", CODES)
def test_each_reason_has_a_sentence_that_says_its_numbers(code: str):
    numbers: dict[str, object] = {name: 1_700_000_000 + number for number, name in enumerate(names_in(code))}

    said = sentence(Why(code, {**numbers, "total": 7}))

    assert "{" not in said
    assert not said.endswith(".")
    assert "\n" not in said
    for name, value in numbers.items():
        assert str(value) in said or name == "total" or "2023-11-14 22:13:" in said


def test_no_sentence_is_for_a_reason_that_does_not_exist():
    assert set(explain._SENTENCES) == set(CODES)


@pytest.mark.parametrize(("code", "given", "place"), list(reasons()), ids=lambda value: str(value)[:60])
def test_a_reason_is_given_with_all_the_numbers_of_its_sentence(code: str, given: list[str], place: str):
    assert set(names_in(code)) - set(given) == set(), place


def test_instants_are_shown_as_the_caller_wishes():
    why = Why(explain.NOT_BEFORE, {"not_before_s": 1_700_000_000})

    assert sentence(why) == "it must not start before 2023-11-14 22:13:20 UTC"
    assert sentence(why, lambda instant_s: f"<{instant_s}>") == "it must not start before <1700000000>"


def test_a_job_that_must_end_first_is_named_where_it_is_known():
    numbers: dict[str, object] = {"free": 1, "matching": 4, "ahead": 2}

    assert sentence(Why(explain.BUSY, numbers)).endswith("waiting jobs before it: 2")
    assert sentence(Why(explain.BUSY, {**numbers, "awaited": 41})).endswith("before it: 2; job 41 must end first")
