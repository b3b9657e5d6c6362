#!/bin/sh
# SPDX-License-Identifier: Apache-2.0
# Runs that are killed at any moment and resumed end as if they never had been.
# KILLS=200 for a long session, SEED=N for other moments, KINDS='shards tar' for some.
. tests/lib/tap.sh
. "$ROOT/tests/lib/fault.sh"

for i in 0 1 2; do
    take_photos 40 "photos/$i"
done
echo 'not a picture' > photos/1/aaa.jpg
echo 'not a picture' > photos/2/zzz.jpg

tool=prx-shard
job() { # KIND FOLDER OPTIONS...
    job_kind=$1
    job_folder=$2
    shift 2
    set -- -q -j3 --shard-samples 9 --max-errors 2 "$@" \
        --rejects "$job_folder/rejects.jsonl" --stats "$job_folder/stats.json" \
        -o "$(dest "$job_kind" "$job_folder")"
    case $tool in
    prx-shard) under_fault prx-shard "$@" --size 160 photos ;;
    prx-encode) under_fault prx-encode "$@" square/index.json ;;
    esac
}

for kind in ${KINDS:-shards tar files lmdb mds}; do
    begin "$kind" || continue
    kill_often "$kind"
done

begin shards
before=$(cat straight/stats.json)
run job shards straight --resume --max-errors 1
is "resuming what is finished gives the same verdict" "$status" 3
is "and leaves the list of rejects alone" "$(wc -l < straight/rejects.jsonl)" 2
is "and the summary, which counts them by stage" "$(cat straight/stats.json)" "$before"

prx-shard -q --size 160 --crop center --max-errors 2 photos -o square/%06d.tar
tool=prx-encode
begin shards
kill_often shards
all_passed
