"""Almighty's turn: what it does next, given what just came of the last step.

The server rests in LISTEN.  SCHEDULE and CHECK only call the scheduler and finaud,
processes of their own, and never wait for them: kills and node changes must not wait for a pass.  A
module that raised answers FAILED, and the server goes on.
"""

from __future__ import annotations

from enum import Enum

from oarpy.automata.machine import Automaton, Edge


class Step(Enum):
    """What almighty can be doing."""

    LISTEN = "listen"
    SCHEDULE = "schedule"
    CHANGE_NODES = "node_change_state"
    KILL = "leon"
    WATCH = "sarko"
    CHECK = "finaud"


class Event(Enum):
    """What can come of a step; all but the first five are a module's outcome."""

    HINTED = "hinted"
    SCHEDULE_DUE = "schedule due"
    WATCH_DUE = "watch due"
    CHECK_DUE = "check due"
    KILL_WANTED = "kill wanted"
    NOTHING = "nothing"
    JOBS_CHANGED = "jobs changed"
    JOBS_TO_KILL = "jobs to kill"
    FAILED = "failed"


S, E = Step, Event

ALMIGHTY: Automaton[Step, Event] = Automaton(
    "almighty",
    initial=[S.LISTEN],
    edges=[
        Edge(S.LISTEN, E.HINTED, S.SCHEDULE),
        Edge(S.LISTEN, E.SCHEDULE_DUE, S.SCHEDULE),
        Edge(S.LISTEN, E.WATCH_DUE, S.WATCH),
        Edge(S.LISTEN, E.CHECK_DUE, S.CHECK),
        # The scheduler's answer: besteffort jobs must go.
        Edge(S.LISTEN, E.KILL_WANTED, S.KILL),
        # The scheduler works on its own from here; meanwhile the short modules.
        Edge(S.SCHEDULE, E.NOTHING, S.CHANGE_NODES),
        Edge(S.SCHEDULE, E.FAILED, S.CHANGE_NODES),
        Edge(S.CHANGE_NODES, E.NOTHING, S.KILL),
        Edge(S.CHANGE_NODES, E.JOBS_TO_KILL, S.KILL),
        Edge(S.CHANGE_NODES, E.JOBS_CHANGED, S.SCHEDULE),
        Edge(S.CHANGE_NODES, E.FAILED, S.KILL),
        Edge(S.WATCH, E.NOTHING, S.LISTEN),
        Edge(S.WATCH, E.JOBS_TO_KILL, S.KILL),
        Edge(S.WATCH, E.JOBS_CHANGED, S.SCHEDULE),
        Edge(S.WATCH, E.FAILED, S.LISTEN),
        # It checks on its own from here, and hints when a host has changed.
        Edge(S.CHECK, E.NOTHING, S.LISTEN),
        Edge(S.CHECK, E.FAILED, S.LISTEN),
        Edge(S.KILL, E.NOTHING, S.LISTEN),
        Edge(S.KILL, E.JOBS_CHANGED, S.SCHEDULE),
        Edge(S.KILL, E.FAILED, S.LISTEN),
    ],
)
