"""Durations as OAR writes them: ``hours[:minutes[:seconds]]``."""

from __future__ import annotations

from oarpy.errors import SyntaxRefused
from oarpy.model.wording import excerpt

#: Ten years: more is a mistake in typing, and far from any overflow.
MAX_DURATION_S = 10 * 365 * 86_400


def parse_duration(text: str) -> int:
    """Seconds in ``h[:m[:s]]``; ``90:0`` is ninety hours, ``0:90`` an hour and a half.

    Raises:
        SyntaxRefused: not of that form, zero, or longer than ``MAX_DURATION_S``.
    """
    parts = text.split(":")
    if len(parts) > 3 or not all(part.isascii() and part.isdigit() and len(part) <= 9 for part in parts):
        raise SyntaxRefused(f"{excerpt(text)} is not a duration; write hours[:minutes[:seconds]], such as 1:30:0")
    seconds = sum(int(part) * unit for part, unit in zip(parts, (3600, 60, 1), strict=False))
    if seconds == 0:
        raise SyntaxRefused(f"a duration of {excerpt(text)} is no time at all")
    if seconds > MAX_DURATION_S:
        raise SyntaxRefused(f"a duration of {excerpt(text)} is longer than the {MAX_DURATION_S // 3600} hours allowed")
    return seconds


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
