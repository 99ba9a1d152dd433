"""The whole story from Python: render toy data, pretrain, score by four stages, make the table.

`tools/quickstart.sh` runs it. What is finished is not done again.
"""

import os
import sys
import time
from pathlib import Path

from pretext.command_line import run_command
from pretext.config import load_config
from pretext.data.toyworld import ToyworldSizes, render_toyworld
from pretext.training.engine import pretrain
from transfer.protocols.table import load_stage_config
from transfer.report.files import build_report
from transfer.report.views import console_table
from transfer.run import score
from transfer.scores.score import collect_scores, latest_scores

ROOT = Path("work_dirs/quickstart")
#: A part of the toy world, at 64 pixels: what two cores manage in minutes, whether they multiply in bfloat16 or not.
SCALE = 0.4
SMALL = ["view.size=64", "view.resize=64"]
#: Overrides of each stage's settings.
STAGES = {
    "linear-probe": [*SMALL, "layers=all", "evaluations=1"],
    "voc-classification": [*SMALL, "epochs=6"],
    "voc-detection": ["epochs=1"],
    "voc-segmentation": ["steps=150"],
}


def main() -> None:
    """Do all of it; print the table and the path of the page."""
    began = time.monotonic()
    toyworld = ROOT / "toyworld"
    render_toyworld(toyworld, sizes=ToyworldSizes.scaled(SCALE))
    config = load_config("pretext", "colorization", "toyworld", SMALL)
    colorization = pretrain(config, work_dir=ROOT / "colorization_kmeans", data=str(toyworld / "unlabeled"))
    seeds = [int(seed) for seed in os.environ.get("SEEDS", "0 1 2").split()]
    # One pass for all stages: every seed for the probe, the first for the others, which train longer.
    runs = [("linear-probe", seed) for seed in seeds] + [(stage, seeds[0]) for stage in list(STAGES)[1:]]
    for stage, seed in runs:
        data = toyworld / ("labeled" if stage == "linear-probe" else "VOCdevkit")
        for name, backbone in (("colorization_kmeans", colorization), ("random", "random:alexnet")):
            done = ROOT / "done" / f"{stage}-{name}-seed{seed}"
            if done.is_file():
                continue
            print(f"== {stage} of {name}, seed {seed} ({time.monotonic() - began:.0f} s)", flush=True)
            settings = load_stage_config(stage, "toyworld", STAGES[stage])
            score(stage, backbone, settings=settings, data=data, seed=seed, work_dir=ROOT / stage, show=print)
            done.parent.mkdir(exist_ok=True)
            done.touch()
    print(console_table(latest_scores(collect_scores(ROOT))))
    print(build_report([ROOT], ROOT / "report").html)
    print(f"done in {time.monotonic() - began:.0f} s after the set-up")


if __name__ == "__main__":
    sys.exit(run_command(main))
