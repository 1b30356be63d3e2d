"""The site's rules of admission: files of a directory and rows of ``admission_rules``.

Both are Python source with a function ``admit``.  A file's place in the order is
the number that its name begins with, a row's is its priority; equals go by name.
Changes are seen at the next submission.  A rule that cannot be loaded is not
skipped: it refuses every submission until somebody mends it, for nobody knows
what it was meant to refuse.
"""

from __future__ import annotations

import os
import re
from collections.abc import Callable, Iterable
from dataclasses import dataclass
from logging import getLogger
from operator import itemgetter
from typing import NamedTuple, TypeAlias

from oarpy.actions.admission import Refuse, Submission
from oarpy.actions.time_limit import TookTooLong, time_limit
from oarpy.errors import RequestRefused

logger = getLogger(__name__)

#: How long the top level of a rule's source may take.
LOAD_S = 5

Admit: TypeAlias = Callable[[Submission], object]


class Source(NamedTuple):
    """One rule as it is written down; ``text`` is None when it cannot be read."""

    priority: int
    name: str
    text: str | bytes | None


@dataclass(frozen=True, slots=True)
class Rule:
    """``admit`` is None when the source cannot be loaded."""

    name: str
    admit: Admit | None


def admit(rules: Iterable[Rule], submission: Submission) -> None:
    """Call ``rules`` one after the other.

    Raises:
        RequestRefused: one of them refuses, or fails; the sentence then names it.
    """
    for rule in rules:
        if rule.admit is None:
            raise Refuse(f"the admission rule {rule.name} cannot be loaded; an administrator must mend it")
        try:
            rule.admit(submission)
        except RequestRefused:
            raise
        except (Exception, SystemExit, TookTooLong) as error:
            logger.exception("rule %s: failed on a submission of %s", rule.name, submission.user)
            raise Refuse(
                f"the admission rule {rule.name} failed ({type(error).__name__}); an administrator must mend it"
            ) from error


class RuleBook:
    """The rules of ``directory``, loaded again when a file changes, and of the tables."""

    def __init__(self, directory: str) -> None:
        self._directory = directory
        self._files: dict[str, tuple[tuple[int, int, int], Source]] = {}
        self._loaded: dict[Source, Rule] = {}

    def rules(self, rows: Iterable[Source] = ()) -> tuple[Rule, ...]:
        """All rules that hold now, in order."""
        sources = sorted([*self._read_files(), *rows], key=itemgetter(0, 1))
        self._loaded = {source: self._loaded.get(source) or _load(source) for source in sources}
        return tuple(self._loaded.values())

    def _read_files(self) -> Iterable[Source]:
        found = {}
        try:
            with os.scandir(self._directory) as entries:
                for entry in entries:
                    if entry.name.endswith(".py") and not entry.name.startswith("."):
                        status = entry.stat()
                        # The change time moves with the mode as well: a file may become readable.
                        state = status.st_ctime_ns, status.st_size, status.st_ino
                        known = self._files.get(entry.name)
                        found[entry.name] = known if known and known[0] == state else (state, self._read(entry.name))
        except OSError:
            return [Source(0, self._directory, None)]
        self._files = found
        return [source for _, source in found.values()]

    def _read(self, name: str) -> Source:
        number = re.match(r"\d{1,9}", name)
        priority = int(number[0]) if number else 0
        try:
            with open(os.path.join(self._directory, name), "rb") as file:
                return Source(priority, name, file.read())
        except OSError:
            return Source(priority, name, None)


def _load(source: Source) -> Rule:
    if source.text is None:
        logger.error("rule %s: cannot be read, so it refuses every submission", source.name)
        return Rule(source.name, None)
    # Not by import: that would write byte code beside the site's configuration.
    namespace: dict[str, object] = {"__name__": f"admission rule {source.name}"}
    try:
        with time_limit(LOAD_S):
            exec(compile(source.text, source.name, "exec"), namespace)
        found = namespace["admit"]
        if not callable(found):
            raise TypeError("admit is not a function")
    except (Exception, SystemExit, TookTooLong):
        logger.exception("rule %s: cannot be loaded, so it refuses every submission", source.name)
        return Rule(source.name, None)
    return Rule(source.name, found)
