#!/bin/sh
# SPDX-License-Identifier: Apache-2.0
# prx-encode: what it adds, what it leaves alone, what it rejects.
. tests/lib/tap.sh

fields_of() { # TAR KEY: the names of its fields
    tar tf "$1" | sed -n "s,^$2\.,,p" | tr '\n' ' '
}

take_photos 6 photos
key=$(find photos -name '*.jpg' | sort | sed -n '1s,.*/\(.*\)\.jpg,\1,p')
prx-shard -q --size 64 --crop center photos -o small.tar

run prx-encode small.tar -o encoded.tar
is "samples are encoded" "$status" 0
says "the last line counts them" err '^prx-encode: read=6 kept=6 rejected=0 '
is "a latent and the states of both captions are added" "$(fields_of encoded.tar "$key")" \
    "jpg json latent.npy long.text.npy short.text.npy txt "
tar xf encoded.tar
says "the latent is 16 channels of an eighth of the size" "$key.latent.npy" \
    "'<f2'.*\(16, 8, 8\)"
says "states are as wide as asked by default" "$key.short.text.npy" "'<f2'.*, 256\)"
says "metadata tell what made them" "$key.json" \
    '"latent.npy":\{"dtype":"f16","fingerprint":"[0-9a-f]{32}","input":"[0-9a-f]{32}"'
says "and keep what was there" "$key.json" '"license":'

# Nothing but the input decides.
for j in 1 3 8; do
    prx-encode -q -j $j small.tar -o j$j.tar
    ok "the same bytes with -j $j" cmp encoded.tar j$j.tar
done
prx-encode -q - -o - < small.tar > piped.tar
ok "the same bytes through pipes" cmp encoded.tar piped.tar
prx-encode -q encoded.tar -o again.tar
ok "what is encoded passes untouched" cmp encoded.tar again.tar

# Options.
prx-encode -q --vae none --captions short --text-width 64 --dtype f32 small.tar -o few.tar
is "only what is asked for" "$(fields_of few.tar "$key")" "jpg json short.text.npy txt "
tar xf few.tar
says "of that width and type" "$key.short.text.npy" "'<f4'.*, 64\)"
prx-encode -q few.tar -o fresh.tar
tar xf fresh.tar
says "another width is stale, and made anew" "$key.short.text.npy" "'<f2'.*, 256\)"
prx-encode -q --text none --drop-image small.tar -o bare.tar
is "the picture can be left out" "$(fields_of bare.tar "$key")" "json latent.npy txt "
prx-encode -q bare.tar -o late.tar
is "captions are added without it" "$(fields_of late.tar "$key")" \
    "json latent.npy long.text.npy short.text.npy txt "
prx-encode -q --vae none --text none small.tar -o none.tar
ok "nothing asked for changes nothing" cmp small.tar none.tar
mkdir plain
cp "photos/$key.jpg" plain/only.jpg
echo "just a line" > plain/only.txt
prx-shard -q --size 64 --crop center plain -o - | prx-encode -q - -o plain.tar
is "a plain caption where there is no other" "$(fields_of plain.tar only)" \
    "jpg json latent.npy txt txt.text.npy "

# Rejects: the run goes on.
prx-shard -q --size 70 --crop center photos -o odd.tar
run prx-encode --rejects odd.jsonl odd.tar -o odd-out.tar
is "sides that 8 does not divide are rejected" "$status" 3
says "with the reason" odd.jsonl '"stage":"encode","reason":"70 x 70 pixels, sides that 8'
mkdir bad
cp "photos/$key".* bad
head -c 3000 "photos/$key.jpg" > bad/torn.jpg
cp "photos/$key.json" bad/torn.json
echo '{"captions":{"long":"no picture here"}}' > bad/none.json
prx-shard -q --size 64 --crop center "photos" -o - > /dev/null
tar cf bad.tar --sort=name -C bad .
run prx-encode --captions long --max-errors 3 --rejects bad.jsonl bad.tar -o bad-out.tar
is "up to --max-errors that is no failure" "$status" 0
says "a torn picture is named" bad.jsonl '"key":"torn","stage":"encode"'
says "a missing picture is named" bad.jsonl '"key":"none".*no image'
run prx-encode --captions short,medium small.tar -o missing.tar
is "a caption that is asked for must be there" "$status" 3
says "and is named" err "no caption 'medium'"

# Refused before anything is written.
while IFS='|' read -r want words message; do
    # shellcheck disable=SC2086
    run prx-encode $words small.tar -o refused.tar
    is "refused: $words" "$status $(test -e refused.tar && echo written)" "$want "
    says "saying: $message" err "$message"
done << 'END'
1|--vae flux.safetensors|no VAE 'flux.safetensors' in this build
1|--text t5|no text tower 't5' in this build
1|--text-width 100|width 100; hash makes multiples of 8
1|--captions Long|a caption named 'Long'
2|--dtype f64|--dtype
2|--nonsense|--nonsense
END
run prx-encode small.tar -o encoded.tar
is "an existing destination is refused" "$status" 1
ok "unless told otherwise" prx-encode -q --overwrite small.tar -o encoded.tar
ok "nothing unfinished is left" no_leftovers .
all_passed
