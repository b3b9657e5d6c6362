#!/bin/sh
# SPDX-License-Identifier: Apache-2.0
# LMDB environments as destinations and as sources of the tools.
. tests/lib/tap.sh

# Names whose entries would mingle if a sample were no more than its neighbours.
take_photos 12 photos
mkdir -p photos/a.b photos/a
for name in a a.b/c a/b a/b-c; do
    cp "$(find photos -name '*.jpg' | sort | tail -n 1)" "photos/$name.jpg"
    echo "$name" > "photos/$name.txt"
    echo "$name" > "photos/$name.aaa"
done

unpacked() { # SRC: a digest of its samples as files
    rm -rf unpacked
    prx-shard -q --no-sync "$1" -o unpacked/ && rm unpacked/index.json && digest unpacked
}

# What liblmdb's own tool finds, where it is installed.
dump() { # FOLDER
    if command -v mdb_dump > /dev/null; then
        mdb_dump "$1" | grep -v '^map' | sha256sum
    else
        unpacked "lmdb:$1"
    fi
}

prx-shard -q photos -o whole.tar
want=$(unpacked whole.tar)
run prx-shard -q whole.tar -o lmdb:set
is "a tar becomes an LMDB" "$status" 0
is "of three files" "$(cd set && echo *)" "data.mdb index.json lock.mdb"
says "the index names its kind" set/index.json '"prx-lmdb-index-v1"'
is "every sample is in it" "$(unpacked lmdb:set)" "$want"
is "a folder with data.mdb is read as one" "$(unpacked set)" "$want"
is "so is its index" "$(unpacked set/index.json)" "$want"
run prx-shard -q lmdb:set -o back.tar
is "and becomes a tar again" "$status" 0
is "of the same samples" "$(unpacked back.tar)" "$want"
prx-ls set > list
is "in byte order of names" "$(head -n 4 list | cut -f1 | tr '\n' ' ')" "a.b/c a a/b-c a/b "
prx-shard -q -j1 --size 96 photos -o lmdb:one
prx-shard -q -j8 --size 96 photos -o lmdb:eight
is "any number of threads writes the same" "$(dump one)" "$(dump eight)"
prx-shard -q photos -o - | prx-shard -q - -o lmdb:piped
is "a stream of samples can be put in one" "$(unpacked lmdb:piped)" "$want"

mkdir sets
cp -r one sets/a
cp -r eight sets/b
run prx-ls 'lmdb:sets/{a,b}'
is "braces" "$status $(wc -l < out)" "0 32"
run prx-ls 'lmdb:sets/*'
is "a glob" "$status $(wc -l < out)" "0 32"
for rank in 0 1 2; do
    prx-ls --rank $rank --world 3 lmdb:set
done | sort > parts
is "three parts make the whole" "$(cat parts)" "$(sort list)"
printf 'a\tugly\n' > set.skip
run prx-ls lmdb:set
is "a skip list hides samples" "$(wc -l < out) $(grep -c '^a	' out)" "15 0"
rm set.skip

run prx-shard -q photos -o lmdb:set
is "what is there is refused" "$status" 1
run prx-shard -q whole.tar -o lmdb:set --resume
is "what is finished is done at once" "$status" 0
run prx-shard -q --size 64 whole.tar -o lmdb:set --resume
is "another plan is refused" "$status" 1
run prx-shard -q lmdb:set -o lmdb:set --overwrite
is "what is read is not overwritten" "$status" 1
says "and that is said" err 'is read here'
run prx-shard -q --size 64 whole.tar -o lmdb:set --overwrite
is "else it is" "$status" 0
run prx-shard -q photos photos -o lmdb:twice --rejects twice.jsonl --max-errors 16
is "a second sample of a name is rejected" "$status $(wc -l < twice.jsonl)" "0 16"
is "and the first one stays" "$(unpacked lmdb:twice)" "$want"

# Two runs at once: the first holds standard input open.
mkfifo slow
prx-shard -q - -o lmdb:busy < slow 2> first.err &
first=$!
exec 9> slow
cat whole.tar >&9
i=0
while [ ! -e busy/.prx-journal ] && [ $i -lt 100 ]; do
    sleep 0.1
    i=$((i + 1))
done
run prx-shard -q photos -o lmdb:busy
is "a second run on one destination is refused" "$status" 1
says "and that is said" err 'in use by another process'
exec 9>&-
wait $first
is "the first one ends well" "$?" 0
is "with all samples" "$(unpacked lmdb:busy)" "$want"

# Damage is told, and what is whole is read.
mkdir torn
size=$(wc -c < one/data.mdb)
head -c $((size / 2)) one/data.mdb > torn/data.mdb
run prx-ls lmdb:torn
is "half a file gives status 3" "$status" 3
says "and the place" err 'torn/data.mdb: .*behind the end of the file'
echo 'not a database' > torn/data.mdb
run prx-ls lmdb:torn one
is "no LMDB at all is one reject" "$status $(wc -l < out)" "3 16"
says "which says so" err 'torn/data.mdb: ends within its heads'
run prx-ls lmdb:photos
is "a folder without data.mdb is none" "$status" 1

# Training reads where the samples lie: the steps are those from a tar.
take_photos 12 captioned
prx-shard -q --size 64 --crop center captioned -o - | prx-encode -q - -o lmdb:encoded
prx-shard -q lmdb:encoded -o encoded.tar
train() { # SRC RUN
    (cd "$ROOT" && prx-train -q nano "$T/$1" -o "$T/$2" --set train.batch=4 \
        --set train.steps=3 --set model.hidden_size=32 --set model.num_heads=2 \
        --set model.depth=2 --set model.axes_dim=null --set train.checkpoint_every=0)
}
run train encoded from-lmdb
is "training from an LMDB" "$status" 0
run train encoded.tar from-tar
is "is training from a tar" "$(digest from-lmdb/ckpt-0000003)" \
    "$(digest from-tar/ckpt-0000003)"
ok "without a spool" test ! -e from-lmdb/spool

# A full disk, which then is larger.  Only in a mount namespace of our own.
mkdir small
full() {
    # shellcheck disable=SC2016 # for the inner shell
    unshare -m sh -c '
        mount -t tmpfs -o size=400k none small || exit 99
        prx-shard -q photos -o lmdb:small/set 2> full.err
        echo $? > full.status
        mount -o remount,size=64m small
        prx-shard -q photos -o lmdb:small/set --resume 2> rest.err
        echo $? > rest.status
        cp -r small/set full-set'
}
if ! unshare -m true 2> /dev/null || ! full; then
    skip "a full disk" "no tmpfs can be mounted here"
else
    is "a full disk fails" "$(cat full.status)" 1
    says "and that is said" full.err 'data.mdb: No space left on device'
    is "with room, the run goes on" "$(cat rest.status) $(cat rest.err)" "0 "
    is "and ends with all samples" "$(unpacked lmdb:full-set)" "$want"
fi
all_passed
