"""``-t``: words that change how a job is treated.

Any ``name`` or ``name=value`` is a type: sites and programs mark jobs with their
own, and the rules of admission may refuse some.
"""

from __future__ import annotations

from collections.abc import Iterable

from oarpy.errors import SyntaxRefused
from oarpy.model.wording import check_printable, excerpt

MAX_LENGTH = 255
BESTEFFORT = "besteffort"
IDEMPOTENT = "idempotent"
NOOP = "noop"
#: It may be killed when its host is lost, and run elsewhere.
REASSIGN = "reassign"
#: What runs nothing, and what is there for others.
_WITHOUT_COMMAND = (NOOP, "container", "placeholder")
_FIRST = frozenset("abcdefghijklmnopqrstuvwxyzABCDEFGHIJKLMNOPQRSTUVWXYZ_")
#: Types that mean something to oarpy, and common ones that mean something to its neighbours.
KNOWN_TYPES = frozenset(
    "besteffort idempotent reassign noop deploy cosystem container inner timesharing placeholder allowed token postpone"
    " deadline expire nice qos state origin allow_classic_ssh devel night exotic monitor".split()
)
_DATED = frozenset({"postpone", "deadline", "expire"})
_REST = _FIRST | frozenset("0123456789.:-")


def check_job_type(text: str) -> str:
    """``text``, when it is a type; raises ``SyntaxRefused``."""
    check_printable(text, "a job type", longest=MAX_LENGTH)
    name, _ = split_job_type(text)
    if not name or name[0] not in _FIRST or not _REST.issuperset(name):
        raise SyntaxRefused(f"{excerpt(text)} is not a job type; write name or name=value")
    if name == "token" or name.startswith("token:"):
        from oarpy.model.token_types import check_token_type

        check_token_type(text)
    if name in _DATED:
        # Most submissions name none, and a command pays for each import.
        from oarpy.model.job_dates import parse_moment

        parse_moment(text.partition("=")[2])
    return text


def split_job_type(text: str) -> tuple[str, str | None]:
    """Name and value; the value of a type without one is None."""
    name, equals, value = text.partition("=")
    return name, value if equals else None


def may_lack_command(types: Iterable[str]) -> bool:
    """Whether a job of these types makes sense without a command."""
    return any(split_job_type(each)[0] in _WITHOUT_COMMAND for each in types)


def has_type(types: Iterable[str], name: str) -> bool:
    """Whether a type called ``name`` is among ``types``, with a value or without."""
    return any(split_job_type(each)[0] == name for each in types)
