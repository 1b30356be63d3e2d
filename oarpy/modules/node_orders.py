"""Orders that somebody wrote for hosts: which can be given, and what became of them."""

from __future__ import annotations

from collections.abc import Sequence
from datetime import timedelta

from sqlalchemy.engine import Connection

from oarpy.database import launches, orders
from oarpy.database.events import Event
from oarpy.database.launches import End
from oarpy.database.orders import Done, OpenOrder
from oarpy.model.job_types import NOOP, has_type
from oarpy.model.states import ON_NODES, EndCause, JobId, OrderKind
from oarpy.modules.accesses import Accesses
from oarpy.modules.hosts import Hosts
from oarpy.modules.job_ends import end_of_idle
from oarpy.modules.parallel_jobs import ParallelJobs
from oarpy.modules.work import Work
from oarpy.ports.executor import Answer, Attempt, Order, OrderWord
from oarpy.settings import Kill

_SUCCEEDED = {OrderKind.CHECKPOINT: "CHECKPOINT_SUCCESS", OrderKind.SIGNAL: "SIG_SUCCESS"}
_FAILED = {
    OrderKind.KILL: "KILL_ERROR",
    OrderKind.SIGNAL: "SIG_FAILED",
    OrderKind.CHECKPOINT: "CHECKPOINT_ERROR",
    OrderKind.SUSPEND: "SUSPEND_ERROR",
    OrderKind.RESUME: "RESUME_ERROR",
    OrderKind.CLEAN: "CPUSET_CLEAN_ERROR",
    OrderKind.WALLTIME: "WALLTIME_ERROR",
}
#: A host that was cut off is told of these when it is back, however late: its jobs have gone on.  That one which
#: is over cannot do so is nobody's fault.
_LASTING = frozenset({OrderKind.SUSPEND, OrderKind.RESUME, OrderKind.WALLTIME})


class NodeOrders:
    """The rows of ``orders``; a host has ``within`` for each."""

    def __init__(
        self, limits: Kill, within: timedelta, hosts: Hosts, parallel: ParallelJobs, accesses: Accesses
    ) -> None:
        self._accesses = accesses
        self._limits = limits
        self._within = within
        self._hosts = hosts
        self._parallel = parallel

    def write_answers(self, conn: Connection, answers: Sequence[tuple[str, Answer]], work: Work) -> None:
        """Write what became of orders."""
        given = {answer.number: (host, answer) for host, answer in answers if answer.number > 0}
        done = orders.finish(conn, [Done(a.number, a.done, _said(a)) for _, a in given.values()])
        for order_id, kind, job_id in done:
            host, answer = given[order_id]
            if job_id is not None and answer.done and kind is OrderKind.SUSPEND:
                work.changed += len(launches.suspend(conn, [job_id]))
            elif job_id is not None and answer.done and kind is OrderKind.RESUME:
                work.changed += len(launches.resume(conn, [job_id]))
            if not (answer.over and kind in _LASTING):
                _tell(kind, job_id, host, answer.done, answer.text, work)
        obeyed = [job_id for order_id, _, job_id in done if job_id and given[order_id][1].done]
        self._parallel.tell_others(conn, obeyed, work)
        self._accesses.settle(conn, done, {order_id for order_id, (_, answer) in given.items() if answer.done})

    def begin(self, conn: Connection, work: Work) -> None:
        """Write that the orders begin which a host can be told of, and what became of those that none need be told."""
        begun: list[int] = []
        prolonged: list[int] = []
        done: list[Done] = []
        past: set[int] = set()
        hosts: dict[int, str | None] = {}
        idle_ends: list[End] = []
        to_let_in: list[OpenOrder] = []
        for order in orders.still_open(conn):
            hosts[order.order_id] = order.host or order.head
            host = self._hosts.get(order.host or order.head or "")
            if order.job_id is not None and _is_past(order):
                done.append(Done(order.order_id, order.kind is OrderKind.KILL, "the job is not on its hosts"))
                past.add(order.order_id)
            elif order.job_id is not None and has_type(order.types, NOOP):
                if order.kind is OrderKind.KILL:
                    idle_ends.append(end_of_idle(order.job_id, order.cause))
                done.append(Done(order.order_id, True, "nothing runs for this job"))
            elif host is not None and host.session is not None:
                if order.kind is OrderKind.ACCESS and not (order.order_id in host.given and order.begun):
                    to_let_in.append(order)
                elif order.order_id not in host.given or not order.begun:
                    begun.append(order.order_id)
                    work.orders[host.name].append(self._order(order))
                    if order.late:
                        prolonged.append(order.order_id)
                elif order.late:
                    done.append(Done(order.order_id, False, "the host has not done it in time"))
            elif order.late:
                if order.kind in _LASTING:
                    prolonged.append(order.order_id)
                else:
                    why = f": {host.trouble}" if host is not None and host.trouble else ""
                    done.append(Done(order.order_id, False, f"the host cannot be reached{why}"))
            else:
                work.needed |= {name for name in (order.host, order.head) if name}
        made = self._accesses.orders(conn, to_let_in, work)
        for order in to_let_in:
            match made.get(order.order_id):
                case Order() as ready:
                    begun.append(order.order_id)
                    work.orders[order.head or ""].append(ready)
                case str() as reason:
                    done.append(Done(order.order_id, False, reason))
                case None if order.late:
                    done.append(Done(order.order_id, False, "it was not made in time"))
        orders.begin(conn, begun)
        orders.prolong(conn, prolonged, within=self._within)
        reasons = {one.order_id: one for one in done}
        finished = orders.finish(conn, done)
        self._accesses.settle(conn, finished)
        for order_id, kind, job_id in finished:
            if not (reasons[order_id].succeeded or (order_id in past and kind in _LASTING)):
                _tell(kind, job_id, hosts[order_id], False, reasons[order_id].result, work)
        work.changed += len(launches.finish(conn, idle_ends))

    def _order(self, order: OpenOrder) -> Order:
        """The row as its host is told of it."""
        assert order.kind is not OrderKind.ACCESS, "that is made by who knows the job"
        attempt = None if order.job_id is None or order.attempt is None else Attempt(order.job_id, order.attempt)
        match order.kind:
            case OrderKind.KILL:
                # TERM; what does not end in time is the server's decision, unless the server is gone.
                after = timedelta() if order.exterminate else self._limits.soft + self._limits.hard
                return Order(order.order_id, OrderWord.KILL, attempt, after, order.cause)
            case OrderKind.SIGNAL | OrderKind.CHECKPOINT:
                return Order(order.order_id, OrderWord.SIGNAL, attempt, signal=order.signal)
            case OrderKind.SUSPEND:
                return Order(order.order_id, OrderWord.SUSPEND, attempt)
            case OrderKind.RESUME:
                return Order(order.order_id, OrderWord.RESUME, attempt)
            case OrderKind.WALLTIME:
                return Order(order.order_id, OrderWord.WALLTIME, attempt, walltime=order.walltime)
            case OrderKind.CLEAN if attempt is not None:
                return Order(order.order_id, OrderWord.KILL, attempt, timedelta(), EndCause.ADMIN)
            case OrderKind.CLEAN | OrderKind.CHECK:
                return Order(order.order_id, OrderWord.CHECK)


def _tell(kind: OrderKind, job_id: JobId | None, host: str | None, done: bool, text: str, work: Work) -> None:
    name = (_SUCCEEDED if done else _FAILED).get(kind)
    if name is not None:
        work.events.append(Event(name, job_id, () if host is None else (host,), text))


def _said(answer: Answer) -> str:
    if answer.text.startswith("no such order"):
        return "its oarexec is of an older oarpy, which stays there until its jobs are over"
    return answer.text


def _is_past(order: OpenOrder) -> bool:
    """Whether the attempt that an order is for is on no host any more."""
    return order.attempt != order.current_attempt or order.state not in ON_NODES
