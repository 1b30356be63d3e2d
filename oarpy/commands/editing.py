"""``oarsub --edit`` and ``oarsub --resubmit``: what exists, with what is named changed."""

from __future__ import annotations

import sys
from collections.abc import Callable, Collection, Mapping, Sequence
from shlex import join
from typing import Any, TypeAlias

import click

from oarpy.client.selection import Selection
from oarpy.commands.selecting import selection_of
from oarpy.commands.session import ask, complain, connect, is_said, tell
from oarpy.errors import RequestRefused, SyntaxRefused
from oarpy.model.edits import Edit, Edited
from oarpy.model.exit_statuses import ExitStatus
from oarpy.model.payloads import JobSelection, Submission, Submitted
from oarpy.model.states import JobId, JobState

#: Which fields of a submission each option is about.
_FIELDS = {
    "resource": ("wishes", "resources"),
    "property": ("properties", "filter"),
    "queue": ("queue",),
    "type": ("types",),
    "name": ("name",),
    "project": ("project",),
    "directory": ("directory",),
    "stdout": ("stdout",),
    "stderr": ("stderr",),
    "anterior": ("dependencies",),
    "notify": ("notify",),
    "checkpoint": ("checkpoint_s",),
    "signal": ("signal",),
    "command": ("command",),
    "hold": ("hold",),
}
_WAITING = (JobState.WAITING, JobState.HOLD)
_OVER = (JobState.TERMINATED, JobState.ERROR)
_REPEATED = ("resource", "property", "type", "anterior")
#: What a job is from its beginning on, and what is about other things.
_UNFIT = (
    *("reservation", "array", "array_param_file", "scanscript", "interactive", "keep"),
    *("use_job_key", "import_job_key", "import_job_key_inline", "export_job_key"),
)
_Read: TypeAlias = Callable[[click.Context, Mapping[str, Any]], Submission]
_Finish: TypeAlias = Callable[[Submitted, Mapping[str, Any]], int]


def run(ctx: click.Context, options: Mapping[str, Any], key: str | None, *, read: _Read, finish: _Finish) -> int:
    """Ask for the change, or for the new run; the exit status.

    ``read`` makes a submission of options and ``finish`` prints the ids of new jobs, and
    waits for them where that was asked for, as oarsub does.
    """
    _check(ctx, options)
    changes = _changes(ctx, options, read)
    said = join(["oarsub", *sys.argv[1:]])
    if options["resubmit"]:
        ids = options["resubmit"]
        named = _named((), ids, _OVER) if options["only"] else _named(ids, (), _OVER)
        again = Edit(named, changes, options["only"], said, options["dry_run"]).to_json()
        if options["dry_run"]:
            return _told_possible("submit again", ask("resubmit", again, key=key), options)
        return finish(Submitted.from_json(ask("resubmit", again, key=key, creates=True)), options)
    selection = _named(options["edit"], options["edit_array"], _WAITING)
    answer = ask("edit", Edit(selection, changes, None, said, options["dry_run"]).to_json(), key=key)
    return _told_possible("change", answer, options) if options["dry_run"] else told(answer, options)


def _named(ids: Sequence[str], arrays: Sequence[str], states: Collection[JobState]) -> JobSelection:
    """The jobs that these words name; a range means those of its jobs that are in one of ``states``."""
    selection = selection_of(ids, arrays)
    job_ids = tuple(map(JobId, selection.job_ids))
    if selection.ranges:
        from oarpy.client import job_view

        found = job_view.states(connect(), Selection(ranges=selection.ranges))
        job_ids += tuple(JobId(job_id) for job_id, state in found if state in states)
        if not job_ids and not selection.array_ids:
            raise RequestRefused(f"no job of {', '.join(ids)} is {' or '.join(states)}")
    return JobSelection(tuple(dict.fromkeys(job_ids)), tuple(map(JobId, selection.array_ids)))


def _told_possible(deed: str, document: Mapping[str, Any], options: Mapping[str, Any]) -> int:
    if options["style"]:
        return told(document, options)
    from oarpy.commands.jobs import tell_possible

    answer = Edited.from_json(document)
    for warning in answer.warnings:
        tell(warning)
    return tell_possible(deed, answer.jobs)


def told(document: Mapping[str, Any], options: Mapping[str, Any]) -> int:
    """Print what became of an edit; the exit status."""
    answer = Edited.from_json(document)
    for warning in answer.warnings:
        tell(warning)
    if options["style"]:
        from oarpy.commands import formats

        formats.write({str(job.job_id): job.outcome for job in answer.jobs}, options["style"])
    for job in answer.jobs:
        if not options["style"]:
            click.echo(f"Changing the job = {job.job_id} ...{job.outcome}" + ("" if job.status else "."))
        if job.status:
            complain(job.message)
    return max((job.status for job in answer.jobs), default=ExitStatus.REFUSED)


def _check(ctx: click.Context, options: Mapping[str, Any]) -> None:
    edits = bool(options["edit"] or options["edit_array"])
    if edits and options["resubmit"]:
        raise SyntaxRefused("--edit and --resubmit at once", exit_status=ExitStatus.REFUSED)
    what = "--edit" if edits else "--resubmit"
    if options["only"] and not options["resubmit"]:
        raise SyntaxRefused("--only goes with --resubmit ID, the id of an array", exit_status=ExitStatus.REFUSED)
    for name in (*_UNFIT, "wait", "follow") if edits else _UNFIT:
        if is_said(ctx, name):
            raise SyntaxRefused(f"{_option(ctx, name)} does not go with {what}", exit_status=ExitStatus.REFUSED)
    if edits and options["hold"]:
        raise SyntaxRefused("oarhold holds a job, --edit does not", exit_status=ExitStatus.REFUSED)


def _changes(ctx: click.Context, options: Mapping[str, Any], read: _Read) -> dict[str, Any]:
    said = [name for name in _FIELDS if name != "command" and is_said(ctx, name)]
    emptied = [name for name in said if _is_empty(options[name])]
    rest = {**options, **{name: () if name in _REPEATED else None for name in emptied}}
    named = [*said, *(["command"] if options["command"] else [])]
    document = read(ctx, {**rest, "command": options["command"] or ("true",)}).to_json()
    changes = {field: document.get(field) for name in named if name not in emptied for field in _FIELDS[name]}
    return changes | {field: None for name in emptied for field in _FIELDS[name]}


def _is_empty(value: str | Sequence[str] | bool) -> bool:
    return value == "" or value == ("",)


def _option(ctx: click.Context, name: str) -> str:
    """How the option is written that is called ``name`` here."""
    return next(word for one in ctx.command.params if one.name == name for word in one.opts if word.startswith("--"))
