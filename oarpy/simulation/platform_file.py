"""A machine described in TOML::

[[hosts]]
name = "c"        # c1 to c16
count = 16
cores = 32
gpu_model = "A100"   # any other name is a property of these cores
"""

from __future__ import annotations

import re
import tomllib
from typing import Any, TypeGuard

from oarpy.errors import RequestRefused
from oarpy.model.wording import excerpt
from oarpy.scheduling.snapshot import Topology
from oarpy.simulation.workload import MOST_CORES, machine

_OWN = frozenset({"name", "count", "cores"})
#: What the simulation says of cores itself.
_GIVEN = frozenset({"network_address", "host", "core", "resource_id", "type"})


def read(path: str) -> Topology:
    """The machine that a file describes.

    Raises:
        RequestRefused: the file cannot be read; the sentence says what is wrong with it.
    """
    try:
        with open(path, "rb") as file:
            described = tomllib.load(file)
    except OSError as error:
        raise RequestRefused(f"{path} cannot be read: {error.strerror}") from error
    except (tomllib.TOMLDecodeError, UnicodeDecodeError) as error:
        raise RequestRefused(f"{path} is not TOML: {error}") from error
    hosts = described.pop("hosts", None)
    if described or not isinstance(hosts, list) or not hosts or not all(isinstance(one, dict) for one in hosts):
        raise RequestRefused(f"{path} must have one or more tables [[hosts]] and nothing else")
    return _machine(path, hosts)


def _machine(path: str, kinds: list[dict[str, Any]]) -> Topology:
    names = list(dict.fromkeys(name for kind in kinds for name in kind if name not in _OWN))
    if given := _GIVEN.intersection(names):
        raise RequestRefused(f"{path}: {min(given)} comes from the hosts and their cores, and is not to be given")
    columns: dict[str, list[object]] = {name: [] for name in ("network_address", "host", "core", *names)}
    for kind in kinds:
        name, count, cores = kind.get("name"), kind.get("count", 1), kind.get("cores", 0)
        if not isinstance(name, str) or not _is_number(count) or not _is_number(cores):
            raise RequestRefused(f"{path}: a table [[hosts]] needs a name, a number of cores, and perhaps a count")
        if len(columns["core"]) + count * cores > MOST_CORES:
            raise RequestRefused(f"{path}: more than {MOST_CORES} cores")
        for property_ in names:
            value = kind.get(property_)
            if not re.fullmatch("[a-z_][a-z0-9_]*", property_) or not isinstance(value, (str, int, float, type(None))):
                raise RequestRefused(f"{path}: {excerpt(property_)} is no property with a number or a text")
            columns[property_] += [value] * (count * cores)
        for number in range(1, count + 1):
            host = f"{name}{number}" if count > 1 else name
            columns["network_address"] += [host] * cores
            columns["host"] += [host] * cores
            columns["core"] += range(len(columns["core"]) + 1, len(columns["core"]) + cores + 1)
    return machine(columns)


def _is_number(value: object) -> TypeGuard[int]:
    return isinstance(value, int) and not isinstance(value, bool) and value > 0
