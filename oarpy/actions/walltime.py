"""Another walltime for a running job: less at once, more when the scheduler finds that nobody waits for it.

The rules are OAR's, ``[walltime_change]`` of the settings: who may ask for how much,
and for which jobs.
"""

from __future__ import annotations

from datetime import timedelta

from sqlalchemy.engine import Connection

from oarpy.actions.administrators import administrators
from oarpy.actions.prepared import Prepared
from oarpy.database import events, walltimes
from oarpy.database.events import Event
from oarpy.database.wake import Reader
from oarpy.database.walltimes import Running
from oarpy.errors import RequestRefused
from oarpy.model.durations import MAX_DURATION_S, render_duration
from oarpy.model.exit_statuses import ExitStatus
from oarpy.model.job_types import has_type
from oarpy.model.payloads import WalltimeAnswer, WalltimeChange
from oarpy.model.states import JobId, JobState
from oarpy.settings import WalltimeChange as Rules

_NONE = timedelta()


def prepare_walltime(payload: object, login: str, every_rule: Rules, within: timedelta) -> Prepared:
    """Change the walltime of a running job, or tell what of it can be changed."""
    change = WalltimeChange.from_json(payload)

    def write(conn: Connection) -> WalltimeAnswer:
        job = walltimes.look(conn, change.job_id)
        if job is None:
            raise _refused(f"job {change.job_id} does not exist", ExitStatus.BAD_ID)
        rules = every_rule.of(job.queue)
        if job.state != JobState.RUNNING.value or job.walltime is None or job.age is None:
            raise _refused(f"job {change.job_id} is {job.state}, not Running", ExitStatus.REFUSED)
        if change.seconds is None:
            return _told(change.job_id, job, _most(job, login, rules))
        if login not in (job.user, *administrators()):
            raise _refused(f"job {change.job_id} belongs to {job.user}", ExitStatus.FORBIDDEN)
        if not rules.enabled and login not in administrators():
            raise _refused("walltimes of running jobs cannot be changed here", ExitStatus.NOTHING_TO_DO)
        delta = timedelta(seconds=change.seconds)
        if not change.relative:
            delta -= job.walltime
        if change.relative and not change.seconds:
            return _cancelled(conn, change.job_id, job, login)
        if delta <= _NONE:
            return _reduced(conn, change.job_id, job, delta, login, rules, within)
        return _wished(conn, change, job, delta, login, rules)

    return Prepared(write, wakes=(Reader.ALMIGHTY, Reader.RUNNER))


def _cancelled(conn: Connection, job_id: JobId, job: Running, login: str) -> WalltimeAnswer:
    if walltimes.withdraw(conn, job_id):
        events.append(conn, [Event("WALLTIME_REQUEST_CANCELLATION", job_id, description=f"by {login}")])
        said = "the request for more walltime is withdrawn"
    else:
        said = "there was no request for more walltime"
    return _told(job_id, job._replace(pending=_NONE), None, said)


def _reduced(
    conn: Connection, job_id: JobId, job: Running, delta: timedelta, login: str, rules: Rules, within: timedelta
) -> WalltimeAnswer:
    assert job.walltime is not None
    assert job.age is not None
    if not rules.reduction and login not in administrators():
        raise _refused("walltimes can only be prolonged here", ExitStatus.FORBIDDEN)
    if has_type(job.types, "container"):
        raise _refused("a container cannot be made shorter", ExitStatus.FORBIDDEN)
    if job.walltime + delta <= job.age:
        ran = render_duration(int(job.age.total_seconds()))
        raise _refused(f"the job has run for {ran} already", ExitStatus.REFUSED)
    walltimes.withdraw(conn, job_id)
    if delta:
        walltimes.grant(conn, [(job_id, delta)], login, within)
        events.append(conn, [Event("WALLTIME_REQUEST", job_id, description=f"{login}: {_signed(delta)}, granted")])
    left = job._replace(walltime=job.walltime + delta, granted=job.granted + delta, pending=_NONE)
    return _told(job_id, left, None, "the walltime is changed")


def _wished(
    conn: Connection, change: WalltimeChange, job: Running, delta: timedelta, login: str, rules: Rules
) -> WalltimeAnswer:
    most = _most(job, login, rules)
    if most is not None and delta > most:
        possible = render_duration(int(max(most, _NONE).total_seconds()))
        raise _refused(f"job {change.job_id} can get {possible} more at most", ExitStatus.FORBIDDEN)
    if change.force and not _may(login, rules.users_to_force):
        raise _refused(f"{login} may not use --force", ExitStatus.FORBIDDEN)
    if change.delay_next_jobs and not _may(login, rules.users_to_delay):
        raise _refused(f"{login} may not delay other people's jobs", ExitStatus.FORBIDDEN)
    timeout = rules.timeout if change.timeout_s is None else timedelta(seconds=change.timeout_s)
    walltimes.wish(
        conn,
        change.job_id,
        delta,
        login,
        force=change.force,
        delay=change.delay_next_jobs,
        whole=change.whole,
        timeout=timeout,
    )
    events.append(conn, [Event("WALLTIME_REQUEST", change.job_id, description=f"{login}: {_signed(delta)}")])
    said = "the request is accepted; the scheduler grants what no other job waits for and quotas allow"
    return _told(change.job_id, job._replace(pending=delta), most, said)


def _most(job: Running, login: str, rules: Rules) -> timedelta | None:
    """How much more the job may be given in all; None without a limit."""
    assert job.walltime is not None
    if login in administrators():
        return None
    original = job.walltime - job.granted
    if not rules.enabled or original < rules.min_walltime:
        return _NONE
    percent = _percent(original, rules.max_increase_percent)
    limits = [limit for limit in (rules.max_increase, percent) if limit is not None]
    return max(min(limits) - job.granted, _NONE) if limits else None


def _percent(original: timedelta, percent: int | None) -> timedelta | None:
    return None if percent is None else original * percent / 100


def _may(login: str, allowed: str) -> bool:
    return login in administrators() or "*" in allowed.split() or login in allowed.split()


def _told(job_id: JobId, job: Running, most: timedelta | None, said: str = "") -> WalltimeAnswer:
    def seconds(span: timedelta | None) -> int | None:
        return None if span is None else min(int(span.total_seconds()), MAX_DURATION_S)

    return WalltimeAnswer(
        job_id=job_id,
        message=said,
        walltime_s=seconds(job.walltime) or 0,
        possible_s=seconds(most),
        granted_s=seconds(job.granted) or 0,
        pending_s=seconds(job.pending) or 0,
        granted_with_force_s=seconds(job.granted_with_force) or 0,
        granted_with_delay_s=seconds(job.granted_with_delay) or 0,
        granted_with_whole_s=seconds(job.granted_with_whole) or 0,
    )


def _signed(delta: timedelta) -> str:
    sign = "-" if delta < _NONE else "+"
    return sign + render_duration(int(abs(delta).total_seconds()))


def _refused(sentence: str, status: ExitStatus) -> RequestRefused:
    return RequestRefused(sentence, exit_status=status)
