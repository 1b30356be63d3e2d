"""Draws the automata of oarpy into schemas/, as DOT and as SVG: ``python -m tools.draw_schemas``.

What is drawn comes from ``oarpy/automata``; this file adds only where each state
stands on the page.  A test compares the files with what this draws.
"""

from __future__ import annotations

import math
from collections.abc import Mapping
from dataclasses import dataclass, field
from enum import Enum
from html import escape
from pathlib import Path
from typing import Any

from oarpy.automata.almighty import ALMIGHTY, Step
from oarpy.automata.job import JOB
from oarpy.automata.machine import Automaton
from oarpy.automata.resource import RESOURCE
from oarpy.model.states import JobState as J
from oarpy.model.states import ResourceState as R

SCHEMAS = Path(__file__).parent.parent / "schemas"

COLUMN, ROW, MARGIN = 178, 120, 90
HEIGHT = 30
LETTER = 7.4
LINE = 12
STYLE = (
    "text{font:13px sans-serif;text-anchor:middle;fill:#222}"
    ".e{font-size:10px;fill:#456}.s{fill:#eef3f8;stroke:#345}.f{fill:#e4e4e4;stroke:#345}"
    ".i{stroke-width:2.4}.l{fill:none;stroke:#789}.b{fill:#fff;fill-opacity:.85}"
)


@dataclass(frozen=True)
class Page:
    """Where the states of an automaton stand, in columns and rows, and which edges leave the straight line.

    A bend is a distance in pixels to the left of the way from one state to the other.
    """

    automaton: Automaton[Any, Any]
    places: Mapping[Enum, tuple[float, float]]
    bends: Mapping[tuple[Enum, Enum], float] = field(default_factory=dict)


PAGES = (
    Page(
        JOB,
        places={
            J.SUSPENDED: (3.3, 0),
            J.RESUMING: (5.4, 0),
            J.HOLD: (0, 1.1),
            J.WAITING: (1, 1.1),
            J.TO_LAUNCH: (2, 1.1),
            J.LAUNCHING: (3, 1.1),
            J.RUNNING: (4.1, 1.1),
            J.FINISHING: (5.4, 1.1),
            J.TERMINATED: (6.5, 1.1),
            J.TO_ACK_RESERVATION: (0.2, 2.9),
            J.TO_ERROR: (1.35, 2.3),
            J.ERROR: (3.4, 2.9),
        },
        bends={
            (J.LAUNCHING, J.WAITING): -100,
            (J.LAUNCHING, J.FINISHING): -80,
            (J.HOLD, J.ERROR): 10,
        },
    ),
    Page(
        RESOURCE,
        places={R.ALIVE: (1.2, 0), R.SUSPECTED: (0, 1.3), R.ABSENT: (2.4, 1.3), R.DEAD: (1.2, 2.6)},
    ),
    Page(
        ALMIGHTY,
        places={
            Step.LISTEN: (0, 1.2),
            Step.SCHEDULE: (1.7, 0),
            Step.CHANGE_NODES: (3.4, 0),
            Step.KILL: (3.4, 2.2),
            Step.WATCH: (1.5, 2.9),
            Step.CHECK: (0.2, 2.9),
        },
        bends={(Step.KILL, Step.LISTEN): -60, (Step.WATCH, Step.SCHEDULE): 70},
    ),
)


def main() -> None:
    """Write all drawings."""
    for name, text in drawings().items():
        (SCHEMAS / name).write_text(text, encoding="utf-8")


def drawings() -> dict[str, str]:
    """The text of each file of schemas/ that is drawn."""
    drawn: dict[str, str] = {}
    for page in PAGES:
        drawn[f"{page.automaton.name}.dot"] = dot(page.automaton)
        drawn[f"{page.automaton.name}.svg"] = svg(page)
    return drawn


def dot(automaton: Automaton[Any, Any]) -> str:
    """The automaton in the language of graphviz."""
    lines = [f"digraph {automaton.name} {{", "    rankdir = LR;", "    node [shape = box, style = rounded];"]
    for state in automaton.states():
        marks = ["penwidth = 2"] if state in automaton.initial else []
        marks += ['style = "rounded,filled"'] if state in automaton.final else []
        lines.append(f'    "{state.value}" [{", ".join(marks)}];')
    lines += [f'    "{e.before.value}" -> "{e.after.value}" [label = "{e.event.value}"];' for e in automaton.edges]
    return "\n".join([*lines, "}", ""])


def svg(page: Page) -> str:
    """The automaton as a picture."""
    automaton = page.automaton
    events: dict[tuple[Enum, Enum], list[str]] = {}
    for edge in automaton.edges:
        events.setdefault((edge.before, edge.after), []).append(edge.event.value)
    width = MARGIN * 2 + COLUMN * max(x for x, _ in page.places.values())
    height = MARGIN * 2 + ROW * max(y for _, y in page.places.values())
    lines, labels = [], []
    for (before, after), names in events.items():
        path, middle = _curve(page, before, after, both_ways=(after, before) in events)
        lines.append(f'<path class="l" d="{path}" marker-end="url(#to)"/>')
        labels += _label(middle, names)
    boxes = [line for state in automaton.states() for line in _box(page, state)]
    return "\n".join(
        [
            f'<svg xmlns="http://www.w3.org/2000/svg" viewBox="0 0 {width:.0f} {height:.0f}" '
            f'width="{width:.0f}" height="{height:.0f}">',
            f"<title>{automaton.name}</title>",
            f"<style>{STYLE}</style>",
            '<defs><marker id="to" viewBox="0 0 8 8" refX="8" refY="4" markerWidth="8" markerHeight="8" '
            'orient="auto"><path d="M0,0 L8,4 L0,8 z" fill="#789"/></marker></defs>',
            '<rect width="100%" height="100%" fill="#fff"/>',
            *lines,
            *boxes,
            *labels,
            "</svg>",
            "",
        ]
    )


def _centre(page: Page, state: Enum) -> tuple[float, float]:
    x, y = page.places[state]
    return MARGIN + COLUMN * x, MARGIN + ROW * y


def _half_width(state: Enum) -> float:
    return len(str(state.value)) * LETTER / 2 + 10


def _curve(page: Page, before: Enum, after: Enum, *, both_ways: bool) -> tuple[str, tuple[float, float]]:
    """The path from state to state and the point in its middle."""
    (x1, y1), (x2, y2) = _centre(page, before), _centre(page, after)
    length = math.hypot(x2 - x1, y2 - y1)
    bend = page.bends.get((before, after), 22.0 if both_ways else 0.0)
    # Twice the bend: a quadratic curve passes half-way to its control point.
    control = (x1 + x2) / 2 + (y2 - y1) / length * bend * 2, (y1 + y2) / 2 - (x2 - x1) / length * bend * 2
    begin, end = _border(page, before, control), _border(page, after, control)
    middle = (begin[0] + 2 * control[0] + end[0]) / 4, (begin[1] + 2 * control[1] + end[1]) / 4
    path = "M{:.1f},{:.1f} Q{:.1f},{:.1f} {:.1f},{:.1f}".format(*begin, *control, *end)
    return path, middle


def _border(page: Page, state: Enum, towards: tuple[float, float]) -> tuple[float, float]:
    """Where the line from the middle of a box to a point leaves the box."""
    x, y = _centre(page, state)
    dx, dy = towards[0] - x, towards[1] - y
    ways = [limit / abs(d) for limit, d in ((_half_width(state), dx), (HEIGHT / 2, dy)) if d]
    return x + dx * min(ways), y + dy * min(ways)


def _box(page: Page, state: Enum) -> list[str]:
    x, y = _centre(page, state)
    half = _half_width(state)
    kind = "f" if state in page.automaton.final else "s"
    kind += " i" if state in page.automaton.initial else ""
    return [
        f'<rect class="{kind}" x="{x - half:.1f}" y="{y - HEIGHT / 2:.1f}" width="{2 * half:.1f}" '
        f'height="{HEIGHT}" rx="8"/>',
        f'<text x="{x:.1f}" y="{y + 4:.1f}">{escape(str(state.value))}</text>',
    ]


def _label(middle: tuple[float, float], names: list[str]) -> list[str]:
    x, y = middle
    half = max(map(len, names)) * 2.9 + 3
    top = y - LINE * len(names) / 2
    box = f'<rect class="b" x="{x - half:.1f}" y="{top:.1f}" width="{2 * half:.1f}" height="{LINE * len(names)}"/>'
    return [
        box,
        *(
            f'<text class="e" x="{x:.1f}" y="{top + LINE * at + 9:.1f}">{escape(name)}</text>'
            for at, name in enumerate(names)
        ),
    ]


if __name__ == "__main__":
    main()
