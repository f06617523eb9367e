"""Imports go down only, there is no circle, and no import hides behind TYPE_CHECKING."""

import ast
from graphlib import TopologicalSorter

from tests.support.tiny import ROOT

PACKAGE = ROOT / "distilbart_mnli"
GROUND = {"errors", "files", "processes", "public_text", "yaml_text", "command_line", "hub_client"}
# What the modules of a folder may import from, beside their own folder and the ground.
BELOW = {
    "options": set(),
    "data": {"options"},
    "model": {"options", "data"},
    "export": {"options", "data", "model"},
    "publish": {"options", "data", "model", "export"},
    "train": {"options", "data", "model", "export", "publish"},
    "zero_shot": {"options", "data", "model", "export"},
    "compare": {"options", "data", "model", "export", "publish", "zero_shot"},
}


def modules() -> dict[str, ast.Module]:
    """Dotted name below the package -> its syntax tree."""
    return {
        ".".join(path.relative_to(PACKAGE).with_suffix("").parts): ast.parse(path.read_text(encoding="utf-8"))
        for path in PACKAGE.rglob("*.py")
        if path.name != "__init__.py"
    }


def imports() -> dict[str, set[str]]:
    """Module -> the modules of the package that it imports, anywhere in it."""
    trees = modules()
    found: dict[str, set[str]] = {name: set() for name in trees}
    for name, tree in trees.items():
        for node in ast.walk(tree):
            if isinstance(node, ast.Import):
                found[name] |= {alias.name for alias in node.names}
            elif isinstance(node, ast.ImportFrom) and node.module:
                found[name] |= {node.module} | {f"{node.module}.{alias.name}" for alias in node.names}
    prefix = "distilbart_mnli."
    return {name: {other.removeprefix(prefix) for other in others} & set(trees) for name, others in found.items()}


def test_the_ground_is_what_this_test_calls_so():
    assert {name for name in modules() if "." not in name} == GROUND
    assert {path.name for path in PACKAGE.iterdir() if (path / "__init__.py").exists()} == set(BELOW)


def test_imports_go_down_only():
    for name, others in imports().items():
        folder = name.rpartition(".")[0]
        allowed = {folder, ""} | BELOW.get(folder, set())
        up = {other for other in others if other.rpartition(".")[0] not in allowed}
        assert not up, f"{name} imports {sorted(up)}"


def test_no_module_imports_itself_through_others():
    TopologicalSorter(imports()).prepare()  # raises CycleError, which names the circle


def test_no_import_is_for_the_type_checker_alone():
    for name, tree in modules().items():
        names = {node.id for node in ast.walk(tree) if isinstance(node, ast.Name)}
        assert "TYPE_CHECKING" not in names, name
