"""The definition of a pass, by brute force: sets of resource positions, and no data structure.

Slow, and meant to be read: what `oarpy.scheduling.decide` must decide is what this
module says, for jobs without dependencies.  Filters are equalities.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from fractions import Fraction

from oarpy.model.filters import Comparison
from oarpy.model.quotas import Measure, Rule
from oarpy.model.request import Alternative, Count, Group, Level
from oarpy.model.states import JobId, JobState, Ordering, Replan, ResourceState
from oarpy.model.token_types import tokens_of
from oarpy.scheduling.snapshot import HeldJob, Reservation, Snapshot, WaitingJob

FOREVER = 10**12
Resources = frozenset[int]
AnyJob = WaitingJob | HeldJob | Reservation


@dataclass(frozen=True)
class Answer:
    """Where a job goes; ``start_s`` is None when it has no place."""

    start_s: int | None
    alternative: int | None = None
    resources: Resources = frozenset()
    ended: bool = False


@dataclass
class Held:
    """Somebody's resources during a period; a running besteffort job's count for few.

    ``space`` is None where they are held in all.  ``shares`` is the time-sharing class of those who may
    have them as well.
    ``placeholder`` is the name of the placeholder that it is.
    """

    begin_s: int
    end_s: int
    resources: Resources
    besteffort: bool = False
    space: int | None = 0
    shares: object = None
    placeholder: str | None = None
    asleep: bool = False


@dataclass(frozen=True)
class Counted:
    """A job as quotas count it."""

    job: AnyJob
    begin_s: int
    end_s: int
    walltime_s: int
    resources: int

    def taken(self, measure: Measure) -> Fraction:
        hours = Fraction(self.resources * self.walltime_s, 3600)
        return {Measure.RESOURCES: Fraction(self.resources), Measure.JOBS: Fraction(1), Measure.HOURS: hours}[measure]


def value(job: AnyJob, type_: str) -> str | None:
    """The value of a type of the job, "" if it has none; None without the type."""
    return next((each.partition("=")[2] for each in job.types if each.partition("=")[0] == type_), None)


def shares(job: AnyJob) -> object:
    """The class of those with whom a job shares time."""
    by = value(job, "timesharing")
    if by is None or placeholder(job) is not None:
        return None
    user, name = by.split(",")
    key = (job.user if user == "user" else None, job.name if name == "name" else None)
    return *key, value(job, "allowed"), job.besteffort


def placeholder(job: AnyJob) -> str | None:
    return None if job.besteffort else value(job, "placeholder")


@dataclass(frozen=True)
class Life:
    """A container: what it has from ``begin_s`` to its planned end; nobody is let in if it is ``closed``."""

    resources: Resources
    begin_s: int
    end_s: int
    running: bool
    name: str
    closed: bool = False


@dataclass(frozen=True)
class Where:
    """Where a job may be placed, and what it may take there that others have."""

    space: int = 0
    shares: object = None
    allowed: str | None = None

    def excludes(self, held: Held) -> bool:
        """Whether the job cannot have what this one has."""
        if held.space not in (None, self.space):
            return False
        if self.shares is not None and held.shares == self.shares:
            return False
        return self.allowed is None or held.placeholder != self.allowed


@dataclass(frozen=True)
class Dispensable:
    job_id: JobId
    resources: Resources
    lost_s: int
    end_s: int
    #: Told to die now it is dead at the one, and its resources count as free from the other on.
    dead_s: int
    gone_s: int
    space: int = 0


@dataclass
class Oracle:
    snapshot: Snapshot
    answers: dict[JobId, Answer] = field(default_factory=dict)
    kills: set[tuple[JobId, JobId]] = field(default_factory=set)

    def __post_init__(self) -> None:
        topology, now = self.snapshot.topology, self.snapshot.now_s
        self.asleep = {
            i: upto
            for i, upto in enumerate(topology.available_upto_s)
            if topology.states[i] is ResourceState.ABSENT and upto is not None and upto > now and not topology.drain[i]
        }
        alive = {i for i, state in enumerate(topology.states) if state is ResourceState.ALIVE and not topology.drain[i]}
        self.awake_or_asleep = frozenset(alive | set(self.asleep))
        #: To jobs that start in this pass: (kind, how many).
        self.tokens_given: list[tuple[str, int]] = []
        self.not_dead = frozenset(i for i, state in enumerate(topology.states) if state is not ResourceState.DEAD)
        #: What the types of the job that is being placed let it start on.
        self.reach = "alive"
        self.lives: dict[int, Life] = {}
        self.where = Where()
        self.all_that_lasts = False
        #: Whether a reservation is judged, which may have all that may be in service one day.
        self.booking = False
        self.undecided = {
            job.job_id: name for job in self.snapshot.waiting if (name := value(job, "container")) is not None
        }
        self.behind: dict[int, list[WaitingJob]] = {}
        self.resumes: set[JobId] = set()
        self.standing: dict[JobId, Held] = {}
        self.certain: set[JobId] = set()
        self.moves = 0
        self.held: list[Held] = []
        self.dispensable: list[Dispensable] = []
        self.chosen: set[JobId] = set()
        self.dead_s: dict[JobId, int] = {}
        self.soon_s: dict[JobId, int] = {}
        self.reserved: dict[str, int] = {}
        self.counted: list[Counted] = []
        self.placed = 0
        self.waiting_on: dict[tuple[int, str], int] = {}

    # Time.

    def up(self, instant: int) -> int:
        grid = self.snapshot.limits.grid_s
        return instant if instant <= self.snapshot.now_s else -(-instant // grid) * grid

    def down(self, instant: int) -> int:
        return instant // self.snapshot.limits.grid_s * self.snapshot.limits.grid_s

    def closing(self, life: Life) -> int:
        return self.down(life.end_s + self.snapshot.limits.security_s)

    def length(self, alternative: Alternative) -> int:
        return alternative.walltime_s + self.snapshot.limits.security_s

    def exact_end_of(self, job: HeldJob) -> int:
        now, security = self.snapshot.now_s, self.snapshot.limits.security_s
        end = job.end_s + security
        if job.killing_until_s is not None:
            end = min(end, job.killing_until_s)
        return end if end > now else now + max(security, 1)

    def end_of(self, job: HeldJob) -> int:
        return self.up(self.exact_end_of(job))

    # Resources.

    @property
    def usable(self) -> Resources:
        everything = self.awake_or_asleep
        if self.booking:
            return frozenset(i for i in self.not_dead if not self.snapshot.topology.drain[i])
        if self.all_that_lasts or (self.reach == "permissive" and self.where.space == 0):
            everything = self.not_dead
        return everything if self.where.space == 0 else everything & self.lives[self.where.space].resources

    def tokens_left(self, name: str) -> int:
        """What was counted, less what those took who have started since."""
        count = self.snapshot.tokens.get(name)
        if count is None or count.free is None:
            return -1
        fresh = [job for job in self.snapshot.held if job.started_s is None or job.started_s >= count.seen_s]
        return (
            count.free
            - sum(tokens_of(job.types).get(name, 0) for job in fresh)
            - sum(number for other, number in self.tokens_given if other == name)
        )

    def reach_of(self, job: AnyJob) -> str:
        on_nodes = not {"noop", "noop=standby", "cosystem"} & set(job.types)
        if "state=permissive" in job.types and not on_nodes:
            return "permissive"
        return "standby" if "noop=standby" in job.types else "alive"

    def sleeps(self, held: Held, now: int) -> bool:
        """Whether it is only that the resource is asleep, which does not matter to the job."""
        wakes = self.reach == "permissive" or (self.reach == "standby" and held.begin_s == now)
        return held.asleep and wakes and self.where.space == 0

    def kind(self, i: int) -> object:
        return self.snapshot.topology.properties.get("type", ["default"] * (i + 1))[i]

    def positions(self, ranges: Iterable[tuple[int, int]]) -> Resources:
        ids = self.snapshot.topology.ids
        return frozenset(i for i, number in enumerate(ids) if any(low <= number < high for low, high in ranges))

    def matching(self, group: Group) -> list[int]:
        properties = self.snapshot.topology.properties
        condition = group.filter
        assert condition is None or isinstance(condition, Comparison)
        return [
            i
            for i in sorted(self.usable)
            if (condition is None or properties[condition.property][i] == condition.value)
            and all(properties[level.property][i] is not None for level in group.levels)
        ]

    def blocks(self, members: Sequence[int], level: Level) -> list[list[int]]:
        found: dict[object, list[int]] = {}
        for i in members:
            found.setdefault(self.snapshot.topology.properties[level.property][i], []).append(i)
        return list(found.values())

    def beside(self, block: Sequence[int], path: Sequence[Level], free: Resources) -> Resources | None:
        """What the innermost level of ``path`` asks for beside one of its blocks; None where there is not enough."""
        properties, taken = self.snapshot.topology.properties, set[int]()
        for wanted in path[-1].beside:
            stock = [
                i
                for i in sorted(self.usable & free)
                if properties["type"][i] == wanted.type
                and all(properties[level.property][i] == properties[level.property][block[0]] for level in path)
            ]
            missing = wanted.amount
            for i in sorted(stock, key=lambda i: (-int(str(properties["quantity"][i])), i)):
                if missing > 0:
                    taken.add(i)
                    missing -= int(str(properties["quantity"][i]))
            if missing > 0:
                return None
        return frozenset(taken)

    def take_level(
        self, members: Sequence[int], path: Sequence[Level], depth: int, free: Resources, *, adjacent: bool
    ) -> Resources | None:
        """What the levels of ``path`` from ``depth`` on take among ``members``; None where they do not fit."""
        levels = path[depth:]
        blocks = self.blocks(members, levels[0])
        if len(levels) == 1:
            suitable = [frozenset(block) if free.issuperset(block) else None for block in blocks]
        else:
            suitable = [self.take_level(block, path, depth + 1, free, adjacent=adjacent) for block in blocks]
        besides = [self.beside(block, path[: depth + 1], free) for block in blocks]
        suitable = [one | more for one, more in zip(suitable, besides, strict=True) if one and more is not None]
        count = levels[0].count
        needed = len(blocks) if count == Count.ALL else max(count, 1)
        if not suitable or len(suitable) < needed:
            return None
        if count in (Count.ALL, Count.BEST):
            chosen = suitable
        else:
            number = count if count > 0 else -(-len(suitable) // 2)
            chosen = suitable[:number]
            if len(levels) == 1 and adjacent and not levels[0].beside:
                singles = sorted(i for block in suitable for i in block)
                runs = [singles[k : k + number] for k in range(len(singles) - number + 1)]
                together = [run for run in runs if run[-1] - run[0] == number - 1]
                if together:
                    return frozenset(together[0])
        return frozenset().union(*chosen)

    def leaves(self, members: Sequence[int], levels: Sequence[Level]) -> list[list[int]]:
        parts = [list(members)]
        for level in levels:
            parts = [block for part in parts for block in self.blocks(part, level)]
        return parts

    def take(self, alternative: Alternative, free: Resources) -> Resources | None:
        taken: Resources = frozenset()
        for group in sorted(alternative.groups, key=lambda group: len(self.matching(group))):
            members = self.matching(group)
            adjacent = all(len(leaf) == 1 for leaf in self.leaves(members, group.levels))
            more = self.take_level(members, group.levels, 0, free - taken, adjacent=adjacent)
            if more is None:
                return None
            taken |= more
        return taken

    # Places.

    def room(self, begin: int, end: int, *, besteffort_counts: bool) -> Resources:
        room = self.usable
        for held in self.held:
            if self.sleeps(held, self.snapshot.now_s):
                continue
            counts = self.where.excludes(held) and (besteffort_counts or not held.besteffort)
            if counts and held.begin_s < end and begin < held.end_s:
                room -= held.resources
        life = self.lives.get(self.where.space)
        if life is not None and (begin < self.up(life.begin_s) or end > self.closing(life)):
            return frozenset()
        return room

    def earliest(
        self,
        job: WaitingJob | None,
        alternative: Alternative,
        first: int,
        latest: int,
        *,
        window: int,
        besteffort_counts: bool,
    ) -> tuple[int, Resources, Resources] | None:
        """(start, room, taken) of the first place within [first, latest]."""
        now = self.snapshot.now_s
        first = self.up(first)
        moments = {now, first} | {edge for held in self.held for edge in (held.begin_s, held.end_s)}
        if self.snapshot.quotas is not None:
            moments |= {self.up(begin) for begin, _ in self.snapshot.quotas.calendar}
            moments |= {one.end_s for one in self.counted}
        moments |= {self.up(life.begin_s) for life in self.lives.values()}
        for start in sorted(moment for moment in moments if first <= moment <= latest and moment < FOREVER):
            room = self.room(start, self.up(start + window), besteffort_counts=besteffort_counts)
            taken = self.take(alternative, room)
            if taken is not None and self.is_within_quotas(job, start, alternative.walltime_s, taken):
                earlier = sorted((moment for moment in moments if now <= moment < start), reverse=True)
                longer = (self.room(m, start, besteffort_counts=besteffort_counts) for m in earlier)
                return start, room, self.take_last(alternative, room, longer) or taken
        return None

    def take_last(self, alternative: Alternative, room: Resources, longer: Iterable[Resources]) -> Resources | None:
        """A place on blocks that become wholly free as late as possible.

        For one group that takes no more than it needs; ``longer`` is what is free from earlier and earlier moments on.
        """
        wanted = alternative.groups[0]
        if len(alternative.groups) > 1 or any(level.count < 0 or level.beside for level in wanted.levels):
            return None
        leaves = [frozenset(leaf) for leaf in self.leaves(self.matching(wanted), wanted.levels)]
        room &= frozenset().union(*leaves)
        late: Resources = frozenset()
        for free in [*longer, frozenset()]:
            # Where nothing else helps, whatever is free will do.
            later, late = late, room.difference(*(leaf for leaf in leaves if leaf <= free)) if free else room
            taken = self.take(alternative, late)
            if taken is not None:
                if len(wanted.levels) > 1 or not later:
                    return taken
                first = [leaf for leaf in leaves if leaf <= later]
                others = [leaf for leaf in leaves if leaf <= late and leaf not in first]
                return frozenset().union(*first, *others[: wanted.levels[0].count - len(first)])
        return None

    def search(
        self, job: WaitingJob, first: int, latest: int, *, at_most: int = FOREVER, besteffort_counts: bool = False
    ) -> tuple[int, int, Resources, Resources] | None:
        """(alternative, start, room, taken) of the alternative that ends first."""
        best: tuple[int, int, Resources, Resources] | None = None
        best_end = FOREVER
        for index, alternative in enumerate(job.request.alternatives):
            if self.take(alternative, self.usable) is None:
                continue
            window = min(self.length(alternative), at_most)
            by = latest if job.expires_s is None else min(latest, job.expires_s)
            if job.deadline_s is not None:
                by = min(by, job.deadline_s - alternative.walltime_s)
            found = self.earliest(job, alternative, first, by, window=window, besteffort_counts=besteffort_counts)
            if found is not None and found[0] + alternative.walltime_s < best_end:
                best = (index, *found)
                best_end = found[0] + alternative.walltime_s
        return best

    # Quotas.

    def count(self, job: AnyJob, begin: int, end: int, walltime: int, resources: Resources) -> None:
        number = sum(self.kind(i) == "default" for i in resources)
        self.counted.append(Counted(job, begin, end, walltime, number))

    def matches(self, rule: Rule, job: AnyJob) -> bool:
        types = {each.partition("=")[0] for each in job.types}
        if "container" in types or (rule.queue == "*" and job.besteffort):
            return False
        wanted = ((rule.queue, job.queue), (rule.project, job.project), (rule.user, job.user))
        return all(name in ("*", "/", own) for name, own in wanted) and rule.job_type in ("*", *types)

    def binding(self, rules: Sequence[Rule], job: AnyJob) -> list[Rule]:
        """All that match, but those which another one replaces by putting names for stars and slashes."""

        def replaces(other: Rule, rule: Rule) -> bool:
            pairs = list(zip(other.key, rule.key, strict=True))
            return other.key != rule.key and all(o == r or (r in ("*", "/") and o not in ("*", "/")) for o, r in pairs)

        if "no_quotas" in job.types:
            return []
        matching = [rule for rule in rules if self.matches(rule, job)]
        return [rule for rule in matching if not any(replaces(other, rule) for other in matching)]

    def share_a_counter(self, rule: Rule, job: AnyJob, other: AnyJob) -> bool:
        return self.matches(rule, other) and all(
            name != "/" or own == others
            for name, own, others in (
                (rule.queue, job.queue, other.queue),
                (rule.project, job.project, other.project),
                (rule.user, job.user, other.user),
            )
        )

    def rules_at(self, moment: int) -> Sequence[Rule]:
        quotas = self.snapshot.quotas
        assert quotas is not None
        names = [name for begin, name in quotas.calendar if begin <= moment] if quotas.calendar else ["default"]
        return quotas.sets.get(names[-1], ())

    def is_within_quotas(self, job: WaitingJob | None, start: int, walltime: int, resources: Resources) -> bool:
        """Whether at no instant of its walltime the job makes anything exceed a limit."""
        quotas = self.snapshot.quotas
        if quotas is None or job is None:
            return True
        if start >= quotas.until_s and any(self.binding(rules, job) for rules in quotas.sets.values()):
            return False
        everything = sum(
            self.kind(i) == "default" and state is not ResourceState.DEAD
            for i, state in enumerate(self.snapshot.topology.states)
        )
        self.count(job, start, start + walltime, walltime, resources)
        mine = self.counted.pop()
        edges = {begin for begin, _ in quotas.calendar} | {one.begin_s for one in self.counted}
        for moment in {start} | {edge for edge in edges if start < edge < start + walltime}:
            together = [mine, *(one for one in self.counted if one.begin_s <= moment < one.end_s)]
            for rule in self.binding(self.rules_at(moment), job):
                sharers = [one for one in together if self.share_a_counter(rule, job, one.job)]
                for measure, amount in rule.limits.items():
                    most = amount.number * everything if amount.of_all else amount.number
                    if sum(one.taken(measure) for one in sharers) > most:
                        return False
        return True

    # The pass.

    def run(self) -> Oracle:
        self.hold()
        if self.snapshot.reserved or self.snapshot.requested:
            self.reservations()
        for job in self.snapshot.held:
            if job.suspended and job.state is JobState.RESUMING:
                self.resume(job)
        self.where = Where()
        order = self.order()
        for job in order:
            if job.job_id in self.dead_s and not job.besteffort:
                self.turn(job)
        normal = [job for job in order if job.job_id not in self.dead_s and not job.besteffort]
        priorities = {queue.name: queue.priority for queue in self.snapshot.queues}
        for priority in sorted({priorities[job.queue] for job in normal}, reverse=True):
            group = [job for job in normal if priorities[job.queue] == priority]
            self.standing = self.put_down(group)
            for job in group:
                self.turn(job)
        for job in order:
            if job.besteffort:
                self.turn(job)
        for inner in self.behind.values():
            self.answers.update({job.job_id: Answer(None) for job in inner})
        return self

    def turn(self, job: WaitingJob) -> None:
        """An inner job comes behind its container."""
        container = self.awaited(job)
        if container is not None:
            self.behind.setdefault(container, []).append(job)
            return
        self.answer(job)
        self.undecided.pop(job.job_id, None)
        for inner in self.behind.pop(job.job_id, []):
            self.turn(inner)

    def awaited(self, job: WaitingJob) -> int | None:
        inner = value(job, "inner")
        others = {number: name for number, name in self.undecided.items() if number != job.job_id}
        if inner is None or any(life.name == inner and not life.closed for life in self.lives.values()):
            return None
        return next((number for number, name in others.items() if inner in (str(number), name)), None)

    def spaces(self, job: WaitingJob) -> list[int] | Answer:
        """Where it may be placed; without any, whether it has come to its end."""
        inner = value(job, "inner")
        if inner is None:
            return [0]
        if not inner.isdigit():
            named = [
                number
                for number, life in self.lives.items()
                if life.name == inner and not life.closed and number != job.job_id
            ]
            return named or Answer(None)
        if int(inner) in self.lives:
            return Answer(None) if self.lives[int(inner)].closed else [int(inner)]
        there = {one.job_id for one in self.snapshot.waiting if value(one, "container") is not None}
        return Answer(None, ended=int(inner) not in there | self.snapshot.put_off)

    def never(self, job: WaitingJob, space: int) -> Answer:
        """It is ended if there can be no other container for it."""
        return Answer(None, ended=space != 0 and str(value(job, "inner")).isdigit() and self.lives[space].running)

    def fitting(self, job: WaitingJob) -> list[Alternative]:
        return [each for each in job.request.alternatives if self.take(each, self.usable) is not None]

    def place(self, job: WaitingJob, spaces: list[int]) -> Answer | None:
        """Decide in which space the job is placed, from where it looks then; an answer if it fits in none."""
        first = max(self.snapshot.now_s, job.not_before_s or 0)
        ends = []
        for space in spaces:
            self.look_from(job, space)
            if self.fitting(job):
                found = self.search(job, first, FOREVER, besteffort_counts=job.besteffort) if len(spaces) > 1 else None
                end = FOREVER if found is None else found[1] + job.request.alternatives[found[0]].walltime_s
                ends.append((end, len(ends), space))
        if ends:
            self.look_from(job, min(ends)[2])
            return None
        if spaces[0] == 0:
            return Answer(None)
        self.look_from(job, spaces[0])
        self.all_that_lasts = True
        return Answer(None) if self.fitting(job) else self.never(job, spaces[0])

    def too_late(self, job: WaitingJob) -> Answer:
        """What is said where there is no place for it."""
        life = self.lives.get(self.where.space)
        if life is None or job.deadline_s is not None:
            return Answer(None)
        shortest = min(each.walltime_s for each in self.fitting(job))
        too_long = shortest > life.end_s - max(life.begin_s, self.snapshot.now_s)
        return self.never(job, self.where.space) if too_long else Answer(None)

    # What was told before.

    def stands(self, job: WaitingJob) -> bool:
        return job.job_id in self.standing

    def put_down(self, group: list[WaitingJob]) -> dict[JobId, Held]:
        """The places that these jobs were told, in the order of their starts, put off while they are in use."""
        queues = {queue.name: queue for queue in self.snapshot.queues}
        told = self.snapshot.promises
        self.where, self.reach = Where(), "alive"
        self.all_that_lasts = False
        ranks = {job_id: rank for rank, job_id in enumerate(told)}
        binding = []
        before, reordered = -1, False
        for job in group:
            queue = queues[job.queue]
            if not queue.active or queue.replan is Replan.NOTHING:
                continue
            if queue.ordering is not Ordering.FIFO:
                if job.job_id not in told:
                    reordered |= not job.dependencies
                else:
                    reordered |= ranks[job.job_id] < before
                    before = ranks[job.job_id]
                if reordered:
                    continue
            if self.place_told(job) is not None and not self.is_apart(job):
                binding.append(job)
        binding.sort(key=lambda job: max(told[job.job_id].start_s, self.snapshot.now_s))
        if self.snapshot.limits.plan_first is None and not self.dispensable_here():
            found = self.moved_by_number(group, binding)
            for starts in (found, {}):
                anew = self.chosen_anew(binding, starts) if starts is not None else None
                if anew is not None:
                    self.certain = set(starts or ())
                    return anew
        found = {}
        for job in binding:
            place = self.place_told(job)
            assert place is not None
            start = self.first_free(place, besteffort_counts=False)
            if start is not None:
                found[job.job_id] = Held(start, self.up(start + place.end_s - place.begin_s), place.resources)
                self.held.append(found[job.job_id])
        return found

    def is_apart(self, job: WaitingJob) -> bool:
        apart = ("inner", "timesharing", "placeholder", "allowed")
        return self.reach_of(job) != "alive" or any(value(job, name) is not None for name in apart)

    def moved_by_number(self, group: list[WaitingJob], binding: list[WaitingJob]) -> dict[JobId, int] | None:
        """The earliest starts of the first jobs, in their order, each a number of the same resources, if known."""
        if self.snapshot.quotas is not None or self.snapshot.limits.jobs_per_user is not None:
            return None
        queues = {queue.name: queue for queue in self.snapshot.queues}
        places = {job.job_id: place for job in binding if (place := self.place_told(job)) is not None}
        numbers: dict[JobId, int] = {}
        among: Resources = frozenset()
        for job in group:
            if job.job_id not in places:
                if not queues[job.queue].active or job.dependencies or self.is_apart(job):
                    continue
                break
            wanted = job.request.alternatives[0].groups[0]
            members = self.matching(wanted)
            if (
                len(job.request.alternatives) > 1
                or len(job.request.alternatives[0].groups) > 1
                or len(wanted.levels) > 1
                or wanted.levels[0].count < 0
                or wanted.levels[0].beside
                or any(len(leaf) > 1 for leaf in self.leaves(members, wanted.levels))
                or job.dependencies
                or job.expires_s is not None
                or job.deadline_s is not None
                or queues[job.queue].depth is not None
                or tokens_of(job.types)
                or (numbers and frozenset(members) != among)
            ):
                break
            numbers[job.job_id], among = wanted.levels[0].count, frozenset(members)

        def free(at: int) -> int:
            held = [
                numbers.get(job_id) or len(place.resources & among)
                for job_id, place in places.items()
                if place.begin_s <= at < self.up(place.end_s)
            ]
            return len(self.room(at, at + 1, besteffort_counts=False) & among) - sum(held)

        def moments() -> list[int]:
            edges = {edge for held in self.held for edge in (held.begin_s, held.end_s)}
            edges |= {edge for place in places.values() for edge in (place.begin_s, self.up(place.end_s))}
            edges |= {self.snapshot.now_s} | {
                place for life in self.lives.values() for place in (self.up(life.begin_s),)
            }
            return sorted(edge for edge in edges if self.snapshot.now_s <= edge < FOREVER)

        if any(free(at) < 0 for at in moments()):
            return None
        for job_id, number in numbers.items():
            place = places.pop(job_id)
            length = place.end_s - place.begin_s
            start = next(
                start
                for start in [*moments(), place.begin_s]
                if start >= place.begin_s
                or all(free(at) >= number for at in {start, *moments()} if start <= at < self.up(start + length))
            )
            start = min(start, place.begin_s)
            places[job_id] = Held(start, start + length, place.resources)
        return {job_id: places[job_id].begin_s for job_id in numbers}

    def chosen_anew(self, binding: list[WaitingJob], starts: dict[JobId, int]) -> dict[JobId, Held] | None:
        """The same or those starts on other resources, None (and nothing held) when they do not all fit."""
        before = self.held[:]
        found: dict[JobId, Held] = {}
        places: list[tuple[WaitingJob, Held]] = []
        for job in binding:
            place = self.place_told(job)
            assert place is not None
            start = starts.get(job.job_id, place.begin_s)
            places.append((job, Held(start, start + place.end_s - place.begin_s, place.resources)))
        for job, place in sorted(places, key=lambda one: one[1].begin_s):
            alternative = job.request.alternatives[self.snapshot.promises[job.job_id].alternative]
            if self.take(alternative, self.usable) is None:
                continue
            start, length = place.begin_s, place.end_s - place.begin_s
            # Whether quotas allow it is seen in the job's turn.
            anew = self.earliest(None, alternative, start, start, window=length, besteffort_counts=False)
            if anew is None:
                self.held = before
                return None
            found[job.job_id] = Held(start, self.up(place.end_s), anew[2])
            self.held.append(found[job.job_id])
        return found

    def place_told(self, job: WaitingJob) -> Held | None:
        told = self.snapshot.promises.get(job.job_id)
        if told is None or told.alternative >= len(job.request.alternatives):
            return None
        resources = self.positions(told.resources)
        if not resources <= self.awake_or_asleep or len(resources) != sum(end - begin for begin, end in told.resources):
            return None
        start = self.up(max(told.start_s, self.snapshot.now_s))
        return Held(start, start + self.length(job.request.alternatives[told.alternative]), resources)

    def first_free(self, place: Held, *, besteffort_counts: bool) -> int | None:
        length = place.end_s - place.begin_s
        for start in sorted({place.begin_s, *(held.end_s for held in self.held if held.end_s > place.begin_s)}):
            if start < FOREVER and place.resources <= self.room(
                start, self.up(start + length), besteffort_counts=besteffort_counts
            ):
                return start
        return None

    def kept(
        self, job: WaitingJob, first: int, place: Held, *, deep: bool, beyond: bool
    ) -> tuple[int, int, Resources, Resources] | None:
        """A place that ends before the one that was told, or else that one."""
        index = self.snapshot.promises[job.job_id].alternative
        alternative, start = job.request.alternatives[index], place.begin_s
        allowed = self.is_within_quotas(job, start, alternative.walltime_s, place.resources)
        if not first <= start <= self.latest(job, alternative) or deep or not allowed:
            return self.normal(job, first, beyond=beyond)
        only_now = beyond or self.moves >= self.snapshot.limits.moves
        found = self.search(job, first, self.snapshot.now_s if only_now else start)
        if (
            job.job_id not in self.certain
            and found is not None
            and found[1] + job.request.alternatives[found[0]].walltime_s < start + alternative.walltime_s
        ):
            sooner = self.rid_of_besteffort(job, first, found, beyond=beyond, latest=start)
            if sooner is not None:
                self.moves += 1
                return sooner
        room = self.room(start, self.up(start + self.length(alternative)), besteffort_counts=False)
        return self.rid_of_besteffort(job, first, (index, start, room, place.resources), beyond=beyond)

    def as_told(self, job: WaitingJob, first: int) -> tuple[int, int, Resources, Resources] | None:
        """The place that was told, when it may be had once those are gone who die for it."""
        place = self.place_told(job)
        if place is None or self.is_apart(job):
            return None
        index = self.snapshot.promises[job.job_id].alternative
        start = self.first_free(place, besteffort_counts=True)
        if start is None or start > max(self.dead_s[job.job_id], place.begin_s):
            return None
        if place.begin_s < first or start > self.latest(job, job.request.alternatives[index]):
            return None
        if not self.is_within_quotas(job, start, job.request.alternatives[index].walltime_s, place.resources):
            return None
        return index, start, place.resources, place.resources

    def latest(self, job: WaitingJob, alternative: Alternative) -> int:
        latest = FOREVER if job.expires_s is None else job.expires_s
        return latest if job.deadline_s is None else min(latest, job.deadline_s - alternative.walltime_s)

    def order(self) -> list[WaitingJob]:
        """By priority and submission; jobs of another ordering are sorted in their places."""
        queues = {queue.name: queue for queue in self.snapshot.queues}
        order = sorted(
            self.snapshot.waiting, key=lambda job: (-queues[job.queue].priority, job.submitted_s, job.job_id)
        )
        for queue in self.snapshot.queues:
            if queue.ordering is Ordering.FIFO:
                continue
            group = {
                one.name
                for one in self.snapshot.queues
                if (one.priority, one.ordering) == (queue.priority, queue.ordering)
            }
            members = [job for job in order if job.queue in group]
            if queue.ordering is Ordering.FAIRSHARE:
                ranks = {job.job_id: self.karma(job, group) for job in members}
            else:
                ranks = {job.job_id: -self.priority(job, group) for job in members}
            ranked = iter(sorted(members, key=lambda job: (ranks[job.job_id], job.submitted_s, job.job_id)))
            order = [next(ranked) if job.queue in group else job for job in order]
        return order

    def karma(self, job: WaitingJob, group: set[str]) -> Fraction:
        shares = self.snapshot.limits.shares
        consumed = {
            account: consumption
            for account, consumption in self.snapshot.usage.consumed.items()
            if account.queue in group
        }

        def part(amounts: Iterable[tuple[bool, int]]) -> Fraction:
            amounts = list(amounts)
            total = sum(amount for _, amount in amounts)
            return Fraction(sum(amount for own, amount in amounts if own), total) if total else Fraction(0)

        def target(targets: Mapping[str, float], name: str) -> Fraction:
            if name in targets:
                return Fraction(targets[name]) / 100
            return Fraction(targets.get("default", 0)) / 100

        of_user = target(shares.user_targets, job.user)
        of_project = target(shares.project_targets, job.project)
        by_project = part((account.project == job.project, c.used) for account, c in consumed.items())
        by_user = part((account.user == job.user, c.used) for account, c in consumed.items())
        asked = part((account.user == job.user, c.asked) for account, c in consumed.items())
        return round(
            Fraction(shares.project) * (by_project - of_project)
            + Fraction(shares.user) * (by_user - of_user)
            + Fraction(shares.asked) * (asked - of_user),
            3,
        )

    def priority(self, job: WaitingJob, group: set[str]) -> Fraction:
        snapshot, factors = self.snapshot, self.snapshot.limits.factors
        refresh = snapshot.limits.shares.refresh_s
        waited = snapshot.now_s // refresh * refresh - job.submitted_s
        age = min(Fraction(max(waited, 0), factors.age_limit_s), Fraction(1))
        karma = self.karma(job, group)
        less_used = 1 / (1 + karma) if karma > 0 else 1 - karma
        resources = walltime = 0
        for alternative in job.request.alternatives:
            taken = self.take(alternative, self.usable)
            if taken is not None:
                resources, walltime = len(taken), alternative.walltime_s
                break
        work = 1 / max(Fraction(1), Fraction(resources * walltime, 3600))
        existing = sum(state is not ResourceState.DEAD for state in snapshot.topology.states)
        size = 1 - Fraction(resources, max(existing, 1))
        own = {name: Fraction(value(job, name) or 0) for name in ("qos", "nice")}
        return round(
            Fraction(factors.age) * age
            + Fraction(factors.queue) * Fraction(factors.queues.get(job.queue, factors.queues.get("default", 0)))
            + Fraction(factors.work) * (work if factors.work_favours == "small" else 1 - work)
            + Fraction(factors.size) * (size if factors.size_favours == "small" else 1 - size)
            + Fraction(factors.karma) * less_used
            + Fraction(factors.qos) * own["qos"]
            - Fraction(factors.nice) * own["nice"] / 100,
            6,
        )

    def hold(self) -> None:
        now, limits = self.snapshot.now_s, self.snapshot.limits
        for i, upto in self.asleep.items():
            self.held.append(Held(now, self.up(now + max(limits.wake_s, 1)), frozenset([i]), space=None, asleep=True))
            self.held.append(Held(self.down(upto), FOREVER, frozenset([i]), space=None, asleep=True))
        for job in self.snapshot.held:
            name = value(job, "container")
            if name is not None:
                closed = job.state not in (JobState.TO_LAUNCH, JobState.LAUNCHING, JobState.RUNNING)
                closed = closed or job.killing_until_s is not None
                begin = now if job.state is JobState.RUNNING else self.up(now + 1)
                self.lives[job.job_id] = Life(self.positions(job.resources), begin, job.end_s, True, name, closed)
        for job in self.snapshot.held:
            resources, end = self.positions(job.resources), self.end_of(job)
            if not job.suspended or job.state is JobState.RESUMING:
                assert job.started_s is not None
                self.count(job, now, end, max(job.end_s - job.started_s, 0), resources)
            if job.suspended:
                resources = frozenset(i for i in resources if self.kind(i) not in limits.lent_types)
            expendable = job.besteffort and job.killing_until_s is None
            # What is asleep is nobody's to share.
            awake = resources - self.asleep.keys()
            self.held.append(Held(now, end, awake, expendable, job.space, shares(job), placeholder(job)))
            self.held.append(Held(now, end, resources - awake, expendable, job.space))
            if expendable:
                lost = (now - job.started_s if job.started_s is not None else 0) * len(resources)
                dead = now + max(limits.kill_grace_s + job.checkpoint_s, 1)
                self.dispensable.append(Dispensable(job.job_id, resources, lost, end, dead, self.up(dead), job.space))
            elif job.killing_until_s is not None and job.killed_for is not None:
                self.dead_s[job.killed_for] = max(end, self.dead_s.get(job.killed_for, 0))
                soon = (job.killing_from_s or 0) + limits.kill_grace_s
                self.soon_s[job.killed_for] = max(soon, self.soon_s.get(job.killed_for, 0))

    # Advance reservations.

    def reservations(self) -> None:
        """Before all that waits, what was accepted is kept, and what is asked for is judged to the second."""
        now, limits = self.snapshot.now_s, self.snapshot.limits
        queues = {queue.name for queue in self.snapshot.queues if queue.active}
        holders = [(job, self.positions(job.resources)) for job in self.snapshot.held]
        holders = [
            (job, frozenset(i for i in resources if not job.suspended or self.kind(i) not in limits.lent_types))
            for job, resources in holders
            if job.space == 0
        ]
        free = self.not_dead - frozenset().union(*(held for _, held in holders))
        reached = {
            "alive": self.awake_or_asleep - self.asleep.keys(),
            "standby": self.awake_or_asleep,
            "permissive": self.not_dead,
        }
        for one in self.snapshot.reserved:
            name = value(one, "container")
            if name is not None:
                self.undecided[one.job_id] = name
        booked = [(one.start_s, one.end_s + limits.security_s, one) for one in self.snapshot.reserved]
        busy = [
            (now, self.exact_end_of(job), held)
            for job, held in holders
            if not job.besteffort or job.killing_until_s is not None
        ] + [(start, end, self.positions(one.resources)) for start, end, one in booked]
        for start, end, one in booked:
            resources = self.positions(one.resources)
            if not one.on_hold:
                self.displace(one, resources)
                there = resources & free & reached[self.reach_of(one)]
                answer = self.follow(one, there, active=one.queue in queues)
                self.answers[one.job_id] = answer
                if answer.start_s == now:
                    free -= answer.resources
                    self.tokens_given += tokens_of(one.types).items()
            elif now >= one.end_s:
                self.answers[one.job_id] = Answer(None, ended=True)
            self.keep(one, start, end, resources)
        for job in self.snapshot.requested:
            if job.queue not in queues:
                self.answers[job.job_id] = Answer(None)
                continue
            answer = self.answers[job.job_id] = self.judge(job, busy)
            if answer.alternative is not None and answer.start_s is not None:
                end = answer.start_s + self.length(job.request.alternatives[answer.alternative])
                busy.append((answer.start_s, end, answer.resources))
                self.keep(job, answer.start_s, end, answer.resources)

    def keep(self, job: AnyJob, start: int, end: int, resources: Resources) -> None:
        """Nobody else gets these resources, but those with whom the job shares; jobs may lie in a container."""
        now = self.snapshot.now_s
        if end <= now:
            return
        begin = max(self.down(start), now)
        ends = end - self.snapshot.limits.security_s
        self.held.append(Held(begin, self.up(end), resources, shares=shares(job), placeholder=placeholder(job)))
        self.count(job, begin, self.up(end), ends - start, resources)
        name = self.undecided.pop(job.job_id, None)
        if name is not None:
            self.lives[job.job_id] = Life(resources, max(start, self.up(now + 1)), ends, False, name)

    def displace(self, one: Reservation, resources: Resources) -> None:
        for victim in self.dispensable:
            lead = max(self.snapshot.limits.reservation_kill_s, victim.dead_s - self.snapshot.now_s)
            in_the_way = victim.space == 0 and victim.resources & resources and victim.end_s > one.start_s
            if in_the_way and victim.job_id not in self.chosen and one.start_s - lead <= self.snapshot.now_s:
                self.chosen.add(victim.job_id)
                self.kills.add((victim.job_id, one.job_id))

    def follow(self, one: Reservation, there: Resources, *, active: bool) -> Answer:
        now = self.snapshot.now_s
        everything = self.positions(one.resources)
        patience = min(self.snapshot.limits.reservation_wait_s, (one.end_s - one.start_s) // 2)
        if now >= one.end_s:
            return Answer(None, ended=True)
        if now < one.start_s:
            return Answer(one.start_s, one.alternative, everything)
        if not active:
            return Answer(None)
        if there != everything and now < one.start_s + patience:
            return Answer(one.start_s + patience, one.alternative, everything)
        return Answer(now, one.alternative, there) if there else Answer(None, ended=True)

    def judge(self, job: WaitingJob, busy: Sequence[tuple[int, int, Resources]]) -> Answer:
        """Granted at its date; else refused, with the first start that there would be."""
        wanted = max(self.snapshot.now_s, job.not_before_s or 0)
        self.booking = True
        expendable = frozenset().union(*(one.resources for one in self.dispensable if one.space == 0))
        awake = self.awake_or_asleep - self.asleep.keys()
        preferred = (awake - expendable, awake, self.awake_or_asleep, self.usable)

        def room(start: int, end: int) -> Resources:
            return self.usable - frozenset().union(*(held for b, e, held in busy if b < end and start < e))

        earliest, limited = None, False
        for start in sorted({wanted} | {end for _, end, _ in busy if end > wanted}):
            for index, alternative in enumerate(job.request.alternatives):
                free = room(start, start + self.length(alternative))
                if self.take(alternative, self.usable) is None or self.take(alternative, free) is None:
                    continue
                if start > wanted:
                    earliest = start if earliest is None else earliest
                    continue
                taken = next(filter(None, (self.take(alternative, free & some) for some in preferred)))
                if self.is_within_quotas(job, start, alternative.walltime_s, taken):
                    self.booking = False
                    return Answer(start, index, taken)
                limited = True
        self.booking = False
        return Answer(None if limited else earliest, ended=True)

    def resume(self, job: HeldJob) -> None:
        """It goes on as soon as all that it had lent is free for as long as it runs, or for a moment at least."""
        now, limits, end = self.snapshot.now_s, self.snapshot.limits, self.end_of(job)
        lent = frozenset(i for i in self.positions(job.resources) if self.kind(i) in limits.lent_types)
        self.look_from(job, job.space)
        moments = sorted({now} | {self.up(edge) for held in self.held for edge in (held.begin_s, held.end_s)})
        moments = [moment for moment in moments if now <= moment < FOREVER]
        later = [moment for life in self.lives.values() for moment in (self.up(life.begin_s), self.closing(life))]
        moments = sorted({*moments, *(moment for moment in later if moment >= now)})
        wanted = lent & frozenset().union(*(self.room(at, at + 1, besteffort_counts=False) for at in moments))
        for length in (end - now, 1):
            for start in moments:
                if wanted <= self.room(start, start + length, besteffort_counts=False):
                    self.give_back(job, lent, start, self.up(start + end - now))
                    return

    def give_back(self, job: HeldJob, lent: Resources, start: int, end: int) -> None:
        self.held.append(Held(start, end, lent, False, job.space, shares(job)))
        in_the_way = [
            one for one in self.dispensable if one.resources & lent and one.end_s > start and one.space == job.space
        ]
        for one in in_the_way:
            if one.dead_s >= start and one.job_id not in self.chosen:
                self.chosen.add(one.job_id)
                self.kills.add((one.job_id, job.job_id))
        if start == self.snapshot.now_s and not in_the_way:
            self.resumes.add(job.job_id)

    def look_from(self, job: AnyJob, space: int) -> None:
        """From here on it is spoken of this job in this space."""
        self.where = Where(space, shares(job), value(job, "allowed") if placeholder(job) is None else None)
        self.all_that_lasts = False

    def answer(self, job: WaitingJob) -> None:
        queue = next(queue for queue in self.snapshot.queues if queue.name == job.queue)
        limits, now = self.snapshot.limits, self.snapshot.now_s
        of_user = (queue.priority, job.user)
        told = self.standing.pop(job.job_id, None)
        if told is not None:
            self.held.remove(told)
        deep = queue.depth is not None and self.reserved.get(queue.name, 0) >= queue.depth
        beyond = deep or (limits.plan_first is not None and self.placed >= limits.plan_first)
        self.placed += 1
        self.reach = self.reach_of(job)
        shortest = min(alternative.walltime_s for alternative in job.request.alternatives)
        if (job.expires_s is not None and now > job.expires_s) or (
            job.deadline_s is not None and now + shortest > job.deadline_s
        ):
            self.answers[job.job_id] = Answer(None, ended=True)
            return
        if not queue.active:
            self.answers[job.job_id] = Answer(None)
            return
        most = limits.jobs_per_user
        if most is not None and self.waiting_on.get(of_user, 0) >= most and job.job_id not in self.dead_s:
            self.placed -= 1
            self.answers[job.job_id] = Answer(None)
            return
        first = max(now, job.not_before_s or now)
        spaces = self.spaces(job)
        nowhere = spaces if isinstance(spaces, Answer) else self.place(job, spaces)
        if nowhere is not None:
            if beyond and not nowhere.ended:
                self.waiting_on[of_user] = self.waiting_on.get(of_user, 0) + 1
            self.answers[job.job_id] = nowhere
            return
        needed = [(name, number) for name, number in tokens_of(job.types).items()]
        if any(self.tokens_left(name) < number for name, number in needed):
            if beyond:
                self.waiting_on[of_user] = self.waiting_on.get(of_user, 0) + 1
            self.answers[job.job_id] = Answer(None)
            return
        if job.besteffort:
            latest = now if beyond else FOREVER
            found = self.search(job, first, latest, at_most=limits.besteffort_s, besteffort_counts=True)
        elif job.job_id in self.dead_s:
            dead = self.dead_s[job.job_id]
            found = self.as_told(job, first) or self.search(job, first, dead, besteffort_counts=True)
            if found is None:
                found = self.search(job, max(first, dead), dead)
                if found and self.fits_in_time(job, found):
                    found = self.with_kills(job, found, self.soon_s[job.job_id])
                else:
                    found = self.normal(job, first, beyond=beyond)
        elif told is not None:
            found = self.kept(job, first, told, deep=deep, beyond=beyond)
        else:
            found = self.normal(job, first, beyond=beyond)
        if found is None:
            if beyond:
                self.waiting_on[of_user] = self.waiting_on.get(of_user, 0) + 1
            self.answers[job.job_id] = Answer(None) if beyond else self.too_late(job)
            return
        index, start, _, taken = found
        end = self.up(start + self.length(job.request.alternatives[index]))
        self.held.append(Held(start, end, taken, False, self.where.space, shares(job), placeholder(job)))
        self.count(job, start, end, job.request.alternatives[index].walltime_s, taken)
        if job.job_id in self.undecided:
            ends = start + job.request.alternatives[index].walltime_s
            begin = max(start, self.up(now + 1))
            self.lives[job.job_id] = Life(taken, begin, ends, False, self.undecided[job.job_id])
        self.answers[job.job_id] = Answer(start, index, taken)
        if start == now:
            self.tokens_given += needed
        if start > now:
            self.waiting_on[of_user] = self.waiting_on.get(of_user, 0) + 1
            self.reserved[queue.name] = self.reserved.get(queue.name, 0) + 1

    def normal(self, job: WaitingJob, first: int, *, beyond: bool) -> tuple[int, int, Resources, Resources] | None:
        """A normal job's place, for which besteffort jobs die where nothing else will do."""
        found = self.search(job, first, self.snapshot.now_s if beyond else FOREVER)
        return None if found is None else self.rid_of_besteffort(job, first, found, beyond=beyond)

    def rid_of_besteffort(
        self,
        job: WaitingJob,
        first: int,
        found: tuple[int, int, Resources, Resources],
        *,
        beyond: bool,
        latest: int = FOREVER,
    ) -> tuple[int, int, Resources, Resources] | None:
        """The found place, or another one where besteffort jobs are not in the way or gone in time."""
        now = self.snapshot.now_s
        dispensable = self.dispensable_here()
        if found[1] > max((one.dead_s for one in dispensable), default=now):
            return found
        index, start, room, taken = found
        in_use = frozenset().union(*(one.resources for one in dispensable if one.end_s > start))
        expendable = frozenset().union(*(one.resources for one in dispensable))
        if not taken & expendable:
            return found
        untouched = self.take(job.request.alternatives[index], room - in_use)
        if untouched is not None:
            return index, start, room, untouched
        for gone in sorted({one.gone_s for one in dispensable}):
            later = self.search(job, max(first, gone), min(gone, latest) if beyond else latest)
            if later is not None and self.fits_in_time(job, later):
                return self.with_kills(job, later, start if later[1] <= max(first, gone) else later[1])
        return None

    def dispensable_here(self) -> list[Dispensable]:
        return [one for one in self.dispensable if one.space == self.where.space]

    def room_in_time(self, start: int, room: Resources) -> Resources:
        """Without what those hold who would not be gone by then."""
        slow = (one.resources for one in self.dispensable_here() if one.gone_s > start and one.end_s > start)
        return room - frozenset().union(*slow)

    def fits_in_time(self, job: WaitingJob, found: tuple[int, int, Resources, Resources]) -> bool:
        index, start, room, _ = found
        return self.take(job.request.alternatives[index], self.room_in_time(start, room)) is not None

    def with_kills(
        self, job: WaitingJob, found: tuple[int, int, Resources, Resources], wanted: int
    ) -> tuple[int, int, Resources, Resources]:
        """The same place, with the least work lost; who dies for a later start dies later."""
        index, start, room, _ = found
        room = self.room_in_time(start, room)
        alternative = job.request.alternatives[index]
        alive = [one for one in self.dispensable_here() if one.end_s > start and one.resources & room]
        alive.sort(key=lambda one: (one.job_id not in self.chosen, one.lost_s, -one.job_id))

        def take(going: list[Dispensable]) -> Resources | None:
            staying = [one for one in alive if one not in going]
            return self.take(alternative, room - frozenset().union(*(one.resources for one in staying)))

        going = next(alive[:k] for k in range(len(alive) + 1) if take(alive[:k]) is not None)
        for one in reversed(going[:-1]):
            fewer = [other for other in going if other is not one]
            if one.job_id not in self.chosen and take(fewer) is not None:
                going = fewer
        taken = take(going)
        assert taken is not None
        going = [one for one in going if one.resources & taken]
        needed = max([wanted, *(one.dead_s for one in going)])
        for one in going:
            if one.dead_s >= needed and one.job_id not in self.chosen:
                self.chosen.add(one.job_id)
                self.kills.add((one.job_id, job.job_id))
        return index, start, room, taken
