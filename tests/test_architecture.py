"""The house stands as docs/architecture.md draws it: the root of a package is the ground, each wing a folder."""

import ast
import shutil
from pathlib import Path

import pytest

ROOT = Path(__file__).resolve().parent.parent

#: What the files of a wing may import beside their own wing and the grounds `pretext` and (in transfer) `transfer`.
WINGS = {
    "pretext": (),
    "pretext.color": (),
    "pretext.data": (),
    "pretext.backbones": ("pretext.color",),
    "pretext.colorize": ("pretext.backbones", "pretext.color", "pretext.data"),
    "pretext.methods": ("pretext.backbones", "pretext.color", "pretext.colorize", "pretext.data"),
    "pretext.training": ("pretext.backbones", "pretext.colorize", "pretext.data", "pretext.methods"),
    "pretext.commands": (
        *("pretext.backbones", "pretext.color", "pretext.colorize", "pretext.data", "pretext.methods"),
        "pretext.training",
    ),
    # stage.py is ground; job.py, judged.py and run.py stand on data and scores.
    "transfer": (
        "pretext.backbones",
        "pretext.colorize",
        "pretext.data",
        "transfer.data",
        "transfer.protocols",
        "transfer.scores",
    ),
    "transfer.protocols": ("pretext.colorize", "pretext.training"),
    "transfer.data": ("pretext.data",),
    "transfer.scores": ("transfer.data", "transfer.protocols"),
    "transfer.networks": (
        *("pretext.backbones", "pretext.color", "pretext.colorize", "pretext.data", "transfer.data"),
        *("transfer.protocols", "transfer.scores"),
    ),
    "transfer.training": ("pretext.data", "pretext.training", "transfer.protocols"),
    "transfer.stages": (
        *("pretext.backbones", "pretext.color", "pretext.colorize", "pretext.data", "pretext.training"),
        *("transfer.data", "transfer.networks", "transfer.protocols", "transfer.scores", "transfer.training"),
    ),
    "transfer.report": (
        *("pretext.color", "pretext.colorize", "pretext.data", "transfer.data", "transfer.networks"),
        *("transfer.protocols", "transfer.scores"),
    ),
    "transfer.compare": (
        *("pretext.backbones", "pretext.colorize", "pretext.data", "pretext.methods", "pretext.training"),
        *("transfer.protocols", "transfer.report", "transfer.scores"),
    ),
    "transfer.study": ("pretext.color", "pretext.data", "transfer.data", "transfer.scores"),
    "transfer.commands": (
        *("pretext.backbones", "pretext.colorize", "pretext.data", "transfer.compare", "transfer.protocols"),
        *("transfer.report", "transfer.scores", "transfer.study"),
    ),
}


def modules(root):
    """The files of both packages by their dotted names."""
    paths = [path for package in ("pretext", "transfer") for path in (root / package).rglob("*.py")]
    names = {path: ".".join(path.relative_to(root).with_suffix("").parts) for path in paths}
    return {name.removesuffix(".__init__"): path for path, name in names.items()}


def imports(path):
    """Dotted names that a file imports anywhere, except for its types alone."""
    names, nodes = set(), [ast.parse(path.read_text())]
    for node in nodes:
        if isinstance(node, ast.If) and ast.unparse(node.test) == "TYPE_CHECKING":
            continue
        if isinstance(node, ast.Import):
            names |= {alias.name for alias in node.names}
        elif isinstance(node, ast.ImportFrom) and node.module:
            names |= {f"{node.module}.{alias.name}" for alias in node.names}
        nodes += ast.iter_child_nodes(node)
    return names


def graph(root):
    """For each file, by its dotted name, the files that it imports."""
    files = modules(root)
    found = {}
    for name, path in files.items():
        imported = {n if n in files else n.rpartition(".")[0] for n in imports(path)}
        found[name] = (imported & files.keys()) - {name}
    return found


def wing(name):
    """The wing of a file: the first folder below its package, or the package itself."""
    return max((wing for wing in WINGS if name == wing or name.startswith(f"{wing}.")), key=len)


def violations(found):
    """What breaks the rule: imports of a wing from where it must not be, and methods that import each other."""
    wrong = []
    for name, imported in found.items():
        here = wing(name)
        for other in imported:
            there = wing(other)
            grounds = ("pretext", name.split(".")[0])
            if there != here and there not in (*grounds, *WINGS[here]):
                wrong.append(f"{name} imports {other}")
            if is_method(name) and is_method(other):
                wrong.append(f"{name} imports the method {other}")
    return wrong


def is_method(name):
    package, _, leaf = name.rpartition(".")
    return package == "pretext.methods" and leaf not in ("base", "parts")


def circles(found):
    """Files from which imports lead back to themselves."""

    def reached(start):
        seen, ahead = set(), list(found[start])
        while ahead:
            name = ahead.pop()
            if name not in seen:
                seen.add(name)
                ahead += found[name]
        return seen

    return [name for name in found if name in reached(name)]


def test_every_wing_imports_only_what_it_may():
    assert not violations(graph(ROOT))


def test_no_imports_go_in_circles():
    assert not circles(graph(ROOT))


@pytest.mark.parametrize(
    ("path", "line", "names"),
    [
        ("pretext/errors.py", "from pretext.data.photos import Photos", ["pretext.errors"]),
        ("pretext/color/lab.py", "import transfer.stage", ["pretext.color.lab"]),
        ("pretext/methods/rotation.py", "from pretext.methods.jigsaw import Jigsaw", ["rotation", "jigsaw"]),
        ("transfer/scores/metrics.py", "from transfer.stages import svm", ["transfer.scores.metrics"]),
    ],
)
def test_a_planted_violation_is_found(tmp_path, path, line, names):
    for package in ("pretext", "transfer"):
        shutil.copytree(ROOT / package, tmp_path / package, ignore=shutil.ignore_patterns("__pycache__"))
    assert not violations(graph(tmp_path))
    planted = tmp_path / path
    planted.write_text(f"{planted.read_text()}\n\ndef planted():\n    {line}\n")
    (found,) = violations(graph(tmp_path))
    assert all(name in found for name in names)


def test_a_planted_circle_is_found(tmp_path):
    for package in ("pretext", "transfer"):
        shutil.copytree(ROOT / package, tmp_path / package, ignore=shutil.ignore_patterns("__pycache__"))
    planted = tmp_path / "pretext" / "color" / "lab.py"
    planted.write_text(f"{planted.read_text()}\nfrom pretext.color import decode\n")
    other = tmp_path / "pretext" / "color" / "decode.py"
    other.write_text(f"{other.read_text()}\nfrom pretext.color import lab\n")
    assert {"pretext.color.lab", "pretext.color.decode"} <= set(circles(graph(tmp_path)))


def test_every_folder_of_a_package_is_a_wing_or_in_one():
    folders = {p.parent for p in modules(ROOT).values()}
    below = {".".join(folder.relative_to(ROOT).parts[:2]) for folder in folders}
    assert below <= set(WINGS)


def test_only_one_module_imports_mmengines_runner():
    # Stages build the loops; one module tames the class that runs them.
    users = [name for name, path in modules(ROOT).items() if "mmengine.runner.Runner" in imports(path)]
    assert users == ["pretext.training.runner"]


def test_no_module_is_a_drawer():
    assert not [p for p in modules(ROOT).values() if p.stem in ("utils", "misc", "common", "helpers")]


def test_methods_table_and_files_agree():
    from pretext.methods import METHODS

    files = {name.rpartition(".")[2] for name in modules(ROOT) if is_method(name)}
    assert files == set(METHODS), "files of pretext/methods and the table METHODS"
    assert {name: method.name for name, method in METHODS.items()} == {name: name for name in METHODS}
