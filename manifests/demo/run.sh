#!/bin/sh
# SPDX-License-Identifier: Apache-2.0
# The whole job on real photographs: shard, encode and train through pipes, then
# sample.  Run by `make demo`; prints where the result is.
#
#   DEMO_OUT=DIR   where everything goes (default build/demo)
#   DEMO_SET='K=V …'  recipe changes, for a shorter trial
set -eu

bin=${BIN:-build/bin}
here=$(dirname "$0")
out=${DEMO_OUT:-build/demo}
recipe=$here/../recipes/nano.yaml
start=$(date +%s)

sets=
for kv in ${DEMO_SET:-}; do
    sets="$sets --set $kv"
done

mkdir -p "$out"
echo "demo: shard | encode | train, on $(find "$here/photos" -name '*.jpg' | wc -l) photographs"
# A pipe's status is its last command's: the trainer refuses a stream that breaks off.
# shellcheck disable=SC2086
"$bin/prx-shard" -q "$here/photos" --size 128 --crop center --format png -o - |
    "$bin/prx-encode" -q - --captions long,short -o - |
    "$bin/prx-train" "$recipe" - -o "$out/run" --overwrite \
        --set sample.every=800 --set sample.steps=40 --set sample.guidance=1.5 $sets

echo "demo: sampling from captions of the training set"
# One photograph in ten, by name, with its long caption as the prompt.
find "$here/photos" -name '*.txt' | LC_ALL=C sort | awk 'NR % 10 == 3' |
    while read -r caption; do
        key=$(basename "$caption" .txt)
        printf '%s\t%s\n' "$key" "$(cat "$caption")"
    done > "$out/prompts.tsv"
"$bin/prx-sample" -q "$out/run" --prompts "$out/prompts.tsv" -n 2 --steps 40 --guidance 1.5 \
    --seed 1 --reference "$here/photos" --overwrite --grid "$out/samples.png"

echo "demo: done in $(($(date +%s) - start)) s"
echo "demo: pictures   $out/samples.png   (photograph, then two samples, a row each)"
echo "demo: on the way   $out/run/samples"
echo "demo: loss curve $out/run/loss.svg"
echo "demo: checkpoint $out/run"
