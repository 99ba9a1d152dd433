"""Colorizers: what colours a photo from its lightness, and the file that holds it."""
