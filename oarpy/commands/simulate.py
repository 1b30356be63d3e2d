"""``oarpy simulate``: what another configuration would have made of a workload."""

from __future__ import annotations

import csv
import json
import re
import sys
from collections.abc import Iterator
from contextlib import contextmanager, nullcontext
from dataclasses import asdict
from typing import Any, TextIO

import click

from oarpy.commands.session import OarCommand
from oarpy.errors import RequestRefused, SyntaxRefused
from oarpy.model.exit_statuses import ExitStatus
from oarpy.model.states import Replan
from oarpy.model.wording import excerpt


@click.command("simulate", cls=OarCommand)
@click.argument("trace")
@click.option(
    "--policy",
    default="conservative",
    metavar="POLICY",
    help="How many jobs get a planned start: conservative (the default) all, easy the first, first=N the first N.",
)
@click.option(
    "--replan",
    type=click.Choice([each.value for each in Replan]),
    default=Replan.EARLIER.value,
    help="Planned starts only move earlier (the default), or are made again from nothing in each pass.",
)
@click.option("--cores", type=click.IntRange(1, 1_000_000), help="The size of the machine; else the trace tells it.")
@click.option("--platform", metavar="FILE", help="The machine, as tables [[hosts]] of a TOML file.")
@click.option("--grid", type=click.IntRange(1, 86_400), default=1, help="Round planned times up to so many seconds; 1.")
@click.option("--security", type=click.IntRange(0, 86_400), default=0, help="Plan so many seconds beyond walltimes; 0.")
@click.option("--jobs-out", metavar="FILE", help="Write job_id, submit, start, end and cores of each job, as CSV.")
@click.option("--gantt", metavar="FILE", help="Draw who had which resource when, as SVG.")
@click.option("-J", "--json", "as_json", is_flag=True, help="The figures as one JSON object.")
def simulate(
    trace: str,
    policy: str,
    replan: str,
    cores: int | None,
    platform: str | None,
    grid: int,
    security: int,
    jobs_out: str | None,
    gantt: str | None,
    as_json: bool,
) -> None:
    """Run a workload through the scheduling core with a virtual clock, and tell how well it was served.

    TRACE is a file in the Standard Workload Format, which may be gzipped.  No server is needed.

    \b
    Example:
        oarpy simulate KTH-SP2.swf.gz --policy easy
        oarpy simulate trace.swf --cores 64 --replan nothing --gantt out.svg --json
    """
    from oarpy.scheduling.snapshot import Limits, Queue
    from oarpy.simulation import picture, platform_file, run, swf, workload
    from oarpy.simulation.figures import figures

    if cores is not None and platform is not None:
        raise SyntaxRefused("--cores and --platform both describe the machine", exit_status=ExitStatus.REFUSED)
    queue = Queue(swf.QUEUE, 1, depth=_depth(policy), replan=Replan(replan))
    described = workload.cores(cores) if cores is not None else None
    if platform is not None:
        described = platform_file.read(platform)
    site = swf.read(trace, queue, described)
    limits = Limits(grid_s=grid, security_s=security)
    bar: Any = nullcontext()
    if sys.stderr.isatty():
        bar = click.progressbar(length=len(site.submissions), label="simulating", file=sys.stderr)
    with bar as shown:
        ended = 0

        def progress(now_ended: int) -> None:
            nonlocal ended
            if now_ended - ended >= len(site.submissions) / 200:
                shown.update(now_ended - ended)
                ended = now_ended

        course = run.simulate(site, limits, progress if shown is not None else None)
    size = len(site.topology.ids)
    found: dict[str, object] = asdict(figures(course.lived, size)) | {
        "cores": size,
        "left_out": dict(site.left_out),
        "never_started": len(course.stayed),
        "passes": course.passes,
        "cpu_ms_per_pass": course.cpu_s / max(course.passes, 1) * 1000,
    }
    lived = sorted(course.lived, key=lambda job: (job.submitted_s, job.job_id))
    # First: a simulation may have taken minutes, and a file not be written.
    click.echo(json.dumps(found) if as_json else _table(found))
    if jobs_out is not None:
        with _written(jobs_out) as file:
            table = csv.writer(file, lineterminator="\n")
            table.writerow(("job_id", "submit", "start", "end", "cores"))
            table.writerows((job.job_id, job.submitted_s, job.start_s, job.end_s, job.cores) for job in lived)
    if gantt is not None:
        with _written(gantt) as file:
            picture.write(file, lived, size)


def _depth(policy: str) -> int | None:
    first = re.fullmatch(r"first[=:]([1-9][0-9]{0,8})", policy)
    if first is not None:
        return int(first[1])
    if policy not in ("conservative", "easy"):
        raise SyntaxRefused(
            f"{excerpt(policy)} is no policy; write conservative, easy or first=N", exit_status=ExitStatus.REFUSED
        )
    return 1 if policy == "easy" else None


@contextmanager
def _written(path: str) -> Iterator[TextIO]:
    try:
        with open(path, "w", encoding="utf-8") as file:
            yield file
    except OSError as error:
        raise RequestRefused(f"{path} cannot be written: {error.strerror}") from error


def _table(found: dict[str, Any]) -> str:
    left_out = ", ".join(f"{count} {reason}" for reason, count in found["left_out"].items()) or "none"
    rows = {
        "jobs": found["jobs"],
        "left out": left_out,
        "never started": found["never_started"],
        "cores": found["cores"],
        "mean wait": f"{found['mean_wait_s']:.0f} s",
        "mean bounded slowdown": f"{found['mean_bounded_slowdown']:.1f}",
        "utilisation": f"{found['utilisation']:.3f}",
        "makespan": f"{found['makespan_s']} s",
        "passes": found["passes"],
        "CPU per pass": f"{found['cpu_ms_per_pass']:.2f} ms",
    }
    return "\n".join(f"{name:<22} {value}" for name, value in rows.items())
