"""Begins one of the lives of oarexec."""

import os
import re
import sys
from typing import List

INSTANCE = re.compile(r"[0-9a-f]{8}(-[0-9a-f]{4}){3}-[0-9a-f]{12}\Z")
USAGE = "usage: oarexec session|guard|watch|doctor --spool DIR [--instance UUID] [--min-uid N]"


def main(arguments: List[str]) -> int:
    if arguments[:1] == ["sweep"] and len(arguments) >= 4 and arguments[1].isdigit() and arguments[2].isdigit():
        from .sweeps import sweep

        return sweep(int(arguments[1]), int(arguments[2]), arguments[3].split(","), arguments[4:])
    options = dict(zip(arguments[1::2], arguments[2::2]))  # noqa: B905 (strict came with Python 3.10)
    spool = options.get("--spool", "")
    instance = options.get("--instance", "")
    min_uid = options.get("--min-uid")
    known = set(options) <= {"--spool", "--instance", "--min-uid"} and len(arguments) % 2 == 1
    if not known or not os.path.isabs(spool) or (min_uid is not None and not min_uid.isdigit()):
        raise SystemExit(USAGE)
    if arguments[0] == "doctor":
        from .doctor import doctor

        return doctor(spool)
    if not INSTANCE.match(instance):
        raise SystemExit(USAGE)
    if arguments[0] == "session":
        from .session import session

        return session(spool, instance, [] if min_uid is None else ["--min-uid", min_uid])
    if arguments[0] == "watch":
        from .watch import watch

        return watch(spool, instance, [] if min_uid is None else ["--min-uid", min_uid])
    if arguments[0] == "guard":
        from .guard import guard

        return guard(spool, instance, None if min_uid is None else int(min_uid))
    raise SystemExit(USAGE)


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
