"""Made predictions and histograms."""

import torch


def made_scores(count=3, bins=8, height=6, width=5, seed=0):
    """Scores of which some are sure, and histograms that lie off them."""
    generator = torch.Generator().manual_seed(seed)
    scores = 3 * torch.randn(count, bins, height, width, dtype=torch.float64, generator=generator)
    target = (2 * torch.randn(count, bins, dtype=torch.float64, generator=generator)).softmax(1)
    return scores, target, torch.rand(count, height, width, dtype=torch.float64, generator=generator)
