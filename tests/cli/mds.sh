#!/bin/sh
# SPDX-License-Identifier: Apache-2.0
# MDS there and back: the samples are the same, whatever the threads and the ranks.
. tests/lib/tap.sh

take_photos 24 photos
rm "$(find photos -name '*.txt' | sort | head -n 1)" # one without a caption
prx-shard -q --size 128 --crop center photos -o - |
    prx-encode -q - -o before.tar
prx-shard -q before.tar -o copied.tar

run prx-shard -q -j1 --shard-samples 7 before.tar -o mds:one
is "a tar becomes MDS" "$status" 0
is "in numbered shards" "$(cd one && echo * | tr '\n' ' ')" \
    "index.json shard.00000.mds shard.00001.mds shard.00002.mds shard.00003.mds "
prx-shard -q -j8 --shard-samples 7 before.tar -o mds:eight/
is "the same for any number of threads" "$(digest eight)" "$(digest one)"
for word in one one/index.json mds:one 'o*/index.json'; do
    prx-shard -q --overwrite "$word" -o after.tar
    ok "$word becomes the same tar again" cmp after.tar copied.tar
done
prx-ls before.tar | cut -f1 | sort > keys
is "prx-ls lists it" "$(prx-ls one | cut -f1 | sort)" "$(cat keys)"
prx-shard -q --shard-bytes 100K one -o mds:small
is "no shard is larger than asked for" \
    "$(find small -name '*.mds' -size +100k | wc -l)" 0

run prx-shard -q --shard-samples 7 before.tar -o mds:one
is "what is there is refused" "$status" 1
run prx-shard -q --resume --shard-samples 7 before.tar -o mds:one
is "a finished run is resumed at once" "$status" 0
run prx-shard -q --overwrite --shard-samples 7 one -o mds:one
is "what is read is not overwritten" "$status" 1
says "and named" err 'shard.00000.mds: is read here'
run prx-shard -q --shard-bytes 4G before.tar -o mds:huge
is "shards of 4 GiB are refused" "$status" 1
ok "before anything is written" test ! -e huge

# Ranks: whole shards, then each their part of the samples.
for world in 2 5; do
    rank=0
    while [ $rank -lt $world ]; do
        prx-ls --rank $rank --world $world one | cut -f1
        rank=$((rank + 1))
    done | sort > "world.$world"
    ok "$world ranks share the samples out" cmp keys "world.$world"
done

# Skip lists stand beside the shard.
printf '%s\tdull\n' "$(head -n 1 keys)" > one/shard.00000.mds.skip
is "a skip list hides a sample" "$(prx-ls one | wc -l)" 23
rm one/shard.00000.mds.skip

# Damage: what is whole is kept, what is not is said.
cp -r one torn
truncate -s -10000 torn/shard.00001.mds
run prx-shard -q --max-errors 20 --rejects torn.jsonl torn -o torn.tar
is "a torn shard is survived" "$status" 0
says "the samples it lost are told" torn.jsonl \
    'torn/shard.00001.mds: sample 6: said to be'
is "and counted" "$(($(prx-ls torn.tar | wc -l) + $(wc -l < torn.jsonl)))" 24
truncate -s 50 torn/shard.00001.mds
run prx-shard -q --overwrite --max-errors 20 --rejects torn.jsonl torn -o torn.tar
is "a shard without its head is one reject" "$(wc -l < torn.jsonl)" 1
says "that tells how many are lost" torn.jsonl 'its 7 samples are lost'
rm torn/shard.00001.mds
run prx-shard -q --overwrite torn -o torn.tar
is "a missing shard is an error" "$status" 1
says "that names it" err 'torn/shard.00001.mds: No such file'
is "at the beginning" "$(prx-ls torn.tar | wc -l)" 17

# The trainer reads it.
run prx-train -q "$ROOT/manifests/recipes/nano.yaml" one -o trained \
    --set train.steps=2 --set train.batch=2
is "prx-train takes it" "$status" 0
all_passed
