"""The orders of the server."""

import json
from typing import List, Tuple

from .access import write_access
from .accounts import Accounts
from .doctor import diagnosis
from .endings import Endings
from .entries import Entry
from .files import SpoolFailed
from .protocol import CAUSES, MAX_TEXT, PROOF, Access, Garbled, Json, Number, Refusal, check_environment, expect, key_of
from .running import Running
from .site import Site
from .spool import Spool
from .variables import variables


class Orders:
    """Has each order done by whoever can; owns the answers until they are told."""

    def __init__(self, site: Site, spool: Spool, endings: Endings, running: Running, accounts: Accounts) -> None:
        self._site = site
        self._spool = spool
        self._endings = endings
        self._running = running
        self._accounts = accounts
        self.answers: List[Json] = []

    def take(self, order: Json, number: Number) -> None:
        expect(order, "order", int)
        kind = expect(order, "kind", str)
        if kind == "check":
            site = self._site
            self._answer(order, True, json.dumps(diagnosis(site.spool, site.containment, site.weakness)))
            return
        job, attempt = key_of(order)
        entry = self._spool.entries.get((job, attempt))
        if kind in ("refuse", "kill") and entry is None:
            made = self._spool.make_entry(job, attempt, number)
            if made is not None:
                self._endings.give_up(made)
                self._spool.sync()
            self._answer(order, True)
        elif kind == "refuse":
            self._spool.tell(self._spool.entries[(job, attempt)])
            self._answer(order, True)
        elif kind == "forget":
            self._answer(order, *self._spool.forget(entry, number))
        elif entry is None:
            self._answer(order, False, "this attempt is not known here")
        elif kind == "kill":
            cause = expect(order, "cause", str, "killed")
            if cause not in CAUSES:
                raise Garbled("cause is %r" % cause)
            self._running.kill(entry, expect(order, "kill_after_s", float, entry.kill_after_s), cause)
            self._spool.tell(entry)
            self._answer(order, True)
        elif entry.state != Entry.BEGUN:
            over = entry.state != Entry.STARTING
            self._answer(order, False, "the job is over" if over else "the job has not begun", over)
        elif kind == "signal":
            self._running.signal(entry, expect(order, "signal", int), lambda *said: self._answer(order, *said))
        elif kind == "suspend":
            self._running.suspend(entry, lambda *said: self._answer(order, *said))
        elif kind == "resume":
            self._running.thaw(entry)
            self._answer(order, True)
        elif kind == "walltime":
            entry.walltime_s = expect(order, "walltime_s", float)
            written = self._spool.append(entry, "walltime %r" % entry.walltime_s)
            self._running.set_deadline(entry)
            self._answer(order, written, "" if written else "the spool cannot be written")
        elif kind == "access":
            self._answer(order, *self._let_in(entry, order))
        else:
            self._answer(order, False, "no such order: %s" % kind)

    def _let_in(self, entry: Entry, order: Json) -> Tuple[bool, str]:
        """Let oarsh come to a job that was launched without; whether that is done, and why not."""
        access = Access(expect(order, "access", dict))
        environment = expect(order, "environment", dict)
        check_environment(environment)
        if not PROOF.match(access.proof):
            raise Garbled("proof is %r" % access.proof)
        if entry.cgroup and not entry.joins:
            return False, "an older oarexec launched the job, and left no word how to enter its control group"
        given = variables(self._site, entry, environment, expect(order, "visible", str, None), access=True)
        try:
            account = self._accounts.find(entry.user)
            # First of all, so that whatever guard sees the job's end removes what is made now.
            if entry.proof != access.proof and not self._spool.append(entry, "access " + access.proof):
                return False, "the spool cannot be written"
            write_access(self._site, entry, access, given, account)
        except Refusal as refusal:
            return False, refusal.text[:MAX_TEXT]
        except SpoolFailed as error:
            return False, str(error)
        return True, ""

    def _answer(self, order: Json, done: bool, text: str = "", over: bool = False) -> None:
        self.answers.append({"order": order["order"], "done": done, "text": text, "over": over})
