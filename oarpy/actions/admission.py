"""What a rule of admission sees of a submission, changes in it, and refuses it by.

A rule is a Python file with one function::

    from oarpy.actions.admission import Refuse, Submission

    def admit(submission: Submission) -> None:
        if submission.queue == "night" and submission.walltime_longest > timedelta(hours=12):
            raise Refuse("jobs of the queue night last 12 hours at most")

The site's rules are called in order, each with the submission as the ones before
it left it.  What no rule decides, the settings do.
"""

from __future__ import annotations

import grp
import os
import pwd
from collections.abc import Iterator
from dataclasses import dataclass, field
from datetime import datetime, timedelta

from oarpy.errors import RequestRefused
from oarpy.model.exit_statuses import ExitStatus
from oarpy.model.filter_grammar import all_of, parse_filter
from oarpy.model.filters import Filter
from oarpy.model.job_types import has_type
from oarpy.model.request import Level
from oarpy.settings import Jobs


class Refuse(RequestRefused):
    """Raised by a rule, with one sentence for the user."""

    exit_status = ExitStatus.ADMISSION


@dataclass(slots=True)
class WantedGroup:
    """One group of a request: its levels, outermost first, and what its resources must satisfy (None: nothing)."""

    levels: list[Level]
    filter: Filter | None = None

    def require(self, condition: str) -> None:
        """Add ``condition``, in the language of ``-p``, to the filter."""
        tree = parse_filter(condition)
        self.filter = tree if self.filter is None else all_of(self.filter, tree)


@dataclass(slots=True)
class WantedAlternative:
    """One ``-l``; ``walltime`` is None where the user named none."""

    groups: list[WantedGroup]
    walltime: timedelta | None = None


class KnownJobs:
    """What rules may ask about jobs that were submitted before; here, that there are none."""

    def waiting_reservations(self, user: str) -> int:
        """How many advance reservations of ``user`` wait for their start."""
        return 0

    def note_reservation(self, user: str) -> None:
        """One more reservation of ``user`` passes; it is not in the tables yet."""


@dataclass(slots=True)
class Submission:
    """One ``oarsub``; a rule may change every field but the first two.

    ``properties`` is the ``-p`` as it was understood; it is part of the groups'
    filters already and kept to be shown.  ``elements`` counts the jobs of an
    array, 1 without.  ``site`` is the section ``[jobs]`` of the settings.
    ``reservation`` is the start of an advance reservation, None for other jobs;
    ``known`` tells of jobs that exist.
    """

    user: str
    site: Jobs
    command: str
    directory: str
    alternatives: list[WantedAlternative]
    properties: str | None = None
    queue: str | None = None
    name: str | None = None
    project: str = "default"
    types: list[str] = field(default_factory=list)
    checkpoint: timedelta | None = None
    hold: bool = False
    elements: int = 1
    reservation: datetime | None = None
    known: KnownJobs = field(default_factory=KnownJobs)
    warnings: list[str] = field(default_factory=list)

    @property
    def groups(self) -> Iterator[WantedGroup]:
        """The groups of all alternatives."""
        return (group for alternative in self.alternatives for group in alternative.groups)

    @property
    def walltime_longest(self) -> timedelta:
        """Of all alternatives; those without a walltime count as none."""
        return max((each.walltime for each in self.alternatives if each.walltime), default=timedelta())

    @property
    def reservations_left(self) -> int:
        """How many more advance reservations of the user may wait for their start; a look into the database."""
        return self.site.max_waiting_reservations - self.known.waiting_reservations(self.user)

    @property
    def unix_groups(self) -> frozenset[str]:
        """The groups of the user on the server's host; looked up when asked for, which may take a directory's time."""
        try:
            account = pwd.getpwnam(self.user)
        except KeyError:
            return frozenset()
        names = set()
        for number in os.getgrouplist(self.user, account.pw_gid):
            try:
                names.add(grp.getgrgid(number).gr_name)
            except KeyError:
                continue
        return frozenset(names)

    def has_type(self, name: str) -> bool:
        """Whether it has the type ``name``, with a value or without."""
        return has_type(self.types, name)

    def require(self, condition: str) -> None:
        """Let every group use only resources that satisfy ``condition``, written in the language of ``-p``."""
        for group in self.groups:
            group.require(condition)

    def warn(self, sentence: str) -> None:
        """Tell the user; the submission goes on."""
        self.warnings.append(sentence)
