"""The tables, as SQLAlchemy Core knows them.

Column comments, constraints, triggers and views stand in the migrations, which
create all this; a test proves that both agree.  There is no ORM session: no
hidden loads, no stale objects.
"""

from __future__ import annotations

from enum import Enum as PyEnum
from typing import Any

from sqlalchemy import (
    ARRAY,
    BigInteger,
    Boolean,
    CheckConstraint,
    Column,
    DateTime,
    Double,
    ForeignKey,
    Identity,
    Index,
    Integer,
    Interval,
    MetaData,
    SmallInteger,
    Table,
    Text,
    UniqueConstraint,
    text,
)
from sqlalchemy.dialects.postgresql import ENUM, INT4MULTIRANGE, JSONB, TSTZRANGE, UUID, ExcludeConstraint
from sqlalchemy.types import UserDefinedType

from oarpy.model.states import (
    DependencyKind,
    EndCause,
    FragState,
    JobState,
    OrderKind,
    QueueState,
    ResourceState,
)

metadata = MetaData()


def enum_of(name: str, members: type[PyEnum]) -> ENUM:
    """The PostgreSQL enum ``name``; rows carry members of ``members``."""
    return ENUM(members, name=name, create_type=False, values_callable=lambda e: [m.value for m in e])


JOB_STATE = enum_of("job_state", JobState)
RESOURCE_STATE = enum_of("resource_state", ResourceState)
QUEUE_STATE = enum_of("queue_state", QueueState)
FRAG_STATE = enum_of("frag_state", FragState)
END_CAUSE = enum_of("end_cause", EndCause)
ENERGY_WISH = ENUM("sleep", "wake", name="energy_wish", create_type=False)
DEPENDENCY_KIND = enum_of("dependency_kind", DependencyKind)
ORDER_KIND = enum_of("order_kind", OrderKind)
REQUEST_STATE = ENUM("pending", "answered", "withdrawn", "expired", name="request_state", create_type=False)
PREDICTION_KIND = ENUM("first", "told", "hourly", name="prediction_kind", create_type=False)
CONSUMPTION_TYPE = ENUM("ASKED", "USED", name="consumption_type", create_type=False)
JOB_KIND = ENUM("PASSIVE", "INTERACTIVE", name="job_kind", create_type=False)
RESERVATION_STATE = ENUM("None", "toSchedule", "Scheduled", name="reservation_state", create_type=False)

Instant = DateTime(timezone=True)


class Xid8(UserDefinedType[int]):
    """A 64-bit transaction id."""

    cache_ok = True

    def get_col_spec(self, **kw: Any) -> str:
        return "xid8"


def _now() -> Any:
    return text("now()")


instance = Table(
    "instance",
    metadata,
    Column("one", Boolean, primary_key=True, server_default=text("true")),
    Column("uuid", UUID(as_uuid=True), nullable=False, server_default=text("gen_random_uuid()")),
    Column("created_at", Instant, nullable=False, server_default=_now()),
)

job_edges = Table(
    "job_edges",
    metadata,
    Column("before", JOB_STATE, primary_key=True),
    Column("after", JOB_STATE, primary_key=True),
)

resource_edges = Table(
    "resource_edges",
    metadata,
    Column("before", RESOURCE_STATE, primary_key=True),
    Column("after", RESOURCE_STATE, primary_key=True),
)

leadership = Table(
    "leadership",
    metadata,
    Column("epoch", BigInteger, primary_key=True, autoincrement=False),
    Column("holder", UUID(as_uuid=True), nullable=False),
    Column("host", Text, nullable=False),
    Column("pid", Integer, nullable=False),
    Column("taken_at", Instant, nullable=False, server_default=_now()),
    Column("renewed_at", Instant, nullable=False, server_default=_now()),
    Column("lease", Interval, nullable=False, server_default=text("'00:00:10'")),
    Column("one", Boolean, nullable=False, server_default=text("true")),
    UniqueConstraint("one", name="leadership_one_key"),
)

processes = Table(
    "processes",
    metadata,
    Column("name", Text, primary_key=True),
    Column("pid", Integer),
    Column("host", Text, nullable=False),
    Column("epoch", BigInteger, nullable=False),
    Column("started_at", Instant, nullable=False, server_default=_now()),
    Column("restarts", Integer, nullable=False, server_default=text("0")),
    Column("detail", JSONB, nullable=False, server_default=text("'{}'")),
)

identities = Table(
    "identities",
    metadata,
    Column("method", Text, primary_key=True),
    Column("name", Text, primary_key=True),
    Column("login", Text, nullable=False),
)

queues = Table(
    "queues",
    metadata,
    Column("queue_name", Text, primary_key=True),
    Column("priority", Integer, nullable=False, server_default=text("0")),
    Column("state", QUEUE_STATE, nullable=False, server_default=text("'Active'")),
    Column("policy", Text, nullable=False, server_default=text("'conservative'")),
    Column("depth", Integer),
    Column("ordering", Text, nullable=False, server_default=text("'fifo'")),
    Column("replan", Text, nullable=False, server_default=text("'earlier'")),
)

quotas = Table(
    "quotas",
    metadata,
    Column("quota_id", Integer, Identity(), primary_key=True),
    Column("ruleset", Text, nullable=False, server_default=text("'default'")),
    Column("queue_name", Text, nullable=False, server_default=text("'*'")),
    Column("project", Text, nullable=False, server_default=text("'*'")),
    Column("job_type", Text, nullable=False, server_default=text("'*'")),
    Column("job_user", Text, nullable=False, server_default=text("'*'")),
    Column("resources", Text),
    Column("running_jobs", Text),
    Column("resource_hours", Text),
    UniqueConstraint("ruleset", "queue_name", "project", "job_type", "job_user"),
)

quota_periods = Table(
    "quota_periods",
    metadata,
    Column("period_id", Integer, Identity(), primary_key=True),
    Column("ruleset", Text, nullable=False),
    Column("hours", Text, nullable=False, server_default=text("'*'")),
    Column("weekdays", Text, nullable=False, server_default=text("'*'")),
    Column("days", Text, nullable=False, server_default=text("'*'")),
    Column("months", Text, nullable=False, server_default=text("'*'")),
    Column("begins_at", Instant),
    Column("ends_at", Instant),
    Column("comment", Text, nullable=False, server_default=text("''")),
)

admission_rules = Table(
    "admission_rules",
    metadata,
    Column("id", Integer, Identity(start=1001), primary_key=True),
    Column("name", Text, nullable=False),
    Column("priority", Integer, nullable=False, server_default=text("0")),
    Column("enabled", Boolean, nullable=False, server_default=text("true")),
    Column("rule", Text, nullable=False),
)

topology = Table(
    "topology",
    metadata,
    Column("one", Boolean, primary_key=True, server_default=text("true")),
    Column("version", BigInteger, nullable=False),
    Column("examined", BigInteger, nullable=False, server_default=text("0")),
)

#: Without the properties that admins define; ``database.resources`` reads those by name.
resources = Table(
    "resources",
    metadata,
    Column("resource_id", Integer, Identity(), primary_key=True),
    Column("type", Text, nullable=False, server_default=text("'default'")),
    Column("network_address", Text, nullable=False, server_default=text("''")),
    Column("state", RESOURCE_STATE, nullable=False, server_default=text("'Alive'")),
    Column("available_upto", Instant),
    Column("drain", Boolean, nullable=False, server_default=text("false")),
    Column("besteffort", Boolean, nullable=False, server_default=text("true")),
    Column("deploy", Boolean, nullable=False, server_default=text("false")),
    Column("cpuset", Text),
    Column("scheduler_priority", Integer, nullable=False, server_default=text("0")),
    Column("quantity", Integer, nullable=False, server_default=text("1")),
    Column("finaud_decision", Boolean, nullable=False, server_default=text("false")),
    Column("state_since", Instant, nullable=False, server_default=_now()),
    Index("resources_network_address_idx", "network_address"),
)

properties = Table(
    "properties",
    metadata,
    Column("name", Text, primary_key=True),
    Column("kind", Text, nullable=False),
    Column("added_by", Text, nullable=False),
    Column("added_at", Instant, nullable=False, server_default=_now()),
)

resource_logs = Table(
    "resource_logs",
    metadata,
    Column("resource_log_id", BigInteger, Identity(always=True), primary_key=True),
    Column("resource_id", Integer, nullable=False),
    Column("attribute", Text, nullable=False),
    Column("value", Text),
    Column("date_start", Instant, nullable=False),
    Column("date_stop", Instant),
    Column("changed_by", Text, nullable=False, server_default=text("SESSION_USER")),
    Index(
        "resource_logs_open_idx",
        "resource_id",
        "attribute",
        unique=True,
        postgresql_where=text("date_stop IS NULL"),
    ),
    Index("resource_logs_resource_id_idx", "resource_id", "date_start"),
)

maintenance = Table(
    "maintenance",
    metadata,
    Column("resource_id", Integer, ForeignKey("resources.resource_id", ondelete="CASCADE"), primary_key=True),
    Column("available_upto", Instant),
    Column("since", Instant, nullable=False, server_default=text("now()")),
)

request_limits = Table(
    "request_limits",
    metadata,
    Column("one", Boolean, primary_key=True, server_default=text("true")),
    Column("max_bytes", Integer, nullable=False, server_default=text("2097152")),
    Column("max_pending", Integer, nullable=False, server_default=text("1000")),
    Column("lifetime", Interval, nullable=False, server_default=text("'00:01:00'")),
)

requests = Table(
    "requests",
    metadata,
    Column("request_id", BigInteger, Identity(always=True), primary_key=True),
    Column("key", UUID(as_uuid=True), nullable=False),
    Column("verb", Text, nullable=False),
    Column("payload", JSONB, nullable=False),
    Column("requested_by", Text, nullable=False),
    Column("vouched_by", Text),
    Column("login", Text, nullable=False),
    Column("state", REQUEST_STATE, nullable=False, server_default=text("'pending'")),
    Column("asked_at", Instant, nullable=False, server_default=text("clock_timestamp()")),
    Column("expires_at", Instant, nullable=False),
    Column("takings", SmallInteger, nullable=False, server_default=text("0")),
    Column("answered_at", Instant),
    Column("answer", JSONB(none_as_null=True)),
    UniqueConstraint("requested_by", "key", name="requests_requested_by_key_key"),
    Index("requests_pending_idx", "requested_by", "request_id", postgresql_where=text("state = 'pending'")),
    Index("requests_asked_at_idx", "asked_at"),
)

job_requests = Table(
    "job_requests",
    metadata,
    Column("job_request_id", BigInteger, Identity(always=True), primary_key=True),
    Column("request_id", BigInteger),
    Column("request", JSONB, nullable=False),
    Column("wanted_resources", Text, nullable=False),
    Column("properties", Text),
    Column("initial_request", Text, nullable=False),
    Column("stdout_pattern", Text, nullable=False),
    Column("stderr_pattern", Text, nullable=False),
    Column("umask", Integer, nullable=False, server_default=text("18")),
    Column("notify", JSONB(none_as_null=True)),
    Column("checkpoint", Interval),
    Column("checkpoint_signal", Integer, nullable=False, server_default=text("12")),
    Column("asked", JSONB(none_as_null=True)),
)

jobs = Table(
    "jobs",
    metadata,
    Column("job_id", BigInteger, primary_key=True, server_default=text("nextval('job_ids'::regclass)")),
    Column("array_id", BigInteger, nullable=False),
    Column("array_index", Integer, nullable=False, server_default=text("1")),
    Column("job_request_id", BigInteger, ForeignKey("job_requests.job_request_id"), nullable=False),
    Column("job_name", Text),
    Column("job_user", Text, nullable=False),
    Column("project", Text, nullable=False, server_default=text("'default'")),
    Column("queue_name", Text, nullable=False),
    Column("types", ARRAY(Text), nullable=False, server_default=text("'{}'")),
    Column("job_type", JOB_KIND, nullable=False, server_default=text("'PASSIVE'")),
    Column("reservation", RESERVATION_STATE, nullable=False, server_default=text("'None'")),
    Column("command", Text, nullable=False),
    Column("launching_directory", Text, nullable=False),
    Column("stdout_file", Text, nullable=False),
    Column("stderr_file", Text, nullable=False),
    Column("state", JOB_STATE, nullable=False, server_default=text("'Waiting'")),
    Column("message", Text, nullable=False, server_default=text("''")),
    Column("submitted_at", Instant, nullable=False, server_default=_now()),
    Column("not_before", Instant),
    Column("deadline", Instant),
    Column("expires_at", Instant),
    Column("started_at", Instant),
    Column("stopped_at", Instant),
    Column("alternative", SmallInteger),
    Column("walltime", Interval),
    Column("planned_end_at", Instant),
    Column("head", Text),
    Column("other_hosts", ARRAY(Text)),
    Column("over_hosts", ARRAY(Text)),
    Column("lease", Interval),
    Column("attempt", Integer, nullable=False, server_default=text("1")),
    Column("exit_code", Integer),
    Column("end_cause", END_CAUSE),
    Column("suspended_for", Interval, nullable=False, server_default=text("'00:00:00'")),
    Column("resubmit_job_id", BigInteger),
    Column("resubmissions", SmallInteger, nullable=False, server_default=text("0")),
    Column("accounted", Boolean, nullable=False, server_default=text("false")),
    Column("last_karma", Double),
    Column("cpu_used", Interval),
    Column("cpu_hosts", SmallInteger, nullable=False, server_default=text("0")),
    Column("peak_memory_mib", Integer),
    CheckConstraint("(state IN ('Terminated', 'Error')) = (stopped_at IS NOT NULL)", name="jobs_final_check"),
    Index("jobs_live_idx", "job_id", postgresql_where=text("stopped_at IS NULL")),
    Index(
        "jobs_begun_idx",
        "job_id",
        postgresql_where=text("stopped_at IS NULL AND state NOT IN ('Waiting', 'Hold', 'toAckReservation', 'toError')"),
    ),
    Index("jobs_reservation_idx", "job_id", postgresql_where=text("stopped_at IS NULL AND reservation <> 'None'")),
    Index("jobs_array_id_idx", "array_id"),
    Index("jobs_job_request_id_idx", "job_request_id"),
    Index("jobs_job_user_idx", "job_user", "job_id"),
    Index("jobs_resubmit_job_id_idx", "resubmit_job_id", postgresql_where=text("resubmit_job_id IS NOT NULL")),
    Index("jobs_stopped_at_idx", "stopped_at", postgresql_where=text("stopped_at IS NOT NULL")),
    Index("jobs_unaccounted_idx", "job_id", postgresql_where=text("stopped_at IS NOT NULL AND NOT accounted")),
)

job_state_logs = Table(
    "job_state_logs",
    metadata,
    Column("job_id", BigInteger, nullable=False),
    Column("job_state", JOB_STATE, nullable=False),
    Column("date_start", Instant, nullable=False, server_default=text("clock_timestamp()")),
    Column("attempt", Integer, nullable=False),
    Column("event_id", BigInteger, nullable=False, server_default=text("nextval('event_ids'::regclass)")),
    Column("xid", Xid8, nullable=False, server_default=text("pg_current_xact_id()")),
    Index("job_state_logs_job_id_idx", "job_id"),
    Index("job_state_logs_xid_idx", "xid", "event_id"),
    Index("job_state_logs_event_id_idx", "event_id", postgresql_using="brin", postgresql_with={"pages_per_range": 16}),
)

job_dependencies = Table(
    "job_dependencies",
    metadata,
    Column("job_id", BigInteger, ForeignKey("jobs.job_id", ondelete="CASCADE"), primary_key=True),
    Column("job_id_required", BigInteger, primary_key=True),
    Column("kind", DEPENDENCY_KIND, nullable=False, server_default=text("'afterany'")),
    Column("window_min", Interval),
    Column("window_max", Interval),
    Index("job_dependencies_required_idx", "job_id_required"),
)

allocations = Table(
    "allocations",
    metadata,
    Column("allocation_id", BigInteger, Identity(always=True), primary_key=True),
    Column("job_id", BigInteger, ForeignKey("jobs.job_id"), nullable=False),
    Column("attempt", Integer, nullable=False),
    Column("space", BigInteger, nullable=False, server_default=text("0")),
    Column("resources", INT4MULTIRANGE, nullable=False),
    Column("held", TSTZRANGE, nullable=False),
    Column("share", BigInteger, nullable=False),
    Column("suspended", Boolean, nullable=False, server_default=text("false")),
    Column("returned", INT4MULTIRANGE),
    Column("returned_at", Instant),
    Column("placeholder", Boolean),
    Column("kin", BigInteger),
    CheckConstraint("(placeholder IS NULL) = (kin IS NULL)", name="allocations_placeholder_check"),
    CheckConstraint(
        "(returned IS NULL) = (returned_at IS NULL) AND (returned IS NULL OR NOT returned && resources)",
        name="allocations_returned_check",
    ),
    UniqueConstraint("job_id", "attempt", name="allocations_job_id_attempt_key"),
    ExcludeConstraint(
        ("space", "="),
        ("placeholder", "="),
        ("resources", "&&"),
        ("kin", "<>"),
        using="gist",
        where=text("upper_inf(held) AND NOT suspended AND placeholder IS NOT NULL"),
        name="allocations_no_kin_twice",
    ),
    ExcludeConstraint(
        ("space", "="),
        ("resources", "&&"),
        ("share", "<>"),
        using="gist",
        where=text("upper_inf(held) AND NOT suspended"),
        name="allocations_no_resource_twice",
    ),
    Index("allocations_open_idx", "job_id", unique=True, postgresql_where=text("upper_inf(held)")),
    Index("allocations_space_idx", "space", postgresql_where=text("space <> 0 AND upper_inf(held)")),
)

terminals = Table(
    "terminals",
    metadata,
    Column("job_id", BigInteger, ForeignKey("jobs.job_id", ondelete="CASCADE"), primary_key=True),
    Column("token", UUID, nullable=False, server_default=text("gen_random_uuid()")),
    Column("unattended_since", Instant, server_default=_now()),
)

reservations = Table(
    "reservations",
    metadata,
    Column("job_id", BigInteger, ForeignKey("jobs.job_id", ondelete="CASCADE"), primary_key=True),
    Column("alternative", SmallInteger, nullable=False),
    Column("space", BigInteger, nullable=False, server_default=text("0")),
    Column("resources", INT4MULTIRANGE, nullable=False),
    Column("period", TSTZRANGE, nullable=False),
    Column("begun", Boolean, nullable=False, server_default=text("false")),
    Column("granted_at", Instant, nullable=False, server_default=_now()),
    ExcludeConstraint(
        ("space", "="),
        ("resources", "&&"),
        ("period", "&&"),
        using="gist",
        where=text("NOT begun"),
        name="reservations_no_resource_twice",
    ),
)

predictions = Table(
    "predictions",
    metadata,
    Column("job_id", BigInteger, primary_key=True, autoincrement=False),
    Column("start_at", Instant),
    Column("alternative", SmallInteger),
    Column("resources", INT4MULTIRANGE),
    Column("code", Text, nullable=False),
    Column("numbers", JSONB, nullable=False, server_default=text("'{}'")),
    Column("reason", Text, nullable=False),
    Column("written_at", Instant, nullable=False, server_default=_now()),
    Column("priority", Double),
    Column("job_request_id", BigInteger),
)

prediction_log = Table(
    "prediction_log",
    metadata,
    Column("job_id", BigInteger, nullable=False),
    Column("kind", PREDICTION_KIND, nullable=False),
    Column("said_at", Instant, nullable=False, server_default=_now()),
    Column("start_at", Instant, nullable=False),
    Index("prediction_log_job_id_idx", "job_id", "said_at"),
    Index("prediction_log_said_at_idx", "said_at", postgresql_using="brin"),
)

accounting = Table(
    "accounting",
    metadata,
    Column("window_start", Instant, primary_key=True),
    Column("window_stop", Instant, primary_key=True),
    Column("accounting_user", Text, primary_key=True),
    Column("accounting_project", Text, primary_key=True),
    Column("queue_name", Text, primary_key=True),
    Column("consumption_type", CONSUMPTION_TYPE, primary_key=True),
    Column("consumption", BigInteger, nullable=False),
)

karmas = Table(
    "karmas",
    metadata,
    Column("queue_name", Text, primary_key=True),
    Column("project", Text, primary_key=True),
    Column("job_user", Text, primary_key=True),
    Column("karma", Double, nullable=False),
)

energy_plan = Table(
    "energy_plan",
    metadata,
    Column("network_address", Text, primary_key=True),
    Column("wish", ENERGY_WISH, nullable=False),
    Column("since", Instant, nullable=False, server_default=_now()),
    Column("needed_at", Instant),
    Column("job_id", BigInteger),
    Column("sleep_from", Instant),
    CheckConstraint(
        "CASE wish WHEN 'wake' THEN needed_at IS NOT NULL AND job_id IS NOT NULL AND sleep_from IS NULL "
        "ELSE job_id IS NULL END",
        name="energy_plan_wish_check",
    ),
)

token_counts = Table(
    "token_counts",
    metadata,
    Column("token", Text, primary_key=True),
    Column("free", Integer),
    Column("problem", Text),
    Column("counted_at", Instant, nullable=False, server_default=_now()),
    CheckConstraint("free >= 0", name="token_counts_free_check"),
    CheckConstraint("(free IS NULL) = (problem IS NOT NULL)", name="token_counts_known_check"),
)

frag_jobs = Table(
    "frag_jobs",
    metadata,
    Column("job_id", BigInteger, ForeignKey("jobs.job_id", ondelete="CASCADE"), primary_key=True),
    Column("state", FRAG_STATE, nullable=False, server_default=text("'LEON'")),
    Column("cause", END_CAUSE, nullable=False, server_default=text("'killed'")),
    Column("asked_by", Text, nullable=False),
    Column("asked_at", Instant, nullable=False, server_default=_now()),
    Column("due_at", Instant, nullable=False, server_default=_now()),
    Column("armed_at", Instant),
    Column("rounds", SmallInteger, nullable=False, server_default=text("0")),
    Column("deadline", Instant),
    Column("for_job", BigInteger),
    Index("frag_jobs_open_idx", "job_id", postgresql_where=text("state <> 'FRAGGED'")),
)

orders = Table(
    "orders",
    metadata,
    Column("order_id", BigInteger, Identity(always=True), primary_key=True),
    Column("kind", ORDER_KIND, nullable=False),
    Column("job_id", BigInteger, ForeignKey("jobs.job_id", ondelete="CASCADE")),
    Column("attempt", Integer),
    Column("host", Text),
    Column("signal", Integer),
    Column("walltime", Interval),
    Column("exterminate", Boolean, nullable=False, server_default=text("false")),
    Column("asked_at", Instant, nullable=False, server_default=_now()),
    Column("begun_at", Instant),
    Column("deadline", Instant, nullable=False),
    Column("done_at", Instant),
    Column("succeeded", Boolean),
    Column("result", Text),
    Index(
        "orders_open_job_idx",
        "job_id",
        "kind",
        unique=True,
        postgresql_where=text("done_at IS NULL AND job_id IS NOT NULL"),
    ),
    Index(
        "orders_open_host_idx",
        "host",
        "kind",
        unique=True,
        postgresql_where=text("done_at IS NULL AND job_id IS NULL"),
    ),
    Index("orders_open_idx", "order_id", postgresql_where=text("done_at IS NULL")),
    Index("orders_job_id_idx", "job_id", "kind", "asked_at"),
)

walltime_changes = Table(
    "walltime_changes",
    metadata,
    Column("job_id", BigInteger, ForeignKey("jobs.job_id", ondelete="CASCADE"), primary_key=True),
    Column("pending", Interval, nullable=False, server_default=text("'00:00:00'")),
    Column("force", Boolean, nullable=False, server_default=text("false")),
    Column("delay_next_jobs", Boolean, nullable=False, server_default=text("false")),
    Column("whole", Boolean, nullable=False, server_default=text("false")),
    Column("asked_by", Text, nullable=False),
    Column("asked_at", Instant, nullable=False, server_default=_now()),
    Column("expires_at", Instant),
    Column("granted", Interval, nullable=False, server_default=text("'00:00:00'")),
    Column("granted_with_force", Interval, nullable=False, server_default=text("'00:00:00'")),
    Column("granted_with_delay_next_jobs", Interval, nullable=False, server_default=text("'00:00:00'")),
    Column("granted_with_whole", Interval, nullable=False, server_default=text("'00:00:00'")),
    Index("walltime_changes_pending_idx", "job_id", postgresql_where=text("pending > '00:00:00'::interval")),
)

job_keys = Table(
    "job_keys",
    metadata,
    Column("job_id", BigInteger, ForeignKey("jobs.job_id", ondelete="CASCADE"), primary_key=True),
    Column("private_key", Text, nullable=False),
    Column("public_key", Text, nullable=False),
    Column("pending", Boolean, nullable=False, server_default=text("false")),
)

node_sessions = Table(
    "node_sessions",
    metadata,
    Column("host", Text, primary_key=True),
    Column("epoch", BigInteger, nullable=False),
    Column("sequence", BigInteger, nullable=False),
    Column("boot_id", Text),
    Column("spool_id", Text),
    Column("connected_at", Instant),
    Column("lost_at", Instant),
    Column("unreachable_since", Instant),
    Column("entries", Boolean, nullable=False, server_default=text("false")),
    Column("facts", JSONB, nullable=False, server_default=text("'{}'")),
)

node_checks = Table(
    "node_checks",
    metadata,
    Column("host", Text, primary_key=True),
    Column("begun_at", Instant, nullable=False),
    Column("ended_at", Instant),
    Column("passed", Boolean),
    Column("failures", Integer, nullable=False, server_default=text("0")),
    Column("said", Text, nullable=False, server_default=""),
)

quarantines = Table(
    "quarantines",
    metadata,
    Column("host", Text, primary_key=True),
    Column("date", Instant, primary_key=True, server_default=_now()),
    Column("reason", Text, nullable=False),
    Column("users", ARRAY(Text), nullable=False),
    Column("commands", ARRAY(Text), nullable=False),
)

events = Table(
    "events",
    metadata,
    Column("event_id", BigInteger, primary_key=True, server_default=text("nextval('event_ids'::regclass)")),
    Column("type", Text, nullable=False),
    Column("job_id", BigInteger),
    Column("hosts", ARRAY(Text), nullable=False, server_default=text("'{}'")),
    Column("date", Instant, primary_key=True, server_default=text("clock_timestamp()")),
    Column("description", Text, nullable=False, server_default=text("''")),
    Column("xid", Xid8, nullable=False, server_default=text("pg_current_xact_id()")),
    Index("events_job_id_idx", "job_id", postgresql_where=text("job_id IS NOT NULL")),
    Index("events_event_id_idx", "event_id"),
    Index("events_xid_idx", "xid", "event_id"),
    postgresql_partition_by="RANGE (date)",
)

pending_events = Table(
    "pending_events",
    metadata,
    Column("event_id", BigInteger, primary_key=True, autoincrement=False),
    Column("type", Text, nullable=False),
    Column("job_id", BigInteger),
    Column("hosts", ARRAY(Text), nullable=False, server_default=text("'{}'")),
    Column("date", Instant, nullable=False),
    Column("description", Text, nullable=False, server_default=text("''")),
    Column("nodes_done", Boolean, nullable=False, server_default=text("false")),
)

suspicions = Table(
    "suspicions",
    metadata,
    Column("array_id", BigInteger, primary_key=True, autoincrement=False),
    Column("array_index", Integer, primary_key=True, autoincrement=False),
    Column("host", Text, nullable=False),
    Column("date", Instant, nullable=False, server_default=_now()),
)

notifications = Table(
    "notifications",
    metadata,
    Column("notification_id", BigInteger, Identity(always=True), primary_key=True),
    Column("job_id", BigInteger),
    Column("tag", Text, nullable=False),
    Column("method", Text, nullable=False),
    Column("target", Text, nullable=False),
    Column("login", Text, nullable=False),
    Column("comment", Text, nullable=False, server_default=text("''")),
    Column("created_at", Instant, nullable=False, server_default=_now()),
    Column("attempts", SmallInteger, nullable=False, server_default=text("0")),
    Column("next_try_at", Instant, nullable=False, server_default=_now()),
    Column("done_at", Instant),
    Column("succeeded", Boolean),
    Column("result", Text),
    Index("notifications_due_idx", "method", "login", "next_try_at", postgresql_where=text("done_at IS NULL")),
)
