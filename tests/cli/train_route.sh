#!/bin/sh
# SPDX-License-Identifier: Apache-2.0
# prx-train with token routes and a predicted x0: trains, goes on, is sampled from.
. tests/lib/tap.sh

take_photos 12 photos
prx-shard -q --size 64 --crop center photos -o - | prx-encode -q - -o set.tar
cat > tiny.yaml << YAML
extends: $ROOT/manifests/recipes/nano.yaml
model: {hidden_size: 32, num_heads: 2, depth: 4, axes_dim: null}
objective: {prediction: x0}
route: {start: 1, end: 2}
optim: {decay: constant} # a rate that does not know the last step
train: {steps: 6, batch: 4, checkpoint_every: 3}
sample: {size_px: 64, steps: 2}
YAML

for kind in none tread sprint; do
    set -- tiny.yaml set.tar --set "route.kind=$kind"
    run prx-train -q "$@" -o "$kind"
    is "$kind: a run is done" "$status" 0
    run prx-train -q "$@" -o "$kind-parts" --set train.steps=4
    run prx-train -q "$@" -o "$kind-parts" --resume
    is "$kind: stopped and resumed, the same" \
        "$(digest "$kind-parts/ckpt-0000006")" "$(digest "$kind/ckpt-0000006")"
    run prx-sample -q "$kind" -p "a red cup" -o "$kind.pictures"
    is "$kind: the model is sampled from" "$status" 0
    says "$kind: it predicts x0" "$kind/ckpt-0000006/prx.json" '"x_prediction_flow_matching"'
done
says "a routed network says so" sprint/ckpt-0000006/transformer/config.json '"sprint"'
ok "a plain one has the config of diffusers" \
    sh -c '! grep route none/ckpt-0000006/transformer/config.json'
gflops() { # RECIPE...
    prx-train -n "$@" --set sample.size_px=512 | sed -n 's/^# work: \([^ ]*\) .*/\1/p'
}
is "a route costs less" "$(echo "$(gflops tiny.yaml --set route.kind=tread) \
    $(gflops tiny.yaml)" | awk '{ print $1 < 0.85 * $2 }')" 1

run prx-train -q tiny.yaml set.tar -o self --set route.kind=tread \
    --set sample.self_guidance=true
is "a model is to guide itself" "$status" 0
run prx-sample -q self -p "a red cup" -o self.pictures
is "and does" "$status" 0
ok "to another picture" \
    sh -c '! cmp -s self.pictures/*.png tread.pictures/*.png'

run prx-train -q tiny.yaml set.tar -o x --set sample.self_guidance=true
is "without a route there is no self to lead away from" "$status" 1
says "and that is told" err 'sample.self_guidance: route.kind is not tread'
run prx-train -q tiny.yaml set.tar -o x --set route.kind=tread --set route.end=4
says "a route past the last block is refused" err 'blocks 1 to 4 of 4'
