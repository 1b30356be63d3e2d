"""The first schema: jobs, resources, allocations, requests and what surrounds them.

Runs on an empty schema ``oar`` whose owner is the role ``oar``; the roles
``oar_user``, ``oar_reader`` and ``oar_gate`` and the extension ``btree_gist``
must exist.  Locks nothing that anybody uses.
"""

from pathlib import Path

from alembic import op

revision = "0001"
down_revision = None
branch_labels = None
depends_on = None

# The text is kept beside this file and belongs to this revision alone.
SCHEMA = Path(__file__).with_suffix(".sql")


def upgrade() -> None:
    op.get_bind().exec_driver_sql(SCHEMA.read_text(encoding="utf-8").replace("%", "%%"))


def downgrade() -> None:
    op.get_bind().exec_driver_sql(
        """
        DROP VIEW IF EXISTS visible_quotas, visible_quota_periods, visible_energy_plan;
        DROP FUNCTION IF EXISTS feed_after, remove_jobs;
        DROP VIEW IF EXISTS visible_feed, feed_horizon, visible_terminals;
        DROP VIEW IF EXISTS visible_jobs, visible_resources, visible_queues, visible_events, visible_processes,
            visible_properties, visible_dependencies, assigned_resources, gantt_jobs_predictions_visu,
            gantt_jobs_resources_visu, event_logs, event_log_hostnames, job_state_periods CASCADE;
        DROP TABLE IF EXISTS node_checks, quarantines;
        DROP TABLE IF EXISTS processes, node_sessions, leadership, notifications, suspicions, pending_events, events,
            terminals, job_keys, accounting, karmas, walltime_changes, orders, token_counts, energy_plan, frag_jobs,
            prediction_log, predictions, reservations, allocations, job_dependencies, job_state_logs, jobs,
            job_requests, requests, request_limits, identities, admission_rules, queues, resource_logs, maintenance,
            resources, properties, topology, job_edges, resource_edges, quotas, quota_periods, instance CASCADE;
        DROP SEQUENCE IF EXISTS job_ids, event_ids;
        DROP FUNCTION IF EXISTS refresh_visible_resources, ask, withdraw, answer, attend, me, refuse_queue_removal,
            refuse_new_id, refuse_truncation, wake_almighty, check_jobs_inserted, check_jobs_updated,
            keep_resource_history, guard_resources, repeated_numbers, suspended_since, output_file, job_access,
            access_refused, check_inner_allocations, check_closed_containers, remaining_hosts CASCADE;
        DROP TYPE IF EXISTS energy_wish, job_state, resource_state, queue_state, frag_state, end_cause, dependency_kind,
            order_kind, request_state, prediction_kind, consumption_type, job_kind, reservation_state CASCADE;
        """
    )
