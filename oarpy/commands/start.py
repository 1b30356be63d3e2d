"""Where the commands begin: a ^C ends them with a sentence, however early it comes.

Python answers a ^C with a traceback.  Importing a command takes longer than anything
else that most of them do, and nothing has been asked of the server by then, so until
``session.run`` takes over the signal simply ends the process.  The first hundredth of a
second, in which Python itself starts, is out of reach.
"""

from __future__ import annotations

# No more than this: until a ^C has its answer, Python gives its own.
import os
import signal
import sys
from functools import partial

_INTERRUPTED = 130


def _start(name: str) -> None:
    # What a script leaves in the background ignores the signal, and goes on doing so.
    if signal.getsignal(signal.SIGINT) is signal.default_int_handler:
        signal.signal(signal.SIGINT, _end)
    from importlib import import_module

    if name == "oarpy" and sys.argv[1:2] == ["complete"]:
        # Asked at every press of a key: the rest of oarpy is not needed for it.
        raise SystemExit(import_module("oarpy.commands.completion").main(sys.argv[2:]))
    import_module(f"oarpy.commands.{name}").main()


def _end(_number: int, _frame: object) -> None:
    try:
        os.write(2, f"{os.path.basename(sys.argv[0])}: interrupted\n".encode(errors="replace"))
    finally:
        os._exit(_INTERRUPTED)


oar2trace = partial(_start, "oar2trace")
oar_database = partial(_start, "oar_database")
oar_phoenix = partial(_start, "oar_phoenix")
oar_resources_add = partial(_start, "oar_resources_add")
oar_resources_init = partial(_start, "oar_resources_init")
oaraccounting = partial(_start, "oaraccounting")
oaradmissionrules = partial(_start, "oaradmissionrules")
oararchive = partial(_start, "oararchive")
oardel = partial(_start, "oardel")
oarhold = partial(_start, "oarhold")
oarnodes = partial(_start, "oarnodes")
oarnodesetting = partial(_start, "oarnodesetting")
oarnotify = partial(_start, "oarnotify")
oarprint = partial(_start, "oarprint")
oarsh = partial(_start, "oarsh")
oarcp = partial(_start, "oarcp")
oarproperty = partial(_start, "oarproperty")
oarpy = partial(_start, "oarpy")
oarqueue = partial(_start, "oarqueue")
oarremoveresource = partial(_start, "oarremoveresource")
oarresume = partial(_start, "oarresume")
oarstat = partial(_start, "oarstat")
oarsub = partial(_start, "oarsub")
oarwalltime = partial(_start, "oarwalltime")
