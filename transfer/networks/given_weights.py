"""Weights in files that the user gives: read strictly, never unpickled, told by their hash."""

import hashlib
from pathlib import Path

import torch
from torch import Tensor, nn

from pretext.errors import InputError

#: Characters of an error of torch, which may list hundreds of keys.
_SAID = 300


def file_sha256(path: str | Path) -> str:
    """Return the SHA-256 of a file, which can be read."""
    digest = hashlib.sha256()
    with Path(path).open("rb") as file:
        while chunk := file.read(1 << 20):
            digest.update(chunk)
    return digest.hexdigest()


def load_given(network: nn.Module, path: Path, name: str, allowed: str) -> None:
    """Load a state dict into a network.

    Args:
        network: Gets the weights, in single precision.
        path: The file.
        name: What has these weights, for errors.
        allowed: Which file has them, for errors.

    Raises:
        InputError: The file cannot be read, is no state dict, or differs from the network's in any key or shape.
    """
    try:
        # The file's own tensors are taken: a network that was built without weights never needs room for its own.
        network.load_state_dict(read_weights(path), assign=True)
    except Exception as error:  # torch raises many kinds for files that are not weights
        raise no_weights(path, name, error, allowed) from error
    network.float()


def no_weights(path: Path, name: str, error: Exception, allowed: str) -> InputError:
    """Return what tells that a file does not hold the weights of that name, with the first words of what torch says."""
    said = " ".join(str(error).split())
    return InputError(
        f"{path} does not hold the weights of {name}",
        received=f"{type(error).__name__}: {said[:_SAID]}{'...' if len(said) > _SAID else ''}",
        allowed=allowed,
    )


def read_weights(path: Path) -> dict[str, Tensor]:
    """Read a state dict; torch raises many kinds of errors for files that hold none."""
    weights: dict[str, Tensor] = torch.load(path, map_location="cpu", weights_only=True)
    return weights
