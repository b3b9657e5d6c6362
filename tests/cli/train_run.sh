#!/bin/sh
# SPDX-License-Identifier: Apache-2.0
# prx-train on good input: what a run leaves, and that stopping changes nothing.
. tests/lib/tap.sh

take_photos 12 photos
prx-shard -q --size 64 --crop center photos -o - | prx-encode -q - -o set.tar
cat > tiny.yaml << YAML
extends: $ROOT/manifests/recipes/nano.yaml
model: {hidden_size: 32, num_heads: 2, depth: 2, axes_dim: null}
optim: {decay: constant} # a rate that does not know the last step
train: {steps: 8, batch: 4, checkpoint_every: 3, keep: 2}
sample: {size_px: 64, steps: 2}
YAML

run prx-train tiny.yaml set.tar -o run
is "a run is done" "$status" 0
says "the last line tells" err '^prx-train: steps=8 loss=[0-9.]+ samples=12 rejected=0 '
is "the log has a line a step" "$(grep -c '"step"' run/log.jsonl)" 8
says "and its share of what the machine can do" run/log.jsonl \
    '"gflop_per_s": [0-9.e-]+, "peak_share": [0-9.e-]+, "step_s"'
says "with what a step was" run/log.jsonl '"step": 8, .*"loss": [0-9.]+, "grad_norm": [0-9.]+'
boards() { # RUN
    find "$1" -name 'events.out.tfevents.*' | grep -c .
}
is "TensorBoard has events" "$(boards run)" 1
is "the newest checkpoints are kept" "$(cd run && echo ckpt-*)" "ckpt-0000006 ckpt-0000008"
ok "nothing half-written is left" no_leftovers run
is "a checkpoint has the layout of diffusers" \
    "$(cd run/ckpt-0000008 && find . -type f | sort | tr '\n' ' ')" \
    "./manifest.json ./model_index.json ./prx.json ./scheduler/scheduler_config.json \
./trainer/moment1.safetensors ./trainer/moment2.safetensors ./trainer/state.json \
./transformer/config.json ./transformer/diffusion_pytorch_model.safetensors "
says "its network is told" run/ckpt-0000008/transformer/config.json '"hidden_size": 32'
if command -v gnuplot > /dev/null; then
    says "the loss is drawn" run/loss.svg '<svg'
else
    skip "the loss is drawn" "no gnuplot"
fi
run env PATH="$BIN" prx-train tiny.yaml set.tar -o undrawn --set train.steps=2
is "without gnuplot it is not" "$status" 0
says "and that is told" err 'gnuplot is not there'

# Pictures on the way: of the steps that were asked for, and the last.
run prx-train -q tiny.yaml set.tar -o pictures --set sample.every=3 \
    --set 'sample.prompts=[a red cup, "a cat, asleep"]'
is "a run draws pictures" "$(cd pictures/samples && echo ./*)" \
    "./step-0000003.png ./step-0000006.png ./step-0000008.png"
is "without a change to its weights" \
    "$(digest pictures/ckpt-0000008)" "$(digest run/ckpt-0000008)"
ok "and none is drawn that is not asked for" test ! -e run/samples

# The resolved recipe is a recipe, and the same run.
run prx-train run/recipe.yaml set.tar -q -o again
is "a run's recipe gives the run again" \
    "$(digest again/ckpt-0000008)" "$(digest run/ckpt-0000008)"
is "and itself" "$(cat again/recipe.yaml)" "$(cat run/recipe.yaml)"
run prx-train -q -j1 tiny.yaml set.tar -o one --set train.tensorboard=false
is "one thread gives the bytes of many" \
    "$(digest one/ckpt-0000008)" "$(digest run/ckpt-0000008)"
ok "TensorBoard's events can be left out" test ! -e one/tensorboard

# Stopped by hand or by signal: the end is the same.
run prx-train -q tiny.yaml set.tar -o parts --set train.steps=4
run prx-train tiny.yaml set.tar -o parts --resume
is "a run goes on" "$status" 0
says "and says from where" err 'going on from parts/ckpt-0000004'
says "and what has changed" err 'train.steps was 4, is 8'
is "to the same end" "$(digest parts/ckpt-0000008)" "$(digest run/ckpt-0000008)"
is "with events of its own" "$(boards parts)" 2

wait_steps() { # N RUN
    while [ ! -e "$2/log.jsonl" ] || [ "$(wc -l < "$2/log.jsonl")" -lt "$1" ]; do
        sleep 0.1
    done
}

stopped() { # NAME STATUS RUN
    is "$1 has its status" "$status" "$2"
    says "$1 is told" err "stopped by $1"
    last=$(tail -n1 "$3/log.jsonl" | sed 's/.*"step": \([0-9]*\),.*/\1/')
    ok "$1 finishes its step and saves it" test -e "$3/$(printf 'ckpt-%07d' "$last")"
}

set -- --set train.steps=100000 --set train.checkpoint_every=0 tiny.yaml set.tar
prx-train "$@" -o terminated 2> err &
pid=$!
wait_steps 3 terminated
if [ -r "/proc/$pid/status" ]; then
    # The frame of a handled signal would be written over the heap: see tool_signal.c.
    blocked=$(cat "/proc/$pid/task"/*/status | grep -c '^SigBlk:.*[4567cdef]...$')
    tasks=$(find "/proc/$pid/task" -mindepth 1 -maxdepth 1 | wc -l)
    is "all threads but one block the signals" "$blocked" $((tasks - 1))
fi
kill -TERM $pid
wait $pid
status=$?
stopped SIGTERM 143 terminated
# A shell's background jobs ignore SIGINT; timeout's do not.
run timeout --preserve-status -s INT 4 prx-train "$@" -o interrupted --progress always
stopped SIGINT 130 interrupted
says "the meter tells all on one line" err "^prx-train: train  [0-9.]+k? steps  [0-9.]+k?/s  \
loss [0-9.]+  [0-9.]+ samples/s  [0-9]+ tokens/s  [0-9]+ GFLOP/s \([0-9]+% of peak\)  \
wait [0-9]+%  eta [0-9hms]+\$"

# SIGUSR1 saves and changes nothing else.
prx-train "$@" -o saving 2> err &
pid=$!
wait_steps 3 saving
kill -USR1 $pid
for _ in $(seq 100); do
    saved=$(find saving -name 'ckpt-*' | head -n 1)
    [ -z "$saved" ] || break
    sleep 0.1
done
is "SIGUSR1 saves a checkpoint" "${saved%-*}" saving/ckpt
wait_steps $(($(wc -l < saving/log.jsonl) + 3)) saving
kill -TERM $pid
wait $pid
is "and the run goes on" $? 143
step=$(echo "${saved##*-}" | sed 's/^0*//')
run prx-train -q "$@" --set "train.steps=$step" -o unsaved
is "with the weights of a run that is not asked" \
    "$(digest "saving/ckpt-${saved##*-}")" "$(digest "unsaved/ckpt-${saved##*-}")"

all_passed
