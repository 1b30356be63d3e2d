"""The pass against its definition by brute force, over many small random cases."""

from __future__ import annotations

from itertools import combinations
from typing import Any

import pytest

from oarpy.model.states import JobId
from oarpy.scheduling import containers, grain
from oarpy.scheduling.bits import Bits
from oarpy.scheduling.bounds import Bounds
from oarpy.scheduling.decide import decide
from oarpy.scheduling.gantt import Gantt
from oarpy.scheduling.grain import Grain
from oarpy.scheduling.partition import Blocks
from oarpy.scheduling.plan import Begin, Doom, Grant, Plan, Postpone, Predict, Refuse, Start
from oarpy.scheduling.quotas import _Usage
from oarpy.scheduling.reservations import Bookings
from oarpy.scheduling.snapshot import Snapshot
from oarpy.scheduling.space import Space
from oarpy.scheduling.tokens import Tokens
from tests.unit.clusters import (
    random_snapshot,
    with_orderings,
    with_quotas,
    with_reservations,
    with_spaces,
    with_tokens,
)
from tests.unit.combined import PARTS, combined
from tests.unit.oracle import Answer, Oracle


def answers(snapshot: Snapshot, plan: Plan) -> dict[JobId, Answer]:
    position = {number: i for i, number in enumerate(snapshot.topology.ids)}
    found = {}
    for decision in plan.decisions:
        if isinstance(decision, Begin):
            decision = decision.start
        if isinstance(decision, Refuse):
            earliest_s = decision.why.numbers.get("earliest_s")
            found[decision.job_id] = Answer(earliest_s, ended=True)  # type: ignore[arg-type]
        elif isinstance(decision, Start | Predict | Grant):
            start_s = snapshot.now_s if isinstance(decision, Start) else decision.start_s
            resources = frozenset(position[i] for low, high in decision.resources for i in range(low, high))
            found[decision.job_id] = Answer(start_s, decision.alternative, resources)
        else:
            assert isinstance(decision, Postpone | Doom), decision
            found[decision.job_id] = Answer(None, ended=isinstance(decision, Doom))
    return found


def differs_from_the_definition(snapshot: Snapshot) -> bool:
    oracle = Oracle(snapshot).run()
    plan = decide(snapshot)
    kills = {(kill.job_id, kill.for_job) for kill in plan.kills}
    found = answers(snapshot, plan), kills, set(plan.resumes)
    return found != (oracle.answers, oracle.kills, oracle.resumes)


def test_a_pass_decides_what_its_definition_says() -> None:
    different = [seed for seed in range(1200) if differs_from_the_definition(random_snapshot(seed))]

    assert different == []


def test_containers_and_those_who_share_are_placed_as_their_definition_says() -> None:
    cases = {seed: with_spaces(random_snapshot(seed, jobs=16), seed) for seed in range(7000, 8500)}

    different = [seed for seed, snapshot in cases.items() if differs_from_the_definition(snapshot)]

    assert different == []


def test_reservations_are_kept_and_judged_as_their_definition_says() -> None:
    cases = {seed: with_reservations(random_snapshot(seed, jobs=14), seed) for seed in range(20_000, 21_500)}

    different = [seed for seed, snapshot in cases.items() if differs_from_the_definition(snapshot)]

    assert different == []


@pytest.mark.parametrize("part", ["_displace", "_reserve", "_ready"])
def test_reservations_that_are_not_kept_are_caught(monkeypatch: pytest.MonkeyPatch, part: str) -> None:
    monkeypatch.setattr(Bookings, part, lambda self, *parts: ~0 if part == "_ready" else None)

    cases = (with_reservations(random_snapshot(seed, jobs=14), seed) for seed in range(20_000, 20_200))
    assert any(differs_from_the_definition(snapshot) for snapshot in cases)


def test_rows_of_whole_blocks_decide_as_their_definition_says(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(grain, "_WORTHWHILE_SIZE", 1)

    different = [seed for seed in range(1200, 1800) if differs_from_the_definition(random_snapshot(seed, jobs=20))]

    assert different == []


def test_long_plans_are_searched_as_their_definition_says() -> None:
    different = [seed for seed in range(60) if differs_from_the_definition(random_snapshot(seed, jobs=60))]

    assert different == []


def test_orderings_are_as_their_definition_says() -> None:
    cases = {seed: with_orderings(random_snapshot(seed, jobs=16), seed) for seed in range(5000, 6200)}

    different = [seed for seed, case in cases.items() if differs_from_the_definition(case)]
    assert different == []


def test_quotas_are_kept_as_their_definition_says() -> None:
    different = [
        seed for seed in range(1500) if differs_from_the_definition(with_quotas(random_snapshot(seed, jobs=30), seed))
    ]

    assert different == []


def test_tokens_are_given_as_their_definition_says() -> None:
    different = [seed for seed in range(600) if differs_from_the_definition(with_tokens(random_snapshot(seed), seed))]

    assert different == []


@pytest.mark.parametrize("parts", [*combinations(PARTS, 2), tuple(PARTS)], ids="+".join)
def test_policies_that_meet_are_as_their_definition_says(parts: tuple[str, ...]) -> None:
    seeds = range(31_000, 31_000 + (120 if len(parts) == 2 else 400))

    different = [seed for seed in seeds if differs_from_the_definition(combined(seed, *parts))]

    assert different == []


def test_a_reservation_that_lets_sharers_in_is_caught(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(Space, "reserve", Space.occupy)

    cases = (combined(seed, "spaces", "reservations") for seed in range(1050, 1150))
    assert any(differs_from_the_definition(snapshot) for snapshot in cases)


def test_tokens_that_are_given_twice_are_caught(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(Tokens, "take", lambda self, job: None)

    assert any(differs_from_the_definition(with_tokens(random_snapshot(seed), seed)) for seed in range(50))


def test_a_gantt_that_frees_resources_one_slot_too_early_is_caught(monkeypatch: pytest.MonkeyPatch) -> None:
    occupy = Gantt.occupy

    def too_short(self: Gantt, start_s: int, end_s: int, taken: Bits, **others: Any) -> None:
        occupy(self, start_s, max(start_s + 1, end_s - 61), taken, **others)

    monkeypatch.setattr(Gantt, "occupy", too_short)

    assert any(differs_from_the_definition(random_snapshot(seed)) for seed in range(20))


def test_a_search_that_jumps_one_slot_too_far_is_caught(monkeypatch: pytest.MonkeyPatch) -> None:
    earliest = Gantt.earliest
    monkeypatch.setattr(
        Gantt, "earliest", lambda self, demand, length, after, *rest: earliest(self, demand, length, after + 1, *rest)
    )

    assert any(differs_from_the_definition(random_snapshot(seed)) for seed in range(20))


def test_blocks_that_miscount_are_caught(monkeypatch: pytest.MonkeyPatch) -> None:
    having = Blocks.having
    monkeypatch.setattr(Blocks, "having", lambda self, bits, count: having(self, bits, min(count, 1)))

    assert any(differs_from_the_definition(random_snapshot(seed)) for seed in range(100))


def test_rows_of_whole_blocks_that_lose_sight_of_what_was_taken_are_caught(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(grain, "_WORTHWHILE_SIZE", 1)
    touched = Grain.touched
    monkeypatch.setattr(Grain, "touched", lambda self, resources: touched(self, resources & (resources - 1)))

    assert any(differs_from_the_definition(random_snapshot(seed)) for seed in range(100))


@pytest.mark.parametrize("forgotten", ["lend", "withdraw"])
def test_sharing_that_forgets_who_has_what_is_caught(monkeypatch: pytest.MonkeyPatch, forgotten: str) -> None:
    monkeypatch.setattr(Gantt, forgotten, lambda self, pool, ends: None)

    assert any(differs_from_the_definition(with_spaces(random_snapshot(seed), seed)) for seed in range(7000, 7300))


def test_containers_that_have_no_end_are_caught(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(containers, "closing", lambda gantt, end_s, gone=-1: None)

    assert any(differs_from_the_definition(with_spaces(random_snapshot(seed), seed)) for seed in range(7000, 7300))


def test_bounds_that_are_a_second_too_late_are_caught(monkeypatch: pytest.MonkeyPatch) -> None:
    learn = Bounds.learn
    monkeypatch.setattr(
        Bounds, "learn", lambda self, demand, length_s, bound_s: learn(self, demand, length_s, bound_s + 1)
    )

    assert any(differs_from_the_definition(random_snapshot(seed)) for seed in range(100))


def test_quotas_that_look_one_step_too_short_are_caught(monkeypatch: pytest.MonkeyPatch) -> None:
    last_above = _Usage.last_above
    monkeypatch.setattr(
        _Usage, "last_above", lambda self, most, begin_s, end_s: last_above(self, most, begin_s, begin_s + 1)
    )

    assert any(differs_from_the_definition(with_quotas(random_snapshot(seed, jobs=30), seed)) for seed in range(200))
