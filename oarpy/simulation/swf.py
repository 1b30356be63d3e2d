"""The Standard Workload Format of the Parallel Workloads Archive.

A line is a job of 18 numbers; those that begin with a semicolon are comments, some
of them ``; Name: value`` about the machine.  Only what the simulation needs is read.
"""

from __future__ import annotations

import gzip
import math
import os
import re
import stat
import zlib
from collections import Counter
from collections.abc import Iterable, Iterator
from typing import NamedTuple

from oarpy.errors import RequestRefused
from oarpy.model.request import Alternative, Group, Level, ResourceRequest
from oarpy.model.states import JobId
from oarpy.model.wording import excerpt
from oarpy.scheduling.snapshot import Queue, Topology, WaitingJob
from oarpy.simulation.workload import MOST_CORES, Submission, Workload, cores

QUEUE = "default"
#: What of a line is read: the first nine fields, and the user, the twelfth.
_FEWEST_FIELDS = 9
#: A line of a trace has a hundred characters; comments may be somewhat longer.
_LONGEST_LINE = 10_000


class _Line(NamedTuple):
    """A job of a trace; what the trace does not know is -1 there and None here."""

    number: int
    submitted_s: int
    runs_s: int | None
    cores: int | None
    requested_s: int | None
    user: str


def read(path: str, queue: Queue, topology: Topology | None = None) -> Workload:
    """The jobs of a trace, gzipped or not, on ``topology`` or on the machine that the trace tells of.

    A job asks for as many cores as it asked for, or else had, and for the time that it asked for, or else
    took.  Left out are those that never ran, those that are larger than the machine, and lines of a job that
    another line has told of.

    Raises:
        RequestRefused: the trace cannot be read; the sentence has the number of the line.
    """
    processors: int | None = None
    jobs: dict[int, _Line] = {}
    left_out: Counter[str] = Counter()
    try:
        for number, line in enumerate(_lines(path), start=1):
            if line.startswith(";"):
                processors = _processors(line) or processors
            elif line:
                job = _job(path, number, line)
                if jobs.setdefault(job.number, job) is not job:
                    # The format has the parts of a job that was swapped out after the whole of it.
                    left_out["told before"] += 1
    except (OSError, EOFError, zlib.error) as error:
        raise RequestRefused(f"{path} cannot be read: {getattr(error, 'strerror', None) or error}") from error
    if topology is None:
        if processors is None:
            raise RequestRefused(f"{path} does not tell how many processors there were; --cores does")
        if processors > MOST_CORES:
            raise RequestRefused(f"{path} tells of {processors} processors; {MOST_CORES} are the most")
        topology = cores(processors)
    return _workload(jobs.values(), queue, topology, left_out)


def _workload(jobs: Iterable[_Line], queue: Queue, topology: Topology, left_out: Counter[str]) -> Workload:
    requests: dict[tuple[int, int], tuple[int, ResourceRequest]] = {}
    submissions = []
    for one in sorted(jobs, key=lambda job: job.submitted_s):
        if one.runs_s is None or one.cores is None:
            left_out["never ran"] += 1
            continue
        if one.cores > len(topology.ids):
            left_out["larger than the machine"] += 1
            continue
        shape = one.cores, one.requested_s or one.runs_s
        if shape not in requests:
            alternative = Alternative((Group((Level("core", shape[0]),)),), shape[1])
            requests[shape] = len(requests) + 1, ResourceRequest((alternative,))
        request_id, request = requests[shape]
        job = WaitingJob(JobId(one.number), queue.name, request_id, request, one.submitted_s, one.user)
        submissions.append(Submission(job, one.runs_s))
    return Workload(topology, (queue,), tuple(submissions), left_out)


def _lines(path: str) -> Iterator[str]:
    # A device is endless, and a pipe may be.  Not after opening: that alone would wait for a pipe's writer.
    if not stat.S_ISREG(os.stat(path).st_mode) and not os.path.isdir(path):
        raise RequestRefused(f"{path} is no file; a trace is one, gzipped or not")
    with open(path, "rb") as file:
        packed = file.read(2) == b"\x1f\x8b"
    # Comments are in whatever encoding the site had.
    opened = gzip.open if packed else open
    with opened(path, "rt", encoding="utf-8", errors="surrogateescape") as text:
        number = 0
        while line := text.readline(_LONGEST_LINE):
            number += 1
            if len(line) == _LONGEST_LINE or "\0" in line:
                raise RequestRefused(f"{path} is no trace: line {number} is not a line of text")
            yield line.strip()


def _processors(comment: str) -> int | None:
    name, _, value = comment.lstrip("; ").partition(":")
    value = value.strip()
    return int(value) if name == "MaxProcs" and re.fullmatch("[0-9]{1,18}", value) else None


def _job(path: str, number: int, line: str) -> _Line:
    if not line.isascii():
        raise RequestRefused(f"{path} is no trace: line {number} is not text")
    fields = line.split()
    if len(fields) < _FEWEST_FIELDS:
        raise RequestRefused(f"{path}, line {number}: {len(fields)} fields, where a job has 18")
    try:
        job, submitted, runs, had, asked_cores, asked_s = (float(fields[i]) for i in (0, 1, 3, 4, 7, 8))
        if not all(map(math.isfinite, (job, submitted, runs, had, asked_cores, asked_s))):
            raise ValueError
    except ValueError:
        raise RequestRefused(f"{path}, line {number}: not all of it are numbers: {excerpt(line)}") from None
    return _Line(
        int(job),
        int(submitted),
        _known(runs),
        _known(asked_cores) or _known(had),
        _known(asked_s),
        fields[11] if len(fields) > 11 else "",
    )


def _known(number: float) -> int | None:
    return math.ceil(number) if number > 0 else None
