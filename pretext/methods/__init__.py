"""Pretext methods, one file a paper."""

from pretext.methods.base import Method
from pretext.methods.colorization import Colorization

#: Every method by the name that stands in backbone files and tables.
METHODS: dict[str, type[Method]] = {
    "colorization": Colorization,
}

__all__ = ["METHODS", "Colorization", "Method"]
