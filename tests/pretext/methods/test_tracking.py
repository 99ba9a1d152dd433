import tarfile

import pytest
import torch
from refusals import refused
from see_through import SeeThrough
from small_alexnet import small_alexnet

from pretext.backbones.initializers import he_normal_
from pretext.methods import Tracking
from pretext.methods.tracking import disjoint_windows, hard_negatives, random_negatives, ranking_loss
from pretext.training.engine import pretrain


def distances(count):
    return torch.rand(count, count, generator=torch.Generator().manual_seed(0)) * 2


def test_the_ranking_loss_is_that_of_a_loop_over_triplets():
    distance, index = distances(7), torch.tensor([4, 9, 2, 9, 1, 0, 5])
    other = index[:, None] != index[None]
    torch.manual_seed(0)
    chosen = random_negatives(other)[:, :3]
    loss, _ = ranking_loss(distance.diagonal(), distance, chosen, other, 0.5)
    losses = []
    for query in range(7):
        for patch in chosen[query].tolist():
            assert index[query] != index[patch]
            losses.append(max(0.0, float(distance[query, query] - distance[query, patch]) + 0.5))
    assert len(losses) == 21
    assert loss.item() == pytest.approx(sum(losses) / 21)


def test_a_batch_with_few_others_counts_those_there_are():
    distance, other = distances(3), ~torch.eye(3, dtype=torch.bool)
    chosen = random_negatives(other)  # all, the own track last
    assert chosen[:, 2].tolist() == [0, 1, 2]
    loss, others = ranking_loss(distance.diagonal(), distance, chosen, other, 0.5)
    expected = [
        max(0.0, float(distance[i, i] - distance[i, j]) + 0.5) for i in range(3) for j in range(3) if i != j
    ]
    assert loss.item() == pytest.approx(sum(expected) / 6)
    assert len(others) == 6


def test_hard_negatives_are_the_ones_that_cost_most():
    distance, other = distances(8), ~torch.eye(8, dtype=torch.bool)
    chosen = hard_negatives(distance, other)[:, :2]
    for query in range(8):
        costs = {patch: -float(distance[query, patch]) for patch in range(8) if patch != query}
        assert chosen[query].tolist() == sorted(costs, key=costs.__getitem__, reverse=True)[:2]
    hard = ranking_loss(distance.diagonal(), distance, chosen, other, 0.5)[0]
    mean = ranking_loss(distance.diagonal(), distance, random_negatives(other), other, 0.5)[0]
    assert hard > mean


def test_random_negatives_are_all_others_equally_often():
    other = ~torch.eye(5, dtype=torch.bool)
    torch.manual_seed(0)
    first = torch.stack([random_negatives(other)[:, 0] for _ in range(800)])
    for query in range(5):
        counts = torch.bincount(first[:, query], minlength=5)
        assert counts[query] == 0
        assert (counts[other[query]] > 140).all()


class Stripes:
    """Tracks of striped patches, each with its own direction and width, ever differently bright."""

    def __init__(self, count, side):
        generator = torch.Generator().manual_seed(0)
        row, column = torch.meshgrid(torch.arange(side), torch.arange(side), indexing="ij")
        waves = torch.stack([torch.sin((row, column)[k % 2] * (0.4 + 0.3 * (k // 2))) for k in range(count)])
        brightness = 60 * torch.rand(count, 2, 1, 1, 1, generator=generator)
        noise = 20 * torch.rand(count, 2, 3, side, side, generator=generator)
        patches = 60 + 40 * (1 + waves.view(count, 1, 1, side, side)) + brightness + noise
        self.image = torch.cat(patches.unbind(1), 3).to(torch.uint8)


@pytest.mark.parametrize("random_epochs", [10, 0])
def test_it_learns_to_tell_tracks(train_method, random_epochs):
    method = Tracking(
        small_alexnet("rgb"), head_size=1, head_hidden=64, num_features=32, random_epochs=random_epochs
    )
    logged = train_method(method, Stripes(12, 48).image, steps=15, lr=3e-3)
    assert logged[0]["loss_ranking"] > 0.1
    assert logged[-1]["loss_ranking"] < 0.02
    assert logged[-1]["accuracy"] == 1


def test_hard_negatives_begin_after_the_random_epochs():
    method = Tracking(
        small_alexnet("rgb"), negatives=1, random_epochs=3, num_features=16, head_hidden=16, flip=False
    )
    he_normal_(method, 0)
    image, index = Stripes(6, 48).image, torch.arange(6)

    def losses(epoch):
        method.begin_epoch(epoch, [])
        found = set()
        for seed in range(4):
            torch.manual_seed(seed)
            found.add(round(float(method(image, index).losses["loss_ranking"].detach()), 5))
        return found

    assert len(losses(2)) > 1
    assert len(losses(3)) == 1
    assert min(losses(3)) > max(losses(2))
    # A run that goes on in mid-epoch finds it among the weights.
    assert int(method.state_dict()["epoch"]) == 2


def test_a_track_is_not_ranked_against_itself():
    # The same track twice, as where it stands in for an unreadable one: its own patch is no negative.
    method = Tracking(small_alexnet("rgb"), num_features=16, head_hidden=16, random_epochs=0, flip=False)
    he_normal_(method, 0)
    image = Stripes(3, 48).image[[0, 0, 1]]
    scalars = method(image, torch.tensor([5, 5, 6]))
    assert scalars.logged["distance_other"] > 0.01
    with refused("tracking", received="a batch of 2", allowed="2 different tracks"):
        method(image[:2], torch.tensor([5, 5]))


def test_both_patches_are_mirrored_together():
    seen = []

    class Watching(SeeThrough):
        def forward(self, photos, layers):
            seen.append(photos)
            return super().forward(photos, layers)

    image = Stripes(12, 16).image
    torch.manual_seed(0)
    Tracking(Watching())(image, torch.arange(12))
    mirrored = []
    for n in range(12):
        pair = torch.stack([image[n, ..., :16], image[n, ..., 16:]])
        shown = seen[0][[n, 12 + n]]
        mirrored.append(torch.equal(shown, pair.flip(3)))
        assert mirrored[-1] != torch.equal(shown, pair)
    assert 0 < sum(mirrored) < 12


def test_both_patches_train_the_backbone_and_the_head():
    method = Tracking(small_alexnet("rgb"), num_features=16, head_hidden=16)
    he_normal_(method, 0)
    method(Stripes(6, 48).image, torch.arange(6)).losses["loss_ranking"].backward()
    assert all(p.grad is not None for p in method.parameters())
    assert all(p.grad.abs().sum() > 0 for p in method.parameters())


def test_plain_photos_are_refused(photo_folder, small_config, tmp_path):
    config = small_config("tracking_videos")
    with tarfile.open(tmp_path / "photos.tar", "w") as tar:
        for path in sorted(photo_folder.glob("*.jpg")):
            tar.add(path, path.name)
    for data in (photo_folder, tmp_path / "photos.tar"):
        with refused("tracking", "photos", received=str(data), allowed=".tracks"):
            pretrain(config, work_dir=tmp_path / "run", data=str(data))
        windows = small_config("tracking", data="imagenette128")
        windows["view"] = config["view"]
        with refused("PairCrop", "photos", received=str(data), allowed=".tracks"):
            pretrain(windows, work_dir=tmp_path / "run", data=str(data))
        assert not (tmp_path / "run").exists()


def test_tracks_are_not_cut_by_a_view_for_photos(pair_lists, small_config, tmp_path):
    config = small_config("tracking_videos")
    config["view"] = small_config("tracking", data="imagenette128")["view"]
    with refused("RandomCrop", "tracks", received=str(pair_lists["tracks"]), allowed="PairCrop"):
        pretrain(config, work_dir=tmp_path / "run", data=str(pair_lists["tracks"]))
    assert not (tmp_path / "run").exists()


def test_frame_pairs_are_refused(pair_lists, small_config, tmp_path):
    config = small_config("tracking_videos")
    with refused("tracking", "frames", received=str(pair_lists["frames"]), allowed=".tracks"):
        pretrain(config, work_dir=tmp_path / "run", data=str(pair_lists["frames"]))


def test_windows_are_anywhere_and_do_not_overlap():
    # Every pixel tells its photo, its row and its column.
    row, column = torch.meshgrid(torch.arange(20), torch.arange(25), indexing="ij")
    image = torch.stack([torch.stack([torch.full_like(row, n), row, column]) for n in range(250)])
    torch.manual_seed(0)
    first, last = disjoint_windows(image.to(torch.uint8), 0.4)
    for patches in (first, last):
        assert patches.shape == (250, 3, 8, 8)
        assert torch.equal(patches[:, 0, 0, 0], torch.arange(250, dtype=torch.uint8))
        assert torch.equal(patches[:, 1] - patches[:, 1, :1, :1], row[None, :8, :8].expand(250, 8, 8))
        assert torch.equal(patches[:, 2] - patches[:, 2, :1, :1], column[None, :8, :8].expand(250, 8, 8))
        assert set(patches[:, 1, 0, 0].tolist()) == set(range(13))
    apart = (last[:, 1:, 0, 0].int() - first[:, 1:, 0, 0].int()).abs()
    assert (apart.amax(1) >= 8).all()


def test_windows_stand_in_for_tracks_without_their_colours():
    image = torch.randint(60, 190, (6, 3, 64, 64), dtype=torch.uint8)
    for patches in Tracking(SeeThrough(), window=0.5).patches(image):
        assert patches.shape == (6, 3, 32, 32)
        assert ((patches.std((2, 3)) > 3).sum(1) == 1).all()


def test_windows_are_of_single_photos(pair_lists, small_config, tmp_path):
    config = small_config("tracking", data="imagenette128")
    with refused("tracking", "tracks", received=str(pair_lists["tracks"]), allowed="single photos"):
        pretrain(config, work_dir=tmp_path / "run", data=str(pair_lists["tracks"]))


@pytest.mark.parametrize(
    ("arguments", "allowed"),
    [
        ({"window": 0.6}, "above 0 to 0.5"),
        ({"window": 0.0}, "above 0 to 0.5"),
        ({"margin": -0.5}, "from 0.0 up"),
        ({"negatives": 0}, "from 1 up"),
        ({"random_epochs": -1}, "from 0 up"),
        ({"num_features": 0}, "from 1 up"),
    ],
)
def test_bad_arguments_are_refused(arguments, allowed):
    ((name, value),) = arguments.items()
    with refused(name, received=value, allowed=allowed):
        Tracking(SeeThrough(), **arguments)
