"""``-O`` and ``-E``: where a job's output goes."""

from __future__ import annotations

#: File systems take 255 bytes; the rest is ``OAR.``, two dots, ``stdout`` and the longest id of a job.
LONGEST_NAMED = 255 - len("OAR...stdout") - 19


def default_output(name: str | None, stream: str) -> str:
    """OAR's name of the file for ``stream`` (stdout or stderr), to be expanded; a name too long for it is left out."""
    if name and len(name.encode()) <= LONGEST_NAMED:
        return f"OAR.%jobname%.%jobid%.{stream}"
    return f"OAR.%jobid%.{stream}"
