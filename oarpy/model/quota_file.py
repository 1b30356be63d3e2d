"""Quotas as OAR 3 writes them: one JSON object.

``quotas`` are the rules of the set ``default``.  ``periodical`` and ``oneshot`` say when
other sets hold, and every other member is such a set.  A rule is
``"queue,project,type,user": [resources, running jobs, resource-hours]``, -1 for no limit.
``job_types`` lists the types that rules may name.
"""

from __future__ import annotations

import json
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from datetime import UTC, datetime, tzinfo
from typing import Any, NamedTuple

from oarpy.errors import SyntaxRefused
from oarpy.model.quota_calendar import ANY, instant, parse_period
from oarpy.model.quotas import DEFAULT_SET, EACH, TOGETHER, Measure, parse_amount
from oarpy.model.wording import check_printable, excerpt

#: What OAR 3 calls the default set, its two calendars, and the types that it heeds.
QUOTAS, PERIODICAL, ONESHOT, JOB_TYPES = "quotas", "periodical", "oneshot", "job_types"
#: How OAR 3 writes a period that fills what the others leave.
_ALWAYS = ("default", "*,*,*,*")
_DATE = "%Y-%m-%d %H:%M"
_LONGEST = 255
#: So much of a name is told.
_SHOWN = 100


class RuleRow(NamedTuple):
    """A row of the table ``quotas``."""

    ruleset: str
    queue_name: str
    project: str
    job_type: str
    job_user: str
    resources: str | None
    running_jobs: str | None
    resource_hours: str | None


class PeriodRow(NamedTuple):
    """A row of the table ``quota_periods``."""

    ruleset: str
    hours: str = ANY
    weekdays: str = ANY
    days: str = ANY
    months: str = ANY
    begins_at: datetime | None = None
    ends_at: datetime | None = None
    comment: str = ""


@dataclass
class QuotaFile:
    """What a file says; with ``mistakes``, each with its place, the rest is not to be used."""

    rules: list[RuleRow] = field(default_factory=list)
    periods: list[PeriodRow] = field(default_factory=list)
    mistakes: list[str] = field(default_factory=list)


def read_quotas(text: str, zone: tzinfo | None) -> QuotaFile:
    """What a file says whose dates are in the time of ``zone`` (None: of this machine)."""
    try:
        document = json.loads(text, object_pairs_hook=_Members)
    except (ValueError, RecursionError) as error:
        return QuotaFile(mistakes=[f"it is not JSON: {error}"])
    return _Reader(zone).read(document)


class _Members(dict[str, Any]):
    """A JSON object that knows which names it was given twice."""

    def __init__(self, pairs: Iterable[tuple[str, Any]]) -> None:
        pairs = list(pairs)
        super().__init__(pairs)
        names = [name for name, _ in pairs]
        self.twice = sorted({name for name in names if names.count(name) > 1}) if len(self) < len(names) else []


class _Reader:
    def __init__(self, zone: tzinfo | None) -> None:
        self._zone = zone
        self._found = QuotaFile()
        self._types: frozenset[str] | None = None

    def read(self, document: object) -> QuotaFile:
        found = self._found
        if not isinstance(document, _Members):
            self._mistake("the file", "it must be one JSON object")
            return found
        self._twice("the file", document)
        self._job_types(document.get(JOB_TYPES))
        named = {name: value for name, value in document.items() if name not in (PERIODICAL, ONESHOT, JOB_TYPES)}
        if QUOTAS in named and DEFAULT_SET in named:
            self._mistake(DEFAULT_SET, f"the default set is called {QUOTAS} already")
        for name, value in named.items():
            self._set(name, value)
        always: list[PeriodRow] = []
        for place, entry in self._entries(document, PERIODICAL):
            self._try(place, lambda place=place, entry=entry: self._periodical(place, entry, named, always))
        for place, entry in self._entries(document, ONESHOT):
            self._try(place, lambda place=place, entry=entry: self._oneshot(place, entry, named))
        # Where several periods meet the first one counts.
        found.periods += always
        return found

    def _mistake(self, place: str, sentence: str) -> None:
        self._found.mistakes.append(f"{place}: {sentence}")

    def _try(self, place: str, work: Any) -> None:
        try:
            work()
        except SyntaxRefused as refusal:
            self._mistake(place, str(refusal))

    def _twice(self, place: str, members: _Members) -> None:
        for name in members.twice:
            self._mistake(place, f"{excerpt(name)} stands there twice")

    def _job_types(self, types: object) -> None:
        if types is None:
            return
        if not isinstance(types, list) or not all(isinstance(each, str) for each in types):
            self._mistake(JOB_TYPES, "it must be a list of the names of job types")
            return
        self._types = frozenset((*types, TOGETHER))

    def _set(self, name: str, rules: object) -> None:
        if not isinstance(rules, _Members):
            self._mistake(_place(name), "a set of rules must be a JSON object")
            return
        self._twice(_place(name), rules)
        self._try(_place(name), lambda: check_printable(name, "the name of a set", longest=63))
        for key, limits in rules.items():
            place = f"{_place(name)}[{json.dumps(_cut(key))}]"
            self._try(place, lambda place=place, key=key, limits=limits: self._rule(place, name, key, limits))

    def _rule(self, place: str, name: str, key: str, limits: object) -> None:
        parts = [part.strip() for part in key.split(",")]
        if len(parts) != 4:
            raise SyntaxRefused("a rule is called queue,project,type,user")
        for part in parts:
            check_printable(part, "a part of the name", longest=_LONGEST)
        if parts[2] == EACH:
            raise SyntaxRefused(f"{EACH} is not for types; {TOGETHER} is all of them")
        if self._types is not None and parts[2] not in self._types:
            raise SyntaxRefused(f"its type {excerpt(parts[2])} is not among {JOB_TYPES}, so it would bind nobody")
        if not isinstance(limits, list) or len(limits) != 3:
            raise SyntaxRefused("its limits must be [resources, running jobs, resource-hours]")
        row: list[str | None] = []
        for measure, limit in zip(Measure, limits, strict=True):
            try:
                row.append(_amount(limit, measure))
            except SyntaxRefused as refusal:
                self._mistake(f"{place}[{measure.value}]", str(refusal))
        if len(row) == 3:
            self._found.rules.append(RuleRow(_set_name(name), *parts, *row))

    def _entries(self, document: Mapping[str, object], name: str) -> list[tuple[str, object]]:
        entries = document.get(name, [])
        if not isinstance(entries, list):
            self._mistake(name, "it must be a list")
            return []
        return [(f"{name}[{number}]", entry) for number, entry in enumerate(entries)]

    def _periodical(self, place: str, entry: object, sets: Mapping[str, object], always: list[PeriodRow]) -> None:
        when, name, comment = _texts(entry, 2, '["08:00-19:00 mon-fri * *", set, comment]')
        self._known(place, name, sets)
        if when.strip() in _ALWAYS:
            always.append(PeriodRow(_set_name(name), comment=comment))
            return
        try:
            hours, weekdays, days, months = when.split()
        except ValueError:
            raise SyntaxRefused(f"{excerpt(when)} is not hours, weekdays, days of the month and months") from None
        parse_period(name, hours, weekdays, days, months)
        self._found.periods.append(PeriodRow(_set_name(name), hours, weekdays, days, months, comment=comment))

    def _oneshot(self, place: str, entry: object, sets: Mapping[str, object]) -> None:
        begin, end, name, comment = _texts(entry, 3, '["2026-07-01 00:00", "2026-07-10 00:00", set, comment]')
        self._known(place, name, sets)
        begins_at, ends_at = self._date(begin), self._date(end)
        if begins_at >= ends_at:
            raise SyntaxRefused(f"it ends at {end}, which is not after {begin}")
        self._found.periods.append(PeriodRow(_set_name(name), begins_at=begins_at, ends_at=ends_at, comment=comment))

    def _known(self, place: str, name: str, sets: Mapping[str, object]) -> None:
        if name not in sets:
            self._mistake(place, f"there is no set of rules called {excerpt(name)} in the file")

    def _date(self, text: str) -> datetime:
        for pattern in (_DATE, f"{_DATE}:%S"):
            try:
                return datetime.fromtimestamp(
                    instant(datetime.strptime(f"{text} +0000", f"{pattern} %z"), self._zone), UTC
                )
            except (ValueError, OverflowError):
                pass
        raise SyntaxRefused(f"{excerpt(text)} is no date; write it as 2026-07-01 00:00")


def _cut(name: str) -> str:
    return name if len(name) <= _SHOWN else f"{name[:_SHOWN]}..."


def _place(name: str) -> str:
    """The name of a set, in quotes only where it could not be told without."""
    return name if name.isprintable() and len(name) <= _SHOWN else json.dumps(_cut(name))


def _set_name(name: str) -> str:
    return DEFAULT_SET if name == QUOTAS else name


def _texts(entry: object, wanted: int, shape: str) -> list[str]:
    """The texts of a list, whose last one, a comment, may be missing."""
    if not isinstance(entry, list) or not wanted <= len(entry) <= wanted + 1:
        raise SyntaxRefused(f"it must be {shape}")
    if not all(isinstance(each, str) for each in entry):
        raise SyntaxRefused(f"all of {shape} are texts")
    if len(entry) == wanted:
        return [*entry, ""]
    if entry[-1]:
        check_printable(entry[-1], "the comment", longest=_LONGEST)
    return entry


def _amount(limit: object, measure: Measure) -> str | None:
    """What the table has for it: None for no limit."""
    if isinstance(limit, bool) or not isinstance(limit, int | float | str):
        raise SyntaxRefused(f"{excerpt(str(limit))} is no number of {measure.words}")
    if isinstance(limit, float):
        limit = f"{limit:.6f}".rstrip("0").rstrip(".")
    text = "".join(str(limit).split())
    if text == "-1":
        return None
    parse_amount(text, measure)
    return text


def written_quotas(rules: Sequence[RuleRow], periods: Sequence[PeriodRow], zone: tzinfo | None) -> dict[str, object]:
    """The JSON that `read_quotas` reads."""
    document: dict[str, Any] = {}
    periodical: list[list[str]] = []
    oneshot: list[list[str]] = []
    for period in periods:
        name = QUOTAS if period.ruleset == DEFAULT_SET else period.ruleset
        document.setdefault(name, {})
        if period.begins_at is not None and period.ends_at is not None:
            dates = [shown_date(date, zone) for date in (period.begins_at, period.ends_at)]
            oneshot.append([*dates, name, period.comment])
        else:
            periodical.append([shown_when(period), name, period.comment])
    for rule in rules:
        limits = document.setdefault(QUOTAS if rule.ruleset == DEFAULT_SET else rule.ruleset, {})
        limits[shown_key(rule)] = [_written(text) for text in rule[5:]]
    return document | ({PERIODICAL: periodical} if periodical else {}) | ({ONESHOT: oneshot} if oneshot else {})


def shown_key(rule: RuleRow) -> str:
    return ",".join(rule[1:5])


def shown_when(period: PeriodRow) -> str:
    return " ".join(period[1:5])


def shown_date(date: datetime, zone: tzinfo | None) -> str:
    local = date.astimezone(zone)
    return local.strftime(_DATE if not local.second else f"{_DATE}:%S")


def _written(text: str | None) -> int | float | str:
    if text is None:
        return -1
    if text.isdecimal():
        return int(text)
    return text if text.endswith("ALL") else float(text)
