"""The settings of each stage, which a config must spell out and a protocol fixes. Nothing heavy is imported here."""

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import ClassVar

from pretext.checks import check_at_least, check_choice, check_share
from pretext.colorize.settings import DECODE_AT, UPSAMPLINGS, Decoding
from pretext.errors import InputError
from pretext.training.fields import Spec
from pretext.training.schedules import run_length
from pretext.training.settings import RunSettings, Settings, check_limit, free


@dataclass(frozen=True, kw_only=True)
class StageSettings(Settings):
    """What all stages share.

    Attributes:
        protocol: One of `transfer.protocols.table.PROTOCOLS`, or another name for settings of no paper.
        data: The data.
        batch_size: Photos of a step, in each process.
        workers: Processes that decode photos.
    """

    protocol: str
    data: str
    batch_size: int
    workers: int = free()

    def check(self) -> None:
        """Raise InputError where a value is out of range."""
        super().check()
        check_at_least("batch_size", self.batch_size, 1)
        check_at_least("workers", self.workers, 0)


@dataclass(frozen=True, kw_only=True)
class BackboneSettings(StageSettings):
    """What all stages share that judge a backbone on labelled data.

    Attributes:
        train_split: What is trained on.
        test_split: What is scored on.
        geometry: ``pretrain`` or ``evaluation``; see `pretext.backbones.checkpoint.load_backbone`.
    """

    train_split: str
    test_split: str
    geometry: str

    @property
    def split(self) -> str:
        """What is trained on and scored on, as scores say it."""
        return f"{self.train_split}->{self.test_split}"


@dataclass(frozen=True, kw_only=True)
class ComputedSettings(BackboneSettings):
    """What stages share whose work can be shortened, and done in another precision.

    Attributes:
        scale: Share of the whole schedule that is run.
        mixed_precision: ``bfloat16``, where the device has it; None for single precision.
    """

    scale: float
    mixed_precision: str | None

    def check(self) -> None:
        """Raise InputError where a value is out of range."""
        super().check()
        check_choice("mixed_precision", self.mixed_precision, (None, "bfloat16"))
        run_length(self.scale, 1)


@dataclass(frozen=True, kw_only=True)
class TrainingSettings(RunSettings, ComputedSettings):
    """What all stages share that train by gradient descent.

    Attributes:
        bias_lr_factor: Rate of biases and norms, relative to that of weights.
        decay_biases: Whether weight decay is for biases and norms, too.
    """

    bias_lr_factor: float
    decay_biases: bool

    def check(self) -> None:
        """Raise InputError where a value is out of range."""
        super().check()
        check_at_least("bias_lr_factor", self.bias_lr_factor, 0.0)

    def length(self, steps_per_epoch: int) -> int:
        """Return the steps of the run."""
        return run_length(self.scale, super().length(steps_per_epoch))


@dataclass(frozen=True, kw_only=True)
class ProbeSettings(TrainingSettings):
    """Settings of the linear probe.

    Attributes:
        layers: ``conv5``, ``conv1,conv3`` or ``all`` (every convolution).
        view: A view of `pretext.data.crops.VIEWS`, and its arguments.
        crops: Crops of a test photo: 1, the central one, or 10, with the corners, and all of them mirrored.
        crop_scores: What is averaged over crops: ``logits`` or ``probabilities``.
        reduction: A reduction of `transfer.networks.reductions.REDUCTIONS`, and its arguments.
        batch_norm: Whether to normalise each channel before the classifier.
        classifier_init: Rule of the classifier's first weights: ``normal``, ``fan_out`` or ``xavier_uniform``;
            see `transfer.stages.linear_probe.LayerProbe`.
        classifier_std: Standard deviation of ``normal``.
        evaluations: How often the test split is scored; None for after each epoch.
        epoch_rule: The score that counts: of the ``last`` or the ``best`` evaluation.
    """

    layers: str
    view: Spec
    crops: int
    crop_scores: str
    reduction: Spec
    batch_norm: bool
    classifier_init: str
    classifier_std: float
    evaluations: int | None
    epoch_rule: str

    def check(self) -> None:
        """Raise InputError where a value is out of range."""
        super().check()
        _check_view(self.view)
        check_choice("classifier_init", self.classifier_init, ("normal", "fan_out", "xavier_uniform"))
        check_at_least("classifier_std", self.classifier_std, 0.0)
        if self.evaluations is not None:
            check_at_least("evaluations", self.evaluations, 1)
        if self.crops not in (1, 10):
            raise InputError(
                "crops must be 1 (centre) or 10 (corners and centre, all also mirrored)",
                received=self.crops,
                allowed=(1, 10),
            )
        check_choice("crop_scores", self.crop_scores, ("logits", "probabilities"))
        check_choice("epoch_rule", self.epoch_rule, ("last", "best"))


@dataclass(frozen=True, kw_only=True)
class FineTuningSettings(TrainingSettings):
    """What all stages share that train a backbone's convolutions, or fc6 and fc7.

    Attributes:
        year: Year of VOC.
        train: What is trained, one of `TRAINED`; the rest stays as it is.
        batch_norm: ``absorb`` (folded into the convolutions, as the papers do), ``frozen`` or ``train``.
        rescale: Whether to scale all layers to change at the same relative rate before they are trained
            (Kraehenbuehl et al.); needs ``absorb``.
        color: Whether a backbone that sees lightness alone gets the ab channels, with weights of zero, to learn them.
        reinit_from: ``fc8``: a backbone's own fc6 and fc7 are used, if it has them; ``fc6``: they are new.
        fc6_size: Side of the map that a new fc6 sees.
        fc_channels: Channels of new fc6 and fc7.
        new_std: Standard deviation of their first weights; None for that of He et al.
        new_bias: Bias of new layers.
        dropout: Share of the features of fc6 and fc7 that is dropped.
        max_grad_norm: Gradients are scaled down to this norm; None for no limit.
    """

    TRAINED: ClassVar[Sequence[str]]

    year: int
    train: str
    batch_norm: str
    rescale: bool
    color: bool
    reinit_from: str
    fc6_size: int
    fc_channels: int
    new_std: float | None
    new_bias: float
    dropout: float
    max_grad_norm: float | None

    def check(self) -> None:
        """Raise InputError where a value is out of range."""
        super().check()
        check_choice("train", self.train, self.TRAINED)
        check_choice("batch_norm", self.batch_norm, ("absorb", "frozen", "train"))
        if self.rescale and self.batch_norm != "absorb":
            raise InputError(
                "rescale=True needs layers without batch norm",
                received=f"batch_norm={self.batch_norm}",
                allowed=("batch_norm=absorb",),
            )
        check_choice("reinit_from", self.reinit_from, ("fc6", "fc8"))
        check_at_least("fc_channels", self.fc_channels, 1)
        check_at_least("fc6_size", self.fc6_size, 1)
        if self.new_std is not None:
            check_at_least("new_std", self.new_std, 0.0)
        check_share("dropout", self.dropout, below_one=True)
        check_limit(self.max_grad_norm)


@dataclass(frozen=True, kw_only=True)
class ClassificationSettings(FineTuningSettings):
    """Settings of VOC classification.

    Attributes:
        view: A view of `pretext.data.crops.VIEWS`, and its arguments.
        crops: Crops of a test photo: 1, the central one; or more random ones, whose logits are added up.
    """

    TRAINED = ("fc8", "fc6-8", "all")

    view: Spec
    crops: int

    def check(self) -> None:
        """Raise InputError where a value is out of range."""
        super().check()
        _check_view(self.view)
        check_at_least("crops", self.crops, 1)


@dataclass(frozen=True, kw_only=True)
class SvmSettings(ComputedSettings):
    """Settings of VOC classification by support vector machines.

    Attributes:
        year: Year of VOC.
        layers: ``conv5``, ``conv1,conv3`` or ``all`` (every convolution).
        size: Photos are resized whole to a square of this side, in pixels.
        reduction: A reduction of `transfer.networks.reductions.REDUCTIONS`, and its arguments.
        costs: For each class the cost is that of the best average precision in cross-validation on the training split.
        folds: Parts of the training split in cross-validation.
        positive_weight: Weight of the photos that show a class.
        tolerance: When training has converged.
        max_iterations: Most iterations, which ``scale`` shortens.
    """

    year: int
    layers: str
    size: int
    reduction: Spec
    costs: tuple[float, ...]
    folds: int
    positive_weight: float
    tolerance: float
    max_iterations: int

    def check(self) -> None:
        """Raise InputError where a value is out of range."""
        super().check()
        for key, least in (("folds", 2), ("max_iterations", 1), ("size", 1)):
            check_at_least(key, getattr(self, key), least)
        for key in ("positive_weight", "tolerance"):
            if not getattr(self, key) > 0:
                raise InputError(
                    f"{key} is too small", received=getattr(self, key), allowed="allowed are numbers above 0"
                )
        if not self.costs or not all(cost > 0 for cost in self.costs):
            raise InputError(
                "costs is not usable", received=self.costs, allowed="allowed are one or more positive numbers"
            )


@dataclass(frozen=True, kw_only=True)
class DetectionSettings(FineTuningSettings):
    """Settings of VOC detection.

    Attributes:
        min_sizes: Photos are resized so that the shorter side has one of these, drawn at random, in pixels.
        max_size: The most that the longer side has.
        test_min_size: Shorter side at test.
        test_max_size: The most that the longer side has at test.
        flip: Whether photos are mirrored with probability one half.
        train_proposals: File of proposals (docs/data.md); None for a region proposal network, which has the anchors.
        test_proposals: That of the test split.
        anchor_sizes: Square roots of the anchors' areas, in pixels.
        aspect_ratios: Height over width of anchors.
        max_train_proposals: The most of one photo.
        max_test_proposals: The most of one photo at test.
        roi_pool: ``max``: RoI max pooling, as in Fast R-CNN; ``align``: RoIAlign.
        background_iou: IoU with an object from which a proposal, up to 0.5, is background.
        rois_per_image: Proposals of a photo that are trained on.
        nms_threshold: IoU from which the weaker of two detections is dropped.
        score_threshold: Least score of a detection.
    """

    TRAINED = ("fc6-8", "all")

    min_sizes: tuple[int, ...]
    max_size: int
    test_min_size: int
    test_max_size: int
    flip: bool
    train_proposals: str | None
    test_proposals: str | None
    anchor_sizes: tuple[int, ...]
    aspect_ratios: tuple[float, ...]
    max_train_proposals: int
    max_test_proposals: int
    roi_pool: str
    background_iou: float
    rois_per_image: int
    nms_threshold: float
    score_threshold: float

    def check(self) -> None:
        """Raise InputError where a value is out of range."""
        super().check()
        check_choice("roi_pool", self.roi_pool, ("align", "max"))
        if (self.train_proposals is None) != (self.test_proposals is None):
            raise InputError(
                "train_proposals and test_proposals must both be files, or both None",
                received=f"{self.train_proposals} and {self.test_proposals}",
            )
        if not 0 <= self.background_iou < 0.5:
            raise InputError(
                "background_iou is out of range",
                received=self.background_iou,
                allowed="allowed are numbers from 0 to below 0.5",
            )
        numbers = ("max_train_proposals", "max_test_proposals", "rois_per_image")
        for key in (*numbers, "max_size", "test_min_size", "test_max_size"):
            check_at_least(key, getattr(self, key), 1)
        for key, least in (("min_sizes", 1), ("anchor_sizes", 1), ("aspect_ratios", 0.0)):
            if not getattr(self, key):
                raise InputError(f"{key} is empty", received=(), allowed="give one number or more")
            for value in getattr(self, key):
                check_at_least(f"a number of {key}", value, least)
        check_share("nms_threshold", self.nms_threshold)
        check_share("score_threshold", self.score_threshold)


@dataclass(frozen=True, kw_only=True)
class SegmentationSettings(FineTuningSettings):
    """Settings of VOC segmentation.

    Attributes:
        network: ``head``: mmsegmentation's FCNHead on conv5; ``fcn32s``: the papers' network, which has fc6 and fc7;
            ``hypercolumn``: see `transfer.networks.hypercolumn`.
        head: Arguments of the head; None for fcn32s.
        scales: Photos are scaled by a factor drawn from this range.
        crop: Then they are cropped to this side, in pixels; None takes them whole.
        flip: Whether photos are mirrored with probability one half.
        check_counts: Whether lists that are computed (sbd_train, seg11valid, train_aug) must be as long as the papers'.
        accumulate: Steps between two updates of the weights, whose gradients are added up.
        head_lr_factor: Rate of the head, relative to that of the backbone.
        gray: Whether photos lose their colour, and keep their lightness, before the backbone sees them.
        early_stopping: How the number of steps is chosen, see `transfer.training.early_stopping`: which ``share`` of
            the training photos is held out for it, and the number of ``evaluations``. None takes all steps.
    """

    TRAINED = ("all", "head")

    network: str
    head: Spec | None
    scales: tuple[float, float]
    crop: int | None
    flip: bool
    check_counts: bool
    accumulate: int
    head_lr_factor: float
    gray: bool = False
    early_stopping: Spec | None = None

    #: By the kind of network, the numbers of its head and the least that each may be.
    HEADS: ClassVar[Mapping[str, Mapping[str, int]]] = {
        "head": {"channels": 1, "num_convs": 0, "kernel_size": 1},
        "fcn32s": {},
        "hypercolumn": {"channels": 1, "points": 1, "edge": 0, "stride": 1},
    }

    def check(self) -> None:
        """Raise InputError where a value is out of range."""
        super().check()
        check_choice("network", self.network, tuple(self.HEADS))
        check_at_least("head_lr_factor", self.head_lr_factor, 0.0)
        check_at_least("accumulate", self.accumulate, 1)
        head = Spec() if self.head is None else self.head
        for key, least in self.HEADS[self.network].items():
            check_at_least(f"head.{key}", head.get(key), least)
        if self.network == "hypercolumn":
            self._check_hypercolumn(head)
        if self.gray and self.color:
            raise InputError(
                "in gray photos there is no colour to learn",
                received="gray=True and color=True",
                allowed="set one of them to False",
            )
        if self.early_stopping is not None:
            self._check_early_stopping(self.early_stopping)

    def _check_hypercolumn(self, head: Spec) -> None:
        keys = {*self.HEADS["hypercolumn"], "dropout"}
        if head.keys() != keys:
            raise InputError(
                "head of network=hypercolumn has other keys",
                received=", ".join(sorted(head)),
                allowed=", ".join(sorted(keys)),
            )
        check_share("head.dropout", head["dropout"], below_one=True)
        if self.crop is None or self.crop <= 2 * head["edge"]:
            raise InputError(
                "network=hypercolumn draws points of crops, away from their edges",
                received=f"crop={self.crop}, head.edge={head['edge']}",
                allowed="a crop of more than twice the edge",
            )

    def _check_early_stopping(self, stopping: Spec) -> None:
        if stopping.keys() != {"share", "evaluations"}:
            raise InputError(
                "early_stopping has other keys",
                received=", ".join(sorted(stopping)),
                allowed="share and evaluations, or early_stopping=None",
            )
        check_share("early_stopping.share", stopping["share"], above_zero=True, below_one=True)
        check_at_least("early_stopping.evaluations", stopping["evaluations"], 1)


@dataclass(frozen=True, kw_only=True)
class ColorizationSettings(StageSettings):
    """Settings of the judgement of colours.

    Attributes:
        photos: Which of the photos: ``all``, or a list of `transfer.data.colored.LISTS` by numbers of ImageNet's
            validation photos.
        count: At most so many of them, spread over all; None for no limit.
        fit: What is compared: photos as they are (``own``), resized whole to a square (``square``), or the central
            square of each, resized (``center``).
        size: Side of that square, in pixels; None for ``own``.
        network_size: Shorter side at which a colorizer sees photos; None for that of its training.
        decode: One of `pretext.colorize.settings.RULES`.
        temperature: See `pretext.colorize.settings.Decoding`.
        temperatures: T of the annealed mean that are measured as well; only for what predicts a distribution.
        upsampling: One of `pretext.colorize.settings.UPSAMPLINGS`.
        samples: Coherent draws of a photo for the diversity; 0 for none.
        prior: File of the colour prior for the rebalanced accuracy and the mean colour; None for ImageNet's.
        classifier: Who classifies the coloured photos: ``efficientnet_lite0``, a classifier of torchvision, the file of
            a classifier that `pretext` trained (.safetensors), or None.
        classifier_weights: Its weights, of one of torchvision.
        classes: File of the classifier's WordNet ids, one per line; None for ImageNet's 1000.
        fid_weights: File of the weights of Inception-v3, for FID; None leaves it out. See
            `transfer.networks.perceptual.load_inception`.
        lpips_weights: File of the weights of torchvision's AlexNet, for LPIPS; None leaves it out.
        lpips_linear: File of LPIPS' weights of AlexNet's channels; None for the published ones of version 0.1.
        gallery: Photos in colour from which ``retrieval`` and ``welsh2002`` take colours, as for ``--data``.
        retriever: Backbone by whose features photos of the gallery are found, as
            `pretext.backbones.checkpoint.load_backbone` takes it.
        retriever_layer: Its layer; None for the last convolution.
        reference: File of the one photo from which ``welsh2002`` takes colours, in place of a gallery.
        decode_at: One of `pretext.colorize.settings.DECODE_AT`.
        true_histogram: How each photo's colours are matched to the histograms of the true photo, one of
            `TRUE_HISTOGRAMS`; None for not at all. See `transfer.networks.true_histogram`.
    """

    TRUE_HISTOGRAMS: ClassVar[Sequence[str | None]] = (None, "quantile", "energy")

    photos: str
    count: int | None
    fit: str
    size: int | None
    network_size: int | None
    decode: str
    temperature: float | None
    temperatures: tuple[float, ...]
    upsampling: str
    samples: int
    prior: str | None
    classifier: str | None
    classifier_weights: str | None
    classes: str | None
    fid_weights: str | None
    lpips_weights: str | None
    lpips_linear: str | None
    gallery: str | None
    retriever: str
    retriever_layer: str | None
    reference: str | None
    decode_at: str = DECODE_AT[0]
    true_histogram: str | None = None

    @property
    def classifies_by_own(self) -> bool:
        """Whether a classifier that `pretext` trained classifies."""
        return self.classifier is not None and self.classifier.endswith(".safetensors")

    def check(self) -> None:
        """Raise InputError where a value is out of range."""
        super().check()
        check_choice("photos", self.photos, ("all", "cval1k", "ctest10k", "val5k"))
        check_choice("fit", self.fit, ("own", "square", "center"))
        check_choice("upsampling", self.upsampling, UPSAMPLINGS)
        check_choice("decode_at", self.decode_at, DECODE_AT)
        check_choice("true_histogram", self.true_histogram, self.TRUE_HISTOGRAMS)
        Decoding(self.decode, self.temperature)
        for key, least in (("count", 1), ("size", 11), ("network_size", 1)):
            if getattr(self, key) is not None:
                check_at_least(key, getattr(self, key), least)
        if (self.size is None) != (self.fit == "own"):
            raise InputError(
                "size is the side of the square that photos are fitted to",
                received=f"fit={self.fit}, size={self.size}",
                allowed="give size=N with fit=square or fit=center, and size=None with fit=own",
            )
        if self.samples == 1:
            raise InputError("one sample has no diversity", received=1, allowed="allowed are 0, and 2 up")
        check_at_least("samples", self.samples, 0)
        self._check_temperatures()
        self._check_classifier()
        if self.lpips_linear is not None and self.lpips_weights is None:
            raise InputError(
                "LPIPS needs the weights of AlexNet, too",
                received=f"lpips_linear={self.lpips_linear}",
                allowed="lpips_weights=FILE, a state dict of torchvision's alexnet",
            )
        if self.gallery is not None and self.reference is not None:
            raise InputError(
                "colours come from a gallery or from one reference",
                received=f"gallery={self.gallery}, reference={self.reference}",
                allowed="give one of them",
            )

    def _check_temperatures(self) -> None:
        names = {f"{t:g}" for t in self.temperatures if 0 < t < math.inf}
        if len(names) < len(self.temperatures):
            raise InputError(
                "temperatures cannot be used",
                received=self.temperatures,
                allowed="different numbers above 0, such as temperatures=0.1,0.38,1",
            )

    def _check_classifier(self) -> None:
        given = self.classifier_weights is not None
        bundled = self.classifier in (None, "efficientnet_lite0")
        if (bundled or self.classifies_by_own) and given:
            raise InputError(
                f"the classifier {self.classifier} takes no weights",
                received=self.classifier_weights,
                allowed="name a classifier of torchvision, such as classifier=resnet50",
            )
        if self.classifies_by_own and self.classes is not None:
            raise InputError(
                f"the classifier {self.classifier} knows its classes",
                received=f"classes={self.classes}",
                allowed=(None,),
            )
        if not (bundled or self.classifies_by_own or given):
            raise InputError(
                "a classifier of torchvision needs a file of its weights",
                received=self.classifier,
                allowed="classifier_weights=FILE, a state dict as torchvision publishes it; or name the"
                " classifier.safetensors of a run",
            )


def _check_view(view: Spec) -> None:
    if view.get("type") == "PairCrop":
        raise InputError(
            "the view cuts pairs", received="PairCrop", allowed="the other views are for single photos"
        )
