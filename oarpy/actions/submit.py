"""Submit: from what a user typed to rows that the scheduler understands.

In order: the payload is read, what it leaves out of its resources is filled in,
the rules of admission change it or refuse, its properties and its queue must
exist, and some state of the cluster must be able to satisfy it.
"""

from __future__ import annotations

from collections.abc import Callable, Collection, Mapping, Sequence
from dataclasses import dataclass, field
from datetime import UTC, datetime, timedelta
from functools import cache, lru_cache, partial
from typing import NamedTuple

from sqlalchemy.engine import Connection

from oarpy.actions import rules, what_if
from oarpy.actions.admission import KnownJobs, Submission, WantedAlternative, WantedGroup
from oarpy.actions.dates import dates_allowed, seconds_of
from oarpy.actions.prepared import Prepared
from oarpy.actions.properties import check_properties
from oarpy.actions.rules import Rule
from oarpy.database import submissions
from oarpy.database.snapshot import Reading
from oarpy.database.submissions import NewJobs
from oarpy.database.wake import Reader
from oarpy.errors import NeverFits, RequestRefused, SyntaxRefused
from oarpy.model import payloads, priority_types, token_types
from oarpy.model.dependencies import Dependency
from oarpy.model.durations import MAX_DURATION_S, render_duration
from oarpy.model.exit_statuses import ExitStatus
from oarpy.model.filter_grammar import render_filter
from oarpy.model.job_dates import NO_DATES, Dates
from oarpy.model.job_message import job_message
from oarpy.model.job_types import KNOWN_TYPES, NOOP, split_job_type
from oarpy.model.output_names import default_output
from oarpy.model.payloads import Estimate, Submitted, notification_to_json
from oarpy.model.reach_types import check_reach
from oarpy.model.request import Alternative, Group, ResourceRequest
from oarpy.model.reservation_dates import ReservationDates
from oarpy.model.resource_grammar import complete, parse_wish, render_request, request_to_json
from oarpy.model.sharing_types import check_sharing
from oarpy.model.wording import did_you_mean, excerpt
from oarpy.scheduling.feasible import feasible
from oarpy.scheduling.platform import Platform
from oarpy.scheduling.snapshot import WaitingJob
from oarpy.settings import Jobs

#: Each element of an array has a row of its own with its command in it.
MAX_COMMANDS_BYTES = 128 * 1024 * 1024
MAX_EDGES = 100_000
#: The kernel refuses a longer argument, and the shell gets the command as one.
MAX_COMMAND_BYTES = 131_071
#: They are in each job's row and environment.
MAX_TYPES_BYTES = 16_384


class Cluster:
    """The resources that requests are measured by, in one version of the topology."""

    def __init__(self, platform: Platform, kinds: Mapping[str, str]) -> None:
        self.version = platform.version
        self.kinds = kinds
        self._platform = platform
        #: Users submit the same request again and again.
        self.fitting = lru_cache(1000)(self._fitting)

    def _fitting(self, request: ResourceRequest) -> tuple[int, int]:
        """How many resources the first alternative that could ever be satisfied takes, and which it is.

        Raises:
            NeverFits: none could.
        """
        feasible(self._platform, request)
        demand = self._platform.demands(self._platform.lasting).of(request).demands[0]
        taken = demand.take(demand.mask)
        return taken.bit_count() if taken is not None else 0, demand.index


@dataclass(frozen=True, slots=True)
class Site:
    """What a submission is judged by, as it stood when it was read.

    ``look`` reads what a pass knows that has a job of these types to decide on, for dry runs;
    without it they say nothing of the start.
    ``runs_no_jobs`` tells of a login whether nodes would refuse it.
    ``tokens`` are the kinds that are counted.
    """

    cluster: Cluster
    queues: frozenset[str]
    rules: Sequence[Rule]
    jobs: Jobs
    look: Callable[[Sequence[str]], Reading] | None = None
    runs_no_jobs: Callable[[str], bool] = lambda _: False
    tokens: Collection[str] = ()
    now_s: int = 0
    known: KnownJobs = field(default_factory=KnownJobs)


class Judged(NamedTuple):
    """A submission that may be written; ``dates`` are absolute or count from the submission."""

    submission: Submission
    request: ResourceRequest
    queue: str
    dates: Dates
    message: str


def prepare_submit(payload: object, login: str, site: Site, request_id: int | None = None) -> Prepared:
    """Judge a submission of ``login``.

    Raises:
        RequestRefused: with one sentence for the user.
    """
    asked = payloads.Submission.from_json(payload)
    dates = asked.reservation
    if dates is not None:
        asked = _from_now_on(asked, dates, site.now_s)
    judged = judge(asked, login, site)
    if dates is not None and dates.start_s is not None and dates.start_s < site.now_s:
        judged.submission.warn("the date that the reservation is to start at is over; it is asked for from now on")
    if asked.dry_run:
        new = new_jobs(asked, judged, request_id)
        return Prepared(partial(_check_named, new=new, answer=_dry(asked, judged, site)), rows=0)
    if judged.submission.reservation is not None:
        site.known.note_reservation(login)
    is_array = asked.array_count is not None or bool(asked.parameters)
    new = new_jobs(asked, judged, request_id)
    return Prepared(
        partial(_write, new=new, is_array=is_array, warnings=tuple(judged.submission.warnings)),
        rows=new.count,
        wakes=(Reader.ALMIGHTY,),
    )


def judge(asked: payloads.Submission, login: str, site: Site) -> Judged:
    """What the rules, the queues and the resources say of a submission of ``login``.

    Raises:
        RequestRefused: with one sentence for the user.
    """
    submission = _submission(asked, login, site)
    _check_size(asked, submission, site.jobs)
    priority_types.check_given_by_user(submission.types)
    rules.admit(site.rules, submission)
    if site.runs_no_jobs(login):
        raise _denied(f"{login} is an account of the system, and no node runs its jobs")
    priority_types.check_given(submission.types)
    check_sharing(submission.types)
    if not submission.command.strip() and not asked.interactive and not submission.has_type(NOOP):
        submission.types.append(NOOP)
    check_reach(submission.types)
    _warn_of_types(submission)
    token_types.check_known(submission.types, site.tokens)
    dates = dates_allowed(submission)
    if submission.reservation is not None:
        _check_reserves(submission, dates)
        dates = Dates(not_before=submission.reservation)
    queue = submission.queue or site.jobs.default_queue
    if queue not in site.queues:
        raise _denied(f"the queue {excerpt(queue)} does not exist{did_you_mean(queue, site.queues)}")
    request = _request(submission, site.jobs.default_walltime)
    check_properties(request, site.cluster.kinds)
    try:
        resources, index = site.cluster.fitting(request)
    except NeverFits as refusal:
        raise NeverFits(f"the job could never start: {refusal}") from refusal
    _warn_of_shared_files(asked, submission)
    message = job_message(
        resources=resources,
        walltime_s=request.alternatives[index].walltime_s,
        name=submission.name,
        queue=queue,
        project=submission.project,
        types=submission.types,
        interactive=asked.interactive,
        reservation=submission.reservation is not None,
    )
    return Judged(submission, request, queue, dates, message)


def _dry(asked: payloads.Submission, judged: Judged, site: Site) -> Submitted:
    """What is told of a submission that goes no further."""
    submission, request, queue, dates, _ = judged
    told: tuple[Estimate, ...] = ()
    if site.look is not None and not submission.hold:
        reading = site.look(submission.types)
        not_before_s, deadline_s, expires_s = seconds_of(dates, reading.snapshot.now_s)
        job = WaitingJob(
            job_id=what_if.NOBODY,
            queue=queue,
            request_id=-1,
            request=request,
            submitted_s=reading.snapshot.now_s,
            user=submission.user,
            project=submission.project,
            name=submission.name or "",
            types=tuple(submission.types),
            besteffort=submission.has_type("besteffort"),
            not_before_s=not_before_s,
            deadline_s=deadline_s,
            expires_s=expires_s,
        )
        reading, uncounted = what_if.with_tokens(reading, job)
        for token in uncounted:
            submission.warn(f"the token {token} is counted when a job waits for it; the estimate takes enough for free")
        told = what_if.estimates(reading, job, reservation=submission.reservation is not None)
        if asked.dependencies:
            submission.warn("the estimate does not consider the jobs that this one is to wait for")
    return Submitted((), warnings=tuple(submission.warnings), estimates=told)


def _check_named(conn: Connection, *, new: NewJobs, answer: Submitted) -> Submitted:
    """The answer to a dry run, unless the jobs that it names would have it refused."""
    submissions.check_named(conn, new)
    return answer


def _write(conn: Connection, *, new: NewJobs, is_array: bool, warnings: tuple[str, ...]) -> Submitted:
    job_ids = submissions.insert(conn, new)
    return Submitted(job_ids, job_ids[0] if is_array else None, warnings)


def _from_now_on(asked: payloads.Submission, dates: ReservationDates, now_s: int) -> payloads.Submission:
    """The reservation with the start that it can have, and with its walltime where its end tells it."""
    start_s = max(now_s, dates.start_s or now_s)
    if dates.end_s is not None and dates.end_s <= start_s:
        raise SyntaxRefused("the reservation would be over already", exit_status=ExitStatus.RESERVATION_DATE)
    wishes = asked.wishes
    if dates.end_s is not None:
        walltime_s = dates.end_s - start_s
        wishes = tuple(wish if wish.walltime_s else wish._replace(walltime_s=walltime_s) for wish in wishes)
    return asked._replace(wishes=wishes, reservation=dates._replace(start_s=start_s))


def _check_reserves(submission: Submission, dates: Dates) -> None:
    sentence = None
    if dates != NO_DATES:
        sentence = "an advance reservation has its own dates: postpone, deadline and expire do not go with it"
    if sentence is not None:
        raise RequestRefused(sentence, exit_status=ExitStatus.RESERVATION_DATE)


def _submission(asked: payloads.Submission, login: str, site: Site) -> Submission:
    """The submission as the first rule sees it: levels and groups complete, walltimes as given."""
    completed = complete(
        asked.wishes,
        groups=_default_groups(site.jobs.default_resources),
        walltime_s=1,
        aliases={"nodes": site.jobs.nodes_level},
        everywhere=asked.filter,
    )
    alternatives = [
        WantedAlternative(
            [WantedGroup(list(group.levels), group.filter) for group in alternative.groups],
            None if wish.walltime_s is None else timedelta(seconds=wish.walltime_s),
        )
        for wish, alternative in zip(asked.wishes, completed.alternatives, strict=True)
    ]
    return Submission(
        user=login,
        site=site.jobs,
        command=asked.command,
        directory=asked.directory,
        alternatives=alternatives,
        properties=None if asked.filter is None else render_filter(asked.filter),
        queue=asked.queue,
        name=asked.name,
        project=asked.project or "default",
        types=list(dict.fromkeys(asked.types)),
        checkpoint=None if asked.checkpoint_s is None else timedelta(seconds=asked.checkpoint_s),
        hold=asked.hold,
        elements=len(asked.parameters) or asked.array_count or 1,
        reservation=_start(asked),
        known=site.known,
    )


def _start(asked: payloads.Submission) -> datetime | None:
    if asked.reservation is None or asked.reservation.start_s is None:
        return None
    return datetime.fromtimestamp(asked.reservation.start_s, UTC)


@cache
def _default_groups(resources: str) -> tuple[Group, ...]:
    return parse_wish(resources).groups


def _check_size(asked: payloads.Submission, submission: Submission, site: Jobs) -> None:
    if submission.elements > site.max_array:
        raise RequestRefused(
            f"an array of {submission.elements} elements is over the limit of {site.max_array}",
            exit_status=ExitStatus.ARRAY_OR_ALREADY,
        )
    size = len(asked.command) * submission.elements
    if size > MAX_COMMANDS_BYTES:
        raise _denied(
            f"{submission.elements} commands of {len(asked.command)} characters are over the limit of "
            f"{MAX_COMMANDS_BYTES} characters in all"
        )
    longest = len(asked.command.encode()) + max((1 + len(each.encode()) for each in asked.parameters), default=0)
    if longest > MAX_COMMAND_BYTES:
        raise _denied(
            f"the command has {longest} bytes and no shell takes more than {MAX_COMMAND_BYTES}; put it into a script"
        )
    words = sum(1 + len(each.encode()) for each in submission.types)
    if words > MAX_TYPES_BYTES:
        raise _denied(f"the types have {words} bytes in all, and a job may have {MAX_TYPES_BYTES}")
    edges = len(asked.dependencies) * submission.elements
    if edges > MAX_EDGES:
        raise _denied(
            f"{submission.elements} jobs that wait for {len(asked.dependencies)} others each are over the limit of "
            f"{MAX_EDGES} dependencies in all"
        )


def _warn_of_types(submission: Submission) -> None:
    """Any word is a type, since programs and sites have their own; one that is almost a known one is a mistake."""
    for each in submission.types:
        name = split_job_type(each)[0]
        if name not in KNOWN_TYPES:
            meant = did_you_mean(name, KNOWN_TYPES)
            if meant:
                submission.warn(f"the type {excerpt(name)} has no meaning of its own{meant}")
    if submission.command.strip() and submission.has_type(NOOP):
        submission.warn("a job of type noop runs nothing: its command is kept, and ignored")


def _warn_of_shared_files(asked: payloads.Submission, submission: Submission) -> None:
    for stream, path in (("stdout", asked.stdout), ("stderr", asked.stderr)):
        if path is not None and "%jobid%" not in path and submission.elements > 1:
            submission.warn(f"all elements write their {stream} to {path}; %jobid% in the name keeps them apart")


def _request(submission: Submission, default_walltime: timedelta) -> ResourceRequest:
    """What the rules left, as the scheduler wants it."""
    alternatives = []
    for wanted in submission.alternatives:
        walltime_s = int((wanted.walltime or default_walltime).total_seconds())
        if not 0 < walltime_s <= MAX_DURATION_S:
            raise _denied(f"a walltime of {render_duration(max(walltime_s, 0))} is not possible")
        groups = tuple(Group(tuple(group.levels), group.filter) for group in wanted.groups)
        alternatives.append(Alternative(groups, walltime_s))
    return ResourceRequest(tuple(alternatives))


def new_jobs(asked: payloads.Submission, judged: Judged, request_id: int | None) -> NewJobs:
    """The rows that a judged submission becomes."""
    submission, request, queue, dates, message = judged
    notify = notification_to_json(asked.notify)
    return NewJobs(
        request_id=request_id,
        user=submission.user,
        queue=queue,
        project=submission.project,
        name=submission.name,
        types=tuple(submission.types),
        command=submission.command,
        directory=submission.directory,
        stdout=asked.stdout or ("/dev/null" if asked.interactive else default_output(submission.name, "stdout")),
        stderr=asked.stderr or ("/dev/null" if asked.interactive else default_output(submission.name, "stderr")),
        hold=submission.hold,
        message=message,
        request=request_to_json(request),
        wanted_resources=render_request(request),
        properties=submission.properties,
        initial_request=asked.initial_request,
        umask=asked.umask,
        # In the table a notification without tags is for all of them.
        notify=None if notify is None else [notify | {"tags": notify["tags"] or None}],
        checkpoint=submission.checkpoint,
        checkpoint_signal=asked.signal or payloads.DEFAULT_CHECKPOINT_SIGNAL,
        dependencies=_merged(asked.dependencies),
        dates=dates,
        count=submission.elements,
        parameters=asked.parameters,
        is_reservation=submission.reservation is not None,
        is_interactive=asked.interactive,
        asked=_kept(asked),
    )


def _kept(asked: payloads.Submission) -> dict[str, object]:
    """What editing a job, or submitting it again, has to start from: no rule has seen it yet."""
    return asked._replace(initial_request="", dry_run=False, reservation=None).to_json()


def _merged(dependencies: Sequence[Dependency]) -> tuple[Dependency, ...]:
    by_job: dict[int, Dependency] = {}
    for dependency in dependencies:
        if by_job.setdefault(dependency.job_id, dependency) != dependency:
            raise _denied(f"the job is to wait for job {dependency.job_id} in two different ways")
    return tuple(by_job.values())


def _denied(sentence: str) -> RequestRefused:
    return RequestRefused(sentence, exit_status=ExitStatus.DENIED)
