import pytest
import torch
from refusals import refused
from torch import nn
from torchvision import models

from transfer.networks.classifiers import IMAGENETTE, Classifier, class_numbers, load_classifier


class TestClassNumbers:
    def test_all_1000_classes_are_numbered_in_their_order(self):
        names = [f"n{number:08d}" for number in range(1000, 3000, 2)]
        assert class_numbers(names[::-1], None) == {name: number for number, name in enumerate(names)}

    def test_classes_of_imagenette_have_their_places(self):
        assert class_numbers(["n03888257", "n01440764"], None)["n03888257"] == 701
        # The order is that of the ids.
        assert sorted(IMAGENETTE, key=IMAGENETTE.get) == sorted(IMAGENETTE)

    def test_other_names_are_no_classes(self):
        assert class_numbers(["bars", "plain"], None) is None
        with refused(received="n00000001"):
            class_numbers(["n00000001", "n01440764"], None)

    def test_a_file_gives_the_places(self, tmp_path):
        listed = ["bars", "n01440764 tench", "", "plain", *(f"n{number:08d}" for number in range(997))]
        path = tmp_path / "classes.txt"
        path.write_text("\n".join(listed))
        numbers = class_numbers(["plain", "bars"], str(path))
        assert (numbers["plain"], numbers["n00000996"]) == (2, 999)
        with refused(received="other"):
            class_numbers(["other"], str(path))

    @pytest.mark.parametrize("names", [["bars", "plain"], [*"ab" * 500]])
    def test_a_file_of_other_classes_than_the_classifiers_is_refused(self, names, tmp_path):
        (tmp_path / "classes.txt").write_text("\n".join(names))
        with refused("classes.txt", received=f"{len(names)} lines, 2 of them different", allowed="1000"):
            class_numbers(["bars"], str(tmp_path / "classes.txt"))


def test_photos_are_normalised_within():
    seen = []

    class Network(nn.Module):
        def forward(self, photos):
            seen.append(photos)
            return photos.mean((2, 3))

    Classifier(Network(), (127.0,) * 3, (128.0,) * 3)(torch.full((1, 3, 224, 224), 255, dtype=torch.uint8))
    assert seen[0].unique().tolist() == [1.0]


def test_the_default_knows_a_thousand_classes():
    classifier = load_classifier("efficientnet_lite0", None)
    with torch.no_grad():
        logits = classifier(torch.zeros(1, 3, 224, 224, dtype=torch.uint8))
    assert logits.shape == (1, 1000)
    assert not classifier.training


def test_one_of_torchvision_takes_its_weights(tmp_path):
    network = models.squeezenet1_1(weights=None)
    torch.save(network.state_dict(), tmp_path / "weights.pth")
    loaded = load_classifier("squeezenet1_1", str(tmp_path / "weights.pth")).network.state_dict()
    assert all(torch.equal(value, loaded[name]) for name, value in network.state_dict().items())
    (tmp_path / "other.pth").write_bytes(b"no weights")
    with refused("other.pth", "squeezenet1_1"):
        load_classifier("squeezenet1_1", str(tmp_path / "other.pth"))
    with refused("classifier", received="squeezenet9", allowed="resnet50"):
        load_classifier("squeezenet9", str(tmp_path / "weights.pth"))


@pytest.mark.parametrize("given", ["weights.pth", None])
def test_missing_weights_are_told(given, tmp_path):
    with refused("squeezenet1_1"):
        load_classifier("squeezenet1_1", str(tmp_path / str(given)))
