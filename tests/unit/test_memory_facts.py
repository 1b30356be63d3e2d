"""What control groups tell of a job's memory."""

from __future__ import annotations

import pytest

from oarpy.node.oarexec.cgroups import memory_facts

V2_EVENTS = "low 0\nhigh 0\nmax 812\noom 1\noom_kill {}\noom_group_kill 0\n"


@pytest.mark.parametrize(
    ("peak", "limit", "events", "found"),
    [
        ("10485760\n", "20971520\n", V2_EVENTS.format(0), {"peak_mib": 10}),
        (
            "20971520\n",
            "20971520\n",
            V2_EVENTS.format(2),
            {
                "peak_mib": 20,
                "short_of_memory": "it used more memory than the 20 MiB that it may, 20 MiB at its peak "
                "(processes killed: 2)",
            },
        ),
        (
            None,
            "20971520\n",
            V2_EVENTS.format(1),
            {"short_of_memory": "it used more memory than the 20 MiB that it may (processes killed: 1)"},
        ),
        (
            "20971520\n",
            "max\n",
            V2_EVENTS.format(1),
            {
                "peak_mib": 20,
                "short_of_memory": "it used more memory than its host has, 20 MiB at its peak (processes killed: 1)",
            },
        ),
        (
            "20971520\n",
            "9223372036854771712\n",
            "oom_kill_disable 0\nunder_oom 0\noom_kill 1\n",
            {
                "peak_mib": 20,
                "short_of_memory": "it used more memory than its host has, 20 MiB at its peak (processes killed: 1)",
            },
        ),
        (None, None, None, {}),
    ],
)
def test_the_peak_and_what_was_killed(peak, limit, events, found):
    assert memory_facts(peak, limit, events) == found
