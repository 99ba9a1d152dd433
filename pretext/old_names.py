"""What older files say: classes by their modules (``torch.optim.SGD``), and settings by other names and in other forms.

Today's say ``SGD``, ``mixed_precision`` and ``max_grad_norm``, give milestones in shares of the run, and say what
pretraining starts from (``init``). Older ones are read by `renamed`. Hashes that they hold are still those of new ones:
`spelled_for_hash` gives the spelling that they were taken over.
"""

import math
import re
from collections.abc import Callable, Mapping
from contextlib import suppress
from typing import Any

_METHODS = {
    "autoencoder": "Autoencoder",
    "bigan": "BiGAN",
    "colorization": "Colorization",
    "context": "Context",
    "counting": "Counting",
    "deepcluster": "DeepCluster",
    "egomotion": "Egomotion",
    "inpainting": "Inpainting",
    "jigsaw": "Jigsaw",
    "rotation": "Rotation",
    "split_brain": "SplitBrain",
    "supervised": "Supervised",
    "tracking": "Tracking",
}
_VIEWS = ("RandomCrop", "RandomResizedCrop", "RandomScaleCrop")
_REDUCTIONS = ("AdaptiveAveragePool", "AdaptiveMaxPool", "AveragePool", "BilinearResize", "MaxPool")
_OPTIMIZERS = ("Adam", "AdamW", "RMSprop", "SGD")

#: Today's name by the old one. Nothing is ever added here: what is new has had its name from the start.
NAMES: Mapping[str, str] = {
    **{f"pretext.methods.{name}.{kind}": name for name, kind in _METHODS.items()},
    **{f"pretext.data.views.{name}": name for name in _VIEWS},
    "pretext.data.side_by_side.PairCrop": "PairCrop",
    **{f"transfer.reductions.{name}": name for name in _REDUCTIONS},
    **{f"torch.optim.{name}": name for name in _OPTIMIZERS},
}
#: What does as the papers' code does, by the name of what did not. Scores keep the name of what made them, so that
#: the two share no column; a config with such a name is refused.
MENDED: Mapping[str, str] = {"BilinearResize": "TentResize", "RandomScaleCrop": "RandomWindowCrop"}
#: What is written today for a config whose name held method, architecture and data, or stage and protocol.
_SPELLINGS = (
    (r"egomotion_alexnet_frames128", "egomotion_frames"),
    (r"tracking_alexnet_videos128", "tracking_videos"),
    (r"colorization_vgg16_imagenette128", "colorization_vgg16 imagenette128"),
    (r"(\w+)_alexnet_(toyworld|imagenette128)", r"\1 \2"),
    (r"(zhang2016_\w+)", r"\1"),
    (r"(?:linear_probe|voc_classification|voc_detection|voc_segmentation)_(imagenette128|voc256)", r"\1"),
    (r"linear_probe_goyal2019", "--protocol goyal2019_colorization or --protocol goyal2019_jigsaw"),
    (
        r"(?:linear_probe|voc_classification|voc_svm|voc_detection|voc_segmentation)_([\w-]+)",
        r"--protocol \1",
    ),
    (
        r"(linear_probe|voc_classification|voc_svm|voc_detection|voc_segmentation)",
        "no --config: it is the default",
    ),
)
#: What pretraining started from while configs did not say it.
FIRST_INIT = "he"
#: What segmentation did while configs did not say it.
FIRST_SEGMENTATION: Mapping[str, Any] = {"gray": False, "early_stopping": None}
#: How colours were judged while configs did not say it.
FIRST_COLORS: Mapping[str, Any] = {"decode_at": "map", "true_histogram": None}
#: By the kind of config, what it did not say at first.
_FIRST: Mapping[str, Mapping[str, Any]] = {"segmentation": FIRST_SEGMENTATION, "colors": FIRST_COLORS}
_ADDRESSES = {name: address for address, name in NAMES.items()}
#: Keys by which a config is known: of which stage it is, or of pretraining.
_KEYS: Mapping[str, frozenset[str]] = {
    "pretraining": frozenset({"held_out", "mixed_precision", "max_grad_norm", "schedule", "steps"}),
    "probe": frozenset({"classifier_init", "mixed_precision", "schedule", "steps"}),
    "detection": frozenset({"roi_pool", "mixed_precision", "schedule", "steps"}),
    "segmentation": frozenset({"head_lr_factor", "mixed_precision", "schedule", "steps"}),
    "classification": frozenset({"fc_channels", "crops", "mixed_precision", "schedule", "steps"}),
    "svm": frozenset({"positive_weight", "mixed_precision"}),
    "colors": frozenset({"network_size", "decode", "temperature", "upsampling"}),
}
#: What a cosine schedule of fine-tuning said besides, without a meaning.
_PARTS: Mapping[str, dict[str, Any]] = {
    "classification": {"decay": 0.5, "stages": 8},
    "detection": {"decay": 0.1, "stages": 3},
}


def renamed(config: Any) -> Any:
    """Return ``config`` with today's names and forms in place of old ones; a copy."""
    return _mapped(config, _named(NAMES), _new_form)


def spelled_for_hash(config: Any) -> Any:
    """Return ``config`` as it was spelled when the first identities were hashed; for hashes alone, never to be shown.

    What could not be said then stays as it is.
    """
    return _mapped(config, _named(_ADDRESSES), _old_form)


def new_spelling(config: str) -> str | None:
    """What is written today in place of the old name of a config (``pretext/rotation_alexnet_toyworld``), or None."""
    name = config.removeprefix("configs/").removesuffix(".py")
    for old, new in _SPELLINGS:
        if found := re.fullmatch(f"(?:pretext|transfer)/{old}", name):
            return found.expand(new)
    return None


def _mapped(value: Any, named: Callable[[str], str], form: Callable[[dict[str, Any]], dict[str, Any]]) -> Any:
    if isinstance(value, Mapping):
        mapped = {
            key: named(entry) if key == "type" and isinstance(entry, str) else _mapped(entry, named, form)
            for key, entry in value.items()
        }
        return form(mapped)
    if isinstance(value, (list, tuple)):
        return type(value)(_mapped(entry, named, form) for entry in value)
    return value


def _named(names: Mapping[str, str]) -> Callable[[str], str]:
    return lambda name: names.get(name, name)


def _new_form(config: dict[str, Any]) -> dict[str, Any]:
    """Return a config with today's keys and values; a dict that is not a config stays as it is."""
    config = dict(config)
    if "amp" in config:
        config = _with_key(config, "amp", "mixed_precision", config["amp"])
    clip = config.get("clip_grad", ())
    if clip is None or (isinstance(clip, dict) and clip.keys() == {"max_norm"}):
        config = _with_key(config, "clip_grad", "max_grad_norm", clip and clip["max_norm"])
    if isinstance(config.get("mixed_precision"), bool):
        config["mixed_precision"] = "bfloat16" if config["mixed_precision"] else None
    if config.get("crops", 1) is None:
        config["crops"] = 1
    schedule = config.get("schedule")
    if isinstance(schedule, dict) and "name" in schedule:
        # What is not an old schedule stays as it is, for who reads the config to refuse.
        with suppress(ArithmeticError, AttributeError, LookupError, TypeError, ValueError):
            config["schedule"] = _new_schedule(schedule, config.get("steps"))
    if _KEYS["pretraining"] <= config.keys():
        config.setdefault("init", FIRST_INIT)
    for kind, first in _FIRST.items():
        if _KEYS[kind] <= config.keys():
            config |= {key: value for key, value in first.items() if key not in config}
    return config


def _new_schedule(old: Mapping[str, Any], steps: Any) -> dict[str, Any]:
    """Return today's form of a schedule; the same where milestones in steps have no ``steps`` to be shares of."""
    name, warmup = old["name"], old.get("warmup", 0.0)
    kind = {name.lower(): name for name in ("Bottou", "Constant", "Cosine", "Poly", "Step")}.get(name, name)
    # The first warm-ups of pretraining and segmentation began at a hundredth.
    in_parts = "factors" in old or "stages" in old
    new: dict[str, Any] = {"type": kind, "warmup": warmup}
    new["warmup_start"] = None if in_parts or not warmup else 0.01
    if kind == "Poly":
        new["power"] = old["power"]
    if kind != "Step":
        return new
    rounding = "nearest"
    if "factors" in old:
        milestones, factors = list(old["milestones"]), list(old["factors"])
    elif "stages" in old:
        parts = range(1, math.ceil(old["stages"]))
        milestones = [warmup + (1 - warmup) * (part / old["stages"]) for part in parts]
        factors, rounding = [old["decay"] ** part for part in parts], "up"
    elif not isinstance(steps, int) and old["milestones"]:
        return dict(old)
    else:
        milestones, factors, factor = [], [], 1.0
        for step, multiply in old["milestones"]:
            factor *= multiply
            milestones.append(step / steps)
            factors.append(factor)
    return new | {"milestones": milestones, "factors": factors, "rounding": rounding}


def _old_form(config: dict[str, Any]) -> dict[str, Any]:
    """Return a config with its first keys and values; a dict that is not a config stays as it is."""
    config = dict(config)
    kind = next((kind for kind, keys in _KEYS.items() if keys <= config.keys()), None)
    if kind is None:
        return config
    if kind == "pretraining":
        if config.get("init") == FIRST_INIT:
            del config["init"]
        limit = config["max_grad_norm"]
        config = _with_key(config, "mixed_precision", "amp", config["mixed_precision"])
        config = _with_key(
            config, "max_grad_norm", "clip_grad", limit if limit is None else {"max_norm": limit}
        )
    elif config.get("mixed_precision", ...) in (None, "bfloat16"):
        config["mixed_precision"] = config["mixed_precision"] is not None
    if kind in _FIRST:
        config = {k: v for k, v in config.items() if v != _FIRST[kind].get(k, ...)}
    if kind == "classification" and config["crops"] == 1:
        config["crops"] = None
    schedule = config.get("schedule")
    if isinstance(schedule, dict) and "type" in schedule:
        old = _old_schedule(schedule, kind, config["steps"])
        # What the first form could not say exactly stays as it is.
        if old is not None and _same(_new_schedule(old, config["steps"]), schedule):
            config["schedule"] = old
    return config


def _old_schedule(new: Mapping[str, Any], kind: str, steps: Any) -> dict[str, Any] | None:
    name = str(new["type"]).lower()
    if kind == "probe":
        parts = {key: new.get(key, []) for key in ("milestones", "factors")}
        return {"name": name} | parts if name in ("step", "bottou") else None
    old = {"name": name, "warmup": new["warmup"]}
    if kind in _PARTS:
        if name == "cosine":
            return old | _PARTS[kind]
        begins_late = name == "step" and new["milestones"] and new["milestones"][0] > new["warmup"]
        return old | _parts(new) if begins_late else None
    milestones = []
    before = 1.0
    for share, factor in zip(new.get("milestones", ()), new.get("factors", ()), strict=True):
        if not isinstance(steps, int) or not before:
            return None
        milestones.append([round(share * steps), _quotient(factor, before)])
        before = factor
    if kind == "segmentation":
        old["power"] = new.get("power", 0.9)
    elif name == "poly":
        return None
    return old | {"milestones": milestones}


def _parts(new: Mapping[str, Any]) -> dict[str, Any]:
    """Return number and factor of the equal parts that milestones make, the last of which may be shorter."""
    warmup, first = new["warmup"], new["milestones"][0]
    stages = _shortest(lambda x: warmup + (1 - warmup) * (1 / x) == first, (1 - warmup) / (first - warmup))
    return {"decay": new["factors"][0], "stages": int(stages) if stages == int(stages) else stages}


def _quotient(factor: float, before: float) -> float:
    return _shortest(lambda x: before * x == factor, factor / before)


def _shortest(fits: Callable[[float], bool], near: float) -> float:
    """Return the number with the fewest digits that fits, of those next to ``near``; else ``near``.

    Division is not the exact inverse of multiplication, and a number that somebody wrote has few digits.
    """
    below = math.nextafter(near, -math.inf)
    above = math.nextafter(near, math.inf)
    numbers = (math.nextafter(below, -math.inf), below, near, above, math.nextafter(above, math.inf))
    return min((x for x in numbers if fits(x)), key=lambda x: len(repr(x)), default=near)


def _same(first: Any, second: Any) -> bool:
    if isinstance(first, Mapping) and isinstance(second, Mapping):
        return first.keys() == second.keys() and all(_same(first[key], second[key]) for key in first)
    if isinstance(first, (list, tuple)) and isinstance(second, (list, tuple)):
        return len(first) == len(second) and all(map(_same, first, second))
    return bool(first == second)


def _with_key(config: dict[str, Any], old: str, new: str, value: Any) -> dict[str, Any]:
    """Return a config with another key, and its value, in the place of one."""
    return {new if key == old else key: value if key == old else entry for key, entry in config.items()}
