#!/bin/sh
# SPDX-License-Identifier: Apache-2.0
# A denoiser on pixels: encoded, trained and sampled from without any VAE.
. tests/lib/tap.sh

take_photos 8 photos
prx-shard -q --size 64 --crop center --format png photos -o shard.tar
run prx-encode -q --vae pixels shard.tar -o set.tar
is "pixels are encoded" "$status" 0
run prx-train -q prx_jit_nano set.tar -o run --set train.steps=3 --set train.batch=4 \
    --set model.depth=2 --set sample.size_px=64
is "a denoiser is trained on them" "$status" 0
says "without a VAE" run/ckpt-0000003/prx.json '"vae": "pixels"'
says "through a bottleneck" run/ckpt-0000003/transformer/config.json '"bottleneck_size": 64'
run prx-sample -q run -p "a red cup" --steps 2 -o pictures
is "and sampled from" "$status" 0
prx-ls -l pictures > size
says "at the size it was trained at" size '64x64'
run prx-train -q nano set.tar -o other
says "latents of another kind are refused" err 'latent.npy is stale'
run prx-encode -q --vae nothing shard.tar -o x.tar
says "an unknown VAE is told which there are" err 'there are: dct, pixels'
