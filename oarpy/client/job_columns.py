"""What a condition on jobs may name: OAR's columns of its table of jobs, and what oarstat calls them.

What oarpy has no use for is unknown (NULL) of every job; what has not happened yet is
0, as OAR has it.
"""

from __future__ import annotations

from oarpy.model.columns import SMALL, Column, Kind
from oarpy.model.states import EndCause, JobState

_ID = Column("job_id", Kind.INTEGER)
_NAME = Column("job_name")
_USER = Column("job_user")
_QUEUE = Column("queue_name")
_UNKNOWN = Column("NULL::text")
_STATES = tuple(state.value for state in JobState)

COLUMNS = {
    "job_id": _ID,
    "id": _ID,
    "array_id": Column("array_id", Kind.INTEGER),
    "array_index": Column("array_index", Kind.INTEGER, highest=SMALL),
    "initial_request": Column("initial_request"),
    "job_name": _NAME,
    "name": _NAME,
    "job_env": _UNKNOWN,
    "job_type": Column("job_type", Kind.WORD, ("PASSIVE", "INTERACTIVE")),
    "info_type": _UNKNOWN,
    "state": Column("state", Kind.WORD, _STATES),
    "reservation": Column("reservation", Kind.WORD, ("None", "toSchedule", "Scheduled")),
    "message": Column("message"),
    "scheduler_info": Column("why"),
    "job_user": _USER,
    "owner": _USER,
    "project": Column("project"),
    "job_group": _UNKNOWN,
    "command": Column("command"),
    "exit_code": Column("exit_code", Kind.INTEGER, highest=SMALL),
    "queue_name": _QUEUE,
    "queue": _QUEUE,
    "properties": Column("properties"),
    "launching_directory": Column("launching_directory"),
    "submission_time": Column("extract(epoch FROM submitted_at)", Kind.DATE),
    "start_time": Column("coalesce(extract(epoch FROM started_at), 0)", Kind.DATE),
    "stop_time": Column("coalesce(extract(epoch FROM stopped_at), 0)", Kind.DATE),
    "file_id": Column("NULL::bigint", Kind.INTEGER),
    "accounted": Column("CASE WHEN accounted THEN 'YES' ELSE 'NO' END", Kind.WORD, ("YES", "NO", "NA")),
    "notify": Column("notify::text"),
    "assigned_moldable_job": Column("CASE WHEN alternative IS NULL THEN 0 ELSE job_id END", Kind.INTEGER),
    "checkpoint": Column("coalesce(extract(epoch FROM checkpoint), 0)", Kind.DURATION),
    "checkpoint_signal": Column("checkpoint_signal", Kind.INTEGER, highest=SMALL),
    "stdout_file": Column("stdout_file"),
    "stderr_file": Column("stderr_file"),
    "resubmit_job_id": Column("coalesce(resubmit_job_id, 0)", Kind.INTEGER, indexed="resubmit_job_id"),
    "suspended": Column("state IN ('Suspended', 'Resuming')", Kind.BOOLEAN),
    "last_karma": Column("last_karma", Kind.REAL),
    "end_cause": Column("end_cause", Kind.WORD, tuple(cause.value for cause in EndCause)),
    "types": Column("array_to_string(types, ',')"),
    "wanted_resources": Column("wanted_resources"),
    "walltime": Column("extract(epoch FROM walltime)", Kind.DURATION),
}
