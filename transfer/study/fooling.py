"""How often people took the true photo for the fake: rates with intervals, score lines, and a table beside the paper's.

Source: Zhang, Isola, Efros, "Colorful Image Colorization", ECCV 2016, section 3.1 and table 1 ("labeled real").

Differences from the paper: participants who miss more than a quarter of the obvious fakes, or stop before the end, are
left out; the paper says that 87 % of its obvious fakes were found, and of nobody that was left out.
"""

import hashlib
import json
from collections import defaultdict
from collections.abc import Sequence
from dataclasses import asdict, dataclass, replace
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from pretext.errors import InputError
from pretext.files import write_whole
from pretext.versions import versions
from transfer.data.identity import names_fingerprint
from transfer.scores.published import Published, published
from transfer.scores.score import RESULTS_NAME, Score, append_scores, utc_now
from transfer.study.store import Answered
from transfer.study.study import PAPER, Study, StudySettings

STAGE = "perceptual-study"
#: Share of the obvious fakes among a participant's test pairs that must be found.
PASS_SHARE = 0.75
#: Samples of the bootstrap.
RESAMPLES = 10_000
#: Where the paper's numbers are in ``published.csv``.
PUBLISHED = ("Colorization ImageNet ctest10k", "labeled real %")


@dataclass(frozen=True)
class Kept:
    """The answers that count.

    Attributes:
        answers: Those to the test pairs of the participants who are kept, without the obvious fakes.
        participants: Numbers of these participants.
        unfinished: Numbers of those left out because they stopped before the end.
        inattentive: Numbers of those left out because they missed too many obvious fakes.
        vigilance: Share of obvious fakes that were found by all who finished; None if there were none.
    """

    answers: tuple[Answered, ...]
    participants: tuple[int, ...]
    unfinished: tuple[int, ...]
    inattentive: tuple[int, ...]
    vigilance: float | None


@dataclass(frozen=True)
class Fooling:
    """How often one system fooled people, in percent.

    Attributes:
        system: Its name.
        rate: Share of pairs in which the true photo was taken for the fake.
        low: 2.5 % bound.
        high: 97.5 % bound.
        participants: How many judged it.
        pairs: How many pairs they judged.
    """

    system: str
    rate: float
    low: float
    high: float
    participants: int
    pairs: int


def keep(answers: Sequence[Answered], pairs: dict[int, int], pass_share: float = PASS_SHARE) -> Kept:
    """Leave out who did not finish, and who found less than a share of the obvious fakes among the test pairs.

    Args:
        answers: All answers.
        pairs: How many pairs each participant has, by number.
        pass_share: The share that must be found, 0 to 1.
    """
    own: dict[int, list[Answered]] = {number: [] for number in pairs}
    for answer in answers:
        own[answer.participant].append(answer)
    kept: list[Answered] = []
    sorted_out: dict[str, list[int]] = {"participants": [], "unfinished": [], "inattentive": []}
    found: list[bool] = []
    for number, given in own.items():
        tests = [answer for answer in given if answer.trial.part == "test"]
        caught = [answer.is_right for answer in tests if answer.trial.system is None]
        if len(given) < pairs[number]:
            sorted_out["unfinished"].append(number)
            continue
        found += caught
        if sum(caught) < pass_share * len(caught):
            sorted_out["inattentive"].append(number)
        else:
            sorted_out["participants"].append(number)
            kept += [answer for answer in tests if answer.trial.system is not None]
    groups = {name: tuple(numbers) for name, numbers in sorted_out.items()}
    return Kept(tuple(kept), **groups, vigilance=sum(found) / len(found) if found else None)


def bootstrap(
    fooled: NDArray[np.int64], pairs: NDArray[np.int64], seed: int, resamples: int = RESAMPLES
) -> NDArray[np.float64]:
    """Draw participants with replacement, and for each the pairs again with replacement.

    How many of n pairs drawn from a participant's are among the k that fooled is binomial: of n with k / n.

    Args:
        fooled: For each participant, how many pairs fooled.
        pairs: For each participant, how many pairs there were, from 1 up.
        seed: Seed of the draws.
        resamples: How many samples are drawn.

    Returns:
        The share that fooled in each sample, (resamples,).
    """
    rng = np.random.default_rng(seed)
    drawn = rng.integers(len(pairs), size=(resamples, len(pairs)))
    counts = rng.binomial(pairs[drawn], (fooled / pairs)[drawn])
    return np.asarray(counts.sum(axis=1) / pairs[drawn].sum(axis=1), dtype=np.float64)


def fooling_rates(answers: Sequence[Answered], systems: Sequence[str], seed: int) -> list[Fooling]:
    """Return the rate of each system that has answers, in the order of ``systems``."""
    counts: dict[str, dict[int, list[bool]]] = defaultdict(lambda: defaultdict(list))
    for answer in answers:
        counts[str(answer.trial.system)][answer.participant].append(not answer.is_right)
    rates = []
    for system in filter(counts.__contains__, systems):
        by_participant = counts[system].values()
        fooled = np.array([sum(one) for one in by_participant])
        pairs = np.array([len(one) for one in by_participant])
        low, high = np.percentile(bootstrap(fooled, pairs, seed), (2.5, 97.5))
        rate = fooled.sum() / pairs.sum()
        rates.append(
            Fooling(
                system, 100 * float(rate), 100 * float(low), 100 * float(high), len(pairs), int(pairs.sum())
            )
        )
    return rates


def study_scores(
    study: Study,
    answers: Sequence[Answered],
    pairs: dict[int, int],
    work_dir: Path,
    pass_share: float = PASS_SHARE,
) -> tuple[Kept, list[Fooling]]:
    """Compute the rates, and append them to ``results.jsonl`` in ``work_dir``.

    Beside it, ``runs/<run>/report.json`` says who counted.

    Args:
        study: The study.
        answers: All answers.
        pairs: How many pairs each participant has, by number.
        work_dir: Where the scores go.
        pass_share: The share of obvious fakes that must be found, 0 to 1.

    Raises:
        InputError: Nobody is left whose answers count; or the scores cannot be written.
    """
    kept = keep(answers, pairs, pass_share)
    if not kept.answers:
        raise InputError(
            "no answers to count",
            received=f"{len(kept.unfinished)} unfinished and {len(kept.inattentive)} inattentive of"
            f" {len(pairs)} participants",
            allowed="participants count when they finish and find the obvious fakes",
        )
    names = [system.name for system in study.systems]
    rates = fooling_rates(kept.answers, names, study.settings.seed)
    run = f"{STAGE}-{study.id[:8]}"
    said = asdict(kept) | {
        "answers": len(kept.answers),
        "pass_share": pass_share,
        "rates": [asdict(r) for r in rates],
    }
    write_whole(work_dir / "runs" / run / "report.json", json.dumps(said, indent=2) + "\n")
    append_scores(work_dir / RESULTS_NAME, _scores(study, rates, pass_share, run))
    return kept, rates


def summary(kept: Kept, rates: Sequence[Fooling], pass_share: float) -> str:
    """Return the rates beside the paper's, and who counts, as lines of text."""
    measured = [
        (
            rate.system,
            f"{rate.rate:.1f}",
            f"{rate.low:.1f} to {rate.high:.1f}",
            f"{rate.pairs} of {rate.participants}",
        )
        for rate in rates
    ]
    known = published_rates()
    rows = [_HEADINGS, *measured, *((f"{one.method} (published)", str(one), "", "") for one in known)]
    widths = [max(map(len, column)) for column in zip(*rows, strict=True)]
    lines = [
        "  ".join((row[0].ljust(widths[0]), *map(str.rjust, row[1:], widths[1:]))).rstrip() for row in rows
    ]
    found = "" if kept.vigilance is None else f"; obvious fakes found: {100 * kept.vigilance:.0f} %"
    return "\n".join(
        [
            *lines,
            f"published: {'; '.join(sorted({one.source for one in known}))}; 50 is chance",
            f"{len(kept.participants)} participants count; left out are {len(kept.unfinished)} who did not finish and"
            f" {len(kept.inattentive)} who found less than {100 * pass_share:.0f} % of the obvious fakes{found}",
        ]
    )


_HEADINGS = ("system", "fooled, %", "95 % interval", "pairs of participants")


def published_rates() -> list[Published]:
    """Return the paper's rates."""
    return [one for one in published() if (one.task, one.metric) == PUBLISHED]


def protocol(settings: StudySettings) -> str:
    """Return the name that scores are filed under: the paper's, marked if the settings are others."""
    same = replace(settings, seed=PAPER.seed) == PAPER
    return "zhang2016_2afc" + ("" if same else " changed")


def _scores(study: Study, rates: Sequence[Fooling], pass_share: float, run: str) -> list[Score]:
    hashes = {system.name: system.sha256 for system in study.systems}
    config: dict[str, Any] = {
        "protocol": protocol(study.settings),
        **{key: value for key, value in asdict(study.settings).items() if key != "seed"},
        "pass_share": pass_share,
        "resamples": RESAMPLES,
        "vigilance_colors": "another photo's",
    }
    now = utc_now()
    return [
        Score(
            method=rate.system,
            backbone="pictures",
            input_space="lightness",
            backbone_sha256=hashes[rate.system],
            backbone_seed=None,
            recipe=hashlib.sha256(f"{rate.system} {hashes[rate.system]}".encode()).hexdigest(),
            pretrained_on=None,
            stage=STAGE,
            protocol=config["protocol"],
            setting="all",
            metric=metric,
            value=value,
            unit="percent",
            seed=study.settings.seed,
            processes=1,
            run=run,
            data=study.data,
            split="all",
            split_fingerprint=names_fingerprint(photo.name for photo in study.photos),
            config=config,
            versions=versions(),
            seconds=0.0,
            time=now,
        )
        for rate in rates
        for metric, value in (
            ("fooling_rate", rate.rate),
            ("fooling_rate_low", rate.low),
            ("fooling_rate_high", rate.high),
        )
    ]
