"""Imports point down only.

SQL belongs into ``database``, with one exception that this table does not show: what
the commands of users and administrators send stands in ``client``, on psycopg2 alone.
Importing SQLAlchemy takes longer than all that such a command does.
"""

from __future__ import annotations

import ast
import sys
from collections.abc import Iterator
from pathlib import Path

import pytest

import oarpy

ROOT = Path(oarpy.__file__).parent
BASE = {"errors", "model"}
#: Which parts of oarpy each part may import, besides itself.
MAY_IMPORT = {
    "errors": set(),
    "settings": BASE,
    "instance": BASE,
    "model": {"errors"},
    "automata": BASE,
    "scheduling": BASE,
    "simulation": BASE | {"scheduling"},
    "database": BASE | {"automata", "instance", "scheduling"},
    "ports": BASE,
    "drivers": BASE | {"instance", "node", "ports", "settings"},
    # Runs on nodes, where oarpy is not installed.
    "node": set(),
    "actions": BASE | {"automata", "database", "scheduling", "settings"},
    "modules": BASE
    | {"actions", "automata", "database", "drivers", "instance", "node", "ports", "scheduling", "settings"},
    "almighty": BASE | {"automata", "database", "drivers", "instance", "modules", "ports", "settings"},
    "client": BASE | {"instance", "node", "settings"},
    "commands": BASE
    | {
        "almighty",
        "automata",
        "client",
        "database",
        "drivers",
        "instance",
        "modules",
        "node",
        "scheduling",
        "settings",
        "simulation",
    },
}
#: What would make the same question get another answer the next time.
WORLDLY = {"sqlalchemy", "psycopg2", "time", "os", "logging", "random", "socket", "subprocess"}
PURE = {"model", "automata", "scheduling"}


def modules() -> Iterator[tuple[str, Path]]:
    """(part of oarpy, file); the package's own ``__init__`` belongs to no part."""
    for path in sorted(ROOT.rglob("*.py")):
        part = path.relative_to(ROOT).parts[0].removesuffix(".py")
        if part != "__init__":
            yield part, path


def imported(path: Path) -> Iterator[str]:
    """Every module that the file names in an import, those inside functions too."""
    for node in ast.walk(ast.parse(path.read_text())):
        if isinstance(node, ast.Import):
            yield from (alias.name for alias in node.names)
        elif isinstance(node, ast.ImportFrom) and node.module is not None:
            if node.module == "oarpy":
                yield from (f"oarpy.{alias.name}" for alias in node.names)
            else:
                yield node.module


@pytest.mark.parametrize(("part", "path"), list(modules()), ids=lambda value: str(getattr(value, "name", value)))
def test_a_module_imports_only_what_its_layer_may(part: str, path: Path) -> None:
    used = {name.split(".")[1] for name in imported(path) if name.startswith("oarpy.")} - {"__version__"}

    assert used - MAY_IMPORT[part] <= {part}


def test_every_layer_exists() -> None:
    assert set(MAY_IMPORT) - {part for part, _ in modules()} <= {"ports"}


@pytest.mark.parametrize("part", sorted(PURE))
def test_the_pure_layers_know_neither_the_clock_nor_the_world(part: str) -> None:
    used = {name.split(".")[0] for owner, path in modules() if owner == part for name in imported(path)}

    assert used & WORLDLY == set()


def test_a_node_needs_the_standard_library_only() -> None:
    own = {path.stem for part, path in modules() if part == "node"}
    for part, path in modules():
        if part == "node":
            assert {name.split(".")[0] for name in imported(path)} - own <= sys.stdlib_module_names, path


@pytest.mark.parametrize("path", [path for part, path in modules() if part == "node"], ids=lambda path: path.name)
def test_what_runs_on_nodes_is_read_by_python_3_6(path: Path) -> None:
    tree = ast.parse(path.read_text(), feature_version=(3, 6))

    assert "__future__" not in {node.module for node in ast.walk(tree) if isinstance(node, ast.ImportFrom)}


def test_no_module_of_oarexec_imports_itself_in_a_circle() -> None:
    """What python begins with is a life, and each of them needs a part of the modules only."""
    directory = ROOT / "node" / "oarexec"
    needs = {
        path.stem: set(imported(path)) & {other.stem for other in directory.glob("*.py")}
        for path in directory.glob("*.py")
    }

    done: set[str] = set()
    while found := {name for name in needs.keys() - done if needs[name] <= done}:
        done |= found

    assert done == needs.keys()


def test_commands_ask_and_wait_by_the_client_that_programs_import() -> None:
    own_ways = {"Request", "Wait", "Feed"}

    for part, path in modules():
        if part == "commands":
            called = {node.func for node in ast.walk(ast.parse(path.read_text())) if isinstance(node, ast.Call)}
            names = {func.id for func in called if isinstance(func, ast.Name)}
            assert names & own_ways == set(), path


def test_a_forbidden_import_would_be_seen(tmp_path: Path) -> None:
    sample = tmp_path / "sample.py"
    sample.write_text("def late():\n    from oarpy import database\n    import time\n")

    assert list(imported(sample)) == ["oarpy.database", "time"]
