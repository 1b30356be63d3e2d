"""The grammar of ``oarsub -l``: text to tree, tree to text, tree to JSON and back.

::

    wish    := [group ('+' group)*] [',' 'walltime=' duration]
    group   := ['{' filter '}'] ['/'] level ('/' level)*
    level   := ['{' filter '}'] property '=' count ['[' type '=' amount (',' type '=' amount)* ']']
    count   := 1, 2, … | ALL | BEST | BESTHALF | HALF_BEST

The filters of a group, wherever they stand in it, hold for all of it.  What the
user left out (groups, walltime) and the site's names for properties (``nodes``)
are filled in by ``complete``, where the configuration is known.
"""

from __future__ import annotations

from collections.abc import Collection, Mapping, Sequence
from typing import TYPE_CHECKING, NamedTuple

from oarpy.errors import SyntaxRefused
from oarpy.model.durations import MAX_DURATION_S, parse_duration, render_duration
from oarpy.model.identifiers import is_property_name, property_name
from oarpy.model.request import Alternative, Beside, Count, Group, Level, ResourceRequest
from oarpy.model.wording import excerpt

if TYPE_CHECKING:
    from oarpy.model.filters import Filter

MAX_LENGTH = 65_536
MAX_ALTERNATIVES = 64
MAX_GROUPS = 64
MAX_LEVELS = 16
MAX_COUNT = 1_000_000
MAX_AMOUNT = 1_000_000_000
_WORDS = {"ALL": Count.ALL, "BEST": Count.BEST, "BESTHALF": Count.BESTHALF, "HALF_BEST": Count.BESTHALF}
_NO_WORDS: Mapping[str, Count] = {}
_NAMES = {Count.ALL: "ALL", Count.BEST: "BEST", Count.BESTHALF: "BESTHALF"}


class Wish(NamedTuple):
    """One ``-l`` as typed: no groups, or no walltime, where the user named none."""

    groups: tuple[Group, ...] = ()
    walltime_s: int | None = None


class _Parser:
    def __init__(self, text: str) -> None:
        self._text = text
        self._at = 0

    def whole(self) -> Wish:
        groups = []
        if self._word() == "walltime":
            self._at = 0
            walltime_s: int | None = self._walltime()
        else:
            self._at = 0
            groups.append(self._group())
            while self._takes("+"):
                groups.append(self._group())
            if len(groups) > MAX_GROUPS:
                raise self._error(f"there are {len(groups)} groups; {MAX_GROUPS} are allowed")
            walltime_s = self._walltime() if self._takes(",") else None
        if self._at < len(self._text):
            raise self._error("'/', '+', ',walltime=' or the end was expected")
        return Wish(tuple(groups), walltime_s)

    def _group(self) -> Group:
        filters: list[Filter] = []
        levels = [self._level(filters)]
        while self._takes("/"):
            levels.append(self._level(filters))
        if len(levels) > MAX_LEVELS:
            raise self._error(f"a group has {len(levels)} levels; {MAX_LEVELS} are allowed")
        for position, level in enumerate(levels):
            if level.property in (above.property for above in levels[:position]):
                raise self._error(f"a group names {level.property} twice")
        if sum(level.count < 0 for level in levels) > 1:
            raise self._error("only one level of a group can be ALL, BEST or BESTHALF")
        types = [beside.type for level in levels for beside in level.beside]
        if len(set(types)) < len(types):
            raise self._error("a group asks for a type in brackets twice")
        if not filters:
            return Group(tuple(levels))
        from oarpy.model.filter_grammar import all_of

        return Group(tuple(levels), all_of(*filters))

    def _level(self, filters: list[Filter]) -> Level:
        self._braces(filters)
        # A slash may stand before a filter, after it, or on both sides.
        if self._takes("/") and self._braces(filters):
            self._takes("/")
        start = self._at
        name = self._word()
        if not name:
            raise self._error("a property was expected")
        if not self._takes("="):
            raise self._error(f"'=' was expected after {excerpt(name)}")
        count = self._number(MAX_COUNT, "a count", _WORDS)
        beside = self._brackets()
        try:
            return Level(property_name(name), count, beside)
        except SyntaxRefused as refusal:
            self._at = start
            raise self._error(str(refusal)) from None

    def _brackets(self) -> tuple[Beside, ...]:
        found: list[Beside] = []
        if not self._takes("["):
            return ()
        while not found or self._takes(","):
            self._skip_blanks()
            start = self._at
            kind = self._word()
            if not is_property_name(kind):
                self._at = start
                raise self._error("a type of resources was expected")
            if not self._takes("="):
                raise self._error(f"'=' was expected after {excerpt(kind)}")
            found.append(Beside(kind, self._number(MAX_AMOUNT, "an amount")))
        if not self._takes("]"):
            raise self._error("',' or ']' was expected")
        return tuple(found)

    def _number(self, most: int, what: str, words: Mapping[str, Count] = _NO_WORDS) -> int:
        self._skip_blanks()
        start = self._at
        text = self._word()
        if text.upper() in words:
            return words[text.upper()]
        number = int(text[:10]) if text.isascii() and text.isdigit() else None
        if number and number <= most and len(text) <= 10:
            return number
        self._at = start
        if number is None:
            also = " or " + ", ".join(_NAMES.values()) if words else ""
            raise self._error(f"{what} was expected: 1, 2, …{also}")
        if not text.strip("0"):
            raise self._error(f"{what} of 0 asks for nothing")
        raise self._error(f"{what} is at most {most}")

    def _walltime(self) -> int:
        self._skip_blanks()
        if self._word() != "walltime" or not self._takes("="):
            raise self._error("only walltime=h[:m[:s]] can follow a comma, or such as walltime=90m")
        duration, _, _ = self._text[self._at :].partition(",")
        self._at += len(duration)
        return parse_duration(duration.strip())

    def _braces(self, filters: list[Filter]) -> bool:
        """Whether there were any."""
        before = len(filters)
        while self._takes("{"):
            from oarpy.model.filter_grammar import parse_filter

            start = self._at
            end = self._closing_brace()
            try:
                filters.append(parse_filter(self._text[start:end]))
            except SyntaxRefused as refusal:
                raise SyntaxRefused(f"in {{{excerpt(self._text[start:end])}}}: {refusal}") from None
            self._at = end + 1
        return len(filters) > before

    def _closing_brace(self) -> int:
        quote = ""
        for position in range(self._at, len(self._text)):
            character = self._text[position]
            if quote:
                quote = "" if character == quote else quote
            elif character in "'\"":
                quote = character
            elif character == "}":
                return position
        raise self._error("a '{' is never closed")

    def _word(self) -> str:
        self._skip_blanks()
        start = self._at
        while self._at < len(self._text) and (self._text[self._at].isalnum() or self._text[self._at] in "_-."):
            self._at += 1
        return self._text[start : self._at]

    def _takes(self, character: str) -> bool:
        self._skip_blanks()
        if not self._text.startswith(character, self._at):
            return False
        self._at += 1
        self._skip_blanks()
        return True

    def _skip_blanks(self) -> None:
        while self._at < len(self._text) and self._text[self._at].isspace():
            self._at += 1

    def _error(self, problem: str) -> SyntaxRefused:
        return SyntaxRefused(f"in the resource request {excerpt(self._text)} at character {self._at + 1}: {problem}")


def parse_wish(text: str) -> Wish:
    """One ``-l``.

    Raises:
        SyntaxRefused: with the character at which the grammar is left.
    """
    if len(text) > MAX_LENGTH:
        raise SyntaxRefused(f"a resource request has {len(text)} characters; {MAX_LENGTH} are allowed")
    return _Parser(text).whole()


def parse_wishes(texts: Sequence[str]) -> tuple[Wish, ...]:
    """All ``-l`` of a submission, in order; none at all is one empty wish."""
    if len(texts) > MAX_ALTERNATIVES:
        raise SyntaxRefused(f"there are {len(texts)} resource requests; {MAX_ALTERNATIVES} are allowed")
    return tuple(map(parse_wish, texts)) or (Wish(),)


def complete(
    wishes: Sequence[Wish],
    *,
    groups: tuple[Group, ...],
    walltime_s: int,
    aliases: Mapping[str, str],
    everywhere: Filter | None = None,
) -> ResourceRequest:
    """``wishes`` with the site's defaults for what they leave out.

    ``aliases`` maps the names that users may give to a property to its column
    (``nodes`` to ``network_address``); ``everywhere``, the ``-p`` of the job, is
    added to the filter of every group.
    """
    return ResourceRequest(
        tuple(
            Alternative(
                tuple(_completed(group, aliases, everywhere) for group in wish.groups or groups),
                wish.walltime_s or walltime_s,
            )
            for wish in wishes
        )
    )


def _completed(group: Group, aliases: Mapping[str, str], everywhere: Filter | None) -> Group:
    from oarpy.model.filter_grammar import all_of

    levels = tuple(
        Level(aliases.get(level.property, level.property), level.count, level.beside) for level in group.levels
    )
    filters = [each for each in (group.filter, everywhere) if each is not None]
    return Group(levels, all_of(*filters) if filters else None)


def properties_of(request: ResourceRequest) -> Collection[str]:
    """Every property that a level or a filter of ``request`` names."""
    from oarpy.model import filter_grammar

    names: set[str] = set()
    for group in (group for alternative in request.alternatives for group in alternative.groups):
        names.update(level.property for level in group.levels)
        if group.filter is not None:
            names |= filter_grammar.properties_of(group.filter)
    return frozenset(names)


def render_request(request: ResourceRequest) -> str:
    """OAR's ``wanted_resources``: each alternative as a ``-l`` that means the same."""
    return " ".join(f'-l "{render_wish(alternative)}"' for alternative in request.alternatives)


def render_wish(wish: Wish | Alternative) -> str:
    """A text that ``parse_wish`` makes this of."""
    parts = ["+".join(map(_rendered_group, wish.groups))] if wish.groups else []
    if wish.walltime_s is not None:
        parts.append(f"walltime={render_duration(wish.walltime_s)}")
    return ",".join(parts)


def _rendered_group(group: Group) -> str:
    levels = "".join(map(render_level, group.levels))
    if group.filter is None:
        return levels
    from oarpy.model.filter_grammar import render_filter

    return f"{{{render_filter(group.filter)}}}{levels}"


def render_level(level: Level) -> str:
    """``/property=count``, with its brackets."""
    count = _NAMES[Count(level.count)] if level.count < 0 else level.count
    beside = ",".join(f"{beside.type}={beside.amount}" for beside in level.beside)
    return f"/{level.property}={count}" + (f"[{beside}]" if beside else "")


def request_to_json(request: ResourceRequest) -> list[object]:
    """``[[groups, walltime_s], …]``.

    A group is ``[[[property, count], …], filter]``, and a level with brackets
    ``[property, count, [[type, amount], …]]``.
    """
    return [_alternative_to_json(each) for each in request.alternatives]


def wishes_to_json(wishes: Sequence[Wish]) -> list[object]:
    """As ``request_to_json``, with an empty list or null for what was left out."""
    return [_alternative_to_json(each) for each in wishes]


def _alternative_to_json(each: Wish | Alternative) -> list[object]:
    return [[_group_to_json(group) for group in each.groups], each.walltime_s]


def _group_to_json(group: Group) -> list[object]:
    levels = [_level_to_json(level) for level in group.levels]
    if group.filter is None:
        return [levels, None]
    from oarpy.model.filter_grammar import filter_to_json

    return [levels, filter_to_json(group.filter)]


def _level_to_json(level: Level) -> list[object]:
    if not level.beside:
        return [level.property, level.count]
    return [level.property, level.count, [[beside.type, beside.amount] for beside in level.beside]]


def request_from_json(document: object) -> ResourceRequest:
    """The request that ``request_to_json`` wrote.

    Raises:
        SyntaxRefused: ``document`` is no such thing.
    """
    alternatives = []
    for wish in wishes_from_json(document):
        if not wish.groups or wish.walltime_s is None:
            raise SyntaxRefused("a resource request in JSON lacks its groups or its walltime")
        alternatives.append(Alternative(wish.groups, wish.walltime_s))
    return ResourceRequest(tuple(alternatives))


def wishes_from_json(document: object) -> tuple[Wish, ...]:
    """The wishes that ``wishes_to_json`` wrote.

    Raises:
        SyntaxRefused: ``document`` is no such thing.
    """
    match document:
        case [_, *_] if len(document) <= MAX_ALTERNATIVES:
            return tuple(map(_wish_from_json, document))
    raise SyntaxRefused(f"{excerpt(repr(document))} is not a list of resource requests in JSON")


def _wish_from_json(document: object) -> Wish:
    match document:
        case [list(groups), None] if len(groups) <= MAX_GROUPS:
            return Wish(tuple(map(_group_from_json, groups)))
        case [list(groups), int(walltime_s)] if len(groups) <= MAX_GROUPS and 0 < walltime_s <= MAX_DURATION_S:
            return Wish(tuple(map(_group_from_json, groups)), int(walltime_s))
    raise SyntaxRefused(f"{excerpt(repr(document))} is not a resource request in JSON")


def _group_from_json(document: object) -> Group:
    match document:
        case [[_, *_] as levels, condition] if len(levels) <= MAX_LEVELS:
            if condition is None:
                return Group(tuple(map(_level_from_json, levels)))
            from oarpy.model.filter_grammar import filter_from_json

            return Group(tuple(map(_level_from_json, levels)), filter_from_json(condition))
    raise SyntaxRefused(f"{excerpt(repr(document))} is not a group of resources in JSON")


def _level_from_json(document: object) -> Level:
    match document:
        case [str(name), int(count), *beside] if is_property_name(name) and (0 < count <= MAX_COUNT or count in _NAMES):
            match beside:
                case []:
                    return Level(name, int(count))
                case [[_, *_] as amounts]:
                    return Level(name, int(count), tuple(map(_beside_from_json, amounts)))
    raise SyntaxRefused(f"{excerpt(repr(document))} is not a level of resources in JSON")


def _beside_from_json(document: object) -> Beside:
    match document:
        case [str(kind), int(amount)] if is_property_name(kind) and 0 < amount <= MAX_AMOUNT:
            return Beside(kind, int(amount))
    raise SyntaxRefused(f"{excerpt(repr(document))} is not an amount of resources in JSON")
