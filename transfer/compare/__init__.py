"""Grids of backbones, stages and seeds: what they consist of, and running them."""
