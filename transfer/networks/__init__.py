"""What stages build on a backbone: classifiers, reductions, region heads, FCN-32s."""
