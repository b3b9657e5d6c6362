#!/bin/sh
# SPDX-License-Identifier: Apache-2.0
# Memory of prx-encode stays flat from 100 to 10,000 samples.
. tests/lib/tap.sh

if [ -n "$SAN" ]; then
    skip "memory" "sanitizers keep what was freed"
    exit 0
fi
take_photos 50 photos
prx-shard -q --size 64 --crop center photos -o small.tar

peak_kib() { # TIMES: encode the shard so often
    i=$1
    set --
    while [ "$i" -gt 0 ]; do
        set -- "$@" small.tar
        i=$((i - 1))
    done
    prx-encode -q -j2 --stats stats.json "$@" -o - > /dev/null || return 1
    n_bytes=$(sed 's/.*"max_rss_bytes":\([0-9]*\).*/\1/' stats.json)
    echo $((n_bytes / 1024))
}

# What is in flight at once fills up within the first hundreds of samples.
few=$(peak_kib 2)
lot=$(peak_kib 200)
echo "# $few KiB for 100 samples, $lot KiB for 10,000"
is "10,000 samples take less than 12 MiB more than 100" "$((lot - few < 12288))" 1
is "and less than 32 MiB in all" "$((lot < 32768))" 1
all_passed
