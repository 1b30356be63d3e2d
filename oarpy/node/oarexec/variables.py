"""What a job finds in its environment."""

import os
from typing import Dict, Optional

from .accounts import Account
from .entries import Entry
from .processes import MARK
from .protocol import Json
from .site import Site

# How programs are told which GPUs to use where nothing keeps them from the others.
VISIBLE = ("CUDA_VISIBLE_DEVICES", "ROCR_VISIBLE_DEVICES")


def variables(site: Site, entry: Entry, given: Json, visible: Optional[str], *, access: bool) -> Dict[str, str]:
    """What a job is given, and what names what is made for it here."""
    found = dict(given)
    nodes = site.path(entry, "nodes")
    for name in ("OAR_NODEFILE", "OAR_NODE_FILE", "OAR_FILE_NODES", "OAR_RESOURCE_FILE"):
        found[name] = nodes
    found["OAR_RESOURCE_PROPERTIES_FILE"] = site.path(entry, "resources")
    found[MARK] = site.containment.mark(entry)
    # Where the others are denied the job's own are all there is, and the libraries count them from 0.
    if visible is not None and "devices" not in site.containment.enforces:
        found.update(dict.fromkeys(VISIBLE, visible))
    if access:
        found["OARSH_ACCESS"] = site.path(entry, "oarsh/access")
        found["OAR_JOB_KEY_FILE"] = site.path(entry, "oarsh/key")
    return found


def search_path(site: Site, account: Account) -> str:
    return "%s:%s" % (os.path.join(site.directory, "bin"), account.environment["PATH"])
