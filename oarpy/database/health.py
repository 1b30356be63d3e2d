"""Checks of hosts, what they came to, and how jobs fare on each host.

A check is claimed by a row before it begins, so that never two run on a host, whoever
asks for them; a claim that nobody ended is void after a while.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Collection, Sequence
from datetime import datetime, timedelta

from sqlalchemy import text
from sqlalchemy.engine import Connection

from oarpy.database import events
from oarpy.database.events import Event
from oarpy.model.node_health import Checked, Fate, Kind, Met, Quarantine, charged

#: Events that tell on which of its hosts a job could not begin, or which it lost.
ACCUSING = (
    *("PART_LOST", "PROLOGUE_ERROR", "CPUSET_ERROR", "EXIT_VALUE_OAREXEC", "BAD_HASHTABLE_DUMP"),
    *("WORKING_DIRECTORY", "OUTPUT_FILES", "USER_SHELL", "USER_UNKNOWN", "USER_REFUSED"),
)
#: Of the jobs that ended last so many are looked at.
MOST_ENDS = 20_000

_CLAIM = text(
    """
    WITH busy AS MATERIALIZED (
        SELECT COALESCE(range_agg(u.ids), '{}') AS ids
        FROM jobs j JOIN allocations a USING (job_id), unnest(a.resources) AS u(ids)
        WHERE j.stopped_at IS NULL AND upper_inf(a.held) AND NOT :busy_hosts
    ), hosts AS (
        SELECT network_address AS host, bool_or(state = 'Suspected') AS suspected
        FROM resources, busy
        WHERE type = 'default' AND network_address <> ALL(CAST(:but AS text[]))
          AND (state = 'Alive' OR state = 'Suspected' AND finaud_decision AND :repair)
        GROUP BY network_address
        HAVING bool_or(state = 'Suspected') OR NOT bool_or(busy.ids @> resource_id)
    ), due AS (
        SELECT h.host FROM hosts h LEFT JOIN node_checks c USING (host)
        WHERE CASE
            WHEN c.host IS NULL THEN true
            WHEN c.ended_at IS NULL THEN c.begun_at < now() - CAST(:abandoned AS interval)
            WHEN h.suspected OR NOT COALESCE(c.passed, true) THEN c.ended_at <= now() - CAST(:retry AS interval)
            ELSE c.ended_at <= now() - CAST(:interval AS interval) END
        ORDER BY c.begun_at NULLS FIRST, h.host LIMIT :most
    )
    INSERT INTO node_checks (host, begun_at) SELECT host, now() FROM due ORDER BY host
    ON CONFLICT (host) DO UPDATE SET begun_at = now(), ended_at = NULL
        WHERE node_checks.ended_at IS NOT NULL OR node_checks.begun_at < now() - CAST(:abandoned AS interval)
    RETURNING host, failures
    """
)
_RECORD = text(
    """
    UPDATE node_checks c SET ended_at = now(), passed = d.passed, said = d.said,
        failures = CASE WHEN d.passed THEN 0 ELSE LEAST(c.failures + 1, 1000000) END
    FROM unnest(CAST(:hosts AS text[]), CAST(:passed AS boolean[]), CAST(:said AS text[])) AS d(host, passed, said)
    WHERE c.host = d.host
    """
)
# Something must speak for it since it was Suspected, and nothing against it.
_RECOVERY = """
    WITH well AS (
        SELECT r.resource_id FROM resources r
        LEFT JOIN node_checks c ON c.host = r.network_address
        LEFT JOIN node_sessions s ON s.host = r.network_address
        WHERE r.state = 'Suspected' AND r.finaud_decision {of_host}
          AND COALESCE(c.failures, 0) < :tries AND s.unreachable_since IS NULL
          AND (c.passed AND c.ended_at >= r.state_since OR s.connected_at >= r.state_since)
        ORDER BY r.resource_id FOR NO KEY UPDATE OF r
    ), recovered AS (
        UPDATE resources r SET state = 'Alive', finaud_decision = false FROM well
        WHERE r.resource_id = well.resource_id RETURNING r.network_address
    )
    SELECT DISTINCT network_address FROM recovered ORDER BY 1
"""
_RECOVER = text(_RECOVERY.format(of_host=""))
_RECOVER_HOST = text(_RECOVERY.format(of_host="AND r.network_address = :host"))
# Jobs are judged by how they fare on other hosts too, and this one needs no check.
_WANTED = text(
    """
    SELECT EXISTS (
        SELECT FROM resources
        WHERE type = 'default' AND state <> 'Dead' AND network_address <> ALL(CAST(:but AS text[]))
            OR state = 'Suspected' AND finaud_decision
    )
    """
)
_LAST_END = text("SELECT max(stopped_at) FROM jobs WHERE stopped_at > now() - CAST(:window AS interval)")
# Killed is what somebody wanted dead, or what lost one of its hosts; 99 is how a job asks to be run again.
# Of a job on several hosts it is known where it could not begin and which host it lost.  Where it died otherwise,
# that was on one of them all.
_FATES = text(
    """
    WITH since AS (
        SELECT network_address AS host, max(state_since) AS date FROM resources
        WHERE type = 'default' AND state = 'Alive' GROUP BY 1
    ), over AS (
        SELECT j.job_id, j.head, j.other_hosts, j.job_user, j.command, j.started_at, j.stopped_at, j.exit_code,
            j.end_cause
        FROM jobs j WHERE j.stopped_at > now() - CAST(:window AS interval) ORDER BY j.stopped_at DESC LIMIT :most
    ), judged AS (
        SELECT o.*, f.job_id IS NOT NULL AS lost, COALESCE(stopped_at - started_at, '0') < CAST(:fast AS interval)
            AND (f.job_id IS NOT NULL
                 OR end_cause IN ('exit', 'signal', 'launch_error', 'vanished', 'out_of_memory', 'prologue')
                    AND COALESCE(exit_code, 1) NOT IN (0, 99 * 256)) AS died
        FROM over o LEFT JOIN frag_jobs f USING (job_id)
        WHERE o.head IS NOT NULL AND (f.job_id IS NULL OR o.other_hosts IS NOT NULL AND f.asked_by = 'oar'
            AND f.cause IN ('vanished', 'node_rebooted', 'fenced'))
    ), met AS (
        SELECT j.job_user, md5(j.command) AS command, j.died, j.stopped_at, CASE
            WHEN j.other_hosts IS NULL OR j.died AND j.end_cause = 'vanished' AND NOT j.lost THEN ARRAY[j.head]
            WHEN j.died AND (j.lost OR j.end_cause IN ('launch_error', 'prologue')) THEN COALESCE((
                SELECT e.hosts FROM events e
                WHERE e.job_id = j.job_id AND cardinality(e.hosts) = 1 AND e.type = ANY(CAST(:accusing AS text[]))
                ORDER BY e.date DESC, e.event_id DESC LIMIT 1), ARRAY[j.head])
            ELSE j.head || j.other_hosts END AS hosts
        FROM judged j
    ), one_host AS (
        SELECT h.host, m.job_user, m.command, m.died
        FROM met m CROSS JOIN LATERAL unnest(m.hosts) AS h(host)
        JOIN since ON since.host = h.host AND m.stopped_at > since.date
        WHERE NOT m.died OR cardinality(m.hosts) = 1
        UNION ALL
        SELECT unnest(head || COALESCE(other_hosts, '{}')), job_user, md5(command), false FROM jobs
        WHERE stopped_at IS NULL AND state = 'Running' AND started_at < now() - CAST(:fast AS interval)
            AND head IS NOT NULL
    ), several AS (
        SELECT ARRAY(SELECT h.host FROM unnest(m.hosts) AS h(host)
                     JOIN since ON since.host = h.host AND m.stopped_at > since.date ORDER BY 1) AS hosts,
            m.job_user, m.command
        FROM met m WHERE m.died AND cardinality(m.hosts) > 1
    )
    SELECT ARRAY[host] AS hosts, job_user, command, count(*) FILTER (WHERE died) AS died,
        count(*) FILTER (WHERE NOT died) AS lived
    FROM one_host GROUP BY host, job_user, command
    UNION ALL
    SELECT hosts, job_user, command, count(*), 0 FROM several WHERE hosts <> '{}' GROUP BY hosts, job_user, command
    """
)
# A cheap look at what ended since the last whole one; _FATES judges.
_DEADLY = text(
    """
    SELECT EXISTS (
        SELECT FROM jobs
        WHERE stopped_at > GREATEST(now() - CAST(:window AS interval), CAST(:since AS timestamptz)) AND head IS NOT NULL
            AND COALESCE(stopped_at - started_at, '0') < CAST(:fast AS interval)
            AND COALESCE(exit_code, 1) NOT IN (0, 99 * 256)
        GROUP BY head HAVING count(*) >= :deaths
    )
    """
)
_BELIEVED = text(
    """
    SELECT u.job_user, u.command, count(*) FROM quarantines q, unnest(q.users, q.commands) AS u(job_user, command)
    WHERE q.date > now() - CAST(:window AS interval) GROUP BY 1, 2
    """
)
_TAKEN = text(
    """
    SELECT (SELECT count(*) FROM quarantines WHERE date > now() - CAST(:window AS interval)),
        (SELECT count(DISTINCT network_address) FROM resources WHERE type = 'default' AND state <> 'Dead')
    """
)
_QUARANTINE = text(
    """
    INSERT INTO quarantines (host, reason, users, commands)
    VALUES (:host, :reason, CAST(:users AS text[]), CAST(:commands AS text[]))
    """
)
_FORGET = text("DELETE FROM quarantines WHERE date < now() - CAST(:window AS interval)")


def is_wanted(conn: Connection, *, but: Collection[str]) -> bool:
    """Whether there is a host ``but`` these names, or one that may recover."""
    return bool(conn.execute(_WANTED, {"but": sorted(but)}).scalar_one())


def claim(
    conn: Connection,
    *,
    interval: timedelta,
    retry: timedelta,
    abandoned: timedelta,
    busy_hosts: bool,
    repair: bool,
    but: Collection[str],
    most: int,
) -> dict[str, int]:
    """The hosts to check now, at most ``most``, with how many checks have failed in a row; nobody else gets them.

    Those that failed last, or are Suspected by a check, are due after ``retry``, the
    others after ``interval``.
    """
    parameters = {"interval": interval, "retry": retry, "abandoned": abandoned, "busy_hosts": busy_hosts}
    found = conn.execute(_CLAIM, {**parameters, "repair": repair, "but": sorted(but), "most": most})
    return {row.host: row.failures for row in found}


def record(conn: Connection, checks: Sequence[Checked]) -> None:
    """Write what checks came to; their hosts can be claimed again."""
    conn.execute(
        _RECORD,
        {
            "hosts": [check.host for check in checks],
            "passed": [check.passed for check in checks],
            "said": [check.said for check in checks],
        },
    )


def recover(conn: Connection, tries: int, host: str | None = None) -> list[str]:
    """Make Alive what a check or a lost link had made Suspected and nothing speaks against any more; the hosts.

    All that are so, or ``host`` alone.  Checks speak against a host when ``tries`` of them failed in a row.
    """
    parameters = {"tries": tries}
    if host is None:
        found = conn.execute(_RECOVER, parameters)
    else:
        found = conn.execute(_RECOVER_HOST, {**parameters, "host": host})
    recovered = list(found.scalars())
    events.append(conn, [Event("FINAUD_RECOVER", hosts=(name,), description="it is well again") for name in recovered])
    return recovered


def last_end(conn: Connection, window: timedelta) -> datetime | None:
    """When the last job ended, if that was within ``window``."""
    found: datetime | None = conn.execute(_LAST_END, {"window": window}).scalar()
    return found


def is_deadly(conn: Connection, *, window: timedelta, since: datetime | None, fast: timedelta, deaths: int) -> bool:
    """Whether so many jobs died fast on one host that it is worth a whole look at their ``fates``.

    Of those that ended within ``window``, and after ``since``.
    """
    parameters = {"window": window, "since": since, "fast": fast, "deaths": deaths}
    found: bool = conn.execute(_DEADLY, parameters).scalar_one()
    return found


def fates(conn: Connection, *, window: timedelta, fast: timedelta) -> list[Fate]:
    """How jobs fared on their hosts: those that ended within ``window``, those that run for longer than ``fast``.

    What ended on a host before it became Alive does not count against it.
    """
    found = conn.execute(_FATES, {"window": window, "fast": fast, "most": MOST_ENDS, "accusing": list(ACCUSING)})
    return charged(Met(tuple(row.hosts), Kind(row.job_user, row.command), row.died, row.lived) for row in found)


def believed(conn: Connection, window: timedelta) -> Counter[Kind]:
    """On whose word hosts were quarantined within ``window``, and how often."""
    return Counter({Kind(user, command): count for user, command, count in conn.execute(_BELIEVED, {"window": window})})


def taken(conn: Connection, window: timedelta) -> tuple[int, int]:
    """(hosts quarantined within ``window``, hosts)."""
    quarantined, hosts = conn.execute(_TAKEN, {"window": window}).one()
    return quarantined, hosts


def keep_quarantines(conn: Connection, quarantines: Sequence[Quarantine], window: timedelta) -> None:
    """Remember on whose word hosts were quarantined, and forget what is older than ``window``."""
    conn.execute(_FORGET, {"window": window})
    for one in quarantines:
        users, commands = [kind.user for kind in one.kinds], [kind.command for kind in one.kinds]
        conn.execute(_QUARANTINE, {"host": one.host, "reason": one.reason, "users": users, "commands": commands})
