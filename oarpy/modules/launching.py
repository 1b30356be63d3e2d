"""The beginning of launches: which can begin, where, and what hosts are told of them."""

from __future__ import annotations

import os
import time
from collections.abc import Collection, Mapping, Sequence
from dataclasses import replace
from datetime import timedelta

from sqlalchemy.engine import Connection

from oarpy.database import launches, node_sessions
from oarpy.database.launches import ToRun
from oarpy.drivers.ssh_keys import KeyStock
from oarpy.instance import names_of_this_machine
from oarpy.model.job_types import NOOP, has_type
from oarpy.model.states import JobId, JobState
from oarpy.modules.hosts import Hosts
from oarpy.modules.job_launch import access_of, launch_of, part_of, runs_on_server, sweep_of
from oarpy.modules.leases import Leases
from oarpy.modules.machines import Machines
from oarpy.modules.parts import Parts
from oarpy.modules.server_programs import ServerPrograms
from oarpy.modules.work import Work
from oarpy.ports.executor import Attempt, Greeting, Launch
from oarpy.settings import Settings

#: Launches that one transaction begins; the next follows at once.
MOST_LAUNCHES = 500


class Launching:
    """What it takes to launch a job: its hosts with their sessions, keys for oarsh, leases."""

    def __init__(
        self,
        settings: Settings,
        hosts: Hosts,
        machines: Machines,
        parts: Parts,
        leases: Leases,
        programs: ServerPrograms,
        keys: KeyStock,
    ) -> None:
        self._settings = settings
        self._hosts = hosts
        self._machines = machines
        self._parts = parts
        self._leases = leases
        self._programs = programs
        self._keys = keys
        self._mine = names_of_this_machine()

    def begin(self, conn: Connection, work: Work) -> None:
        """Write that the launches begin which hosts can be told of."""
        waiting = launches.to_launch(conn, MOST_LAUNCHES)
        if waiting:
            # They may hold resources that were added since the turn began.
            self._machines.refresh(conn)
        where = {job.job_id: self.where(job) for job in waiting}
        idle = {job.job_id for job in waiting if has_type(job.types, NOOP)}
        ready = self._hosts.ready()
        work.needed |= {name for names in where.values() for name in names} - ready
        to_send = [job for job in waiting if job.job_id not in idle and ready.issuperset(where[job.job_id])]
        leased = self._leases.choose(to_send, where)
        # The others are launched when their hosts have told their clocks.
        to_send = [job for job in to_send if job.job_id not in leased or self._may_be_leased(where[job.job_id])]
        pairs, to_send = self._with_keys(conn, to_send, where, work)
        can_begin = idle.union(job.job_id for job in to_send)
        heads = {job.job_id: where[job.job_id][0] for job in waiting if job.job_id in can_begin}
        begun = set(launches.begin(conn, heads, {job_id: names[1:] for job_id, names in where.items()}))
        work.changed += len(launches.start(conn, dict.fromkeys(sorted(begun & idle), timedelta())))
        for job in to_send:
            if job.job_id not in begun:
                continue
            names = where[job.job_id]
            head, *others = names
            if others:
                # The head is told when all of them are made.
                self._parts.of(Attempt(job.job_id, job.attempt), head, others, time.monotonic())
            to_run = self._leases.on(job) if job.job_id in leased else job
            for name in others or [head]:
                launch = self.launch(to_run, name, names, pairs.get(job.job_id))
                work.launches[name].append(launch)
        work.taken_in = {name for job_id in begun - idle for name in where[job_id]}
        news = {name for name in work.taken_in if not self._hosts[name].has_entries}
        if news:
            node_sessions.take_in(conn, news)
        self._leases.write(conn, begun & leased)
        work.log += [(job_id, f"Launching on {where[job_id][0]}") for job_id in sorted(begun)]
        work.more = len(begun) == MOST_LAUNCHES

    def follow_prologues(self, conn: Connection, work: Work) -> None:
        """Let launches follow their server prologues, if they are still to be made.

        A prologue may take its time.  Meanwhile the job may have been killed, or fenced and run
        elsewhere, and another runner may lead, which this transaction shows.
        """
        prepared = self._programs.prepared()
        known = launches.known(conn, {attempt.job_id for attempt in prepared}) if prepared else {}
        for attempt, one in prepared.items():
            job, parallel = known.get(attempt.job_id), self._parts.get(attempt.job_id)
            is_due = job is not None and (job.attempt, job.state) == (attempt.number, JobState.LAUNCHING)
            if not is_due or (parallel is not None and parallel.given_up):
                work.past.append(attempt)
                continue
            if not one.prologue_ended or one.told or self._hosts.session(one.host) is None:
                continue
            if one.failure is None and one.launch.lease is not None and not self._leases.may_begin(one.host):
                # When the host has told its clock.
                continue
            work.prepared[one.host].append(one)

    def where(self, job: ToRun) -> tuple[str, ...]:
        """The hosts of a job; the first is its head, the others make parts of it."""
        if runs_on_server(job.types) or has_type(job.types, NOOP):
            return (self._server(),)
        names = self._machines.hosts(job.resources)
        head = next(iter(names), "") or self._server()
        return (head, *sorted({*names} - {head}))

    def launch(
        self,
        job: ToRun,
        on: str,
        names: Sequence[str],
        pair: tuple[str, str] | None,
        *,
        greeting: Greeting | None = None,
    ) -> Launch:
        """What the host ``on`` is told of a job on ``names``, of which the first is the head.

        ``greeting`` is what ``on`` says of itself, where its session is not there yet.
        """
        session = self._hosts.session(on)
        greeting = greeting or (None if session is None else session.greeting)
        memory_mib = greeting.memory_mib if greeting is not None and self._settings.nodes.memory_share else None
        made = (launch_of if on == names[0] else part_of)(job, on, self._machines, self._settings, memory_mib)
        sweep = () if on in self._mine else sweep_of(self._settings.nodes)
        return replace(made, lease=job.lease, sweep=sweep, access=access_of(job, pair, self._hosts.oarsh_ports(names)))

    def has_key(self, job: ToRun, names: Sequence[str]) -> bool:
        """Whether oarsh comes to a job: from another of its hosts, to its terminal, or as was asked for."""
        head, *others = names
        if runs_on_server(job.types):
            return bool(others)
        return bool(others) or job.key is not None or (job.terminal is not None and head not in self._mine)

    def _server(self) -> str:
        """What the tables call the server's machine: by two names it would have two sessions, one fencing the other."""
        return self._machines.called(self._mine) or os.uname().nodename

    def _may_be_leased(self, names: Collection[str]) -> bool:
        # All of them are asked for their clocks at once.
        return {self._leases.may_begin(name) for name in names} == {True}

    def _with_keys(
        self, conn: Connection, jobs: Sequence[ToRun], where: Mapping[JobId, Sequence[str]], work: Work
    ) -> tuple[dict[JobId, tuple[str, str]], list[ToRun]]:
        """See to it that oarsh comes to those that are to have it: their key pairs, and who need not wait for one."""
        keyed = [job.job_id for job in jobs if self.has_key(job, where[job.job_id])]
        if not keyed:
            return {}, list(jobs)
        work.keys_wanted = True
        had = launches.keys(conn, keyed)
        made: dict[JobId, tuple[str, str]] = {}
        waiting: set[JobId] = set()
        for job_id in keyed:
            deaf = [name for name in where[job_id] if not self._hosts[name].opened_for_oarsh]
            for name in deaf:
                self._hosts[name].oarsh = True
            work.reopened.update(deaf)
            pair = had.get(job_id) or (None if deaf else self._keys.take())
            if deaf or (pair is None and self._keys.broken is None):
                waiting.add(job_id)
            elif pair is not None:
                made[job_id] = pair
        launches.give_keys(conn, made)
        return had | made, [job for job in jobs if job.job_id not in waiting]
