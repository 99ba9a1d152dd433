#!/usr/bin/env bash
# Fine-tunes a backbone for VOC classification and scores it.
set -euo pipefail
source "$(dirname "${BASH_SOURCE[0]}")/python.sh"
run transfer voc-classification "$@"
