#!/bin/sh
# SPDX-License-Identifier: Apache-2.0
# prx-export: what is given away is what was trained, under either form of the names.
. tests/lib/tap.sh

take_photos 8 photos
prx-shard -q --size 64 --crop center photos -o - | prx-encode -q - -o set.tar
prx-train -q "$ROOT/manifests/recipes/nano.yaml" set.tar -o run --set train.steps=3 \
    --set train.batch=4 --set model.depth=2 --set optim.ema_smoothing=0.5 \
    --set optim.ema_interval_steps=1 --set sample.size_px=64
weights=diffusion_pytorch_model.safetensors

run prx-export run -o model
is "a folder is written" "$status" 0
says "and told" err '^prx-export: tensors=[0-9]+ parameters=[0-9]+$'
ok "with the averages, byte for byte" \
    cmp "model/transformer/$weights" "run/ckpt-0000003/ema/$weights"
is "and nothing of training" "$(find model -name trainer -o -name ema)" ""
run prx-export run -q --trained -o trained
ok "the trained weights if asked" \
    cmp "trained/transformer/$weights" "run/ckpt-0000003/transformer/$weights"
run prx-sample -q model -p "a red cup" --steps 2 -o a
run prx-sample -q run -p "a red cup" --steps 2 -o b
ok "it is sampled from as the run is" cmp a/*.png b/*.png

run prx-export -q run -o again
is "it can be exported again" "$(prx-export -q model -o twice && digest twice)" \
    "$(digest model)"

# Both forms of the names are read: a file takes the place of a folder's weights.
run prx-export -q run -o model.safetensors --names prx
is "a file is written" "$status" 0
says "with the reference's names" model.safetensors 'qk_norm\.query_norm\.scale'
cp -r model by_prx && cp model.safetensors "by_prx/transformer/$weights"
is "which are read" "$(prx-export -q by_prx -o read && digest read)" "$(digest model)"
bytes() { # FILE
    wc -c < "$1"
}
for type in bf16 f16; do
    run prx-export -q run -o "$type.safetensors" --dtype "$type"
    is "$type takes half the size" "$(($(bytes "$type.safetensors") * 10 / $(bytes model.safetensors)))" 5
    cp -r model "by_$type" && cp "$type.safetensors" "by_$type/transformer/$weights"
    run prx-sample -q "by_$type" -p "a red cup" --steps 2 -o "$type"
    is "$type is sampled from" "$status" 0
    prx-export -q "by_$type" -o "wide.$type.safetensors" --dtype f32
    prx-export -q --overwrite "by_$type" -o "$type.safetensors" --dtype "$type"
    ok "$type is exported again as it is" cmp "$type.safetensors" "by_$type/transformer/$weights"
done

run prx-export run -o model
is "an existing folder is refused" "$status" 1
says "by name" err 'model: is there already'
run prx-export run -o model --overwrite
is "or replaced" "$status" 0
for folder in run run/ckpt-0000003 photos; do
    before=$(digest "$folder")
    run prx-export run -o "$folder" --overwrite
    is "$folder is no exported model, and is not replaced" \
        "$status $(digest "$folder")" "1 $before"
done
run prx-export run -o other --names prx
is "a folder has diffusers' names" "$status" 2
run prx-export run
is "a destination is asked for" "$status" 2
run prx-export gone -o x
says "a missing checkpoint is named" err 'gone'
run prx-export run -o /dev/full/x.safetensors
is "what cannot be written is a failure" "$status" 1
