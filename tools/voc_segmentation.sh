#!/usr/bin/env bash
# Fine-tunes a backbone for VOC segmentation and scores it.
#
#   tools/voc_segmentation.sh [BACKBONE] [DATA] [key=value ...] [OPTION ...]    tools/voc_segmentation.sh random:alexnet
set -euo pipefail
source "$(dirname "${BASH_SOURCE[0]}")/python.sh"
run transfer voc-segmentation "$@"
