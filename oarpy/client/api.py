"""What ``oarpy.client`` offers to programs, and to the commands: ask, submit, wait, events, cancel, jobs.

Each call is complete in itself; sessions are opened where they are needed and closed
again.  Errors are those of ``oarpy.errors``: ``RequestRefused`` with a sentence and
an exit status, ``ServerUnavailable``, ``OutcomeUnknown`` with the key to ask again.

What only some calls need is imported by them: ``oarsub`` starts with this module.
"""

from __future__ import annotations

import time
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from typing import TYPE_CHECKING, Any

from oarpy.errors import RequestRefused
from oarpy.instance import find_instance
from oarpy.model.payloads import JobOutcome, JobsAnswer, JobSelection, Submission, Submitted, checked_id
from oarpy.model.states import JobId

if TYPE_CHECKING:
    from os import PathLike

    from oarpy.client.connection import Connection
    from oarpy.client.feed import Feed
    from oarpy.client.job_view import Detail
    from oarpy.client.waiting import Wait, Watched
    from oarpy.model.edits import Undeletion
    from oarpy.model.feed import FeedEvent, Position

_PROGRAM = "oarpy.client"
#: Between looks at whether somebody wants to go on meanwhile.
_STEP_S = 10.0


class Client:
    """Asks the instance that the environment names, as the account that runs the program.

    ``program`` is what its sessions are called; ``tell`` is given what there is to know
    while an answer is waited for, by default the log.  ``output`` is the file on which events
    are shown: waiting for them ends with ``BrokenPipeError`` when nobody reads there any more.
    ``answered`` is called when a request has its answer, before a ^C could lose it.
    The functions of ``oarpy.client`` are those of one client, and each command is one.
    """

    def __init__(
        self,
        program: str = _PROGRAM,
        tell: Callable[[str], object] | None = None,
        output: int | None = None,
        answered: Callable[[], object] | None = None,
    ) -> None:
        self._program = program
        self._tell = tell or _log
        self._output = output
        self._answered = answered

    def connect(self) -> Connection:
        """A session with the database."""
        from oarpy.client.connection import Connection

        return Connection.open(find_instance(), self._program)

    def ask(self, verb: str, document: Mapping[str, Any], key: str | None = None) -> Mapping[str, Any]:
        """The server's answer to one request; raises ``RequestRefused`` when that is what it answers."""
        from oarpy.client.asking import Request, granted, new_key

        key = key or new_key()
        request = Request(self.connect, verb, document, key=key, tell=self._tell, answered=self._answered)
        return granted(request.answer())

    def submit(
        self,
        command: str | Sequence[str | PathLike[str]],
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
        from os import fspath
        from shlex import join

        from oarpy.client.asking import check_key
        from oarpy.client.submissions import submission_of

        line = command if isinstance(command, str) else join(fspath(word) for word in command)
        for option, value in (("resources", resources), ("types", types), ("after", after), ("parameters", parameters)):
            _several(option, value)
        submission = submission_of(
            line,
            directory,
            resources=resources,
            properties=() if properties is None else (properties,),
            types=types,
            after=[str(each) for each in after],
            queue=queue,
            name=name,
            project=project,
            stdout=stdout,
            stderr=stderr,
            hold=hold,
            array_count=array,
            parameters=tuple(parameters),
            initial_request=line,
        )
        return self.send(submission, None if key is None else check_key(key))

    def send(self, submission: Submission, key: str | None = None) -> Submitted:
        """What ``submit`` does with a submission that is made already."""
        document = submission.to_json()
        # The server looks again; here it spares a refusal the way to it.
        Submission.from_json(document)
        return Submitted.from_json(self.ask("submit", document, key))

    def order(self, verb: str, jobs: JobSelection | Undeletion) -> tuple[JobOutcome, ...]:
        """What became of the wish ``verb`` for each of these jobs, with status 0 where it is granted."""
        document = jobs.to_json()
        type(jobs).from_json(document)
        return JobsAnswer.from_json(self.ask(verb, document)).jobs

    def cancel(self, *job_ids: int, array_ids: Iterable[int] = (), signal: int | None = None) -> tuple[JobOutcome, ...]:
        """Delete jobs, or send them ``signal``; what became of the wish for each, with status 0 where it is granted.

        Raises:
            RequestRefused: no job was named.
            ServerUnavailable: nothing was done, and nothing will be.
        """
        selection = JobSelection(tuple(map(JobId, job_ids)), tuple(map(JobId, array_ids)), signal)
        return self.order("delete" if signal is None else "signal", selection)

    def wait(
        self,
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
        with self.waiting(job_ids, array_ids) as waiting:
            while waiting.unfinished:
                rest_s = _STEP_S if deadline is None else deadline - time.monotonic()
                if rest_s <= 0:
                    break
                for event in waiting.step(min(rest_s, _STEP_S)):
                    if on_event is not None:
                        on_event(event)
            return [job for _, job in sorted(waiting.jobs.items())]

    def waiting(self, job_ids: Iterable[int] = (), array_ids: Iterable[int] = ()) -> Wait:
        """The same wait step by step, for who does something else in between; a context manager."""
        from oarpy.client.waiting import Wait

        path = find_instance().watch_socket
        return Wait(self.connect, path, _ids("job_ids", job_ids), _ids("array_ids", array_ids), output=self._output)

    def events(
        self,
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
        feed = self.feed(after, job_ids=job_ids, array_ids=array_ids, user=user)
        try:
            if follow:
                feed.begin()
            while follow:
                yield from feed.read(_STEP_S)
            if after is not None:
                yield from feed.rest()
        finally:
            feed.close()

    def feed(
        self,
        after: int | None = None,
        *,
        job_ids: Iterable[int] = (),
        array_ids: Iterable[int] = (),
        user: str | None = None,
    ) -> Feed:
        """The same events, for who does not wait for ever; to be closed."""
        from oarpy.client.feed import Feed
        from oarpy.model.feed import Wanted

        wanted = Wanted(frozenset(_ids("job_ids", job_ids)), frozenset(_ids("array_ids", array_ids)), user)
        position = None if after is None else self._position(after)
        return Feed(self.connect, find_instance().watch_socket, wanted, position, output=self._output)

    def jobs(
        self,
        job_ids: Iterable[int] = (),
        *,
        array_ids: Iterable[int] = (),
        user: str | None = None,
        sql: str | None = None,
    ) -> list[Detail]:
        """All that is known of jobs, ascending: those named, ended or not, else those that have not ended.

        ``sql`` is a condition as that of ``oarstat --sql``.
        """
        from oarpy.client import job_view
        from oarpy.client.selection import Selection, filter_of

        chosen = tuple(_ids("job_ids", job_ids)), tuple(_ids("array_ids", array_ids))
        selection = Selection(*chosen, user=user, filter=filter_of(sql))
        conn = self.connect()
        try:
            return job_view.details(conn, selection)
        finally:
            conn.close()

    def _position(self, event_id: int) -> Position:
        from oarpy.client.feed import place_of

        if event_id < 0:
            raise RequestRefused("the number of an event is not negative")
        conn = self.connect()
        try:
            return place_of(conn, event_id)
        finally:
            conn.close()


def _several(name: str, value: object) -> None:
    """Raise ``TypeError`` for one text, whose characters would be taken for the values."""
    if isinstance(value, str | bytes) or not isinstance(value, Iterable):
        raise TypeError(f"{name} is a list, such as [{value!r}], not {value!r} alone")


def _ids(name: str, value: Iterable[int]) -> list[int]:
    """The ids in ``value``; raises ``TypeError``, or ``SyntaxRefused`` for what no job can have."""
    _several(name, value)
    return [checked_id(each) for each in value]


def _log(line: str) -> None:
    from logging import getLogger

    getLogger(__name__).info("%s", line)


_OWN = Client()
submit, wait, events, cancel, jobs = _OWN.submit, _OWN.wait, _OWN.events, _OWN.cancel, _OWN.jobs
waiting = _OWN.waiting
