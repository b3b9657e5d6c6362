#!/bin/sh
# SPDX-License-Identifier: Apache-2.0
# Several processes write one destination: whatever their number and fate, the tree
# is that of one process.
. tests/lib/tap.sh

for i in 0 1 2 3; do
    take_photos 30 "photos/$i"
done
echo 'not a picture' > photos/1/aaa.jpg
echo 'nor this' > photos/3/zzz.jpg
printf '0/%s\tugly\n' "$(basename "$(find photos/0 -name '*.jpg' | sort | head -n 1)" .jpg)" \
    > photos.skip
# Twelve shards, the last two with reject and skip list.
prx-shard -q --max-errors 2 --shard-samples 10 photos -o twelve/%06d.tar
is "there are twelve shards to read" "$(find twelve -name '*.tar' | wc -l)" 12
head -c 7000 twelve/000010.tar > torn.tar
mv torn.tar twelve/000010.tar
rm twelve/index.json
prx-ls twelve/000011.tar | sed -n '2s/$/\tblurred/p' > twelve/000011.tar.skip

without_time() { # of --stats
    sed 's/"elapsed_s".*//' "$1"
}

keys() { # SRC: their number and a digest of all, in order
    prx-ls "$1" | cut -f1 | tee keys.log | wc -l
    cksum < keys.log
}

# SOURCE NAME: of one process, then of three, then of some that are killed.
compare() {
    set -- "$1" "$2" -q -j1 --share --unit-samples 11 --shard-samples 4 --size 200 \
        --max-errors 3
    source=$1
    name=$2
    shift 2
    prx-shard "$@" --rejects "$name-1.rejects" --stats "$name-1.stats" "$source" \
        -o "$name-1/%06d.tar"
    is "$name: one process ends well" "$?" 0
    ok "$name: nothing is left of the job" test ! -e "$name-1/.prx-job"
    is "$name: every sample is there, in the order of the input" \
        "$(keys "$name-1/index.json")" \
        "$(prx-shard -q --max-errors 3 "$source" -o - | keys -)"

    pids=
    for i in 1 2 3; do
        prx-shard "$@" --rejects "$name-3.rejects" --stats "$name-3.stats" \
            "$source" -o "$name-3/%06d.tar" &
        pids="$pids $!"
    done
    codes=
    for pid in $pids; do
        wait "$pid"
        codes="$codes $?"
    done
    is "$name: three processes end well" "$codes" " 0 0 0"
    is "$name: three make the tree of one" "$(digest "$name-3")" "$(digest "$name-1")"
    is "$name: and its list of rejects" "$(cat "$name-3.rejects")" \
        "$(cat "$name-1.rejects")"
    is "$name: and its summary" "$(without_time "$name-3.stats")" \
        "$(without_time "$name-1.stats")"

    # One works on, the others are killed, and come again, at other moments.
    for delay in .05 .12 .2 .08 .3; do
        kill_after $delay prx-shard "$@" --rejects "$name-k.rejects" "$source" \
            -o "$name-k/%06d.tar" 2> /dev/null
        [ -e "$name-k/index.json" ] || n_killed=$((n_killed + 1))
    done
    prx-shard "$@" --rejects "$name-k.rejects" "$source" -o "$name-k/%06d.tar" &
    first=$!
    kill_after .1 prx-shard "$@" --rejects "$name-k.rejects" "$source" \
        -o "$name-k/%06d.tar" 2> /dev/null
    prx-shard "$@" --rejects "$name-k.rejects" "$source" -o "$name-k/%06d.tar" &
    second=$!
    wait $first
    codes=$?
    wait $second
    is "$name: those that are not killed end well" "$codes $?" "0 0"
    is "$name: kills change nothing" "$(digest "$name-k")" "$(digest "$name-1")"
    is "$name: nor the list of rejects" "$(cut -d, -f1-3 "$name-k.rejects")" \
        "$(cut -d, -f1-3 "$name-1.rejects")"
    ok "$name: nothing is left of their job" test ! -e "$name-k/.prx-job"
}
n_killed=0
compare photos folder
compare 'twelve/*.tar' shards
is "some were killed" "$((n_killed > 0))" 1
is "both rejects of the folder are listed, in order" \
    "$(sed 's/.*"key":"\([^"]*\)".*/\1/' folder-3.rejects | tr '\n' ' ')" "1/aaa 3/zzz "
says "the hidden sample is counted once" folder-3.stats '"hidden": *1[,}]'
says "and the total is that of all processes" folder-3.stats '"kept": *119[,}]'
is "prx-stat reads what they have made" \
    "$(prx-stat --no-histograms folder-3/index.json | head -n 1)" "samples  119"
n_shards=$(find folder-3 -name '*.tar' | wc -l)
ok "shards are numbered without gaps" \
    test -e "$(printf 'folder-3/%06d.tar' $((n_shards - 1)))"

# A process that comes late finds all done; one with other options is refused.
set -- -q --share --unit-samples 11 --shard-samples 4 --max-errors 3
before=$(digest folder-3)
run prx-shard "$@" --size 200 photos -o folder-3/%06d.tar
is "who comes late has nothing to do" "$status" 0
is "and its verdict is that of the others" \
    "$(prx-shard "$@" --size 200 --max-errors 1 photos -o folder-3/%06d.tar 2> /dev/null
    echo $?)" 3
run prx-shard "$@" --size 199 photos -o folder-3/%06d.tar
is "other options are refused" "$status" 1
says "and told" err 'another plan'
is "all of which changes nothing" "$(digest folder-3)" "$before"

mkfifo hold
prx-shard "$@" --rejects hold --size 200 photos -o going/%06d.tar 2> /dev/null &
going=$!
i=0
while [ ! -e going/.prx-job/plan ] && [ $i -lt 100 ]; do
    sleep .05
    i=$((i + 1))
done
run prx-shard "$@" --size 201 photos -o going/%06d.tar
is "also while the work goes on" "$status" 1
says "and told then" err 'another plan'
run prx-shard "$@" --size 200 photos photos -o going/%06d.tar
is "so are other inputs" "$status" 1
run prx-shard -q photos -o going/%06d.tar
is "so is a process without --share" "$status" 1
says "which is told of it" err '--share joins'
kill -9 $going 2> /dev/null
wait $going 2> /dev/null
run prx-shard "$@" --size 200 photos -o going/%06d.tar
is "what is left is gone on with" "$status" 0
is "to the same end" "$(prx-ls going/index.json | wc -l)" 119

# A signal gives the unit back at once.
timeout --preserve-status -s TERM .2 \
    prx-shard "$@" -j1 --size 250 photos photos photos -o term/%06d.tar 2> term.err
status=$?
if [ $status -eq 0 ] || [ $status -eq 3 ]; then
    skip "SIGTERM" "the run was faster"
else
    is "SIGTERM ends a process" "$status" 143
    is "which leaves no claim" "$(find term/.prx-job -name '*.claim' -o -name '*.card')" ""
fi

# Schedulers' variables say where to begin, and nothing of the result.
by() { # NAME VARIABLE=VALUE...
    name=$1
    shift
    env "$@" prx-shard -q --share --unit-samples 11 --shard-samples 4 --size 200 \
        --max-errors 3 photos -o "$name/%06d.tar" 2> "$name.err"
}
by slurm SLURM_PROCID=0 SLURM_NTASKS=2 &
by slurm SLURM_PROCID=1 SLURM_NTASKS=2
wait $!
by array SLURM_ARRAY_TASK_ID=9 SLURM_ARRAY_TASK_MIN=8 SLURM_ARRAY_TASK_COUNT=4
by mpi OMPI_COMM_WORLD_RANK=1 OMPI_COMM_WORLD_SIZE=3 &
by mpi OMPI_COMM_WORLD_RANK=2 OMPI_COMM_WORLD_SIZE=3
wait $!
by torchrun RANK=39 WORLD_SIZE=40
seq 3 | xargs -P 3 -I N prx-shard -q --share --unit-samples 11 --shard-samples 4 \
    --size 200 --max-errors 3 photos -o xargs/%06d.tar
for name in slurm array mpi torchrun xargs; do
    is "$name: the tree is the same" "$(digest $name)" "$before"
done
is "no process tells of a part that it takes" "$(cat ./*.err | grep -c 'taking part')" 0

# --shuffle is of the whole, whoever writes it.
for i in 1 2; do
    prx-shard "$@" --shuffle 5 photos -o shuffled/%06d.tar &
done
wait
is "a shuffled order is that of one process" "$(keys shuffled/index.json)" \
    "$(prx-shard -q --max-errors 2 --shuffle 5 photos -o - | keys -)"

# prx-encode shares, too.
prx-shard -q --size 64 --crop center --shard-samples 4 photos/0 -o small/%06d.tar
for i in 1 2 3; do
    prx-encode -q --share small/index.json -o latents/%06d.tar &
done
wait
is "encoded by three, in order" "$(keys latents/index.json)" "$(keys small/index.json)"

# What cannot be shared is refused before anything is written.
for dest in - one.tar files/ null: lmdb:set; do
    run prx-shard --share photos -o $dest
    is "-o $dest is not shared" "$status" 2
done
ok "nothing was written" test ! -e one.tar -a ! -e files -a ! -e set
run prx-shard --share --overwrite photos -o folder-1/%06d.tar
is "--overwrite is not shared" "$status" 2
run prx-shard --share - -o stdin/%06d.tar < twelve/000000.tar
is "nor is standard input" "$status" 1
ok "no job is begun for it" test ! -e stdin
run prx-shard --share -q --rejects /dev/null/r photos -o early/%06d.tar
is "a report that cannot be written stops the process" "$status" 1
is "before its first unit" "$(find early -name '*.tar')" ""

# Without --share a second rank on one destination is told of it.
RANK=1 WORLD_SIZE=2 prx-shard -q photos -o folder-1/%06d.tar 2> err
is "a rank without --share is refused where another has written" "$?" 1
RANK=1 WORLD_SIZE=2 prx-shard photos -o folder-1/%06d.tar 2> err
says "and told of --share" err 'want --share'
# One that is suspended loses its unit, and goes on with others when it wakes.
set -- -q -j1 --share --unit-samples 60 --shard-samples 4 --size 250 --max-errors 9 \
    --claim-timeout 1 photos photos photos
prx-shard "$@" -o awake/%06d.tar
prx-shard "$@" -o asleep/%06d.tar &
sleeper=$!
sleep .15
kill -STOP $sleeper
run prx-shard "$@" -o asleep/%06d.tar
is "a suspended process does not hold up the others" "$status" 0
kill -CONT $sleeper
wait $sleeper
is "and ends well when it wakes" "$?" 0
is "in the same tree" "$(digest asleep)" "$(digest awake)"
ok "of which nothing else is left" test ! -e asleep/.prx-job
all_passed
