#!/bin/sh
# SPDX-License-Identifier: Apache-2.0
# The part of `make bench` that reads: the trainer's loader, what people use today,
# and what the machine can do.  Alone, once `make bench` has made its pictures:
#
#   sh tests/bench/stream.sh
set -eu
. tests/bench/median.sh

bin=${BIN:-build/bin}
b=${B:-build/release}
jobs=${JOBS:-$(nproc)}
work=build/bench
corpus=$work/corpus-${BENCH_N:-2000}

# Streams of pictures: batches a second of everybody, in turn, and the share of what
# libjpeg-turbo alone decodes.  STREAM_S seconds each.
stream_s=${STREAM_S:-4}
rows=$work/stream
mkdir -p "$rows"
stream_data() { # once: shards of squares and of whole pictures, and the peers' forms
    [ ! -f "$rows/done" ] || return 0
    "$bin/prx-shard" -q -j "$jobs" --size 256 --crop center --format jpeg -Q 90 \
        --shard-bytes 8M "$corpus" -o "$rows/small/%06d.tar" --overwrite
    "$bin/prx-shard" -q --shard-bytes 32M "$corpus" -o "$rows/full/%06d.tar" --overwrite
    for set in small full; do
        "$bin/prx-shard" -q --shard-bytes 32M "$rows/$set/index.json" \
            -o "mds:$rows/$set-mds" --overwrite
        "$bin/prx-shard" -q "$rows/$set/index.json" -o "$rows/$set-files/" --overwrite
    done
    "$b/tests/bench/bench_latents" "$rows/latents/%06d.tar" 30000 32
    "$b/tests/bench/bench_latents" "lmdb:$rows/latents.lmdb" 30000 32
    touch "$rows/done"
}
peer() { # NAME SET: samples a second, nan where it is not there
    python=build/venv/bin/python
    src=$rows/$2
    case $1 in
    streaming) python=build/venv-mds/bin/python src=$rows/$2-mds ;;
    datago) src=$rows/$2-files ;; # as many tasks as the others have workers
    esac
    DATAGO_MAX_TASKS=$jobs timeout 120 "$python" tests/bench/stream_peers.py "$1" "$src" "$jobs" 64 "$stream_s" \
        2> "$work/log" | tail -n 1 | grep . || echo nan
}
loader() { # KIND SRC: samples a second
    "$b/tests/bench/bench_loader" "$1" "$2" "$jobs" 64 "$stream_s" | cut -d' ' -f1
}
stream_data
echo "bench: streams of pictures to float batches of 256 px, $jobs threads or workers"
for set in small full; do
    : > "$work/turns"
    for _ in 1 2 3; do
        index=$rows/$set/index.json
        echo "$(loader images "$index") $(loader bytes "$index")" \
            "$(loader decode "$index") $(peer webdataset $set) $(peer streaming $set)" \
            "$(peer datago $set)" >> "$work/turns"
    done
    i=1
    for name in floats bytes libjpeg-turbo webdataset streaming datago; do
        printf '%-6s %-14s %7.0f/s   ours / theirs %5.2f\n' "$set" "$name" \
            "$(cut -d' ' -f$i "$work/turns" | median)" \
            "$(awk -v i=$i '{ print $1 / $i }' "$work/turns" | median)"
        i=$((i + 1))
    done
done
echo "bench: latents, float16 to float32 batches, against cat of the same bytes"
for src in "$rows/latents/index.json" "lmdb:$rows/latents.lmdb"; do
    : > "$work/turns"
    for _ in 1 2 3 4 5; do
        cat "$rows"/latents/*.tar > /dev/null
        t0=$(date +%s.%N)
        cat "$rows"/latents/*.tar > /dev/null
        t1=$(date +%s.%N)
        n_bytes=$(cat "$rows"/latents/*.tar | wc -c)
        echo "$("$b/tests/bench/bench_loader" latents "$src" "$jobs" 64 "$stream_s") $(echo \
            "$n_bytes $t0 $t1" | awk '{ print $1 / ($3 - $2) / 1e6 }')" >> "$work/turns"
    done
    printf '%-8s %7.0f MB/s   cat %7.0f MB/s   share %4.2f\n' "${src##*.}" \
        "$(cut -d' ' -f2 "$work/turns" | median)" \
        "$(cut -d' ' -f5 "$work/turns" | median)" \
        "$(awk '{ print $2 / $5 }' "$work/turns" | median)"
done
echo "bench: a shuffled epoch through a window, seconds to open and peak MiB"
for n in 100000 1000000; do
    [ -f "$rows/tiny-$n/index.json" ] ||
        "$b/tests/bench/bench_latents" "$rows/tiny-$n/%06d.tar" "$n" 2
    "$b/tests/bench/bench_loader" epoch "$rows/tiny-$n/index.json" "$jobs" 256 |
        while read -r rate _ open_s mib; do
            printf '%8s samples %8.0f/s   opened in %5.2f s   %5.1f MiB\n' \
                "$n" "$rate" "$open_s" "$mib"
        done
done
