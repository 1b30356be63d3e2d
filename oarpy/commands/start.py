"""Where the commands begin: a ^C ends them without a word until they can say one.

Python answers a ^C with a traceback.  Importing a command takes longer than anything
else that most of them do, and nothing has been asked of the server by then, so until
``session.run`` takes over the signal simply ends the process.
"""

from __future__ import annotations

import signal
import sys
from functools import partial
from importlib import import_module


def _start(name: str) -> None:
    if name == "oarpy" and sys.argv[1:2] == ["complete"]:
        # Asked at every press of a key: the rest of oarpy is not needed for it.
        raise SystemExit(import_module("oarpy.commands.completion").main(sys.argv[2:]))
    # What a script leaves in the background ignores the signal, and goes on doing so.
    if signal.getsignal(signal.SIGINT) is signal.default_int_handler:
        signal.signal(signal.SIGINT, signal.SIG_DFL)
    import_module(f"oarpy.commands.{name}").main()


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
