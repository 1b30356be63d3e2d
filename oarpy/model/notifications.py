"""``--notify``: when a user is told of a job, and how."""

from __future__ import annotations

from typing import NamedTuple

from oarpy.errors import SyntaxRefused
from oarpy.model.exit_statuses import ExitStatus
from oarpy.model.wording import check_printable, excerpt

TAGS = ("RUNNING", "END", "ERROR", "INFO", "SUSPENDED", "RESUMING")
MAX_LENGTH = 1024
# A path and plain words: nothing that any shell or mail program on the way could take for more.
_SAFE = frozenset("abcdefghijklmnopqrstuvwxyzABCDEFGHIJKLMNOPQRSTUVWXYZ0123456789_-./+:=@%,")


class Notification(NamedTuple):
    """``method`` is mail or exec; ``target`` an address, or a program's path and words; no ``tags`` are all."""

    method: str
    target: str
    tags: tuple[str, ...] = ()


def parse_notification(text: str) -> Notification:
    """``[TAG,TAG]mail:address`` or ``[TAG]exec:/path word word``; the brackets may be left out.

    Raises:
        SyntaxRefused: with status 16.
    """
    check_printable(text, "the notification", longest=MAX_LENGTH, exit_status=ExitStatus.NOTIFY)
    tags: tuple[str, ...] = ()
    rest = text
    if text.startswith("["):
        listed, closed, rest = text[1:].partition("]")
        tags = tuple(tag.strip().upper() for tag in listed.split(","))
        if not closed or not set(tags) <= set(TAGS):
            raise _refused(f"{excerpt(text)} does not begin with a list of tags of {', '.join(TAGS)}")
    method, colon, target = rest.strip().partition(":")
    return checked(Notification(method if colon else "", target, tags))


def checked(notification: Notification) -> Notification:
    """The same, when it is safe to act upon; raises ``SyntaxRefused`` with status 16."""
    method, target = notification.method, notification.target
    if method not in ("mail", "exec"):
        raise _refused("a notification is mail:address or exec:/path arguments")
    if not set(notification.tags) <= set(TAGS):
        raise _refused(f"a notification has other tags than {', '.join(TAGS)}")
    if len(target) > MAX_LENGTH:
        raise _refused(f"the notification has more than {MAX_LENGTH} characters")
    if method == "mail":
        _, at, domain = target.rpartition("@")
        if not _SAFE.issuperset(target) or target.startswith("-") or "," in target or (at and not domain) or not target:
            raise _refused(f"{excerpt(target)} is not a mail address")
    else:
        if not _SAFE.issuperset(target.replace(" ", "")):
            raise _refused(f"{excerpt(target)} has characters that exec: does not allow")
        if not target.startswith("/"):
            raise _refused(f"exec: wants the full path of a program, not {excerpt(target)}")
    return notification


def _refused(sentence: str) -> SyntaxRefused:
    return SyntaxRefused(sentence, exit_status=ExitStatus.NOTIFY)
