"""``oar2trace``: the jobs that are over, as a trace in the Standard Workload Format."""

from __future__ import annotations

import json
import sys
import time
from collections.abc import Iterator
from contextlib import contextmanager
from typing import TextIO

import click

from oarpy.client import trace
from oarpy.client.connection import Connection
from oarpy.client.trace import Span, Traced
from oarpy.commands.session import OarCommand, connect, run, tell, with_version
from oarpy.errors import RequestRefused, SyntaxRefused
from oarpy.model.dependencies import MAX_JOB_ID
from oarpy.model.exit_statuses import ExitStatus

UNSUPPORTED = {"--db-url": "another database; OARPY_DATABASE names it"}
#: A state of the format: failed, completed, cancelled.
FAILED, COMPLETED, CANCELLED = 0, 1, 5
UNKNOWN = -1


@click.command("oar2trace", cls=OarCommand, unsupported=UNSUPPORTED)
@click.option("-f", "--trace-file", metavar="FILE", help="By default oar_trace_FIRST_LAST.swf; - is standard output.")
@click.option("-b", "--first-jobid", type=click.IntRange(0, MAX_JOB_ID), default=0, metavar="ID", help="From this job.")
@click.option("-e", "--last-jobid", type=click.IntRange(0, MAX_JOB_ID), default=0, metavar="ID", help="To this job.")
@click.option("-p", "show", is_flag=True, help="Show what is written of each job as well.")
@click.option("-m", "--mode", default="swf", metavar="MODE", help="The format: swf.")
@click.option("--chunk-size", type=click.IntRange(1, 1_000_000), default=10_000, metavar="N", help="Jobs read at once.")
@click.option(
    "--metadata-file", metavar="FILE", help="Write whom and what the numbers of the trace stand for, as JSON."
)
@with_version
def oar2trace(
    trace_file: str | None,
    first_jobid: int,
    last_jobid: int,
    show: bool,
    mode: str,
    chunk_size: int,
    metadata_file: str | None,
) -> None:
    """Write the jobs that are over as a trace: one line of 18 numbers for each, and no name.

    \b
    Examples:
        oar2trace -f october.swf -b 1200 -e 4711
        oar2trace -f - | gzip > all.swf.gz

    Such a trace is what `oarpy simulate` reads.
    """
    if mode != "swf":
        raise RequestRefused("-m: swf is the only format", exit_status=ExitStatus.UNSUPPORTED)
    last = last_jobid or MAX_JOB_ID
    if first_jobid > last:
        raise SyntaxRefused("the first job comes after the last", exit_status=ExitStatus.REFUSED)
    if show and trace_file == "-":
        raise SyntaxRefused("-p shows on standard output, where the trace goes", exit_status=ExitStatus.REFUSED)
    connection: Connection = connect()
    span = trace.span(connection, first_jobid, last)
    if span is None:
        raise RequestRefused("none of these jobs is over")
    numbers = _Numbers()
    path = trace_file or f"oar_trace_{span.first}_{span.last}.swf"
    with _written(path) as file:
        file.write(_header(span, *trace.machine(connection)))
        for job in trace.jobs(connection, span.first, span.last, chunk_size):
            line = _line(job, span.begin_s, numbers)
            file.write(line + "\n")
            if show:
                click.echo(line)
    if metadata_file is not None:
        with _written(metadata_file) as file:
            json.dump(numbers.by_kind, file, indent=2)
            file.write("\n")
    if path != "-":
        tell(f"{span.jobs} job(s) written to {path}")


class _Numbers:
    """Which number stands for which user, project, queue and command; from 1 on, as they come."""

    def __init__(self) -> None:
        self.by_kind: dict[str, dict[str, int]] = {"user": {}, "project": {}, "queue": {}, "command": {}}

    def of(self, kind: str, name: str) -> int:
        known = self.by_kind[kind]
        return known.setdefault(name, len(known) + 1)


def _line(job: Traced, begin_s: int, numbers: _Numbers) -> str:
    ran = job.started_s is not None
    started_s = job.stopped_s if job.started_s is None else job.started_s
    cores = job.cores or UNKNOWN
    fields = (
        job.job_id,
        job.submitted_s - begin_s,
        max(0, started_s - job.submitted_s),
        # What ran for less than a second did run.
        max(1, job.stopped_s - started_s) if ran else UNKNOWN,
        cores,
        UNKNOWN if job.cpu_s is None or not job.cores else round(job.cpu_s / job.cores),
        UNKNOWN,
        cores,
        job.walltime_s or UNKNOWN,
        UNKNOWN,
        _status(job),
        numbers.of("user", job.user),
        numbers.of("project", job.project),
        numbers.of("command", job.command),
        numbers.of("queue", job.queue),
        UNKNOWN,
        job.after or UNKNOWN,
        UNKNOWN,
    )
    return " ".join(map(str, fields))


def _status(job: Traced) -> int:
    if job.end_cause == "killed" or (job.started_s is None and job.state == "Error"):
        return CANCELLED
    return COMPLETED if job.state == "Terminated" and job.exit_code == 0 else FAILED


def _header(span: Span, hosts: int, cores: int) -> str:
    def date(at_s: int) -> str:
        return time.strftime("%a %b %d %H:%M:%S UTC %Y", time.gmtime(at_s))

    lines = {
        "Version": "2.2",
        "Computer": "oarpy",
        "MaxJobs": span.jobs,
        "MaxRecords": span.jobs,
        "Preemption": "No",
        "UnixStartTime": span.begin_s,
        "TimeZoneString": "UTC",
        "StartTime": date(span.begin_s),
        "EndTime": date(span.end_s),
        "MaxNodes": hosts,
        "MaxProcs": cores,
        "Note": "the group is the project; a processor is a resource of type default",
    }
    return "".join(f"; {name}: {value}\n" for name, value in lines.items())


@contextmanager
def _written(path: str) -> Iterator[TextIO]:
    if path == "-":
        yield sys.stdout
        return
    try:
        with open(path, "w", encoding="utf-8") as file:
            yield file
    except OSError as error:
        raise RequestRefused(f"{path} cannot be written: {error.strerror}") from error


def main() -> None:
    run(oar2trace)
