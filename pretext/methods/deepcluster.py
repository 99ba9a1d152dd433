"""Clusters as labels: "Deep Clustering for Unsupervised Learning of Visual Features" (Caron et al., ECCV 2018).

Caron, Bojanowski, Joulin, Douze. Before each epoch all photos are clustered by their features; the network then learns
to predict each photo's cluster.
"""

from collections.abc import Iterable
from pathlib import Path
from typing import Any, Literal

import numpy as np
import torch
from jaxtyping import Float, Int, UInt8
from torch import Tensor, nn
from torch import distributed as dist
from torch.nn import functional as F

from pretext.backbones.base import Backbone
from pretext.checks import check_at_least, check_choice
from pretext.data.photos import Photos
from pretext.distributed import rank_and_world_size
from pretext.errors import InputError, TrainingDivergedError
from pretext.methods.base import Method, Scalars
from pretext.methods.parts.heads import MapHead, accuracy
from pretext.methods.parts.patches import normalize_each

#: Label of a photo that is in no cluster.
NONE = -1
#: Passes of k-means over the photos, and photos per mini-batch.
PASSES, AT_ONCE = 20, 1024
#: Least variance that a component is divided by, as a share of the first component's.
MIN_VARIANCE = 1e-6
#: Standard deviation of a new classifier's weights, as in the authors' code.
CLASSIFIER_STD = 0.01


class DeepCluster(Method):
    """Predicts the cluster of a photo; before each epoch, k-means finds the clusters in the network's own features.

    The features are those of central crops. Each crop's channels get the same mean and deviation, so that clusters do
    not follow brightness. Features are pooled, reduced to their principal components, whitened and normalised (section
    4.1). An empty cluster takes a part of another one (section 3.3). The photos of an epoch are drawn uniformly over
    clusters, so that all clusters are shown equally often: one of few photos shows them several times, in other crops.
    Classifier and its optimiser state are new in each epoch; the authors' code gives the classifier a new optimiser
    each time.

    Clusters are numbered so that as many photos as possible keep their number from one epoch to the next. The share of
    photos that do not is logged as ``reassigned`` (1 in the first epoch), the number of clusters as ``clusters``.
    Labels and both scalars are buffers, so that a run can resume in mid-epoch. With several processes the first one
    clusters, and the others take its labels and classifier. Held-out photos have no label.

    Args:
        backbone: The network to pretrain. Its input space decides what photos are clustered by: the paper's Sobel
            filters remove colour, and so does ``lightness``. The view should crop at random, so that the network learns
            to put all crops of a photo into the same cluster.
        layer: The backbone's layer whose features are clustered, under the head.
        clusters: Number of clusters; as many as photos if there are fewer photos.
        feature_size: Side, in positions, of the averaged map that is clustered.
        components: Most principal components that are clustered.
        head_size: Side, in positions, that the layer's map is pooled to for the head.
        head_hidden: Length of the head's hidden layer.
        sampling: ``clusters`` draws the photos of an epoch uniformly over clusters, as the paper; ``photos`` shows each
            photo once.

    Raises:
        InputError: The backbone has no such layer, or a number is out of range.

    Differences from the paper: no Sobel filters. The features are those of conv5 after its ReLU, instead of fc7 before
    it, and the head is one hidden layer of 512 without dropout instead of fc6 and fc7 of 4,096. k-means is
    scikit-learn's mini-batch k-means; empty clusters are filled after its last iteration, not during them. The method
    suits some ten thousand photos: one process clusters while the others wait, for half an hour at most.
    """

    name = "deepcluster"

    def __init__(
        self,
        backbone: Backbone,
        *,
        layer: str = "conv5",
        clusters: int = 100,
        feature_size: int = 2,
        components: int = 256,
        head_size: int = 3,
        head_hidden: int = 512,
        sampling: str = "clusters",
    ):
        super().__init__(backbone)
        check_at_least("clusters", clusters, 2)
        check_at_least("feature_size", feature_size, 1)
        check_at_least("components", components, 1)
        check_at_least("head_hidden", head_hidden, 1)
        check_choice("sampling", sampling, ("clusters", "photos"))
        self.layer = backbone.layer(layer)
        self.clusters = clusters
        self.feature_size = feature_size
        self.components = components
        self.chooses_photos = sampling == "clusters"
        self.head = MapHead(self.layer.channels, head_hidden, size=head_size, hidden=0)
        self.classifier = nn.Linear(head_hidden, clusters)
        self.register_buffer("labels", torch.empty(0, dtype=torch.long))
        self.register_buffer("found", torch.tensor(0.0))
        self.register_buffer("reassigned", torch.tensor(1.0))
        self.labels: Tensor
        self.found: Tensor
        self.reassigned: Tensor
        self.register_load_state_dict_pre_hook(_refuse_weighted)

    def setup(self, photos: Photos, folder: Path) -> None:
        """Make room for one label per photo."""
        self.labels = torch.full((len(photos),), NONE)

    def begin_epoch(self, epoch: int, batches: Iterable[dict[str, Tensor]]) -> list[nn.Parameter]:
        """Cluster all photos and start a new classifier."""
        rank, processes = rank_and_world_size()
        with torch.no_grad():
            if rank == 0:
                self._cluster(batches)
                self.classifier.weight.normal_(0, CLASSIFIER_STD)
                self.classifier.bias.zero_()
            if processes > 1:
                for found in (self.labels, self.reassigned, self.classifier.weight, self.classifier.bias):
                    dist.broadcast(found.detach(), 0)
            self.found.copy_((torch.bincount(self.labels[self.labels != NONE]) > 0).sum())
        return list(self.classifier.parameters())

    def choose(self, photos: Int[np.ndarray, " n"], rng: np.random.Generator) -> Int[np.ndarray, " n"]:
        """Draw the photos of an epoch uniformly over clusters."""
        chosen: Int[np.ndarray, " n"] = photos[uniform_over_clusters(self.labels.cpu().numpy()[photos], rng)]
        return chosen

    def _cluster(self, batches: Iterable[dict[str, Tensor]]) -> None:
        # Drawn first, because reading the photos draws random numbers too.
        rng = np.random.default_rng(int(torch.randint(2**31, ())))
        features, index = self._features(batches)
        if not bool(features.isfinite().all()):
            raise TrainingDivergedError(
                "the features that photos are clustered by are not finite; lower optimizer.lr"
            )
        found = cluster(whiten(features, self.components), self.clusters, rng)
        before = self.labels[index].cpu().numpy()
        labels = torch.from_numpy(keep_numbers(found, before, self.clusters)).to(self.labels.device)
        self.reassigned.copy_((labels != self.labels[index]).float().mean())
        self.labels.fill_(NONE)
        self.labels[index] = labels

    def _features(
        self, batches: Iterable[dict[str, Tensor]]
    ) -> tuple[Float[Tensor, "m d"], Int[Tensor, " m"]]:
        """Return the features of all photos, each once, and the photos' numbers."""
        features, numbers = [], []
        training = self.backbone.training
        self.backbone.eval()
        for batch in batches:
            maps = self.backbone.features(normalize_each(batch["image"]), self.layer.name)
            features.append(F.adaptive_avg_pool2d(maps, self.feature_size).flatten(1))
            numbers.append(batch["index"])
        self.backbone.train(training)
        # A photo that stands in for an unreadable one comes twice.
        index, place = np.unique(torch.cat(numbers).cpu().numpy(), return_index=True)
        device = self.labels.device
        return torch.cat(features)[torch.from_numpy(place).to(device)], torch.from_numpy(index).to(device)

    def forward(
        self, image: UInt8[Tensor, "n 3 h w"], index: Int[Tensor, " n"], mode: Literal["loss"] = "loss"
    ) -> Scalars:
        """Return the cross-entropy, the accuracy, and how the clusters changed."""
        features = self.backbone.features(image, self.layer.name)
        logits = self.classifier(self.head(features).relu()).float()
        labels = self.labels[index]
        # A photo that could not be read when photos were clustered has no label and adds no loss.
        losses = F.cross_entropy(logits, labels, ignore_index=NONE, reduction="none")
        return Scalars(
            {"loss_cluster": losses.mean()},
            {
                "accuracy": accuracy(logits, labels),
                "reassigned": self.reassigned,
                "clusters": self.found,
            },
        )


def whiten(features: Float[Tensor, "m d"], components: int) -> Float[Tensor, "m c"]:
    """Reduce features to their first principal components, each of variance 1; then scale each sample to length 1."""
    centered = features - features.mean(0)
    # By a power of two, which changes no digit. The squares of very small or large features are not numbers.
    exponent = torch.frexp(centered.abs().max()).exponent.clamp(min=-100)
    centered = torch.ldexp(centered, -exponent)
    variances, axes = torch.linalg.eigh(centered.T @ centered / len(features))
    variances, axes = variances[-components:], axes[:, -components:]
    # Components that are rounding errors stay small.
    least = (MIN_VARIANCE * variances[-1]).clamp(min=torch.finfo(variances.dtype).tiny)
    return F.normalize(centered @ axes / variances.clamp(min=least).sqrt())


def cluster(features: Float[Tensor, "m c"], clusters: int, rng: np.random.Generator) -> Int[np.ndarray, " m"]:
    """Cluster samples by k-means so that no cluster is empty.

    Args:
        features: The samples.
        clusters: Number of clusters; as many as samples if there are fewer samples.
        rng: Draws the first centroids, the batches, and how empty clusters are filled.

    Returns:
        Each sample's cluster, from 0.
    """
    # Imported here: it takes a second, and no other command needs it.
    from sklearn.cluster import MiniBatchKMeans

    clusters = min(clusters, len(features))
    # Early stopping depends on a sum that threads add up in any order: the clusters would not be reproducible.
    kmeans = MiniBatchKMeans(
        clusters,
        n_init=1,
        max_iter=PASSES,
        batch_size=AT_ONCE,
        max_no_improvement=None,
        random_state=int(rng.integers(2**31)),
    )
    samples = features.cpu().numpy()
    return fill_empty(samples, kmeans.fit_predict(samples).astype(np.int64), clusters, rng)


def fill_empty(
    samples: Float[np.ndarray, "m c"], labels: Int[np.ndarray, " m"], clusters: int, rng: np.random.Generator
) -> Int[np.ndarray, " m"]:
    """Give every empty cluster a part of another one.

    The empty cluster takes a copy of the other's centroid, and the two centroids move apart by a tiny step in a random
    direction. Each of the other's samples goes to the nearer centroid, that is to its side of a plane through the
    centroid. If all samples are equal, and so on the plane, they are halved. The other cluster is drawn from those with
    two samples or more, in proportion to the samples beyond the first.

    Args:
        samples: The clustered samples, at least as many as clusters.
        labels: Their clusters; not changed.
        clusters: Number of clusters.
        rng: Draws the other clusters and the directions.

    Returns:
        Labels in which no cluster is empty.
    """
    labels = labels.copy()
    counts = np.bincount(labels, minlength=clusters)
    for empty in np.flatnonzero(counts == 0):
        spare = (counts - 1).clip(0)
        other = rng.choice(clusters, p=spare / spare.sum())
        members = np.flatnonzero(labels == other)
        centered = samples[members] - samples[members].mean(0)
        moved = centered @ rng.standard_normal(samples.shape[1]) > 0
        if moved.all() or not moved.any():
            moved = np.arange(len(members)) % 2 == 0
        labels[members[moved]] = empty
        counts[empty], counts[other] = moved.sum(), (~moved).sum()
    return labels


def keep_numbers(
    found: Int[np.ndarray, " m"], before: Int[np.ndarray, " m"], clusters: int
) -> Int[np.ndarray, " m"]:
    """Renumber clusters so that as many samples as possible keep their number.

    Args:
        found: The samples' clusters.
        before: The samples' earlier clusters, or -1.
        clusters: Number of clusters.
    """
    # Imported here: it takes time, and no other command needs it.
    from scipy.optimize import linear_sum_assignment

    shared = np.zeros((found.max() + 1, clusters), dtype=np.int64)
    known = before != NONE
    np.add.at(shared, (found[known], before[known]), 1)
    _, numbers = linear_sum_assignment(shared, maximize=True)
    renumbered: Int[np.ndarray, " m"] = numbers[found]
    return renumbered


def uniform_over_clusters(labels: Int[np.ndarray, " n"], rng: np.random.Generator) -> Int[np.ndarray, " n"]:
    """Draw as many samples as there are, from all clusters equally many.

    As UnifLabelSampler in the authors' code (util.py): of each of k clusters n / k samples, rounded down, and one more;
    without repetition if the cluster has more than that, else with; shuffled, and cut to n.

    Args:
        labels: Clusters of the samples; those in no cluster are not drawn.
        rng: Draws the samples.

    Returns:
        Places in ``labels``.
    """
    places = np.argsort(labels, kind="stable")
    _, starts = np.unique(labels[places], return_index=True)
    clusters = [members for members in np.split(places, starts[1:]) if labels[members[0]] != NONE]
    each = len(labels) // len(clusters) + 1
    drawn = [rng.choice(members, each, replace=len(members) <= each) for members in clusters]
    return rng.permutation(np.concatenate(drawn))[: len(labels)]


def _refuse_weighted(method: nn.Module, state_dict: dict[str, Any], prefix: str, *_: Any) -> None:
    """Refuse checkpoints of runs that showed each photo once and weighted the clusters."""
    if f"{prefix}cluster_weights" in state_dict:
        raise InputError(
            "the run was begun by a version that weighted clusters instead of drawing from them",
            received="a checkpoint with cluster_weights",
            allowed="begin it anew with --fresh, or choose another --work-dir",
        )
