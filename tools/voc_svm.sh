#!/usr/bin/env bash
# Trains linear SVMs on a backbone's frozen features for VOC classification and scores them.
#
#   tools/voc_svm.sh [BACKBONE] [DATA] [key=value ...] [OPTION ...]    tools/voc_svm.sh random:alexnet
set -euo pipefail
source "$(dirname "${BASH_SOURCE[0]}")/python.sh"
run transfer voc-svm "$@"
