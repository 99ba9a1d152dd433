import json

import numpy as np
import pytest
from refusals import refused

from transfer.report.files import build_report
from transfer.scores.published import published
from transfer.scores.score import RESULTS_NAME, read_scores
from transfer.stage import STAGES, STUDIES, scored_stages
from transfer.study.fooling import (
    STAGE,
    bootstrap,
    fooling_rates,
    keep,
    protocol,
    published_rates,
    study_scores,
    summary,
)
from transfer.study.store import Answered
from transfer.study.study import StudySettings
from transfer.study.trials import Trial


def session(number, fooled, caught=(True, True, True, True), system="faded", practice=2):
    """Answers of a participant: to practice, to pairs that fooled or not, to obvious fakes that were caught or not."""
    rights = [("practice", system, False)] * practice
    rights += [("test", system, not one) for one in fooled] + [("test", None, one) for one in caught]
    return [
        Answered(number, place, Trial(part, place, name, "left"), "right" if is_right else "left", 800, 1)
        for place, (part, name, is_right) in enumerate(rights)
    ]


def hold(*sessions):
    """All answers, and how many pairs each participant has."""
    return [answer for one in sessions for answer in one], {one[0].participant: len(one) for one in sessions}


class TestKeep:
    def test_practice_and_obvious_fakes_do_not_count(self):
        answers, pairs = hold(session(0, [True, False, False]))
        kept = keep(answers, pairs)
        assert len(kept.answers) == 3
        assert sum(not a.is_right for a in kept.answers) == 1
        assert kept.vigilance == 1.0

    def test_who_misses_more_than_a_quarter_of_the_obvious_fakes_is_left_out(self):
        answers, pairs = hold(
            session(0, [True] * 4, [True, True, True, False]),
            session(1, [True] * 4, [True, True, False, False]),
            session(2, [True] * 4),
        )
        kept = keep(answers, pairs)
        assert kept.participants == (0, 2)
        assert kept.inattentive == (1,)
        assert kept.vigilance == 9 / 12
        assert keep(answers, pairs, 0.5).inattentive == ()

    def test_who_stops_before_the_end_is_left_out(self):
        answers, pairs = hold(session(0, [True] * 4), session(1, [True] * 4))
        kept = keep(answers[:-1], pairs | {2: 10})
        assert kept.participants == (0,)
        assert kept.unfinished == (1, 2)

    def test_without_obvious_fakes_everybody_counts(self):
        kept = keep(*hold(session(0, [True], caught=())))
        assert kept.participants == (0,)
        assert kept.vigilance is None


def naive_bootstrap(outcomes, resamples, seed):
    """Draw participants, then their pairs, one by one, as the paper's analysis does."""
    rng = np.random.default_rng(seed)
    rates = []
    for _ in range(resamples):
        drawn = [outcomes[k] for k in rng.integers(len(outcomes), size=len(outcomes))]
        values = [own[j] for own in drawn for j in rng.integers(len(own), size=len(own))]
        rates.append(np.mean(values))
    return np.array(rates)


class TestBootstrap:
    def test_mean_and_variance_are_those_worked_out_by_hand(self):
        # Three participants of 4 pairs, fooled by 1, 2 and 3: the mean is 1/2. By the law of total variance one drawn
        # participant's rate varies by the participants' variance, (1/16 + 0 + 1/16) / 3 = 1/24, plus the mean of
        # p (1 - p) / 4, (3/16 + 4/16 + 3/16) / 3 / 4 = 5/96; the mean of three by a third of 9/96: 1/32.
        rates = bootstrap(np.array([1, 2, 3]), np.array([4, 4, 4]), seed=0, resamples=200_000)
        assert rates.mean() == pytest.approx(0.5, abs=0.002)
        assert rates.var() == pytest.approx(1 / 32, rel=0.02)

    def test_the_interval_is_that_of_drawing_one_by_one(self):
        rng = np.random.default_rng(3)
        outcomes = [rng.random(n) < p for n, p in ((36, 0.2), (36, 0.5), (30, 0.3), (36, 0.35), (12, 0.1))]
        counts = np.array([sum(o) for o in outcomes]), np.array([len(o) for o in outcomes])
        fast = np.percentile(bootstrap(*counts, seed=0), (2.5, 50, 97.5))
        slow = np.percentile(naive_bootstrap(outcomes, 4000, 1), (2.5, 50, 97.5))
        assert fast == pytest.approx(slow, abs=0.015)

    def test_certainty_has_no_width(self):
        assert set(bootstrap(np.array([5, 5]), np.array([5, 5]), seed=0)) == {1.0}
        assert set(bootstrap(np.array([0]), np.array([7]), seed=0)) == {0.0}

    def test_the_seed_decides(self):
        counts = np.array([3, 4]), np.array([9, 9])
        assert np.array_equal(bootstrap(*counts, seed=1), bootstrap(*counts, seed=1))
        assert not np.array_equal(bootstrap(*counts, seed=1), bootstrap(*counts, seed=2))


class TestFoolingRates:
    def test_rates_of_each_system(self):
        answers, pairs = hold(
            session(0, [True] * 3 + [False] * 7),
            session(1, [True] * 5 + [False] * 5),
            session(2, [False] * 10, system="turned"),
        )
        faded, turned = fooling_rates(keep(answers, pairs).answers, ("faded", "turned", "unseen"), 0)
        assert (faded.system, faded.rate, faded.participants, faded.pairs) == ("faded", 40.0, 2, 20)
        assert faded.low < 30 < 50 < faded.high
        assert (turned.rate, turned.low, turned.high) == (0.0, 0.0, 0.0)


@pytest.fixture
def held(study, tmp_path):
    answers, pairs = hold(
        *(session(k, [True] * (2 + k) + [False] * (16 - k)) for k in range(4)),
        session(4, [True] * 18, [False] * 4),
        *(session(k, [False] * 18, system="turned") for k in (5, 6)),
    )
    return study, answers, pairs, tmp_path / "out"


class TestStudyScores:
    def test_score_lines(self, held):
        study, answers, pairs, out = held
        kept, rates = study_scores(study, answers, pairs, out)
        scores = read_scores([out / RESULTS_NAME])
        assert len(scores) == 6
        by_metric = {(s.method, s.metric): s.value for s in scores}
        assert by_metric["faded", "fooling_rate"] == pytest.approx(100 * (2 + 3 + 4 + 5) / 72)
        assert by_metric["faded", "fooling_rate_low"] == rates[0].low
        assert by_metric["turned", "fooling_rate_high"] == 0
        first = scores[0]
        assert (first.stage, first.unit, first.seed) == ("perceptual-study", "percent", 7)
        assert first.backbone_sha256 == study.systems[0].sha256
        assert first.protocol == "zhang2016_2afc changed"
        said = json.loads((out / "runs" / first.run / "report.json").read_text())
        assert said["inattentive"] == [4] == list(kept.inattentive)
        assert said["answers"] == 4 * 18 + 2 * 18

    def test_a_report_has_them(self, held, tmp_path):
        study, answers, pairs, out = held
        study_scores(study, answers, pairs, out)
        page = build_report([out], tmp_path / "report").html.read_text()
        assert "Perceptual study" in page
        assert "19.4" in page

    def test_the_printed_table(self, held):
        study, answers, pairs, out = held
        lines = summary(*study_scores(study, answers, pairs, out), 0.75).splitlines()
        assert lines[1].split()[:2] == ["faded", "19.4"]
        full = next(line for line in lines if line.startswith("Zhang full"))
        assert "32.3" in full
        assert "Zhang, Isola, Efros" in lines[-2]
        assert lines[-1].startswith("6 participants count; left out are 0 who did not finish and 1 who found")

    def test_nobody_is_left(self, study, tmp_path):
        answers, pairs = hold(session(0, [True], [False] * 4))
        with refused(received="0 unfinished and 1 inattentive of 1 participants"):
            study_scores(study, answers, pairs, tmp_path)
        assert not list(tmp_path.iterdir())


def test_the_papers_settings_alone_have_its_name():
    assert protocol(StudySettings(seed=9)) == "zhang2016_2afc"
    assert protocol(StudySettings(seconds=2.0)) == "zhang2016_2afc changed"


def test_the_papers_rates_are_those_of_table_1():
    rates = {one.method: one.value for one in published_rates()}
    assert rates == {
        "Ground truth": 50, "Random": 13.0, "Dahl": 18.3, "Larsson 2016": 27.2, "Zhang L2": 21.2,
        "Zhang L2 fine-tuned": 23.9, "Zhang class": 25.2, "Zhang full": 32.3,
    }  # fmt: skip
    assert set(published_rates()) <= set(published())


def test_the_study_is_declared_beside_the_stages():
    assert STUDIES[STAGE].load() is study_scores
    assert list(scored_stages()) == [*STAGES, *STUDIES]
    assert not STAGES.keys() & STUDIES.keys()
