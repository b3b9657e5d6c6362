#!/bin/sh
# SPDX-License-Identifier: Apache-2.0
# prx-shard on bad input: what is rejected, how it is told, and that the rest goes on.
. tests/lib/tap.sh

take_photos 4 bad
cd bad || exit 1
truncated=$(find . -name '*.jpg' | sort | head -n 1)
truncated=${truncated#./}
head -c 3000 "$truncated" > ../head.jpg
mv ../head.jpg "$truncated"
: > empty.jpg
echo 'not a picture' > text.jpg
echo '{"broken": ' > broken.json
cp "$(find . -name '*.jpg' -size +3k | sort | tail -n 1)" broken.jpg
cd ..

run prx-shard --size 64 --rejects rejects.jsonl --stats stats.json bad -o good/%06d.tar
is "rejects give status 3" "$status" 3
is "the good ones are written" "$(prx-ls good/000000.tar | wc -l)" 3
says "--stats counts" stats.json '"rejected":4,"rejected_by_stage":\{"picture":4\},"hidden":0,"kept":3'
is "every reject has its line" "$(wc -l < rejects.jsonl)" 4
says "a truncated JPEG" rejects.jsonl "\"key\":\"${truncated%.jpg}\",\"stage\":\"picture\""
says "an empty file" rejects.jsonl '"key":"empty"'
says "a text" rejects.jsonl '"key":"text"'
says "broken metadata" rejects.jsonl '"key":"broken".*json'
says "with the source" rejects.jsonl '"source":".*bad'
says "the log names them" err "^prx-shard: warning: .*${truncated%.jpg}: picture: "
says "and ends with the verdict" err \
    'error: 4 of 7 samples rejected, and --max-errors is 0$'
ok "Python or jq would read it: one object a line" \
    sh -c '! grep -vE "^\{.*\}$" rejects.jsonl'

run prx-shard -q --max-errors 4 --size 64 bad -o four.tar
is "as many as --max-errors are fine" "$status" 0
run prx-shard -q --max-errors 50% --size 64 bad -o half.tar
is "four of seven is more than half" "$status" 3
run prx-shard -q --max-errors 58% --size 64 bad -o most.tar
is "but less than 58 %" "$status" 0
run prx-shard -q bad -o kept.tar
is "a truncated JPEG is rejected even where bytes are only copied" \
    "$(prx-ls kept.tar | grep -c "^${truncated%.jpg}")" 0

# Damage between a good head and a good tail shows only when it is decoded.
take_photos 1 damaged
photo=$(echo damaged/*.jpg)
{
    head -c 3000 "$photo"
    tail -c 1000 "$photo"
} > hole.jpg
mv hole.jpg "$photo"
run prx-shard -q damaged -o undecoded.tar
is "without --deep the body of a picture is not looked at" "$status" 0
run prx-shard -q --deep damaged -o decoded.tar
is "with it, it is" "$status" 3

# A PNG that is called .jpg is written as what it is.
take_photos 1 one
prx-shard -q --format png one -o png/
mkdir lying
for png in png/*.png; do
    cp "$png" lying/a.jpg
done
run prx-shard -q lying -o honest.tar
is "a PNG called .jpg is accepted" "$status" 0
says "and called .png" /dev/stdin 'a\.png' << TAR
$(tar tf honest.tar)
TAR

run prx-shard -q --size 4000 --no-upscale one -o large.tar
is "--no-upscale rejects small pictures" "$status" 3
run prx-shard -q --max-pixels 100 one -o huge.tar
is "--max-pixels rejects large ones" "$status" 3

# Nothing at all, in all its forms.
mkdir nothing
run prx-shard nothing -o nothing.tar
is "an empty folder is no error" "$status" 0
says "and is said to be empty" err '^prx-shard: warning: there are no samples in the source$'
: > zero.tar
run prx-shard zero.tar -o zero-out.tar
is "a tar of 0 bytes is torn" "$status" 3
says "and is named" err 'zero\.tar'
prx-shard -q one -o whole.tar
head -c 5000 whole.tar > torn.tar
run prx-shard torn.tar whole.tar -o both.tar
is "a torn tar is told" "$status" 3
says "with its name" err 'torn\.tar'
is "and what follows is read" "$(prx-ls both.tar | wc -l)" 1
run prx-shard - -o torn-out.tar < torn.tar
is "so is one on standard input" "$status" 3
n_bytes=$(wc -c < whole.tar)
head -c $((n_bytes - 1024)) whole.tar > unended.tar
run prx-shard unended.tar -o unended-out.tar
is "a tar that ends between samples, without its mark, is torn too" "$status" 3
run prx-shard missing.tar one -o missing-out.tar
is "a source that is not there fails" "$status" 1
says "by name" err 'missing\.tar: No such file'
ok "before anything is written" test ! -e missing-out.tar
head -c 100000 /dev/urandom > noise.tar
run prx-shard noise.tar -o noise-out.tar
is "noise is not taken for a tar" "$((status == 1 || status == 3))" 1

# Members that lead out of the destination.
mkdir -p evil/deep
cp one/*.jpg evil/deep/x.jpg
(cd evil/deep && tar cPf ../../evil.tar ../deep/x.jpg --transform 's,.*,../../escaped.jpg,')
run prx-shard -q evil.tar -o safe/in/
is "a key that climbs is rejected" "$status" 3
ok "and is not written" test ! -e escaped.jpg
all_passed
