"""Classification, rare colours weighted up: a student study of CelebA and Fruits (see _small_photos.py)."""

base = "_small_photos"

name = "small_photos_rebalanced"
method.update(loss="rebalanced")
