"""The text of ``jobs.message`` that programs take apart: ``R=8,W=1:30:0,J=B,N=name (notes)``."""

from __future__ import annotations

from collections.abc import Iterable

from oarpy.model.durations import render_duration


def job_message(
    *,
    resources: int,
    walltime_s: int,
    name: str | None = None,
    queue: str = "default",
    project: str = "default",
    types: Iterable[str] = (),
    interactive: bool = False,
    reservation: bool = False,
    notes: str = "",
) -> str:
    """Number of resources, walltime and kind; then only what differs from the usual."""
    kind = "R" if reservation else "I" if interactive else "B"
    parts = [size_of(resources, walltime_s), f"J={kind}"]
    if name:
        parts.append(f"N={name}")
    if queue not in ("default", "besteffort"):
        parts.append(f"Q={queue}")
    if project != "default":
        parts.append(f"P={project}")
    if joined := "|".join(types):
        parts.append(f"T={joined}")
    return ",".join(parts) + (f" ({notes})" if notes else "")


def size_of(resources: int, walltime_s: int) -> str:
    """How a message begins."""
    return f"R={resources},W={render_duration(walltime_s)}"
