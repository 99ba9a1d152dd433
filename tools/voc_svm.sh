#!/usr/bin/env bash
# Trains linear SVMs on a backbone's frozen features for VOC classification and scores them.
set -euo pipefail
source "$(dirname "${BASH_SOURCE[0]}")/python.sh"
run transfer voc-svm "$@"
