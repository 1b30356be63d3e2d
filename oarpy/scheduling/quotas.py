"""What the jobs of a user, a project, a queue or a type may have at once, over the plan.

A quota is a rule with limits (`oarpy.model.quotas`).  All rules that match a job bind
it, except those that another one replaces: one that has a name where the former has
``*`` or ``/``, and is the same elsewhere.

A rule's usage is counted over time: a job is in it for as long as it holds resources in
the plan, and must itself keep every limit that holds at any instant of its walltime.
So a set of rules that ends at eight binds no job that ends at eight, although the next
one is planned a little later.  While a pass lasts, usage only grows.
"""

from __future__ import annotations

from bisect import bisect_left, bisect_right
from collections.abc import Mapping
from itertools import product
from typing import NamedTuple, TypeAlias

from oarpy.model.job_types import BESTEFFORT, split_job_type
from oarpy.model.quotas import DEFAULT_SET, EACH, TOGETHER, Amount, Measure, Rule
from oarpy.model.sharing_types import CONTAINER
from oarpy.scheduling.bits import Bits
from oarpy.scheduling.bounds import Frontier
from oarpy.scheduling.demand import Demand
from oarpy.scheduling.explain import QUOTA, QUOTA_AHEAD, QUOTA_HORIZON, QUOTA_TOO_SMALL
from oarpy.scheduling.gantt import NEVER_S
from oarpy.scheduling.plan import Why
from oarpy.scheduling.platform import Platform
from oarpy.scheduling.snapshot import HeldJob, QuotaRules, Reservation, WaitingJob

#: Jobs of this type are counted and not limited.
EXEMPT = "no_quotas"
_HOUR_S = 3600

_Key: TypeAlias = tuple[str, str, str, str]


class _Asked(NamedTuple):
    """What a job takes of each measure, in their order."""

    resources: int
    jobs: int
    resource_seconds: int


class _Usage:
    """How much of one measure is taken when: a step function, nothing after its last step."""

    def __init__(self, now_s: int) -> None:
        self._times = [now_s]
        self._taken = [0]

    def add(self, begin_s: int, end_s: int, amount: int) -> None:
        first, stop = self._step(begin_s), self._step(end_s)
        self._taken[first:stop] = [taken + amount for taken in self._taken[first:stop]]

    def _step(self, at_s: int) -> int:
        """The index of the step that begins there, made if need be."""
        i = bisect_left(self._times, at_s)
        if i == len(self._times) or self._times[i] != at_s:
            self._times.insert(i, at_s)
            self._taken.insert(i, self._taken[i - 1])
        return i

    def last_above(self, most: int, begin_s: int, end_s: int) -> int | None:
        """The end of the last step that meets ``[begin_s, end_s)`` and on which more than ``most`` is taken."""
        low, high = bisect_right(self._times, begin_s) - 1, bisect_left(self._times, end_s)
        if max(self._taken[low:high]) <= most:
            return None
        at = high - 1
        while self._taken[at] <= most:
            at -= 1
        return self._times[at + 1] if at + 1 < len(self._times) else NEVER_S

    def first_above(self, most: int, begin_s: int) -> tuple[int, int]:
        """(when, how much) at the first instant from ``begin_s`` on with more than ``most``: there is one."""
        low = bisect_right(self._times, begin_s) - 1
        at = next(i for i in range(low, len(self._times)) if self._taken[i] > most)
        return max(self._times[at], begin_s), self._taken[at]


class _Bound(NamedTuple):
    """One limit that a job must keep, of a rule of one set."""

    rules: str
    rule: Rule
    measure: Measure
    limit: int
    usage: _Usage


class _Standing(NamedTuple):
    """What quotas are to all jobs of one queue, project, user and list of types.

    ``bounds`` has for each set of rules the limits that bind these jobs; ``bound`` is
    whether there are any.
    """

    number: int
    usages: tuple[tuple[Measure, _Usage], ...]
    bounds: Mapping[str, tuple[_Bound, ...]]
    bound: bool
    #: What the searches so far have taught about starts from now on, for walltimes and numbers of resources.
    learnt: Frontier


class Verdict(NamedTuple):
    """When quotas allow a job, and what stands in its way before; never is NEVER_S."""

    start_s: int
    why: Why | None = None


class Quotas:
    """The quotas of one pass."""

    def __init__(self, given: QuotaRules, platform: Platform, now_s: int) -> None:
        self._now_s = now_s
        self._sets = {name: {rule.key: rule for rule in rules} for name, rules in given.sets.items()}
        #: What the rules of each key limit, in any set.
        self._limited: dict[_Key, set[Measure]] = {}
        for rule in (rule for rules in given.sets.values() for rule in rules):
            self._limited.setdefault(rule.key, set()).update(rule.limits)
        calendar = given.calendar or ((now_s, DEFAULT_SET),)
        self._begins = [begin_s for begin_s, _ in calendar]
        self._names = [name for _, name in calendar]
        self._until_s = given.until_s
        self._counted: Bits = platform.of_types(given.types)
        self._everything = (self._counted & platform.lasting).bit_count()
        self._standings: dict[tuple[object, ...], _Standing] = {}
        self._usages: dict[tuple[_Key, Measure], _Usage] = {}

    def hold(self, job: HeldJob, held: Bits, end_s: int, *, times: int = 1) -> None:
        """Count a job that holds resources until ``end_s``; as often as ``times``, and -1 takes it out again."""
        asked = _Asked(*(times * amount for amount in self._held(job, held, job.end_s)))
        self._count(self._standing(job), asked, self._now_s, end_s)

    def allows(self, job: HeldJob, held: Bits, end_s: int) -> bool:
        """Whether a job that is not counted may hold what it does from now until ``end_s``."""
        asked = self._held(job, held, end_s)
        standing = self._standing(job)
        return not standing.bound or self._first_refusal(standing, asked, self._now_s, end_s) is None

    def _held(self, job: HeldJob, held: Bits, end_s: int) -> _Asked:
        begun_s = job.started_s if job.started_s is not None else self._now_s
        return self._asked(held, max(end_s - begun_s, 0))

    def add(self, job: WaitingJob | Reservation, taken: Bits, walltime_s: int, start_s: int, end_s: int) -> None:
        """Count a job that is planned to hold resources for ``[start_s, end_s)``."""
        self._count(self._standing(job), self._asked(taken, walltime_s), start_s, end_s)

    def first(self, job: WaitingJob, taken: Bits, walltime_s: int, start_s: int, latest_s: int = NEVER_S) -> Verdict:
        """When the job may take so many resources for all that quotas say, ``start_s`` at the earliest.

        An answer later than ``latest_s`` is only a lower bound.
        """
        standing = self._standing(job)
        if not standing.bound:
            return Verdict(start_s)
        return self._sweep(standing, self._asked(taken, walltime_s), walltime_s, start_s, latest_s)

    def start_s(self, job: WaitingJob, resources: int, walltime_s: int, start_s: int, latest_s: int = NEVER_S) -> int:
        """As `first`, for so many resources that count, without a reason."""
        asked = _Asked(resources, 1, resources * walltime_s)
        return self._sweep(self._standing(job), asked, walltime_s, start_s, latest_s, explain=False).start_s

    def counted(self, taken: Bits) -> int:
        """How many of these resources count."""
        return (taken & self._counted).bit_count()

    def least(self, demand: Demand) -> int:
        """No place of the demand has fewer resources that count."""
        return sum(group.least for group in demand.groups if not group.members & ~self._counted)

    def kind(self, job: WaitingJob) -> int:
        """The same number for all jobs that quotas cannot tell apart."""
        return self._standing(job).number

    def _sweep(
        self,
        standing: _Standing,
        asked: _Asked,
        walltime_s: int,
        start_s: int,
        latest_s: int,
        *,
        explain: bool = True,
    ) -> Verdict:
        why: Why | None = None
        too_small: Why | None = None
        sizes = (asked.resources,)
        known_s = standing.learnt.lower(walltime_s, sizes, self._now_s)
        teaches = start_s <= known_s
        while start_s <= latest_s and start_s < self._until_s:
            refused = self._first_refusal(standing, asked, start_s, start_s + walltime_s)
            if refused is None:
                break
            bound, begin_s, over_s = refused
            if explain:
                if too_small is None and asked[bound.measure] > bound.limit:
                    too_small = self._why(bound, asked, begin_s)
                why = why or too_small or self._why(bound, asked, begin_s)
            start_s = max(over_s, known_s)
        if start_s >= self._until_s:
            start_s, why = NEVER_S, too_small or why or Why(QUOTA_HORIZON, {"until_s": self._until_s})
        if teaches and start_s > known_s:
            standing.learnt.learn(walltime_s, sizes, start_s)
        return Verdict(start_s, why)

    def _standing(self, job: WaitingJob | HeldJob | Reservation) -> _Standing:
        """Which rules are about the job; the same object for all jobs that they cannot tell apart."""
        kind = job.queue, job.project, job.user, job.types, job.besteffort
        standing = self._standings.get(kind)
        if standing is None:
            standing = self._standings[kind] = self._make_standing(job)
        return standing

    def _asked(self, taken: Bits, walltime_s: int) -> _Asked:
        resources = self.counted(taken)
        return _Asked(resources, 1, resources * walltime_s)

    @staticmethod
    def _count(standing: _Standing, asked: _Asked, begin_s: int, end_s: int) -> None:
        for measure, usage in standing.usages:
            usage.add(begin_s, end_s, asked[measure])

    def _first_refusal(
        self, standing: _Standing, asked: _Asked, start_s: int, end_s: int
    ) -> tuple[_Bound, int, int] | None:
        """A limit that a job would break, from when on it holds, and what the job must not start before."""
        at = max(bisect_right(self._begins, start_s) - 1, 0)
        while at < len(self._begins) and (begin_s := max(self._begins[at], start_s)) < end_s:
            over_s = self._begins[at + 1] if at + 1 < len(self._begins) else self._until_s
            for bound in standing.bounds.get(self._names[at], ()):
                most = bound.limit - asked[bound.measure]
                if most < 0:
                    return bound, begin_s, over_s
                taken_s = bound.usage.last_above(most, begin_s, min(end_s, over_s))
                if taken_s is not None:
                    return bound, begin_s, min(taken_s, over_s)
            at += 1
        return None

    def _why(self, bound: _Bound, asked: _Asked, begin_s: int) -> Why:
        measure, most = bound.measure, bound.limit - asked[bound.measure]
        rule = ",".join(bound.rule.key)
        numbers: dict[str, object] = {
            "rule": rule if bound.rules == DEFAULT_SET else f"{bound.rules} {rule}",
            "measure": measure.words,
            "limit": _shown(bound.limit, measure),
            "asked": _shown(asked[measure], measure),
        }
        if most < 0:
            return Why(QUOTA_TOO_SMALL, numbers)
        when_s, taken = bound.usage.first_above(most, begin_s)
        numbers["in_use"] = _shown(taken, measure)
        if when_s <= self._now_s:
            return Why(QUOTA, numbers)
        return Why(QUOTA_AHEAD, numbers | {"when_s": when_s})

    def _make_standing(self, job: WaitingJob | HeldJob | Reservation) -> _Standing:
        number = len(self._standings)
        types = [split_job_type(type_)[0] for type_ in job.types]
        if CONTAINER in types:
            return _Standing(number, (), {}, bound=False, learnt=Frontier())
        queues = [job.queue, EACH]
        if not job.besteffort and BESTEFFORT not in types:
            queues.append(TOGETHER)
        named = product(
            queues, (job.project, EACH, TOGETHER), dict.fromkeys((*types, TOGETHER)), (job.user, EACH, TOGETHER)
        )
        keys = [key for key in dict.fromkeys(named) if key in self._limited]
        usages: dict[tuple[_Key, Measure], _Usage] = {}
        for key in keys:
            for measure in self._limited[key]:
                counter = _own(key, job), measure
                usages[counter] = self._usages.setdefault(counter, _Usage(self._now_s))
        bounds: dict[str, tuple[_Bound, ...]] = {}
        for name, rules in self._sets.items() if EXEMPT not in types else ():
            matching = [rules[key] for key in keys if key in rules]
            bounds[name] = tuple(
                _Bound(name, rule, measure, self._limit(amount, measure), usages[_own(rule.key, job), measure])
                for rule in matching
                if not any(_replaces(other, rule) for other in matching)
                for measure, amount in rule.limits.items()
            )
        counted = tuple((measure, usage) for (_, measure), usage in usages.items())
        return _Standing(number, counted, bounds, any(bounds.values()), Frontier())

    def _limit(self, amount: Amount, measure: Measure) -> int:
        return int(amount.of(self._everything) * (_HOUR_S if measure is Measure.HOURS else 1))


def _own(key: _Key, job: WaitingJob | HeldJob | Reservation) -> _Key:
    """The key of the job's own usage, where a rule counts each by itself."""
    queue, project, type_, user = key
    return (
        job.queue if queue == EACH else queue,
        job.project if project == EACH else project,
        type_,
        job.user if user == EACH else user,
    )


def _replaces(other: Rule, rule: Rule) -> bool:
    """Whether ``other`` says what ``rule`` does, more particularly."""
    wild = (EACH, TOGETHER)
    return other.key != rule.key and all(
        ours == theirs or (theirs in wild and ours not in wild)
        for ours, theirs in zip(other.key, rule.key, strict=True)
    )


def _shown(number: int, measure: Measure) -> int | float:
    if measure is not Measure.HOURS:
        return number
    hours = round(number / _HOUR_S, 2)
    return int(hours) if hours == int(hours) else hours
