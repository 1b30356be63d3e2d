"""``--wait`` and ``--follow``: what a command does between a submission and the end of its jobs."""

from __future__ import annotations

import os
import sys
import time
from collections.abc import Callable, Sequence

import click

from oarpy.client import job_view
from oarpy.client.following import Follower
from oarpy.client.selection import Selection
from oarpy.client.waiting import Wait, Watched
from oarpy.commands.session import client, complain, connect, tell
from oarpy.errors import RequestRefused
from oarpy.model.exit_statuses import ExitStatus
from oarpy.model.job_status import worst

#: How often a file is looked at, and a progress bar drawn at most.
STEP_S = 1.0
#: Without a file to look at, only what happens is waited for.
PATIENCE_S = 30.0
#: For a shared file system to show what was written elsewhere.
ARRIVAL_S = 5.0
#: Jobs that are told of one by one.
MOST_TOLD = 20
_BAR = 30


def wait_for(job_ids: Sequence[int], *, array_id: int | None = None, follow: bool = False) -> int:
    """Return the exit status of the jobs when they are over; an array may be named by its id alone.

    With ``follow``, which is for a single job, show what it writes.  On a terminal an
    array has a progress bar.
    """
    chosen = ((), (array_id,)) if array_id else (job_ids, ())
    try:
        with client(shows=follow).waiting(*chosen) as waiting:
            followers = _followers(job_ids[0]) if follow else ()
            shows = _Bar(waiting) if len(waiting.jobs) > 1 and sys.stderr.isatty() else None
            while waiting.unfinished:
                waiting.step(STEP_S if followers or shows else PATIENCE_S)
                for follower in followers:
                    follower.step()
                if shows is not None:
                    shows.draw()
            if shows is not None:
                shows.end()
            if followers:
                _finish(followers, job_ids[0])
            return _told(list(waiting.jobs.values()))
    except KeyboardInterrupt:
        what = f"job {job_ids[0]} goes" if len(job_ids) == 1 else "the jobs go"
        raise RequestRefused(f"interrupted; {what} on", exit_status=ExitStatus.INTERRUPTED) from None


def _followers(job_id: int) -> tuple[Follower, ...]:
    job, _ = _seen(job_id)
    stdout = os.path.join(job.directory, job.stdout)
    stderr = os.path.join(job.directory, job.stderr)
    own = Follower(stdout, _writing(sys.stdout.buffer.write, sys.stdout.buffer.flush))
    if stderr == stdout:
        return (own,)
    return own, Follower(stderr, _writing(sys.stderr.buffer.write, sys.stderr.buffer.flush))


def _writing(write: Callable[[bytes], object], flush: Callable[[], object]) -> Callable[[bytes], object]:
    def pass_on(data: bytes) -> None:
        write(data)
        flush()

    return pass_on


def _seen(job_id: int) -> tuple[job_view.Detail, int]:
    """A job, and what time it is there."""
    conn = connect()
    try:
        return job_view.details(conn, Selection(job_ids=(job_id,)))[0], job_view.now_s(conn)
    finally:
        conn.close()


def _finish(followers: Sequence[Follower], job_id: int) -> None:
    """Show the rest of what an ended job wrote, and say what could not be read."""
    for follower in followers:
        follower.step()
    if all(follower.problem is None for follower in followers):
        return
    job, now_s = _seen(job_id)
    if job.started_s is None:
        tell(f"job {job_id} ended without having started, so it has written nothing; oarstat -fj {job_id} tells more")
        return
    # What was written long ago has arrived, if it ever does.
    deadline = time.monotonic() + ARRIVAL_S - (now_s - (job.stopped_s or now_s))
    for follower in followers:
        while follower.problem is not None and time.monotonic() < deadline:
            time.sleep(STEP_S)
            follower.step()
        if follower.problem is not None:
            complain(f"{follower.path} cannot be read here: {follower.problem}")


def _told(jobs: Sequence[Watched]) -> int:
    """The exit status; whatever else than its own a job's is, is said."""
    strange = [job for job in jobs if job.end_cause not in ("exit", None)]
    for job in strange[:MOST_TOLD]:
        complain(f"job {job.job_id}: {_ended_how(job)}")
    if len(strange) > MOST_TOLD:
        complain(f"and {len(strange) - MOST_TOLD} more of {len(jobs)} jobs")
    return worst([job.exit_status for job in jobs])


def _ended_how(job: Watched) -> str:
    words = {
        "signal": f"died of signal {(job.exit_code or 0) & 0x7F}",
        "walltime": "its walltime had passed",
        "killed": "it was deleted",
        "besteffort": "it made room for another job",
        "out_of_memory": "it used more memory than it may",
    }
    cause = job.end_cause or "unknown"
    return words.get(cause, f"it could not run, or to its end ({cause}); oarstat -fj {job.job_id} tells more")


class _Bar:
    """How far an array is, on one line of the terminal that is written again."""

    def __init__(self, waiting: Wait) -> None:
        self._waiting = waiting
        self._shown = ""

    def draw(self) -> None:
        line = bar(self._waiting)
        if line != self._shown:
            self._shown = line
            click.echo(f"\r{line}\x1b[K", err=True, nl=False)

    def end(self) -> None:
        self.draw()
        click.echo("", err=True)


def bar(waiting: Wait) -> str:
    """``[######......] 12/24 over, 4 running, 8 waiting, 1 failed``."""
    jobs = waiting.jobs.values()
    over = len(jobs) - waiting.unfinished
    counts = waiting.counts()
    running = sum(counts[state] for state in ("Launching", "Running", "Suspended", "Resuming", "Finishing"))
    failed = sum(1 for job in jobs if job.is_final and not job.succeeded)
    filled = _BAR * over // max(len(jobs), 1)
    parts = [f"{over}/{len(jobs)} over"]
    parts += [f"{number} {word}" for number, word in ((running, "running"), (failed, "failed")) if number]
    if rest := waiting.unfinished - running:
        parts.append(f"{rest} waiting")
    return f"[{'#' * filled}{'.' * (_BAR - filled)}] {', '.join(parts)}"
