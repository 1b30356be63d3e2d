"""The dates that a submission names: malformed, contradictory and past ones are refused."""

from __future__ import annotations

from datetime import UTC, datetime, timedelta

from oarpy.actions.admission import Submission
from oarpy.errors import RequestRefused
from oarpy.model.exit_statuses import ExitStatus
from oarpy.model.job_dates import DEADLINE, EXPIRE, NO_DATES, Dates, Moment, dates_of, local


def dates_allowed(submission: Submission) -> Dates:
    """The dates among the types, each with its offset from UTC.

    Raises:
        RequestRefused: one is malformed, or they leave the job no time to start.
    """
    named = dates_of(submission.types)
    if named == NO_DATES:
        return named
    dates = Dates(*(None if moment is None else local(moment) for moment in named))
    now = datetime.now(UTC)
    earliest = now if dates.not_before is None else max(now, _instant(dates.not_before, now))
    walltimes = [each.walltime or submission.site.default_walltime for each in submission.alternatives]
    if dates.expires is not None and _instant(dates.expires, now) < earliest:
        raise _never(EXPIRE, "that is over before it may start")
    if dates.deadline is not None and _instant(dates.deadline, now) < earliest + min(walltimes):
        raise _never(DEADLINE, "its walltime is longer than what is left until then")
    return dates


def seconds_of(dates: Dates, now_s: int) -> tuple[int | None, int | None, int | None]:
    """The same in seconds since the epoch, for a job that is submitted at ``now_s``."""
    now = datetime.fromtimestamp(now_s, UTC)
    not_before_s, deadline_s, expires_s = (
        None if moment is None else int(_instant(moment, now).timestamp()) for moment in dates
    )
    return not_before_s, deadline_s, expires_s


def _instant(moment: Moment, now: datetime) -> datetime:
    return now + moment if isinstance(moment, timedelta) else moment


def _never(name: str, sentence: str) -> RequestRefused:
    return RequestRefused(f"the job could never start with this {name}: {sentence}", exit_status=ExitStatus.DENIED)
