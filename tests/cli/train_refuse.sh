#!/bin/sh
# SPDX-License-Identifier: Apache-2.0
# prx-train on what it must not train on: one line, the right status, nothing written.
. tests/lib/tap.sh

take_photos 6 photos
prx-shard -q --size 64 --crop center photos -o - | prx-encode -q - -o set.tar
tiny="--set model.hidden_size=32 --set model.num_heads=2 --set model.depth=2
    --set model.axes_dim=null --set train.batch=4 --set train.steps=2"
nano=$ROOT/manifests/recipes/nano.yaml

train() {
    # shellcheck disable=SC2086 # words
    prx-train "$nano" $tiny "$@"
}

refused() { # NAME STATUS REGEX COMMAND...
    refused_name=$1 refused_status=$2 refused_regex=$3
    shift 3
    run "$@"
    is "$refused_name: status" "$status" "$refused_status"
    says "$refused_name: message" "$T/err" "$refused_regex"
    is "$refused_name: one line" "$(grep -c . "$T/err")" 1
    ok "$refused_name: nothing trained" test ! -e run/log.jsonl
}

printf 'extends: %s\ntrain:\n  stpes: 5\n' "$nano" > typo.yaml
printf 'extends: loop.yaml\n' > loop.yaml
printf 'extends: gibbon\n' > unknown.yaml
mkdir empty
: > empty.tar
refused "no recipe" 2 'name a recipe' prx-train
refused "no source" 2 'name a source' prx-train nano -o run
refused "no output" 2 '-o: name the run' train set.tar
refused "an unknown key on the command line" 2 \
    '--set: train.stpes: unknown key \(did you mean train.steps\?\)' \
    train set.tar -o run --set train.stpes=5
refused "an unknown key in the recipe" 1 \
    'error: typo.yaml:3: train.stpes: unknown key \(did you mean train.steps\?\)' \
    prx-train typo.yaml set.tar -o run
refused "a recipe that extends itself" 1 'leads back to loop.yaml' \
    prx-train loop.yaml set.tar -o run
refused "a recipe that is not there" 1 'no recipe nothing.yaml in' \
    prx-train nothing set.tar -o run
refused "a parent that is not there" 1 'unknown.yaml:1: extends: no recipe gibbon.yaml in' \
    prx-train unknown.yaml set.tar -o run
refused "an encoder this build lacks" 1 "no VAE 'flux9'" \
    train set.tar -o run --set data.vae=flux9
refused "pictures of nothing" 1 'sample.every: 5, but sample.prompts is empty' \
    train set.tar -o run --set sample.every=5 --set 'sample.prompts=[]'
refused "pictures of a size that cannot be" 1 'sample.size_px: 40 x 40 pixels' \
    train set.tar -o run --set sample.every=5 --set sample.size_px=40
refused "a source that is not there" 1 'gone.tar: No such file' train gone.tar -o run
refused "an empty folder" 1 'no samples to train on' train empty -o run

run train empty.tar -o run
is "an empty file: status" "$status" 1
says "an empty file: its reject" err 'warning: empty.tar: .*empty, not a tar'
says "an empty file: message" err 'error: no samples to train on \(1 rejected\)'

# Samples that lack something, or have something else.
refused "pictures that are not encoded" 1 'photos/[a-z-]+.jpg: .*: no latent.npy; encode the samples' \
    train photos -o run
prx-shard -q --size 64 --crop center photos -o - |
    prx-encode -q --captions short - -o short.tar
refused "a caption that is missing" 1 \
    'short.tar: [a-z-]+: no long.text.npy; encode the captions' train short.tar -o run
run train -q short.tar -o fallback --set 'data.captions={long: 1, short: 0}'
is "a fallback caption is taken" "$status" 0
prx-shard -q --size 64 --crop center photos -o - |
    prx-encode -q --text-tokens 64 - -o stale.tar
refused "text states of another encoder" 1 \
    'stale.tar: [a-z-]+: long.text.npy is stale: made by fingerprint [0-9a-f]{32}' \
    train stale.tar -o run

# Damaged samples are rejected, and the run is done with the others.
mkdir bad
tar xf set.tar -C bad
first=$(find bad -name '*.latent.npy' | sort | head -n1)
head -c 100 "$first" > short.npy
mv short.npy "$first"
run train bad -o bad-run --rejects rejects.jsonl --stats stats.json
is "a damaged sample: status" "$status" 3
says "a damaged sample: message" err 'warning: bad/.*: index: npy header of 118 bytes in a file of 100'
says "a damaged sample: the line in --rejects" rejects.jsonl '"stage":"index"'
says "a damaged sample: the count in --stats" stats.json '"rejected":1'
is "a damaged sample: the run is done" "$(grep -c step bad-run/log.jsonl)" 2
run train -q bad -o bad-run2 --max-errors 1
is "a damaged sample: allowed" "$status" 0

# The folder.
run train -q set.tar -o taken
run train -q set.tar -o taken
is "a run that is there: status" "$status" 1
says "a run that is there: message" err \
    'taken: is not empty; --resume goes on, --overwrite begins anew'
run train -q set.tar -o taken --overwrite
is "a run that is there: overwritten" "$status" 0
refused "both ways at once" 2 'exclude each other' \
    train set.tar -o run --resume --overwrite
run train -q photos/none -o taken --resume
is "a source that has gone: status" "$status" 1
take_photos 5 fewer
prx-shard -q --size 64 --crop center fewer -o - | prx-encode -q - -o fewer.tar
run train -q fewer.tar -o taken --resume --set train.steps=4
is "other samples: status" "$status" 1
says "other samples: message" err 'ckpt-0000002: made from other samples than these'
refused "a report that cannot be written" 1 'set.tar' \
    train set.tar -o run --rejects set.tar/rejects.jsonl

# What needs no samples.
run prx-train -n "$nano"
is "a dry run" "$status" 0
says "tells the parameters" out '^# parameters: 5218816$'
says "the memory of each kind" out '^#   optimiser state +39\.8 MiB$'
says "and of all" out '^#   total +[0-9.]+ MiB$'
says "the work of a step" out \
    '^# work: 1\.438e\+10 FLOP a step of 8 samples, with 64 image and 128 text tokens each$'
cp out plain.yaml
run prx-train -n "$nano" --set train.recompute=blocks
says "that of recomputing" out '^# work of recomputing: [0-9.e+]+ FLOP more$'
memory() { # OUT: of activations, in tenths of MiB
    sed -n 's/^#   activations *\([0-9]*\)\.\([0-9]\) MiB$/\1\2/p' "$1"
}
is "and the memory that it saves" "$(($(memory out) * 2 < $(memory plain.yaml)))" 1
run prx-train -n "$nano" --set sample.size_px=0
is "a dry run of no size" "$status" 0
says "leaves out what it cannot know" out \
    '^#   activations, batches: not known, for sample.size_px is 0$'
run prx-train -n prx_base
is "a dry run of seven billion parameters" "$status" 0
run prx-train -n "$nano"
cp out dry.yaml
run prx-train -n dry.yaml
ok "and prints a recipe, which prints itself" cmp out dry.yaml
run prx-train --help-recipe
says "the keys are told" out '^train.steps: 100000$'

all_passed
