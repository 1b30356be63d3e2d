"""Signals as users name them."""

from __future__ import annotations

import signal

from oarpy.errors import SyntaxRefused
from oarpy.model.exit_statuses import ExitStatus
from oarpy.model.payloads import HIGHEST_SIGNAL
from oarpy.model.wording import did_you_mean, excerpt


def parse_signal(text: str) -> int:
    """The number of ``10``, ``USR1`` or ``SIGUSR1``; raises ``SyntaxRefused``."""
    name = text.upper()
    if text.isascii() and text.isdigit() and len(text) <= 2 and 0 < int(text) <= HIGHEST_SIGNAL:
        return int(text)
    known = signal.Signals.__members__
    found = known.get(name) or known.get(f"SIG{name}")
    if found is None:
        # Without what all of them begin with, which makes any word resemble one.
        meant = did_you_mean(name.removeprefix("SIG"), [each.removeprefix("SIG") for each in known])
        sentence = f"{excerpt(text)} is not a signal; write a name such as USR1, or a number{meant}"
        raise SyntaxRefused(sentence, exit_status=ExitStatus.REFUSED)
    return int(found)
