"""``oarnodes -j`` and ``-S``: hosts by what runs on them."""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterable, Iterator, Mapping, Sequence
from typing import Any

from oarpy.client import job_view
from oarpy.client.connection import Connection
from oarpy.client.selection import Selection
from oarpy.commands.listing import printable
from oarpy.commands.terminal import width

#: Of the bar, where the width of the terminal tells nothing else.
BAR = 20


def jobs_by_host(
    conn: Connection, found: Sequence[Mapping[str, Any]], at_s: int | None
) -> dict[str, dict[str, dict[str, Any]]]:
    """For each host that has jobs, these, and which resources each holds there."""
    held: dict[str, dict[int, list[int]]] = {}
    for row in found:
        for job_id in row["jobs"] or ():
            held.setdefault(row["network_address"], {}).setdefault(job_id, []).append(row["resource_id"])
    ids = tuple(sorted({job_id for jobs in held.values() for job_id in jobs}))
    details = {job.job_id: job for job in job_view.details(conn, Selection(job_ids=ids), at_s)} if ids else {}
    return {
        host: {
            str(job_id): {
                "user": details[job_id].user,
                "name": details[job_id].name,
                "state": details[job_id].state,
                "project": details[job_id].project,
                "queue": details[job_id].queue,
                "types": details[job_id].types,
                "command": details[job_id].command,
                "start_time": details[job_id].started_s,
                "walltime": details[job_id].walltime_s,
                "resources": resources,
            }
            for job_id, resources in sorted(jobs.items())
            if job_id in details
        }
        for host, jobs in sorted(held.items())
    }


def jobs_rows(load: Mapping[str, Mapping[str, Mapping[str, Any]]]) -> Iterator[dict[str, Any]]:
    for host, jobs in load.items():
        for job_id, job in jobs.items():
            yield {"network_address": host, "job_id": int(job_id), **job}


def jobs_lines(load: Mapping[str, Mapping[str, Mapping[str, Any]]]) -> Iterator[str]:
    for host, jobs in load.items():
        yield f"{host}:"
        for job_id, job in jobs.items():
            yield f"    {job_id}:"
            for key, value in sorted(job.items()):
                shown = ", ".join(map(str, value)) if isinstance(value, list) else "" if value is None else str(value)
                yield f"        {key}: {printable(shown)}"


def summary(by_host: Iterable[tuple[str, Sequence[Mapping[str, Any]]]]) -> dict[str, dict[str, Any]]:
    """Each host: how many of its resources of type default are in which state, drained, and free, and its jobs."""
    return {
        host: {
            "states": dict(Counter(row["state"] for row in rows)),
            "jobs": sorted({job_id for row in rows for job_id in row["jobs"] or ()}),
            "drained": sum(row["drain"] for row in rows),
            "free": sum(row["state"] == "Alive" and not (row["drain"] or row["jobs"]) for row in rows),
            "total": len(rows),
        }
        for host, every in by_host
        if (rows := [row for row in every if row["type"] == "default"])
    }


def summary_lines(hosts: Mapping[str, Mapping[str, Any]]) -> Iterator[str]:
    """A table; its bars are fitted to the terminal, if it is one."""
    if not hosts:
        return
    name_width = max(12, *(len(host) for host in hosts))
    bar = BAR if (columns := width()) is None else max(5, min(40, columns - name_width - 46))
    yield f"{'Host':<{name_width}} {'State':<20} {'Jobs':>6} {'Free':>6} {'Total':>6}"
    yield f"{'-' * name_width} {'-' * 20} {'-' * 6} {'-' * 6} {'-' * 6}"
    for host, what in hosts.items():
        states = what["states"]
        state = next(iter(states)) if len(states) == 1 else ",".join(f"{n} {each}" for each, n in states.items())
        if what["drained"]:
            state += " (drained)" if what["drained"] == what["total"] else f" ({what['drained']} drained)"
        used = round(bar * (what["total"] - what["free"]) / what["total"])
        row = f"{host:<{name_width}} {state:<20} {len(what['jobs']):>6} {what['free']:>6} {what['total']:>6}"
        yield f"{row} [{'#' * used}{'.' * (bar - used)}]"
