"""``oarstat --why`` and ``--forecast``: what keeps jobs waiting, and how good predictions are."""

from __future__ import annotations

import json
from collections.abc import Iterable
from typing import Any

import click

from oarpy.client import job_view
from oarpy.client.connection import Connection
from oarpy.client.job_view import Detail
from oarpy.client.selection import Selection
from oarpy.commands.session import ask, complain
from oarpy.errors import RequestRefused, ServerUnavailable
from oarpy.model.dependencies import parse_job_id
from oarpy.model.wording import excerpt


def show_why(conn: Connection, selection: Selection, as_json: bool) -> int:
    """Tell of each job what keeps it from starting; the status is the worst of them.

    Of a range it is told of the jobs that are not over.
    """
    job_ids = list(selection.job_ids)
    if selection.ranges:
        live = Selection(ranges=selection.ranges, live=True)
        job_ids += [job_id for job_id, _ in job_view.states(conn, live)]
    status = 0
    documents: dict[str, Any] = {}
    for number, job_id in enumerate(dict.fromkeys(job_ids)):
        try:
            job, answer, lines = _why(conn, job_id, stored=not as_json)
        except ServerUnavailable as error:
            complain(str(error))
            status = max(status, error.exit_status)
            continue
        except RequestRefused as refusal:
            complain(str(refusal))
            status = max(status, refusal.exit_status)
            continue
        if as_json:
            documents[str(job_id)] = {"state": job.state, **answer, "text": lines}
        else:
            print_lines(["", *lines] if number else lines)
    if as_json:
        print_json(documents)
    return status


def _why(conn: Connection, job_id: int, *, stored: bool) -> tuple[Detail, dict[str, Any], list[str]]:
    """The job, the server's answer when it waits, and both in words.

    Where the server does not answer, what the tables say is shown if ``stored``.
    """
    from oarpy.commands import why

    job = _existing(conn, job_id)
    if job.state != "Waiting" or job.reservation != "None":
        return job, {"job_id": job_id}, [why.of_other(job)]
    try:
        answer = {key: value for key, value in ask("why", {"job_ids": [job_id]}).items() if key != "ok"}
    except RequestRefused:
        job = _existing(conn, job_id)
        if job.state == "Waiting":
            raise
        return job, {"job_id": job_id}, [why.of_other(job)]
    except ServerUnavailable:
        if stored:
            print_lines([why.stored(job)])
        raise
    return job, answer, list(why.of_waiting(answer, job))


def _existing(conn: Connection, job_id: int) -> Detail:
    found = job_view.details(conn, Selection(job_ids=(job_id,)))
    if not found:
        raise RequestRefused(f"there is no job {job_id}; oarstat -u lists yours")
    return found[0]


def show_forecast(conn: Connection, of: str | None, as_json: bool) -> int:
    from oarpy.client import forecast as view
    from oarpy.commands import forecast

    if of is not None and of.isdigit():
        job = _existing(conn, parse_job_id(of))
        told, scores = view.of_job(conn, job.job_id), view.scores(conn, job.queue)
        if as_json:
            print_json(forecast.document((), scores, job, told))
        else:
            print_lines(forecast.of_job(job, told, scores))
        return 0
    if of is not None and not view.queue_exists(conn, of):
        raise RequestRefused(f"there is neither a job nor a queue {excerpt(of)}; oarqueue lists the queues")
    found, scores = view.of_waiting(conn, of), view.scores(conn, of)
    if as_json:
        print_json(forecast.document(found, scores, None, ()))
    else:
        print_lines(forecast.of_jobs(found, scores))
    return 0


def print_lines(lines: Iterable[str]) -> None:
    text = "\n".join(lines)
    if text:
        click.echo(text)


def print_json(document: object) -> None:
    click.echo(json.dumps(document, indent=2, ensure_ascii=False))
