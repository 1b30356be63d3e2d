"""What oarexec says of jobs."""

from __future__ import annotations

from typing import Any

#: The end of a job that did what it was to do.
ENDED: dict[str, Any] = {
    "is": "ended",
    "job": 1,
    "attempt": 1,
    "ran": True,
    "status": 0,
    "cause": "exit",
    "age_s": 2.0,
    "ended_age_s": 1.0,
    "event": None,
    "text": None,
    "cpu_s": 0.1,
    "peak_mib": 1,
    "short_of_memory": None,
}
