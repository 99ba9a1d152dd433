"""Regression of ab: a student study of CelebA and Fruits (see _small_photos.py)."""

base = "_small_photos"

name = "small_photos_l2"
method.update(loss="l2")
