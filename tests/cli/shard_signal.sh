#!/bin/sh
# SPDX-License-Identifier: Apache-2.0
# Signals that can be caught leave nothing half-written.
. tests/lib/tap.sh

take_photos 60 photos

whole() { # TAR...: can each be read to its end?
    for shard; do
        [ ! -f "$shard" ] || tar tf "$shard" || return
    done
}

for signal in INT TERM; do
    timeout --preserve-status -s $signal .3 \
        prx-shard -q --size 192 -j1 --shard-samples 9 photos photos photos photos photos \
        photos photos photos photos \
        -o "$signal/%06d.tar" 2> "$signal.err"
    status=$?
    if [ $status -eq 3 ]; then
        skip "SIG$signal" "the run was faster"
        continue
    fi
    is "SIG$signal ends the run" "$status" "$([ $signal = INT ] && echo 130 || echo 143)"
    says "SIG$signal is named" "$signal.err" "^prx-shard: error: stopped by SIG$signal"
    ok "SIG$signal leaves no temporary file" no_leftovers "$signal"
    ok "SIG$signal leaves no index" test ! -e "$signal/index.json"
    ok "SIG$signal leaves whole shards" whole "$signal"/*.tar
done
# Even where nothing comes from a pipe that stays open.
mkfifo silent
prx-shard - -o waiting/%06d.tar < silent 2> waiting.err &
waiting=$!
exec 9> silent
sleep .3
kill -TERM $waiting
wait $waiting
is "SIGTERM ends a run that waits for input" "$?" 143
exec 9>&-
ok "which leaves no temporary file" no_leftovers waiting
all_passed
