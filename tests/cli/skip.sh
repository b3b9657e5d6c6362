#!/bin/sh
# SPDX-License-Identifier: Apache-2.0
# Skip lists: no tool sees what they hide, and prx-shard leaves it out for good.
. tests/lib/tap.sh

take_photos 12 photos
prx-ls photos | cut -f 1 > keys
first=$(sed -n 1p keys)
last=$(sed -n '$p' keys)
sed -n '2,11p' keys > rest
prx-shard -q --size 64 --crop center --shard-samples 4 photos -o s/%06d.tar

hide() { # LIST KEY...
    list=$1
    shift
    for key; do
        printf '%s\tnot wanted\n' "$key"
    done > "$list"
}

hide photos.skip "$first" "$last"
hide s/000000.tar.skip "$first"
hide s/000002.tar.skip "$last"
for source in photos s/index.json 's/*.tar'; do
    is "prx-ls does not see them: $source" "$(prx-ls "$source" | cut -f 1)" "$(cat rest)"
    run prx-stat --no-histograms "$source"
    says "nor does prx-stat: $source" out '^samples  10$'
    is "prx-ls --hidden sees nothing else: $source" "$(prx-ls --hidden "$source")" \
        "$(printf '%s\tnot wanted\n%s\tnot wanted' "$first" "$last")"
done
run prx-ls --hidden --json photos
says "in JSON" out "^\{\"key\":\"$first\",\"reason\":\"not wanted\"\}$"
is "without a list nothing is hidden" "$(rm -f none.skip && mkdir none && prx-ls --hidden none)" ""

run prx-shard -v --shard-samples 4 --stats stats.json s/index.json -o applied/%06d.tar
is "prx-shard leaves them out" "$status $(prx-ls applied/index.json | cut -f 1)" \
    "0 $(cat rest)"
says "and says how many" err 'info: 2 samples are hidden by skip lists'
says "in the statistics" stats.json '"hidden": ?2'
is "read is what was seen" "$(grep -c 'read=10 kept=10 rejected=0' err)" 1
prx-shard -q --shuffle 7 s/index.json -o shuffled.tar
is "shuffled, too" "$(prx-ls shuffled.tar | cut -f 1 | sort)" "$(sort rest)"
prx-shard -q -j 1 s/index.json -o j1.tar
prx-shard -q -j 8 s/index.json -o j8.tar
ok "-j1 and -j8 write the same" cmp j1.tar j8.tar
for rank in 0 1; do
    prx-ls --rank $rank --world 2 s/index.json
done | cut -f 1 | sort > by-rank
is "two ranks see all the rest" "$(cat by-rank)" "$(sort rest)"

run prx-shard --shard-samples 4 --resume s/index.json -o applied/%06d.tar
is "the same lists resume" "$status" 0
hide s/000001.tar.skip "$(sed -n 6p keys)"
run prx-shard --shard-samples 4 --resume s/index.json -o applied/%06d.tar
is "another list does not" "$status" 1
says "for the plan is another" err 'of another plan'
rm s/000001.tar.skip

prx-encode -q s/index.json -o encoded.tar
is "prx-encode does not see them" "$(prx-ls encoded.tar | cut -f 1)" "$(cat rest)"
prx-shard -q photos -o - | prx-ls - | cut -f 1 > piped
ok "nor does what reads from a pipe" cmp piped rest

printf '%s\tnot wanted' "$first" > s/000000.tar.skip
run prx-ls s/index.json
is "a damaged list stops a reader" "$status" 1
says "with its name and line" err 's/000000.tar.skip: line 1: cut off'
run prx-shard s/index.json -o never/%06d.tar
is "and a writer" "$status $(find never -name '*.tar' 2> /dev/null)" "1 "
all_passed
