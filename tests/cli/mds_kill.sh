#!/bin/sh
# SPDX-License-Identifier: Apache-2.0
# Writing MDS, killed and resumed, ends as if it never had been.  KILLS=N: how often.
. tests/lib/tap.sh

: "${KILLS:=10}"
for i in 0 1 2; do
    take_photos 60 "photos/$i"
done
echo 'not a picture' > photos/1/aaa.jpg

set -- -q -j1 --size 250 --shard-samples 9 --max-errors 1
prx-shard "$@" --rejects straight.jsonl photos -o mds:straight
is "the run that is not killed ends well" "$?" 0

# Delays are spread over the time of a run; one that gets to its end begins anew.
n_killed=0
n_ended=0
n_wrong=0
while [ $n_killed -lt "$KILLS" ]; do
    delay=.$(((n_killed * 37 + n_ended * 11) % 60 + 5))
    [ ${#delay} -eq 3 ] || delay=.0${delay#.}
    kill_after "$delay" prx-shard "$@" --resume --rejects killed.jsonl photos \
        -o mds:killed 2>> kill.err
    n_killed=$((n_killed + 1))
    for shard in killed/shard.*.mds; do
        [ ! -e "$shard" ] || cmp "$shard" "straight/${shard##*/}" ||
            n_wrong=$((n_wrong + 1))
    done
    [ "$status" -eq 0 ] || continue
    n_ended=$((n_ended + 1))
    [ "$(digest killed)" = "$(digest straight)" ] || n_wrong=$((n_wrong + 1))
    rm -r killed
done
run prx-shard "$@" --resume --rejects killed.jsonl photos -o mds:killed
is "the last of the resumed runs ends well" "$status" 0
echo "# $n_killed runs, of which $n_ended came to their end"
is "some were killed" "$((n_killed > n_ended))" 1
is "no shard stands that is not whole" "$n_wrong" 0
is "shards and index are those of the straight run" \
    "$(digest killed)" "$(digest straight)"
is "so is the list of rejects" "$(cut -d, -f1-3 killed.jsonl)" \
    "$(cut -d, -f1-3 straight.jsonl)"
all_passed
