#!/usr/bin/env bash
# Fine-tunes a backbone for VOC classification and scores it.
#
#   tools/voc_classification.sh [BACKBONE] [DATA] [key=value ...] [OPTION ...]    tools/voc_classification.sh random:alexnet
set -euo pipefail
source "$(dirname "${BASH_SOURCE[0]}")/python.sh"
run transfer voc-classification "$@"
