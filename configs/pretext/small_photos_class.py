"""Classification over 313 bins: a student study of CelebA and Fruits (see _small_photos.py)."""

base = "_small_photos"

name = "small_photos_class"
method.update(loss="classification")
