"""What ``oarsub --edit`` and ``oarsub --resubmit`` ask: jobs that exist, and what is to be different about them.

=============  ===============  ==========================
verb           payload          answer
=============  ===============  ==========================
edit           ``Edit``         ``Edited`` or ``Refusal``
resubmit       ``Edit``         ``Submitted`` or ``Refusal``
undelete       ``Undeletion``   ``JobsAnswer`` or ``Refusal``
=============  ===============  ==========================

The answer to undelete has the id of the new job for its outcome.  Each may be a dry run,
which does nothing: the answer to an edit and a resubmission is then ``Edited``.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any, NamedTuple

from oarpy.errors import SyntaxRefused
from oarpy.model.payloads import MAX_COMMAND, JobOutcome, JobSelection, Submission
from oarpy.model.wording import excerpt

#: The fields of a submission that another one may take the place of.
CHANGEABLE = frozenset(
    {
        "command",
        "directory",
        "wishes",
        "resources",
        "properties",
        "filter",
        "queue",
        "name",
        "project",
        "types",
        "stdout",
        "stderr",
        "notify",
        "checkpoint_s",
        "signal",
        "dependencies",
        "hold",
    }
)
#: Which elements of an array are submitted again.
ALL, FAILED = "all", "failed"


class Edit(NamedTuple):
    """Jobs, and the fields of their submission that are new; None as a value takes a field away.

    ``only``, for a resubmission of arrays: FAILED or ALL of their elements.  ``said`` is
    the command line.  A dry run does nothing; its answer says what would be done to which job.
    """

    selection: JobSelection
    changes: Mapping[str, Any]
    only: str | None = None
    said: str = ""
    dry_run: bool = False

    def to_json(self) -> dict[str, Any]:
        """This as a document that ``from_json`` reads."""
        document = {**self.selection.to_json(), "changes": dict(self.changes), "said": self.said}
        if self.only is not None:
            document["only"] = self.only
        return _rehearsed(document, self.dry_run)

    @classmethod
    def from_json(cls, document: object) -> Edit:
        """The edit in ``document``.

        Raises:
            SyntaxRefused: naming what is wrong.
        """
        rest, dry_run = _without_rehearsal(document)
        changes, only, said = rest.pop("changes", {}), rest.pop("only", None), rest.pop("said", "")
        if only not in (None, ALL, FAILED):
            raise SyntaxRefused(f"{excerpt(repr(only))} is neither {ALL} nor {FAILED}")
        if not isinstance(said, str) or len(said) > MAX_COMMAND or "\0" in said:
            raise SyntaxRefused("the command line of an edit is not a text")
        if not isinstance(changes, dict):
            raise SyntaxRefused("the changes of an edit are not an object")
        unknown = next((name for name in changes if name not in CHANGEABLE), None)
        if unknown is not None:
            raise SyntaxRefused(f"{excerpt(str(unknown))} of a job cannot be changed")
        edit = cls(JobSelection.from_json(rest), changes, only, said, dry_run)
        # Each field for itself; what they make of a job together is looked at with the job.
        merged({"command": "true", "directory": "/"}, changes)
        return edit


class Undeletion(NamedTuple):
    """Jobs whose deletion is to be taken back; or, in a dry run, to be looked at."""

    selection: JobSelection
    dry_run: bool = False

    def to_json(self) -> dict[str, Any]:
        """This as a document that ``from_json`` reads."""
        return _rehearsed(self.selection.to_json(), self.dry_run)

    @classmethod
    def from_json(cls, document: object) -> Undeletion:
        """The wish in ``document``; raises ``SyntaxRefused`` naming what is wrong."""
        rest, dry_run = _without_rehearsal(document)
        return cls(JobSelection.from_json(rest), dry_run)


def _rehearsed(document: dict[str, Any], dry_run: bool) -> dict[str, Any]:
    return {**document, "dry_run": True} if dry_run else document


def _without_rehearsal(document: object) -> tuple[dict[str, Any], bool]:
    if not isinstance(document, dict):
        raise SyntaxRefused(f"{excerpt(repr(document))} names no jobs")
    rest = dict(document)
    dry_run = rest.pop("dry_run", False)
    if not isinstance(dry_run, bool):
        raise SyntaxRefused("dry_run is neither true nor false")
    return rest, dry_run


class Edited(NamedTuple):
    """One outcome for each job named; ``warnings`` are lines for the user."""

    jobs: tuple[JobOutcome, ...]
    warnings: tuple[str, ...] = ()

    def to_json(self) -> dict[str, Any]:
        jobs = [[job.job_id, job.outcome, job.status, job.message] for job in self.jobs]
        return {"ok": True, "jobs": jobs, "warnings": list(self.warnings)}

    @classmethod
    def from_json(cls, document: Mapping[str, Any]) -> Edited:
        return cls(tuple(JobOutcome(*job) for job in document["jobs"]), tuple(document["warnings"]))


def merged(asked: Mapping[str, Any], changes: Mapping[str, Any]) -> Submission:
    """The submission that ``asked`` becomes by ``changes``.

    A new ``-l`` that names only a walltime keeps the resources, and one that names
    none keeps the walltime: that of the old alternative in its place, or of the
    first one.

    Raises:
        SyntaxRefused: it is none.
    """
    document = {**asked, **changes}
    if changes.get("wishes") is not None and asked.get("wishes"):
        document["wishes"] = _wishes(asked["wishes"], changes["wishes"])
    return Submission.from_json({name: value for name, value in document.items() if value is not None})


def _wishes(old: Any, new: Any) -> Any:
    match new:
        case [[[], walltime_s]]:
            return [[groups, walltime_s] for groups, _ in old]
        case [[_, _], *_]:
            olds = [*old, *(old[:1] * len(new))]
            return [
                [groups, old_s if walltime_s is None else walltime_s]
                for (groups, walltime_s), (_, old_s) in zip(new, olds, strict=False)
                if isinstance(groups, list)
            ]
    return new
