#!/bin/sh
# SPDX-License-Identifier: Apache-2.0
# Sources mixed by weight, captions that change with the step, pictures without
# latents: what a recipe says of its data, seen in the log.
. tests/lib/tap.sh

# Captions of two lengths for two sets of photographs.
take_photos 12 photos
for photo in photos/*.jpg; do
    stem=${photo%.jpg}
    printf '{"captions": {"long": "a photograph of %s, in full", "short": "%s"}}\n' \
        "${stem##*/}" "${stem##*/}" > "$stem.json"
    rm -f "$stem.txt"
done
prx-shard -q --size 64 --crop center photos -o - | prx-encode -q - -o all.tar
prx-shard -q 'all.tar' --shard-samples 3 -o shards/%06d.tar
mkdir few && tar xf all.tar -C few && rm -f few/*.npy.bak
first=$(find few -name '*.jpg' | sort | head -n 1)
mkdir one && cp "${first%.jpg}".* one

sum() { # FILE REGEX: the sum of what it matches, over all lines
    grep -oE "$2" "$1" | grep -oE '[0-9]+$' | awk '{ s += $1 } END { print s + 0 }'
}

tiny='--set train.batch=4 --set model.depth=2 --set sample.size_px=64'
# shellcheck disable=SC2086 # options
run prx-train -q nano all.tar -o phases $tiny --set train.steps=60 \
    --set train.log_every=30 --set data.caption_dropout=0 \
    --set 'data.captions={0: {long: 1}, 30: {long: 0.3, short: 0.7}}'
is "captions change with the step" "$status" 0
head -n 1 phases/log.jsonl > first.jsonl
says "first all are long" first.jsonl '"captions": \{"long": 120, "short": 0\}'
tail -n 1 phases/log.jsonl > second.jsonl
short=$(sum second.jsonl '"short": [0-9]+')
ok "then most are short" test "$short" -gt 59 -a "$short" -lt 109

# shellcheck disable=SC2086
run prx-train -q nano -o mixed $tiny --set train.steps=50 --set train.log_every=10 \
    --set 'data.sources={shards/index.json: 0.75, one: 0.25}'
is "sources of a recipe are mixed" "$status" 0
says "and are in the run's recipe" mixed/recipe.yaml \
    'sources: \{shards/index.json: 0.75, one: 0.25\}'
# shellcheck disable=SC2086
prx-train -q nano -o straight $tiny --set train.steps=20 --set train.log_every=1 \
    --set 'data.sources={shards/index.json: 0.75, one: 0.25}' \
    --set data.window_samples=6
# shellcheck disable=SC2086
prx-train -q nano -o stopped $tiny --set train.steps=11 --set train.log_every=1 \
    --set 'data.sources={shards/index.json: 0.75, one: 0.25}' \
    --set data.window_samples=6
# shellcheck disable=SC2086
run prx-train -q nano -o stopped --resume $tiny --set train.steps=20 \
    --set train.log_every=1 --set 'data.sources={shards/index.json: 0.75, one: 0.25}' \
    --set data.window_samples=6
is "a stopped one goes on" "$status" 0
losses() {
    grep -oE '"step": [0-9]+|"loss": [^,]+' "$1/log.jsonl"
}
is "with the samples of one that was not" "$(losses stopped)" "$(losses straight)"
run prx-train -q nano -o none --set train.steps=1
is "no source at all is a usage error" "$status" 2
says "that says so" err 'name a source of encoded samples, or set data.sources'
mkfifo pipe
run prx-train -q nano -o none --set 'data.sources={pipe: 1}'
says "a stream is no part of a mix" err 'data.sources: pipe: a stream is named on'

# Pictures as they are: no latents, only states of captions.
prx-shard -q photos -o - | prx-encode -q --vae none - -o text.tar 2> err ||
    sed 's/^/# /' err
# shellcheck disable=SC2086
run prx-train -v prx_jit_nano text.tar -o pictures $tiny --set train.steps=4 \
    --set data.image_px=64 --set data.image_crop=random --set data.image_flip=0.5 \
    --set train.log_every=1
is "pictures are trained on as they are stored" "$status" 0
# shellcheck disable=SC2086
run prx-train -q prx_jit_nano text.tar -o buckets $tiny --set train.steps=4 \
    --set data.image_px=64 --set data.image_crop=bucket
is "in buckets too" "$status" 0
run prx-train -q nano text.tar -o none --set data.image_px=64
is "but not through a VAE" "$status" 1
says "which is told" err 'data.image_px: pictures are trained on with vae pixels'
all_passed
