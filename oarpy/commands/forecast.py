"""``oarstat --forecast``: planned starts, and how good they have been."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from typing import Any

from oarpy.client import forecast
from oarpy.client.forecast import Forecast, Prediction, Score
from oarpy.client.job_view import Detail
from oarpy.commands.listing import printable, shown_date
from oarpy.model.durations import render_elapsed

#: What the kinds of predictions are called.
KINDS = {
    "told": "told at submission",
    "first": "the first, told later",
    "hourly": "told every hour",
}


def of_jobs(found: Sequence[Forecast], scores: Sequence[Score]) -> Iterator[str]:
    """The waiting jobs as a table, and the scores below it."""
    if found:
        yield f"{'Job id':<9} {'User':<8} {'Queue':<10} {'Planned start':<19} {'First told':<19} Shift"
        yield " ".join("-" * width for width in (9, 8, 10, 19, 19, 10))
    for job in found:
        shift = _signed(job.start_s - job.first_s) if job.start_s is not None and job.first_s is not None else ""
        planned = shown_date(job.start_s) if job.start_s is not None else "-"
        first = shown_date(job.first_s) if job.first_s is not None else "-"
        why = printable(job.why or "") if job.start_s is None else shift
        yield f"{job.job_id:<9} {job.user:<8.8} {job.queue:<10.10} {planned:<19} {first:<19} {why}".rstrip()
    if found and scores:
        yield ""
    yield from _scores(scores)


def of_job(job: Detail, found: Sequence[Prediction], scores: Sequence[Score]) -> Iterator[str]:
    """What was predicted for one job and what came of it, and the scores of its queue."""
    if job.started_s is not None:
        yield f"Job {job.job_id} started at {shown_date(job.started_s)}."
    elif job.predicted_s is not None:
        yield f"Job {job.job_id} is planned to start at {shown_date(job.predicted_s)}."
    else:
        yield f"Job {job.job_id} has no planned start."
    for one in found:
        came = "" if job.started_s is None else f", {_off(job.started_s - one.start_s)}"
        yield f"  said at {shown_date(one.said_s)} ({KINDS[one.kind]}): {shown_date(one.start_s)}{came}"
    yield from _scores(scores)


def _scores(scores: Sequence[Score]) -> Iterator[str]:
    if not scores:
        return
    yield f"Real start minus told start, predictions of the last {forecast.PERIOD}:"
    errors = " ".join(f"{title:>11}" for title in ("Mean", "10 %", "50 %", "90 %"))
    yield f"{'Queue':<10} {'Prediction':<22} {'Jobs':>7} {errors} {'In time':>7}"
    for score in scores:
        numbers = (score.mean_error_s, score.error_10_s, score.error_50_s, score.error_90_s)
        shown = " ".join(f"{_signed(error_s):>11}" for error_s in numbers)
        kind, in_time = KINDS[score.kind], score.in_time * 100
        yield f"{score.queue:<10.10} {kind:<22} {score.predictions:>7} {shown} {in_time:>5.0f} %"


def _signed(seconds: int) -> str:
    return f"{'-' if seconds < 0 else '+'}{render_elapsed(abs(seconds))}"


def _off(seconds: int) -> str:
    if abs(seconds) < 60:
        return "and so it was"
    return f"it started {render_elapsed(abs(seconds))} {'later' if seconds > 0 else 'sooner'}"


def document(
    found: Sequence[Forecast], scores: Sequence[Score], job: Detail | None, told: Sequence[Prediction]
) -> dict[str, Any]:
    """The same as data."""
    listed: dict[str, Any] = {
        "scores": [each._asdict() for each in scores],
        "period": forecast.PERIOD,
    }
    if job is None:
        return {"jobs": [each._asdict() for each in found]} | listed
    return {
        "job_id": job.job_id,
        "started_s": job.started_s,
        "start_s": job.predicted_s,
        "predictions": [each._asdict() for each in told],
    } | listed
