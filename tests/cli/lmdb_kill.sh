#!/bin/sh
# SPDX-License-Identifier: Apache-2.0
# Runs into an LMDB that are killed and resumed end with the entries of one that
# never was.  KILLS=N kills so many times, 10 by default.
. tests/lib/tap.sh

: "${KILLS:=10}"
# Several batches: of 256 samples, or 8 MiB.
take_photos 60 photo
for i in 0 1 2 3 4 5 6 7 8 9; do
    cp -r photo "photos-$i"
    mkdir -p photos
    mv "photos-$i" "photos/$i"
done
echo 'not a picture' > photos/4/aaa.jpg

set -- -q -j1 --deep --max-errors 1
unpacked() { # SRC
    rm -rf unpacked
    prx-shard -q --no-sync "$1" -o unpacked/ && rm unpacked/index.json && digest unpacked
}
dump() { # FOLDER: all entries, by another reader where there is one
    unpacked "lmdb:$1"
    ! command -v mdb_dump > /dev/null || mdb_dump "$1" | grep -v '^map' | sha256sum
}

start=$(date +%s%N)
prx-shard "$@" --rejects straight.jsonl photos -o lmdb:straight
is "the run that is not killed ends well" "$?" 0
n_ms=$((($(date +%s%N) - start) / 1000000))

# Delays from a fixed sequence, over about the time that a whole run takes.
random=7
n_killed=0
resume=
while [ $n_killed -lt "$KILLS" ]; do
    random=$(((random * 1103515245 + 12345) % 2147483648))
    ms=$((random / 65536 % n_ms + 1))
    # shellcheck disable=SC2086 # an option or none
    kill_after "$(printf '%d.%03d' $((ms / 1000)) $((ms % 1000)))" \
        prx-shard "$@" $resume --rejects killed.jsonl photos -o lmdb:killed 2>> kill.err
    n_killed=$((n_killed + 1))
    resume=--resume
    if [ "$status" -eq 0 ]; then
        is "kill $n_killed comes too late: the entries are those" \
            "$(dump killed)" "$(dump straight)"
        rm -rf killed killed.jsonl
        resume=
    fi
done
run prx-shard "$@" $resume --rejects killed.jsonl photos -o lmdb:killed
is "after the last kill, the run ends well" "$status" 0
echo "# $n_killed kills of a run of $n_ms ms"
sed 's/^/# /' kill.err
is "the entries are those of the straight run" "$(dump killed)" "$(dump straight)"
is "so is the list of rejects" "$(cut -d, -f1-3 killed.jsonl)" \
    "$(cut -d, -f1-3 straight.jsonl)"
is "nothing else is left" "$(cd killed && ls -A)" "$(cd straight && ls -A)"
all_passed
