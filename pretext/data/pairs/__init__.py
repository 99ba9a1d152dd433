"""Pairs of pictures: lists of them, and tracks found in videos."""
