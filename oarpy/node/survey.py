"""What a machine has, as one line of JSON: sent over by ``oar_resources_init``, and run with python3 3.6 or later."""

import json
import os
import re
import sys
from typing import Dict, List, Tuple

CPUS = "/sys/devices/system/cpu"


def cores() -> List[Tuple[int, List[int]]]:
    """Each core: its processor, and the kernel's numbers of its threads."""
    found: Dict[Tuple[int, int], List[int]] = {}
    numbers = sorted(int(name[3:]) for name in os.listdir(CPUS) if re.match(r"cpu\d+$", name))
    for number in numbers:
        online = "%s/cpu%d/online" % (CPUS, number)
        # The first one often has no such file, for it cannot be switched off.
        if os.path.exists(online) and first_line(online) == "0":
            continue
        topology = "%s/cpu%d/topology" % (CPUS, number)
        package = as_number(first_line(topology + "/physical_package_id"), 0)
        core = as_number(first_line(topology + "/core_id"), number)
        found.setdefault((package, core), []).append(number)
    return [(package, threads) for (package, _), threads in sorted(found.items(), key=lambda item: item[1])]


def memory_mib() -> int:
    """All of its memory."""
    with open("/proc/meminfo", encoding="ascii") as file:
        for line in file:
            if line.startswith("MemTotal:"):
                return int(line.split()[1]) // 1024
    return 0


def first_line(path: str) -> str:
    """Of a file; nothing where there is none."""
    try:
        with open(path, encoding="ascii") as file:
            return file.readline().strip()
    except OSError:
        return ""


def as_number(text: str, otherwise: int) -> int:
    """The number in ``text``; the kernel says -1 where the firmware does not tell."""
    return int(text) if text.isdigit() else otherwise


if __name__ == "__main__":
    sys.stdout.write("\noar_resources_init " + json.dumps({"cores": cores(), "mem": memory_mib()}) + "\n")
