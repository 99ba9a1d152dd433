"""Makes the folder of a study from folders of coloured photos and the true ones.

Differences from the paper: an obvious fake has the colours of that one of eight other photos whose colours differ most,
where the paper took any other photo. So it is obvious more often.
"""

import hashlib
import io
import random
import secrets
import shutil
import tempfile
from collections.abc import Mapping, Sequence
from pathlib import Path

import numpy as np
import torch
from PIL import Image
from torch import Tensor
from torch.nn.functional import interpolate

from pretext.color.lab import lab_to_rgb, rgb_to_lab
from pretext.data.decoding import PHOTO_SUFFIXES, UnreadablePhotoError, read_rgb
from pretext.data.decoding import read_header as read_photo_header
from pretext.data.walking import walk_files
from pretext.errors import InputError
from pretext.files import sync, write_whole
from pretext.progress import ProgressDisplay, say
from transfer.data.identity import data_name
from transfer.study.study import PICTURES_NAME, RECORD_NAME, Photo, StudySettings, record

#: How many other photos are looked at for the colours of an obvious fake.
DONORS = 8
#: Side of the small copies by which colours are compared.
THUMBNAIL = 16
#: A true photo counts as gray if no small copy's pixel has this chroma, in CIE units.
GRAY_BELOW = 4.0
#: How many names an error lists.
LISTED = 3


def make_study(folders: Mapping[str, Path], truth: Path, out: Path, settings: StudySettings) -> int:
    """Make a study, whole or not at all.

    Args:
        folders: Folders of coloured photos, by the name of the system that coloured them. All have the same photos.
        truth: Folder of the true photos; it may have more.
        out: The folder to make.
        settings: How the study is held.

    Returns:
        The number of photos.

    Raises:
        InputError: Photos are missing, unreadable or of another size, there are too few, or ``out`` cannot be made.
    """
    settings.check()
    pairs = match_photos(folders, truth)
    needed = settings.practice + settings.tests
    if len(pairs) < needed:
        raise InputError(
            "too few photos for a participant, who sees none twice",
            received=f"{len(pairs)} photos",
            allowed=f"give at least {needed}, or choose fewer pairs by --practice and --tests",
        )
    check_sizes(pairs)
    if out.exists():
        raise InputError(
            "there is something already", received=out, allowed="name a folder that is not there"
        )
    out.parent.mkdir(parents=True, exist_ok=True)
    temporary = Path(tempfile.mkdtemp(prefix=f".{out.name}.", suffix=".tmp", dir=out.parent))
    try:
        _fill(temporary, pairs, data_name(str(truth)), settings)
        temporary.chmod(0o755)
        temporary.rename(out)
    except OSError as error:
        raise InputError(
            f"cannot make {out}: {error.strerror or error}", allowed="name another path"
        ) from error
    finally:
        shutil.rmtree(temporary, ignore_errors=True)
    return len(pairs)


def match_photos(folders: Mapping[str, Path], truth: Path) -> dict[str, dict[str, Path]]:
    """Find each coloured photo with the true one, by its path without the ending.

    Returns:
        For each photo the paths of its pictures by system; that of the true one under the empty name.

    Raises:
        InputError: A folder has no photos, or two of one name, or is named twice; systems differ in their photos; a
            true one is missing.
    """
    seen: dict[Path, str] = {}
    for system, folder in folders.items():
        other = seen.setdefault(folder.resolve(), system)
        if other != system:
            raise InputError(
                f"{other} and {system} are one folder", received=folder, allowed="name each folder once"
            )
    found = {system: _photos(folder) for system, folder in folders.items()}
    true = _photos(truth)
    first, *others = found
    for system in others:
        odd = sorted(found[first].keys() ^ found[system].keys())
        if odd:
            raise InputError(
                f"{folders[first]} and {folders[system]} have not the same photos",
                received=_listed(odd),
                allowed="give folders with the results of the same photos",
            )
    missing = sorted(found[first].keys() - true.keys())
    if missing:
        raise InputError(
            f"{truth} lacks true photos of {folders[first]}",
            received=_listed(missing),
            allowed="they are matched by their path in the folder, without the ending",
        )
    return {
        name: {"": true[name], **{system: photos[name] for system, photos in found.items()}}
        for name in sorted(found[first])
    }


def check_sizes(pairs: Mapping[str, Mapping[str, Path]]) -> None:
    """Raise InputError unless all pictures of each photo have its size."""
    odd = []
    for paths in pairs.values():
        sizes = {path: _upright_size(path) for path in paths.values()}
        true = sizes[paths[""]]
        odd += [
            f"{path} ({w}x{h}, not {true[0]}x{true[1]})" for path, (w, h) in sizes.items() if (w, h) != true
        ]
    if odd:
        raise InputError(
            "coloured photos have not the size of the true ones",
            received=_listed(odd),
            allowed="give results of the full size, with the same photos as truth",
        )


def with_colors_of(photo: Tensor, other: Tensor) -> Tensor:
    """Return the lightness of a photo with the colours of another, stretched over it; uint8 (3, H, W)."""
    lab, colors = rgb_to_lab(photo[None]), rgb_to_lab(other[None])[:, 1:]
    stretched = interpolate(colors, photo.shape[1:], mode="bilinear", align_corners=False)
    rgb = lab_to_rgb(torch.cat([lab[:, :1], stretched], dim=1))[0]
    return (rgb * 255).round().to(torch.uint8)


def _fill(folder: Path, pairs: Mapping[str, Mapping[str, Path]], data: str, settings: StudySettings) -> None:
    hashes = {system: hashlib.sha256() for system in next(iter(pairs.values())) if system}
    saved: dict[str, dict[str, str]] = {}
    (folder / PICTURES_NAME).mkdir()
    with ProgressDisplay("pictures", len(pairs)) as display:
        for name, paths in pairs.items():
            pictures = {system: _resized(_read(path), settings.size) for system, path in paths.items()}
            for system, digest in hashes.items():
                digest.update(_bytes(name, pictures[system]))
            saved[name] = {system: _save(folder, picture) for system, picture in pictures.items()}
            display.step(1)
    truths = {name: folder / PICTURES_NAME / names[""] for name, names in saved.items()}
    colors = _small_colors(truths)
    _tell_gray([name for name, own in zip(truths, colors, strict=True) if own.norm(dim=0).max() < GRAY_BELOW])
    fakes = _save_obvious_fakes(folder, truths, colors, settings.seed)
    photos = [
        Photo(name, names.pop(""), vigilance=fakes[name], systems=names) for name, names in saved.items()
    ]
    for path in (folder / PICTURES_NAME).iterdir():
        sync(path)
    digests = {system: digest.hexdigest() for system, digest in hashes.items()}
    write_whole(folder / RECORD_NAME, record(settings, data, digests, photos))


def _small_colors(truths: Mapping[str, Path]) -> Tensor:
    """Return the ab values of small copies of the true photos, (N, 2, 16, 16)."""
    small = [_tensor(read_rgb(path).resize((THUMBNAIL, THUMBNAIL))) for path in truths.values()]
    return rgb_to_lab(torch.stack(small))[:, 1:]


def _tell_gray(names: Sequence[str]) -> None:
    if names:
        say(
            f"true photos without colours, whose fakes people can only guess: {len(names)} ({_listed(names)})"
        )


def _save_obvious_fakes(
    folder: Path, truths: Mapping[str, Path], colors: Tensor, seed: int
) -> dict[str, str]:
    """Write a fake of each photo; give the names of the files by the photos'."""
    rng, saved = random.Random(f"{seed} colors"), {}
    paths = list(truths.values())
    with ProgressDisplay("obvious fakes", len(truths)) as display:
        for number, name in enumerate(truths):
            others = [other for other in range(len(paths)) if other != number]
            drawn = rng.sample(others, min(DONORS, len(others)))
            distances = (colors[drawn] - colors[number]).norm(dim=1).mean(dim=(1, 2))
            photo, donor = (_tensor(read_rgb(paths[k])) for k in (number, drawn[int(distances.argmax())]))
            fake = with_colors_of(photo, donor).permute(1, 2, 0).numpy()
            saved[name] = _save(folder, Image.fromarray(fake))
            display.step(1)
    return saved


def _save(folder: Path, picture: Image.Image) -> str:
    """Write the pixels alone, under a name that says nothing."""
    written = io.BytesIO()
    Image.fromarray(np.array(picture)).save(written, "PNG")
    name = f"{secrets.token_hex(16)}.png"
    (folder / PICTURES_NAME / name).write_bytes(written.getvalue())
    return name


def _photos(folder: Path) -> dict[str, Path]:
    if not folder.is_dir():
        raise InputError("no folder of photos", received=folder, allowed="name a folder")
    found: dict[str, Path] = {}
    for path in walk_files(folder, PHOTO_SUFFIXES).files:
        name = path.relative_to(folder).with_suffix("").as_posix()
        if name in found:
            raise InputError(
                f"two photos of {folder} differ only in their ending",
                received=f"{found[name].name} and {path.name}",
                allowed="take one of them away",
            )
        found[name] = path
    if not found:
        raise InputError(f"no photos in {folder}", allowed="allowed are JPEG, PNG and WebP files")
    return found


def _upright_size(path: Path) -> tuple[int, int]:
    try:
        return read_photo_header(path).upright_size
    except UnreadablePhotoError as error:
        raise _unreadable(path, error) from error


def _read(path: Path) -> Image.Image:
    try:
        return read_rgb(path)
    except UnreadablePhotoError as error:
        raise _unreadable(path, error) from error


def _unreadable(path: Path, error: UnreadablePhotoError) -> InputError:
    return InputError(f"cannot read {path}: {error}", allowed="mend it, or take it out of all folders")


def _resized(picture: Image.Image, size: int) -> Image.Image:
    scale = size / max(picture.size)
    if scale >= 1:
        return picture
    width, height = (max(1, round(side * scale)) for side in picture.size)
    return picture.resize((width, height), Image.Resampling.LANCZOS)


def _tensor(picture: Image.Image) -> Tensor:
    return torch.from_numpy(np.array(picture)).permute(2, 0, 1)


def _bytes(name: str, picture: Image.Image) -> bytes:
    return f"{name} {picture.size}\n".encode(errors="surrogateescape") + picture.tobytes()


def _listed(names: Sequence[str]) -> str:
    more = f" and {len(names) - LISTED} more" if len(names) > LISTED else ""
    return ", ".join(names[:LISTED]) + more
