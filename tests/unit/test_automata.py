"""The three machines: every state can be reached and left, and no module's answer is unknown."""

from __future__ import annotations

from enum import Enum
from typing import Any

import pytest

from oarpy.automata.almighty import ALMIGHTY, Event, Step
from oarpy.automata.job import JOB, JobEvent
from oarpy.automata.machine import Automaton, Edge
from oarpy.automata.resource import RESOURCE, ResourceEvent
from oarpy.errors import IllegalTransition
from oarpy.model.states import FINAL, HOLDING, JobState, ResourceState

MACHINES = [
    pytest.param(JOB, JobState, JobEvent, id="job"),
    pytest.param(RESOURCE, ResourceState, ResourceEvent, id="resource"),
    pytest.param(ALMIGHTY, Step, Event, id="almighty"),
]


def reached(automaton: Automaton[Any, Any], begin: set[Enum]) -> set[Enum]:
    """The states that some events lead to from those in ``begin``, themselves included."""
    found: set[Enum] = set()
    while begin - found:
        found |= begin
        begin = {after for before, after in automaton.pairs() if before in found}
    return found


@pytest.mark.parametrize(("automaton", "states", "events"), MACHINES)
def test_every_state_can_be_reached(automaton: Automaton[Any, Any], states: type[Enum], events: type[Enum]) -> None:
    assert reached(automaton, set(automaton.initial)) == set(states)


@pytest.mark.parametrize(("automaton", "states", "events"), MACHINES)
def test_every_event_happens_somewhere(automaton: Automaton[Any, Any], states: type[Enum], events: type[Enum]) -> None:
    assert {edge.event for edge in automaton.edges} == set(events)


@pytest.mark.parametrize("state", sorted(set(JobState) - FINAL))
def test_every_unfinished_job_can_still_end(state: JobState) -> None:
    assert reached(JOB, {state}) & FINAL


@pytest.mark.parametrize("state", sorted(FINAL))
def test_nothing_happens_to_a_job_that_is_over(state: JobState) -> None:
    assert [edge for edge in JOB.edges if edge.before is state] == []


def test_only_what_was_never_launched_is_killed_without_its_node() -> None:
    assert set(JOB.moves(JobEvent.KILLED)) & HOLDING == {JobState.TO_LAUNCH}


def test_a_job_that_ran_is_never_waiting_again() -> None:
    assert JobState.WAITING not in reached(JOB, {JobState.RUNNING})


@pytest.mark.parametrize("step", sorted(set(Step) - {Step.LISTEN}, key=lambda step: step.value))
def test_every_module_may_find_nothing_and_may_fail(step: Step) -> None:
    outcomes = {edge.event for edge in ALMIGHTY.edges if edge.before is step}

    assert {Event.NOTHING, Event.FAILED} <= outcomes


@pytest.mark.parametrize("step", list(Step))
def test_almighty_always_comes_back_to_listening(step: Step) -> None:
    assert Step.LISTEN in reached(ALMIGHTY, {step})


def test_failures_alone_lead_back_to_listening() -> None:
    step = Step.SCHEDULE
    for _ in Step:
        if step is not Step.LISTEN:
            step = ALMIGHTY.after(step, Event.FAILED)

    assert step is Step.LISTEN


def test_an_event_in_a_state_that_does_not_know_it_is_an_error_that_names_both() -> None:
    with pytest.raises(IllegalTransition, match=r"job: STARTED in state Waiting"):
        JOB.after(JobState.WAITING, JobEvent.STARTED)


def test_one_event_leads_to_one_state() -> None:
    twice = [Edge(Step.LISTEN, Event.HINTED, Step.SCHEDULE), Edge(Step.LISTEN, Event.HINTED, Step.KILL)]

    with pytest.raises(ValueError, match="two edges"):
        Automaton("broken", initial=[Step.LISTEN], edges=twice)
