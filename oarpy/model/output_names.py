"""``-O`` and ``-E``: where a job's output goes."""

from __future__ import annotations

#: File systems take 255 bytes; the rest is ``OAR.``, two dots, ``stdout`` and the longest id of a job.
LONGEST_NAMED = 255 - len("OAR...stdout") - 19


def default_output(name: str | None, stream: str) -> str:
    """OAR's name of the file for ``stream`` (stdout or stderr), to be expanded; a name too long for it is left out."""
    if name and len(name.encode()) <= LONGEST_NAMED:
        return f"OAR.%jobname%.%jobid%.{stream}"
    return f"OAR.%jobid%.{stream}"


def expand_output(pattern: str, *, job_id: int, name: str | None) -> str:
    """``pattern`` with ``%jobid%`` and ``%jobname%`` replaced.

    A slash in the name of a job becomes ``_``, lest it name a directory.
    """
    return pattern.replace("%jobid%", str(job_id)).replace("%jobname%", (name or "").replace("/", "_"))
