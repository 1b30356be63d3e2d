"""Jobs in full: the documents that ``oarstat -J`` shows, and the records of ``oarstat -f``."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from typing import Any

from oarpy.client import job_view
from oarpy.client.connection import Connection
from oarpy.client.job_view import Detail, Event
from oarpy.commands.listing import printable, shown_date
from oarpy.model.durations import render_duration

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


#: The keys of a document, for those who choose among them.
FIELDS = (
    *("Job_Id", "id", "array_id", "array_index", "name", "project", "owner", "job_user", "state", "wanted_resources"),
    *("types", "dependencies", "assigned_resources", "assigned_network_address", "queue", "command", "exit_code"),
    *("launchingDirectory", "launching_directory", "stdout_file", "stderr_file", "jobType", "type", "properties"),
    *("reservation", "reserved_resources", "walltime", "submissionTime", "submission_time", "startTime", "start_time"),
    *("stopTime", "stop_time", "cpuset_name", "initial_request", "message", "scheduledStart", "scheduled_start"),
    *("resubmit_job_id", "events", "end_cause", "why", "last_karma", "priority"),
)


def documents(
    conn: Connection, found: Sequence[Detail], at_s: int | None = None, *, wanted: frozenset[str] = frozenset()
) -> list[dict[str, Any]]:
    """The jobs with the keys of both of OAR's vocabularies; what is not ``wanted``, if anything is, may be missing."""
    job_ids = [job.job_id for job in found]
    events: dict[int, list[dict[str, Any]]] = {}
    waits: dict[int, list[int]] = {}
    hosts: dict[int, str] = {}
    if not wanted or "events" in wanted:
        for event in job_view.events(conn, job_ids, at_s):
            events.setdefault(event.job_id, []).append(event_document(event))
    if not wanted or "dependencies" in wanted:
        waits = job_view.dependencies(conn, job_ids)
    if not wanted or "assigned_network_address" in wanted:
        hosts = job_view.hosts(conn, {each for job in found for each in job.resources})
    return [_document(job, hosts, waits.get(job.job_id, []), events.get(job.job_id, [])) for job in found]


def _document(job: Detail, hosts: dict[int, str], waits: list[int], events: list[dict[str, Any]]) -> dict[str, Any]:
    resources = resource_ids(job.resources)
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
        "reserved_resources": resource_ids(job.reserved),
        "walltime": job.walltime_s,
        "submissionTime": job.submitted_s,
        "startTime": job.started_s or 0,
        "stopTime": job.stopped_s or 0,
        "cpuset_name": f"{job.user}_{job.job_id}",
        # Its owner's alone; to others it is empty, as OAR has it.
        "initial_request": job.initial_request or "",
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


def event_document(event: Event) -> dict[str, Any]:
    return {
        "event_id": event.event_id,
        "type": event.type,
        "job_id": event.job_id,
        "date": event.date_s,
        "hostnames": event.hosts,
        "description": event.description,
    }


def resource_ids(ranges: Iterable[tuple[int, int]]) -> list[int]:
    """Each id in ``ranges``."""
    return [resource_id for begin, end in ranges for resource_id in range(begin, end)]


def record(document: dict[str, Any], *, renamed: bool) -> str:
    """The job as OAR writes it in full, in lines that end with an empty one; format 3 has other names."""
    lines = [f"{'id' if renamed else 'Job_Id'}: {document['Job_Id']}"]
    for key, value in _entries(document):
        # A record is read by its lines, so a value never has two.
        lines.append(f"    {RENAMED.get(key, key) if renamed else key} = {printable(value)}")
    return "\n".join(lines) + "\n"


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
    for key in ("initial_request", "message"):
        yield key, job[key]
    start_s = job["scheduledStart"]
    yield "scheduledStart", "no prediction" if start_s is None else shown_date(start_s)
    yield "resubmit_job_id", str(job["resubmit_job_id"])
    yield "events", "; ".join(f"{shown_date(e['date'])}> {e['type']}: {e['description']}" for e in job["events"])
    for key in ("end_cause", "why", "priority"):
        if job[key] is not None:
            yield key, str(job[key])
