"""What ``oarpy.client`` offers to programs: submit, wait, events, cancel, jobs.

Each call is complete in itself; sessions are opened where they are needed and closed
again.  Errors are those of ``oarpy.errors``: ``RequestRefused`` with a sentence and
an exit status, ``ServerUnavailable``, ``OutcomeUnknown`` with the key to ask again.
"""

from __future__ import annotations

import os
import shlex
import time
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from functools import partial
from logging import getLogger
from typing import Any

from oarpy.client import job_view
from oarpy.client.asking import Request, check_key, granted, new_key
from oarpy.client.connection import Connection
from oarpy.client.feed import Feed, place_of
from oarpy.client.job_view import Detail
from oarpy.client.selection import Selection
from oarpy.client.waiting import Wait, Watched
from oarpy.errors import RequestRefused
from oarpy.instance import find_instance
from oarpy.model.dependencies import parse_dependency
from oarpy.model.feed import FeedEvent, Position, Wanted
from oarpy.model.payloads import JobOutcome, JobsAnswer, JobSelection, Submission, Submitted
from oarpy.model.resource_grammar import parse_wishes
from oarpy.model.states import JobId

logger = getLogger(__name__)

_PROGRAM = "oarpy.client"
#: Between looks at whether somebody wants to go on meanwhile.
_STEP_S = 10.0


def submit(
    command: str | Sequence[str],
    *,
    resources: Sequence[str] = (),
    properties: str | None = None,
    queue: str | None = None,
    name: str | None = None,
    project: str | None = None,
    types: Sequence[str] = (),
    directory: str | None = None,
    stdout: str | None = None,
    stderr: str | None = None,
    after: Sequence[int | str] = (),
    array: int | None = None,
    parameters: Sequence[str] = (),
    hold: bool = False,
    key: str | None = None,
) -> Submitted:
    """Submit a job, or an array of them; what is told is stored for good.

    ``command`` is a line for the shell, or the words of a command.  The options mean what
    those of ``oarsub`` mean: each of ``resources`` is a ``-l``, ``properties`` the ``-p``,
    each of ``after`` an ``-a``, ``array`` the number of elements, ``parameters`` what is
    appended to the command of each element.  The same ``key``, 32 hexadecimal digits,
    never submits twice.

    Raises:
        RequestRefused: nothing was submitted; the sentence says why.
        ServerUnavailable: nothing was submitted, and nothing will be.
        OutcomeUnknown: the connection broke; the same call with its ``key`` tells.
    """
    line = command if isinstance(command, str) else shlex.join(command)
    submission = Submission(
        command=line,
        directory=os.path.abspath(directory or "."),
        wishes=parse_wishes(resources),
        resources=tuple(resources),
        queue=queue,
        name=name,
        project=project,
        types=tuple(types),
        stdout=stdout,
        stderr=stderr,
        hold=hold,
        dependencies=tuple(parse_dependency(str(each)) for each in after),
        array_count=array,
        parameters=tuple(parameters),
        initial_request=line,
        umask=_umask(),
        **_filtered(properties),
    )
    document = submission.to_json()
    Submission.from_json(document)
    return Submitted.from_json(_ask("submit", document, None if key is None else check_key(key)))


def wait(
    job_ids: Iterable[int] = (),
    *,
    array_ids: Iterable[int] = (),
    timeout: float | None = None,
    on_event: Callable[[FeedEvent], object] | None = None,
) -> list[Watched]:
    """The jobs when all of them are over, ascending; or as they are when ``timeout`` seconds have passed.

    ``on_event`` is called with what happens to them meanwhile.

    Raises:
        RequestRefused: one of them does not exist.
        ServerUnavailable: the database does not come back.
    """
    deadline = None if timeout is None else time.monotonic() + timeout
    with Wait(connect, socket_path(), list(job_ids), list(array_ids)) as waiting:
        while waiting.unfinished:
            rest_s = _STEP_S if deadline is None else deadline - time.monotonic()
            if rest_s <= 0:
                break
            for event in waiting.step(min(rest_s, _STEP_S)):
                if on_event is not None:
                    on_event(event)
        return [job for _, job in sorted(waiting.jobs.items())]


def events(
    after: int | None = None,
    *,
    job_ids: Iterable[int] = (),
    array_ids: Iterable[int] = (),
    user: str | None = None,
    follow: bool = True,
) -> Iterator[FeedEvent]:
    """What happens to these jobs, or to everything: events, and changes of state.

    ``after`` is the ``event_id`` of the last one that is known, 0 for the oldest that is
    kept; without it, what happens from now on.  Nothing is left out or told twice.  With
    ``follow`` it goes on for ever; without, it ends when all that happened has been told.

    Raises:
        RequestRefused: there is no such event any more.
        ServerUnavailable: the database does not come back.
    """
    wanted = Wanted(frozenset(job_ids), frozenset(array_ids), user)
    position = None if after is None else _position(after)
    feed = Feed(connect, socket_path(), wanted, position)
    try:
        if follow:
            feed.begin()
        while follow:
            yield from feed.read(_STEP_S)
        if position is not None:
            yield from feed.rest()
    finally:
        feed.close()


def cancel(*job_ids: int, array_ids: Iterable[int] = (), signal: int | None = None) -> tuple[JobOutcome, ...]:
    """Delete jobs, or send them ``signal``; what became of the wish for each, with status 0 where it is granted.

    Raises:
        RequestRefused: no job was named.
        ServerUnavailable: nothing was done, and nothing will be.
    """
    selection = JobSelection(tuple(map(JobId, job_ids)), tuple(map(JobId, array_ids)), signal)
    document = selection.to_json()
    JobSelection.from_json(document)
    return JobsAnswer.from_json(_ask("delete" if signal is None else "signal", document, None)).jobs


def jobs(
    job_ids: Iterable[int] = (), *, array_ids: Iterable[int] = (), user: str | None = None, sql: str | None = None
) -> list[Detail]:
    """All that is known of jobs, ascending: those named, ended or not, else those that have not ended.

    ``sql`` is a condition as that of ``oarstat --sql``.
    """
    selection = Selection(tuple(job_ids), tuple(array_ids), user=user, filter=_parsed(sql))
    conn = connect()
    try:
        return job_view.details(conn, selection)
    finally:
        conn.close()


def _ask(verb: str, document: Mapping[str, Any], key: str | None) -> Mapping[str, Any]:
    return granted(Request(connect, verb, document, key=key or new_key(), tell=partial(logger.info, "%s")).answer())


def connect() -> Connection:
    """A session as the user who runs the program."""
    return Connection.open(find_instance(), _PROGRAM)


def socket_path() -> str:
    """Where watchers of the instance hang."""
    return find_instance().watch_socket


def _position(event_id: int) -> Position:
    if event_id < 0:
        raise RequestRefused("the number of an event is not negative")
    conn = connect()
    try:
        return place_of(conn, event_id)
    finally:
        conn.close()


def _umask() -> int:
    mask = os.umask(0o022)
    os.umask(mask)
    return mask


def _parsed(text: str | None) -> Any:
    if text is None:
        return None
    from oarpy.model.filter_grammar import parse_filter

    return parse_filter(text)


def _filtered(properties: str | None) -> dict[str, Any]:
    return {} if properties is None else {"properties": properties, "filter": _parsed(properties)}
