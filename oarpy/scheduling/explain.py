"""The reasons for which a job does not start, each with its sentence.

A reason travels as a code and numbers (`Why`), so that it can be stored, compared
and counted; the sentence is made where somebody reads it.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from datetime import UTC, datetime

from oarpy.scheduling.plan import Why

# It has a planned start.
BUSY = "BUSY"
WAKING = "WAKING"
KILLING = "KILLING"
NOT_BEFORE = "NOT_BEFORE"
AFTER_JOB = "AFTER_JOB"
CONTAINER_PLANNED = "CONTAINER_PLANNED"
QUOTA = "QUOTA"
QUOTA_AHEAD = "QUOTA_AHEAD"
RESERVED = "RESERVED"
RESERVATION_INCOMPLETE = "RESERVATION_INCOMPLETE"

# Something else must change first.
REQUIRED_PENDING = "REQUIRED_PENDING"
WINDOW_MISSED = "WINDOW_MISSED"
DEADLINE_MISSED = "DEADLINE_MISSED"
TOKENS_TAKEN = "TOKENS_TAKEN"
TOKENS_NOT_COUNTED = "TOKENS_NOT_COUNTED"
QUEUE_STOPPED = "QUEUE_STOPPED"
QUEUE_UNKNOWN = "QUEUE_UNKNOWN"
BEYOND_DEPTH = "BEYOND_DEPTH"
BEYOND_USER = "BEYOND_USER"
TOO_LONG = "TOO_LONG"
PROPERTY_UNKNOWN = "PROPERTY_UNKNOWN"
FILTER_MATCHES_NONE = "FILTER_MATCHES_NONE"
NEEDS_MORE = "NEEDS_MORE"
NOTHING_BESIDE = "NOTHING_BESIDE"
EXCLUDE_EACH_OTHER = "EXCLUDE_EACH_OTHER"
NOT_USABLE = "NOT_USABLE"
CONTAINER_PENDING = "CONTAINER_PENDING"
CONTAINER_MISSING = "CONTAINER_MISSING"
CONTAINER_ENDS = "CONTAINER_ENDS"
QUOTA_TOO_SMALL = "QUOTA_TOO_SMALL"
QUOTA_HORIZON = "QUOTA_HORIZON"
CONTAINER_CLOSED = "CONTAINER_CLOSED"
SET_ASIDE = "SET_ASIDE"

# It can never start.
REQUIRED_FAILED = "REQUIRED_FAILED"
REQUIRED_SUCCEEDED = "REQUIRED_SUCCEEDED"
REQUIRED_NEVER_STARTED = "REQUIRED_NEVER_STARTED"
REQUIRED_UNKNOWN = "REQUIRED_UNKNOWN"
WINDOW_PASSED = "WINDOW_PASSED"
EXPIRED = "EXPIRED"
DEADLINE_PASSED = "DEADLINE_PASSED"
CONTAINER_GONE = "CONTAINER_GONE"
CONTAINER_TOO_SHORT = "CONTAINER_TOO_SHORT"
CONTAINER_TOO_SMALL = "CONTAINER_TOO_SMALL"
CONTAINER_NOT_RESERVED = "CONTAINER_NOT_RESERVED"
RESERVATION_TAKEN = "RESERVATION_TAKEN"
RESERVATION_BEYOND_CONTAINER = "RESERVATION_BEYOND_CONTAINER"
RESERVATION_EXPIRED = "RESERVATION_EXPIRED"
RESERVATION_NO_NODE = "RESERVATION_NO_NODE"

_SENTENCES: Mapping[str, str] = {
    BUSY: "{free} of the {matching} resources that it may use are free now; waiting jobs before it: {ahead}",
    WAKING: "{asleep} of its resources are asleep and must be woken first",
    KILLING: "its resources are being freed of best-effort jobs ({victims} of them, job {first} first)",
    NOT_BEFORE: "it must not start before {not_before_s}",
    AFTER_JOB: "it waits for job {required}, expected to be ready for it at {expected_s}",
    CONTAINER_PLANNED: "its container, job {container}, is expected to start at {expected_s}",
    QUOTA: "quota {rule} allows {limit} {measure} at once; {in_use} are in use and it needs {asked}",
    QUOTA_AHEAD: (
        "quota {rule} allows {limit} {measure} at once; {in_use} are promised for {when_s} and it needs {asked}"
    ),
    RESERVED: "it is an advance reservation and starts at {start_s}",
    RESERVATION_INCOMPLETE: (
        "{missing} of the {reserved} resources that it has reserved are not ready; at {until_s} it starts on the others"
    ),
    REQUIRED_PENDING: "it waits for job {required}, of which no start is planned (it is {state})",
    WINDOW_MISSED: "it must start by {latest_s} and nothing suitable is free before",
    DEADLINE_MISSED: "it must end by {deadline_s} and nothing suitable is free early enough",
    TOKENS_TAKEN: "it needs {wanted} of the token {token}, and {left} are free",
    TOKENS_NOT_COUNTED: "it needs {wanted} of the token {token}, and how many are free is not known",
    QUEUE_STOPPED: "its queue {queue} is not active",
    QUEUE_UNKNOWN: "its queue {queue} does not exist",
    BEYOND_DEPTH: "it is behind the {planned} jobs that get a planned start, and what it needs is not free now",
    BEYOND_USER: "its turn comes when one of its user's {most} waiting jobs before it has started",
    TOO_LONG: "the resources that it may use are nowhere free for {length_s} seconds on end",
    PROPERTY_UNKNOWN: "resources have no property {property}",
    FILTER_MATCHES_NONE: "its filter matches none of the {total} resources",
    NEEDS_MORE: (
        "{request} needs {needed} of {property}; "
        "among the {matched} of {total} resources that its filter matches, {found} would do"
    ),
    NOTHING_BESIDE: "no resource of type {type} belongs to a {property}",
    EXCLUDE_EACH_OTHER: "its {groups} groups fit one by one into {total} resources, but not together",
    NOT_USABLE: "too many resources are out of service or drained: {reason}",
    CONTAINER_PENDING: "no start is planned of its container, job {container}",
    CONTAINER_MISSING: "no container called {name} is running or waiting",
    CONTAINER_CLOSED: "its container, job {container}, takes nobody in (it is {state})",
    CONTAINER_ENDS: "its container, job {container}, has no room for {length_s} seconds before it ends at {end_s}",
    QUOTA_TOO_SMALL: "quota {rule} allows {limit} {measure} at once, and it needs {asked} by itself",
    QUOTA_HORIZON: "nothing suitable is free before {until_s}, and quotas are worked out no further ahead",
    SET_ASIDE: "deciding on it failed, which is a fault of the server; it is tried again every {every_s} seconds",
    REQUIRED_FAILED: "job {required}, which had to succeed, did not",
    REQUIRED_SUCCEEDED: "job {required}, which had to fail, succeeded",
    REQUIRED_NEVER_STARTED: "job {required}, which had to start, ended without having started",
    REQUIRED_UNKNOWN: "how job {required} ended is no longer known",
    CONTAINER_GONE: "job {container}, which was to be its container, is over or is none",
    CONTAINER_TOO_SHORT: "it needs {length_s} seconds, and its container, job {container}, ends at {end_s}",
    CONTAINER_TOO_SMALL: "it does not fit into its container, job {container}: {reason}",
    CONTAINER_NOT_RESERVED: "its container, {container}, is neither running nor an accepted advance reservation",
    WINDOW_PASSED: "it had to start by {latest_s} to follow job {required} in time",
    EXPIRED: "it had not started by {expires_s}, when it was to be given up",
    DEADLINE_PASSED: "it can no longer end by {deadline_s}, as it had to",
    RESERVATION_TAKEN: (
        "what it asks for is not free for {length_s} seconds from {start_s} on; "
        "the earliest start possible is {earliest_s}"
    ),
    RESERVATION_BEYOND_CONTAINER: (
        "its container, job {container}, has no room for {length_s} seconds from {start_s} on before it ends at {end_s}"
    ),
    RESERVATION_EXPIRED: "its reservation ended at {end_s} before it could start",
    RESERVATION_NO_NODE: "none of the {reserved} resources that it has reserved is ready",
}
#: What is added where the number is known.
_ADDED: Mapping[str, str] = {"awaited": "; job {awaited} must end first"}
_DURATIONS = frozenset({"length_s", "every_s"})
_COUNTS: Mapping[object, str] = {-1: "ALL", -2: "BEST", -3: "BESTHALF"}


def _utc(instant_s: int) -> str:
    return datetime.fromtimestamp(instant_s, UTC).strftime("%Y-%m-%d %H:%M:%S UTC")


def sentence(why: Why, dated: Callable[[int], str] = _utc) -> str:
    """The reason in English, one sentence without its full stop; ``dated`` shows instants, as UTC by default."""
    if why.code == FILTER_MATCHES_NONE and why.numbers["total"] == 0:
        return "no resource takes jobs"
    template = _SENTENCES[why.code] + "".join(more for name, more in _ADDED.items() if name in why.numbers)
    return template.format_map({name: _shown(name, value, dated) for name, value in why.numbers.items()})


def _shown(name: str, value: object, dated: Callable[[int], str]) -> object:
    if name in _DURATIONS:
        return value
    if name.endswith("_s") and isinstance(value, int):
        return dated(value)
    if name == "needed":
        return _COUNTS.get(value, value)
    if name == "found":
        return value or "none"
    return value
