#!/bin/sh
# SPDX-License-Identifier: Apache-2.0
# prx-shard on good input: what comes out, and that nothing but the input decides.
. tests/lib/tap.sh

take_photos 20 photos
ok "a folder is packed" prx-shard -q photos -o kept/%06d.tar
is "there are three fields for each photograph" "$(tar tf kept/000000.tar | wc -l)" 60
is "members stand in byte order" \
    "$(tar tf kept/000000.tar)" "$(tar tf kept/000000.tar | sort)"
is "members have no time, owner or write permission" \
    "$(tar tvf kept/000000.tar --numeric-owner | cut -c1-14 | sort -u)" "-r--r--r-- 0/0"
mkdir unpacked
tar xf kept/000000.tar -C unpacked
is "picture bytes pass untouched" \
    "$(cd unpacked && cat ./*.jpg | sha256sum)" "$(cd photos && cat ./*.jpg | sha256sum)"
is "captions pass untouched" \
    "$(cd unpacked && cat ./*.txt | sha256sum)" "$(cd photos && cat ./*.txt | sha256sum)"
first=$(cd unpacked && echo ./*.json | cut -d' ' -f1)
says "sidecar metadata is kept" "unpacked/$first" '"captions":\{"long":"'
says "and added to" "unpacked/$first" '"xxh128":"[0-9a-f]{32}"'
ok "the index is there" test -s kept/index.json
says "the index counts the samples" kept/index.json '"samples": ?20'
ok "so is the index for DALI" test -s kept/000000.idx
says "which has a version and a count" kept/000000.idx '^v1.2 20$'

ok "a flag leaves it out" prx-shard -q --no-dali-index photos -o plain/%06d.tar
ok "it is left out" test ! -e plain/000000.idx

# From tar to tar, through pipes.
tar cf - --sort=name photos | prx-shard -q - -o - > piped.tar
is "standard input to standard output" "$(tar tf piped.tar | wc -l)" 60
prx-shard -q - -o - < kept/000000.tar > again.tar
ok "packing what was packed changes nothing" cmp again.tar kept/000000.tar
ok "a destination can be plain files" prx-shard -q kept/index.json -o files/
is "which are the same as those in the shard" \
    "$(diff -r unpacked files)" "Only in files: index.json"
gzip -c kept/000000.tar > kept.tar.gz
ok "a compressed shard is read" prx-shard -q kept.tar.gz -o gz.tar
ok "with the same result" cmp gz.tar kept/000000.tar

# Sizes of shards.
prx-shard -q --shard-samples 6 photos -o six/%03d.tar
is "shards of six samples" "$(echo six/*.tar)" "six/000.tar six/001.tar six/002.tar six/003.tar"
prx-shard -q --shard-bytes 100K photos -o small/%03d.tar
is "no shard is larger than asked" \
    "$(find small -name '*.tar' -size +100k | wc -l)" 0
is "and no sample is lost" "$(prx-ls 'small/*.tar' | wc -l)" 20

# The same bytes whatever the machine does.
shard() { # FOLDER OPTIONS...
    shard_folder=$1
    shift
    prx-shard -q --size 96 --crop center -Q 90 --shard-samples 7 "$@" \
        -o "$shard_folder/%06d.tar"
}
shard j1 -j1 photos
shard j8 -j8 photos
is "-j8 gives the bytes of -j1" "$(digest j8)" "$(digest j1)"
(
    unset LC_ALL
    LANG=de_DE.UTF-8 TZ=Asia/Tokyo
    export LANG TZ
    umask 077
    shard elsewhere photos
)
is "locale, time zone and umask change nothing" "$(digest elsewhere)" "$(digest j1)"
mkdir reversed
for photo in $(find photos -type f | sort -r); do
    cp "$photo" reversed/
done
mv photos straight
mv reversed photos
touch -d '2001-01-01' photos/*
shard order photos
is "nor does the order or the age of files" "$(digest order)" "$(digest j1)"

prx-shard -q --stats stats.json --progress always photos -o - > s.tar 2> err
says "--stats counts" stats.json '"read":20,"rejected":0,.*"kept":20,"shards":1'
prx-shard photos -o - 2> err > s.tar
says "the last line is for programs" err \
    '^prx-shard: read=20 kept=20 rejected=0 bytes=[0-9]+ elapsed_s=[0-9.]+$'
is "and is the only one" "$(wc -l < err)" 1
all_passed
