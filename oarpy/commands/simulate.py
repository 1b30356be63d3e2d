"""``oarpy simulate``: what another configuration would have made of a workload."""

from __future__ import annotations

import csv
import json
import re
import sys
from collections.abc import Iterator
from contextlib import contextmanager, nullcontext
from dataclasses import asdict, replace
from datetime import datetime
from typing import TYPE_CHECKING, Any, NamedTuple, TextIO

import click

from oarpy.commands.session import OarCommand, administered_instance, tell
from oarpy.errors import RequestRefused, SyntaxRefused
from oarpy.model.exit_statuses import ExitStatus
from oarpy.model.human_dates import of_this_zone
from oarpy.model.job_dates import parse_moment
from oarpy.model.states import Ordering, Replan
from oarpy.model.wording import excerpt

if TYPE_CHECKING:
    from oarpy.scheduling.snapshot import Limits
    from oarpy.simulation.workload import Workload


@click.command("simulate", cls=OarCommand)
@click.argument("trace", required=False)
@click.option("--from-database", is_flag=True, help="What was submitted to this instance, in place of a trace.")
@click.option("--from", "begin", metavar="DATE", help="With --from-database: only what was submitted since then.")
@click.option("--to", "stop", metavar="DATE", help="With --from-database: only what was submitted before.")
@click.option(
    "--policy",
    metavar="POLICY",
    help="How many jobs get a planned start: conservative all, easy the first, first=N the first N. "
    "Without it the queues' own, and conservative for a trace.",
)
@click.option(
    "--replan",
    type=click.Choice([each.value for each in Replan]),
    help="Planned starts only move earlier, or are made again from nothing in each pass. "
    "Without it the queues' own, and earlier for a trace.",
)
@click.option("--cores", type=click.IntRange(1, 1_000_000), help="The size of the machine; else the trace tells it.")
@click.option("--platform", metavar="FILE", help="The machine, as tables [[hosts]] of a TOML file.")
@click.option(
    "--grid",
    type=click.IntRange(1, 86_400),
    help="Round planned times up to so many seconds; without it the site's, and 1 for a trace.",
)
@click.option(
    "--security",
    type=click.IntRange(0, 86_400),
    help="Plan so many seconds beyond walltimes; without it the site's, and 0 for a trace.",
)
@click.option("--jobs-out", metavar="FILE", help="Write job_id, submit, start, end and cores of each job, as CSV.")
@click.option("--gantt", metavar="FILE", help="Draw who had which resource when, as SVG.")
@click.option("-J", "--json", "as_json", is_flag=True, help="The figures as one JSON object.")
def simulate(
    trace: str | None,
    from_database: bool,
    begin: str | None,
    stop: str | None,
    policy: str | None,
    replan: str | None,
    cores: int | None,
    platform: str | None,
    grid: int | None,
    security: int | None,
    jobs_out: str | None,
    gantt: str | None,
    as_json: bool,
) -> None:
    """Run a workload through the scheduling core with a virtual clock, and tell how well it was served.

    TRACE is a file in the Standard Workload Format, which may be gzipped; no server is
    needed.  With --from-database it is what was submitted to this instance and is over,
    on its resources as if all were in service, in its queues and under its quotas.

    \b
    Example:
        oarpy simulate KTH-SP2.swf.gz --policy easy
        oarpy simulate trace.swf --cores 64 --replan nothing --gantt out.svg --json
        oarpy simulate --from-database --from 2026-10-01 --to 2026-11-01 --policy easy
    """
    from oarpy.simulation import picture, run
    from oarpy.simulation.figures import figures
    from oarpy.simulation.workload import COUNTED

    configuration = _Configuration(policy, None if replan is None else Replan(replan), grid, security)
    if from_database:
        if trace is not None or cores is not None or platform is not None:
            raise SyntaxRefused(
                "--from-database brings its own jobs and machine; TRACE, --cores and --platform do not go with it",
                exit_status=ExitStatus.REFUSED,
            )
        site, limits = _of_database(configuration, _date(begin), _date(stop))
    elif trace is None:
        raise SyntaxRefused("what is to be simulated: TRACE or --from-database?", exit_status=ExitStatus.REFUSED)
    elif begin is not None or stop is not None:
        raise SyntaxRefused("--from and --to go with --from-database", exit_status=ExitStatus.REFUSED)
    else:
        site, limits = _of_trace(configuration, trace, cores, platform)
    types = site.topology.properties["type"]
    size = sum(type_ in COUNTED for type_ in types)
    bar: Any = nullcontext()
    if not sys.stderr.isatty():
        tell(f"simulating {len(site.submissions)} job(s) on {size} cores; the figures come at the end")
    else:
        bar = click.progressbar(length=len(site.submissions), label="simulating", file=sys.stderr)
    with bar as shown:
        ended = 0

        def progress(now_ended: int) -> None:
            nonlocal ended
            if now_ended - ended >= len(site.submissions) / 200:
                shown.update(now_ended - ended)
                ended = now_ended

        course = run.simulate(site, limits, progress if shown is not None else None)
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
            picture.write(file, lived, site.topology.ids)


class _Configuration(NamedTuple):
    """What was given of it; None is for what the site has, or usual."""

    policy: str | None
    replan: Replan | None
    grid_s: int | None
    security_s: int | None

    def limits(self, others: Limits) -> Limits:
        """Limits with these values, and ``others`` where there is none."""
        return replace(
            others,
            grid_s=others.grid_s if self.grid_s is None else self.grid_s,
            security_s=others.security_s if self.security_s is None else self.security_s,
        )


def _of_trace(
    configuration: _Configuration, trace: str, cores: int | None, platform: str | None
) -> tuple[Workload, Limits]:
    from oarpy.scheduling.snapshot import Limits, Queue
    from oarpy.simulation import platform_file, swf, workload

    if cores is not None and platform is not None:
        raise SyntaxRefused("--cores and --platform both describe the machine", exit_status=ExitStatus.REFUSED)
    depth = _depth(configuration.policy or "conservative")
    queue = Queue(swf.QUEUE, 1, depth=depth, replan=configuration.replan or Replan.EARLIER)
    described = workload.cores(cores) if cores is not None else None
    if platform is not None:
        described = platform_file.read(platform)
    return swf.read(trace, queue, described), configuration.limits(Limits(grid_s=1, security_s=0))


def _of_database(
    configuration: _Configuration, begin: datetime | None, stop: datetime | None
) -> tuple[Workload, Limits]:
    depth = None if configuration.policy is None else _depth(configuration.policy)
    instance = administered_instance()
    from oarpy.commands.past import past
    from oarpy.simulation import replay
    from oarpy.simulation.workload import Submission

    found, limits = past(instance, begin, stop)
    for queue in found.queues:
        if queue.ordering is not Ordering.FIFO:
            tell(f"the jobs of queue {excerpt(queue.name)} come in the order of their submission")
    site = replay.workload(
        found.topology,
        replay.configured(
            found.queues,
            depth=depth,
            conservative=configuration.policy is not None and depth is None,
            replan=configuration.replan,
        ),
        (Submission(*one) for one in found.jobs),
        found.left_out,
        found.quotas,
    )
    return site, configuration.limits(limits)


def _date(text: str | None) -> datetime | None:
    if text is None:
        return None
    moment = parse_moment(text)
    if not isinstance(moment, datetime):
        raise SyntaxRefused(f"{excerpt(text)} is not a date such as '2026-01-31 08:00'")
    return moment if moment.tzinfo is not None else of_this_zone(moment)


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
