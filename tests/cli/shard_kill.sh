#!/bin/sh
# SPDX-License-Identifier: Apache-2.0
# Runs that are killed and resumed end as if they never had been.
. tests/lib/tap.sh

for i in 0 1 2; do
    take_photos 60 "photos/$i"
done
echo 'not a picture' > photos/1/aaa.jpg

set -- -q -j1 --size 250 --shard-samples 9 --max-errors 1
prx-shard "$@" --rejects straight.jsonl photos -o straight/%06d.tar
is "the run that is not killed ends well" "$?" 0

# Every run gets a little further; delays are spread over its whole time.
n_killed=0
for delay in .1 .25 .15 .35 .05 .3 .2 .4 .12 .5 .18; do
    kill_after $delay \
        prx-shard "$@" --rejects killed.jsonl photos -o killed/%06d.tar 2>> kill.err
    [ $n_killed -gt 0 ] || set -- "$@" --resume
    [ "$status" -ne 0 ] || break
    n_killed=$((n_killed + 1))
done
if [ "$status" -ne 0 ]; then
    run prx-shard "$@" --rejects killed.jsonl photos -o killed/%06d.tar
fi
is "the last of the resumed runs ends well" "$status" 0
is "some were killed" "$((n_killed > 0))" 1
echo "# $n_killed killed"
sed 's/^/# /' kill.err
is "the shards and indexes are those of the straight run" \
    "$(digest killed)" "$(digest straight)"
is "so is the list of rejects" "$(cut -d, -f1-3 killed.jsonl)" \
    "$(cut -d, -f1-3 straight.jsonl)"

run prx-shard -q -j1 --size 250 --shard-samples 9 --resume --rejects killed.jsonl photos \
    -o killed/%06d.tar
is "resuming what is finished gives the same verdict" "$status" 3
is "and leaves the list of rejects alone" "$(wc -l < killed.jsonl)" 1

whole() { # TAR...: can each be read to its end?
    for shard; do
        [ ! -f "$shard" ] || tar tf "$shard" || return
    done
}

# Signals that can be caught leave nothing half-written.
for signal in INT TERM; do
    timeout --preserve-status -s $signal .3 \
        prx-shard -q --size 192 -j1 --shard-samples 9 photos photos photos \
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
