import hashlib
import json
import shutil
from dataclasses import replace

import numpy as np
import pytest
import scored
import torch
from colorizers import colorizer_file
from made_weights import alexnet_file, linear_file
from PIL import Image
from refusals import refused
from skimage.color import rgb2lab
from torch import nn
from torchvision import models

from pretext.backbones.checkpoint import Provenance, build, save_backbone
from pretext.backbones.classifier import PhotoClassifier, save_classifier
from pretext.backbones.heads import MapHead
from pretext.backbones.initializers import he_normal_
from pretext.color import ab_bins, imagenet_prior
from pretext.color.spaces import AbBins, HueChroma, ab_regression
from pretext.colorize.colorizer import load_colorizer
from pretext.old_names import FIRST_COLORS
from transfer.color_sources import color_source
from transfer.data.colored import TruePhotos, listed_numbers
from transfer.judged import folder_sha256, identify
from transfer.networks.painters import baseline
from transfer.networks.perceptual import InceptionFeatures
from transfer.protocols.table import load_stage_config
from transfer.report.tables import Benchmark, collect_results
from transfer.report.views import legend
from transfer.run import score
from transfer.scores.colors import PSNR_LIMIT
from transfer.scores.outcomes import load_outcomes
from transfer.scores.score import latest_scores, read_scores
from transfer.stage import STAGES

pytestmark = pytest.mark.usefixtures("one_thread")

STAGE = STAGES["colorization"]
#: What is measured at other temperatures, too.
SWEPT = ("auc", "auc_rebalanced", "colorfulness")
SETTINGS = load_stage_config("colorization", overrides=["count=6", "classifier=None"])


@pytest.fixture(scope="module")
def model(tmp_path_factory):
    """A colorizer of 20 bins that was not trained, in the folder of a run."""
    folder = tmp_path_factory.mktemp("run")
    colorizer_file(folder / "colorizer.safetensors", AbBins(ab_bins()[::16], neighbors=3))
    return str(folder)


@pytest.fixture
def measure(photo_folder, tmp_path):
    def run(name, data=photo_folder, **changes):
        scores = score(
            "colorization", name, settings=replace(SETTINGS, **changes), data=data, work_dir=tmp_path
        )
        return {each.metric: each for each in scores}

    return run


def values(scores):
    return {metric: each.value for metric, each in scores.items()}


def test_the_truth_has_no_error(measure):
    found = values(measure("truth"))
    assert found["auc"] == found["auc_rebalanced"] == 100
    assert found["psnr"] == pytest.approx(PSNR_LIMIT)
    assert found["ssim"] == pytest.approx(1)
    for metric in (
        "rmse_ab",
        "rmse_alphabeta",
        "ciede2000",
        "delta_colorfulness",
        "delta_mean_colorfulness_abs",
    ):
        assert found[metric] == 0


def test_gray_lacks_the_mean_chroma(measure, photo_folder):
    found = measure("gray")
    chosen = [sorted(photo_folder.glob("*.jpg"))[k] for k in np.linspace(0, 47, 6, dtype=int)]
    labs = [rgb2lab(np.array(Image.open(path))) for path in chosen]
    chroma = np.mean([np.hypot(lab[..., 1], lab[..., 2]) for lab in labs])
    # Levels of gray are whole numbers, and their ab is not quite zero.
    assert found["auc"].value == pytest.approx(100 * (1 - chroma / 150), abs=0.01)
    # A level more or less of one channel.
    assert found["colorfulness"].value < 0.2
    assert found["rmse_ab"].value == pytest.approx(
        np.sqrt(np.mean([lab[..., 1:] ** 2 for lab in labs])), abs=0.02
    )
    rgb = [np.array(Image.open(path)) / 255 for path in chosen]
    alphabeta = [np.square(each @ [[1, 1], [-1, 1], [0, -2]]).sum(-1).mean() for each in rgb]
    assert found["rmse_alphabeta"].value == pytest.approx(np.sqrt(np.mean(alphabeta)), abs=2e-3)
    assert {each.method for each in found.values()} == {"gray"}
    assert {each.data for each in found.values()} == {photo_folder.name}
    assert {each.split for each in found.values()} == {photo_folder.name}


def test_outcomes_by_photo_give_the_scores_again(measure, model, tmp_path):
    found = measure(model, samples=2)
    compared = [metric.name for metric in STAGE.metrics if metric.compared and metric.name in found]
    assert {"auc", "auc_rebalanced", "rmse_ab", "entropy", "diversity"} <= set(compared)
    for metric in compared:
        path = tmp_path / "runs" / found[metric].run / "outcomes.npz"
        outcomes = load_outcomes(path, "photos", metric)
        assert len(outcomes) == 6
        assert outcomes.metric() == pytest.approx(found[metric].value)
    curve = load_outcomes(path, "photos", "auc").curve
    assert curve.shape == (6, 151)
    assert (np.diff(curve, axis=1) >= 0).all()
    # The area under the curve, by whole steps, is the accuracy within half a step.
    assert 100 * curve.mean() == pytest.approx(found["auc"].value, abs=0.5)


def test_a_colorizer_is_told_by_its_file(measure, model):
    found = measure(model)["auc"]
    assert (found.method, found.backbone, found.input_space) == ("colorization", "alexnet", "lightness")
    assert (found.backbone_seed, found.pretrained_on) == (0, "photos")
    assert found.backbone_sha256 == identify(STAGE, f"{model}/colorizer.safetensors", 0).sha256


def test_the_size_of_the_network_is_that_of_its_weights_and_features(measure, model):
    found = values(measure(model, network_size=64))
    colorizer = load_colorizer(f"{model}/colorizer.safetensors")
    assert found["parameters"] == pytest.approx(sum(p.numel() for p in colorizer.parameters()) * 4e-6)
    assert 0 < found["features"] < 1
    assert found["time"] > 0


def test_a_temperature_changes_the_colours_and_a_value_has_none(measure, model, tmp_path):
    hot, cold = (values(measure(model, temperature=t))["colorfulness"] for t in (1.0, 0.05))
    assert cold > hot
    regression = colorizer_file(tmp_path / "l2.safetensors", ab_regression())
    assert {"entropy", "diversity"}.isdisjoint(measure(regression, samples=2))
    with refused("regression", received="mode"):
        measure(regression, decode="mode")


def test_how_a_space_is_decoded_and_what_it_knows_make_rows(measure, tmp_path):
    """All share their columns, and those that know the truth say so."""
    colorizer = colorizer_file(tmp_path / "hues.safetensors", HueChroma(), method="hues")
    ways = [
        *({}, {"decode": "median"}, {"decode": "median", "decode_at": "photo"}),
        *({"true_histogram": "quantile"}, {"true_histogram": "energy", "decode_at": "photo"}),
    ]
    plain, median, at_photo, quantile, energy = (measure(colorizer, **way, count=3) for way in ways)
    assert median["colorfulness"].value > plain["colorfulness"].value
    assert at_photo["rmse_ab"].value != median["rmse_ab"].value
    assert energy["rmse_ab"].value < plain["rmse_ab"].value
    assert quantile["delta_colorfulness"].value < plain["delta_colorfulness"].value
    results = collect_results(read_scores([tmp_path / "results.jsonl"]))
    assert {row.label for row in results.rows} == {
        *("hues", "hues decode=median", "hues decode=median decode_at=photo"),
        *("hues true_histogram=quantile", "hues decode_at=photo true_histogram=energy"),
    }
    assert len(results.benchmarks) == 1
    assert any("Rows with true_histogram know" in line for line in legend(results))


def test_scores_of_before_a_row_could_be_otherwise_stay_in_its_row(measure, model, tmp_path):
    new = measure(model)["auc"]
    older = {key: value for key, value in new.config.items() if key not in FIRST_COLORS}
    assert len(older) == len(new.config) - 2
    path = tmp_path / "results.jsonl"
    lines = [json.loads(line) for line in path.read_text().splitlines()]
    path.write_text("".join(json.dumps(line | {"config": older}) + "\n" for line in lines))
    (old,) = (each for each in read_scores([path]) if each.metric == "auc")
    assert Benchmark.of(old) == Benchmark.of(new)
    assert Benchmark.of(replace(new, config=older)) == Benchmark.of(new)
    assert latest_scores([old, new]) == [new]
    measure(model)
    results = collect_results(read_scores([path]))
    assert [row.label for row in results.rows] == ["colorization"]
    assert len(results.benchmarks) == 1


def test_what_was_coloured_by_others_is_matched_by_quantiles_alone(measure, photo_folder, tmp_path):
    plain, matched = (values(measure("random-photo", true_histogram=way)) for way in (None, "quantile"))
    assert matched["rmse_ab"] < plain["rmse_ab"]
    for name in ("random-photo", str(photo_folder)):
        with refused("true_histogram=energy", name, allowed="true_histogram=quantile"):
            measure(name, true_histogram="energy")
    regression = colorizer_file(tmp_path / "l2.safetensors", ab_regression())
    measure(regression, true_histogram="quantile")
    with refused("regression", received="true_histogram=energy", allowed="true_histogram=quantile"):
        measure(regression, true_histogram="energy")
    with refused("regression", received="decode_at photo"):
        measure(regression, decode_at="photo")


def test_a_sweep_measures_what_runs_at_those_temperatures_would(measure, model, photo_folder, tmp_path):
    settings = replace(SETTINGS, temperatures=(1.0, 0.05))
    swept = score("colorization", model, settings=settings, data=photo_folder, work_dir=tmp_path)
    alone = measure(model, temperature=0.05)
    found = {each.metric: each for each in swept if each.setting == "T=0.05"}
    assert values(found) == {name: pytest.approx(alone[name].value) for name in SWEPT}
    path = tmp_path / "runs" / found["auc"].run / "outcomes.npz"
    for name in SWEPT:
        assert load_outcomes(path, "T=0.05", name).metric() == pytest.approx(alone[name].value)
    # The sweep makes no other benchmark.
    without = replace(swept[0], config={**swept[0].config, "temperatures": []})
    assert Benchmark.of(swept[0]) == Benchmark.of(without)


def test_what_has_no_temperature_has_no_sweep(measure, tmp_path):
    with refused("gray", "temperatures"):
        measure("gray", temperatures=(0.38,))
    regression = colorizer_file(tmp_path / "l2.safetensors", ab_regression())
    with refused("regression", received="temperature 0.38"):
        measure(regression, temperatures=(0.38,))


def test_a_folder_of_the_true_photos_is_the_truth(measure, photo_folder, tmp_path):
    folder = tmp_path / "theirs"
    folder.mkdir()
    for path in photo_folder.glob("*.jpg"):
        Image.open(path).save(folder / f"{path.stem}.png")
    found = measure(str(folder))
    assert values(found)["auc"] == 100
    assert (found["auc"].method, found["auc"].backbone_sha256) == ("theirs", folder_sha256(folder))
    assert "parameters" not in found
    before = folder_sha256(folder)
    Image.new("RGB", (72, 64)).save(folder / "00.png")
    assert folder_sha256(folder) != before


def test_a_folder_that_does_not_match_is_refused(measure, photo_folder, tmp_path):
    folder = tmp_path / "theirs"
    shutil.copytree(photo_folder, folder)
    Image.new("RGB", (64, 72)).save(folder / "00.jpg")
    with refused("00.jpg", received="64 x 72", allowed="its size is 72 x 64"):
        measure(str(folder))
    shutil.copy(folder / "01.jpg", folder / "00.jpeg")
    with refused("several", received="00.jpeg, 00.jpg"):
        measure(str(folder))
    for path in folder.glob("00.*"):
        path.unlink()
    with refused(str(folder), "1 of 6", received="no 00.*"):
        measure(str(folder))
    assert not (tmp_path / "results.jsonl").exists()


@pytest.mark.parametrize("changes", [{}, {"true_histogram": "quantile"}])
def test_a_bad_file_is_told_before_any_photo_is_judged(changes, measure, photo_folder, tmp_path, monkeypatch):
    def judged(*arguments):
        pytest.fail("judged a photo")

    monkeypatch.setattr("transfer.stages.colorization._Judge.add", judged)
    theirs, true = tmp_path / "theirs", tmp_path / "true"
    for folder in (theirs, true):
        shutil.copytree(photo_folder, folder)
    (theirs / "47.jpg").write_bytes((photo_folder / "47.jpg").read_bytes()[:200])
    with refused(f"cannot read {theirs / '47.jpg'}"):
        measure(str(theirs), count=None, **changes)
    shutil.copy(theirs / "47.jpg", true)
    with refused(f"cannot read {true / '47.jpg'}"):
        measure("gray", true, count=None, **changes)


def test_a_coloured_file_that_may_be_of_two_photos_is_refused(measure, photo_folder, tmp_path):
    true, theirs = tmp_path / "true", tmp_path / "theirs"
    for folder in (true, theirs):
        folder.mkdir()
    for name, number in (("a.jpg", 0), ("b.jpg", 1), ("b.jpeg", 2)):
        shutil.copy(photo_folder / f"{number:02d}.jpg", true / name)
    for name in ("a.jpg", "b.jpg"):
        shutil.copy(true / name, theirs / name)
    with refused("ending", received="b.jpeg, b.jpg"):
        measure(str(theirs), true)


def test_random_photos_follow_the_seed(photo_folder, tmp_path):
    for seed in (0, 0, 1):
        score(
            "colorization", "random-photo", settings=SETTINGS, data=photo_folder, seed=seed, work_dir=tmp_path
        )
    found = [each for each in read_scores([tmp_path / "results.jsonl"]) if each.metric == "auc"]
    assert found[0].value == found[1].value != found[2].value
    assert found[0].backbone_sha256 == found[1].backbone_sha256 != found[2].backbone_sha256
    assert len({each.recipe for each in found}) == 1


def test_the_mean_colour_is_that_of_the_prior(photo_folder):
    prior, photos = imagenet_prior(), TruePhotos(photo_folder, "all", 2, "own", None)
    painted = baseline(color_source("mean-color"), photos, prior, 0)(
        0, torch.full((3, 4, 4), 128, dtype=torch.uint8)
    )
    mean = (prior.probabilities[:, None] * prior.bins).sum(0)
    found = rgb2lab(painted.rgb.permute(1, 2, 0).numpy())[0, 0]
    np.testing.assert_allclose(found[1:], mean, atol=0.5)
    assert found[0] == pytest.approx(rgb2lab(np.full((1, 1, 3), 128, dtype=np.uint8))[0, 0, 0], abs=0.5)


@pytest.mark.parametrize(
    ("fit", "shape"), [("square", (3, 32, 32)), ("center", (3, 32, 32)), ("own", (3, 64, 72))]
)
def test_photos_are_fitted(fit, shape, photo_folder):
    photos = TruePhotos(photo_folder, "all", 3, fit, None if fit == "own" else 32)
    assert [photos[k].shape for k in range(3)] == [torch.Size(shape)] * 3
    assert photos.names == ("00.jpg", "23.jpg", "47.jpg")


def test_lists_are_of_imagenets_validation_photos(photo_folder, tmp_path):
    for name, described in {"ctest10k": (10_000, 25_275, 50_000), "cval1k": (1_000, 1, 4_971)}.items():
        numbers = listed_numbers(name)
        assert (len(numbers), numbers[0], numbers[-1]) == described
        assert (np.diff(numbers) > 0).all()
    listed = [f"ILSVRC2012_val_{number:08d}.JPEG" for number in range(1, 5002)]
    (tmp_path / "list.txt").write_text("".join(f"{name}\n" for name in listed))
    with pytest.MonkeyPatch.context() as patched:
        patched.setattr("pretext.data.walking.is_file", lambda path: True)
        assert TruePhotos(tmp_path / "list.txt", "val5k", None, "own", None).names == tuple(listed[:5000])
    with refused("5000 of the 5000", "val5k", received="no ILSVRC2012_val_00000001"):
        TruePhotos(photo_folder, "val5k", None, "own", None)


@pytest.mark.parametrize(
    ("overrides", "names"),
    [
        (["fit=square"], ["fit=square"]),
        (["size=64"], ["fit=own"]),
        (["fit=oval", "size=64"], ["oval"]),
        (["samples=1"], ["1"]),
        (["count=0"], ["count"]),
        (["temperatures=0.1,0"], ["temperatures"]),
        (["temperatures=0.1,0.1"], ["temperatures"]),
        (["photos=ctest"], ["ctest"]),
        (["classifier=resnet50"], ["resnet50"]),
        (["classifier_weights='a.pth'"], ["a.pth"]),
        (["classifier='a.safetensors'", "classifier_weights='a.pth'"], ["a.safetensors", "a.pth"]),
        (["classifier='a.safetensors'", "classes='b.txt'"], ["a.safetensors", "b.txt"]),
        (["lpips_linear='alex.pth'"], ["LPIPS", "alex.pth"]),
        (["gallery='photos'", "reference='one.jpg'"], ["photos", "one.jpg"]),
        (["decode_at=pixel"], ["decode_at", "pixel"]),
        (["true_histogram=mean"], ["true_histogram", "mean"]),
    ],
)
def test_settings_that_cannot_be_are_refused(overrides, names):
    with refused(*names):
        load_stage_config("colorization", overrides=overrides)


def test_an_unknown_rule_is_refused_before_any_photo(measure, model):
    with refused("best", allowed="coherent"):
        measure(model, decode="best")


def test_names_of_nothing_are_refused(measure, tmp_path):
    with refused(received="gone") as info:
        measure("gone")
    assert "random-photo" in info.value.allowed
    save_backbone(
        build("alexnet", {"channels": (8, 8, 8, 8, 8)}), tmp_path / "b.safetensors", Provenance("random")
    )
    with refused("b.safetensors", "colorizer"):
        measure(str(tmp_path / "b.safetensors"))
    (tmp_path / "empty").mkdir()
    with refused(received=str(tmp_path / "empty")):
        measure(str(tmp_path / "empty"))
    with refused(received=1):
        measure("random-photo", count=1)


def test_photos_in_folders_of_wordnet_ids_are_classified(measure, photo_folder, tmp_path):
    for number, name in enumerate(("n01440764", "n03888257")):
        (tmp_path / "photos" / name).mkdir(parents=True)
        shutil.copy(photo_folder / f"{number:02d}.jpg", tmp_path / "photos" / name)
    found = measure("truth", tmp_path / "photos", classifier="efficientnet_lite0", batch_size=1)
    assert found["top1_efficientnet_lite0"].value == 0  # they are stripes
    # Weights that were given are told by their hash.
    network = models.squeezenet1_1(weights=None)
    network.classifier[1].bias.data[0] = 1e6
    torch.save(network.state_dict(), tmp_path / "weights.pth")
    given = {"classifier": "squeezenet1_1", "classifier_weights": str(tmp_path / "weights.pth")}
    found = measure("truth", tmp_path / "photos", **given)["top1_classifier"]
    digest = hashlib.sha256((tmp_path / "weights.pth").read_bytes()).hexdigest()
    assert (found.value, found.setting) == (50, f"squeezenet1_1 {digest[:8]}")


def test_photos_that_lend_colours_make_rows_beside_the_others(measure, photo_folder, tmp_path):
    """Who lends them is told by the row; all rows share their columns."""
    backbone = build("alexnet", {"channels": (8, 8, 8, 8, 8)})
    save_backbone(backbone, tmp_path / "b.safetensors", Provenance("random"))
    gallery = {"gallery": str(photo_folder), "retriever": f"random:{tmp_path / 'b.safetensors'}"}
    gray, found = measure("gray"), measure("retrieval", **gallery)
    assert found["auc"].value > gray["auc"].value
    assert found["colorfulness"].value > 5
    welsh = measure("welsh2002", reference=str(photo_folder / "01.jpg"))
    assert welsh["colorfulness"].value > 5
    results = collect_results(read_scores([tmp_path / "results.jsonl"]))
    assert {row.label for row in results.rows} == {"gray", "retrieval by features of random", "welsh2002"}
    assert len(results.benchmarks) == 1
    with refused("retrieval", allowed="gallery=PHOTOS, photos in colour"):
        measure("retrieval")


@pytest.fixture(scope="module")
def own_classifier(photo_folders, tmp_path_factory):
    """A classifier that tells the two folders of photos apart by their colours alone, in a file."""
    backbone = build("alexnet", {"channels": (8, 8, 8, 8, 8), "input_space": "rgb"})
    he_normal_(backbone, 0)
    photos = TruePhotos(photo_folders, "all", None, "own", None)
    crops = torch.stack([photos[k][:, :64, :64] for k in range(len(photos))])
    # The mean of red and of blue, through the first channels of a network of centre taps.
    for block in ("conv1", "conv2", "conv3", "conv4", "conv5"):
        conv = getattr(backbone, block).conv
        conv.weight.data.zero_()
        for channel in range(min(2, conv.in_channels)):
            source = 2 * channel if block == "conv1" else channel
            conv.weight.data[channel, source, conv.kernel_size[0] // 2, conv.kernel_size[1] // 2] = 1
    head = MapHead(8, 2, size=1, hidden=0)
    made = PhotoClassifier(backbone.eval(), head, "conv5", ("lying", "upright"))
    head.layers[0].weight.data = torch.zeros(2, 8)
    head.layers[0].weight.data[:, :2] = torch.tensor([[-1.0, 1.0], [1.0, -1.0]])
    head.layers[0].bias.data.zero_()
    with torch.no_grad():
        assert made(crops).argmax(1).tolist() == [0] * 24 + [1] * 24
    path = tmp_path_factory.mktemp("classifier") / "classifier.safetensors"
    view = {"type": "RandomCrop", "size": 64, "resize": 64}
    sha256 = save_classifier(made, path, Provenance("supervised", config={"view": view}))
    return path, sha256


def test_a_classifier_of_ones_own_judges_colours(measure, own_classifier, photo_folders, tmp_path):
    path, sha256 = own_classifier
    found = measure("truth", photo_folders, classifier=str(path), batch_size=4)["top1_own_classifier"]
    assert (found.value, found.setting) == (100, f"supervised alexnet {sha256[:8]}")
    outcomes = load_outcomes(
        tmp_path / "runs" / found.run / "outcomes.npz", found.setting, "top1_own_classifier"
    )
    assert outcomes.correct.all()
    warm = measure(
        "welsh2002",
        photo_folders,
        classifier=str(path),
        reference=str(next(photo_folders.glob("upright/*.jpg"))),
    )
    assert warm["top1_own_classifier"].value == 50  # all look upright


def test_a_classifier_that_cannot_judge_is_refused(
    measure, own_classifier, photo_folder, photo_folders, tmp_path
):
    path = own_classifier[0]
    with refused(path, received="") as info:
        measure("truth", photo_folder, classifier=str(path))
    assert "lying" in info.value.allowed
    with refused(received="gone.safetensors"):
        measure("truth", photo_folders, classifier="gone.safetensors")
    blind = PhotoClassifier(
        build("alexnet", {"channels": (8, 8, 8, 8, 8)}), MapHead(8, 2), "conv5", ("lying", "upright")
    )
    save_classifier(blind, tmp_path / "blind.safetensors", Provenance("supervised"))
    with refused("colours", "blind.safetensors"):
        measure("truth", photo_folders, classifier=str(tmp_path / "blind.safetensors"))


def test_lpips_is_told_by_the_hashes_of_its_weights(measure, tmp_path):
    weights, linear = alexnet_file(tmp_path / "alexnet.pth"), linear_file(tmp_path / "alex.pth")
    digests = [hashlib.sha256(path.read_bytes()).hexdigest()[:8] for path in (weights, linear)]
    given = {"lpips_weights": str(weights), "lpips_linear": str(linear)}
    truth, gray = measure("truth", **given)["lpips"], measure("gray", **given)["lpips"]
    assert (truth.value, truth.setting) == (0, f"alexnet {' '.join(digests)}")
    assert gray.value > 0.001
    assert len(load_outcomes(tmp_path / "runs" / gray.run / "outcomes.npz", gray.setting, "lpips")) == 6
    # The other columns are those of runs without weights.
    measure("mean-color")
    results = collect_results(read_scores([tmp_path / "results.jsonl"]))
    assert len(results.benchmarks) == 1


def test_fid_is_over_all_photos_and_told_by_its_weights(measure, tmp_path, monkeypatch):
    class Colours(InceptionFeatures):
        def forward(self, photos):
            return photos.float().mean((2, 3))

    (tmp_path / "weights.pth").write_bytes(b"weights")
    monkeypatch.setattr(
        "transfer.networks.critics.load_inception", lambda path: ("inception_v3", Colours(nn.Linear(1, 1)))
    )
    given = {"fid_weights": str(tmp_path / "weights.pth")}
    truth, gray = measure("truth", **given)["fid"], measure("gray", **given)["fid"]
    digest = hashlib.sha256(b"weights").hexdigest()[:8]
    assert (truth.value, truth.setting) == (pytest.approx(0, abs=1e-6), f"inception_v3 {digest}")
    assert gray.value > 100
    with refused(received=1):
        measure("truth", count=1, **given)


def test_wrong_weights_are_told_before_any_photo_is_looked_at(measure, tmp_path):
    (tmp_path / "other.pth").write_bytes(b"no weights")
    for key in ("fid_weights", "lpips_weights"):
        with refused("other.pth"):
            measure("truth", **{key: str(tmp_path / "other.pth")})
        with refused("gone.pth"):
            measure("truth", **{key: "gone.pth"})
    assert not (tmp_path / "results.jsonl").exists()


@pytest.mark.slow
def test_fid_by_inception_falls_as_colours_come_back(measure, tmp_path):
    torch.manual_seed(0)
    network = models.Inception3(1008, aux_logits=False, init_weights=False)
    torch.save(network.state_dict(), tmp_path / "weights.pth")
    given = {"fid_weights": str(tmp_path / "weights.pth"), "count": 4}
    truth, gray = measure("truth", **given)["fid"], measure("gray", **given)["fid"]
    assert truth.value < 1e-3 * gray.value
    assert gray.setting.startswith("inception_2015 ")


def test_a_colorizer_and_its_backbone_share_a_row():
    words = {"recipe": "1" * 64, "stage": "colorization", "metric": "psnr", "unit": "dB", "value": 20.0}
    backbone = scored.score(recipe=words["recipe"], backbone_sha256="a" * 64)
    colors = scored.score(**words, backbone_sha256="b" * 64, setting="photos")
    assert len(collect_results([backbone, colors]).rows) == 1
