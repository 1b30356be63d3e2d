"""What a module is given: the database, the settings, and its term of leadership."""

from __future__ import annotations

import os
import signal
from contextlib import AbstractContextManager
from dataclasses import dataclass
from datetime import datetime, timedelta

from sqlalchemy import Engine, text
from sqlalchemy.engine import Connection

from oarpy.database import connection
from oarpy.database.connection import Epoch
from oarpy.scheduling.snapshot import Limits
from oarpy.scheduling.usage import Factors, Shares
from oarpy.settings import Multifactor, Settings

#: Names one point of ``Context.passes``; reaching it, the process kills itself.
DIES_AT = "OARPY_DIES_AT"


@dataclass(frozen=True, slots=True)
class Context:
    """One process's view of the world.

    ``epoch`` is None in tests of a single module.
    """

    engine: Engine
    settings: Settings
    epoch: Epoch | None = None

    def transaction(self, *, durable: bool = False) -> AbstractContextManager[Connection]:
        """A transaction of this epoch; ``durable`` where something is promised by it."""
        return connection.transaction(self.engine, self.epoch, durable=durable)

    def snapshot(self) -> AbstractContextManager[Connection]:
        """A read-only view of one instant."""
        return connection.snapshot(self.engine)

    def limits(self, *, plan_first: int | None = None) -> Limits:
        """What the site configured for a pass, of which ``plan_first`` jobs get a planned start; without it, all."""
        scheduler, kill, tokens = self.settings.scheduler, self.settings.kill, self.settings.tokens
        energy = self.settings.energy
        reservations = self.settings.reservations
        return Limits(
            grid_s=max(int(scheduler.grid.total_seconds()), 1),
            security_s=int(scheduler.security.total_seconds()),
            kill_grace_s=int(kill.soft.total_seconds()),
            plan_first=plan_first,
            jobs_per_user=scheduler.jobs_per_user,
            shares=shares_of(self.settings),
            factors=factors_of(self.settings.multifactor),
            lent_types=scheduler.suspended_types,
            energy=energy.enabled,
            wake_s=int(energy.wake_time.total_seconds()) if energy.enabled else 0,
            token_settle_s=int(tokens.settle.total_seconds()),
            token_valid_s=int((tokens.timeout + 3 * tokens.period).total_seconds()) + 1,
            quota_types=self.settings.quotas.resource_types,
            quota_horizon_s=whole_seconds(self.settings.quotas.horizon),
            quota_zone=self.settings.quotas.timezone,
            reservation_wait_s=int(reservations.wait_for_resources.total_seconds()),
            reservation_kill_s=int(reservations.kill_besteffort_before.total_seconds()),
        )

    def passes(self, point: str) -> None:
        """Name a point at which death must do no harm; tests die here."""
        if os.environ.get(DIES_AT) == point:
            os.kill(os.getpid(), signal.SIGKILL)


def shares_of(settings: Settings) -> Shares:
    """What the site wants karmas to be made of."""
    fairshare = settings.fairshare
    return Shares(
        project=fairshare.coefficient_project,
        user=fairshare.coefficient_user,
        asked=fairshare.coefficient_asked,
        project_targets=fairshare.project_targets,
        user_targets=fairshare.user_targets,
        window_s=int(fairshare.window.total_seconds()),
        whole_s=whole_seconds(settings.accounting.window),
        refresh_s=whole_seconds(fairshare.refresh),
    )


def factors_of(multifactor: Multifactor) -> Factors:
    """What the site wants priorities to be made of."""
    return Factors(
        age=multifactor.age,
        queue=multifactor.queue,
        work=multifactor.work,
        size=multifactor.size,
        karma=multifactor.karma,
        qos=multifactor.qos,
        nice=multifactor.nice,
        age_limit_s=whole_seconds(multifactor.age_limit),
        queues=multifactor.queues,
        work_favours=multifactor.work_favours,
        size_favours=multifactor.size_favours,
    )


def whole_seconds(length: timedelta) -> int:
    """A length of time that must not be nothing."""
    return max(int(length.total_seconds()), 1)


def now(conn: Connection) -> datetime:
    """The database's clock, at the start of the transaction of ``conn``."""
    moment: datetime = conn.execute(text("SELECT now()")).scalar_one()
    return moment
