"""What clients ask and what the server answers, as JSON.

Both sides use these classes: a client writes ``to_json()`` and reads the answer,
the server reads with ``from_json`` and writes the answer.  ``from_json`` trusts
nothing: users may call ``ask`` without the commands.

Named tuples, because a command pays for each class at its start: 0.1 ms, where a
frozen dataclass takes 0.5.

=============================================  ==================  ==============================
verb                                           payload             answer
=============================================  ==================  ==============================
submit                                         ``Submission``      ``Submitted`` or ``Refusal``
delete, hold, suspend, resume, checkpoint,
signal, besteffort, terminate                  ``JobSelection``    ``JobsAnswer`` or ``Refusal``
walltime                                       ``WalltimeChange``  ``WalltimeAnswer`` or ``Refusal``
why                                            ``JobSelection``    a document, or ``Refusal``
edit, resubmit, undelete                       see ``edits``
=============================================  ==================  ==============================
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from typing import TYPE_CHECKING, Any, NamedTuple

from oarpy.errors import SyntaxRefused
from oarpy.model.dependencies import MAX_JOB_ID, Dependency
from oarpy.model.durations import MAX_DURATION_S
from oarpy.model.exit_statuses import ExitStatus
from oarpy.model.job_types import check_job_type, has_type, may_lack_command
from oarpy.model.notifications import Notification, checked
from oarpy.model.resource_grammar import Wish, wishes_from_json, wishes_to_json
from oarpy.model.states import DependencyKind, JobId
from oarpy.model.wording import check_printable, excerpt

if TYPE_CHECKING:
    from oarpy.model.filters import Filter
    from oarpy.model.reservation_dates import ReservationDates

MAX_JOBS = 100_000
MAX_TEXT = 4096
MAX_COMMAND = 1_048_576
MAX_ELEMENTS = 1_000_000
HIGHEST_SIGNAL = 64
DEFAULT_CHECKPOINT_SIGNAL = 12


OWN_KEY = "own"
#: Of a public key; one for RSA of 16384 bits has 2 800.
MAX_KEY = 4000
_BASE64 = frozenset("ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz0123456789+/=")


class Submission(NamedTuple):
    """One ``oarsub``.  What is None, or empty, was not said and is the server's to choose.

    ``resources`` are the ``-l`` as typed, ``wishes`` the same parsed;
    ``properties`` the ``-p`` as typed, ``filter`` the same parsed.  Of
    ``array_count`` and ``parameters`` at most one is given.  ``stdout`` and
    ``stderr`` may hold ``%jobid%`` and ``%jobname%`` and be relative to
    ``directory``.  Without a command a reservation holds its resources and does nothing.
    """

    command: str
    directory: str
    wishes: tuple[Wish, ...] = (Wish(),)
    resources: tuple[str, ...] = ()
    properties: str | None = None
    filter: Filter | None = None
    queue: str | None = None
    name: str | None = None
    project: str | None = None
    types: tuple[str, ...] = ()
    stdout: str | None = None
    stderr: str | None = None
    notify: Notification | None = None
    checkpoint_s: int | None = None
    signal: int | None = None
    hold: bool = False
    dependencies: tuple[Dependency, ...] = ()
    array_count: int | None = None
    parameters: tuple[str, ...] = ()
    initial_request: str = ""
    umask: int = 0o022
    dry_run: bool = False
    reservation: ReservationDates | None = None
    #: A public key that oarsh is to let in besides the job's own; ``OWN_KEY`` asks for the job's own alone.
    job_key: str | None = None
    interactive: bool = False

    def to_json(self) -> dict[str, Any]:
        """This as a document that ``from_json`` reads; what was not said is left out."""
        document: dict[str, Any] = {
            "command": self.command,
            "directory": self.directory,
            "wishes": wishes_to_json(self.wishes),
            "resources": list(self.resources),
            "properties": self.properties,
            "filter": _filter_to_json(self.filter),
            "queue": self.queue,
            "name": self.name,
            "project": self.project,
            "types": list(self.types),
            "stdout": self.stdout,
            "stderr": self.stderr,
            "notify": notification_to_json(self.notify),
            "checkpoint_s": self.checkpoint_s,
            "signal": self.signal,
            "hold": self.hold,
            "dependencies": [[each.job_id, each.kind.value, *each.window_s] for each in self.dependencies],
            "array_count": self.array_count,
            "parameters": list(self.parameters),
            "initial_request": self.initial_request,
            "umask": self.umask,
            "dry_run": self.dry_run,
            "job_key": self.job_key,
            "reservation": None if self.reservation is None else list(self.reservation),
            "interactive": self.interactive or None,
        }
        return {key: value for key, value in document.items() if value is not None and value != []}

    @classmethod
    def from_json(cls, document: object) -> Submission:
        """The submission in ``document``.

        Raises:
            SyntaxRefused: naming the field that is wrong.
        """
        fields = _Fields(document, "submission")
        submission = cls(
            command=fields.text("command", longest=MAX_COMMAND, lines=True) or "",
            directory=fields.text("directory") or "",
            wishes=wishes_from_json(fields.take("wishes", [[[], None]])),
            resources=tuple(fields.texts("resources", longest=MAX_COMMAND, lines=True)),
            properties=fields.text("properties", longest=MAX_COMMAND, lines=True),
            filter=_filter_from_json(fields.take("filter")),
            queue=fields.text("queue"),
            name=fields.text("name", longest=255),
            project=fields.text("project", longest=255),
            types=tuple(map(check_job_type, fields.texts("types"))),
            stdout=fields.text("stdout"),
            stderr=fields.text("stderr"),
            notify=notification_from_json(fields.take("notify")),
            checkpoint_s=fields.number("checkpoint_s", 1, MAX_DURATION_S),
            signal=fields.number("signal", 1, HIGHEST_SIGNAL),
            hold=fields.flag("hold"),
            dependencies=tuple(map(_dependency_from_json, fields.items("dependencies"))),
            array_count=fields.number("array_count", 1, MAX_ELEMENTS),
            parameters=tuple(fields.texts("parameters", longest=MAX_COMMAND, lines=True)),
            initial_request=fields.text("initial_request", longest=MAX_COMMAND, lines=True) or "",
            umask=fields.number("umask", 0, 0o777) or 0,
            dry_run=fields.flag("dry_run"),
            job_key=_job_key(fields.text("job_key", longest=MAX_KEY)),
            reservation=_reservation_from_json(fields.take("reservation")),
            interactive=fields.flag("interactive"),
        )
        fields.check_all_taken()
        if not submission.command.strip() and not submission.needs_no_command:
            raise SyntaxRefused("a job without a command", exit_status=ExitStatus.NOTHING_TO_DO)
        if not submission.directory.startswith("/"):
            raise SyntaxRefused(f"the directory {excerpt(submission.directory)} is not a full path")
        if submission.array_count and submission.parameters:
            raise SyntaxRefused(
                "an array has a number of elements or parameters, not both", exit_status=ExitStatus.ARRAY_OR_ALREADY
            )
        if submission.interactive:
            _check_is_interactive(submission)
        if submission.reservation is not None:
            _check_goes_with_reservation(submission)
        return submission

    @property
    def needs_no_command(self) -> bool:
        """Whether it makes sense without a command: a shell, held resources, or nothing is what it wants."""
        return self.interactive or self.reservation is not None or may_lack_command(self.types)


class JobSelection(NamedTuple):
    """What ``oardel``, ``oarhold`` and ``oarresume`` speak of: ids, or all elements of arrays.

    ``signal`` is that of the verb signal.
    """

    job_ids: tuple[JobId, ...] = ()
    array_ids: tuple[JobId, ...] = ()
    signal: int | None = None

    def to_json(self) -> dict[str, Any]:
        """This as a document that ``from_json`` reads."""
        document: dict[str, Any] = {"job_ids": list(self.job_ids), "array_ids": list(self.array_ids)}
        if self.signal is not None:
            document["signal"] = self.signal
        return document

    @classmethod
    def from_json(cls, document: object) -> JobSelection:
        """The selection in ``document``.

        Raises:
            SyntaxRefused: naming the field that is wrong.
        """
        fields = _Fields(document, "selection of jobs")
        selection = cls(
            job_ids=tuple(map(checked_id, fields.items("job_ids"))),
            array_ids=tuple(map(checked_id, fields.items("array_ids"))),
            signal=fields.number("signal", 1, HIGHEST_SIGNAL),
        )
        fields.check_all_taken()
        if not selection.job_ids and not selection.array_ids:
            raise SyntaxRefused("no job was named", exit_status=ExitStatus.BAD_ID)
        if len(selection.job_ids) + len(selection.array_ids) > MAX_JOBS:
            raise SyntaxRefused(f"more than {MAX_JOBS} jobs were named")
        return selection


class WalltimeChange(NamedTuple):
    """What ``oarwalltime`` asks; ``seconds`` is None when it only wants to know.

    ``relative``: ``seconds``, which may be negative, are added to the walltime; 0
    withdraws what is pending.  Otherwise they are the new walltime.
    """

    job_id: JobId
    seconds: int | None = None
    relative: bool = False
    force: bool = False
    whole: bool = False
    delay_next_jobs: bool = False
    timeout_s: int | None = None

    def to_json(self) -> dict[str, Any]:
        """This as a document that ``from_json`` reads."""
        return {name: value for name, value in self._asdict().items() if value is not None}

    @classmethod
    def from_json(cls, document: object) -> WalltimeChange:
        """The change in ``document``.

        Raises:
            SyntaxRefused: naming the field that is wrong.
        """
        fields = _Fields(document, "change of a walltime")
        change = cls(
            job_id=checked_id(fields.take("job_id")),
            seconds=fields.number("seconds", -MAX_DURATION_S, MAX_DURATION_S),
            relative=fields.flag("relative"),
            force=fields.flag("force"),
            whole=fields.flag("whole"),
            delay_next_jobs=fields.flag("delay_next_jobs"),
            timeout_s=fields.number("timeout_s", 1, MAX_DURATION_S),
        )
        fields.check_all_taken()
        if change.seconds is not None and change.seconds <= 0 and not change.relative:
            raise SyntaxRefused("a walltime of no time at all")
        return change


class WalltimeAnswer(NamedTuple):
    """A running job's walltime and what may become of it; ``possible_s`` is None without a limit.

    ``message`` tells what was done, empty when nothing was asked for.
    """

    job_id: JobId
    message: str
    walltime_s: int
    possible_s: int | None
    granted_s: int
    pending_s: int
    granted_with_force_s: int
    granted_with_delay_s: int
    granted_with_whole_s: int

    def facts(self) -> dict[str, Any]:
        """All but the id, as programs read it."""
        return {name: value for name, value in self._asdict().items() if name != "job_id"}

    def to_json(self) -> dict[str, Any]:
        return {"ok": True} | self._asdict()

    @classmethod
    def from_json(cls, document: Mapping[str, Any]) -> WalltimeAnswer:
        return cls(**{name: document[name] for name in cls._fields})


class Refusal(NamedTuple):
    """Nothing was done; ``message`` is one sentence for the user."""

    exit_status: int
    message: str

    def to_json(self) -> dict[str, Any]:
        return {"ok": False, "exit_status": self.exit_status, "message": self.message}


class Estimate(NamedTuple):
    """What the scheduler would decide about one ``-l``; ``start_s`` is None when it never starts.

    ``start_s`` is seconds since the epoch; ``hosts`` are those it would get.
    """

    wanted: str
    start_s: int | None
    walltime_s: int
    hosts: tuple[str, ...] = ()
    reason: str = ""

    def to_json(self) -> dict[str, Any]:
        return {
            "wanted": self.wanted,
            "start_s": self.start_s,
            "walltime_s": self.walltime_s,
            "hosts": list(self.hosts),
            "reason": self.reason,
        }

    @classmethod
    def from_json(cls, document: Mapping[str, Any]) -> Estimate:
        return cls(
            str(document["wanted"]),
            document["start_s"],
            int(document["walltime_s"]),
            tuple(document["hosts"]),
            str(document["reason"]),
        )


class Submitted(NamedTuple):
    """Ids ascending; ``array_id`` only for arrays; ``estimates``, one for each ``-l``, only by a dry run.

    ``warnings`` are lines for the user.
    """

    job_ids: tuple[JobId, ...]
    array_id: JobId | None = None
    warnings: tuple[str, ...] = ()
    estimates: tuple[Estimate, ...] = ()

    def to_json(self) -> dict[str, Any]:
        """Consecutive ids are written as half-open ranges: an array of 10 000 is one pair."""
        return {
            "ok": True,
            "job_ids": _ranges(self.job_ids),
            "array_id": self.array_id,
            "warnings": list(self.warnings),
            "estimates": [estimate.to_json() for estimate in self.estimates],
        }

    @classmethod
    def from_json(cls, document: Mapping[str, Any]) -> Submitted:
        return cls(
            tuple(JobId(job_id) for begin, end in document["job_ids"] for job_id in range(begin, end)),
            document["array_id"],
            tuple(document["warnings"]),
            tuple(map(Estimate.from_json, document["estimates"])),
        )


class JobOutcome(NamedTuple):
    """What became of the wish about one job; ``outcome`` is one word, ``status`` an exit status."""

    job_id: JobId
    outcome: str
    status: int = 0
    message: str = ""


class JobsAnswer(NamedTuple):
    """One outcome for each job named, in that order; an array's elements ascending."""

    jobs: tuple[JobOutcome, ...]

    def to_json(self) -> dict[str, Any]:
        return {"ok": True, "jobs": [[job.job_id, job.outcome, job.status, job.message] for job in self.jobs]}

    @classmethod
    def from_json(cls, document: Mapping[str, Any]) -> JobsAnswer:
        return cls(tuple(JobOutcome(*job) for job in document["jobs"]))


def refusal_in(document: Mapping[str, Any]) -> Refusal | None:
    """The refusal that an answer is, if it is one."""
    if document["ok"]:
        return None
    return Refusal(int(document["exit_status"]), str(document["message"]))


def notification_to_json(notification: Notification | None) -> dict[str, Any] | None:
    """The form that ``jobs`` keep and ``notification_from_json`` reads."""
    if notification is None:
        return None
    return {"method": notification.method, "target": notification.target, "tags": list(notification.tags)}


def notification_from_json(document: object) -> Notification | None:
    """The notification in ``document``; raises ``SyntaxRefused`` with status 16 when it is unsafe."""
    if document is None:
        return None
    fields = _Fields(document, "notification")
    notification = Notification(fields.text("method") or "", fields.text("target") or "", tuple(fields.texts("tags")))
    fields.check_all_taken()
    return checked(notification)


def _filter_to_json(tree: Filter | None) -> object:
    if tree is None:
        return None
    from oarpy.model.filter_grammar import filter_to_json

    return filter_to_json(tree)


def _filter_from_json(document: object) -> Filter | None:
    if document is None:
        return None
    from oarpy.model.filter_grammar import filter_from_json

    return filter_from_json(document)


def _reservation_from_json(document: object) -> ReservationDates | None:
    if document is None:
        return None
    from oarpy.model.reservation_dates import LAST_S, ReservationDates

    match document:
        case [None | int() as start_s, None | int() as end_s]:
            possible = all(date_s is None or 0 < date_s <= LAST_S for date_s in (start_s, end_s))
            if possible and (end_s is None or end_s > (start_s or 0)):
                return ReservationDates(start_s, end_s)
    raise SyntaxRefused(
        f"{excerpt(repr(document))} are not the dates of a reservation", exit_status=ExitStatus.RESERVATION_DATE
    )


def _check_is_interactive(submission: Submission) -> None:
    if submission.array_count or submission.parameters:
        status = ExitStatus.PARAMETERS_OR_NOT_RUNNING if submission.parameters else ExitStatus.DENIED
        raise SyntaxRefused("an array cannot be interactive", exit_status=status)
    if submission.reservation is not None:
        raise SyntaxRefused(
            "an advance reservation cannot be interactive; connect to it when it runs (oarsub -C)",
            exit_status=ExitStatus.RESERVATION_DATE,
        )
    if has_type(submission.types, "noop"):
        raise SyntaxRefused("a job that runs nothing cannot be interactive", exit_status=ExitStatus.NOOP)


def _check_goes_with_reservation(submission: Submission) -> None:
    others = {
        "an array": submission.array_count or submission.parameters,
        "--hold": submission.hold,
        "a job that waits for others": submission.dependencies,
    }
    for what, given in others.items():
        if given:
            raise SyntaxRefused(f"{what} cannot be an advance reservation", exit_status=ExitStatus.RESERVATION_DATE)


def _job_key(text: str | None) -> str | None:
    """A public key as OpenSSH writes it, without a comment."""
    if text is not None and text != OWN_KEY:
        kind, _, blob = text.partition(" ")
        if not kind.replace("-", "").isalnum() or not blob or not _BASE64.issuperset(blob):
            raise SyntaxRefused("job_key of the submission is not a public key")
    return text


def _dependency_from_json(document: object) -> Dependency:
    match document:
        case [job_id, str(kind), None | int() as lowest, None | int() as highest]:
            if kind in {known.value for known in DependencyKind}:
                return Dependency(checked_id(job_id), DependencyKind(kind), (_bound(lowest), _bound(highest)))
    raise SyntaxRefused(f"{excerpt(repr(document))} is not a dependency in JSON")


def _bound(seconds: int | None) -> int | None:
    if seconds is not None and abs(seconds) > MAX_DURATION_S:
        raise SyntaxRefused(f"a dependency's window of {seconds} seconds is too long")
    return seconds


def checked_id(value: object) -> JobId:
    """``value`` if a job can have it as its id; raises ``SyntaxRefused``."""
    if isinstance(value, int) and not isinstance(value, bool) and 0 < value <= MAX_JOB_ID:
        return JobId(value)
    raise SyntaxRefused(f"{excerpt(repr(value))} is not the id of a job", exit_status=ExitStatus.BAD_ID)


def _ranges(job_ids: Iterable[JobId]) -> list[list[int]]:
    ranges: list[list[int]] = []
    for job_id in job_ids:
        if ranges and ranges[-1][1] == job_id:
            ranges[-1][1] += 1
        else:
            ranges.append([job_id, job_id + 1])
    return ranges


class _Fields:
    """The members of a JSON object, each taken once and checked; what is left over is refused."""

    def __init__(self, document: object, what: str) -> None:
        if not isinstance(document, dict):
            raise SyntaxRefused(f"{excerpt(repr(document))} is not a {what}")
        self._what = what
        self._left = dict(document)

    def take(self, name: str, default: object = None) -> object:
        return self._left.pop(name, default)

    def text(self, name: str, *, longest: int = MAX_TEXT, lines: bool = False) -> str | None:
        value = self.take(name)
        return None if value is None else self._text(name, value, longest, lines)

    def texts(self, name: str, *, longest: int = MAX_TEXT, lines: bool = False) -> list[str]:
        return [self._text(name, value, longest, lines) for value in self.items(name)]

    def _text(self, name: str, value: object, longest: int, lines: bool) -> str:
        if not isinstance(value, str):
            raise self._wrong(name, "is not a text")
        if not lines:
            return check_printable(value, f"{name} of the {self._what}", longest=longest)
        if len(value) > longest:
            raise self._wrong(name, f"has {len(value)} characters; {longest} are allowed")
        if "\0" in value or (not value.isascii() and any("\ud800" <= character <= "\udfff" for character in value)):
            raise self._wrong(name, "has bytes that are no characters")
        return value

    def items(self, name: str) -> list[object]:
        value = self.take(name, [])
        if not isinstance(value, list):
            raise self._wrong(name, "is not a list")
        return value

    def number(self, name: str, lowest: int, highest: int) -> int | None:
        value = self.take(name)
        if value is None:
            return None
        if not isinstance(value, int) or isinstance(value, bool) or not lowest <= value <= highest:
            raise self._wrong(name, f"is not a number from {lowest} to {highest}")
        return value

    def flag(self, name: str) -> bool:
        value = self.take(name, False)
        if not isinstance(value, bool):
            raise self._wrong(name, "is neither true nor false")
        return value

    def check_all_taken(self) -> None:
        if self._left:
            raise SyntaxRefused(f"a {self._what} has no {excerpt(str(next(iter(self._left))))}")

    def _wrong(self, name: str, problem: str) -> SyntaxRefused:
        return SyntaxRefused(f"{name} of the {self._what} {problem}")
