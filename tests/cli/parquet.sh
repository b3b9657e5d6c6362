#!/bin/sh
# SPDX-License-Identifier: Apache-2.0
# Parquet files as sources: tests/data/types.parquet, and one that is made here.
. tests/lib/tap.sh

cp "$ROOT/tests/data/types.parquet" .
if ! prx-ls -V | grep -q '^built in:.* parquet='; then
    run prx-ls types.parquet
    is "a build without Parquet fails" "$status" 1
    says "and says what is missing" err 'types.parquet: this build reads no Parquet: install'
    skip "Parquet files" "not in this build"
    all_passed
    exit
fi

run prx-ls types.parquet
is "a Parquet file is listed" "$status $(wc -l < out)" "0 9"
says "with pictures, captions and metadata" out '^types/000000000	json:[0-9]+ png:68 txt:9$'
says "columns that are not read are told once" err \
    'warning: types.parquet: columns that .* not read: blob, map$'
is "and once only" "$(grep -c 'not read' err)" 1
run prx-ls --caption-column txt=prompt --caption-column long=large --json types.parquet
is "captions by name" "$status" 0
ok "it is packed" prx-shard -q types.parquet -o all.tar
ok "with eight threads" prx-shard -q -j8 types.parquet -o j8.tar
ok "into the same bytes" cmp all.tar j8.tar
cp types.parquet again.parquet
prx-shard -q --rank 1 --world 2 '{types,again}.parquet' -o rank.tar
is "whole files for each rank" "$(prx-ls rank.tar | cut -d/ -f1 | uniq -c | tr -s ' ')" " 9 again"
prx-shard -q --rank 1 --world 2 types.parquet -o rows.tar
is "or else rows" "$(prx-ls rows.tar | wc -l)" 4
printf 'types/000000003\tdull\n' > types.parquet.skip
is "a skip list hides a row" "$(prx-ls types.parquet 2> /dev/null | wc -l)" 8
rm types.parquet.skip
printf 'key,prompt\nk,p\n' > a.csv
run prx-ls types.parquet a.csv
is "together with another list" "$status $(wc -l < out)" "0 10"
head -c 5000 types.parquet > cut.parquet
run prx-shard --rejects rejects.jsonl cut.parquet again.parquet -o rest.tar
is "one that is cut off gives status 3" "$status" 3
is "and the others are read" "$(prx-ls rest.tar | wc -l)" 9
is "it is one reject" "$(wc -l < rejects.jsonl)" 1
says "with its name" rejects.jsonl '"reason":"cut.parquet: .*magic bytes'

# A row group of 256 MiB must not be in memory at once; its pages are of 4 MiB.
python=
for candidate in "${PEERS_PYTHON:-python3}" "$ROOT/build/venv/bin/python"; do
    "$candidate" -c 'import pyarrow' 2> /dev/null && python=$candidate
done
if [ -z "$python" ]; then
    skip "memory does not grow with row groups" "no Python with pyarrow"
elif [ -n "$SAN" ]; then
    skip "memory does not grow with row groups" "sanitizers keep what was freed"
else
    photo=$(find "$PHOTOS" -name '*.jpg' | sort | head -n 1)
    "$python" - "$photo" << 'EOF'
import os, sys
import pyarrow as pa, pyarrow.parquet as pq
photo = open(sys.argv[1], "rb").read()
rows = [photo + os.urandom(2**20) for _ in range(256)]
pq.write_table(
    pa.table({"image": rows}), "large.parquet", use_dictionary=False, write_batch_size=4
)
EOF
    prx-shard -q -j2 --stats stats.json large.parquet -o null:
    n_bytes=$(sed 's/.*"max_rss_bytes":\([0-9]*\).*/\1/' stats.json)
    echo "# $((n_bytes >> 20)) MiB"
    is "memory does not grow with row groups" "$((n_bytes >> 20 < 180))" 1
fi
all_passed
