#!/bin/sh
# SPDX-License-Identifier: Apache-2.0
# `make check-peers`: what Python's own libraries say to what we write.
#
# Prints "ok NAME" or "FAIL NAME: why" for each check and at the end
# "N passed, N failed".  Packages are installed into build/venv (PyTorch is large:
# some gigabytes); PEERS_PYTHON names a Python that has them already.
# Environment, from the Makefile: BIN (the tools), B (the build folder).
set -u
: "${BIN:=build/bin}" "${B:=build/release}" "${PEERS_PYTHON:=}" "${MDS_PYTHON:=$PEERS_PYTHON}"
root=$(pwd)
BIN=$(cd "$BIN" && pwd)
PATH=$BIN:$PATH
export LC_ALL=C.UTF-8 PYTHONDONTWRITEBYTECODE=1 HF_HUB_OFFLINE=1
scratch=$(mktemp -d)
trap 'rm -rf "$scratch"' EXIT
trap 'exit 130' INT TERM

skip() {
    echo "skipped: $1"
    echo "0 passed, 0 failed"
    exit 0
}

# MosaicML's streaming wants an older huggingface-hub than diffusers: it gets a folder
# of its own, which takes what is large from the other.
install_packages() {
    venv=build/venv
    [ -x "$venv/bin/python" ] || python3 -m venv "$venv" || return 1
    [ -x "$venv-mds/bin/python" ] || python3 -m venv "$venv-mds" || return 1
    PEERS_PYTHON=$root/$venv/bin/python
    MDS_PYTHON=$root/$venv-mds/bin/python
    "$venv/bin/pip" install -q numpy pillow webdataset safetensors torch diffusers \
        tensorboard pyarrow pandas datasets lmdb || return 1
    packages='import sysconfig; print(sysconfig.get_path("purelib"))'
    "$PEERS_PYTHON" -c "$packages" > "$("$MDS_PYTHON" -c "$packages")/peers.pth"
    "$venv-mds/bin/pip" install -q mosaicml-streaming
}

if [ -z "$PEERS_PYTHON" ]; then
    command -v python3 > /dev/null || skip "there is no python3"
    python3 -c 'import venv, ensurepip' 2> /dev/null ||
        skip "python3 lacks venv (Debian: apt install python3-venv)"
    install_packages > "$scratch/pip.log" 2>&1 || {
        tail -n 3 "$scratch/pip.log"
        skip "the Python packages cannot be installed here"
    }
fi

# What is to be read: shards in three formats, encoded samples, a checkpoint.
photos=$root/manifests/demo/photos
golden=$root/$B/tests/prx-golden
board=$root/$B/tests/unit/test_tensorboard

# Steps 13 to 16 twice: the checkpoint behind them is lost, and they are taken again.
make_resumed() {
    set -- "$root/manifests/recipes/nano.yaml" encoded/index.json -o resumed \
        --set train.batch=4 --set train.checkpoint_every=12
    prx-train -q "$@" --set train.steps=16 &&
        rm -r resumed/ckpt-0000016 &&
        prx-train -q "$@" --set train.steps=20 --resume
}

make_data() {
    cd "$scratch" || return 1
    for format in png jpeg webp; do
        prx-shard -q --size 96 --crop center --full-decode --format "$format" \
            "$photos" -o "$format/%06d.tar" --shard-samples 50 || return 1
    done
    seq 2 | xargs -P 2 -I N prx-shard -q -j1 --share --unit-samples 20 "$photos" \
        -o shared/%06d.tar || return 1
    prx-shard -q "$photos" -o whole.tar &&
        prx-shard -q "$photos" -o lmdb:photos.lmdb &&
        prx-encode -q 'png/*.tar' -o encoded/%06d.tar --shard-samples 50 &&
        prx-train -q "$root/manifests/recipes/nano.yaml" encoded/index.json -o trained \
            --set train.steps=20 --set train.batch=4 --set optim.ema_smoothing=0 \
            --set sample.size_px=96 --set sample.every=8 --set sample.steps=2 &&
        make_resumed &&
        "$board" board &&
        prx-sample -q trained -p "a red cup" --steps 2 -o sampled --grid sheet.png
}
made() { # FILE
    [ -x "$root/$1" ] || make -s "$1"
}
if ! made "$B/tests/prx-golden" || ! made "$B/tests/unit/test_tensorboard" ||
    ! (make_data); then
    echo "FAIL peers: there is nothing to read"
    echo "0 passed, 1 failed"
    exit 1
fi

for script in "$root"/tests/peers/check_*.py; do
    python=$PEERS_PYTHON
    [ "${script##*/}" != check_mds.py ] || python=$MDS_PYTHON
    (cd "$scratch" && "$python" "$script" "$photos" "$golden") ||
        echo "FAIL ${script##*/}: ended with status $?"
done 2>&1 | tee "$scratch/out"
passed=$(grep -c '^ok ' "$scratch/out")
failed=$(grep -c '^FAIL ' "$scratch/out")
echo "$passed passed, $failed failed"
[ "$failed" -eq 0 ]
