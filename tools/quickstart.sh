#!/usr/bin/env bash
# The whole story in one command, at most 12 minutes on 2 cores after the set-up: renders the toy data, pretrains
# AlexNet by colorization, scores it and an untrained AlexNet by four transfer stages, and makes the table and
# the page. Started again it goes on where it stopped: finished runs are not repeated.
#
#   tools/quickstart.sh            SEEDS="0 1 2" tools/quickstart.sh
set -euo pipefail
cd "$(dirname "${BASH_SOURCE[0]}")/.."

case "${1:-}" in
    "") ;;
    -h | --help) sed -n '2,6s/^# \{0,1\}//p' "${BASH_SOURCE[0]}"; exit 0 ;;
    *) echo "error: tools/quickstart.sh takes no arguments, received: $*" >&2; exit 2 ;;
esac

tools/setup.sh
began=$SECONDS
root=work_dirs/quickstart
python=.venv/bin/python

# once NAME COMMAND...: runs the command unless it has succeeded before.
once() {
    local done_file=$root/done/$1
    [[ -f $done_file ]] && return
    echo "== $1 ($((SECONDS - began)) s)"
    "${@:2}"
    mkdir -p "$root/done"
    touch "$done_file"
}

$python -m pretext toyworld "$root/toyworld"
once pretrain $python -m pretext train --data "$root/toyworld/unlabeled" --work-dir "$root/colorization"
colorization=$root/colorization/backbone.safetensors
for seed in ${SEEDS:-0 1 2}; do
    for backbone in "$colorization" random:alexnet; do
        name=$([[ $backbone == random:* ]] && echo random || echo colorization)
        once "linear-probe-$name-seed$seed" $python -m transfer linear-probe all "$backbone" --seed "$seed" \
            --data "$root/toyworld/labeled" --work-dir "$root/linear_probe"
    done
done
for stage in voc-classification voc-detection voc-segmentation; do
    for backbone in "$colorization" random:alexnet; do
        name=$([[ $backbone == random:* ]] && echo random || echo colorization)
        once "$stage-$name" $python -m transfer "$stage" "$backbone" \
            --data "$root/toyworld/VOCdevkit" --work-dir "$root/${stage//-/_}"
    done
done
$python -m transfer report --work-dir "$root"
echo "done in $((SECONDS - began)) s after the set-up"
