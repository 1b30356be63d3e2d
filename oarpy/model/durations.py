"""Durations: OAR's ``hours[:minutes[:seconds]]``, and what people write besides, ``90m`` or ``2h30``."""

from __future__ import annotations

from collections.abc import Callable

from oarpy.errors import SyntaxRefused
from oarpy.model.wording import excerpt

#: Ten years: more is a mistake in typing, and far from any overflow.
MAX_DURATION_S = 10 * 365 * 86_400
#: From the longest to the shortest; a number without a unit at the end has the next shorter one.
_UNITS = {"w": 604_800, "d": 86_400, "h": 3600, "m": 60, "s": 1}
_NAMES = {
    name: unit
    for unit, names in {
        "w": "w wk week weeks",
        "d": "d day days",
        "h": "h hr hrs hour hours",
        "m": "m min mins minute minutes",
        "s": "s sec secs second seconds",
    }.items()
    for name in names.split()
}


def parse_duration(text: str) -> int:
    """Seconds in ``h[:m[:s]]``: ``90:0`` is ninety hours, ``0:90`` an hour and a half.

    Or in numbers with units, the longest first: ``90m``, ``1d12h``; ``2h30`` is two
    hours and a half.

    Raises:
        SyntaxRefused: not of that form, zero, or longer than ``MAX_DURATION_S``.
    """
    parts = text.split(":")
    if len(parts) <= 3 and all(_is_number(part) for part in parts):
        seconds = sum(int(part) * unit for part, unit in zip(parts, (3600, 60, 1), strict=False))
    else:
        with_units = _in_units(text)
        if with_units is None:
            raise SyntaxRefused(
                f"{excerpt(text)} is not a duration; write hours[:minutes[:seconds]], such as 1:30:0, or 90m, 2h30, 1d"
            )
        seconds = with_units
    return _possible(seconds, text)


def parse_seconds(text: str) -> int:
    """The same where a number alone means seconds; raises ``SyntaxRefused``."""
    return _possible(int(text), text) if _is_number(text) else parse_duration(text)


def _is_number(text: str) -> bool:
    return text.isascii() and text.isdigit() and len(text) <= 9


def _possible(seconds: int, text: str) -> int:
    if seconds == 0:
        raise SyntaxRefused(f"a duration of {excerpt(text)} is no time at all; a second is the least")
    if seconds > MAX_DURATION_S:
        raise SyntaxRefused(f"a duration of {excerpt(text)} is longer than the {MAX_DURATION_S // 3600} hours allowed")
    return seconds


def _in_units(text: str) -> int | None:
    """Seconds in numbers with units, None when it is no such thing."""
    left = list(_UNITS)
    seconds = at = 0
    if not text or text[-1].isspace() or len(text) > 60:
        return None
    while at < len(text):
        digits, at = _run(text, at, str.isdigit)
        name, at = _run(text, at, str.isalpha)
        unit = _NAMES.get(name.lower()) if name else left[0] if len(left) < len(_UNITS) and left else None
        if not _is_number(digits) or unit not in left or (not name and at < len(text)):
            return None
        seconds += int(digits) * _UNITS[unit]
        left = left[left.index(unit) + 1 :]
    return seconds


def _run(text: str, at: int, belongs: Callable[[str], bool]) -> tuple[str, int]:
    """The characters from ``at`` on that belong together, blanks around them left out, and the place after."""
    while at < len(text) and text[at] == " ":
        at += 1
    start = at
    while at < len(text) and belongs(text[at]):
        at += 1
    run = text[start:at]
    while at < len(text) and text[at] == " ":
        at += 1
    return run, at


def render_duration(seconds: int) -> str:
    """``h:m:s`` without padding, the form of ``walltime`` in ``oarstat -f``."""
    minutes, rest_s = divmod(seconds, 60)
    hours, minutes = divmod(minutes, 60)
    return f"{hours}:{minutes}:{rest_s}"


def render_elapsed(seconds: int) -> str:
    """``h:mm:ss``, the form of the duration column of ``oarstat``."""
    minutes, rest_s = divmod(seconds, 60)
    hours, minutes = divmod(minutes, 60)
    return f"{hours}:{minutes:02}:{rest_s:02}"
