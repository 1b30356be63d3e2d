"""What a host is made of, as one line of JSON: cores, memory, GPUs.

Sent to the host and run there by its python3 (3.6 or later); standard library only.
``cores``: [socket, NUMA node, [threads]] of each core that this process may use;
``gpus``: [device, NUMA node or null]; ``memory_mib``.
"""

import json
import os
import re
import sys
from typing import Any, Dict, List, Optional, Tuple


def text(path: str) -> str:
    try:
        with open(path) as file:
            return file.read().strip()
    except OSError:
        return ""


def number(path: str, otherwise: int) -> int:
    found = text(path)
    # The kernel says -1 where the firmware does not tell.
    return int(found) if found.isdigit() else otherwise


def cores(root: str) -> List[Any]:
    nodes: Dict[int, int] = {}
    for name in entries(root + "/devices/system/node"):
        if re.match(r"node\d+\Z", name):
            for entry in entries(root + "/devices/system/node/" + name):
                if re.match(r"cpu\d+\Z", entry):
                    nodes[int(entry[3:])] = int(name[4:])
    found: Dict[Tuple[int, int], List[Any]] = {}
    for cpu in sorted(os.sched_getaffinity(0)):
        topology = "%s/devices/system/cpu/cpu%d/topology/" % (root, cpu)
        socket = number(topology + "physical_package_id", 0)
        # Without it (some containers hide it) every processor counts as a core.
        key = (socket, number(topology + "core_id", cpu))
        found.setdefault(key, [socket, nodes.get(cpu, 0), []])[2].append(cpu)
    return list(found.values())


def gpus(proc: str, root: str) -> List[Any]:
    found: List[Any] = []
    for slot in entries(proc + "/driver/nvidia/gpus"):
        minor = re.search(r"^Device Minor:\s*(\d+)", text("%s/driver/nvidia/gpus/%s/information" % (proc, slot)), re.M)
        node = text("%s/bus/pci/devices/%s/numa_node" % (root, slot.lower()))
        found.append([int(minor.group(1)) if minor else len(found), int(node) if node.isdigit() else None])
    if found:
        return sorted(found)
    for card in entries(root + "/class/drm"):
        device = "%s/class/drm/%s/device" % (root, card)
        # AMD's, where their compute driver runs; other cards show pictures.
        if re.match(r"renderD\d+\Z", card) and text(device + "/vendor") == "0x1002" and os.path.exists("/dev/kfd"):
            node = text(device + "/numa_node")
            found.append([int(card[len("renderD") :]) - 128, int(node) if node.isdigit() else None])
    return sorted(found)


def entries(path: str) -> List[str]:
    try:
        return sorted(os.listdir(path))
    except OSError:
        return []


def memory_mib(proc: str) -> Optional[int]:
    found = re.search(r"^MemTotal: +(\d+) kB", text(proc + "/meminfo"), re.M)
    return int(found.group(1)) >> 10 if found else None


def description(proc: str = "/proc", root: str = "/sys") -> Dict[str, Any]:
    return {"cores": cores(root), "gpus": gpus(proc, root), "memory_mib": memory_mib(proc)}


if __name__ == "__main__":
    json.dump(description(), sys.stdout)
