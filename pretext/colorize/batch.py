"""Colour many photos: one after the other, each result written whole, what fails named with its reason."""

import errno
import io
import math
from collections.abc import Sequence
from dataclasses import dataclass, field, replace
from pathlib import Path

import numpy as np
import torch

from pretext.colorize.colorizer import Colorizer, colorizer_sha256
from pretext.colorize.outputs import Job, NameTakenError, Record, sha256_of, sole_use
from pretext.colorize.painting import (
    check_decoding,
    entropy,
    lightness_of,
    own_size,
    paint_decoded,
    predict,
)
from pretext.colorize.photo_files import CannotWriteError, encode_entropy, encode_photo
from pretext.colorize.settings import PaintingSettings
from pretext.colorize.steering import check_steering, recolor, steer
from pretext.data.decoding import UnreadablePhotoError, decode_stored
from pretext.errors import InputError
from pretext.files import write_whole
from pretext.progress import ProgressDisplay

#: What the next photo cannot be written for, either.
DISK_ERRORS = (errno.ENOSPC, errno.EDQUOT, errno.EROFS, errno.EIO)


@dataclass
class Outcome:
    """What became of the photos.

    Attributes:
        painted: How many were coloured.
        finished: How many had been coloured before.
        failed: The reason for each photo that was not, by its path.
    """

    painted: int = 0
    finished: int = 0
    failed: dict[str, str] = field(default_factory=dict)


def colorize_photos(
    colorizer: Colorizer, jobs: Sequence[Job], out: Path, settings: PaintingSettings
) -> Outcome:
    """Colour photos into a folder, or go on where an interrupted run with the same colorizer and settings stopped.

    Args:
        colorizer: In eval mode.
        jobs: The photos; see :func:`pretext.colorize.outputs.plan`.
        out: Folder of the results and their record.
        settings: How to colour.

    Raises:
        InputError: The colorizer cannot be used so, the folder holds results of other settings or is in use, or the
            disk is full or fails. What is finished stays.
    """
    check_decoding(colorizer, settings.decoding, settings.decode_at)
    check_steering(colorizer, settings.steering)
    if settings.uncertainty and not colorizer.space.histograms:
        raise InputError(
            "only a distribution is uncertain",
            received=colorizer.space.name,
            allowed="use a colorizer whose output space has one",
        )
    settings = replace(settings, size=settings.size or own_size(colorizer))
    outcome = Outcome()
    with sole_use(out), ProgressDisplay("colorize", len(jobs)) as display:
        record = Record(out, {"colorizer": colorizer_sha256(colorizer), **settings.as_json()})
        for job in jobs:
            try:
                if _colorize(colorizer, job, out, settings, record):
                    outcome.painted += 1
                else:
                    outcome.finished += 1
            except (UnreadablePhotoError, NameTakenError, CannotWriteError) as error:
                outcome.failed[str(job.photo)] = str(error)
            display.step(1)
    return outcome


def _colorize(colorizer: Colorizer, job: Job, out: Path, settings: PaintingSettings, record: Record) -> bool:
    """Colour one photo, unless that was done before; return whether it was coloured now."""
    try:
        data = job.photo.read_bytes()
    except OSError as error:
        raise UnreadablePhotoError(error.strerror or str(error)) from error
    sha256 = sha256_of(data)
    if record.is_finished(job.names, sha256):
        return False
    try:
        files = _painted(colorizer, data, job, settings)
    except (MemoryError, RuntimeError) as error:
        if not _is_out_of_memory(error):
            raise
        raise UnreadablePhotoError(
            "it takes more memory than there is; a smaller --size takes less"
        ) from error
    record.claim(job.names, sha256)
    for name, content in files.items():
        _write(out / name, content)
    return True


def _is_out_of_memory(error: Exception) -> bool:
    # On a CPU torch raises a plain RuntimeError.
    return isinstance(error, (MemoryError, torch.OutOfMemoryError)) or "can't allocate memory" in str(error)


def _painted(colorizer: Colorizer, data: bytes, job: Job, settings: PaintingSettings) -> dict[str, bytes]:
    """Return the results for one photo by their names, as the bytes of files."""
    photo = decode_stored(data)
    pixels = torch.from_numpy(np.array(photo.rgb)).permute(2, 0, 1)
    lightness = lightness_of(pixels)
    del pixels
    colors = steer(colorizer, predict(colorizer, lightness, settings.size), settings.steering)
    files = {}
    for number, name in enumerate(job.results):
        decoding = replace(settings.decoding, seed=settings.decoding.seed + number)
        painted = paint_decoded(
            colorizer, lightness, colors, decoding, settings.upsampling, settings.decode_at
        )
        files[name] = encode_photo(recolor(painted, lightness, settings.steering), photo, job.kind)
    if job.maps and colors.distribution is not None:
        bits = entropy(colors.distribution)[0].cpu()
        buffer = io.BytesIO()
        np.save(buffer, bits.numpy())
        most = sum(map(math.log2, colorizer.space.histograms))
        picture = encode_entropy(bits, most, (lightness.shape[2], lightness.shape[1]))
        files |= dict(zip(job.maps, (picture, buffer.getvalue()), strict=True))
    return files


def _write(path: Path, content: bytes) -> None:
    try:
        write_whole(path, content)
    except InputError as error:
        if getattr(error.__cause__, "errno", None) in DISK_ERRORS:
            raise
        raise CannotWriteError(error.what) from error
