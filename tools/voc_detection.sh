#!/usr/bin/env bash
# Fine-tunes a backbone for VOC detection and scores it.
#
#   tools/voc_detection.sh [BACKBONE] [DATA] [key=value ...] [OPTION ...]    tools/voc_detection.sh random:alexnet
set -euo pipefail
source "$(dirname "${BASH_SOURCE[0]}")/python.sh"
run transfer voc-detection "$@"
