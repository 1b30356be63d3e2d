"""How Python programs, and the commands, ask the server, wait, and read what users may see.

::

    from oarpy import client

    job = client.submit("./simulate", resources=["/core=4,walltime=1:0"]).job_ids[0]
    print(client.wait([job])[0].exit_status)

Programs use what ``__all__`` names, explained in docs/python.md; the modules of this
package are the commands' own.  Everything is loaded when it is first used, because a
command needs little of it.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from oarpy.client.api import Client, cancel, events, jobs, submit, wait
    from oarpy.client.executor import JobFailed, JobFuture, OarExecutor
    from oarpy.client.job_view import Detail as Job
    from oarpy.client.waiting import Watched
    from oarpy.model.feed import FeedEvent
    from oarpy.model.payloads import JobOutcome, Submitted

__all__ = [
    "Client",
    "FeedEvent",
    "Job",
    "JobFailed",
    "JobFuture",
    "JobOutcome",
    "OarExecutor",
    "Submitted",
    "Watched",
    "cancel",
    "events",
    "jobs",
    "submit",
    "wait",
]
_PLACES = {
    "Client": ("oarpy.client.api", "Client"),
    "FeedEvent": ("oarpy.model.feed", "FeedEvent"),
    "Job": ("oarpy.client.job_view", "Detail"),
    "JobFailed": ("oarpy.client.executor", "JobFailed"),
    "JobFuture": ("oarpy.client.executor", "JobFuture"),
    "JobOutcome": ("oarpy.model.payloads", "JobOutcome"),
    "OarExecutor": ("oarpy.client.executor", "OarExecutor"),
    "Submitted": ("oarpy.model.payloads", "Submitted"),
    "Watched": ("oarpy.client.waiting", "Watched"),
    **{name: ("oarpy.client.api", name) for name in ("cancel", "events", "jobs", "submit", "wait")},
}


def __getattr__(name: str) -> Any:
    if name not in _PLACES:
        raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
    from importlib import import_module

    module, attribute = _PLACES[name]
    value = getattr(import_module(module), attribute)
    globals()[name] = value
    return value
