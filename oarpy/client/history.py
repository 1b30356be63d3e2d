"""What was at an instant of the past, from the logs of jobs and resources."""

from __future__ import annotations

# With the columns of visible_jobs.  Plans and reasons are not kept, so nothing is said of them.
_JOBS_AT = """
    (SELECT v.job_id, v.array_id, v.array_index, v.job_name, v.job_user, v.project, v.queue_name, v.types, v.job_type,
        v.reservation, v.command, v.launching_directory, v.stdout_file, v.stderr_file, was.job_state AS state,
        v.message, v.submitted_at, v.not_before,
        CASE WHEN v.started_at <= to_timestamp(%s) THEN v.started_at END AS started_at,
        CASE WHEN v.stopped_at <= to_timestamp(%s) THEN v.stopped_at END AS stopped_at,
        v.alternative, v.walltime, v.checkpoint, v.checkpoint_signal,
        CASE WHEN v.stopped_at <= to_timestamp(%s) THEN v.exit_code END AS exit_code,
        CASE WHEN v.stopped_at <= to_timestamp(%s) THEN v.end_cause END AS end_cause,
        v.resubmit_job_id, v.request, v.wanted_resources, v.properties, v.initial_request,
        had.resources AS assigned_resources, NULL::int4multirange AS reserved_resources,
        NULL::timestamptz AS predicted_start_at, NULL::text AS why, v.last_karma,
        NULL::double precision AS priority, v.cpu_used, v.peak_memory_mib,
        coalesce(v.accounted AND v.stopped_at <= to_timestamp(%s), false) AS accounted, v.notify
    FROM oar.visible_jobs v
    CROSS JOIN LATERAL (SELECT s.job_state, s.attempt FROM oar.visible_job_states s
        WHERE s.job_id = v.job_id AND s.date_start <= to_timestamp(%s) ORDER BY s.date_start DESC LIMIT 1) was
    LEFT JOIN oar.visible_allocations had ON had.job_id = v.job_id AND had.attempt = was.attempt
        AND lower(had.held) <= to_timestamp(%s)
    WHERE v.submitted_at <= to_timestamp(%s){live}) AS jobs
"""
# With the columns of visible_resources, the values in the types that these have today.
_RESOURCES_AT = """
    (SELECT known.* FROM (
        SELECT l.resource_id, jsonb_object_agg(l.attribute, l.value)
            || jsonb_build_object('resource_id', l.resource_id, 'jobs', min(h.jobs::text)::jsonb) AS document
        FROM oar.visible_resource_logs l LEFT JOIN (
            SELECT taken.resource_id, jsonb_agg(a.job_id ORDER BY a.job_id) AS jobs
            FROM oar.visible_jobs j JOIN oar.visible_allocations a USING (job_id),
                unnest(CASE WHEN a.returned_at <= to_timestamp(%s) THEN a.resources - a.returned ELSE a.resources END)
                    AS u(span),
                generate_series(lower(u.span), upper(u.span) - 1) AS taken(resource_id)
            WHERE (j.stopped_at IS NULL OR j.stopped_at > to_timestamp(%s)) AND a.held @> to_timestamp(%s)
            GROUP BY taken.resource_id
        ) h USING (resource_id)
        WHERE l.date_start <= to_timestamp(%s) AND (l.date_stop IS NULL OR l.date_stop > to_timestamp(%s))
        GROUP BY l.resource_id
    ) was, jsonb_populate_record(NULL::oar.visible_resources, was.document) AS known) AS resources
"""


def jobs_at(at_s: int, *, all_ended: bool) -> tuple[str, list[object]]:
    """Something to select from as from ``visible_jobs``, and its values; jobs that were over only if asked for."""
    live = "" if all_ended else " AND (v.stopped_at IS NULL OR v.stopped_at > to_timestamp(%s))"
    return _JOBS_AT.format(live=live), [at_s] * (8 if all_ended else 9)


def resources_at(at_s: int) -> tuple[str, list[object]]:
    """The same for ``visible_resources``: what existed then, with its properties, state and jobs of that time."""
    return _RESOURCES_AT, [at_s] * 5
