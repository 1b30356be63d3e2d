"""``oarstat --efficiency``: what ended jobs used of what they held, arrays as one line."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import click

from oarpy.client.connection import Connection
from oarpy.client.efficiency import Efficiency, efficiency
from oarpy.client.selection import Selection
from oarpy.commands import formats
from oarpy.commands.session import tell
from oarpy.errors import SyntaxRefused
from oarpy.model.durations import render_elapsed
from oarpy.model.exit_statuses import ExitStatus


def show_efficiency(conn: Connection, selection: Selection, style: str | None, fields: Sequence[str]) -> None:
    """Print a line, or a document, for each array or lone job among the ended jobs of ``selection``."""
    if not (selection.names_jobs or selection.filter is not None):
        raise SyntaxRefused(
            "--efficiency is of ended jobs: name them with -j, --array or --sql", exit_status=ExitStatus.REFUSED
        )
    found = efficiency(conn, selection)
    entries = {_id(each): _document(each) for each in found}
    if style:
        formats.write(formats.only(entries, fields) if fields else entries, style)
        return
    if fields:
        click.echo("\n".join(formats.table(entries, fields))) if entries else None
        return
    if found:
        click.echo("\n".join(_table(found)))
    if any(each.measured < each.jobs for each in found):
        tell("of jobs without a CPU time their hosts, or some of them, did not tell what they used")
    if any(each.hosts > 1 for each in found):
        tell("of jobs on several hosts (*) the memory is that of the host where it was most")


def _id(each: Efficiency) -> str:
    return str(each.array_id) if each.jobs == 1 else f"{each.jobs}@{each.array_id}"


def _share(part: float | None, whole: float | None) -> float | None:
    return None if part is None or not whole else round(part / whole, 4)


def _document(each: Efficiency) -> dict[str, Any]:
    return {
        "id": _id(each),
        "array_id": each.array_id,
        "jobs": each.jobs,
        "measured": each.measured,
        "owner": each.user,
        "name": each.name,
        "cpu_time": each.cpu_s,
        "cpu_held": each.held_s,
        "cpu_efficiency": _share(each.cpu_s, each.held_s),
        "elapsed": each.elapsed_s,
        "walltime": each.walltime_s,
        "walltime_used": _share(each.elapsed_s, each.walltime_s),
        "peak_memory_mib": each.peak_mib,
        "asked_memory_mib": each.memory_mib,
        "memory_efficiency": _share(each.peak_mib, each.memory_mib),
        "hosts": each.hosts,
    }


def _table(found: Sequence[Efficiency]) -> list[str]:
    lines = [
        "Job id       User       CPU time    CPU  Walltime    Peak MiB   Asked MiB  Memory",
        "------------ -------- ---------- ------ --------- ----------- ----------- -------",
    ]
    for each in found:
        cpu = "-" if each.cpu_s is None else render_elapsed(int(each.cpu_s))
        peak = "-" if each.peak_mib is None else str(each.peak_mib)
        asked = "-" if each.memory_mib is None else str(each.memory_mib)
        name = _id(each) + ("*" if each.hosts > 1 else "")
        lines.append(
            f"{name:<12} {each.user:<8.8} {cpu:>10} {_percent(_share(each.cpu_s, each.held_s)):>6} "
            f"{_percent(_share(each.elapsed_s, each.walltime_s)):>9} {peak:>11} {asked:>11} "
            f"{_percent(_share(each.peak_mib, each.memory_mib)):>7}"
        )
    return lines


def _percent(share: float | None) -> str:
    return "-" if share is None else f"{share * 100:.0f}%"
