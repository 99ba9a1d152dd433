"""The protocols by which papers judged backbones, as named presets.

A config of a stage that names one of `PROTOCOLS` gets from it what the paper fixed. A run that departs from its
protocol does not carry its name: `protocol_label` marks it, and `departures` says in what.
"""

from collections.abc import Mapping, Sequence
from types import MappingProxyType
from typing import Any

from pretext.checks import check_choice
from pretext.config import apply_overrides, find_config, load_config, merge, plain, read_config
from pretext.errors import InputError
from transfer.protocols.colorization import COLORIZATIONS
from transfer.protocols.linear_probe import PROBES
from transfer.protocols.protocol import Protocol
from transfer.protocols.settings import StageSettings
from transfer.protocols.voc import CLASSIFICATIONS, DETECTIONS, SEGMENTATIONS, SVM
from transfer.stage import STAGES


def load_stage_config(
    stage: str,
    data: str | None = None,
    overrides: Sequence[str] = (),
    *,
    protocol: str | None = None,
    file: str | None = None,
) -> StageSettings:
    """Load a stage's settings: short ones for small data sets, those of a paper's protocol, or a file of the user's.

    Args:
        stage: One of `transfer.stage.STAGES`.
        data: A config of ``data``, as `pretext.config.load_config` takes it; not with a protocol or a file.
        overrides: ``key=value``; the protocol is not overridden.
        protocol: One of `PROTOCOLS`.
        file: A config file. Its ``protocol`` is one of `PROTOCOLS`, which it changes, or another name for what the
            file itself defines whole.

    Raises:
        InputError: As `load_config`; the file or protocol is of another stage, or lacks a key or has one too many; two
            of protocol, file and data are given; the protocol is overridden; or a value is not allowed.
    """
    _check_words(data, overrides, protocol, file)
    name = STAGES[stage].config
    if protocol is not None:
        _check_current(protocol, stage)
        check_choice(f"protocol of {stage}", protocol, [p.id for p in PROTOCOLS.values() if p.stage == stage])
        config = PROTOCOLS[protocol].settings.config()
    elif file is not None:
        config = _file_config(stage, name, file)
    else:
        config = load_config("transfer", name, data)
    apply_overrides(config, overrides)
    return STAGES[stage].settings.from_config(config)


def _check_words(data: str | None, overrides: Sequence[str], protocol: str | None, file: str | None) -> None:
    if any(override.partition("=")[0] == "protocol" for override in overrides):
        raise InputError(
            "a protocol is not a key to override, since it fixes others",
            received=" ".join(overrides),
            allowed="choose it by --protocol ID",
        )
    given = {"--protocol": protocol, "--config": file, "a data set": data}
    named = [f"{option} {value}" for option, value in given.items() if value is not None]
    if len(named) > 1:
        raise InputError(
            "the settings of a stage come from one place",
            received=", ".join(named),
            allowed="give one of --protocol, --config and a data set; --data says where the photos are",
        )


def _check_current(protocol: object, stage: str | None = None) -> None:
    """Raise InputError for the id of a protocol that was removed, of this stage if one is given."""
    now = FORMER.get(str(protocol), ())
    if any(stage in (None, PROTOCOLS[id].stage) for id in now):
        raise InputError(
            f"there is no protocol {protocol} any more",
            received=protocol,
            allowed=f"take {' or '.join(now)}",
        )


def _file_config(stage: str, name: str, file: str) -> dict[str, Any]:
    config = read_config(find_config("transfer", file))
    _check_current(config.get("protocol"), stage)
    protocol = PROTOCOLS.get(config.get("protocol", ""))
    if protocol is not None and protocol.stage != stage:
        raise InputError(f"{file} is not a config of {stage}", received=f"a protocol of {protocol.stage}")
    if protocol is not None:
        config = merge(protocol.settings.config(), config)
    missing = sorted(set(STAGES[stage].settings.keys()) - config.keys())
    if missing:
        raise InputError(
            f"{file} is not a config of {stage}",
            received=f"one without {', '.join(missing)}",
            allowed=f"configs like {find_config('transfer', name)}",
        )
    return config


def departures(config: Mapping[str, Any], processes: int = 1) -> dict[str, tuple[Any, Any]]:
    """Return where a run departs from the protocol its config names.

    Args:
        config: A stage's resolved config.
        processes: How many shared the run; the batch of a protocol is that of all of them.

    Returns:
        By dotted key, what the protocol says and what was done; empty for a protocol of no paper.
    """
    protocol = PROTOCOLS.get(config["protocol"])
    if protocol is None:
        return {}
    said, done = _flat(protocol.fixed()), _flat(plain(config))
    # Photos an update: of all processes, and of all batches whose gradients are added up.
    for each, count in ((said, 1), (done, processes)):
        if "batch_size" in each:
            each["photos an update"] = each.pop("batch_size") * each.pop("accumulate", 1) * count
    # What a config adds to a part that the protocol fixes counts as well.
    fixed = {key for key in done if key.split(".")[0] in {*protocol.fixed(), *said}}
    return {
        key: (said.get(key), done.get(key))
        for key in [*said, *sorted(fixed - said.keys())]
        if done.get(key) != said.get(key)
    }


def sizes_note(protocol: str, sizes: Mapping[str, int]) -> str | None:
    """Say which layers give another number of features than in the paper, and how many; None if there are none.

    Args:
        protocol: What a config names; of one of no paper nothing is said.
        sizes: By layer, how many numbers its classifier sees.
    """
    known = PROTOCOLS[protocol].features if protocol in PROTOCOLS else {}
    odd = [layer for layer, size in sizes.items() if known.get(layer, size) != size]
    if not odd:
        return None
    ours, theirs = (", ".join(f"{layer} {each[layer]}" for layer in odd) for each in (sizes, known))
    return (
        f"{protocol}: the classifiers see other numbers of features than in the paper: {ours}; there {theirs}"
    )


def protocol_label(config: Mapping[str, Any], processes: int = 1) -> str:
    """Return the name that a run's scores are filed under.

    The protocol's id; with ``x0.1`` where ``scale=0.1`` shortened the schedule; with ``changed`` where anything else
    is not as the protocol says. A name that is none of `PROTOCOLS` stays as it is.
    """
    label: str = config["protocol"]
    keys = set(departures(config, processes))
    if "scale" in keys:
        label += f" x{config['scale']:g}"
    return label + (" changed" if keys - {"scale"} else "")


def _flat(settings: Mapping[str, Any], prefix: str = "") -> dict[str, Any]:
    flat: dict[str, Any] = {}
    for key, value in settings.items():
        if isinstance(value, Mapping):
            flat |= _flat(value, f"{prefix}{key}.")
        else:
            flat[f"{prefix}{key}"] = value
    return flat


def get_protocol(name: str) -> Protocol:
    """Return the protocol of that id; InputError if there is none."""
    _check_current(name)
    check_choice("protocol", name, PROTOCOLS)
    return PROTOCOLS[name]


#: Ids of removed protocols, each with those to take in its place. Earlier scores keep them.
FORMER: Mapping[str, tuple[str, ...]] = MappingProxyType(
    {"goyal2019": ("goyal2019_colorization", "goyal2019_jigsaw")}  # it mixed the two
)
#: Every protocol by its id.
PROTOCOLS: Mapping[str, Protocol] = MappingProxyType(
    {
        protocol.id: protocol
        for protocol in (
            *(*PROBES, *CLASSIFICATIONS, SVM, *DETECTIONS, *SEGMENTATIONS),
            *COLORIZATIONS,
        )
    }
)
