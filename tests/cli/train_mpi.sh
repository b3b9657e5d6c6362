#!/bin/sh
# SPDX-License-Identifier: Apache-2.0
# prx-train in several processes: the run that one process would make, and the end of
# all where one ends.
. tests/lib/tap.sh

case ${B:=build/release} in
/*) ;;
*) B=$ROOT/$B ;;
esac
take_photos 12 photos
prx-shard -q --size 64 --crop center photos -o - | prx-encode -q - -o set.tar
cat > tiny.yaml << YAML
extends: $ROOT/manifests/recipes/nano.yaml
model: {hidden_size: 32, num_heads: 2, depth: 2, axes_dim: null}
optim: {decay: constant, warmup_steps: 2, ema_smoothing: 0.9, ema_interval_steps: 2}
train: {steps: 24, batch: 7, checkpoint_every: 10}
data: {caption_dropout: 0.2}
sample: {size_px: 64}
YAML

# A container is root, and has no more processors than it has.  MPI never frees some
# memory, of plug-ins that are unloaded when leaks are looked for; our own leaks show in
# the runs of one process.
export OMPI_ALLOW_RUN_AS_ROOT=1 OMPI_ALLOW_RUN_AS_ROOT_CONFIRM=1
export OMPI_MCA_rmaps_base_oversubscribe=1 OMPI_MCA_btl_vader_single_copy_mechanism=none
export ASAN_OPTIONS=detect_leaks=0

# Said to be one of two, where no MPI joins them.
for variable in OMPI_COMM_WORLD_SIZE PMI_SIZE SLURM_STEP_NUM_TASKS; do
    run env $variable=2 prx-train tiny.yaml set.tar -o lone
    is "$variable=2 without the other is refused" "$status" 1
    says "with the reason" err 'error: (2|several) processes were started, but'
    ok "and nothing is written" test ! -e lone
done
run env OMPI_COMM_WORLD_SIZE=2 OMPI_COMM_WORLD_RANK=1 prx-train tiny.yaml set.tar -o lone
is "the second one is refused" "$status" 1
is "in silence" "$(cat err)" ""
run env PMI_SIZE=1 prx-train -q tiny.yaml set.tar -o one
is "one of one trains" "$status" 0

if ! prx-train --version | grep -q '^built in:.* openmpi'; then
    skip "training in several processes" "built without MPI"
    all_passed
    exit
fi
if ! command -v mpirun > /dev/null; then
    skip "training in several processes" "no mpirun"
    all_passed
    exit
fi

limit_s=60
[ -z "$SAN" ] || limit_s=240

cat > rank.sh << 'RANK'
echo $$ > "pid.$OMPI_COMM_WORLD_RANK"
exec prx-train "$@"
RANK
mpi() { # N ARGUMENTS...: prx-train in N processes; rank R writes its id to pid.R
    mpi_n=$1
    shift
    timeout -k 5 "$limit_s" mpirun -n "$mpi_n" sh rank.sh "$@"
}

numbers() { # RUN: what does not depend on the clock
    sed 's/, "samples_per_s.*, "null_captions"/, "null_captions"/' "$1/log.jsonl"
}

# Prints the largest relative difference of losses, if it is beyond 1e-5.
compare_losses() { # RUN RUN
    cut -d, -f3 "$1/log.jsonl" | sed 's/.*: //' > losses.1
    cut -d, -f3 "$2/log.jsonl" | sed 's/.*: //' > losses.2
    paste losses.1 losses.2 | awk '
        { gap = ($1 - $2) / $2; if (gap < 0) gap = -gap; if (gap > max) max = gap }
        NF != 2 { max = 1 }
        END { if (NR == 0 || max > 1e-5) print NR, max }'
}

draws() { # RUN: epochs, and the dropout of captions, of every step
    sed 's/"loss.*"null/"null/' "$1/log.jsonl"
}

ok "sums and agreements of three" timeout "$limit_s" mpirun -n 3 "$B/tests/unit/test_dist"

# The same run, whoever shares it.
for n in 2 3; do
    run mpi $n tiny.yaml set.tar -o "by$n"
    is "$n processes train" "$status" 0
    is "one of them says what was done" "$(grep -c '^prx-train: steps=24 ' err)" 1
    is "and nothing else is said" "$(grep -v '^prx-train: steps' err)" ""
    is "$n have the losses of one" "$(compare_losses "by$n" one)" ""
    is "and its samples" "$(draws "by$n")" "$(draws one)"
    is "and leave what it leaves" "$(cd "by$n" && find . -type f | sed 's/\.tfev.*//' | sort)" \
        "$(cd one && find . -type f | sed 's/\.tfev.*//' | sort)"
done
run mpi 1 -q tiny.yaml set.tar -o by1
is "a launcher of one process changes nothing" \
    "$(digest by1/ckpt-0000024)" "$(digest one/ckpt-0000024)"
run mpi 3 -q tiny.yaml set.tar -o again
is "the same number of processes, the same bytes" \
    "$(digest again/ckpt-0000024)" "$(digest by3/ckpt-0000024)"
run mpi 2 -q --backend fence tiny.yaml set.tar -o fence --set train.steps=6
run mpi 2 -q tiny.yaml set.tar -o short --set train.steps=6
is "gradients are summed by copies alone" \
    "$(digest fence/ckpt-0000006)" "$(digest short/ckpt-0000006)"
run mpi 2 -q tiny.yaml set.tar -o micro --set train.micro_batch=2
is "slices are sliced again" "$(compare_losses micro one)" ""

# Stopped, and gone on with by as many or others.
run mpi 3 -q tiny.yaml set.tar -o parts --set train.steps=13
run mpi 3 -q tiny.yaml set.tar -o parts --resume
is "stopped and resumed by as many: the same bytes" \
    "$(digest parts/ckpt-0000024)" "$(digest by3/ckpt-0000024)"
is "and the same log" "$(numbers parts)" "$(numbers by3)"
run mpi 3 -q tiny.yaml set.tar -o other --set train.steps=13
run mpi 2 tiny.yaml set.tar -o other --resume
is "others may go on" "$status" 0
is "and say so once" "$(grep -c 'going on from other/ckpt-0000013' err)" 1
run prx-train -q tiny.yaml set.tar -o other --resume --set train.steps=25
is "one alone, too" "$status" 0
is "with the losses of one" "$(sed 25d other/log.jsonl > other/kept &&
    mv other/kept other/log.jsonl && compare_losses other one)" ""

# Samples that only the first process can read, or that are damaged.
(sleep 1 && cat set.tar) | mpi 3 -q tiny.yaml - -o piped
is "a stream is read by one for all" \
    "$(digest piped/ckpt-0000024)" "$(digest by3/ckpt-0000024)"
mkfifo pipe
cat set.tar > pipe &
run mpi 2 -q tiny.yaml pipe -o named
is "and so is a pipe with a name" "$(digest named/ckpt-0000024)" "$(digest by2/ckpt-0000024)"
gzip -k set.tar
run mpi 3 -q tiny.yaml set.tar.gz -o gz
is "a compressed shard, too" "$(digest gz/ckpt-0000024)" "$(digest by3/ckpt-0000024)"
head -c 3000 set.tar > torn.tar
(sleep 1 && cat torn.tar) | mpi 2 tiny.yaml - -o torn 2> err
is "a torn stream is told once" "$(grep -c '^prx-train: error: .*torn at byte' err)" 1
mkdir bad
tar xf set.tar -C bad
for latent in bad/a*.latent.npy; do
    printf '\000\176' | dd of="$latent" bs=1 seek=200 conv=notrunc 2> /dev/null # a NaN
done
run prx-train -q tiny.yaml bad -o bad1
run mpi 3 tiny.yaml bad -o bad3
is "damaged samples are replaced" "$status" 0
says "which is told" err 'warning: a damaged sample is replaced by another'
is "as by one" "$(draws bad3)" "$(draws bad1)"
is "by the same samples" "$(compare_losses bad3 bad1)" ""

refused() { # NAME STATUS REGEX ARGUMENTS...
    refused_name=$1 refused_status=$2 refused_regex=$3
    shift 3
    run mpi 3 "$@"
    is "$refused_name: status" "$status" "$refused_status"
    says "$refused_name: message" err "^prx-train: error: $refused_regex"
    is "$refused_name: told once" "$(grep -c '^prx-train: error' err)" 1
}
refused "a batch of less than a sample each" 1 'train.batch: 2, fewer samples than the 3' \
    tiny.yaml set.tar -o no --set train.batch=2
refused "a source that is not there" 1 'gone.tar: No such file' tiny.yaml gone.tar -o no
refused "no source" 2 'name a source' tiny.yaml -o no
refused "a run that is there" 1 'by3: is not empty' tiny.yaml set.tar -o by3
refused "a checkpoint of another order" 1 'by3/ckpt-0000024: made with train.batch 7, not 8' \
    tiny.yaml set.tar -o by3 --resume --set train.batch=8
refused "a run that blows up" 1 'no finite loss and gradient in 1 steps in a row' \
    -q tiny.yaml set.tar -o hot --set train.nonfinite_max=0 \
    --set optim.lr=10 --set optim.weight_decay=100 --set train.steps=999

# What one of them sees that the others do not.
mkdir set.0 set.1
tar xf set.tar -C set.0
tar xf set.tar -C set.1
rm set.1/a*
# shellcheck disable=SC2016 # for the inner shell
run timeout "$limit_s" mpirun -n 2 sh -c 'cd "set.$OMPI_COMM_WORLD_RANK" && exec "$@"' \
    sh prx-train ../tiny.yaml . -o ../no
is "other samples in one process: status" "$status" 1
is "other samples in one process: told" "$(grep '^prx-train' err)" \
    "prx-train: error: rank 1: these are other samples than rank 0 has found"

begin() { # N ARGUMENTS...: in the background, until some steps are logged in "run"
    begin_n=$1
    shift
    rm -rf run
    mpirun -n "$begin_n" sh rank.sh "$@" -o run --set train.steps=1000000 \
        --set train.checkpoint_every=0 2> err &
    mpirun=$!
    while [ ! -e run/log.jsonl ] || [ "$(wc -l < run/log.jsonl)" -lt 3 ]; do
        kill -0 $mpirun 2> /dev/null || break
        sleep 0.1
    done
}

finish_within() { # SECONDS: status, or 99
    status=99
    for _ in $(seq $(($1 * 10))); do
        if ! kill -0 $mpirun 2> /dev/null; then
            wait $mpirun
            status=$?
            return
        fi
        sleep 0.1
    done
}

saved() { # is the last logged step saved?
    saved_step=$(tail -n1 run/log.jsonl | sed 's/.*"step": \([0-9]*\),.*/\1/')
    test -e "run/$(printf 'ckpt-%07d' "$saved_step")"
}

for rank in 0 2; do
    begin 3 -q tiny.yaml set.tar
    kill -9 "$(cat pid.$rank)"
    finish_within 20
    is "rank $rank is killed: all end" "$status" 137
    says "and that is told" err "rank $rank .*exited on signal 9"
    for other in 0 1 2; do
        # A zombie is gone: it waits for init.
        ok "no process is left" test -z \
            "$(grep '^State:.[^Z]' "/proc/$(cat pid.$other)/status" 2> /dev/null)"
    done
done
begin 3 -q tiny.yaml set.tar
kill -TERM "$(cat pid.1)"
finish_within 20
is "SIGTERM to one of them stops all" "$status" 143
is "which is told once" "$(grep -c '^prx-train: error: stopped by SIGTERM' err)" 1
ok "and the last step is saved" saved
# A second, which the launcher gives by default, is little for a busy machine.
export OMPI_MCA_odls_base_sigkill_timeout=4
begin 2 -q tiny.yaml set.tar
kill -TERM $mpirun
finish_within 30
ok "SIGTERM to the launcher stops all" test "$status" -ne 99 -a "$status" -ne 0
ok "and saves" saved
unset OMPI_MCA_odls_base_sigkill_timeout
begin 2 -q tiny.yaml set.tar
kill -USR1 "$(cat pid.1)"
for _ in $(seq 100); do
    [ -z "$(find run -name 'ckpt-*')" ] || break
    sleep 0.1
done
ok "SIGUSR1 to one of them saves" test -n "$(find run -name 'ckpt-*')"
kill -TERM "$(cat pid.0)"
finish_within 20
mkdir files
tar xf set.tar -C files
begin 2 -q tiny.yaml files --set data.cache_bytes=0
rm -r files
finish_within 20
is "samples that go away: the failure of one ends all" "$status" 1
says "and is told" err '^prx-train: error: (rank 1: )?.*npy: No such file'

all_passed
