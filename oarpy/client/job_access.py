"""How oarsh comes to a job that runs."""

from __future__ import annotations

import json
from typing import Any

from oarpy.client.connection import Connection


def job_access(connection: Connection, job_id: int) -> dict[str, Any] | None:
    """What ``oarpy.node.oarsh`` calls an access, and the job's ``private`` key.

    None for others than its owner, root and oar.
    """
    found = connection.value("SELECT oar.job_access(%s)", (job_id,))
    return None if found is None else json.loads(str(found))
