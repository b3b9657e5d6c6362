#!/bin/sh
# SPDX-License-Identifier: Apache-2.0
# Destinations that are full, gone, in use, or there already.
. tests/lib/tap.sh

take_photos 20 photos
prx-shard -q photos -o - > /dev/full 2> err
is "a full disk fails" "$?" 1
says "and says so" err '^prx-shard: error: .*No space left on device'
is "in one line" "$(wc -l < err)" 1

# The shard is larger than a pipe holds, so the writer notices.
{
    prx-shard -q --size 512 photos -o - 2> err
    echo $? > code
} | head -c 1 > /dev/null
is "a reader that has gone fails" "$(cat code)" 1
is "and is said to have gone" "$(cat err)" \
    'prx-shard: error: standard output: the reader has gone'
run prx-shard -q photos -o /dev/null/x.tar
is "a folder that cannot be made fails" "$status" 1
if [ "$(id -u)" -ne 0 ]; then
    mkdir sealed
    chmod 555 sealed
    run prx-shard -q photos -o sealed/x.tar
    is "a folder that must not be written to fails" "$status" 1
fi
run prx-shard -q --rejects /dev/null/r photos -o early/%06d.tar
is "a report that cannot be written fails" "$status" 1
ok "before the destination is begun" test ! -e early/000000.tar

prx-shard -q --shard-samples 5 photos -o there/%06d.tar
before=$(digest there)
run prx-shard -q --shard-samples 5 photos -o there/%06d.tar
is "an existing destination is refused" "$status" 1
says "and named" err 'there'
is "and left alone" "$(digest there)" "$before"
run prx-shard -q --resume --shard-samples 5 photos -o there/%06d.tar
is "--resume of a finished run is done at once" "$status" 0
is "and changes nothing" "$(digest there)" "$before"
run prx-shard -q --resume --shard-samples 4 photos -o there/%06d.tar
is "--resume refuses another plan" "$status" 1
says "and says so" err 'plan'
is "and changes nothing either" "$(digest there)" "$before"
run prx-shard -q --overwrite --shard-samples 10 photos -o there/%06d.tar
is "--overwrite replaces it" "$status" 0
is "and leaves no old shard" "$(echo there/*.tar)" "there/000000.tar there/000001.tar"

# Two runs at once on one destination: the first holds standard input open.
mkfifo slow
prx-shard -q - -o busy/%06d.tar < slow 2> first.err &
first=$!
exec 9> slow
prx-shard -q photos -o - >&9
i=0
while [ ! -d busy ] && [ $i -lt 50 ]; do
    sleep 0.1
    i=$((i + 1))
done
run prx-shard -q photos -o busy/%06d.tar
is "a second run on one destination is refused" "$status" 1
run prx-shard -q --overwrite photos -o busy/%06d.tar
is "even to overwrite it" "$status" 1
exec 9>&-
wait $first
is "and the first one ends well" "$?" 0
is "with all samples" "$(prx-ls busy/index.json | wc -l)" 20

# Several processes each take a part.
for rank in 0 1 2; do
    prx-shard -q --rank $rank --world 3 photos -o "part-$rank/%06d.tar"
done
is "three parts make the whole" \
    "$(prx-ls part-0/index.json part-1/index.json part-2/index.json | sort)" \
    "$(prx-shard -q photos -o - | prx-ls - | sort)"
is "and none is all of it" \
    "$(prx-ls part-0/index.json | wc -l) $(prx-ls part-2/index.json | wc -l)" "7 6"
SLURM_PROCID=1 SLURM_NTASKS=3 prx-shard -q photos -o by-slurm/%06d.tar
is "the scheduler's environment is heard" "$(digest by-slurm)" "$(digest part-1)"
SLURM_ARRAY_TASK_ID=5 SLURM_ARRAY_TASK_MIN=4 SLURM_ARRAY_TASK_COUNT=3 \
    prx-shard -q photos -o by-array/%06d.tar
is "a job array counts from its first task" "$(digest by-array)" "$(digest part-1)"
RANK=0 WORLD_SIZE=1 SLURM_PROCID=1 SLURM_NTASKS=3 \
    prx-shard -q photos -o by-torchrun/%06d.tar
is "the first pair counts" "$(prx-ls by-torchrun/index.json | wc -l)" 20
RANK=1 WORLD_SIZE=3 prx-shard -q - -o - < busy/000000.tar | prx-ls - > list
is "standard input is not split by the environment" "$(wc -l < list)" 20
all_passed
