"""schemas/ shows what the automata are, and its README speaks of what there is."""

from __future__ import annotations

import re

import pytest

from oarpy.model.states import JobState, ResourceState
from tools.draw_schemas import PAGES, SCHEMAS, drawings, svg

README = (SCHEMAS / "README.md").read_text(encoding="utf-8")


@pytest.mark.parametrize("name", sorted(drawings()))
def test_the_drawing_is_the_one_that_the_automaton_gives(name: str) -> None:
    assert (SCHEMAS / name).read_text(encoding="utf-8") == drawings()[name], "python -m tools.draw_schemas"


def test_there_are_no_other_drawings() -> None:
    assert {path.name for path in SCHEMAS.iterdir()} == {*drawings(), "README.md"}


@pytest.mark.parametrize("page", PAGES, ids=lambda page: page.automaton.name)
def test_every_event_is_written_on_the_picture(page):
    written = set(re.findall(r'class="e"[^>]*>([^<]+)<', svg(page)))

    assert written == {edge.event.value for edge in page.automaton.edges}


@pytest.mark.parametrize("state", [*JobState, *ResourceState])
def test_the_readme_speaks_of_every_state(state):
    assert f"`{state.value}`" in README


def test_the_readme_shows_every_picture():
    assert set(re.findall(r"\((\w+\.svg)\)", README)) == {name for name in drawings() if name.endswith(".svg")}
