"""Imports run one way: transfer -> pretext, and inside pretext methods -> backbones, color, data."""

import ast
from pathlib import Path

import pytest

ROOT = Path(__file__).resolve().parent.parent
MODULES = sorted(
    path.relative_to(ROOT) for package in ("pretext", "transfer") for path in (ROOT / package).rglob("*.py")
)

#: What a module must not import, by the prefix of its name.
FORBIDDEN = {
    "pretext": ["transfer"],
    "pretext.color": ["pretext.backbones", "pretext.data", "pretext.methods", "pretext.training.engine"],
    "pretext.data": ["pretext.backbones", "pretext.color", "pretext.methods", "pretext.training.engine"],
    "pretext.backbones": ["pretext.methods", "pretext.data", "pretext.training.engine"],
    "pretext.methods": ["pretext.training.engine", "pretext.command_line"],
}


def module_name(path: Path) -> str:
    return ".".join(path.with_suffix("").parts).removesuffix(".__init__")


def imports(path: Path) -> set[str]:
    names = set()
    for node in ast.walk(ast.parse((ROOT / path).read_text())):
        if isinstance(node, ast.Import):
            names |= {alias.name for alias in node.names}
        elif isinstance(node, ast.ImportFrom) and node.module:
            names |= {f"{node.module}.{alias.name}" for alias in node.names}
    return names


def is_below(name: str, package: str) -> bool:
    return name == package or name.startswith(f"{package}.")


@pytest.mark.parametrize("path", MODULES, ids=str)
def test_imports_run_one_way(path):
    for package, forbidden in FORBIDDEN.items():
        if is_below(module_name(path), package):
            wrong = [n for n in imports(path) for f in forbidden if is_below(n, f)]
            assert not wrong, f"{path} imports {wrong}"


def test_methods_do_not_import_each_other():
    methods = [p for p in MODULES if p.parent.name == "methods" and p.stem not in ("__init__", "base")]
    for path in methods:
        others = [module_name(other) for other in methods if other != path]
        assert not [n for n in imports(path) for other in others if is_below(n, other)]


def test_only_the_engine_imports_mmengines_runner():
    # Stages build the loops; one module tames the class that runs them.
    users = [str(path) for path in MODULES if "mmengine.runner.Runner" in imports(path)]
    assert users == ["pretext/training/runner.py"]


def test_no_module_is_a_drawer():
    assert not [path for path in MODULES if path.stem in ("utils", "misc", "common", "helpers")]


def test_methods_table_and_files_agree():
    from pretext.methods import METHODS

    files = {p.stem for p in MODULES if p.parent.name == "methods"} - {"__init__", "base"}
    assert files == set(METHODS)
    assert all(method.name == name for name, method in METHODS.items())
