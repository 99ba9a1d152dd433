"""Colour as pure tensor functions: CIE Lab, ab bins, colour prior and decoding."""
