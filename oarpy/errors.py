"""Every error that oarpy raises on purpose.

::

    OarError
    ├── RequestRefused       the user's request cannot be granted; has an exit status
    │   ├── SyntaxRefused    it cannot even be read
    │   ├── NotAllowed       it is not for this user
    │   └── NeverFits        no state of the cluster could satisfy it
    ├── ServerUnavailable    nothing was promised; asking again later is right
    ├── OutcomeUnknown       the connection broke in mid-commit; ask again with the same key
    ├── IllegalTransition    a bug, or a race that was lost
    ├── Stale                what was decided rests on facts that have changed
    ├── NotLeader            another almighty holds the lease
    ├── NodeUnreachable      the effect on the node is unknown
    ├── NodeMisbehaves       the node said what it must not say
    ├── ProgramFailed        a program of the site could not be run, or failed
    └── ConfigurationError   a person must mend the configuration
"""

from __future__ import annotations


class OarError(Exception):
    """Base of every error raised on purpose."""


class RequestRefused(OarError):
    """The request is refused; ``str(error)`` is one sentence for its author."""

    exit_status = 1

    def __init__(self, sentence: str, *, exit_status: int | None = None) -> None:
        super().__init__(sentence)
        if exit_status is not None:
            self.exit_status = exit_status


class SyntaxRefused(RequestRefused):
    """What was typed does not follow the grammar."""

    exit_status = 18


class NotAllowed(RequestRefused):
    """The one who asks may not have this."""

    exit_status = 1


class NeverFits(RequestRefused):
    """No state of the cluster could satisfy the request."""

    exit_status = 8


class ServerUnavailable(OarError):
    """The database or the server does not answer; nothing has been promised."""

    exit_status = 75  # EX_TEMPFAIL of sysexits.h


class OutcomeUnknown(OarError):
    """A request may or may not have been stored; asking again with its key tells."""

    exit_status = 76  # EX_PROTOCOL of sysexits.h

    def __init__(self, key: str) -> None:
        super().__init__(f"the connection broke while the request was on its way; --key {key} asks what became of it")
        self.key = key


class IllegalTransition(OarError):
    """An automaton has no edge for this event in this state."""


class Stale(OarError):
    """The facts changed since they were read; read them again."""


class NotLeader(OarError):
    """This process belongs to an epoch that has ended."""


class NodeUnreachable(OarError):
    """The host does not answer; whether the order took effect is unknown."""


class NodeMisbehaves(OarError):
    """The host reported something it has no part in; its word is not taken."""


class ProgramFailed(OarError):
    """A program of the site failed; the sentence goes after its name."""


class ConfigurationError(OarError):
    """The configuration is wrong; the sentence says where."""

    exit_status = 78  # EX_CONFIG of sysexits.h
