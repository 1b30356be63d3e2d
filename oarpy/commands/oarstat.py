"""``oarstat``: show jobs."""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from itertools import chain
from typing import Any

import click

from oarpy.client import job_view
from oarpy.client.connection import Connection
from oarpy.client.selection import Selection
from oarpy.commands import formats
from oarpy.commands.listing import printable, shown_date, shown_property
from oarpy.commands.selecting import LEFT_OUT, ids_or_own, selection_of, with_array, with_filters
from oarpy.commands.session import OarCommand, connect, run, tell, with_formats, with_lines, with_version
from oarpy.errors import SyntaxRefused
from oarpy.model.exit_statuses import ExitStatus

FORMAT_VARIABLE = "OAR_OARSTAT_OUTPUT_FORMAT"
#: What is shown instead of jobs' lines or records; at most one of them.
VIEWS = ("state", "events", "properties", "gantt", "accounting", "efficiency", "forecast", "why")


@click.command("oarstat", cls=OarCommand)
@click.argument("words", metavar="", nargs=-1)
@click.option(
    "-j",
    "--job",
    "jobs",
    multiple=True,
    is_flag=False,
    flag_value=LEFT_OUT,
    metavar="ID",
    help="This job, or those of a range such as 12-20, ended or not; OAR_JOB_ID's by default.",
)
@with_array("The jobs of this array, ended or not; alone, all with their arrays.")
@with_filters
@click.option("-f", "--full", is_flag=True, help="All that is known of each job.")
@click.option("-s", "--state", is_flag=True, help="Ids and states alone.")
@click.option("-e", "--events", is_flag=True, help="What happened to the jobs.")
@click.option("-p", "--properties", is_flag=True, help="The properties of the jobs' resources.")
@click.option("-c", "--compact", is_flag=True, help="One line for each array: N@ID, for N of its jobs.")
@click.option(
    "-g", "--gantt", metavar='"START, END"', help="Resources, jobs and outages between two dates, past or planned."
)
@click.option("--accounting", metavar='"START, END"', help="What was used, by user; with -u, by project.")
@click.option("--efficiency", is_flag=True, help="What ended jobs used of what they held, arrays as one line.")
@click.option("--at", metavar="DATE", help="Jobs as they were then.")
@click.option("--why", multiple=True, metavar="ID", help="Why this job does not start, and what would help.")
@click.option(
    "--forecast",
    is_flag=False,
    flag_value=LEFT_OUT,
    metavar="ID|QUEUE",
    help="Planned starts, and how good they have been; of a job, of a queue, or all.",
)
@click.option("--after", metavar="N", help="With -e: all that happened after event N, in order; 0 for all, or now.")
@click.option("--watch", is_flag=True, help="Show it again whenever something changes, until the jobs named are over.")
@click.option("--follow", is_flag=True, help="Show what the job after -j writes until its end; exit with its status.")
@with_formats
@with_lines
@click.option(
    "--format",
    "layout",
    type=click.Choice(["1", "2", "3"]),
    envvar=FORMAT_VARIABLE,
    help=f"Layout of OAR's; by default that of {FORMAT_VARIABLE}, else 2.",
)
@with_version
def oarstat(words: tuple[str, ...], **options: Any) -> int | None:
    """Show jobs that have not ended, or those that are named.

    \b
    Examples:
        oarstat
        oarstat -fj 4242
        oarstat -u -J
        oarstat --why 4242
        oarstat --sql "state = 'Error' AND project = 'p'" --fields id,owner,end_cause
        oarstat --at "2026-01-31 08:00"
        oarstat --watch -u
        oarstat --follow -j 4242
        oarstat --events --after 1234 -J

    Nothing found is no error: nothing is printed, or {} as JSON.

    Each line of --events --after begins with its number, which is the N to go on with; with -J each is a JSON
    document of its own.
    """
    _check(options)
    _tell_ignored(words, options)
    style = options["style"]
    selection = selection_of(ids_or_own(options["jobs"], words), options["arrays"], options["user"], options["sql"])
    at_s = None
    if options["at"] is not None:
        from oarpy.commands.dates import past_s

        at_s = past_s(options["at"])
    if options["follow"]:
        return _follow(selection)
    if options["after"] is not None:
        from oarpy.commands.watching import show_events

        return show_events(selection, options["after"], as_json=style is not None, goes_on=options["watch"])

    def show(conn: Connection) -> int | None:
        return _show(conn, words, options, selection, at_s)

    if options["watch"]:
        from oarpy.commands.watching import watch

        return watch(show, selection)
    return show(connect())


def _tell_ignored(words: Sequence[str], options: Mapping[str, Any]) -> None:
    """Say of words that stand alone what OAR says nothing of; programs give the name of a queue there."""
    if options["jobs"] or options["why"]:
        return
    numbers = [word for word in words if word and word.strip("0123456789-") == ""]
    if numbers:
        tell(f"{' '.join(numbers)} is ignored, as OAR does; oarstat -j {' '.join(numbers)} shows what has this number")


def _follow(selection: Selection) -> int:
    if len(selection.job_ids) != 1 or selection.array_ids or selection.ranges:
        raise _refused("--follow wants one job, after -j")
    from oarpy.commands.waiting import wait_for

    return wait_for(selection.job_ids, follow=True)


def _show(
    conn: Connection, words: Sequence[str], options: Mapping[str, Any], selection: Selection, at_s: int | None
) -> int | None:
    style, fields = options["style"], formats.chosen(options["fields"])
    match _view(options):
        case "why":
            from oarpy.commands.inquiries import show_why

            return show_why(conn, selection_of(ids_or_own(options["why"], words), ()), style == "json")
        case "forecast":
            from oarpy.commands.inquiries import show_forecast

            of = options["forecast"]
            return show_forecast(conn, None if of == LEFT_OUT else of, style == "json")
        case "gantt":
            from oarpy.commands.gantt import show_gantt

            show_gantt(conn, options["gantt"], style)
        case "accounting":
            from oarpy.commands.accounting import show_accounting

            show_accounting(conn, options["accounting"], selection, style)
        case "efficiency":
            from oarpy.commands.efficiency import show_efficiency

            show_efficiency(conn, selection, style, fields)
        case "properties":
            _show_properties(conn, selection, at_s, style)
        case "state":
            _show_states(job_view.states(conn, selection, at_s), style)
        case "events":
            _show_events(conn, selection, at_s, style)
        case _ if style or fields or options["full"]:
            _show_documents(conn, selection, at_s, style, fields, renamed=options["layout"] == "3")
        case _:
            from oarpy.commands.job_tables import compacted, table

            found = job_view.lines(conn, selection, at_s)
            found = compacted(found) if options["compact"] else found
            now_s = job_view.now_s(conn) if found and at_s is None else at_s or 0
            _print(table(found, arrays=bool(options["arrays"]), layout=options["layout"] or "2", now_s=now_s))
    return None


def _view(options: Mapping[str, Any]) -> str | None:
    return next((view for view in VIEWS if options[view] not in (None, False, ())), None)


def _check(options: Mapping[str, Any]) -> None:
    """Raise ``SyntaxRefused`` for options that do not go together."""
    views = [view for view in VIEWS if options[view] not in (None, False, ())]
    if len(views) > 1:
        raise _refused(f"--{views[0]} and --{views[1]} are two different views")
    view = views[0] if views else None
    if options["compact"] and (options["style"] or options["full"] or options["fields"] or view):
        raise _refused("the compact table goes with no other format or view")
    if options["after"] is not None and (view != "events" or options["style"] not in (None, "json", "ndjson")):
        raise _refused("--after goes with --events, as text or as JSON")
    if options["at"] is not None and (options["watch"] or options["follow"] or options["after"] is not None):
        raise _refused("--at shows what was, which does not change")
    if options["at"] is not None and view in ("gantt", "accounting", "efficiency", "forecast", "why"):
        raise _refused(f"--at does not go with --{view}")
    if options["fields"] is not None and view not in (None, "efficiency"):
        raise _refused(f"--fields does not go with --{view}")
    if view in ("why", "forecast") and options["style"] not in (None, "json"):
        raise _refused(f"--{view} is shown as text or as JSON")
    chosen = [name for name in ("jobs", "arrays", "user", "sql") if options[name]]
    if view in ("gantt", "why", "forecast") and chosen:
        raise _refused(f"--{view} does not go with a choice of jobs (-j, --array, -u, --sql)")
    if view == "gantt" and options["style"] == "ndjson":
        raise _refused("a gantt is one document, not lines; -J shows it")


def _refused(sentence: str) -> SyntaxRefused:
    return SyntaxRefused(sentence, exit_status=ExitStatus.REFUSED)


def _print(lines: Iterable[str]) -> None:
    text = "\n".join(lines)
    if text:
        click.echo(text)


def _show_documents(
    conn: Connection, selection: Selection, at_s: int | None, style: str | None, fields: Sequence[str], *, renamed: bool
) -> None:
    from oarpy.commands.job_documents import FIELDS, documents, record

    formats.check_fields(fields, FIELDS)
    if style == "ndjson":
        for part in job_view.details_in_parts(conn, selection, at_s):
            jobs = {str(job["id"]): job for job in documents(conn, part, at_s, wanted=frozenset(fields))}
            formats.write(formats.only(jobs, fields) if fields else jobs, style)
        return
    found = documents(conn, job_view.details(conn, selection, at_s), at_s, wanted=frozenset(fields))
    entries = {str(job["id"]): job for job in found}
    if style:
        formats.write(formats.only(entries, fields) if fields else entries, style)
    elif fields:
        _print(formats.table(entries, fields) if entries else ())
    else:
        _print(record(job, renamed=renamed) for job in found)


def _show_states(found: Iterable[tuple[int, str]], style: str | None) -> None:
    if style:
        formats.write({str(job_id): state for job_id, state in found}, style, names=("id", "state"))
        return
    _print(f"{job_id}: {state}" for job_id, state in found)


def _show_events(conn: Connection, selection: Selection, at_s: int | None, style: str | None) -> None:
    job_ids = [job_id for job_id, _ in job_view.states(conn, selection, at_s)]
    found = job_view.events(conn, job_ids, at_s)
    if style:
        from oarpy.commands.job_documents import event_document

        listed: dict[str, list[dict[str, Any]]] = {str(job_id): [] for job_id in job_ids}
        for event in found:
            listed[str(event.job_id)].append(event_document(event))
        formats.write(listed, style, rows=chain.from_iterable(listed.values()))
        return
    for event in found:
        description = printable(event.description.rstrip(), but="\n").replace("\n", "\n    ")
        click.echo(f"{shown_date(event.date_s)}> [{event.job_id}] {event.type}: {description}")


def _show_properties(conn: Connection, selection: Selection, at_s: int | None, style: str | None) -> None:
    from oarpy.client import resource_view
    from oarpy.commands.job_documents import resource_ids
    from oarpy.commands.resource_documents import as_oar_has_it

    found = job_view.details(conn, selection, at_s)
    rows = resource_view.resources(conn, ranges=[each for job in found for each in job.resources], at_s=at_s)
    records = {row["resource_id"]: {name: value for name, value in row.items() if name != "jobs"} for row in rows}
    listed = {str(job.job_id): [records[r] for r in resource_ids(job.resources) if r in records] for job in found}
    if style:
        shown = {job_id: [as_oar_has_it(record) for record in of] for job_id, of in listed.items()}
        formats.write(shown, style, names=("id", "resources"))
        return
    _print(
        " , ".join(f"{name} = '{shown_property(value)}'" for name, value in sorted(record.items()))
        for job in listed.values()
        for record in job
    )


def main() -> None:
    run(oarstat)
