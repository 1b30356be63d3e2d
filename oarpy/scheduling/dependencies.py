"""When a job may start at the earliest, for all that it waits for other than resources."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass

from oarpy.model.states import FINAL, HOLDING, DependencyKind, JobId
from oarpy.scheduling.explain import (
    AFTER_JOB,
    NOT_BEFORE,
    REQUIRED_FAILED,
    REQUIRED_NEVER_STARTED,
    REQUIRED_PENDING,
    REQUIRED_SUCCEEDED,
    REQUIRED_UNKNOWN,
    WINDOW_PASSED,
)
from oarpy.scheduling.gantt import NEVER_S
from oarpy.scheduling.plan import Doom, Postpone, Why
from oarpy.scheduling.snapshot import Dependency, WaitingJob


@dataclass(frozen=True, slots=True)
class Period:
    """When a waiting job is planned to hold resources."""

    start_s: int
    end_s: int


@dataclass(frozen=True, slots=True)
class Gate:
    """The job may start within ``[earliest_s, latest_s]``; ``why`` says what keeps it from starting now.

    Its walltime must be over by ``ends_by_s``.
    """

    earliest_s: int
    latest_s: int = NEVER_S
    why: Why | None = None
    ends_by_s: int = NEVER_S


def gate(job: WaitingJob, now_s: int, planned: Mapping[JobId, Period]) -> Gate | Postpone | Doom:
    """What the job's dependencies and its start date say; ``planned`` are the jobs placed so far."""
    if job.not_before_s is None and not job.dependencies:
        return Gate(now_s)
    combined = Gate(now_s)
    if job.not_before_s is not None and job.not_before_s > now_s:
        combined = Gate(job.not_before_s, why=Why(NOT_BEFORE, {"not_before_s": job.not_before_s}))
    for dependency in job.dependencies:
        verdict = _verdict(dependency, now_s, planned)
        if isinstance(verdict, _Never):
            return Doom(job.job_id, verdict.why)
        if isinstance(verdict, _Unknown):
            return Postpone(job.job_id, verdict.why)
        later = verdict if verdict.earliest_s > combined.earliest_s else combined
        combined = Gate(later.earliest_s, min(verdict.latest_s, combined.latest_s), later.why)
    return combined


@dataclass(frozen=True, slots=True)
class _Never:
    why: Why


@dataclass(frozen=True, slots=True)
class _Unknown:
    why: Why


def _verdict(dependency: Dependency, now_s: int, planned: Mapping[JobId, Period]) -> Gate | _Never | _Unknown:
    refusal = _refusal(dependency)
    if refusal is not None:
        return _Never(Why(refusal, {"required": dependency.required}))
    if dependency.state is None:
        # Only a job that is over is ever forgotten, and nothing is known of its dates.
        return Gate(now_s)
    after_start = dependency.kind is DependencyKind.AFTER
    happened_s = dependency.started_s if after_start else dependency.ended_s
    if not after_start and dependency.state not in FINAL:
        happened_s = None
    soonest, latest = dependency.window_s
    if happened_s is not None:
        return _follows(dependency, now_s, happened_s + (soonest or 0), None if latest is None else happened_s + latest)
    expected_s = _expected(dependency, now_s, planned)
    if expected_s is None:
        numbers: dict[str, object] = {"required": dependency.required, "state": dependency.state.value}
        return _Unknown(Why(REQUIRED_PENDING, numbers))
    # Whatever the dates say, the required job has not come so far yet.
    earliest_s = max(now_s + 1, expected_s, expected_s + (soonest or 0))
    return Gate(
        earliest_s,
        NEVER_S if latest is None else max(earliest_s, expected_s + latest),
        Why(AFTER_JOB, {"required": dependency.required, "expected_s": earliest_s}),
    )


def _follows(dependency: Dependency, now_s: int, earliest_s: int, latest_s: int | None) -> Gate | _Never:
    """The gate when what was waited for has happened."""
    if latest_s is not None and latest_s < now_s:
        return _Never(Why(WINDOW_PASSED, {"required": dependency.required, "latest_s": latest_s}))
    why = Why(AFTER_JOB, {"required": dependency.required, "expected_s": earliest_s}) if earliest_s > now_s else None
    return Gate(max(now_s, earliest_s), NEVER_S if latest_s is None else latest_s, why)


def _refusal(dependency: Dependency) -> str | None:
    """The code of the reason for which the dependency can never be satisfied."""
    kind = dependency.kind
    if dependency.state is None:
        return REQUIRED_UNKNOWN if kind in (DependencyKind.AFTEROK, DependencyKind.AFTERNOTOK) else None
    if dependency.state not in FINAL:
        return None
    if kind is DependencyKind.AFTER and dependency.started_s is None:
        return REQUIRED_NEVER_STARTED
    if kind is DependencyKind.AFTEROK and not dependency.succeeded:
        return REQUIRED_FAILED
    if kind is DependencyKind.AFTERNOTOK and dependency.succeeded:
        return REQUIRED_SUCCEEDED
    return None


def _expected(dependency: Dependency, now_s: int, planned: Mapping[JobId, Period]) -> int | None:
    """When the required job is expected to have started or ended."""
    period = planned.get(dependency.required)
    if dependency.kind is DependencyKind.AFTER:
        if dependency.state in HOLDING:
            return now_s
        return period.start_s if period is not None else None
    if dependency.planned_end_s is not None:
        return dependency.planned_end_s
    return period.end_s if period is not None else None
