"""The perceptual study: people say which of two photos is coloured by a computer."""
