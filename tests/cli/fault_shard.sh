#!/bin/sh
# SPDX-License-Identifier: Apache-2.0
# prx-shard where any one system call fails, is interrupted, does half, or is its last.
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

begin shards
sweep shards ENOSPC EIO EDQUOT
sweep shards KILL
endure shards SHORT
endure shards EINTR
begin tar
sweep tar ENOSPC KILL EIO
begin files
sweep files ENOSPC KILL EIO
endure files SHORT
endure files EINTR
all_passed
