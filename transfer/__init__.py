"""Judges backbones by what they transfer."""
