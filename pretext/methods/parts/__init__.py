"""What several pretext methods share: heads, patches, decoders and targets, permutations, a second player."""
