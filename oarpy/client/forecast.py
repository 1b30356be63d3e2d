"""When jobs are planned to start, and how good such plans have been, read from the views of ``oar_user``."""

from __future__ import annotations

from typing import NamedTuple

from oarpy.client.connection import Connection

#: The period over which predictions are scored; one of those of the view.
PERIOD = "7 days"


class Forecast(NamedTuple):
    """What is said of one waiting job; dates are seconds since the epoch, ``first_s`` the first start told."""

    job_id: int
    user: str
    queue: str
    start_s: int | None
    first_s: int | None
    why: str | None


class Prediction(NamedTuple):
    """One start that was predicted for a job."""

    kind: str
    said_s: int
    start_s: int


class Score(NamedTuple):
    """Real start minus told start, in seconds, of the predictions of one kind in one queue.

    ``in_time``: the share of jobs that had started by the minute that was told.
    """

    queue: str
    kind: str
    predictions: int
    mean_error_s: int
    error_10_s: int
    error_50_s: int
    error_90_s: int
    in_time: float


def of_waiting(conn: Connection, queue: str | None) -> list[Forecast]:
    """The waiting jobs of ``queue``, or all, in the order of their planned starts."""
    rows = conn.rows(
        """
        SELECT j.job_id, j.job_user, j.queue_name, extract(epoch FROM j.predicted_start_at)::bigint,
            extract(epoch FROM first.start_at)::bigint, j.why
        FROM oar.visible_jobs j LEFT JOIN LATERAL (
            SELECT p.start_at FROM oar.visible_predictions p WHERE p.job_id = j.job_id ORDER BY p.said_at LIMIT 1
        ) first ON true
        WHERE j.stopped_at IS NULL AND j.state = 'Waiting' AND j.queue_name = coalesce(%s, j.queue_name)
        ORDER BY j.predicted_start_at, j.job_id
        """,
        (queue,),
    )
    return [Forecast(*row) for row in rows]


def of_job(conn: Connection, job_id: int) -> list[Prediction]:
    """What was predicted for one job, oldest first."""
    rows = conn.rows(
        """
        SELECT kind, extract(epoch FROM said_at)::bigint, extract(epoch FROM start_at)::bigint
        FROM oar.visible_predictions WHERE job_id = %s ORDER BY said_at
        """,
        (job_id,),
    )
    return [Prediction(*row) for row in rows]


def scores(conn: Connection, queue: str | None) -> list[Score]:
    """How good the predictions of the last ``PERIOD`` were, for ``queue`` or for each."""
    rows = conn.rows(
        """
        SELECT queue_name, kind, predictions, extract(epoch FROM mean_error)::bigint,
            extract(epoch FROM error_10)::bigint, extract(epoch FROM error_50)::bigint,
            extract(epoch FROM error_90)::bigint, in_time
        FROM oar.prediction_scores
        WHERE period = %s::interval AND queue_name = coalesce(%s, queue_name) ORDER BY queue_name, kind
        """,
        (PERIOD, queue),
    )
    return [Score(*row) for row in rows]


def queue_exists(conn: Connection, queue: str) -> bool:
    """Whether there is a queue of this name."""
    return bool(conn.value("SELECT count(*) FROM oar.visible_queues WHERE queue_name = %s", (queue,)))
