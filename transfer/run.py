"""One run of a stage: what it records, and how its backbone came about."""

import hashlib
import json
import logging
import os
import shutil
from collections.abc import Iterator, Mapping
from contextlib import contextmanager, suppress
from pathlib import Path
from typing import Any

from pretext.backbones.checkpoint import LoadedBackbone
from pretext.errors import InputError
from pretext.files import write_whole
from pretext.old_names import spelled_for_hash
from pretext.progress import LOG

#: Keys of a pretraining config that change no weight; what ``data`` names is told by its fingerprint.
PLACE_KEYS = frozenset({"data", "workers", "checkpoint_interval", "preview_interval"})


@contextmanager
def recorded(runs: Path, name: str, record: Mapping[str, Any]) -> Iterator[Path]:
    """Write what a run is and what it says to a folder of its own, ``<name>-<hash of the record>``.

    The record goes to ``config.json``; what goes to `LOG` meanwhile, and an error that ends the run, is added to
    ``log.txt``. A run that ends in InputError, as it cannot be what was asked for, leaves nothing. Gives the folder.

    Args:
        runs: Where the folder goes.
        name: What the folder's name begins with.
        record: What tells the run from others, as JSON can hold it.

    Raises:
        InputError: The folder cannot be written.
    """
    content = json.dumps(record, indent=2) + "\n"
    folder = runs / f"{name}-{hashlib.sha256(content.encode()).hexdigest()[:8]}"
    again = folder.exists()
    write_whole(folder / "config.json", content)
    handler = logging.FileHandler(folder / "log.txt")
    handler.setFormatter(logging.Formatter("%(asctime)s %(message)s"))
    LOG.addHandler(handler)
    try:
        yield folder
    except BaseException as error:
        LOG.info("%s: %s", type(error).__name__, error)
        if isinstance(error, InputError) and not again:
            shutil.rmtree(folder)
            with suppress(OSError):  # of a folder that holds something else
                os.removedirs(runs)
        raise
    finally:
        LOG.removeHandler(handler)
        handler.close()


def recipe_id(loaded: LoadedBackbone) -> str:
    """SHA-256 of how a backbone came about but for its seed.

    That is: its architecture, method, config, number of processes, photos and steps.
    """
    provenance = loaded.provenance
    arguments = {k: v for k, v in loaded.backbone.arguments.items() if k != "geometry"}
    config = {k: v for k, v in provenance.config.items() if k not in PLACE_KEYS}
    made = [provenance.method, config, provenance.data_fingerprint, provenance.step, provenance.processes]
    recipe = json.dumps(spelled_for_hash([loaded.backbone.architecture, arguments, *made]), sort_keys=True)
    return hashlib.sha256(recipe.encode()).hexdigest()
