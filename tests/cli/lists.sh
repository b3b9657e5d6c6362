#!/bin/sh
# SPDX-License-Identifier: Apache-2.0
# Lists of real photographs as CSV, TSV and JSON Lines: one and the same data set.
. tests/lib/tap.sh

take_photos 20 photos
keys=$(prx-ls photos | cut -f 1)
tab=$(printf '\t')

# The captions have commas, apostrophes and no quotes or tabs.
rows() { # BEFORE BETWEEN AFTER
    for rows_key in $keys; do
        printf '%s%s%sphotos/%s.jpg%s' "$1" "$rows_key" "$2" "$rows_key" "$2"
        printf '%s%s%s%s\n' "$(cat "photos/$rows_key.txt")" "$2" 0.25 "$3"
    done
}
{
    echo 'key,image,caption,score'
    rows '"' '","' '"'
} > a.csv
{
    printf 'key\timage\tcaption\tscore\r\n'
    rows '' "$tab" "$(printf '\r')"
} > a.tsv
for key in $keys; do
    printf '{"caption": "%s", "image": "photos/%s.jpg", "key": "%s", "score": 0.25}\n' \
        "$(cat "photos/$key.txt")" "$key" "$key"
done > a.jsonl

run prx-ls a.csv
is "a list is listed" "$status $(cut -f 1 out)" "0 $keys"
is "with a picture, a caption and metadata" "$(cut -f 2 out | grep -c 'jpg:.* json:.* txt:')" 20
ok "CSV is packed" prx-shard -q a.csv -o csv.tar
ok "TSV is packed" prx-shard -q a.tsv -o tsv.tar
ok "JSON Lines are packed" prx-shard -q a.jsonl -o jsonl.tar
is "all of them alike" "$(sha256sum < tsv.tar)$(sha256sum < jsonl.tar)" \
    "$(sha256sum < csv.tar)$(sha256sum < csv.tar)"
mkdir unpacked
tar xf csv.tar -C unpacked
is "pictures are those of the folder" \
    "$(cd unpacked && cat ./*.jpg | sha256sum)" "$(cd photos && cat ./*.jpg | sha256sum)"
first=$(echo "$keys" | head -n 1)
is "captions are the column's" "$(cat "unpacked/$first.txt")" "$(cat "photos/$first.txt")"
says "numbers are numbers" "unpacked/$first.json" '"score":0.25'
gzip -c a.csv > a.csv.gz
ok "a compressed list is read" prx-shard -q a.csv.gz -o gz.tar
ok "with the same result" cmp gz.tar csv.tar
ok "a packed list is encoded" prx-encode -q csv.tar -o encoded.tar
ok "as is the list itself" prx-encode -q a.csv -o direct.tar
is "which makes the same latents" \
    "$(tar xOf encoded.tar --wildcards '*.npy' | sha256sum)" \
    "$(tar xOf direct.tar --wildcards '*.npy' | sha256sum)"

# Nothing but the input decides.
shard() { # FOLDER OPTIONS...
    shard_folder=$1
    shift
    prx-shard -q --size 64 --crop center --shard-samples 6 "$@" -o "$shard_folder/%06d.tar"
}
shard j1 -j1 a.csv
shard j8 -j8 a.csv
is "-j8 gives the bytes of -j1" "$(digest j8)" "$(digest j1)"
shard r0 --rank 0 --world 3 a.csv
shard r1 --rank 1 --world 3 a.csv
shard r2 --rank 2 --world 3 a.csv
is "each row comes to one rank" \
    "$(prx-ls 'r?/*.tar' | cut -f 1 | sort)" "$(echo "$keys" | sort)"
kill_after 0.1 prx-shard -q --size 64 --crop center --shard-samples 6 -j1 a.csv \
    -o killed/%06d.tar
ok "an interrupted run goes on" shard killed --resume a.csv
is "and ends with the same bytes" "$(digest killed)" "$(digest j1)"
sed 's/0\.25/0.75/' a.csv > b.csv
mv b.csv a.csv
run shard j1 --resume a.csv
is "with another list of the same size it does not" "$status" 1

# Columns.
{
    echo 'file,llava,short'
    for key in $keys; do
        echo "$key.jpg,a long one,a short one"
    done
} > c.csv
run prx-ls --key-column file --image-column file --image-root photos c.csv
is "columns by name, and paths from another folder" "$status $(cut -f 1 out)" "0 $keys"
prx-shard -q --key-column file --image-column file --image-root photos \
    --caption-column llava --caption-column long=llava --caption-column short=short \
    c.csv -o columns/
says "captions by name" "columns/$first.json" \
    '"captions":\{"long":"a long one","short":"a short one"\}'
is "the one without a name is txt" "$(cat "columns/$first.txt")" "a long one"
run prx-ls --image-column '' c.csv
is "rows may be read without pictures" "$status $(head -n 1 out)" \
    "0 c/000000000${tab}json:$(printf '{"file":"%s.jpg","llava":"a long one","short":"a short one"}\n' "$first" | wc -c)"
run prx-shard -q --key-column nothing c.csv -o none.tar
is "a column that is not there is refused" "$status" 1
says "with what is there" err "c.csv: there is no column nothing, but file, llava, short"
ok "before anything is written" test ! -e none.tar
run prx-ls --caption-column = c.csv
is "a caption needs a column" "$status" 1

# Rows that cannot be used.
{
    echo 'key,image,caption'
    echo "a,photos/$first.jpg,fine"
    echo 'b,photos/gone.jpg,x'
    echo 'c,x'
    echo 'd,../photos.jpg,x'
    echo "e,$PWD/photos/$first.jpg,x"
    echo 'f,https://example.com/x.jpg,x'
    echo "g,photos/$first.jpg,fine"
} > bad.csv
run prx-shard --rejects rejects.jsonl bad.csv -o bad.tar
is "bad rows give status 3" "$status" 3
is "and the good ones are written" "$(prx-ls bad.tar | cut -f 1 | tr '\n' ' ')" "a g "
is "each has its line" "$(wc -l < rejects.jsonl)" 5
says "with the place" rejects.jsonl '"key":"b",.*"source":"bad.csv:3"'
says "a picture that is not there" rejects.jsonl 'photos/gone.jpg: No such file'
says "a row of two values" rejects.jsonl \
    '"key":"bad/000000002","stage":"read","reason":"2 values for 3 columns"'
is "paths that lead out" "$(grep -c 'leads out of the folder' rejects.jsonl)" 2
says "a URL" rejects.jsonl 'the image is a URL; prx-fetch downloads it'
says "the log says where" err 'warning: bad.csv:3: b: read: photos/gone.jpg: '
run prx-ls --any-path bad.csv
is "--any-path lets a list lead anywhere" "$(cut -f 1 out | tr '\n' ' ')" "a e g "
{
    echo key,n
    seq 30000 | awk '{ print "k" $1 "," $1 * 7919 % 10007 }'
} | gzip -c > long.csv.gz
head -c 90000 long.csv.gz > torn.csv.gz
run prx-ls torn.csv.gz
is "a torn list gives status 3" "$status" 3
is "with the rows before the tear" "$(($(wc -l < out) > 10000))" 1
says "and the place" err 'torn.csv.gz:[0-9]{5}: .*torn: truncated gzip'
cp a.csv x.parquet
run prx-ls x.parquet
is "what is no Parquet fails or is rejected" "$((status == 1 || status == 3))" 1

# Skip lists.
printf '%s\ttoo dark\n' "$first" > a.csv.skip
prx-shard -q --stats stats.json a.csv -o hidden.tar
is "a skip list hides a row" "$(prx-ls hidden.tar | wc -l)" 19
says "and says so" stats.json '"hidden":1,'
all_passed
