#!/bin/sh
# SPDX-License-Identifier: Apache-2.0
# prx-encode where any one system call fails or is its last.
# In memory, if possible: thousands of syncs would wait for the disk.
[ ! -w /dev/shm ] || export TMPDIR=/dev/shm
. tests/lib/tap.sh
. "$ROOT/tests/lib/fault.sh"
need_shim

# Four good samples in shards of three, so that the two are balanced, and a reject.
take_photos 4 photos
prx-shard -q --size 32 --crop center photos -o small/
rm small/index.json
echo 'not a picture' > small/b.jpg
tar cf small.tar --sort=name -C small .

job() { # KIND FOLDER OPTIONS...
    job_kind=$1
    job_folder=$2
    shift 2
    under_fault prx-encode -q -j1 --shard-samples 3 --max-errors 1 "$@" \
        --rejects "$job_folder/rejects.jsonl" --stats "$job_folder/stats.json" \
        small.tar -o "$(dest "$job_kind" "$job_folder")"
}

begin shards
sweep shards ENOSPC KILL EIO
endure shards SHORT
all_passed
