"""Numbers: metrics, outcomes per test image, score lines, published numbers."""
