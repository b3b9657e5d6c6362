#!/bin/sh
# SPDX-License-Identifier: Apache-2.0
# Backend "fence": a run and its pictures never touch memory that would be a device's.
. tests/lib/tap.sh

take_photos 6 photos
prx-shard -q --size 64 --crop center photos -o - | prx-encode -q - -o set.tar
cat > tiny.yaml << YAML
extends: $ROOT/manifests/recipes/nano.yaml
model: {hidden_size: 32, num_heads: 2, depth: 2, axes_dim: null}
optim: {ema_smoothing: 0.9, ema_interval_steps: 2}
train: {steps: 6, batch: 4, checkpoint_every: 2}
sample: {size_px: 64}
YAML

ok "a model is trained by cpu" prx-train -q --backend cpu tiny.yaml set.tar -o cpu
ok "a part of it by fence" prx-train -q --backend fence tiny.yaml set.tar -o fence \
    --set train.steps=3
ok "and the rest" prx-train -q --backend fence tiny.yaml set.tar -o fence --resume
is "to the same bytes" "$(digest fence/ckpt-0000006)" "$(digest cpu/ckpt-0000006)"

for backend in cpu fence; do
    ok "pictures are made by $backend" prx-sample -q --backend $backend cpu \
        -p "a red cup" -p "" -n 2 --steps 2 -o "by-$backend"
done
is "they are the same" "$(digest by-fence)" "$(digest by-cpu)"

# Steps that are skipped, to the end of a run.
run prx-train --backend fence tiny.yaml set.tar -o hot --set train.steps=99 \
    --set optim.lr=10 --set optim.warmup_steps=0 --set optim.weight_decay=100 \
    --set train.nonfinite_max=2
is "a run that blows up ends" "$status" 1
says "and says so" err 'no finite loss and gradient in 3 steps in a row'

all_passed
