"""Photos to pretrain on: a folder, a list file, or tar shards, all with random access by index."""

import hashlib
import io
import os
import tarfile
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Protocol, runtime_checkable
from urllib.parse import urlsplit

import numpy as np
import numpy.typing as npt
import webdataset
from braceexpand import UnbalancedBracesError, braceexpand  # type: ignore[attr-defined]  # not exported
from PIL import ExifTags, Image

from pretext.errors import InputError

PHOTO_SUFFIXES = frozenset({".jpg", ".jpeg", ".png", ".webp"})
PAIR_LISTS = (".pairs", ".tracks")
URL_SCHEMES = ("file", "http", "https", "gs", "s3", "hf")

#: What turns a photo upright, by its EXIF orientation.
TO_UPRIGHT = {
    2: Image.Transpose.FLIP_LEFT_RIGHT,
    3: Image.Transpose.ROTATE_180,
    4: Image.Transpose.FLIP_TOP_BOTTOM,
    5: Image.Transpose.TRANSPOSE,
    6: Image.Transpose.ROTATE_270,
    7: Image.Transpose.TRANSVERSE,
    8: Image.Transpose.ROTATE_90,
}


class UnreadablePhotoError(Exception):
    """A photo's bytes could not be decoded."""


@runtime_checkable
class Photos(Protocol):
    """What every source of photos offers."""

    def __len__(self) -> int:
        """How many photos there are."""
        ...

    def name(self, index: int) -> str:
        """A name that finds the photo again: its path, or shard and member."""
        ...

    def read(self, index: int) -> bytes:
        """The photo's bytes; OSError if they cannot be read."""
        ...


class PhotoFiles:
    """Photos in files of their own.

    Args:
        paths: The files, in the order that gives each its index.
    """

    def __init__(self, paths: Sequence[Path]):
        # One array of bytes instead of a list of objects: worker processes share it without copying.
        self._names = np.array([os.fsencode(path) for path in paths], dtype=np.bytes_)

    def __len__(self) -> int:
        return len(self._names)

    def name(self, index: int) -> str:
        """The photo's path."""
        return os.fsdecode(bytes(self._names[index]))

    def read(self, index: int) -> bytes:
        """The photo's bytes; OSError if they cannot be read."""
        return Path(self.name(index)).read_bytes()


class PhotoShards:
    """Photos in tar shards as WebDataset writes them, one photo a member, read at their offsets.

    A shard given as a URL is copied into ``cache`` once, by WebDataset's own opener, and then read like a
    local one, so that order, resuming and speed are the same.

    Args:
        shards: Paths or URLs of uncompressed tar files.
        cache: Folder for copies of shards that are URLs.

    Raises:
        InputError: A shard is missing, cannot be fetched, or is no uncompressed tar file.
    """

    def __init__(self, shards: Sequence[str], cache: Path):
        self._files = [_local_shard(shard, cache) for shard in shards]
        members: list[tuple[int, int, int]] = []
        names: list[bytes] = []
        for number, path in enumerate(self._files):
            try:
                with tarfile.open(path, "r:") as tar:
                    for member in tar:
                        if member.isfile() and Path(member.name).suffix.lower() in PHOTO_SUFFIXES:
                            members.append((number, member.offset_data, member.size))
                            names.append(member.name.encode())
            except (tarfile.TarError, OSError) as error:
                raise InputError(
                    f"{path} cannot be read as a shard ({error}); expected an uncompressed tar file"
                ) from error
        self._members = np.array(members, dtype=np.int64).reshape(-1, 3)
        self._names = np.array(names, dtype=np.bytes_)

    def __len__(self) -> int:
        return len(self._members)

    def name(self, index: int) -> str:
        """The photo's shard and the name of its member."""
        shard = self._files[self._members[index, 0]]
        return f"{shard}/{bytes(self._names[index]).decode()}"

    def read(self, index: int) -> bytes:
        """The photo's bytes; OSError if they cannot be read."""
        shard, offset, size = (int(value) for value in self._members[index])
        with self._files[shard].open("rb") as file:
            file.seek(offset)
            return file.read(size)


def open_photos(source: str | Path, cache: Path = Path("work_dirs/shards")) -> Photos:
    """Open photos by path, pattern or URL.

    Args:
        source: A folder (searched through all its subfolders for .jpg, .jpeg, .png and .webp; if it holds
            none, for .tar shards), a list file (.txt, one path a line, relative to the file's folder), a list of
            pairs (.pairs, :class:`pretext.data.frame_pairs.FramePairs`; .tracks,
            :class:`pretext.data.tracks.Tracks`), a .tar shard, or shards as a brace pattern or URL
            (``https://host/photos-{000..127}.tar``).
        cache: Folder for copies of shards that are URLs.

    Raises:
        InputError: Nothing is there, or it holds no photos.
    """
    source = str(source)
    path = Path(source)
    if path.is_dir():
        files = sorted(p for p in path.rglob("*") if p.suffix.lower() in PHOTO_SUFFIXES and p.is_file())
        shards = [] if files else sorted(str(p) for p in path.rglob("*.tar"))
        photos: Photos = PhotoShards(shards, cache) if shards else PhotoFiles(files)
    elif path.suffix == ".txt" and path.is_file():
        photos = PhotoFiles(_read_list(path))
    elif path.suffix in PAIR_LISTS and path.is_file():
        photos = _open_pairs(path)
    elif source.endswith(".tar"):
        try:
            photos = PhotoShards(list(braceexpand(source)), cache)
        except UnbalancedBracesError as error:
            raise InputError(f"the pattern {source} has unbalanced braces: {error}") from error
    else:
        raise InputError(
            f"no photos: received {source}, which is neither a folder, a list file (.txt, .pairs, .tracks)"
            " nor a shard (.tar)"
        )
    if len(photos) == 0:
        raise InputError(
            f"no photos in {source}: allowed are files ending in {', '.join(sorted(PHOTO_SUFFIXES))},"
            " in subfolders too, or tar shards of such files"
        )
    return photos


def _open_pairs(path: Path) -> Photos:
    # Imported here: both modules import this one.
    from pretext.data.frame_pairs import FramePairs
    from pretext.data.tracks import Tracks

    return {".pairs": FramePairs, ".tracks": Tracks}[path.suffix](path)


def fingerprint(photos: Photos) -> str:
    """SHA-256 over the number and the names of the photos (folders above the last two left out).

    Of a list of pairs the lines count as they are.
    """
    # Imported here: the module imports this one.
    from pretext.data.side_by_side import PairList

    digest = hashlib.sha256(str(len(photos)).encode())
    for index in range(len(photos)):
        name = photos.line(index) if isinstance(photos, PairList) else _last_two(photos.name(index))
        digest.update(name.encode() + b"\n")
    return digest.hexdigest()


def _last_two(name: str) -> str:
    return "/".join(name.split("/")[-2:])


@dataclass(frozen=True)
class PhotoHeader:
    """What a photo's file says before its pixels are decoded.

    Attributes:
        size: Width and height of the stored pixels.
        orientation: How EXIF says to turn them, 1 to 8; 1, as they are, where EXIF says nothing or is damaged.
    """

    size: tuple[int, int]
    orientation: int

    @property
    def upright_size(self) -> tuple[int, int]:
        """Width and height of the upright photo."""
        width, height = self.size
        return (height, width) if self.orientation >= 5 else (width, height)


def read_header(path: Path) -> PhotoHeader:
    """Read a photo's size and orientation.

    Raises:
        UnreadablePhotoError: The file cannot be read, or is not a photo.
    """
    try:
        with Image.open(path) as opened:
            return PhotoHeader(opened.size, _orientation(opened))
    except Exception as error:
        raise UnreadablePhotoError(str(error) or type(error).__name__) from error


def decode_rgb(data: bytes, *, upright: bool = True) -> Image.Image:
    """Decode a photo of any mode to 8-bit RGB.

    16-bit values are scaled to 8 bits, gray and CMYK are converted, and what is transparent is laid over white.

    Args:
        data: The photo's file.
        upright: Whether to apply the EXIF orientation (a photo whose EXIF data are damaged stays as it is). False where
            something belongs to the stored pixels: boxes, masks, motions.

    Raises:
        UnreadablePhotoError: The bytes are no photo, or it is cut short or damaged.
    """
    try:
        with Image.open(io.BytesIO(data)) as opened:
            opened.load()
            return _to_rgb(_upright(opened) if upright else opened)
    # Damaged files raise nearly anything in Pillow: OSError, SyntaxError, EOFError, TypeError, struct.error, ...
    except Exception as error:
        raise UnreadablePhotoError(str(error) or type(error).__name__) from error


def _upright(image: Image.Image) -> Image.Image:
    # ImageOps.exif_transpose also writes the EXIF data anew, which fails where any entry of them is damaged.
    orientation = _orientation(image)
    return image if orientation == 1 else image.transpose(TO_UPRIGHT[orientation])


def _orientation(image: Image.Image) -> int:
    try:
        orientation = image.getexif().get(ExifTags.Base.Orientation)
        return int(orientation) if orientation in TO_UPRIGHT else 1
    except Exception:
        return 1


def _to_rgb(image: Image.Image) -> Image.Image:
    if image.mode == "RGB":
        return image
    if image.mode.startswith("I") or image.mode == "F":
        values: npt.NDArray[np.float64] = np.asarray(image, dtype=np.float64)
        # 16-bit PNGs come as "I;16" or "I"; a float image is taken to be 0..255.
        scale = 1.0 if image.mode == "F" else 257.0
        image = Image.fromarray(np.clip(np.round(values / scale), 0, 255).astype(np.uint8))
    if "A" in image.mode or "transparency" in image.info:
        rgba = image.convert("RGBA")
        white = Image.new("RGBA", rgba.size, (255, 255, 255, 255))
        return Image.alpha_composite(white, rgba).convert("RGB")
    return image.convert("RGB")


def _read_list(path: Path) -> list[Path]:
    try:
        lines = path.read_text().splitlines()
    except UnicodeDecodeError as error:
        raise InputError(f"{path} is not a list of photos: it is no text in UTF-8 ({error})") from error
    files = [path.parent / line.strip() for line in lines if line.strip()]
    missing = [str(file) for file in files if not file.is_file()]
    if missing:
        raise InputError(
            f"{path} lists {len(missing)} files that do not exist, first {', '.join(missing[:3])};"
            " write one path a line, relative to the list's own folder"
        )
    return files


def _local_shard(shard: str, cache: Path) -> Path:
    scheme = urlsplit(shard).scheme
    if not scheme:
        if not Path(shard).is_file():
            raise InputError(f"no such shard: received {shard}; name an existing .tar file, pattern or URL")
        return Path(shard)
    if scheme not in URL_SCHEMES:
        raise InputError(
            f"cannot fetch {shard}: received the scheme {scheme}, allowed are {', '.join(URL_SCHEMES)}"
        )
    local = cache / hashlib.sha256(shard.encode()).hexdigest()[:16] / Path(urlsplit(shard).path).name
    if not local.is_file():
        local.parent.mkdir(parents=True, exist_ok=True)
        partial = local.with_name(f"{local.name}.{os.getpid()}.partial")
        try:
            with webdataset.gopen(shard, "rb") as stream, partial.open("wb") as file:
                while chunk := stream.read(1 << 20):
                    file.write(chunk)
            partial.replace(local)
        except (OSError, ValueError) as error:
            partial.unlink(missing_ok=True)
            raise InputError(f"cannot fetch the shard {shard}: {error}") from error
    return local
