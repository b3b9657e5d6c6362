#!/bin/sh
# SPDX-License-Identifier: Apache-2.0
# prx-ls: every source, every form of line.
. tests/lib/tap.sh

take_photos 5 photos
first=$(find photos -name '*.jpg' | sort | head -n 1)
key=$(basename "$first" .jpg)
n_bytes=$(wc -c < "$first")
run prx-ls photos
is "a folder is listed" "$status $(wc -l < out)" "0 5"
says "with fields and sizes" out "^$key	jpg:$n_bytes json:[0-9]+ txt:[0-9]+$"
run prx-ls -l photos
says "-l begins with the size in pixels" out "^ *[0-9]+x[0-9]+ +[0-9]+  $key	jpg"
run prx-ls -l --json photos
says "--json has all of it" out \
    "^\{\"key\":\"$key\",\"fields\":\{\"jpg\":$n_bytes,.*\},\"width\":[0-9]+,\"height\":[0-9]+\}$"
prx-shard -q photos -o two/%06d.tar --shard-samples 3
run prx-ls 'two/*.tar'
is "a glob of shards" "$(cut -f1 out)" "$(prx-ls photos | cut -f1)"
run prx-ls 'two/{000000..000001}.tar'
is "braces" "$(wc -l < out)" 5
run prx-ls two/index.json two/000001.tar
is "an index, and one more" "$(wc -l < out)" 7
run prx-ls - < two/000000.tar
is "standard input" "$(wc -l < out)" 3
cat two/000000.tar two/000001.tar > joined.tar
run prx-ls joined.tar
is "tars that were simply joined" "$(wc -l < out)" 5

# A listing longer than a pipe holds, whose reader leaves.
set -- joined.tar joined.tar joined.tar joined.tar joined.tar joined.tar joined.tar
set -- "$@" "$@" "$@" "$@" "$@" "$@" "$@"
set -- "$@" "$@" "$@" "$@" "$@" "$@" "$@"
{
    prx-ls "$@" 2> err
    echo $? > code
} | head -n 1 > /dev/null
is "a reader that leaves is no failure" "$(cat code) $(cat err)" "0 "
prx-ls photos > /dev/full 2> err
is "a full disk is" "$?" 1

# Names from outside must not reach the terminal as they are.
mkdir odd
cp "$first" "odd/$(printf 'a\033[31mb').jpg"
run prx-ls odd
is "control characters are not printed" "$(tr -d '[:print:]\n\t' < out | wc -c)" 0
echo 'not a picture' > photos/zzz.jpg
run prx-ls photos
is "without -l no picture is looked at" "$status" 0
run prx-ls -l photos
is "with it, a bad one gives status 3" "$status" 3
says "and its name" err 'zzz: header: '
is "and all are listed" "$(wc -l < out)" 6
all_passed
