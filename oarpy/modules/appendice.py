"""Appendice answers what clients ask, so that neither a pass nor a node delays an ``oarsub``.

A turn notes which requests it takes up, judges them with no transaction open, and
writes jobs and answers in one durable transaction, each request in a savepoint.
Killed before that commits, nothing has happened and the next turn begins anew;
killed after, everything has.

A request may itself be what kills this process, by a rule that eats all memory for
example.  So one that was on the table at a death is taken up alone, and
after a second death it is refused.
"""

from __future__ import annotations

import json
import os
import time
from collections import Counter
from collections.abc import Iterator, Mapping, Sequence
from contextlib import closing
from functools import partial
from logging import getLogger
from typing import Any, TypeAlias

from sqlalchemy.engine import Connection
from sqlalchemy.exc import DBAPIError

from oarpy.actions.admission import KnownJobs
from oarpy.actions.catalogue import DEAR, prepare
from oarpy.actions.prepared import Answer, Prepared
from oarpy.actions.rules import RuleBook, Source
from oarpy.actions.submit import Cluster, Site
from oarpy.actions.time_limit import TookTooLong, time_limit
from oarpy.actions.why import Outlook
from oarpy.database import edits, plans, requests, reservations, resources, submissions
from oarpy.database.connection import RETRIED, is_absence, retrying, savepoint
from oarpy.database.listen import FRUITLESS, Listener
from oarpy.database.requests import Pending
from oarpy.database.snapshot import Reading, SnapshotReader
from oarpy.database.submissions import Rows
from oarpy.database.wake import Reader, wake
from oarpy.drivers.accounts import Accounts
from oarpy.errors import RequestRefused
from oarpy.instance import find_instance, shared
from oarpy.model.exit_statuses import ExitStatus
from oarpy.model.payloads import JobSelection, Refusal
from oarpy.modules.context import Context
from oarpy.modules.fan_out import FanOut
from oarpy.scheduling.platform import Platform

logger = getLogger(__name__)

#: Deaths that a request may be present at.
FATAL = 2
#: How long it may take to judge one request: everybody else's waits for it.
JUDGE_S = 5
#: After this long what was judged so far is answered, and the rest of a batch waits for the next one.
TURN_S = 0.2
#: How long a batch should take in all, since whoever asks meanwhile waits for its end; its size follows from that.
BATCH_S = 0.1
#: Jobs that one transaction touches, but for a single request: all its answers wait for its end.
MOST_ROWS = 20_000
#: How many turns a request that is dear gives way to others.
MOST_PASSED_OVER = 8
#: How long hints are not heeded after a flood of them: what a flood costs those with true requests.
FLOOD_S = 0.5
#: How long to wait for a database that broke a turn off.
RETRY_S = 0.2
_Judged: TypeAlias = tuple[int, Prepared | Refusal]


def turn(ctx: Context) -> int:
    """Answer one batch of requests; how many were answered."""
    return Appendice(ctx).turn()


def serve(ctx: Context, stop: int, fan_out: FanOut | None = None) -> None:
    """Answer requests until the descriptor ``stop`` can be read; beside that, let people watch."""
    if fan_out is not None:
        fan_out.start()
    try:
        _serve(ctx, stop)
    finally:
        if fan_out is not None:
            fan_out.stop()


def _serve(ctx: Context, stop: int) -> None:
    period_s = ctx.settings.server.turn_period.total_seconds()
    appendice = Appendice(ctx)
    with closing(Listener(ctx.engine, Reader.APPENDICE, from_users=True)) as listener:
        wait_s = 0.0
        fruitless = 0
        expire_at = time.monotonic()
        while True:
            woken = listener.wait(wait_s, stop)
            if stop in woken.ready:
                return
            try:
                answered = appendice.turn()
                if time.monotonic() >= expire_at:
                    appendice.expire()
                    expire_at = time.monotonic() + period_s
            except DBAPIError as error:
                if not is_absence(error):
                    raise
                logger.warning("database: a turn was broken off (%s)", str(error.orig).strip().split("\n")[0])
                ctx.engine.dispose()
                wait_s = RETRY_S
                continue
            if woken.hinted:
                listener.found(answered > 0)
            fruitless = fruitless + 1 if woken.hinted and not answered else 0
            # After a flood only the timer counts, so it must be a short one.
            wait_s = 0.0 if appendice.behind else FLOOD_S if fruitless >= FRUITLESS else period_s


def rules_directory() -> str:
    """The instance's own admission rules when it has such a directory, else those that come with oarpy."""
    own = find_instance().admission_rules_dir
    return own if os.path.isdir(own) else shared("conf", "admission_rules.d")


class Appendice:
    """What is kept from one turn to the next: rules, resources, and which takings are one's own."""

    def __init__(self, ctx: Context, directory: str | None = None) -> None:
        self._ctx = ctx
        self._rules = RuleBook(directory or rules_directory())
        self._cluster: Cluster | None = None
        self._accounts = Accounts(ctx.settings.nodes.min_uid)
        #: For dry runs.
        self._reader = SnapshotReader()
        #: How often this process took up requests that are pending still: it did not die of these takings.
        self._survived: Counter[int] = Counter()
        #: Users of whom a request took too long lately: their others wait until nobody else's does.
        self._slow: set[str] = set()
        #: Requests that can be answered in ``BATCH_S``, as far as is known.
        self._room = ctx.settings.requests.batch
        #: How many turns in a row took up others only while a dear request waited.
        self._passed_over = 0
        #: Whether the last turn left requests that could be answered now.
        self.behind = False

    def turn(self) -> int:
        """Answer one batch of requests; how many were answered."""
        turn_begun = time.monotonic()
        room = self._room
        with self._ctx.transaction() as conn:
            found = requests.pending(conn, room)
            batch = self._batch(found)
            self.behind = False
            if not batch:
                return 0
            requests.take(conn, [request.request_id for request, _ in batch])
            rows = submissions.judged_by(conn)
        self._survived.update(request.request_id for request, _ in batch)
        self._ctx.passes("appendice: requests taken")
        site = self._site(rows)
        judged: dict[int, Prepared | Refusal] = {}
        first_begun = time.monotonic()
        for request, deaths in batch:
            begun = time.monotonic()
            if judged and (request.login in self._slow or begun - first_begun > TURN_S):
                continue
            judged[request.request_id] = self._judge(request, deaths, site)
            if time.monotonic() - begun > JUDGE_S:
                self._slow.add(request.login)
        answered = sum(retrying(partial(self._write, chunk)) for chunk in _chunks(judged))
        self._ctx.passes("appendice: answers written")
        for request_id in judged:
            del self._survived[request_id]
        # Requests that somebody else has locked are not waited for.
        self.behind = answered > 0 and (len(found) == room or len(judged) < len(found))
        if not any(request.verb in DEAR for request, _ in batch):
            self._room = _next_room(room, len(judged), time.monotonic() - turn_begun, self._ctx.settings.requests.batch)
        return answered

    def expire(self) -> int:
        """Close the requests that were not answered in time; how many they were.

        Users whose requests were slow to judge have their turns again from now on.
        """
        self._slow.clear()
        with self._ctx.transaction() as conn:
            return requests.expire(conn)

    def _batch(self, found: Sequence[Pending]) -> Sequence[tuple[Pending, int]]:
        """Those to be worked on together, each with the number of deaths that it saw."""
        counted = [(request, request.takings - self._survived[request.request_id]) for request in found]
        # To refuse is safe in any company.
        harmless = [
            (request, deaths)
            for request, deaths in counted
            if deaths >= FATAL or (deaths == 0 and request.login not in self._slow and request.verb not in DEAR)
        ]
        dear = [(request, deaths) for request, deaths in counted if request.verb in DEAR]
        self._passed_over = self._passed_over + 1 if dear and harmless else 0
        if self._passed_over > MOST_PASSED_OVER:
            self._passed_over = 0
            return dear[:1]
        return harmless or counted[:1]

    def _site(self, rows: Rows) -> Site:
        if self._cluster is None or self._cluster.version != rows.topology_version:
            with self._ctx.snapshot() as conn:
                self._cluster = Cluster(Platform(resources.topology(conn)), resources.property_kinds(conn))
        rules = self._rules.rules(Source(*rule) for rule in rows.rules)
        jobs, tokens = self._ctx.settings.jobs, self._ctx.settings.tokens.scripts
        return Site(
            self._cluster,
            rows.queues,
            rules,
            jobs,
            look=self._look,
            runs_no_jobs=self._accounts.run_no_jobs,
            tokens=tokens,
            now_s=rows.now_s,
            known=_KnownJobs(self._ctx),
        )

    def _look(self, types: Sequence[str]) -> Reading:
        """What the scheduler would know if it were called now, and a job of these types waited."""
        limits = self._ctx.limits(plan_first=self._ctx.settings.scheduler.plan_first)
        with self._ctx.snapshot() as conn:
            return self._reader.read(conn, limits, supposed=types)

    def _look_around(self) -> Outlook:
        """The same for all jobs, however many wait, and what was told of them."""
        with self._ctx.snapshot() as conn:
            return Outlook(self._reader.read(conn, self._ctx.limits()), plans.told(conn))

    def _look_up(self, selection: JobSelection) -> tuple[Sequence[edits.Stored], Mapping[int, edits.Asked]]:
        """The jobs that are named, and what they were asked for."""
        with self._ctx.snapshot() as conn:
            found = edits.stored(conn, selection.job_ids, selection.array_ids)
            return found, edits.asked(conn, {job.request_id for job in found})

    def _judge(self, request: Pending, deaths: int, site: Site) -> Prepared | Refusal:
        if deaths >= FATAL:
            logger.error(
                "request %d: refused, the server died %d times while it worked on it", request.request_id, deaths
            )
            return Refusal(ExitStatus.DEFECT, "the server failed again and again on this request; nothing was done")
        try:
            with time_limit(JUDGE_S):
                return prepare(
                    request.verb,
                    json.loads(request.payload),
                    request.login,
                    site=site,
                    nodes=self._ctx.settings.nodes,
                    walltimes=self._ctx.settings.walltime_change,
                    look_around=self._look_around,
                    look_up=self._look_up,
                    request_id=request.request_id,
                )
        except RequestRefused as refusal:
            return Refusal(refusal.exit_status, str(refusal))
        except TookTooLong:
            return Refusal(ExitStatus.DENIED, f"it took more than {JUDGE_S} s to judge the request; nothing was done")
        except RecursionError:
            return Refusal(ExitStatus.SYNTAX, "the request is nested too deeply")
        except Exception:  # one request must not keep the others from their answers
            return _failed(request.request_id)

    def _write(self, judged: Sequence[_Judged]) -> int:
        """Write jobs and answers; how many requests were answered."""
        answers: dict[int, dict[str, Any]] = {}
        readers: set[Reader] = set()
        with self._ctx.transaction(durable=True) as conn:
            still_wanted = requests.lock(conn, [request_id for request_id, _ in judged])
            for request_id, what in judged:
                if request_id not in still_wanted:
                    continue
                answer = _written(conn, request_id, what) if isinstance(what, Prepared) else what
                if isinstance(what, Prepared) and not isinstance(answer, Refusal):
                    readers.update(what.wakes)
                answers[request_id] = answer.to_json()
            requests.answer(conn, answers)
            wake(conn, *readers)
        return len(answers)


def _next_room(room: int, answered: int, took_s: float, most: int) -> int:
    """How many requests to take up next, after so many took so long."""
    if took_s > BATCH_S:
        return max(1, min(room, int(answered * BATCH_S / took_s)))
    return min(most, 2 * room)


class _KnownJobs(KnownJobs):
    """What stands in the tables, and what this turn is about to add."""

    def __init__(self, ctx: Context) -> None:
        self._ctx = ctx
        self._added: Counter[str] = Counter()

    def waiting_reservations(self, user: str) -> int:
        with self._ctx.snapshot() as conn:
            return reservations.waiting_of(conn, user) + self._added[user]

    def note_reservation(self, user: str) -> None:
        self._added[user] += 1


def _chunks(judged: Mapping[int, Prepared | Refusal]) -> Iterator[Sequence[_Judged]]:
    """What goes into one transaction each, large arrays last: nobody waits for somebody else's."""
    chunk: list[_Judged] = []
    room = MOST_ROWS
    for request_id, what in sorted(judged.items(), key=lambda item: _rows(item[1]) > MOST_ROWS // 20):
        if chunk and _rows(what) > room:
            yield chunk
            chunk, room = [], MOST_ROWS
        room -= _rows(what)
        chunk.append((request_id, what))
    yield chunk


def _rows(what: Prepared | Refusal) -> int:
    return what.rows if isinstance(what, Prepared) else 0


def _written(conn: Connection, request_id: int, prepared: Prepared) -> Answer:
    try:
        with savepoint(conn):
            return prepared.write(conn)
    except RequestRefused as refusal:
        return Refusal(refusal.exit_status, str(refusal))
    except Exception as error:  # one request must not keep the others from their answers
        if is_absence(error) or (isinstance(error, DBAPIError) and isinstance(error.orig, RETRIED)):
            raise
        return _failed(request_id)


def _failed(request_id: int) -> Refusal:
    logger.exception("request %d: failed", request_id)
    return Refusal(ExitStatus.DEFECT, "the server failed on this request; nothing was done, and its log says why")
