#!/bin/sh
# SPDX-License-Identifier: Apache-2.0
# --shuffle: every sample once, in an order that the seed alone decides.
. tests/lib/tap.sh

take_photos 40 photos
echo 'not a picture' > photos/broken.jpg
shuffle() { # OUTPUT OPTIONS...
    shuffle_output=$1
    shift
    prx-shard -q --max-errors 1 --shuffle "$@" -o "$shuffle_output" 2> err
}
prx-shard -q --max-errors 1 photos -o plain.tar 2> err
prx-ls plain.tar > straight
shuffle one.tar 1 photos
is "a folder is shuffled" "$?" 0
is "no sample is lost" "$(prx-ls one.tar | sort)" "$(sort straight)"
is "the order is another" "$(prx-ls one.tar | cmp -s - straight; echo $?)" 1
shuffle again.tar 1 -j1 photos
ok "the seed decides" cmp one.tar again.tar
shuffle two.tar 2 photos
is "another seed, another order" "$(cmp -s one.tar two.tar; echo $?)" 1
shuffle tar.tar 1 plain.tar
shuffle pipe.tar 1 - < plain.tar
gzip -k plain.tar
shuffle gz.tar 1 plain.tar.gz
ok "a pipe gives what the file gives" cmp tar.tar pipe.tar
ok "and so does a compressed one" cmp tar.tar gz.tar
is "rejects are accounted for" \
    "$(prx-shard --max-errors 1 --shuffle 1 photos -o - 2>&1 > s.tar | tail -n 1 | cut -d' ' -f2-4)" \
    "read=41 kept=40 rejected=1"
mkdir tmp
TMPDIR=$T/tmp shuffle elsewhere.tar 1 - < plain.tar
is "nothing is left in TMPDIR" "$(ls tmp)" ""
TMPDIR=$T/missing shuffle nowhere.tar 1 - < plain.tar
is "a TMPDIR that is not there fails" "$?" 1
says "by name" err 'missing/prx-.*No such file'

# Killed and resumed.
kill_after .05 \
    prx-shard -q -j1 --size 256 --shuffle 3 --shard-samples 2 photos -o cut/%06d.tar 2> err
prx-shard -q -j1 --size 256 --shuffle 3 --shard-samples 2 --resume photos -o cut/%06d.tar 2> err
prx-shard -q -j2 --size 256 --shuffle 3 --shard-samples 2 photos -o whole/%06d.tar 2> err
is "a resumed shuffle ends as one that was not killed" "$(digest cut)" "$(digest whole)"
all_passed
