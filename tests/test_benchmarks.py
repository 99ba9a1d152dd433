"""The benchmarks run; with so few rounds their numbers mean nothing."""

import importlib.util
import sys
from pathlib import Path

import pytest

FOLDER = Path(__file__).parents[1] / "benchmarks"
FEWER = {"ROUNDS": 1, "STEPS": 1, "RUNS": 1, "WIDTH": 1 / 16, "LARGEST": 64, "MAP_SIDE": 64}


@pytest.mark.slow
@pytest.mark.parametrize("path", sorted(FOLDER.glob("*.py")), ids=lambda path: path.stem)
def test_a_benchmark_measures_and_prints_its_verdict(path, monkeypatch, capsys):
    spec = importlib.util.spec_from_file_location(path.stem, path)
    benchmark = importlib.util.module_from_spec(spec)
    monkeypatch.setitem(sys.modules, path.stem, benchmark)
    spec.loader.exec_module(benchmark)
    for name in FEWER.keys() & vars(benchmark).keys():
        monkeypatch.setattr(benchmark, name, FEWER[name])
    monkeypatch.setattr(sys, "argv", [str(path)])
    missed = benchmark.main()
    assert missed in (0, 1)
    last = capsys.readouterr().out.splitlines()[-1]
    assert last.startswith(("ratio", "target"))
