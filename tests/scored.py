"""Scores as runs leave them, and the report of them as tests read it."""

import csv
import hashlib
import io
from html.parser import HTMLParser

from transfer.report.files import build_report
from transfer.scores.score import Score, append_scores

#: By method, one per seed.
VALUES = {"random": [53.0, 54.0, 55.5], "colorization": [57.0, 58.5, 60.0]}


def sha256(text):
    return hashlib.sha256(text.encode()).hexdigest()


def score(method="colorization", seed=0, value=50.0, **changes):
    fields = {
        "method": method,
        "backbone": "alexnet",
        "backbone_sha256": sha256(f"{method} {changes.get('backbone_seed', seed)}"),
        "backbone_seed": seed,
        "recipe": sha256(method),
        "input_space": "lightness",
        "pretrained_on": None if method == "random" else "imagenette128",
        "stage": "linear-probe",
        "protocol": "splitbrain2017",
        "setting": "conv5",
        "metric": "top1",
        "value": value,
        "unit": "percent",
        "seed": seed,
        "processes": 1,
        "run": f"linear-probe-{method}-seed{seed}",
        "data": "imagenette128",
        "split": "train->val",
        "split_fingerprint": "b" * 64,
        "config": {"epochs": 2},
        "versions": {"torch": "2.15.0", "git_commit": None},
        "seconds": 12.0,
        "time": "2025-01-31T12:00:00+00:00",
    }
    return Score(**(fields | changes))


def three_seeds(**changes):
    return [score(m, s, v, **changes) for m, vs in VALUES.items() for s, v in enumerate(vs)]


def report(tmp_path, scores):
    append_scores(tmp_path / "run" / "results.jsonl", scores)
    paths = build_report([tmp_path], tmp_path / "report")
    rows = list(csv.DictReader(io.StringIO(paths.csv.read_text())))
    return paths.markdown.read_text(), rows, paths.html.read_text()


class Page(HTMLParser):
    """Collects tables as lists of rows of cell texts, every attribute, and unclosed tags."""

    def __init__(self, text):
        super().__init__()
        self.tables, self.attributes, self.tags, self._open, self._cell = [], [], [], [], None
        self.feed(text)

    def handle_starttag(self, tag, attrs):
        self.tags.append((tag, dict(attrs)))
        self.attributes += [(tag, *pair) for pair in attrs]
        if tag == "table":
            self.tables.append([])
        elif tag == "tr":
            self.tables[-1].append([])
        elif tag in ("td", "th"):
            self._cell = []
        elif tag == "small" and self._cell is not None:
            self._cell.append(" | ")

    def handle_endtag(self, tag):
        if tag in ("td", "th"):
            self.tables[-1][-1].append("".join(self._cell).replace("\xa0", " ").strip())
            self._cell = None

    def handle_data(self, data):
        if self._cell is not None:
            self._cell.append(data.strip("\n"))
