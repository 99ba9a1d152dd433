import tarfile

import pytest
import torch
from refusals import refused
from small_alexnet import small_alexnet
from torch.nn import functional as F

from pretext.backbones.initializers import he_normal_
from pretext.data.sources import open_photos
from pretext.methods import Supervised


class Named:
    """Photos of these names."""

    kind = "photos"

    def __init__(self, *names):
        self.names = names

    def __len__(self):
        return len(self.names)

    def name(self, index):
        return self.names[index]

    key = name

    def image(self, index):
        pytest.fail("a photo was read")


def labels(photos, num_classes, tmp_path):
    method = Supervised(small_alexnet("rgb"), num_classes=num_classes)
    method.setup(photos, tmp_path)
    return method.labels.tolist()


def test_a_label_is_the_number_of_the_folder_right_above_the_photo(tmp_path):
    photos = Named("/data/zebra/1.jpg", "/data/ape/1.jpg", "/data/zebra/2.jpg", "/data/more/bee/1.jpg")
    assert labels(photos, 3, tmp_path) == [2, 0, 2, 1]


def test_folders_lists_and_shards_give_the_same_labels(photo_folders, tmp_path):
    files = sorted(photo_folders.rglob("*.jpg"))
    expected = [0] * 24 + [1] * 24
    assert labels(open_photos(photo_folders), 2, tmp_path) == expected
    (tmp_path / "photos.txt").write_text("\n".join(map(str, reversed(files))))
    assert labels(open_photos(tmp_path / "photos.txt"), 2, tmp_path) == expected[::-1]
    for number, part in enumerate((files[:30], files[30:])):
        with tarfile.open(tmp_path / f"photos-{number}.tar", "w") as tar:
            for file in part:
                tar.add(file.resolve(), f"train/{file.parent.name}/{file.name}")
    assert labels(open_photos(str(tmp_path / "photos-{0..1}.tar")), 2, tmp_path) == expected


@pytest.mark.parametrize(
    ("photos", "names", "received", "allowed"),
    [
        (["/a/1.jpg", "/a/2.jpg"], ["2 photos", "label"], "a", "two or more classes"),
        (["1.jpg", "2.jpg"], ["2 photos", "label"], "", "two or more classes"),
        (["/a/1.jpg", "/b/1.jpg"], ["num_classes", "2 folders", "a, b"], 3, "method.num_classes=2"),
        (
            ["/a/x/1.jpg", "/a/y/1.jpg", "/a/2.jpg", "/a/3.jpg"],
            ["2 photos", "label"],
            "/a/2.jpg",
            "CLASS/PHOTO",
        ),
        (["/x.tar/a/1.jpg", "/x.tar/1.jpg"], ["label"], "/x.tar/1.jpg", "SHARD.tar/CLASS/PHOTO"),
    ],
)
def test_photos_without_labels_are_refused(photos, names, received, allowed, tmp_path):
    with refused(*names, received=received, allowed=allowed):
        labels(Named(*photos), 3, tmp_path)


def test_a_single_class_is_refused():
    with refused("num_classes", received=1, allowed="from 2 up"):
        Supervised(small_alexnet("rgb"), num_classes=1)


def test_a_label_goes_with_the_number_of_its_photo_and_not_with_its_place(one_thread, tmp_path):
    method = Supervised(small_alexnet("rgb"), num_classes=3, head_hidden=0)
    he_normal_(method, 0)
    method.setup(Named("/a/1.jpg", "/b/1.jpg", "/c/1.jpg", "/a/2.jpg"), tmp_path)
    generator = torch.Generator().manual_seed(0)
    image = torch.randint(0, 256, (2, 3, 64, 64), dtype=torch.uint8, generator=generator)
    method.eval()
    logits = method.head(method.backbone(image, ["conv5"])["conv5"])
    for index, expected in (([3, 1], [0, 1]), ([1, 3], [1, 0]), ([2, 0], [2, 0])):
        loss = method(image, torch.tensor(index)).losses["loss_class"]
        torch.testing.assert_close(loss, F.cross_entropy(logits, torch.tensor(expected)))


def test_labels_are_not_saved_with_the_weights(tmp_path):
    method = Supervised(small_alexnet("rgb"), num_classes=2)
    before = set(method.state_dict())
    method.setup(Named("/a/1.jpg", "/b/1.jpg"), tmp_path)
    assert set(method.state_dict()) == before
    assert "labels" not in before


def test_it_learns_which_photo_is_of_which_folder(train_method):
    generator = torch.Generator().manual_seed(0)
    image = torch.randint(0, 256, (8, 3, 64, 64), dtype=torch.uint8, generator=generator)
    photos = Named(*(f"/{'ab'[number % 2]}/{number}.jpg" for number in range(8)))
    method = Supervised(small_alexnet("rgb"), num_classes=2, head_hidden=64)
    logged = train_method(method, image, steps=15, photos=photos)
    assert logged[-1]["accuracy"] == 1
    assert logged[-1]["loss_class"] < 0.3 * logged[0]["loss_class"]


@torch.no_grad()
def test_what_was_learned_names_the_folder_of_a_photo(one_thread, tmp_path):
    method = Supervised(small_alexnet("rgb"), num_classes=3, head_hidden=0)
    he_normal_(method, 0)
    method.setup(Named("/z/1.jpg", "/b/1.jpg", "/c/1.jpg"), tmp_path)
    classifier = method.photo_classifier()
    assert classifier.classes == ("b", "c", "z")
    ours = {parameter.data_ptr() for parameter in method.parameters()}
    assert {parameter.data_ptr() for parameter in classifier.parameters()} == ours


def test_what_lies_above_its_layer_is_not_trained_and_all_else_is():
    method = Supervised(small_alexnet("rgb"), num_classes=3, layer="conv3", head_size=1, head_hidden=0)
    method.labels = torch.tensor([0, 2])
    losses, _ = method(torch.randint(0, 256, (2, 3, 64, 64), dtype=torch.uint8), torch.arange(2))
    losses["loss_class"].backward()
    trained = {name for name, parameter in method.named_parameters() if parameter.requires_grad}
    assert {name for name, parameter in method.named_parameters() if parameter.grad is not None} == trained
    assert {name.split(".")[1] for name in trained if name.startswith("backbone")} == {
        "conv1",
        "conv2",
        "conv3",
    }
