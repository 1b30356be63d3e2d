"""What the job of an ``OarExecutor`` runs: one call, pickled in a directory, and its result beside it.

It is copied to where the nodes see it; so it needs the standard library alone.
"""

import os
import pickle
import sys
import traceback

RESULT = "result"


def main(place: str) -> int:
    """Call what is in ``place``; the exit status is 0 unless the result could not be written."""
    with open(os.path.join(place, "call"), "rb") as file:
        path, pickling, call = pickle.load(file)
    sys.path += [each for each in path if each not in sys.path]
    try:
        function, args, kwargs = pickle.loads(call)
        outcome = _pickled((True, function(*args, **kwargs)), pickling)
    except BaseException as error:
        trace = traceback.format_exc()
        try:
            outcome = _pickled((False, (error, trace)), pickling)
            pickle.loads(outcome)
        except BaseException:
            # An exception that does not survive the way is told in words.
            outcome = pickle.dumps((False, (RuntimeError(f"{type(error).__name__}: {error}"), trace)))
    beginning = os.path.join(place, RESULT + ".new")
    with open(beginning, "wb") as file:
        file.write(outcome)
        file.flush()
        os.fsync(file.fileno())
    os.rename(beginning, os.path.join(place, RESULT))
    return 0


def _pickled(outcome: object, pickling: str) -> bytes:
    """As the call was, where that mattered: classes of the caller's ``__main__`` are known by value alone."""
    written: bytes = sys.modules.get(pickling, pickle).dumps(outcome)
    return written


if __name__ == "__main__":
    sys.exit(main(sys.argv[1]))
