"""The verbs that clients may ask."""

from __future__ import annotations

from collections.abc import Callable

from oarpy.actions import edits, jobs
from oarpy.actions.prepared import Prepared
from oarpy.actions.submit import Site, prepare_submit
from oarpy.actions.walltime import prepare_walltime
from oarpy.actions.why import Outlook, prepare_why
from oarpy.errors import SyntaxRefused
from oarpy.model.wording import excerpt
from oarpy.settings import Nodes, WalltimeChange

#: Verbs whose answer takes so long that it is worked out when nobody else waits for one.
DEAR = frozenset({"why"})


def prepare(
    verb: str,
    payload: object,
    login: str,
    *,
    site: Site,
    nodes: Nodes,
    walltimes: WalltimeChange,
    look_around: Callable[[], Outlook],
    look_up: edits.Look,
    request_id: int | None = None,
) -> Prepared:
    """Judge what ``login`` asks.

    Raises:
        RequestRefused: with one sentence for the user.
    """
    match verb:
        case "submit":
            return prepare_submit(payload, login, site, request_id)
        case "delete":
            return jobs.prepare_delete(payload, login)
        case "hold":
            return jobs.prepare_hold(payload, login)
        case "resume":
            return jobs.prepare_resume(payload, login, everybody=site.jobs.users_may_suspend)
        case "suspend":
            return jobs.prepare_suspend(payload, login, nodes.order_timeout, everybody=site.jobs.users_may_suspend)
        case "checkpoint":
            return jobs.prepare_checkpoint(payload, login, nodes.order_timeout)
        case "walltime":
            return prepare_walltime(payload, login, walltimes, nodes.order_timeout)
        case "signal":
            return jobs.prepare_signal(payload, login, nodes.order_timeout)
        case "access":
            return jobs.prepare_access(payload, login, nodes.order_timeout)
        case "edit":
            return edits.prepare_edit(payload, login, site, look_up, request_id)
        case "resubmit":
            return edits.prepare_resubmit(payload, login, site, look_up, request_id)
        case "undelete":
            return edits.prepare_undelete(payload, login, site.jobs.undelete_within)
        case "besteffort":
            return jobs.prepare_besteffort(payload, login)
        case "terminate":
            return jobs.prepare_terminate(payload, login, 2 * nodes.order_timeout)
        case "why":
            return prepare_why(payload, look_around)
    raise SyntaxRefused(f"{excerpt(verb)} is nothing that can be asked")
