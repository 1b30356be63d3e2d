"""``oarstat``: show jobs."""

from __future__ import annotations

import json
import os
from collections.abc import Callable, Iterable, Sequence
from typing import Any

import click

from oarpy.client import job_view
from oarpy.client.connection import Connection
from oarpy.client.job_view import Detail, Event, Line, Selection
from oarpy.commands.listing import printable, shown_date, shown_property
from oarpy.commands.session import OarCommand, ask, complain, connect, run, with_version
from oarpy.errors import RequestRefused, ServerUnavailable, SyntaxRefused
from oarpy.model.dependencies import parse_job_id
from oarpy.model.durations import render_duration, render_elapsed
from oarpy.model.exit_statuses import ExitStatus
from oarpy.model.wording import excerpt

UNSUPPORTED = {
    "-g": "the diagram of past and planned jobs",
    "--gantt": "the diagram of past and planned jobs",
    "-c": "the table that folds arrays",
    "--compact": "the table that folds arrays",
    "--accounting": "accounting",
}
LETTERS = {
    "Waiting": "W",
    "Hold": "H",
    "toLaunch": "L",
    "toError": "E",
    "toAckReservation": "W",
    "Launching": "L",
    "Running": "R",
    "Suspended": "S",
    "Resuming": "R",
    "Finishing": "F",
    "Terminated": "T",
    "Error": "E",
}
#: What format 3 calls otherwise.
RENAMED = {
    "Job_Id": "id",
    "launchingDirectory": "launching_directory",
    "jobType": "type",
    "submissionTime": "submission_time",
    "startTime": "start_time",
    "stopTime": "stop_time",
    "scheduledStart": "scheduled_start",
}
FORMAT_VARIABLE = "OAR_OARSTAT_OUTPUT_FORMAT"
#: Stands for an option whose value was left out; no id or name looks like it.
_LEFT_OUT = " "


@click.command("oarstat", cls=OarCommand, unsupported=UNSUPPORTED)
@click.argument("words", metavar="", nargs=-1)
@click.option(
    "-j",
    "--job",
    "jobs",
    multiple=True,
    is_flag=False,
    flag_value=_LEFT_OUT,
    metavar="ID",
    help="This job, ended or not; OAR_JOB_ID's by default.",
)
@click.option(
    "--array",
    "arrays",
    multiple=True,
    is_flag=False,
    flag_value=_LEFT_OUT,
    metavar="ID",
    help="The jobs of this array, ended or not; alone, all with their arrays.",
)
@click.option("-u", "--user", is_flag=False, flag_value=_LEFT_OUT, metavar="USER", help="Jobs of USER, or your own.")
@click.option("--sql", metavar="CONDITION", help="Jobs that satisfy it, ended or not, such as \"project = 'p'\".")
@click.option("-f", "--full", is_flag=True, help="All that is known of each job.")
@click.option("-s", "--state", is_flag=True, help="Ids and states alone.")
@click.option("-e", "--events", is_flag=True, help="What happened to the jobs.")
@click.option("-p", "--properties", is_flag=True, help="The properties of the jobs' resources.")
@click.option("--why", "asked", multiple=True, metavar="ID", help="Why this job does not start, and what would help.")
@click.option(
    "--forecast",
    is_flag=False,
    flag_value=_LEFT_OUT,
    metavar="ID|QUEUE",
    help="Planned starts, and how good they have been; of a job, of a queue, or all.",
)
@click.option("-J", "--json", "as_json", is_flag=True, help="As JSON.")
@click.option(
    "--format",
    "layout",
    type=click.Choice(["1", "2", "3"]),
    envvar=FORMAT_VARIABLE,
    help=f"Layout of OAR's; by default that of {FORMAT_VARIABLE}, else 2.",
)
@with_version
def oarstat(
    words: tuple[str, ...],
    jobs: tuple[str, ...],
    arrays: tuple[str, ...],
    user: str | None,
    sql: str | None,
    full: bool,
    state: bool,
    events: bool,
    properties: bool,
    asked: tuple[str, ...],
    forecast: str | None,
    as_json: bool,
    layout: str | None,
) -> int | None:
    """Show jobs that have not ended, or those that are named.

    \b
    Examples:
        oarstat
        oarstat -fj 4242
        oarstat -u -J
        oarstat --why 4242

    Nothing found is no error: nothing is printed, or {} as JSON.
    """
    selection = Selection(
        job_ids=_job_ids(jobs, words),
        array_ids=tuple(parse_job_id(text) for text in arrays if text != _LEFT_OUT),
        user=None if user == _LEFT_OUT else user,
        mine=user == _LEFT_OUT,
        filter=_filter(sql),
    )
    conn: Connection = connect()
    if asked:
        return _show_why(conn, _job_ids(asked, words), as_json)
    if forecast is not None:
        return _show_forecast(conn, None if forecast == _LEFT_OUT else forecast, as_json)
    if properties:
        _show_properties(conn, selection, as_json)
    elif state:
        _show_states(job_view.states(conn, selection), as_json)
    elif events:
        _show_events(conn, selection, as_json)
    elif as_json:
        _print_json({str(job["id"]): job for job in _documents(conn, job_view.details(conn, selection))})
    elif full:
        _show_full(conn, selection, renamed=layout == "3")
    else:
        _show_table(conn, selection, arrays=bool(arrays), layout=layout or "2")
    return None


def _job_ids(jobs: Sequence[str], words: Sequence[str]) -> tuple[int, ...]:
    """The ids after ``-j``; a bare ``-j`` means the job in which the command runs."""
    if not jobs:
        return ()
    # `oarstat -j 1 2`: OAR takes the words that follow as ids too; other words it ignores.
    texts = [text for text in jobs if text != _LEFT_OUT] + [word for word in words if word.isdigit()]
    if not texts:
        texts = [os.environ.get("OAR_JOB_ID", "")]
        if not texts[0]:
            raise SyntaxRefused("-j wants the id of a job, there is no OAR_JOB_ID", exit_status=ExitStatus.REFUSED)
    return tuple(map(parse_job_id, texts))


def _filter(sql: str | None) -> Any:
    if sql is None:
        return None
    from oarpy.model.filter_grammar import parse_filter

    return parse_filter(sql)


def _print_json(document: object) -> None:
    click.echo(json.dumps(document, indent=2, ensure_ascii=False))


def _show_states(found: Iterable[tuple[int, str]], as_json: bool) -> None:
    if as_json:
        _print_json({str(job_id): state for job_id, state in found})
        return
    _print_lines(f"{job_id}: {state}" for job_id, state in found)


def _print_lines(lines: Iterable[str]) -> None:
    text = "\n".join(lines)
    if text:
        click.echo(text)


def _show_events(conn: Connection, selection: Selection, as_json: bool) -> None:
    job_ids = [job_id for job_id, _ in job_view.states(conn, selection)]
    found = job_view.events(conn, job_ids)
    if as_json:
        _print_json({str(job): [_event(each) for each in found if each.job_id == job] for job in job_ids})
        return
    for event in found:
        description = printable(event.description.rstrip(), but="\n").replace("\n", "\n    ")
        click.echo(f"{shown_date(event.date_s)}> [{event.job_id}] {event.type}: {description}")


def _event(event: Event) -> dict[str, Any]:
    return {
        "event_id": event.event_id,
        "type": event.type,
        "job_id": event.job_id,
        "date": event.date_s,
        "hostnames": event.hosts,
        "description": event.description,
    }


def _show_properties(conn: Connection, selection: Selection, as_json: bool) -> None:
    from oarpy.client import resource_view

    found = job_view.details(conn, selection)
    rows = resource_view.resources(conn, ranges=[each for job in found for each in job.resources])
    records = {row["resource_id"]: {name: value for name, value in row.items() if name != "jobs"} for row in rows}
    listed = {str(job.job_id): [records[r] for r in _ids(job.resources) if r in records] for job in found}
    if as_json:
        _print_json(listed)
        return
    shown = (
        " , ".join(f"{name} = '{shown_property(value)}'" for name, value in sorted(record.items()))
        for job in listed.values()
        for record in job
    )
    _print_lines(shown)


def _ids(ranges: Iterable[tuple[int, int]]) -> list[int]:
    return [resource_id for begin, end in ranges for resource_id in range(begin, end)]


def _documents(conn: Connection, found: Sequence[Detail]) -> list[dict[str, Any]]:
    """The jobs with the keys of both of OAR's vocabularies."""
    job_ids = [job.job_id for job in found]
    events: dict[int, list[dict[str, Any]]] = {}
    for event in job_view.events(conn, job_ids):
        events.setdefault(event.job_id, []).append(_event(event))
    waits = job_view.dependencies(conn, job_ids)
    hosts = job_view.hosts(conn, {each for job in found for each in job.resources})
    return [_document(job, hosts, waits.get(job.job_id, []), events.get(job.job_id, [])) for job in found]


def _document(job: Detail, hosts: dict[int, str], waits: list[int], events: list[dict[str, Any]]) -> dict[str, Any]:
    resources = _ids(job.resources)
    document = {
        "Job_Id": job.job_id,
        "array_id": job.array_id,
        "array_index": job.array_index,
        "name": job.name,
        "project": job.project,
        "owner": job.user,
        "job_user": job.user,
        "state": job.state,
        "wanted_resources": job.wanted_resources,
        "types": job.types,
        "dependencies": waits,
        "assigned_resources": resources,
        "assigned_network_address": list(dict.fromkeys(hosts[each] for each in resources if each in hosts)),
        "queue": job.queue,
        "command": job.command,
        "exit_code": job.exit_code,
        "launchingDirectory": job.directory,
        "stdout_file": job.stdout,
        "stderr_file": job.stderr,
        "jobType": job.job_type,
        "properties": job.properties or "",
        "reservation": job.reservation,
        "reserved_resources": _ids(job.reserved),
        "walltime": job.walltime_s,
        "submissionTime": job.submitted_s,
        "startTime": job.started_s or 0,
        "stopTime": job.stopped_s or 0,
        "cpuset_name": f"{job.user}_{job.job_id}",
        "initial_request": job.initial_request,
        "message": job.message,
        "scheduledStart": job.predicted_s,
        "resubmit_job_id": job.resubmit_job_id or 0,
        "events": events,
        "end_cause": job.end_cause,
        "why": job.why,
        "last_karma": job.last_karma,
        "priority": job.priority,
    }
    return document | {new: document[old] for old, new in RENAMED.items()}


def _show_full(conn: Connection, selection: Selection, *, renamed: bool) -> None:
    records = []
    for document in _documents(conn, job_view.details(conn, selection)):
        head = "id" if renamed else "Job_Id"
        lines = [f"{head}: {document['Job_Id']}"]
        for key, value in _entries(document):
            # A record is read by its lines, so a value never has two.
            lines.append(f"    {RENAMED.get(key, key) if renamed else key} = {printable(value)}")
        records.append("\n".join(lines) + "\n")
    _print_lines(records)


def _entries(job: dict[str, Any]) -> Iterable[tuple[str, str]]:
    """Keys and values in OAR's order; what has not happened yet is left out."""

    def dated(key: str) -> Iterable[tuple[str, str]]:
        if job[key]:
            yield key, shown_date(job[key])

    yield "job_array_id", str(job["array_id"])
    yield "job_array_index", str(job["array_index"])
    for key in ("name", "project", "owner", "state", "wanted_resources"):
        yield key, job[key] or ""
    yield "types", ", ".join(job["types"])
    yield "dependencies", " ".join(map(str, job["dependencies"]))
    yield "assigned_resources", "+".join(map(str, job["assigned_resources"]))
    yield "assigned_hostnames", "+".join(job["assigned_network_address"])
    for key in ("queue", "command"):
        yield key, job[key]
    if (code := job["exit_code"]) is not None:
        yield "exit_code", f"{code} ({code >> 8},{code & 0x7F},{(code >> 7) & 1})"
    for key in ("launchingDirectory", "stdout_file", "stderr_file", "jobType", "properties", "reservation"):
        yield key, job[key]
    if job["reserved_resources"]:
        yield "reserved_resources", "+".join(map(str, job["reserved_resources"]))
    yield "walltime", "" if job["walltime"] is None else render_duration(job["walltime"])
    for key in ("submissionTime", "startTime", "stopTime"):
        yield from dated(key)
    yield "cpuset_name", job["cpuset_name"]
    if job["initial_request"] is not None:
        yield "initial_request", job["initial_request"]
    yield "message", job["message"]
    start_s = job["scheduledStart"]
    yield "scheduledStart", "no prediction" if start_s is None else shown_date(start_s)
    yield "resubmit_job_id", str(job["resubmit_job_id"])
    yield "events", "; ".join(f"{shown_date(e['date'])}> {e['type']}: {e['description']}" for e in job["events"])
    for key in ("end_cause", "why", "priority"):
        if job[key] is not None:
            yield key, str(job[key])


def _show_table(conn: Connection, selection: Selection, *, arrays: bool, layout: str) -> None:
    found = job_view.lines(conn, selection)
    if not found:
        return
    now_s = job_view.now_s(conn)
    title, shown = _dated(arrays) if layout == "1" else _timed(arrays, now_s)
    dashes = " ".join("-" * len(column) for column in title)
    _print_lines([" ".join(title).rstrip(), dashes, *map(shown, found)])


def _dated(arrays: bool) -> tuple[list[str], Callable[[Line], str]]:
    """Layout 1: the date of submission, and no message."""
    wide = ["Job id".ljust(9), "A. id".ljust(9), "A. index ".ljust(9), "Name".ljust(10), "User".ljust(8)]
    narrow = ["Job id".ljust(10), "Name".ljust(14), "User".ljust(14)]
    title = [*(wide if arrays else narrow), "Submission Date".ljust(19), "S", "Queue".ljust(8 if arrays else 10)]

    def shown(job: Line) -> str:
        date = shown_date(job.submitted_s)
        if arrays:
            return (
                f"{job.job_id:<9} {job.array_id:<9} {job.array_index:<9} {job.name or '':<10.10} {job.user:<8.8} "
                f"{date} {LETTERS[job.state]} {job.queue:<8.8}"
            ).rstrip()
        return (
            f"{job.job_id:<10} {job.name or '':<14.14} {job.user:<14.14} {date} {LETTERS[job.state]} {job.queue:<10.10}"
        ).rstrip()

    return title, shown


def _timed(arrays: bool, now_s: int) -> tuple[list[str], Callable[[Line], str]]:
    """Layout 2: how long the job has run, and the message."""
    ids = ["Job id".ljust(9), *(["A. id".ljust(9), "Index"] if arrays else [])]
    title = [*ids, "S", "User".ljust(8), "Duration".ljust(10), "System message".ljust(48)]

    def shown(job: Line) -> str:
        array = f"{job.array_id:<9} {job.array_index:<5} " if arrays else ""
        end_s = now_s if job.stopped_s is None else job.stopped_s
        elapsed = render_elapsed(max(0, end_s - job.started_s) if job.started_s is not None else 0)
        why = f" ({job.why})" if job.why else ""
        message = " ".join(f"{job.message}{why}".split())
        return f"{job.job_id:<9} {array}{LETTERS[job.state]} {job.user:<8.8} {elapsed:>10} {message}"

    return title, shown


def _show_why(conn: Connection, job_ids: Sequence[int], as_json: bool) -> int:
    """Tell of each job what keeps it from starting; the status is the worst of them."""
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
            _print_lines(["", *lines] if number else lines)
    if as_json:
        _print_json(documents)
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
            _print_lines([why.stored(job)])
        raise
    return job, answer, list(why.of_waiting(answer, job))


def _existing(conn: Connection, job_id: int) -> Detail:
    found = job_view.details(conn, Selection(job_ids=(job_id,)))
    if not found:
        raise RequestRefused(f"there is no job {job_id}")
    return found[0]


def _show_forecast(conn: Connection, of: str | None, as_json: bool) -> int:
    from oarpy.client import forecast as view
    from oarpy.commands import forecast

    if of is not None and of.isdigit():
        job = _existing(conn, parse_job_id(of))
        told, scores = view.of_job(conn, job.job_id), view.scores(conn, job.queue)
        if as_json:
            _print_json(forecast.document((), scores, job, told))
        else:
            _print_lines(forecast.of_job(job, told, scores))
        return 0
    if of is not None and not view.queue_exists(conn, of):
        raise RequestRefused(f"there is neither a job nor a queue {excerpt(of)}")
    found, scores = view.of_waiting(conn, of), view.scores(conn, of)
    if as_json:
        _print_json(forecast.document(found, scores, None, ()))
    else:
        _print_lines(forecast.of_jobs(found, scores))
    return 0


def main() -> None:
    run(oarstat)
