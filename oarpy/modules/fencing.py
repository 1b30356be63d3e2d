"""When it is certain that a host which nobody reaches has killed its leased jobs.

A host counts a lease from a clock of its own that the server has told back, so nothing
that is late on its way prolongs it.  The server counts from when it heard that clock,
which is later, by its own monotonic clock.  When lease and margin have passed since
then, nothing of the job runs any more; the margin is for the killing and for clocks
that do not run alike.

A new runner knows nothing of what the one before told.  That one cannot have told
anything later than this one began, so it counts from there.
"""

from __future__ import annotations

from dataclasses import dataclass


@dataclass(slots=True)
class _Host:
    clock: float
    heard_at: float
    #: When the clock was heard that was told back last; None when none was.
    granted_at: float | None = None


class Fences:
    """What hosts have been told of their own clocks.  ``now`` is always this process's monotonic clock."""

    def __init__(self, margin_s: float, now: float) -> None:
        self._margin_s = margin_s
        self._born_at = now
        self._hosts: dict[str, _Host] = {}

    def heard(self, host: str, clock: float, now: float) -> None:
        """``host`` has told its clock."""
        known = self._hosts.get(host)
        self._hosts[host] = _Host(clock, now, None if known is None else known.granted_at)

    def grant(self, host: str) -> float:
        """The clock to tell back to a host that has told one: what is told now counts."""
        known = self._hosts[host]
        known.granted_at = known.heard_at
        return known.clock

    def is_fresh(self, host: str, lease_s: float, now: float) -> bool:
        """Whether what ``host`` told last is young enough to begin a lease with."""
        known = self._hosts.get(host)
        return known is not None and now - known.heard_at < lease_s / 4

    def is_due(self, host: str, lease_s: float, now: float) -> bool:
        """Whether ``host`` should be told its clock again."""
        known = self._hosts.get(host)
        if known is None or known.granted_at is None:
            return known is not None
        return now - known.granted_at >= lease_s / 4

    def is_over(self, host: str, lease_s: float, now: float) -> bool:
        """Whether ``host`` has certainly killed what was launched there with such a lease."""
        known = self._hosts.get(host)
        granted_at = self._born_at if known is None or known.granted_at is None else known.granted_at
        return now - granted_at >= lease_s + self._margin_s
