"""The life cycle of a job.

This table is its only definition: no other module chooses a job's next state.
The rows of ``job_edges``, against which the database checks every change, and
``schemas/job.dot`` are compared with it by tests.

A wish about a job (kill it, suspend it, checkpoint it) is a row of a table of
its own and never a state, else each wish would multiply the number of states.
"""

from __future__ import annotations

from enum import Enum

from oarpy.automata.machine import Automaton, Edge
from oarpy.model.states import FINAL
from oarpy.model.states import JobState as S


class JobEvent(Enum):
    """What can happen to a job."""

    HELD = "held"
    RELEASED = "released"
    ALLOCATED = "allocated"
    WITHDRAWN = "withdrawn"
    LAUNCH_BEGUN = "launch begun"
    NEVER_BEGAN = "never began"
    STARTED = "started"
    LAUNCH_FAILED = "launch failed"
    ENDED = "ended"
    SUSPENDED = "suspended"
    RESUME_ASKED = "resume asked"
    RESUMED = "resumed"
    CLOSED = "closed"
    FAILED = "failed"
    KILLED = "killed"
    DOOMED = "doomed"
    RESERVATION_GRANTED = "reservation granted"
    RESERVATION_REFUSED = "reservation refused"
    ACKNOWLEDGED = "acknowledged"


E = JobEvent

JOB: Automaton[S, E] = Automaton(
    "job",
    initial=[S.WAITING, S.HOLD],
    final=FINAL,
    edges=[
        Edge(S.WAITING, E.HELD, S.HOLD),
        Edge(S.HOLD, E.RELEASED, S.WAITING),
        # Before a launch a kill needs no node: one conditional change is the proof.
        Edge(S.WAITING, E.KILLED, S.ERROR),
        Edge(S.HOLD, E.KILLED, S.ERROR),
        Edge(S.TO_LAUNCH, E.KILLED, S.ERROR),
        # A dependency that can no longer be satisfied, resources that are gone for good.
        Edge(S.WAITING, E.DOOMED, S.ERROR),
        Edge(S.HOLD, E.DOOMED, S.ERROR),
        # An advance reservation is judged once, and then waits for its date.  The answer stands in
        # the tables, so both states are passed through within one transaction.
        Edge(S.WAITING, E.RESERVATION_GRANTED, S.TO_ACK_RESERVATION),
        Edge(S.TO_ACK_RESERVATION, E.ACKNOWLEDGED, S.WAITING),
        Edge(S.TO_ACK_RESERVATION, E.KILLED, S.ERROR),
        Edge(S.WAITING, E.RESERVATION_REFUSED, S.TO_ERROR),
        Edge(S.TO_ERROR, E.FAILED, S.ERROR),
        Edge(S.WAITING, E.ALLOCATED, S.TO_LAUNCH),
        # A node can die between the decision and the launch.  The job has done
        # nothing yet, so it goes back to its place in the queue.
        Edge(S.TO_LAUNCH, E.WITHDRAWN, S.WAITING),
        Edge(S.TO_LAUNCH, E.LAUNCH_BEGUN, S.LAUNCHING),
        # Only with the node's proof that the command never began.
        Edge(S.LAUNCHING, E.NEVER_BEGAN, S.WAITING),
        Edge(S.LAUNCHING, E.STARTED, S.RUNNING),
        Edge(S.LAUNCHING, E.LAUNCH_FAILED, S.FINISHING),
        Edge(S.RUNNING, E.SUSPENDED, S.SUSPENDED),
        Edge(S.SUSPENDED, E.RESUME_ASKED, S.RESUMING),
        Edge(S.RESUMING, E.SUSPENDED, S.SUSPENDED),
        Edge(S.RESUMING, E.RESUMED, S.RUNNING),
        Edge(S.RUNNING, E.ENDED, S.FINISHING),
        Edge(S.SUSPENDED, E.ENDED, S.FINISHING),
        Edge(S.RESUMING, E.ENDED, S.FINISHING),
        Edge(S.FINISHING, E.CLOSED, S.TERMINATED),
        Edge(S.FINISHING, E.FAILED, S.ERROR),
    ],
)
