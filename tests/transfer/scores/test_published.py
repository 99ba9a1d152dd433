import re

from refusals import refused

from transfer.scores.published import MARKS, published, published_table

LAYERS = ("conv1", "conv2", "conv3", "conv4", "conv5")


def test_every_number_has_a_source_and_a_certainty():
    assert len(published()) > 500
    for entry in published():
        assert entry.source
        assert entry.certainty in MARKS
        assert entry.value == entry.value  # no NaN


def test_figure_seven_is_the_papers():
    table = published_table("ImageNet-1k linear probe")
    expected = {
        "ImageNet-labels (supervised)": [19.3, 36.3, 44.2, 48.3, 50.5],
        "Gaussian (random)": [11.6, 17.1, 16.9, 16.3, 14.1],
        "Colorization (Zhang 2016) CORRECTED": [13.1, 24.8, 31.0, 32.6, 31.8],
    }
    for method, values in expected.items():
        assert [table[method][layer].value for layer in LAYERS] == values, method
        assert {table[method][layer].certainty for layer in LAYERS} == {"verified"}, method


def test_a_number_that_nobody_read_in_its_source_is_never_printed_without_a_mark():
    for entry in published():
        plain = re.fullmatch(r"-?[\d.e+]+", str(entry))
        assert bool(plain) == (entry.certainty == "verified"), entry


def test_the_most_certain_number_counts(monkeypatch):
    from transfer.scores import published as module

    first = published()[0]
    doubt = first.__class__(**(first.__dict__ | {"certainty": "unverified", "value": 1.0}))
    monkeypatch.setattr(module, "published", lambda: (doubt, first))
    assert published_table(first.task)[first.method][first.setting] is first


def test_an_unknown_task_is_an_error():
    with refused("AlexNet", received="flowers", allowed="ImageNet-1k linear probe"):
        published_table("flowers")
