"""Judas tells users what they asked to be told: by mail, or by running a program of theirs.

A message is taken from the outbox, which counts the try and keeps everybody else
from it until the try is certainly over; it is delivered with no transaction open;
then its fate is written.  **At least once**: when judas dies in between, the
message is delivered again, with the number it had before.  The tries of two epochs
cannot overlap, because what keeps others away outlives the lease: so a message may
be begun however little is left of the lease, which is shorter than most programs.

Mail and programs have nothing in common but the outbox: each has threads of its
own, and a mail server that does not answer delays nothing but mail.  Of each user
one program runs at a time, so nobody's programs keep the others' waiting, and one
user's come in the order of what happened.
"""

from __future__ import annotations

import os
import select
import socket
import time
from collections import Counter
from collections.abc import Callable, Iterator, Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor
from contextlib import suppress
from dataclasses import dataclass, field
from datetime import datetime, timedelta
from functools import partial
from logging import INFO, WARNING, getLogger
from queue import Empty, SimpleQueue

from sqlalchemy.engine import Connection
from sqlalchemy.exc import DBAPIError

from oarpy.database import events, outbox
from oarpy.database.connection import is_absence, retrying
from oarpy.database.events import Event
from oarpy.database.listen import Listener
from oarpy.database.outbox import Closed, Notice, Result
from oarpy.database.wake import Reader
from oarpy.drivers.command import CommandMessenger, HookMessenger
from oarpy.modules.context import Context
from oarpy.ports.messenger import Delivery, Fate, Message, Messenger
from oarpy.settings import Mail, Settings

logger = getLogger(__name__)

#: What a try may take longer than its messenger promises, threads that wait for a processor included.
MARGIN_S = 30.0
#: What is being delivered when judas is told to end may take this long to be recorded.
LAST_WORDS_S = 5.0
_EVENTS = {
    ("mail", True): "USER_MAIL_NOTIFICATION",
    ("mail", False): "USER_MAIL_NOTIFICATION_ERROR",
    ("exec", True): "USER_EXEC_NOTIFICATION",
    ("exec", False): "USER_EXEC_NOTIFICATION_ERROR",
    ("hook", True): "RESERVATION_HOOK",
    ("hook", False): "RESERVATION_HOOK_ERROR",
}


@dataclass(slots=True)
class Lane:
    """One way of delivering, with ``workers`` threads that take ``batch`` messages at a time.

    ``one_by_one``: a user's next message waits until the one under way is delivered.
    """

    messenger: Messenger
    workers: int
    batch: int
    one_by_one: bool = False
    running: int = 0
    logins: Counter[str] = field(default_factory=Counter)

    @property
    def hold(self) -> timedelta:
        """How long what is taken is kept from others."""
        return timedelta(seconds=self.messenger.limit_s + MARGIN_S)


class MailMessenger:
    """Mail; what it takes to send it, OpenSSL among it, is imported with the first one: 6 MiB."""

    def __init__(self, settings: Mail) -> None:
        self._settings = settings

    @property
    def limit_s(self) -> float:
        """That of ``SmtpMessenger``."""
        return 2 * self._settings.timeout.total_seconds()

    def deliver(self, messages: Sequence[Message]) -> list[Delivery]:
        from oarpy.drivers.smtp import SmtpMessenger

        return SmtpMessenger(self._settings, socket.gethostname()).deliver(messages)


def lanes_of(settings: Settings) -> dict[str, Lane]:
    """The ways of delivering, by the method that stands in the outbox."""
    programs = CommandMessenger(settings.notify.exec_timeout, min_uid=settings.nodes.min_uid)
    return {
        "mail": Lane(MailMessenger(settings.mail), workers=1, batch=50),
        "exec": Lane(programs, workers=8, batch=1, one_by_one=True),
        # One after the other, so that the site's program sees things in their order.
        "hook": Lane(HookMessenger(settings.notify.exec_timeout), workers=1, batch=1),
    }


def turn(ctx: Context) -> int:
    """Deliver what is due; how many messages were tried."""
    tried = 0
    with Judas(ctx, lanes_of(ctx.settings)) as judas:
        while begun := judas.begin():
            tried += begun
            judas.wait()
            judas.record()
    return tried


def serve(ctx: Context, stop: int) -> None:
    """Deliver what becomes due until ``stop`` can be read."""
    listener = Listener(ctx.engine, Reader.JUDAS)
    period_s = ctx.settings.server.turn_period.total_seconds()
    with Judas(ctx, lanes_of(ctx.settings)) as judas:
        while True:
            try:
                recorded = judas.record()
                listener.found(recorded + judas.begin() > 0)
            except DBAPIError as error:
                if not is_absence(error):
                    raise
                # What is not recorded yet is kept, and the listener finds the database again.
                logger.warning("database: does not answer (%s)", str(error.orig).strip().split("\n")[0])
            if stop in listener.wait(period_s, stop, judas.fileno()).ready:
                break
        judas.wait(LAST_WORDS_S)
        with suppress(DBAPIError):  # what is not recorded is delivered again
            judas.record()
    listener.close()


class Judas:
    """Messages under way, and what became of others that is still to be recorded."""

    def __init__(self, ctx: Context, lanes: Mapping[str, Lane]) -> None:
        self._ctx = ctx
        self._lanes = lanes
        self._threads = {
            method: ThreadPoolExecutor(lane.workers, thread_name_prefix=f"oar-{method}")
            for method, lane in lanes.items()
        }
        self._finished: SimpleQueue[tuple[Lane, Sequence[Message], Sequence[Delivery]]] = SimpleQueue()
        self._unrecorded: list[Delivery] = []
        self._bell = os.eventfd(0, os.EFD_NONBLOCK | os.EFD_CLOEXEC)

    def __enter__(self) -> Judas:
        return self

    def __exit__(self, *exception: object) -> None:
        for threads in self._threads.values():
            threads.shutdown(wait=False, cancel_futures=True)
        if not self._running():  # else a thread may still ring it
            os.close(self._bell)

    def fileno(self) -> int:
        """Can be read when a delivery is over."""
        return self._bell

    def begin(self) -> int:
        """Take what is due and begin to deliver it, as far as threads are free; how many messages that are."""
        attempts = self._ctx.settings.notify.attempts
        self._write(lambda conn: outbox.give_up(conn, attempts=attempts))
        begun = 0
        for method, lane in self._lanes.items():
            notices = retrying(partial(self._take, method, lane)) if lane.running < lane.workers else []
            for at in range(0, len(notices), lane.batch):
                self._deliver(method, lane, [message_of(notice) for notice in notices[at : at + lane.batch]])
            begun += len(notices)
        return begun

    def wait(self, timeout_s: float | None = None) -> None:
        """Return when nothing is under way any more, or after ``timeout_s``."""
        deadline = None if timeout_s is None else time.monotonic() + timeout_s
        while self._running():
            rest = None if deadline is None else deadline - time.monotonic()
            if rest is not None and rest <= 0:
                return
            select.select([self._bell], [], [], rest)
            self._collect()

    def record(self) -> int:
        """Write what became of messages since the last time; how many they were."""
        self._collect()
        results = [_result(delivery) for delivery in self._unrecorded]
        if results:
            notify = self._ctx.settings.notify
            self._write(
                lambda conn: outbox.record(conn, results, attempts=notify.attempts, retry_delay=notify.retry_delay)
            )
            self._ctx.passes("judas: fates written")
            self._unrecorded.clear()
        return len(results)

    def _take(self, method: str, lane: Lane) -> list[Notice]:
        """As many messages that are due as the lane has workers free; nobody else takes them until its hold is over."""
        with self._ctx.transaction() as conn:
            return outbox.take(
                conn,
                method,
                count=(lane.workers - lane.running) * lane.batch,
                per_login=1 if lane.one_by_one else lane.batch,
                busy=lane.logins if lane.one_by_one else (),
                hold=lane.hold,
            )

    def _deliver(self, method: str, lane: Lane, messages: Sequence[Message]) -> None:
        self._ctx.passes(f"judas: {method} taken")
        lane.running += 1
        lane.logins.update(message.login for message in messages)
        self._threads[method].submit(self._work, lane, messages)

    def _work(self, lane: Lane, messages: Sequence[Message]) -> None:
        """Runs in a thread of the lane."""
        try:
            deliveries = lane.messenger.deliver(messages)
        except Exception:  # one message must not keep the others from being delivered
            logger.exception("notifications %s: the delivery failed", [message.number for message in messages])
            deliveries = [
                Delivery(m.number, Fate.FAILED, "the server failed on it; its log says why") for m in messages
            ]
        self._finished.put((lane, messages, deliveries))
        os.eventfd_write(self._bell, 1)

    def _collect(self) -> None:
        with suppress(BlockingIOError):
            os.eventfd_read(self._bell)
        with suppress(Empty):
            while True:
                lane, messages, deliveries = self._finished.get_nowait()
                lane.running -= 1
                lane.logins -= Counter(message.login for message in messages)
                self._unrecorded += deliveries

    def _running(self) -> int:
        return sum(lane.running for lane in self._lanes.values())

    def _write(self, close: Callable[[Connection], list[Closed]]) -> None:
        def write() -> list[Closed]:
            with self._ctx.transaction(durable=True) as conn:
                closed = close(conn)
                events.append(conn, [_event(message) for message in closed])
                return closed

        for message in retrying(write):
            level = INFO if message.succeeded else WARNING
            logger.log(
                level,
                "notification %d: %s to %s: %s",
                message.notification_id,
                message.tag,
                message.target,
                message.detail,
            )


def message_of(notice: Notice) -> Message:
    """What is told, with what a person wants to know of the job."""
    return Message(
        number=notice.notification_id,
        target=notice.target,
        login=notice.login,
        tag=notice.tag,
        comment=notice.comment,
        job_id=notice.job_id,
        job_name=notice.job_name or "",
        facts=tuple(_facts(notice)),
    )


def _facts(notice: Notice) -> Iterator[tuple[str, str]]:
    if notice.state is None:
        return
    yield "job", str(notice.job_id) + (f" ({notice.job_name})" if notice.job_name else "")
    yield "user", notice.login
    values: dict[str, object] = {
        "queue": notice.queue_name,
        "state": notice.state,
        "command": notice.command,
        "directory": notice.launching_directory,
        "stdout": notice.stdout_file,
        "stderr": notice.stderr_file,
        "first host": notice.head,
        "submitted": _date(notice.submitted_at),
        "started": _date(notice.started_at),
        "ended": _date(notice.stopped_at),
        "ended by": notice.end_cause,
        "exit": None if notice.exit_code is None else _exit(notice.exit_code),
        "this happened": _date(notice.created_at),
    }
    for name, value in values.items():
        if value is not None:
            yield name, " ".join(str(value).split())


def _date(moment: datetime | None) -> str | None:
    return None if moment is None else moment.astimezone().strftime("%Y-%m-%d %H:%M:%S %z")


def _exit(wait_status: int) -> str:
    if os.WIFEXITED(wait_status):
        return f"status {os.WEXITSTATUS(wait_status)}"
    return f"signal {os.WTERMSIG(wait_status)}"


def _result(delivery: Delivery) -> Result:
    succeeded = None if delivery.fate is Fate.UNTRIED else delivery.fate is Fate.DELIVERED
    return Result(delivery.number, succeeded, delivery.fate is not Fate.REFUSED, delivery.detail)


def _event(message: Closed) -> Event:
    type_ = _EVENTS[message.method, message.succeeded]
    return Event(type_, message.job_id, description=f"[{message.tag}] {message.target}: {message.detail}")
