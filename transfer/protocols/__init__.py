"""What stages are told: their settings, and the protocols by which papers judged backbones."""
