#!/bin/sh
# SPDX-License-Identifier: Apache-2.0
# Memory stays flat from 100 to 10,000 samples, on every way through prx-shard.
. tests/lib/tap.sh

if [ -n "$SAN" ]; then
    skip "memory" "sanitizers keep what was freed"
    exit 0
fi
# 100 samples, then 100 folders of the same files by links.
take_photos 86 small/0
take_photos 14 small/1
mkdir many
i=0
while [ $i -lt 100 ]; do
    cp -rl small "many/$i"
    i=$((i + 1))
done

peak_kib() { # ARGUMENTS... of prx-shard
    prx-shard -q -j2 --stats stats.json "$@" > /dev/null || return 1
    n_bytes=$(sed 's/.*"max_rss_bytes":\([0-9]*\).*/\1/' stats.json)
    echo $((n_bytes / 1024))
}

# What is in flight at once fills up within the first hundreds of samples; a folder
# is listed before it is read, in some hundred bytes a sample.
flat() { # NAME FEW LOT, in KiB
    echo "# $1: $2 KiB for 100 samples, $3 KiB for 10,000"
    is "$1: less than 12 MiB more" "$(($3 - $2 < 12288))" 1
    is "$1: less than 32 MiB in all" "$(($3 < 32768))" 1
}

flat "folder" "$(peak_kib small -o null:)" "$(peak_kib many -o null:)"
flat "resized" "$(peak_kib --size 32 small -o null:)" "$(peak_kib --size 32 many -o null:)"
prx-shard -q --no-sync small -o few.tar
flat "shards written" "$(peak_kib small -o few/%06d.tar)" \
    "$(peak_kib --no-sync --shard-samples 100 many -o lot/%06d.tar)"
cat lot/*.tar > lot.tar
flat "tar" "$(peak_kib few.tar -o null:)" "$(peak_kib lot.tar -o null:)"
flat "pipe" "$(peak_kib - -o - < few.tar)" "$(peak_kib - -o - < lot.tar)"
all_passed
