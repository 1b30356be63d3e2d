"""What the constraints on the tables that administrators change want, in words.

PostgreSQL names the constraint that refuses a row, which tells a person nothing.
"""

from __future__ import annotations

from typing import Any

NOT_NULL_VIOLATION = "23502"

_WANTED = {
    "queues_pkey": "there is a queue of this name already",
    "queues_queue_name_check": "the name of a queue is a letter, then letters, digits, _, - and ., 63 in all at most",
    "queues_priority_check": "the priority of a queue is a number from -1000000 to 1000000",
    "queues_policy_check": "the policy of a queue is conservative, easy or first:N",
    "queues_depth_check": "the N of the policy first:N is 1 or more",
    "queues_ordering_check": "the ordering of a queue is fifo, fairshare or multifactor",
    "queues_replan_check": "a queue is planned again so that starts are earlier, or from nothing",
    "queues_policy_depth_check": "the policy first, and no other, wants the number of jobs to plan, as in first:5",
    "quotas_ruleset_queue_name_project_job_type_job_user_key": "there is a quota for these jobs in this set already",
    "quotas_ruleset_check": "the name of a set of quotas has 1 to 63 characters that can be printed",
    "quotas_queue_name_check": "the queue of a quota is a name, * or /",
    "quotas_project_check": "the project of a quota is a name without commas, * or /",
    "quotas_job_user_check": "the user of a quota is a name without commas, * or /",
    "quotas_job_type_check": "the type of a quota is a name or *; / is not for types",
    "quotas_resources_check": "the resources of a quota are a number, ALL or a share such as 0.5*ALL",
    "quotas_running_jobs_check": "the running jobs of a quota are a number, ALL or a share such as 0.5*ALL",
    "quotas_resource_hours_check": "the resource-hours of a quota are a number, ALL or a share such as 0.5*ALL",
    "quota_periods_ruleset_check": "the name of a set of quotas has 1 to 63 characters that can be printed",
    "quota_periods_begins_at_check": "the date at which a period begins is a real one",
    "quota_periods_ends_at_check": "the date at which a period ends is a real one",
    "quota_periods_hours_check": "the hours of a period are * or ranges such as 08:00-12:00,14:00-19:00",
    "quota_periods_weekdays_check": "the weekdays of a period are * or a list such as mon-thu,sun",
    "quota_periods_days_check": "the days of a period are * or a list of days of the month such as 1-15,31",
    "quota_periods_months_check": "the months of a period are * or a list such as jan-mar,12",
    "quota_periods_dates_check": "a period has hours and days, or a date at which it begins and a later one at its end",
    "resources_pkey": "there is a resource with this id already",
    "resources_resource_id_check": "the id of a resource is 1 or more",
    "resources_type_check": "the type of a resource cannot be empty",
    "resources_cpuset_check": "cpuset is a list of the kernel's numbers of processors, such as 3, 0-3 or 0,32",
    "resources_network_address_check": "a resource of type default needs a network_address: the name of its host",
    "resources_network_address_name_check": (
        "the name of a host is letters, digits, ., _, : and -, no - first, 253 in all at most"
    ),
    "resources_quantity_check": "the quantity of a resource is 1 or more",
    "properties_pkey": "there is a property of this name already",
    "properties_name_check": "the name of a property is small letters, digits and _, 63 at most, no digit first",
    "properties_kind_check": "the kind of a property is integer, text, real or boolean",
}


def in_words(sqlstate: str, diagnosis: Any) -> str | None:
    """What the constraint wanted that ``diagnosis`` of a driver's error names, where there are words for it."""
    if sqlstate == NOT_NULL_VIOLATION:
        return f"{diagnosis.column_name} must have a value"
    return _WANTED.get(diagnosis.constraint_name or "")
