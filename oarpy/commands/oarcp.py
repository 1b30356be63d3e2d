"""``oarcp``: see ``oarpy.commands.oarsh``."""

from __future__ import annotations

from oarpy.commands.oarsh import oarcp
from oarpy.commands.session import run


def main() -> None:
    run(oarcp)
