"""``oarstat --why`` in sentences."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from typing import Any

from oarpy.client.job_view import Detail
from oarpy.commands.listing import printable, shown_date, shown_hosts
from oarpy.model.durations import render_elapsed
from oarpy.model.request import Count
from oarpy.scheduling.explain import sentence
from oarpy.scheduling.plan import Why

Document = Mapping[str, Any]

_COUNTS = {int(count): count.name for count in Count}


def of_waiting(answer: Document, job: Detail) -> Iterator[str]:
    """The server's answer about a job that waits, in lines."""
    yield f"Job {job.job_id} of {job.user} waits in queue {printable(job.queue)} since {shown_date(job.submitted_s)}."
    yield _plan(answer)
    told_s = answer.get("told_start")
    if told_s is not None and answer["start"] is not None and told_s != answer["start"]:
        yield f"The last pass planned it for {shown_date(told_s)}; the next one will tell the new date."
    if "alternatives" not in answer:
        return
    several = len(answer["alternatives"]) > 1
    for alternative in answer["alternatives"]:
        yield from _alternative(alternative, answer, several=several)
    yield from _in_the_way(answer)
    yield from _changes(answer)


def _plan(answer: Document) -> str:
    reason = _reason(answer)
    if answer["start"] is None:
        return f"It has no planned start: {reason}."
    hosts = f" on {shown_hosts(answer['hosts'])}" if answer["hosts"] else ""
    if answer["start"] <= answer["now"]:
        return f"What it needs is free{hosts}: it starts with the next pass."
    return f"It is planned to start at {shown_date(answer['start'])}{hosts}: {reason}."


def _reason(answer: Document) -> str:
    why = Why(answer["code"] or "", dict(answer["numbers"]))
    try:
        return printable(sentence(why, shown_date))
    except KeyError:
        # A server of another version has reasons of its own; it also sends their sentences.
        return printable(answer["reason"] or "")


def _alternative(alternative: Document, answer: Document, *, several: bool) -> Iterator[str]:
    start_s, enough_s = alternative["start"], alternative["enough_at"]
    told = ""
    if several and start_s is not None:
        told = f" alone would start {_at(start_s, answer)}"
    elif several and alternative["refusal"] is not None:
        told = f" alone would not start: {printable(alternative['refusal'])}"
    yield f"{printable(alternative['request'])}{told}"
    for group in alternative["groups"]:
        for depth, level in enumerate(group["levels"]):
            yield f"  {printable(level['property'])}: {_level(level, alternative, group, inner=depth > 0)}"
    if enough_s is not None and start_s is not None and enough_s < start_s:
        yield f"  As much as it needs is free {_at(enough_s, answer)}, but not for the whole walltime."


def _level(level: Document, alternative: Document, group: Document, *, inner: bool) -> str:
    needed = _COUNTS.get(level["needed"], level["needed"])
    parts = [f"{needed} needed{' in each' if inner else ''}"]
    if group["filtered"]:
        parts.append(f"{level['matching']} of {level['existing']} in service match the filter")
    else:
        parts.append(f"{level['existing']} in service")
    if level["able"] != level["matching"]:
        parts.append(f"{level['able']} would do were nothing else there")
    parts.append(f"{level['free']} would do now")
    if level["staying"] != level["free"]:
        parts.append(f"{level['staying']} of them for {render_elapsed(alternative['walltime'])}")
    return ", ".join(parts)


def _in_the_way(answer: Document) -> Iterator[str]:
    what = "that it is planned on" if answer["start"] is not None else "that it may use"
    holding, before = answer["holding"], answer["before"]
    if answer["in_question"] and holding["jobs"]:
        yield (
            f"{holding['resources']} of the {answer['in_question']} resources {what} {_are(holding['resources'])} held"
            f" by {_jobs(holding['jobs'])}{_named(holding['last'], holding['jobs'])}."
        )
    reserved = answer["reserved"]
    if reserved["jobs"]:
        named = _named(reserved["last"], reserved["jobs"])
        yield f"Advance reservations that have resources {what} first: {reserved['jobs']}{named}."
    if before["jobs"]:
        taking = "none of them is in its way"
        if before["taking"]:
            gets = "1 of them gets" if before["taking"] == 1 else f"{before['taking']} of them get"
            taking = f"{gets} resources {what} first{_named(before['last'], before['taking'])}"
        yield f"Waiting jobs that come before it: {before['jobs']}; {taking}."
    if before["without_plan"]:
        yield f"Those of them that have no plan yet and were not considered: {before['without_plan']}."


def _are(number: int) -> str:
    return "is" if number == 1 else "are"


def _jobs(number: int) -> str:
    return "1 job" if number == 1 else f"{number} jobs"


def _named(jobs: Sequence[Document], total: int) -> str:
    """``: 41 (bob) until 15:10, …``; those that end last, when they are not all."""
    shown = ", ".join(
        f"{job['job_id']} ({printable(job['user'])}) "
        + (f"from {shown_date(job['start'])} " if job["start"] is not None else "")
        + f"until {shown_date(job['end'])}"
        for job in jobs
    )
    return f", the last ones {shown}" if len(jobs) < total else f": {shown}"


def _changes(answer: Document) -> Iterator[str]:
    for change in answer["changes"]:
        at = _at(change["start"], answer)
        wanted = ""
        if len(answer["alternatives"]) > 1:
            request = answer["alternatives"][change["alternative"]]["request"]
            wanted = f" for {printable(request.rpartition(',walltime=')[0])}"
        match change["kind"]:
            case "walltime":
                yield f"With a walltime of {render_elapsed(change['walltime'])} or less{wanted} it would start {at}."
            case "count":
                of = printable(change["of"])
                per = f" for each {printable(change['per'])}" if change["per"] else ""
                instead = f"{of}={change['count']} in place of {of}={change['asked']}"
                yield f"With {instead}{per}{wanted} it would start {at}."
            case _:
                yield f"With {printable(change['request'])} alone it would start {at}."
    if not answer["complete"]:
        yield "There was no time to look for more changes that would start it earlier; ask again."
    elif not answer["changes"] and (answer["start"] is None or answer["start"] > answer["now"]):
        yield "Neither a shorter walltime nor fewer resources would start it earlier."


def _at(instant_s: int, answer: Document) -> str:
    return "now" if instant_s <= answer["now"] else f"at {shown_date(instant_s)}"


def of_other(job: Detail) -> str:
    """Of a job about which there is nothing to ask: one sentence."""
    number = job.job_id
    ended = f"is over since {shown_date(job.stopped_s)}" if job.stopped_s is not None else "is ending"
    match job.state:
        case "Waiting" | "toAckReservation":
            at = f" for {shown_date(job.predicted_s)}" if job.predicted_s is not None else ""
            if job.reservation == "Scheduled":
                return f"Job {number} has an advance reservation{at}, and starts then.{_stored(job)}"
            return (
                f"Job {number} asks for an advance reservation{at}; the next pass accepts or refuses it.{_stored(job)}"
            )
        case "Hold":
            return f"Job {number} is held; `oarresume {number}` lets it wait for resources."
        case "toLaunch" | "Launching":
            return f"Job {number} has its resources and is being started."
        case "Running":
            since = f" since {shown_date(job.started_s)}" if job.started_s is not None else ""
            return f"Job {number} runs{since}."
        case "Suspended":
            return f"Job {number} is suspended; `oarresume {number}` lets it go on."
        case "Resuming":
            return f"Job {number} goes on as soon as its resources are free again."
        case "Finishing":
            return f"Job {number} has run and is being cleaned up after."
        case "Terminated":
            return f"Job {number} {ended}: it ended by {job.end_cause or 'itself'}."
    detail = f": {printable(job.message)}" if job.message else ""
    return f"Job {number} {ended}, with the cause {job.end_cause or 'unknown'}{detail}."


def stored(job: Detail) -> str:
    """What the tables say of a waiting job, for when the server does not answer."""
    at = f"planned to start at {shown_date(job.predicted_s)}" if job.predicted_s is not None else "without a plan"
    return f"Job {job.job_id} waits, {at} when the scheduler last looked.{_stored(job)}"


def _stored(job: Detail) -> str:
    return f" The reason: {printable(job.why)}." if job.why else ""
