"""Oarsh let into jobs that run and were launched without it, because somebody has asked for that.

A key pair for each job would be dear, so it is made when it is wanted.  It is written before
the host is told and opens nothing until the host has answered: another runner finds the same
pair, tells the host again, and the host does the same again.
"""

from __future__ import annotations

from collections.abc import Collection, Sequence

from sqlalchemy.engine import Connection

from oarpy.database import launches
from oarpy.database.launches import ToRun
from oarpy.database.orders import OpenOrder
from oarpy.database.wake import wake_channels
from oarpy.drivers.ssh_keys import KeyStock
from oarpy.model.states import JobId, OrderKind
from oarpy.modules.hosts import Hosts
from oarpy.modules.launching import Launching
from oarpy.modules.work import Work
from oarpy.ports.executor import Attempt, Order, OrderWord


class Accesses:
    """What lets oarsh into jobs later than at their launch."""

    def __init__(self, hosts: Hosts, launching: Launching, keys: KeyStock) -> None:
        self._hosts = hosts
        self._launching = launching
        self._keys = keys

    def orders(self, conn: Connection, wanted: Sequence[OpenOrder], work: Work) -> dict[int, Order | str]:
        """What the heads of jobs are to be told, or why there is nothing to tell.

        Of orders that are left out something is still to be made, after which there is another turn.
        """
        found: dict[int, Order | str] = {}
        listening = []
        for order in wanted:
            host = self._hosts[order.head or ""]
            if host.oarsh_port is not None:
                listening.append(order)
            elif host.opened_for_oarsh:
                found[order.order_id] = "it takes in no oarsh; of nodes.oarsh_ports it has none free"
            else:
                host.oarsh = True
                work.reopened.add(host.name)
        if listening:
            found |= self._of_listening(conn, listening, work)
        return found

    def settle(
        self,
        conn: Connection,
        finished: Sequence[tuple[int, OrderKind, JobId | None]],
        obeyed: Collection[int] = (),
    ) -> None:
        """These orders are finished, and those that are ``obeyed`` well; whoever waits for that is told."""
        jobs = {order_id: job_id for order_id, kind, job_id in finished if kind is OrderKind.ACCESS and job_id}
        launches.confirm_keys(conn, [job_id for order_id, job_id in jobs.items() if order_id in obeyed])
        wake_channels(conn, [f"oar_access_{job_id}" for job_id in jobs.values()])

    def _of_listening(self, conn: Connection, wanted: Sequence[OpenOrder], work: Work) -> dict[int, Order | str]:
        found: dict[int, Order | str] = {}
        jobs = {job.job_id: job for job in launches.on_hosts(conn, [one.job_id for one in wanted if one.job_id])}
        had = launches.keys(conn, jobs)
        made: dict[JobId, tuple[str, str]] = {}
        work.keys_wanted = True
        for order in wanted:
            job = jobs.get(order.job_id or JobId(0))
            if job is None:
                found[order.order_id] = "the job does not run"
                continue
            pair = had.get(job.job_id)
            if pair is None and (pair := self._keys.take()) is not None:
                made[job.job_id] = pair
            if pair is not None:
                found[order.order_id] = self._order(order, job, pair)
            elif self._keys.broken is not None:
                found[order.order_id] = f"no key can be made: {self._keys.broken}"
        launches.give_keys(conn, made, pending=True)
        return found

    def _order(self, order: OpenOrder, job: ToRun, pair: tuple[str, str]) -> Order:
        names = (job.head or "", *job.others)
        launch = self._launching.launch(job, names[0], names, pair)
        return Order(
            order.order_id,
            OrderWord.ACCESS,
            Attempt(job.job_id, job.attempt),
            access=launch.access,
            environment=launch.environment,
            visible_devices=launch.visible_devices,
        )
