"""Readers of the labelled data sets that the transfer stages score on."""
