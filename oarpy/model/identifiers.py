"""Which characters a name may have; names of users end in file names, mails and listings."""

from __future__ import annotations

from oarpy.errors import SyntaxRefused
from oarpy.model.wording import excerpt

MAX_PROPERTY_LENGTH = 63
_FIRST = frozenset("abcdefghijklmnopqrstuvwxyz_")
_REST = _FIRST | frozenset("0123456789")


def is_property_name(name: str) -> bool:
    """Whether a column of ``resources`` could be called ``name``."""
    return 0 < len(name) <= MAX_PROPERTY_LENGTH and name[0] in _FIRST and _REST.issuperset(name)


def property_name(text: str) -> str:
    """``text`` as a property's name: unquoted names are folded to lower case, as SQL does.

    Raises:
        SyntaxRefused: no property can have this name.
    """
    name = text.lower()
    if not is_property_name(name):
        raise SyntaxRefused(f"{excerpt(text)} is not a name of a property; letters, digits and _ make one")
    return name
