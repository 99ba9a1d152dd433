#!/usr/bin/env bash
# Makes a perceptual study of coloured photos, holds it in the browser, and reports how often people were fooled.
#
#   tools/study.sh make [NAME=]FOLDER... --truth FOLDER --out STUDY    tools/study.sh serve STUDY    tools/study.sh report STUDY
set -euo pipefail
source "$(dirname "${BASH_SOURCE[0]}")/python.sh"
run transfer study "$@"
