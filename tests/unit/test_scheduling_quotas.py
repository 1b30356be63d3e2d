"""Quotas in a pass, rule by rule."""

from __future__ import annotations

import random
from dataclasses import replace

import pytest

from oarpy.model.quotas import Measure, Rule, parse_amount
from oarpy.model.states import JobId, Replan, ResourceState
from oarpy.scheduling.decide import decide
from oarpy.scheduling.demand import Demand
from oarpy.scheduling.explain import sentence
from oarpy.scheduling.gantt import Place
from oarpy.scheduling.inquiry import inquire
from oarpy.scheduling.plan import Postpone, Predict
from oarpy.scheduling.platform import Platform
from oarpy.scheduling.snapshot import HeldJob, Promise, Queue, QuotaRules, Snapshot, WaitingJob
from oarpy.scheduling.space import View
from tests.unit.clusters import NOW_S, TO_THE_SECOND, asks, held, hosts, job, snapshot
from tests.unit.test_scheduling_oracle import differs_from_the_definition
from tests.unit.test_scheduling_pass import starts


def rule(key: str, resources: str | None = None, jobs: str | None = None, hours: str | None = None) -> Rule:
    """``rule("*,*,*,alice", "0.5*ALL")``."""
    queue, project, job_type, user = key.split(",")
    amounts = {Measure.RESOURCES: resources, Measure.JOBS: jobs, Measure.HOURS: hours}
    limits = {measure: parse_amount(text, measure) for measure, text in amounts.items() if text is not None}
    return Rule(queue, project, job_type, user, limits)


def bound(plain: Snapshot, *rules: Rule, **others: object) -> Snapshot:
    return replace(plain, quotas=QuotaRules({"default": rules}, **others))  # type: ignore[arg-type]


def of(job_id: int, user: str, request: str = "core=1", walltime_s: int = 100, **others: object) -> WaitingJob:
    return job(job_id, request, walltime_s, user=user, **others)


def why(of_job: Snapshot, job_id: int) -> str:
    decision = next(one for one in decide(of_job).decisions if one.job_id == job_id)
    assert isinstance(decision, Predict | Postpone)
    return sentence(decision.why)


def test_a_user_never_has_more_jobs_than_allowed_and_others_are_not_held_up() -> None:
    crowd = snapshot(hosts(1, 8), *(of(n, "alice") for n in range(1, 5)), of(5, "bob"))

    assert starts(bound(crowd, rule("*,*,*,alice", jobs="2"))) == {1: 0, 2: 0, 3: 100, 4: 100, 5: 0}


def test_a_slash_counts_each_by_itself_and_a_star_all_together() -> None:
    crowd = snapshot(hosts(1, 8), of(1, "alice"), of(2, "alice"), of(3, "bob"), of(4, "bob"))

    assert starts(bound(crowd, rule("*,*,*,/", jobs="1"))) == {1: 0, 2: 100, 3: 0, 4: 100}
    assert starts(bound(crowd, rule("*,*,*,*", jobs="1"))) == {1: 0, 2: 100, 3: 200, 4: 300}


def test_all_rules_that_match_bind() -> None:
    jobs = [of(n, "john", project="proj1") for n in range(1, 4)]
    rules = rule("*,*,*,john", "2"), rule("*,proj1,*,*", "3")

    assert starts(bound(snapshot(hosts(1, 8), *jobs), *rules)) == {1: 0, 2: 0, 3: 100}
    others = [of(n, "mary", project="proj1") for n in range(4, 7)]
    assert starts(bound(snapshot(hosts(1, 8), *jobs, *others), *rules)) == {1: 0, 2: 0, 3: 100, 4: 0, 5: 100, 6: 100}


def test_a_name_replaces_a_slash_or_a_star_in_its_place() -> None:
    crowd = snapshot(hosts(1, 8), *(of(n, "john") for n in range(1, 4)), *(of(n, "mary") for n in range(4, 7)))

    rules = rule("*,*,*,/", jobs="1"), rule("*,*,*,john", jobs="2")

    assert starts(bound(crowd, *rules)) == {1: 0, 2: 0, 3: 100, 4: 0, 5: 100, 6: 200}


def test_types_queues_and_projects_have_quotas_too() -> None:
    queues = [Queue("default", 1), Queue("night", 1)]
    jobs = [of(1, "a", types=("deploy",)), of(2, "a", types=("deploy=standby",)), of(3, "a", queue="night")]
    crowd = snapshot(hosts(1, 8), *jobs, of(4, "a", queue="night"), of(5, "a"), queues=queues)

    assert starts(bound(crowd, rule("*,*,deploy,*", jobs="1"), rule("night,*,*,*", jobs="1"))) == {
        1: 0,
        2: 100,
        3: 0,
        4: 100,
        5: 0,
    }


def test_resource_hours_are_those_of_jobs_that_run_together() -> None:
    long, short = of(1, "a", "core=2", 3600), of(2, "a", "core=1", 1800)

    together = snapshot(hosts(1, 8), long, short)

    assert starts(bound(together, rule("*,*,*,/", hours="2.5"))) == {1: 0, 2: 0}
    assert starts(bound(together, rule("*,*,*,/", hours="2.4"))) == {1: 0, 2: 3600}


def test_a_share_is_of_the_resources_that_are_counted_and_not_dead() -> None:
    cluster = hosts(1, 8, type=["default"] * 6 + ["licence"] * 2)
    cluster = replace(cluster, states=[ResourceState.DEAD] * 2 + [ResourceState.ALIVE] * 6)
    crowd = snapshot(cluster, of(1, "a", "core=2"), of(2, "a", "core=1"))

    assert starts(bound(crowd, rule("*,*,*,/", "0.5*ALL"))) == {1: 0, 2: 100}
    assert starts(bound(crowd, rule("*,*,*,/", "0.5*ALL"), types=("default", "licence"))) == {1: 0, 2: 0}


def test_running_jobs_count_and_suspended_ones_and_containers_do_not() -> None:
    def crowd(**others: object) -> Snapshot:
        running = held(9, (1, 2), NOW_S + 50, user="a", **others)
        return bound(snapshot(hosts(1, 8), of(1, "a"), running=[running]), rule("*,*,*,/", jobs="1"))

    assert starts(crowd()) == {1: 50}
    assert starts(crowd(suspended=True)) == {1: 0}
    assert starts(crowd(types=("container",))) == {1: 0}


def test_inner_jobs_count() -> None:
    container = held(9, (1, 9), NOW_S + 1000, user="boss", types=("container",))
    inner = [of(n, "a", types=("inner=9",)) for n in (1, 2)]

    crowd = snapshot(hosts(1, 8), *inner, running=[container])

    assert starts(bound(crowd, rule("*,*,*,/", jobs="1"))) == {1: 0, 2: 100}


def test_besteffort_jobs_count_in_their_own_queue_only() -> None:
    queues = [Queue("default", 1), Queue("besteffort", 0)]
    besteffort = [of(n, "a", queue="besteffort", besteffort=True, types=("besteffort",)) for n in (1, 2)]
    crowd = snapshot(hosts(1, 8), *besteffort, of(3, "a"), queues=queues)

    assert starts(bound(crowd, rule("*,*,*,a", jobs="1"))) == {3: 0, 1: 0, 2: 0}
    assert starts(bound(crowd, rule("besteffort,*,*,a", jobs="1"))) == {3: 0, 1: 0, 2: 100}


def test_a_job_without_quotas_counts_all_the_same() -> None:
    crowd = snapshot(hosts(1, 8), of(1, "a"), of(2, "a", types=("no_quotas",)), of(3, "a"))

    assert starts(bound(crowd, rule("*,*,*,/", jobs="1"))) == {1: 0, 2: 0, 3: 100}


def test_a_job_that_is_more_than_its_quota_is_told_so_and_has_no_place() -> None:
    crowd = bound(snapshot(hosts(1, 8), of(1, "a", "core=4")), rule("default,*,*,a", "3"))

    assert starts(crowd) == {1: None}
    assert why(crowd, 1) == "quota default,*,*,a allows 3 resources at once, and it needs 4 by itself"


def test_another_alternative_may_fit_the_quota() -> None:
    moldable = job(1, [asks("core=4", 50), asks("core=2", 100)], user="a")

    decision = decide(bound(snapshot(hosts(1, 8), moldable), rule("*,*,*,/", "3"))).decisions[0]

    assert getattr(decision, "alternative", None) == 1


def test_the_reason_has_the_rule_and_its_numbers() -> None:
    running = [held(9, (1, 9), NOW_S + 50, user="alice")]
    crowd = snapshot(hosts(2, 8), of(1, "alice", "core=4"), of(2, "alice", "core=7", 200), running=running)
    crowd = bound(crowd, rule("default,*,*,alice", "10"))

    assert why(crowd, 1) == "quota default,*,*,alice allows 10 resources at once; 8 are in use and it needs 4"
    # By then the first job has its place.
    assert starts(crowd) == {1: 50, 2: 150}


def test_a_job_that_keeps_the_start_it_was_told_has_the_same_reason() -> None:
    running = [held(9, (1, 9), NOW_S + 50, user="alice")]
    crowd = snapshot(
        hosts(2, 8), of(1, "alice", "core=4"), running=running, queues=[Queue("default", 1, replan=Replan.EARLIER)]
    )
    crowd = bound(crowd, rule("default,*,*,alice", "10"))
    again = replace(crowd, promises=decide(crowd).promises())

    assert again.promises
    assert why(again, 1) == why(crowd, 1)


def test_a_reason_of_later_says_when() -> None:
    running = [held(9, (1, 8), NOW_S + 50, user="bob")]
    waiting = of(1, "alice", not_before_s=NOW_S + 10), of(2, "alice", "core=2")

    crowd = bound(snapshot(hosts(1, 8), *waiting, running=running), rule("*,*,*,/", jobs="1"))

    assert starts(crowd) == {1: 10, 2: 110}
    assert why(crowd, 2).startswith("quota *,*,*,/ allows 1 running jobs at once; 1 are promised for 2023-11-14 22:14")


def calendar(plain: Snapshot, *steps: tuple[int, str], until_s: int = 1 << 62, **sets: tuple[Rule, ...]) -> Snapshot:
    quotas = QuotaRules(sets, tuple((NOW_S + begin_s, name) for begin_s, name in steps), until_s)
    return replace(plain, quotas=quotas)


def test_at_night_more_is_allowed() -> None:
    sets = {"default": (rule("*,*,*,/", jobs="1"),), "night": (rule("*,*,*,/", jobs="3"),)}
    crowd = snapshot(hosts(1, 8), *(of(n, "a") for n in range(1, 5)))

    assert starts(calendar(crowd, (-10, "night"), (300, "default"), **sets)) == {1: 0, 2: 0, 3: 0, 4: 100}
    assert starts(calendar(crowd, (-10, "default"), (30, "night"), **sets)) == {1: 0, 2: 30, 3: 30, 4: 100}


def test_a_job_keeps_the_rules_of_each_time_that_it_meets() -> None:
    sets = {"default": (rule("*,*,*,/", "2"),), "night": (rule("*,*,*,/", "8"),)}
    limits = replace(TO_THE_SECOND, security_s=60)

    def start(walltime_s: int) -> int | None:
        wide = snapshot(hosts(1, 8), of(1, "a", "core=4", walltime_s), limits=limits)
        return starts(calendar(wide, (-10, "default"), (100, "night"), (200, "default"), until_s=NOW_S + 500, **sets))[
            1
        ]

    assert start(100) == 100
    assert start(101) is None


def test_where_the_calendar_ends_nothing_is_planned_that_it_could_bind() -> None:
    sets = {"default": (rule("*,*,*,alice", "2"),)}
    running = [held(9, (1, 9), NOW_S + 500)]
    crowd = snapshot(hosts(1, 8), of(1, "alice"), of(2, "bob"), running=running)

    known = calendar(crowd, (-10, "default"), until_s=NOW_S + 400, **sets)

    assert starts(known) == {1: None, 2: 500}
    assert why(known, 1).startswith("nothing suitable is free before 2023-11-14 22:20:00 UTC, and quotas are")


def test_quotas_hold_for_jobs_that_are_to_die_for_another() -> None:
    victims = [held(n, (n - 8, n - 7), NOW_S + 1000, besteffort=True) for n in range(9, 17)]
    crowd = bound(snapshot(hosts(1, 8), of(1, "a"), of(2, "a"), running=victims), rule("*,*,*,/", jobs="1"))

    assert starts(crowd) == {1: 10, 2: 110}
    assert len(decide(crowd).kills) == 1


def test_under_overload_the_quota_is_asked_for_an_immediate_start() -> None:
    limits = replace(TO_THE_SECOND, plan_first=1)
    crowd = snapshot(hosts(1, 8), of(1, "a"), of(2, "a"), of(3, "b"), limits=limits)

    assert starts(bound(crowd, rule("*,*,*,/", jobs="1"))) == {1: 0, 2: None, 3: 0}


def test_a_job_that_only_wants_to_know_uses_no_quota() -> None:
    crowd = bound(snapshot(hosts(1, 8), of(1, "a"), of(2, "a")), rule("*,*,*,/", jobs="1"))

    decisions = decide(crowd, supposed=[JobId(1)]).decisions

    assert [type(one).__name__ for one in decisions] == ["Start", "Start"]


def test_an_inquiry_counts_what_others_were_told() -> None:
    crowd = bound(snapshot(hosts(1, 8), of(1, "a", not_before_s=NOW_S + 50), of(2, "a")), rule("*,*,*,/", jobs="1"))
    told = {JobId(1): Promise(NOW_S + 50, 0, ((1, 2),))}

    findings = inquire(crowd, Platform(crowd.topology), JobId(2), told, lambda: True)

    assert findings is not None
    assert isinstance(findings.decision, Predict)
    assert findings.decision.start_s == NOW_S + 150


@pytest.mark.parametrize(
    ("text", "number", "of_all"),
    [("0", 0, False), ("12", 12, False), ("ALL", 1, True), ("0.5*ALL", 0.5, True), ("2*ALL", 2, True)],
)
def test_amounts_are_numbers_or_shares(text: str, number: float, of_all: bool) -> None:
    amount = parse_amount(text, Measure.RESOURCES)

    assert (float(amount.number), amount.of_all) == (number, of_all)


def test_a_running_job_without_a_start_counts_from_now() -> None:
    launching = HeldJob(JobId(9), "default", ((1, 2),), NOW_S + 3600, None, user="a")
    crowd = snapshot(hosts(1, 8), of(1, "a", "core=1", 3600), running=[launching])

    assert starts(bound(crowd, rule("*,*,*,/", hours="1.5"))) == {1: 3600}


def crowd_under_tight_quotas(seed: int, jobs: int, *rules: Rule) -> Snapshot:
    rng = random.Random(seed)
    requests = "core=1", "core=3", "host=1", "host=2", "host=1/core=2"
    waiting = (
        of(n, rng.choice("ab"), rng.choice(requests), rng.choice((10, 50, 100, 300))) for n in range(1, jobs + 1)
    )
    running = [held(1000 + n, (4 * n + 1, 4 * n + 3), NOW_S + 40 * n, user="a") for n in range(3)]
    return bound(snapshot(hosts(4, 4), *waiting, running=running), *rules)


@pytest.mark.parametrize("seed", range(8))
@pytest.mark.parametrize("limits", [{"hours": "0.2"}, {"jobs": "2"}, {"resources": "6", "jobs": "4"}])
def test_what_is_learnt_of_a_crowd_under_tight_quotas_changes_no_decision(seed: int, limits: dict[str, str]) -> None:
    crowd = crowd_under_tight_quotas(seed, 40, rule("*,*,*,/", **limits))

    assert not differs_from_the_definition(crowd)


def test_a_crowd_under_tight_quotas_is_not_searched_for_each_job_anew(monkeypatch: pytest.MonkeyPatch) -> None:
    crowd = crowd_under_tight_quotas(1, 400, rule("*,*,*,/", jobs="2"))
    searched = 0
    earliest = View.earliest

    def counted(view: View, demand: Demand, length_s: int, after_s: int, latest_s: int) -> Place | None:
        nonlocal searched
        searched += 1
        return earliest(view, demand, length_s, after_s, latest_s)

    monkeypatch.setattr(View, "earliest", counted)

    decide(crowd)

    assert searched < 2.5 * 400
