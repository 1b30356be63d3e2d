"""Who may act on everybody's jobs."""

from __future__ import annotations

import os
import pwd
from functools import cache


@cache
def administrators() -> frozenset[str]:
    """root, oar, and the account that the server runs as: whose instance it is."""
    try:
        owner = pwd.getpwuid(os.geteuid()).pw_name
    except KeyError:  # a container's user that no file knows
        return frozenset({"root", "oar"})
    return frozenset({"root", "oar", owner})
