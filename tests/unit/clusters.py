"""Builders of small clusters and jobs: everything a test does not speak of has a default."""

from __future__ import annotations

import random
from collections.abc import Mapping, Sequence
from dataclasses import replace
from fractions import Fraction

from oarpy.model.filters import Comparison, Filter
from oarpy.model.quotas import Amount, Measure, Rule
from oarpy.model.request import Alternative, Group, Level, ResourceRequest
from oarpy.model.resource_grammar import parse_wish
from oarpy.model.states import JobId, JobState, Ordering, ResourceState
from oarpy.scheduling.snapshot import (
    HeldJob,
    Limits,
    Queue,
    QuotaRules,
    Reservation,
    Snapshot,
    TokenCount,
    Topology,
    WaitingJob,
)
from oarpy.scheduling.usage import Account, Consumption, Factors, Shares, Usage

NOW_S = 1_700_000_000
#: Every second counts: starts and ends in tests are the ones that were written down.
TO_THE_SECOND = Limits(grid_s=1, security_s=0, kill_grace_s=10, besteffort_s=300)


def topology(
    properties: Mapping[str, Sequence[object]],
    *,
    version: int = 1,
    ids: Sequence[int] | None = None,
    states: Sequence[ResourceState] | None = None,
    available_upto_s: Sequence[int | None] | None = None,
    drain: Sequence[bool] | None = None,
) -> Topology:
    size = len(next(iter(properties.values())))
    return Topology(
        version=version,
        ids=ids if ids is not None else range(1, size + 1),
        states=states if states is not None else [ResourceState.ALIVE] * size,
        available_upto_s=available_upto_s if available_upto_s is not None else [None] * size,
        drain=drain if drain is not None else [False] * size,
        properties=properties,
    )


def hosts(count: int, cores: int, **others: Sequence[object]) -> Topology:
    """``count`` hosts named h1, h2, … of ``cores`` cores each, with ids and core numbers from 1."""
    total = count * cores
    columns: dict[str, Sequence[object]] = {
        "host": [f"h{i // cores + 1}" for i in range(total)],
        "core": range(1, total + 1),
    }
    return topology(columns | others)


def group(text: str, condition: Filter | None = None) -> Group:
    """``group("host=2[gpu=1]/core=1")``; counts may be ALL, BEST and BESTHALF."""
    return replace(parse_wish(text).groups[0], filter=condition)


def asks(text: str, walltime_s: int = 3600, condition: Filter | None = None) -> Alternative:
    """``asks("host=1+core=2", 600)``."""
    return Alternative(tuple(group(part, condition) for part in text.split("+")), walltime_s)


def job(
    job_id: int,
    request: str | Alternative | Sequence[Alternative] = "core=1",
    walltime_s: int = 3600,
    *,
    queue: str = "default",
    submitted_s: int = NOW_S,
    **others: object,
) -> WaitingJob:
    if isinstance(request, str):
        request = asks(request, walltime_s)
    alternatives = (request,) if isinstance(request, Alternative) else tuple(request)
    return WaitingJob(
        JobId(job_id),
        queue,
        job_id,
        ResourceRequest(alternatives),
        submitted_s,
        **others,  # type: ignore[arg-type]
    )


def held(
    job_id: int, resources: tuple[int, int], end_s: int, *, started_s: int = NOW_S - 100, **others: object
) -> HeldJob:
    """A job on the half-open range ``resources`` of ids."""
    return HeldJob(JobId(job_id), "default", (resources,), end_s, started_s, **others)  # type: ignore[arg-type]


def snapshot(
    cluster: Topology,
    *waiting: WaitingJob,
    running: Sequence[HeldJob] = (),
    queues: Sequence[Queue] = (Queue("default", 1),),
    limits: Limits = TO_THE_SECOND,
    now_s: int = NOW_S,
) -> Snapshot:
    return Snapshot(now_s, cluster, tuple(queues), waiting, tuple(running), limits)


def random_snapshot(seed: int, jobs: int = 12) -> Snapshot:
    """A small cluster with everything that makes passes differ, the same for the same seed."""
    rng = random.Random(seed)
    cluster = _random_topology(rng)
    limits = Limits(
        grid_s=rng.choice((1, 60)),
        security_s=rng.choice((0, 60)),
        kill_grace_s=rng.choice((0, 20)),
        wake_s=rng.choice((0, 0, 90)),
        besteffort_s=rng.choice((60, 300)),
        plan_first=rng.choice((None, None, None, 4)),
    )
    queues = (
        Queue("default", 1, depth=rng.choice((None, None, 1, 2))),
        Queue("equal", 1),
        Queue("high", rng.choice((1, 5)), active=rng.random() < 0.9),
    )
    running = _random_held(rng, cluster)
    waiting = [
        _random_job(rng, number, rng.choice(("default", "default", "equal", "high"))) for number in range(1, jobs + 1)
    ]
    if rng.random() < 0.5:
        # Competing groups are not monotone, and who must die for them is a matter of search order.
        waiting = [one for one in waiting if all(len(a.groups) == 1 for a in one.request.alternatives)]
    else:
        running = [one for one in running if not one.besteffort]
    return Snapshot(NOW_S + rng.randrange(60), cluster, queues, tuple(waiting), tuple(running), limits)


def with_reservations(plain: Snapshot, seed: int) -> Snapshot:
    """The same cluster, with advance reservations that were accepted, and with some jobs that ask for one."""
    rng = random.Random(seed)
    reserved: list[Reservation] = []
    for number in range(200, 200 + rng.randint(0, 5)):
        wanted = sorted(rng.sample(list(plain.topology.ids), rng.randint(1, min(4, len(plain.topology.ids)))))
        start_s = plain.now_s + rng.choice((-400, -100, -20, 0, 1, 40, 100, 600, 2500))
        end_s = start_s + rng.choice((60, 300, 1500))
        one = Reservation(
            JobId(number),
            rng.choice(("default", "high")),
            0,
            start_s,
            end_s,
            tuple((i, i + 1) for i in wanted),
            on_hold=rng.random() < 0.1,
        )
        # Two for the same resources at the same time are never accepted.
        if all(other.end_s <= start_s or end_s <= other.start_s or not meet(one, other) for other in reserved):
            reserved.append(one)
    asking = {one.job_id for one in plain.waiting if not one.besteffort and rng.random() < 0.3}
    requested = tuple(
        replace(one, not_before_s=plain.now_s + rng.choice((-50, 0, 1, 70, 333, 700, 2000)))
        for one in plain.waiting
        if one.job_id in asking
    )
    limits = replace(
        plain.limits, reservation_wait_s=rng.choice((0, 60, 300)), reservation_kill_s=rng.choice((0, 45, 60, 700))
    )
    waiting = tuple(one for one in plain.waiting if one.job_id not in asking)
    return replace(plain, waiting=waiting, requested=requested, reserved=tuple(reserved), limits=limits)


def meet(one: Reservation, other: Reservation) -> bool:
    return bool(set(one.resources) & set(other.resources))


def with_quotas(plain: Snapshot, seed: int) -> Snapshot:
    """The same cluster, its jobs those that take the same number of resources everywhere, bound by quotas."""
    rng = random.Random(seed)
    count = rng.randint(0, 3)
    begins = [NOW_S - 100] + [NOW_S + rng.choice((35, 100, 600, 1800, 2000, 5000)) for _ in range(count)]
    calendar = tuple((begin_s, rng.choice(("default", "night", "free"))) for begin_s in sorted(set(begins)))
    quotas = QuotaRules(
        {"default": _random_rules(rng), "night": _random_rules(rng)},
        calendar if count else (),
        NOW_S + 6000 if count and rng.random() < 0.3 else 1 << 62,
    )
    waiting = tuple(
        replace(one, queue=_queue_of(rng, one), **_owner(rng, besteffort=one.besteffort))  # type: ignore[arg-type]
        for one in plain.waiting
        if all(level.count > 0 and levels[-1].property == "core" for levels in _levels(one) for level in levels)
    )
    running = tuple(
        replace(one, **_owner(rng, besteffort=one.besteffort))  # type: ignore[arg-type]
        for one in plain.held
    )
    return replace(plain, waiting=waiting, held=running, quotas=quotas)


def _levels(one: WaitingJob) -> list[tuple[Level, ...]]:
    return [part.levels for alternative in one.request.alternatives for part in alternative.groups]


def _queue_of(rng: random.Random, one: WaitingJob) -> str:
    return rng.choice(("equal", one.queue)) if one.besteffort else one.queue


def _owner(rng: random.Random, *, besteffort: bool) -> dict[str, object]:
    types = rng.sample(("deploy", "noop=standby", "container", "no_quotas"), rng.choice((0, 0, 0, 1, 2)))
    if "container" in types:
        types = ["container"] if rng.random() < 0.3 else []
    return {
        "user": rng.choice("uvw"),
        "project": rng.choice("pq"),
        "types": (*types, "besteffort") if besteffort else tuple(types),
    }


def _random_rules(rng: random.Random) -> tuple[Rule, ...]:
    found: dict[object, Rule] = {}
    for _ in range(rng.randint(0, 5)):
        limits = {
            Measure.RESOURCES: Amount(Fraction(rng.choice((1, 2, 3, 4, 6)))),
            Measure.JOBS: Amount(Fraction(rng.choice((0, 1, 2, 3, 4)))),
            Measure.HOURS: Amount(Fraction(rng.choice((1, 2, 8, 16)), 8), of_all=rng.random() < 0.3),
        }
        rule = Rule(
            rng.choice(("*", "*", "/", "default", "equal")),
            rng.choice(("*", "*", "/", "p")),
            rng.choice(("*", "*", "*", "deploy", "noop")),
            rng.choice(("*", "/", "/", "u")),
            {measure: limits[measure] for measure in rng.sample(sorted(limits), rng.randint(1, 2))},
        )
        found[rule.key] = rule
    return tuple(found.values())


def _random_topology(rng: random.Random) -> Topology:
    rows: list[dict[str, object]] = []
    for host in range(rng.randint(1, 4)):
        kind = rng.choice(("fat", "thin"))
        for cpu in range(rng.randint(1, 2)):
            for _ in range(rng.randint(1, 3)):
                rows.append(
                    {
                        "switch": f"s{host // 2}",
                        "host": f"h{host}",
                        "cpu": cpu,  # the same numbers in each host
                        "core": len(rows),
                        "kind": kind,
                        "gpu": rng.choice((None, 0, 1)) if kind == "fat" else None,
                        "type": "default",
                        "quantity": 1,
                    }
                )
        same = rng.choice((1, 2, 3, None))
        for _ in range(rng.choice((0, 0, 2, 3))):
            rows.append(
                {
                    "switch": f"s{host // 2}",
                    "host": f"h{host}",
                    "type": "mem",
                    "quantity": same or rng.randint(1, 4),
                }
            )
    if rng.random() < 0.3:
        rng.shuffle(rows)
    names = ("switch", "host", "cpu", "core", "kind", "gpu", "type", "quantity")
    ids = list(range(10, 10 + len(rows)))
    if rng.random() < 0.3:
        ids = rng.sample(range(1, 40), len(rows))
    chances = [ResourceState.ALIVE] * 8 + [ResourceState.ABSENT, ResourceState.SUSPECTED, ResourceState.DEAD]
    return topology(
        {name: [row.get(name) for row in rows] for name in names},
        ids=ids,
        states=[rng.choice(chances) for _ in rows],
        available_upto_s=[rng.choice((None, NOW_S - 5, NOW_S + 1500, NOW_S + 10**6)) for _ in rows],
        drain=[rng.random() < 0.05 for _ in rows],
    )


def _random_held(rng: random.Random, cluster: Topology) -> list[HeldJob]:
    free = list(cluster.ids)
    rng.shuffle(free)
    running = []
    for number in range(rng.randint(0, 5)):
        taken = sorted(free.pop() for _ in range(min(len(free), rng.randint(1, 3))))
        if not taken:
            break
        besteffort = rng.random() < 0.5
        dying = rng.random() < 0.25
        running.append(
            HeldJob(
                JobId(100 + number),
                "default",
                tuple((one, one + 1) for one in taken),
                NOW_S + rng.choice((-30, 0, 45, 100, 600, 3000)),
                NOW_S - rng.choice((10, 100, 1000)),
                besteffort=besteffort,
                killing_until_s=NOW_S + rng.choice((-5, 30, 70)) if dying else None,
                killed_for=JobId(rng.randint(1, 12)) if dying and rng.random() < 0.8 else None,
                suspended=not besteffort and not dying and rng.random() < 0.1,
                killing_from_s=NOW_S + rng.choice((-20, 5, 50)) if dying and rng.random() < 0.5 else None,
                checkpoint_s=rng.choice((15, 120)) if besteffort and rng.random() < 0.3 else 0,
            )
        )
    return running


_SHAPES = (
    "core={n}",
    "core={n}",
    "host={n}",
    "host={n}/core={m}",
    "host=1/cpu={n}",
    "cpu={n}",
    "cpu={n}/core={m}",
    "switch=1/host={n}",
    "switch={n}/host=1/core={m}",
    "gpu={n}",
    "host=1/gpu={n}/core=1",
    "kind=1/core={n}",
    "host=ALL",
    "core=BEST",
    "host=BESTHALF",
    "host=1/core=ALL",
    "switch=1/host=BEST/core={n}",
)
_WITH_BRACKETS = (
    "host={n}[mem={m}]",
    "host=1[mem={n}]/core={m}",
    "host=BEST[mem={m}]/core={n}",
    "switch=1[mem={n}]/host={m}/core=1",
    "switch={n}/host=1[mem={m}]/cpu=1",
)
_ORDINARY = Comparison("type", "=", "default")
_FILTERS: tuple[Filter | None, ...] = (
    None,
    None,
    None,
    Comparison("kind", "=", "fat"),
    Comparison("kind", "=", "thin"),
    Comparison("switch", "=", "s0"),
)


def _random_group(rng: random.Random) -> Group:
    brackets = rng.random() < 0.2
    shape = rng.choice(_WITH_BRACKETS if brackets else _SHAPES).format(n=rng.randint(1, 3), m=rng.randint(1, 2))
    return group(shape, _ORDINARY if brackets else rng.choice(_FILTERS))


_TYPES = (("noop", "state=permissive"), ("noop=standby",), ("cosystem", "state=permissive"), ("state=permissive",))


def _random_job(rng: random.Random, number: int, queue: str) -> WaitingJob:
    alternatives = []
    for _ in range(rng.choice((1, 1, 1, 2))):
        groups = tuple(_random_group(rng) for _ in range(rng.choice((1, 1, 1, 2))))
        alternatives.append(Alternative(groups, rng.choice((30, 60, 90, 300, 1000, 3000))))
    return WaitingJob(
        JobId(number),
        queue,
        number,
        ResourceRequest(tuple(alternatives)),
        NOW_S - rng.randrange(1000),
        besteffort=rng.random() < 0.2,
        not_before_s=NOW_S + rng.choice((-10, 70, 500)) if rng.random() < 0.15 else None,
        types=rng.choice(_TYPES) if rng.random() < 0.2 else (),
        deadline_s=NOW_S + rng.choice((40, 400, 2000, 5000)) if rng.random() < 0.15 else None,
        expires_s=NOW_S + rng.choice((-10, 40, 70, 700)) if rng.random() < 0.15 else None,
    )


def with_orderings(snapshot: Snapshot, seed: int) -> Snapshot:
    """The same with users, projects and a past, and with queues that are ordered by them."""
    rng = random.Random(f"orderings {seed}")
    users, projects = ("u", "v", "w"), ("p", "q")
    queues = tuple(
        replace(queue, ordering=rng.choice((Ordering.FIFO, Ordering.FAIRSHARE, Ordering.MULTIFACTOR)))
        for queue in snapshot.queues
    )
    waiting = tuple(
        replace(
            one,
            user=rng.choice(users),
            project=rng.choice(projects),
            types=rng.choice(((), (), ("qos=1.5",), ("nice=20", "idempotent"), ("nicer=7",))),
        )
        for one in snapshot.waiting
    )
    consumed = {
        Account(queue.name, project, user): Consumption(rng.randrange(10**6), rng.randrange(10**7))
        for queue in queues
        for project in projects
        for user in users
        if rng.random() < 0.5
    }
    shares = Shares(
        project=rng.choice((0.0, 1.0)),
        user=rng.choice((1.0, 2.0)),
        asked=rng.choice((0.0, 1.0)),
        project_targets=rng.choice(({}, {"p": 70.0})),
        user_targets=rng.choice(({}, {"u": 50.0, "default": 25.0})),
        refresh_s=rng.choice((1, 60)),
    )
    factors = Factors(
        age=rng.choice((0.0, 1.0)),
        queue=rng.choice((0.0, 0.5)),
        work=rng.choice((0.0, 1.0)),
        size=rng.choice((0.0, 1.0)),
        karma=rng.choice((0.0, 1.0)),
        qos=rng.choice((0.0, 1.0)),
        nice=rng.choice((0.0, 1.0)),
        age_limit_s=rng.choice((200, 10_000)),
        queues=rng.choice(({}, {"high": 1.0, "default": 0.5})),
        work_favours=rng.choice(("small", "large")),
        size_favours=rng.choice(("small", "large")),
    )
    jobs_per_user = rng.choice((None, None, 1, 2, 3))
    limits = replace(snapshot.limits, shares=shares, factors=factors, jobs_per_user=jobs_per_user)
    return replace(snapshot, queues=queues, waiting=waiting, limits=limits, usage=Usage(snapshot.now_s - 7, consumed))


def with_spaces(snapshot: Snapshot, seed: int) -> Snapshot:
    """The same with containers, jobs in them, jobs that share, and jobs that are to go on."""
    rng = random.Random(f"spaces {seed}")
    running = [one for job in snapshot.held for one in _spread(rng, job)]
    containers = {
        one.job_id: rng.choice(("container", "container=c")) for one in snapshot.waiting if rng.random() < 0.25
    }
    there = [str(one.job_id) for one in running if one.types and one.types[0].startswith("container")]
    wanted = ["c", "c", "d", "300", "301", *map(str, containers), *there * 4]
    waiting = tuple(
        replace(
            one,
            user=rng.choice(("u", "v")),
            name=rng.choice(("x", "y")),
            types=(*((containers[one.job_id],) if one.job_id in containers else ()), *_spatial(rng, wanted)),
        )
        for one in snapshot.waiting
    )
    waiting = tuple(
        replace(one, request=ResourceRequest((asks(rng.choice(("core=1", "host=1")), rng.choice((30, 60, 500))),)))
        if any(each.startswith("inner") for each in one.types) and rng.random() < 0.7
        else one
        for one in waiting
    )
    put_off = frozenset({JobId(300)}) if rng.random() < 0.5 else frozenset()
    return replace(snapshot, waiting=waiting, held=tuple(running), put_off=put_off)


def _spatial(rng: random.Random, containers: Sequence[str]) -> tuple[str, ...]:
    sharing = rng.choice(("timesharing=user,*", "timesharing=user,*", "timesharing=*,name", "timesharing=*,*"))
    return tuple(
        each
        for each, often in (
            (f"inner={rng.choice(containers)}", 0.4),
            (sharing, 0.3),
            (rng.choice(("placeholder=p", "allowed=p", "allowed=p", "allowed=q")), 0.3),
        )
        if rng.random() < often
    )


def _spread(rng: random.Random, job: HeldJob) -> list[HeldJob]:
    """A running job, and others on some of its resources."""
    job = replace(job, user=rng.choice(("u", "v")), name="x")
    kind = rng.random()
    if job.suspended:
        return [replace(job, state=rng.choice((JobState.SUSPENDED, JobState.RESUMING)))]
    parts = [rng.choice((True, True, False)) for _ in job.resources]
    resources = tuple(one for one, taken in zip(job.resources, parts, strict=True) if taken)
    if not resources:
        return [job]
    # Jobs of the same user, one more running on the same resources, besteffort if the first one is.
    other = replace(
        job,
        job_id=JobId(job.job_id + 100),
        resources=resources,
        end_s=job.end_s + rng.choice((-40, 0, 300)),
    )
    if kind < 0.4:
        state = rng.choice(
            (JobState.RUNNING, JobState.RUNNING, JobState.RUNNING, JobState.LAUNCHING, JobState.FINISHING)
        )
        resting = rng.random() < 0.3
        inner = replace(
            other,
            space=job.job_id,
            besteffort=not resting and rng.random() < 0.4,
            killing_until_s=None,
            killed_for=None,
            suspended=resting,
            state=JobState.RESUMING if resting else JobState.RUNNING,
        )
        return [replace(job, types=(rng.choice(("container", "container=c")),), state=state), inner]
    if kind < 0.6:
        types = ("timesharing=user,*",)
        return [replace(job, types=types), replace(other, types=types)]
    if kind < 0.8 and not job.besteffort:
        return [
            replace(job, types=("placeholder=p",)),
            replace(other, types=rng.choice((("allowed=p",), ("allowed=p", "timesharing=user,*")))),
        ]
    return [job]


def with_tokens(of: Snapshot, seed: int) -> Snapshot:
    """The same with two kinds of tokens, which some jobs need and some have taken."""
    rng = random.Random(f"tokens {seed}")

    def some(types: tuple[str, ...]) -> tuple[str, ...]:
        return (*types, *(f"token:{name}={rng.randint(1, 3)}" for name in ("a", "b") if rng.random() < 0.4))

    return replace(
        of,
        waiting=tuple(replace(one, types=some(one.types)) for one in of.waiting),
        held=tuple(replace(one, types=some(one.types), started_s=NOW_S - rng.choice((5, 20, 500))) for one in of.held),
        tokens={"a": TokenCount(rng.choice((None, 2, 5, 9)), NOW_S - 30), "b": TokenCount(rng.randint(0, 9), NOW_S)},
    )
