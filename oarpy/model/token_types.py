"""``-t token:NAME=N``: the job needs N tokens of a kind that a program of the site counts, such as licences."""

from __future__ import annotations

import re
from collections.abc import Collection, Iterable, Mapping

from oarpy.errors import SyntaxRefused
from oarpy.model.wording import excerpt

PREFIX = "token:"
_TYPE = re.compile(r"token:([A-Za-z0-9_][A-Za-z0-9_.-]{0,62})=([1-9][0-9]{0,8})")


def tokens_of(types: Iterable[str]) -> Mapping[str, int]:
    """How many of each kind a job of these types needs; a type that says it wrongly says nothing."""
    found: dict[str, int] = {}
    for each in types:
        match = _TYPE.fullmatch(each) if each.startswith(PREFIX) else None
        if match is not None:
            found[match[1]] = found.get(match[1], 0) + int(match[2])
    return found


def check_token_type(text: str) -> None:
    """Raises ``SyntaxRefused`` for a type called token that does not say how many of what."""
    if _TYPE.fullmatch(text) is None:
        raise SyntaxRefused(f"{excerpt(text)} is not a job type; write token:NAME=N with a number from 1 on")


def check_known(types: Iterable[str], known: Collection[str]) -> None:
    """Raises ``SyntaxRefused`` when a kind of token is named that the site does not count."""
    for name in tokens_of(types):
        if name not in known:
            which = f"these are: {', '.join(sorted(known))}" if known else "there are none"
            raise SyntaxRefused(f"{excerpt(name)} is no kind of token of this site; {which}")
