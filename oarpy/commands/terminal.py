"""What a person at a terminal sees and a program does not: colours, and tables that fit.

Some programs run the commands on a terminal of their own making, so what they parse (the
first columns of tables, whole records) is never touched.
"""

from __future__ import annotations

import os
import sys

_COLOURS = {"R": "32", "F": "32", "L": "32", "W": "33", "H": "35", "S": "35", "E": "31", "T": "34"}


def width() -> int | None:
    """Columns of the terminal that is standard output, None when it is none."""
    try:
        if not sys.stdout.isatty():
            return None
        return os.get_terminal_size(sys.stdout.fileno()).columns or None
    except (OSError, ValueError):
        return None


def coloured() -> bool:
    """Whether standard output shows colours, and its reader has not declined them (no-color.org)."""
    return not os.environ.get("NO_COLOR") and os.environ.get("TERM", "dumb") != "dumb" and width() is not None


def state_letter(letter: str) -> str:
    """The letter of a job's state in the colour of that state."""
    colour = _COLOURS.get(letter)
    return f"\x1b[{colour}m{letter}\x1b[0m" if colour else letter


def fitted(line: str, columns: int | None) -> str:
    """``line``, cut where the terminal ends."""
    return line if columns is None or len(line) <= columns else line[: max(columns - 1, 1)] + "…"
