"""Imports point one way: no circle anywhere, and the device's runtime does not know the gateway that stands on it."""

from __future__ import annotations

import ast
from collections.abc import Iterator
from pathlib import Path

from device import ROOT

FOLDERS = {"edgekd": "edgekd", "export": "edgekd.export", "runtime": "edgekd.runtime"}  # and what they are installed as
GATEWAY = "edgekd.runtime.gateway"


def test_the_runtime_does_not_import_the_gateway() -> None:
    found = [
        f"{path.relative_to(ROOT)} imports {name}"
        for module, path in modules().items()
        if within(module, "edgekd.runtime") and not within(module, GATEWAY)
        for node in ast.walk(ast.parse(path.read_text()))
        for name in imported(node)
        if within(name, GATEWAY)
    ]
    assert not found


def test_there_is_no_circle_of_imports() -> None:
    circles = [" -> ".join(circle) for circle in circles_in(imports())]
    assert not circles, "\n".join(circles)


def test_the_imports_are_those_that_run() -> None:
    graph = imports()
    assert "edgekd.runtime.manifest" in graph["edgekd.runtime.detector"]
    assert "edgekd.runtime" in graph["edgekd.inspection"]  # a package of another module's runs, too
    assert "step_models" in graph["step_tflite"] and "numpy" not in graph["step_tflite"]
    assert graph["edgekd.runtime"] == {"edgekd.runtime.errors"}  # only type checkers see what else it imports


def test_a_circle_is_seen() -> None:
    graph = {"a": {"b"}, "b": {"c"}, "c": {"b", "d"}, "d": set(), "e": {"a"}}
    assert circles_in(graph) == [["b", "c", "b"]]


def within(module: str, package: str) -> bool:
    return module == package or module.startswith(f"{package}.")


def modules() -> dict[str, Path]:
    """Every module of the tree by the name under which it is imported; tests and their helpers have bare names."""
    found = {}
    for folder in ("edgekd", "export", "runtime", "bench", "examples", "tests"):
        for path in (ROOT / folder).rglob("*.py"):
            inside = path.relative_to(ROOT).with_suffix("").parts
            if inside[:2] in (("edgekd", "export"), ("edgekd", "runtime")):
                continue  # the symlinks
            name = ".".join([FOLDERS.get(folder, folder), *inside[1:]]).removesuffix(".__init__")
            found[inside[-1] if folder == "tests" else name] = path
    return found


def imports() -> dict[str, set[str]]:
    """What each module imports while it is imported itself."""
    tree = modules()
    graph = {}
    for module, path in tree.items():
        names = {name for node in at_import(ast.parse(path.read_text()).body) for name in imported(node)}
        graph[module] = {found for name in names for found in run_for(name, module, tree)} - {module}
    return graph


def at_import(body: list[ast.stmt]) -> Iterator[ast.stmt]:
    """The statements that importing runs: none of functions, none for type checkers alone."""
    for node in body:
        yield node
        if isinstance(node, (ast.FunctionDef, ast.AsyncFunctionDef)):
            continue
        if isinstance(node, ast.If) and ast.unparse(node.test).endswith("TYPE_CHECKING"):
            yield from at_import(node.orelse)
            continue
        for inner in ("body", "orelse", "finalbody"):
            yield from at_import(getattr(node, inner, []))
        for handler in getattr(node, "handlers", []):
            yield from at_import(handler.body)


def imported(node: ast.AST) -> list[str]:
    """The dotted names in an import: for `from a import b` that is a.b, whether b is a module or not."""
    if isinstance(node, ast.Import):
        return [alias.name for alias in node.names]
    if isinstance(node, ast.ImportFrom):
        assert node.level == 0, "the tree has no relative imports"
        return [f"{node.module}.{alias.name}" for alias in node.names]
    return []


def run_for(name: str, module: str, tree: dict[str, Path]) -> Iterator[str]:
    """The modules that run for an import of `name` in `module`: its own, and packages that `module` is not in."""
    home = name if name in tree else name.rpartition(".")[0]
    if home in tree:
        yield home
    parts = home.split(".")
    for package in (".".join(parts[:end]) for end in range(1, len(parts))):
        if package in tree and not within(module, package):
            yield package


def circles_in(graph: dict[str, set[str]]) -> list[list[str]]:
    """A shortest circle through each module that is in one and in none of those before."""
    circles: list[list[str]] = []
    for module in sorted(graph):
        if any(module in circle for circle in circles):
            continue
        ways, seen = [[module]], {module}
        for way in ways:  # grows
            if module in graph[way[-1]]:
                circles.append([*way, module])
                break
            new = sorted(graph[way[-1]] - seen)
            seen.update(new)
            ways += [[*way, other] for other in new]
    return circles
