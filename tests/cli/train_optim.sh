#!/bin/sh
# SPDX-License-Identifier: Apache-2.0
# prx-train by Muon, with parameter groups, and with parameters stored as bf16.
. tests/lib/tap.sh

take_photos 6 photos
prx-shard -q --size 64 --crop center photos -o - | prx-encode -q - -o set.tar
cat > tiny.yaml << YAML
extends: $ROOT/manifests/recipes/nano.yaml
model: {hidden_size: 32, num_heads: 2, depth: 2, axes_dim: null}
optim:
  kind: muon
  lr: 1e-3
  warmup_steps: 0
  decay: constant # a rate that does not know the last step
  lr_scale: {"final_layer.*": 0.5, "txt_in.*": 0}
train: {steps: 6, batch: 4}
sample: {size_px: 64}
YAML
bytes() { # FILE
    wc -c < "$1" | tr -d ' '
}

run prx-train tiny.yaml set.tar -o run
is "Muon trains" "$status" 0
says "and ends well" err '^prx-train: steps=6 loss=[0-9.]+ '
ok "without a warning" test -z "$(grep warning: err)"
says "the groups are in its recipe" run/recipe.yaml \
    '^  lr_scale: \{"final_layer.\*": 0.5, "txt_in.\*": 0\}$'
run prx-train -q run/recipe.yaml set.tar -o again
is "which gives the run again" "$(digest again/ckpt-0000006)" "$(digest run/ckpt-0000006)"
run prx-train -q -j1 tiny.yaml set.tar -o one
is "one thread gives the bytes of many" \
    "$(digest one/ckpt-0000006)" "$(digest run/ckpt-0000006)"
run prx-train -q tiny.yaml set.tar -o parts --set train.steps=4
run prx-train -q tiny.yaml set.tar -o parts --resume
is "stopped and resumed, too" "$(digest parts/ckpt-0000006)" "$(digest run/ckpt-0000006)"
ok "Muon keeps one moment of most parameters" test \
    "$(bytes run/ckpt-0000006/trainer/moment2.safetensors)" -lt \
    "$(bytes run/ckpt-0000006/trainer/moment1.safetensors)"
run prx-train -q tiny.yaml set.tar -o other --set optim.lr_scale='{}'
ok "groups make a difference" test "$(digest other/ckpt-0000006)" != \
    "$(digest run/ckpt-0000006)"

# The study's pitfall, by name.
run prx-train tiny.yaml set.tar -o narrow --set precision.params=bf16
is "bf16 trains" "$status" 0
says "and warns of what it costs" err \
    'warning: precision.params: bf16 .*1/256 of a weight.*FID 21.87 instead of 18.20'
is "once" "$(grep -c FID err)" 1
weights=transformer/diffusion_pytorch_model.safetensors
ok "weights take half the bytes" test \
    $((3 * $(bytes "narrow/ckpt-0000006/$weights"))) -lt \
    $((2 * $(bytes "run/ckpt-0000006/$weights")))
says "as BF16" narrow/ckpt-0000006/$weights '"dtype":"BF16"'
ok "prx-sample draws with them" prx-sample -q narrow -p "a red cup" --steps 2 -o drawn
run prx-train -q tiny.yaml set.tar -o narrow-parts --set precision.params=bf16 \
    --set train.steps=4
run prx-train -q narrow-parts/recipe.yaml set.tar -o narrow-parts --resume \
    --set train.steps=6
is "stopped and resumed, the same bytes" \
    "$(digest narrow-parts/ckpt-0000006)" "$(digest narrow/ckpt-0000006)"

# What it takes is known before: nano has 5218816 parameters, 4976640 of them Muon's.
memory() { # ARG...: MiB of parameters, gradients, optimiser state
    prx-train -q -n nano "$@" |
        awk '/^#   (parameters|gradients|optimiser state) / { printf "%s ", $(NF - 1) }'
}
cd "$ROOT" || exit 1
is "memory of AdamW" "$(memory)" "19.9 19.9 39.8 "
is "of Muon" "$(memory --set optim.kind=muon)" "19.9 19.9 20.8 "
is "in bf16" "$(memory --set precision.params=bf16)" "10.0 19.9 19.9 "
cd "$T" || exit 1

# Another optimiser's state, another dtype's, a pattern without parameters.
run prx-train -q tiny.yaml set.tar -o run --resume --set optim.kind=adamw
is "state of another optimiser: status" "$status" 1
says "state of another optimiser: message" err \
    'error: run/ckpt-0000006: made with optim.kind muon, not adamw$'
run prx-train -q tiny.yaml set.tar -o narrow --resume
is "state of another dtype: status" "$status" 1
says "state of another dtype: message" err \
    'error: narrow/ckpt-0000006: made with precision.params bf16, not f32$'
for way in -n "-o new"; do
    # shellcheck disable=SC2086 # words
    run prx-train -q tiny.yaml set.tar $way --set 'optim.decay_scale={"*.bais": 0}'
    is "a pattern without parameters ($way): status" "$status" 1
    says "a pattern without parameters ($way): message" err \
        'error: optim.decay_scale: "\*.bais" matches no parameter$'
done
run prx-train -q tiny.yaml -n --set 'optim.lr_scale={"*": -1}'
is "a negative factor: status" "$status" 2
says "a negative factor: message" err '--set: optim.lr_scale: -1 is not in 0 \.\. '

all_passed
