"""Why a job does not start now, and what would start it earlier, told by the core that decides."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping
from dataclasses import replace

import pytest

from oarpy.model.request import Alternative, Level, ResourceRequest
from oarpy.model.states import JobId
from oarpy.scheduling.decide import decide
from oarpy.scheduling.findings import Change, Findings
from oarpy.scheduling.gantt import Gantt
from oarpy.scheduling.inquiry import inquire
from oarpy.scheduling.plan import Decision, Plan, Predict, SetAside, Start
from oarpy.scheduling.platform import Platform
from oarpy.scheduling.snapshot import Promise, Queue, Reservation, Snapshot
from tests.unit.clusters import NOW_S, asks, held, hosts, job, random_snapshot, snapshot, with_orderings, with_quotas

HOUR_S = 3600


def asked(situation: Snapshot, job_id: int, told: Mapping[JobId, Promise] | None = None) -> Findings:
    places = decide(situation).promises() if told is None else told
    findings = inquire(situation, Platform(situation.topology), JobId(job_id), places, lambda: True)
    assert findings is not None
    return findings


def start_s(decision: Decision, now_s: int = NOW_S) -> int | None:
    if isinstance(decision, Start):
        return now_s
    return decision.start_s if isinstance(decision, Predict) else None


def with_request(situation: Snapshot, job_id: JobId, alternative: Alternative) -> Snapshot:
    """The same situation had the job asked for this."""
    waiting = tuple(
        replace(one, request_id=-1, request=ResourceRequest((alternative,))) if one.job_id == job_id else one
        for one in situation.waiting
    )
    return replace(situation, waiting=waiting)


def changes(findings: Findings) -> list[tuple[str, int, Alternative]]:
    return [(change.kind, change.start_s - NOW_S, change.alternative) for change in findings.changes]


def test_each_level_is_told_of_in_numbers():
    running = [held(-1, (1, 5), NOW_S + HOUR_S), held(-2, (5, 8), NOW_S + 2 * HOUR_S)]
    cluster = hosts(4, 4)

    findings = asked(snapshot(cluster, job(1, "host=3/core=2"), running=running), 1)

    ((by_host, by_core),) = findings.alternatives[0].groups
    assert (by_host.property, by_host.needed, by_host.existing, by_host.matching) == ("host", 3, 4, 4)
    assert (by_host.able, by_host.free, by_host.staying) == (4, 2, 2)
    assert (by_core.property, by_core.needed, by_core.existing, by_core.free) == ("core", 2, 16, 9)


def test_what_is_free_now_and_planned_for_a_job_before_it_does_not_stay_free():
    running = [held(-1, (1, 4), NOW_S + HOUR_S)]
    situation = snapshot(hosts(2, 3), job(1, "core=4"), job(2, "core=1", 2 * HOUR_S), running=running)

    findings = asked(situation, 2)

    ((cores,),) = findings.alternatives[0].groups
    assert (cores.free, cores.staying) == (3, 2)


def test_who_holds_what_it_is_planned_on_and_who_gets_it_before():
    running = [held(-1, (1, 2), NOW_S + 50, user="bob"), held(-2, (2, 3), NOW_S + 100, user="eve")]
    situation = snapshot(hosts(1, 2), job(1, "core=2", 200, user="ann"), job(2, "core=2", 100), running=running)

    findings = asked(situation, 2)

    assert [(each.job_id, each.user, each.end_s - NOW_S) for each in findings.holders] == [
        (-1, "bob", 50),
        (-2, "eve", 100),
    ]
    assert [(each.job_id, each.user, each.start_s, each.end_s, each.resources) for each in findings.takers] == [
        (1, "ann", NOW_S + 100, NOW_S + 300, 2)
    ]
    assert (findings.before, findings.taking_jobs, findings.in_question) == (1, 1, 2)


def test_a_reservation_that_comes_first_is_named():
    reserved = Reservation(JobId(9), "default", 0, NOW_S + 60, NOW_S + 600, ((1, 2),), user="ann")
    late = replace(reserved, job_id=JobId(8), start_s=NOW_S + 9000, end_s=NOW_S + 9600)
    situation = replace(snapshot(hosts(1, 1), job(1, "core=1", 900)), reserved=(reserved, late))

    findings = asked(situation, 1)

    assert start_s(findings.decision) == NOW_S + 600
    assert [(each.job_id, each.user, each.end_s - NOW_S) for each in findings.reservations] == [(9, "ann", 600)]
    assert changes(findings) == [("walltime", 0, asks("core=1", 60))]


def test_of_many_that_hold_it_the_last_ones_are_named_and_all_are_counted():
    running = [held(-number, (number, number + 1), NOW_S + 10 * number) for number in range(1, 10)]

    findings = asked(snapshot(hosts(1, 9), job(1, "core=9"), running=running), 1)

    assert [each.job_id for each in findings.holders] == [-5, -6, -7, -8, -9]
    assert (findings.holding_jobs, findings.holding_resources) == (9, 9)


def test_a_shorter_walltime_fits_before_the_plan_of_another_job():
    running = [held(-1, (1, 2), NOW_S + HOUR_S)]
    situation = snapshot(hosts(1, 2), job(1, "core=2", 600), job(2, "core=1", HOUR_S + 1), running=running)

    findings = asked(situation, 2)

    assert changes(findings) == [("walltime", 0, asks("core=1", HOUR_S))]


def test_no_change_is_told_that_would_put_off_what_another_job_was_told():
    running = [held(-1, (1, 2), NOW_S + 1000)]
    first, second = job(1, "core=2", 600), job(2, "core=1", 900)
    situation = snapshot(hosts(1, 2), job(3, "core=2", 600, submitted_s=NOW_S - 10), first, second, running=running)
    told = {JobId(2): Promise(NOW_S + 50, 0, ((2, 3),))}

    assert changes(asked(situation, 1, {})) == [("count", 0, asks("core=1", 600))]
    assert changes(asked(situation, 1, told)) == []


def test_no_change_is_told_that_would_put_off_another_besteffort_job():
    running = [held(-1, (1, 2), NOW_S + 1000, besteffort=True)]
    first, second = job(1, "core=2", 600, besteffort=True), job(2, "core=1", 900, besteffort=True)
    before = job(3, "core=2", 600, submitted_s=NOW_S - 10, besteffort=True)
    situation = snapshot(hosts(1, 2), before, first, second, running=running)
    told = {JobId(2): Promise(NOW_S + 50, 0, ((2, 3),))}

    assert changes(asked(situation, 1, {})) == [("count", 0, asks("core=1", 600))]
    assert changes(asked(situation, 1, told)) == []


def test_fewer_hosts_may_be_free_earlier_and_still_fewer_now():
    running = [held(-number, (number, number + 1), NOW_S + 100 * number) for number in (2, 3, 4)]
    situation = snapshot(hosts(4, 1), job(1, "host=4"), running=running)

    findings = asked(situation, 1)

    assert changes(findings) == [("count", 300, asks("host=3")), ("count", 0, asks("host=1"))]


def test_an_alternative_that_would_end_later_may_start_earlier():
    wishes = [asks("core=2", 100), asks("core=1", 5000)]
    situation = snapshot(hosts(1, 2), job(1, wishes), running=[held(-1, (1, 2), NOW_S + 300)])

    findings = asked(situation, 1)

    assert start_s(findings.decision) == NOW_S + 300
    assert ("alternative", 0, wishes[1]) in changes(findings)
    assert [each.start_s for each in findings.alternatives] == [NOW_S + 300, NOW_S]


def test_what_no_state_of_the_cluster_could_hold_is_told_with_what_it_could():
    findings = asked(snapshot(hosts(3, 2), job(1, "host=5/core=2")), 1)

    assert start_s(findings.decision) is None
    assert findings.alternatives[0].refusal is not None
    ((by_host, _),) = findings.alternatives[0].groups
    assert (by_host.needed, by_host.able) == (5, 3)
    assert changes(findings) == [("count", 0, asks("host=3/core=2"))]


def test_an_unknown_property_leaves_nothing_to_count():
    findings = asked(snapshot(hosts(1, 1), job(1, "switch=1")), 1)

    assert [each.groups for each in findings.alternatives] == [()]
    assert findings.changes == ()


def test_when_as_much_as_it_needs_is_first_free_is_told_apart_from_its_start():
    running = [held(-1, (1, 2), NOW_S + 1000)]
    situation = snapshot(hosts(1, 2), job(1, "core=2", 600), job(2, "core=1", 1200), running=running)

    findings = asked(situation, 2)

    assert (findings.alternatives[0].enough_s, findings.alternatives[0].start_s) == (NOW_S, NOW_S + 1600)


def test_an_inner_job_is_looked_at_in_its_container():
    running = [
        held(5, (1, 4), NOW_S + HOUR_S, types=("container",), user="ann"),
        held(6, (1, 3), NOW_S + 100, types=("inner=5",), space=JobId(5), user="bob"),
    ]
    inner = job(1, "core=2", 600, types=("inner=5",))
    outer = job(2, "core=2", 600)
    situation = snapshot(hosts(1, 4), inner, outer, running=running)

    inside, outside = asked(situation, 1), asked(situation, 2)

    assert [(each.job_id, each.resources) for each in inside.holders] == [(6, 2)]
    assert [(each.job_id, each.resources) for each in outside.holders] == [(5, 2)]
    (cores,) = inside.alternatives[0].groups[0]
    assert (cores.free, cores.able, cores.existing) == (1, 3, 3)


@pytest.mark.parametrize("active", [True, False])
def test_an_inner_job_waits_with_its_container(active: bool):
    container = job(2, "core=2", queue="late", types=("container",))
    situation = snapshot(
        hosts(1, 2),
        job(1, "core=1", 600, types=("inner=2",)),
        container,
        running=[held(-1, (1, 2), NOW_S + 100)],
        queues=(Queue("default", 1), Queue("late", 0, active)),
    )

    findings = asked(situation, 1)

    assert findings.decision == decided(situation, JobId(1))
    assert (start_s(findings.decision) is not None) == active


def test_a_job_that_does_not_wait_is_not_found():
    situation = snapshot(hosts(1, 1), job(1))

    assert inquire(situation, Platform(situation.topology), JobId(2), {}, lambda: True) is None


def test_without_time_the_rest_is_left_out_and_said_to_be():
    running = [held(-1, (1, 3), NOW_S + 1000)]
    situation = snapshot(hosts(1, 2), job(1, "core=2"), job(2, "core=2"), running=running)

    findings = inquire(situation, Platform(situation.topology), JobId(2), {}, lambda: False)

    assert findings is not None
    assert (findings.complete, findings.unplanned, findings.changes) == (False, 1, ())
    assert start_s(findings.decision) is not None


def test_a_job_on_which_deciding_fails_is_told_to_be_set_aside(monkeypatch: pytest.MonkeyPatch):
    def failing(*_: object) -> None:
        raise RuntimeError("injected")

    monkeypatch.setattr(Gantt, "earliest", failing)

    findings = inquire(snapshot(hosts(1, 1), job(1)), Platform(hosts(1, 1)), JobId(1), {}, lambda: True)

    assert findings is not None
    assert isinstance(findings.decision, SetAside)
    assert (findings.alternatives, findings.changes) == ((), ())


Vary = Callable[[Snapshot, int], Snapshot]


def plain(situation: Snapshot, _: int) -> Snapshot:
    return situation


def cases(seeds: range, vary: Vary = plain) -> Iterator[tuple[Snapshot, Plan]]:
    for seed in seeds:
        situation = vary(random_snapshot(seed), seed)
        situation = replace(situation, limits=replace(situation.limits, plan_first=None))
        yield situation, decide(situation)


@pytest.mark.parametrize("knows_places", [True, False])
@pytest.mark.parametrize("vary", [plain, with_quotas, with_orderings])
def test_an_inquiry_tells_what_the_pass_decides(vary: Vary, knows_places: bool):
    for situation, plan in cases(range(40), vary):
        for decision in plan.decisions:
            findings = asked(situation, decision.job_id, plan.promises() if knows_places else {})

            assert type(findings.decision) is type(decision)
            assert start_s(findings.decision) == start_s(decision)


def test_a_pass_over_the_changed_request_keeps_what_was_promised_of_it():
    told = 0
    for situation, plan in cases(range(60)):
        for decision in plan.decisions:
            for change in asked(situation, decision.job_id, {}).changes:
                told += 1
                changed = decided(with_request(situation, decision.job_id, change.alternative), decision.job_id)

                assert start_s(changed, situation.now_s) == change.start_s
                before_s = start_s(decision, situation.now_s)
                assert before_s is None or change.start_s < before_s
    assert told > 100


def test_the_change_that_is_told_is_the_smallest_of_its_kind():
    for situation, plan in cases(range(60)):
        for decision in plan.decisions:
            first: dict[object, Change] = {}
            for change in asked(situation, decision.job_id, {}).changes:
                if change.kind != "alternative" and change.beside is None:
                    first.setdefault((change.kind, change.group, change.level), change)
            for change in first.values():
                smaller = smaller_change(situation, decision.job_id, change)
                if smaller is not None:
                    before_s = start_s(decision, situation.now_s)
                    found = decided(with_request(situation, decision.job_id, smaller), decision.job_id)
                    found_s = start_s(found, situation.now_s)
                    assert found_s is None or (before_s is not None and found_s >= before_s)


def smaller_change(situation: Snapshot, job_id: JobId, change: Change) -> Alternative | None:
    """One step nearer to what was asked for; None when that is what was asked for."""
    request = next(one.request for one in situation.waiting if one.job_id == job_id)
    wanted = request.alternatives[change.index]
    if change.group is None or change.level is None:
        walltime_s = change.alternative.walltime_s + situation.limits.grid_s
        return replace(wanted, walltime_s=walltime_s) if walltime_s < wanted.walltime_s else None
    group = change.alternative.groups[change.group]
    count = group.levels[change.level].count + 1
    if count == wanted.groups[change.group].levels[change.level].count:
        return None
    levels = list(group.levels)
    levels[change.level] = Level(levels[change.level].property, count, levels[change.level].beside)
    groups = list(wanted.groups)
    groups[change.group] = replace(group, levels=tuple(levels))
    return replace(wanted, groups=tuple(groups))


def decided(situation: Snapshot, job_id: JobId) -> Decision:
    return next(decision for decision in decide(situation).decisions if decision.job_id == job_id)


def test_many_places_are_taken_in_one_sweep_as_one_by_one():
    periods = [(3, 9, 0b0011), (5, 12, 0b0100), (9, 10, 0b0001), (20, 40, 0b1100), (4, 6, 0b0110), (0, 5, 0b1000)]
    periods.append((7, 8, 0b0010))
    one_by_one, at_once = Gantt(0, 0b1111, 1), Gantt(0, 0b1111, 1)
    for gantt in (one_by_one, at_once):
        gantt.hold([(7, 0b1000)])

    for period in periods:
        one_by_one.occupy(*period)
    at_once.occupy_all(periods)

    assert [at_once.room(instant, 1) for instant in range(41)] == [one_by_one.room(instant, 1) for instant in range(41)]
