"""What is said of a command that could not begin, from the word that its opening left in the progress."""

import os

from .entries import Entry
from .files import NAME_MAX, shortened
from .protocol import MAX_TEXT


def explain(entry: Entry, event: str, detail: str) -> str:
    directory = shortened(entry.directory)
    said = {
        ("WORKING_DIRECTORY", "absent"): "the working directory %s does not exist" % directory,
        ("WORKING_DIRECTORY", "file"): "the working directory %s is not a directory" % directory,
        ("WORKING_DIRECTORY", "forbidden"): "%s may not enter the working directory %s" % (entry.user, directory),
        ("USER_SHELL", "shell"): "the login shell of %s cannot be executed" % entry.user,
        ("CPUSET_ERROR", "join"): "the job cannot enter its control group",
    }
    if event == "OUTPUT_FILES":
        return _unopened(entry, *detail.partition(" ")[::2])[:MAX_TEXT]
    return said.get((event, detail), detail)[:MAX_TEXT]


def _unopened(entry: Entry, which: str, why: str) -> str:
    path = os.path.join(entry.directory, entry.stderr if which == "stderr" else entry.stdout)
    name = "standard error" if which == "stderr" else "standard output"
    folder = shortened(os.path.dirname(path))
    reason = {
        "long": ": its name is too long",
        "absent": ": the directory %s does not exist; mkdir -p makes it" % folder,
        "file": ": %s is not a directory" % folder,
        "directory": ": it is a directory",
        "forbidden": ": it is there and not %s's to write" % entry.user,
        "closed": ": %s may not write in the directory %s" % (entry.user, folder),
    }.get("long" if max(map(len, os.fsencode(path).split(b"/"))) > NAME_MAX else why, "")
    return "%s cannot write its %s file %s%s" % (entry.user, name, shortened(path), reason)
