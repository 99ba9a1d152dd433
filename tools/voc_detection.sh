#!/usr/bin/env bash
# Fine-tunes a backbone for VOC detection and scores it.
set -euo pipefail
source "$(dirname "${BASH_SOURCE[0]}")/python.sh"
run transfer voc-detection "$@"
