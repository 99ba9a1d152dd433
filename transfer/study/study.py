"""The folder of a study: its settings, its systems, and the opaque names of its pictures.

``study.json`` says which picture is what; ``pictures/`` has them, all PNG files without metadata; ``answers.sqlite`` is
made when the study is served. Nothing heavy is imported here.
"""

import hashlib
import json
import random
import re
from collections.abc import Mapping
from dataclasses import asdict, dataclass, fields
from pathlib import Path
from typing import Any

from pretext.checks import check_at_least, check_choice, check_seed, check_share
from pretext.errors import InputError
from pretext.files import is_file
from transfer.study.trials import DESIGNS, Design, Trial, choose_systems, draw_trials

RECORD_NAME = "study.json"
PICTURES_NAME = "pictures"
ANSWERS_NAME = "answers.sqlite"
#: What the form of the record is called.
FORM = "pretext-transfer study 1"
#: How long a pair may show. Browsers' clocks do not wait for a month, and JSON has no infinity.
MAX_SECONDS = 3600.0
#: What a picture may be called.
PICTURE_NAME = re.compile(r"[0-9a-f]{32}\.png")


@dataclass(frozen=True)
class StudySettings:
    """How a study is held. The defaults are the paper's.

    Attributes:
        practice: Pairs with feedback, which do not count.
        tests: Pairs without feedback, which count.
        vigilance: Share of pairs whose fake is obvious.
        seconds: How long a pair shows.
        size: Longest side of a picture in pixels; larger photos are resized.
        design: ``one`` system for each participant, or ``all`` of them.
        seed: Seed of all that is drawn.
    """

    practice: int = 10
    tests: int = 40
    vigilance: float = 0.1
    seconds: float = 1.0
    size: int = 256
    design: Design = "one"
    seed: int = 0

    def check(self) -> None:
        """Raise InputError where a value is out of range."""
        check_at_least("practice", self.practice, 0)
        check_at_least("tests", self.tests, 1)
        check_share("vigilance", self.vigilance, below_one=True)
        check_at_least("seconds", self.seconds, 0.0)
        if self.seconds > MAX_SECONDS:
            raise InputError(
                "seconds is too large",
                received=self.seconds,
                allowed=f"allowed are numbers from 0 to {MAX_SECONDS:g}",
            )
        check_at_least("size", self.size, 16)
        check_choice("design", self.design, DESIGNS)
        check_seed(self.seed)


#: The settings under which scores are filed as the paper's; the seed is free.
PAPER = StudySettings()


@dataclass(frozen=True)
class System:
    """What coloured the photos.

    Attributes:
        name: Its name in tables.
        sha256: Hash of its pictures, in the order of the photos.
    """

    name: str
    sha256: str


@dataclass(frozen=True)
class Photo:
    """One photo of a study.

    Attributes:
        name: Its path in the folder of true photos, without the ending.
        truth: Name of the picture of the true photo.
        vigilance: Name of the picture with the colours of another photo.
        systems: Names of the pictures of each system.
    """

    name: str
    truth: str
    vigilance: str
    systems: Mapping[str, str]

    def fake(self, system: str | None) -> str:
        """Return the name of a system's picture; None asks for the obvious fake."""
        return self.vigilance if system is None else self.systems[system]


@dataclass(frozen=True)
class Study:
    """A study.

    Attributes:
        folder: Where it is.
        settings: How it is held.
        data: Name of the true photos' data set.
        systems: What is judged.
        photos: What is shown.
        id: SHA-256 of ``study.json``.
    """

    folder: Path
    settings: StudySettings
    data: str
    systems: tuple[System, ...]
    photos: tuple[Photo, ...]
    id: str

    def picture(self, name: str) -> Path:
        """Return the path of a picture."""
        return self.folder / PICTURES_NAME / name

    def draw(self, number: int, counts: Mapping[str, int]) -> tuple[Trial, ...]:
        """Draw the pairs of a participant.

        Args:
            number: The participant's number, from 0; with the study's seed it is the seed of the draw.
            counts: How many participants each system has so far.
        """
        settings, rng = self.settings, random.Random(f"{self.settings.seed} {number}")
        known = {system.name: counts.get(system.name, 0) for system in self.systems}
        systems = choose_systems(known, settings.design, rng)
        return draw_trials(
            len(self.photos), systems, settings.practice, settings.tests, settings.vigilance, rng
        )


def record(settings: StudySettings, data: str, systems: Mapping[str, str], photos: list[Photo]) -> str:
    """Return the text of ``study.json``; ``systems`` are their hashes by their names."""
    content = {
        "form": FORM,
        "settings": asdict(settings),
        "data": data,
        "systems": systems,
        "photos": [asdict(photo) for photo in photos],
    }
    return json.dumps(content, indent=1) + "\n"


def load_study(folder: Path) -> Study:
    """Read a study, and check that its pictures are there.

    Raises:
        InputError: The folder is not a study, or pictures are missing.
    """
    path = folder / RECORD_NAME
    try:
        data = path.read_bytes()
    except OSError as error:
        raise InputError(
            f"{folder} is not a study: {error.strerror or error}",
            allowed=f"name a folder with {RECORD_NAME}, as `study make` makes it",
        ) from error
    try:
        study = _parsed(folder, json.loads(data), hashlib.sha256(data).hexdigest())
        study.settings.check()
    except (ValueError, TypeError, KeyError, AttributeError) as error:
        raise InputError(
            f"{path} is not the record of a study",
            received=f"{type(error).__name__}: {error}",
            allowed="make the study again",
        ) from error
    names = [name for p in study.photos for name in (p.truth, p.vigilance, *p.systems.values())]
    missing = [name for name in names if not is_file(study.picture(name))]
    if missing:
        raise InputError(
            f"{len(missing)} of {len(names)} pictures of {folder} are missing",
            received=f"first {missing[0]}",
            allowed="copy the whole folder, or make the study again",
        )
    return study


def _parsed(folder: Path, content: dict[str, Any], sha256: str) -> Study:
    if content["form"] != FORM:
        raise ValueError(f"form {content['form']}")
    settings = StudySettings(**content["settings"])
    photos = tuple(
        Photo(**{field.name: photo[field.name] for field in fields(Photo)}) for photo in content["photos"]
    )
    systems = tuple(System(name, sha) for name, sha in content["systems"].items())
    for photo in photos:
        for name in (photo.truth, photo.vigilance, *(photo.systems[system.name] for system in systems)):
            if not PICTURE_NAME.fullmatch(name):
                raise ValueError(f"a picture called {name}")
    return Study(folder, settings, content["data"], systems, photos, sha256)
