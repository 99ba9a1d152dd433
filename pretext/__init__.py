"""Makes backbones from unlabeled photos."""

__version__ = "0.1.0"
