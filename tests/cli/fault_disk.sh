#!/bin/sh
# SPDX-License-Identifier: Apache-2.0
# A disk that is really full: every run ends in time, and goes on when there is room.
. tests/lib/tap.sh
. "$ROOT/tests/lib/fault.sh"

take_photos 40 photos
mkdir landing
if ! mount -t tmpfs -o size=512k prx-test landing 2> /dev/null; then
    skip "a full disk" "a file system can only be mounted by root"
    exit 0
fi
leave() {
    umount landing
    finish
}
trap leave EXIT

job() { # KIND FOLDER OPTIONS...
    job_kind=$1
    job_folder=$2
    shift 2
    under_fault prx-shard -q --size 192 --shard-samples 5 "$@" \
        --rejects "$job_folder/rejects.jsonl" --stats "$job_folder/stats.json" \
        photos -o "$(dest "$job_kind" "$job_folder")"
}

for kind in shards tar files lmdb mds; do
    find landing -mindepth 1 -delete
    mount -o remount,size=512k landing
    rm -rf straight
    job "$kind" straight > straight.log 2>&1
    status=$?
    if grep -q 'not written by this build' straight.log; then
        skip "$kind" "this build does not write it"
        continue
    fi
    is "$kind: a run that has room ends well" "$status" 0
    trim_stats straight
    run job "$kind" landing
    is "$kind: a run on a full disk fails" "$status" 1
    says "$kind: and says so" err \
        '^prx-shard: error: landing/.*: No space left on device$'
    is "$kind: it leaves nothing that is not whole" "$(not_whole)" ""
    run job "$kind" landing --resume
    is "$kind: it does not get further" "$status" 1
    mount -o remount,size=64m landing
    is "$kind: with room it ends as if it always had had it" "$(conclude "$kind")" ""
done
all_passed
