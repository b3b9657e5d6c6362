#!/bin/sh
# SPDX-License-Identifier: Apache-2.0
# prx-train killed by force at any moment, again and again: every resume works, and
# the end is that of a run that lived.  KILLS=100 for a long session.
. tests/lib/tap.sh

take_photos 12 photos
prx-shard -q --size 64 --crop center photos -o - | prx-encode -q - -o set.tar
cat > tiny.yaml << YAML
extends: nano
model: {hidden_size: 32, num_heads: 2, depth: 2, axes_dim: null}
optim: {decay: constant, ema_smoothing: 0.9, ema_interval_steps: 1}
train: {steps: 1000000, batch: 5, checkpoint_every: 2}
sample: {size_px: 64}
YAML

# Delays of 20 to 720 ms, the same ones every time: in setting up, stepping, saving.
# Sanitizers take their time to set up.
delays=$(awk -v n="${KILLS:-8}" -v slower="${SAN:+4}" 'BEGIN {
    for (srand(1); n > 0; n--) printf "%.3f ", 0.02 + 0.7 * rand() * (slower ? slower : 1) }')
n_lived=0
n_saved=0
for delay in $delays; do
    kill_after "$delay" prx-train -q tiny.yaml set.tar -o killed --resume 2>> kill.err
    [ "$status" -eq 137 ] || n_lived=$((n_lived + 1))
    [ -z "$(find killed -name 'ckpt-*' 2> /dev/null)" ] || n_saved=$((n_saved + 1))
done
is "every resume worked until it was killed" "$n_lived" 0
ok "some had saved something" test "$n_saved" -gt 0
sed 's/^/# /' kill.err

last=$(find killed -name 'ckpt-*' | sort | tail -n 1 | sed 's/.*ckpt-0*//')
steps=$((last + 3))
run prx-train -q tiny.yaml set.tar -o killed --resume --set train.steps=$steps
is "the last one comes to its end" "$status" 0
run prx-train -q tiny.yaml set.tar -o lived --set train.steps=$steps \
    --set train.checkpoint_every=0
ckpt=$(printf 'ckpt-%07d' "$steps")
is "which is that of a run that lived" "$(digest "killed/$ckpt")" "$(digest "lived/$ckpt")"
ok "nothing half-written is left" no_leftovers killed
echo "# $(echo "$delays" | wc -w) kills, $steps steps"

all_passed
