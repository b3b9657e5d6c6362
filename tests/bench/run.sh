#!/bin/sh
# SPDX-License-Identifier: Apache-2.0
# `make bench`: our tools and what users run today, in turn, in one run; what
# counts are the ratios.  Each row is the median of $RUNS runs after a warm-up.
#
#   BENCH_N=2000 RUNS=5 JOBS=2   pictures, runs, processors
set -eu

bin=${BIN:-build/bin}
b=${B:-build/release}
n=${BENCH_N:-2000}
runs=${RUNS:-5}
jobs=${JOBS:-$(nproc)}
work=build/bench
corpus=$work/corpus-$n
python=build/venv/bin/python

mkdir -p "$work"
if [ ! -f "$corpus/done" ]; then
    echo "bench: making $n pictures"
    "$b/tests/bench/bench_corpus" manifests/demo/photos "$corpus" "$n"
    touch "$corpus/done"
fi
echo "bench: $n pictures, $(du -sh "$corpus" | cut -f1), $jobs processors"

if [ ! -x "$python" ] && command -v python3 > /dev/null; then
    { python3 -m venv build/venv && build/venv/bin/pip -q install pillow; } || :
fi
has_pillow=$("$python" -c 'import PIL; print(PIL.__version__)' 2> /dev/null || true)

seconds() { # command...: wall seconds of one run
    rm -rf "$work/out"
    mkdir -p "$work/out"
    t0=$(date +%s.%N)
    "$@" > "$work/log" 2>&1 || { cat "$work/log" >&2; return 1; }
    t1=$(date +%s.%N)
    echo "$t0 $t1" | awk '{ printf "%.4f\n", $2 - $1 }'
}

. tests/bench/median.sh

# compare LABEL 'OURS' 'THEIRS': both in turn, medians, samples a second, the ratio.
compare() {
    : > "$work/a"
    : > "$work/b"
    seconds sh -c "$2" > /dev/null
    seconds sh -c "$3" > /dev/null
    i=0
    while [ "$i" -lt "$runs" ]; do
        seconds sh -c "$2" >> "$work/a"
        seconds sh -c "$3" >> "$work/b"
        i=$((i + 1))
    done
    paste "$work/a" "$work/b" | awk '{ print $2 / $1 }' | median > "$work/ratio"
    printf '%-44s ours %8.1f/s   theirs %8.1f/s   ratio %5.2f\n' "$1" \
        "$(echo "$n $(median < "$work/a")" | awk '{ print $1 / $2 }')" \
        "$(echo "$n $(median < "$work/b")" | awk '{ print $1 / $2 }')" "$(cat "$work/ratio")"
}

shard="$bin/prx-shard -q -j $jobs $corpus"
compare "repack, against tar cf" \
    "$shard --no-sync -o $work/out/%06d.tar" "tar cf $work/out/a.tar $corpus"
compare "repack durably, against tar cf and sync" \
    "$shard -o $work/out/%06d.tar" "tar cf $work/out/a.tar $corpus && sync $work/out/a.tar"
if [ -n "$has_pillow" ]; then
    echo "bench: Pillow $has_pillow in $jobs processes, no sync"
    pillow="$python tests/bench/pillow_shard.py $corpus $work/out/p $jobs"
    resize="$shard --size 256 --crop center --format jpeg -Q 95 --no-sync -o $work/out/%06d.tar"
    compare "decode, Lanczos 256, JPEG 95, scaled decode" "$resize" "$pillow"
    compare "the same, full decode" "$resize --full-decode" "$pillow"
else
    echo "bench: Pillow is not there (python3 -m venv, pip install pillow): rows left out"
fi

BENCH_N=$n JOBS=$jobs sh tests/bench/stream.sh

echo "bench: peak memory, KiB"
for cmd in "$shard --no-sync -o $work/out/%06d.tar" \
    "$shard --size 256 --crop center --format jpeg -Q 95 --no-sync -o $work/out/%06d.tar"; do
    rm -rf "$work/out"
    mkdir -p "$work/out"
    peak=$( (command -v /usr/bin/time > /dev/null && /usr/bin/time -f %M sh -c "exec $cmd" 2>&1 | tail -n 1) || echo "? (install time)")
    printf '%10s  %s\n' "$peak" "$(echo "$cmd" | sed "s#$bin/##; s#$work/##g; s#-j $jobs ##")"
done
echo "bench: training ops"
"$b/tests/bench/bench_ops" all "$jobs"

# A step of ours and one of PyTorch, in turn; medians of the turns, and of their ratios:
# a machine whose speed wanders does so from turn to turn.
has_torch=$("$python" -c 'import torch, diffusers; print(torch.__version__)' \
    2> /dev/null || true)
echo "bench: training steps, float32, $jobs threads${has_torch:+, PyTorch $has_torch}"
[ -n "$has_torch" ] || echo "bench: no PyTorch in build/venv (make check-peers installs it)"
for size in nano:30 mid:6 small2:3; do
    steps=${size#*:}
    size=${size%:*}
    : > "$work/ours"
    : > "$work/eager"
    : > "$work/compiled"
    for _ in 1 2 3 4 5; do
        "$b/tests/bench/bench_step" "$size" "$steps" "$jobs" >> "$work/ours"
        [ -n "$has_torch" ] || continue
        "$python" tests/bench/torch_step.py "$size" "$steps" "$jobs" >> "$work/eager"
        "$python" tests/bench/torch_step.py "$size" "$steps" "$jobs" compile \
            >> "$work/compiled" 2> "$work/log" || echo "nan nan" >> "$work/compiled"
    done
    ours=$(cut -d' ' -f1 "$work/ours" | median)
    printf '%-8s ours %8.1f ms %6.1f GFLOP/s, %3.0f %% of a product, %5.0f MiB' "$size" \
        "$ours" "$(cut -d' ' -f2 "$work/ours" | median)" \
        "$(cut -d' ' -f3 "$work/ours" | median | awk '{ print 100 * $1 }')" \
        "$(cut -d' ' -f4 "$work/ours" | median)"
    [ -z "$has_torch" ] || for form in eager compiled; do
        theirs=$(cut -d' ' -f1 "$work/$form" | median)
        printf '   %s %8.1f ms %5.0f MiB ratio %5.2f' "$form" "$theirs" \
            "$(cut -d' ' -f2 "$work/$form" | median)" \
            "$(paste "$work/$form" "$work/ours" | awk '{ print $1 / $3 }' | median)"
    done
    echo
done

# The study's network, a sample at a time with its blocks run twice, where it fits.
need_mib=20000
free_mib=$(awk '/^MemAvailable/ { print int($2 / 1024) }' /proc/meminfo 2> /dev/null || echo 0)
if [ "$free_mib" -ge "$need_mib" ]; then
    "$b/tests/bench/bench_step" small 2 "$jobs" | while read -r step rate share mib forward; do
        echo "prx_small, 1.17 B parameters, batch 1: step $step ms, $rate GFLOP/s," \
            "$share of a product, $mib MiB; forward $forward ms"
    done
else
    echo "bench: prx_small takes $need_mib MiB, of which $free_mib are there: left out"
fi
rm -rf "$work/out"
