"""``oarstat --gantt``: resources, jobs and outages of a period, in the shape that OAR gives them."""

from __future__ import annotations

from oarpy.client import job_view, periods, resource_view
from oarpy.client.connection import Connection
from oarpy.commands import formats
from oarpy.commands.dates import period_s
from oarpy.commands.job_documents import resource_ids
from oarpy.commands.resource_documents import as_oar_has_it


def show_gantt(conn: Connection, period: str, style: str | None) -> None:
    """Print the document; as OAR does, without another format in that of Perl."""
    begin_s, end_s = period_s(period)
    bars = periods.bars(conn, begin_s, end_s)
    hosts = job_view.hosts(conn, {each for bar in bars for each in bar.resources})
    jobs = {}
    for bar in bars:
        resources = resource_ids(bar.resources)
        jobs[str(bar.job_id)] = {
            "job_id": bar.job_id,
            "name": bar.name,
            "user": bar.user,
            "project": bar.project,
            "queue_name": bar.queue,
            "state": bar.state,
            "types": bar.types,
            "type": bar.job_type,
            "command": bar.command,
            "properties": bar.properties,
            "launching_directory": bar.directory,
            "submission_time": bar.submitted_s,
            "walltime": bar.walltime_s,
            "start_time": bar.start_s,
            "stop_time": bar.stop_s,
            "resources": resources,
            "network_address": list(dict.fromkeys(hosts[each] for each in resources if each in hosts)),
        }
    document = {
        "resources": [as_oar_has_it(row) for row in resource_view.resources(conn)],
        "jobs": jobs,
        "dead_resources": periods.outages(conn, begin_s, end_s),
    }
    formats.write(document, style or "dumper")
