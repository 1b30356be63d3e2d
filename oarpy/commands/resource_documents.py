"""Resources as ``oarnodes -J`` and ``oarstat -p`` show them."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any


def as_oar_has_it(row: Mapping[str, Any]) -> dict[str, Any]:
    """``row`` with OAR's YES and NO."""
    return {name: ("YES" if value else "NO") if isinstance(value, bool) else value for name, value in row.items()}
