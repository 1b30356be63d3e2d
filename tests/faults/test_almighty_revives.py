"""The private PostgreSQL of an instance is started again when it dies."""

from __future__ import annotations

import os
import signal
from collections.abc import Iterator

import pytest

from oarpy.almighty import bringing_up
from oarpy.database import overview
from oarpy.drivers import postgresql
from oarpy.errors import ServerUnavailable
from oarpy.instance import Instance
from oarpy.settings import Settings
from tests.support.place import a_place
from tests.support.waiting import wait_until


@pytest.fixture
def instance() -> Iterator[Instance]:
    """A running instance with a database of its own."""
    with a_place() as root:
        instance = Instance(str(root / "home"))
        bringing_up.make_home(instance)
        try:
            bringing_up.prepare(instance, Settings())
            bringing_up.wait_for_almighty(instance, bringing_up.start_keeper(instance))
            yield instance
        finally:
            bringing_up.stop(instance)


def renewed(instance: Instance) -> overview.Leader | None:
    """The leader, as soon as it has renewed its lease in the database as it is now."""
    try:
        leader = bringing_up.look(instance).leader
    except ServerUnavailable:
        return None
    return leader if leader is not None and leader.silent_for_s < 2 else None


def test_a_killed_postgresql_is_started_again_and_the_same_almighty_goes_on(instance: Instance) -> None:
    before = bringing_up.look(instance).leader
    cluster = postgresql.cluster_of(instance, Settings().database)
    server = postgresql.postmaster(cluster)
    assert server is not None
    assert before is not None

    os.kill(server, signal.SIGKILL)
    # This process started it; until it asks for its status, the dead server seems to be there.
    os.waitpid(server, 0)

    wait_until(lambda: postgresql.postmaster(cluster) not in (None, server), what="another server")
    leader = wait_until(lambda: renewed(instance), what="the lease is renewed in it")
    assert (leader.pid, leader.epoch) == (before.pid, before.epoch)
