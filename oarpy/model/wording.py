"""How refusals quote what a user typed, and others what a program said."""

from __future__ import annotations

from collections.abc import Iterable

from oarpy.errors import SyntaxRefused


def excerpt(text: str, longest: int = 40) -> str:
    """``text`` in quotes, printable and cut, to be named in a sentence."""
    return repr(text if len(text) <= longest else text[: longest - 3] + "...")


def last_line(text: str, longest: int = 300) -> str:
    """What a program said last, as it may stand in a table and a listing: printable and cut."""
    lines = text.strip().splitlines()
    last = lines[-1].strip()[:longest] if lines else ""
    return "".join(character if character.isprintable() else "?" for character in last)


def did_you_mean(name: str, known: Iterable[str]) -> str:
    """The end of a sentence about a ``name`` that is not ``known``: the one that was probably meant, if any."""
    from difflib import get_close_matches

    by_small = {each.lower(): each for each in known}
    close = get_close_matches(name.lower(), by_small, n=1)
    return f"; did you mean {by_small[close[0]]}?" if close else ""


def check_printable(text: str, what: str, *, longest: int, exit_status: int | None = None) -> str:
    """``text``, when it is short, not empty, and all its characters can be printed on one line.

    Raises:
        SyntaxRefused: it is not; the sentence begins with ``what``.
    """
    if not text:
        raise SyntaxRefused(f"{what} is empty", exit_status=exit_status)
    if len(text) > longest:
        raise SyntaxRefused(f"{what} has {len(text)} characters; {longest} are allowed", exit_status=exit_status)
    if not text.isprintable():
        raise SyntaxRefused(f"{what} {excerpt(text)} has characters that cannot be printed", exit_status=exit_status)
    return text
