#!/bin/sh
# SPDX-License-Identifier: Apache-2.0
# prx-shard where any one system call fails, is interrupted, does half, or is its last.
# In memory, if possible: thousands of syncs would wait for the disk.
[ ! -w /dev/shm ] || export TMPDIR=/dev/shm
. tests/lib/tap.sh
. "$ROOT/tests/lib/fault.sh"
need_shim

# Seven good samples in shards of three, so that the last two are balanced; a reject
# among them and one behind.
take_photos 7 photos
prx-shard -q --size 32 photos -o small/
rm small/index.json small/*.txt
echo 'not a picture' > small/b.jpg
echo 'not a picture' > small/z.jpg

job() { # KIND FOLDER OPTIONS...
    job_kind=$1
    job_folder=$2
    shift 2
    under_fault prx-shard -q -j1 --shard-samples 3 --max-errors 2 "$@" \
        --rejects "$job_folder/rejects.jsonl" --stats "$job_folder/stats.json" \
        small -o "$(dest "$job_kind" "$job_folder")"
}

for kind in shards files mds; do
    begin "$kind" || continue
    sweep "$kind" ENOSPC KILL EIO
    endure "$kind" SHORT
    endure "$kind" EINTR
done
for kind in tar lmdb; do
    begin "$kind" || continue
    sweep "$kind" EDQUOT KILL EIO
done
all_passed
