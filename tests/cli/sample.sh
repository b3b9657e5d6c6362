#!/bin/sh
# SPDX-License-Identifier: Apache-2.0
# prx-sample: pictures from a checkpoint, as samples and on a sheet.
. tests/lib/tap.sh

take_photos 6 photos
prx-shard -q --size 64 --crop center photos -o - | prx-encode -q - -o latents.tar
ok "a model is trained for two steps" prx-train -q "$ROOT/manifests/recipes/nano.yaml" \
    latents.tar -o trained --set train.steps=2 --set train.batch=2 --set model.depth=1 \
    --set sample.size_px=64

run prx-sample trained -p "a red cup" -p "a blue cup" -n 2 --steps 2 -o cups
is "pictures are made" "$status" 0
says "the last line counts them" err '^prx-sample: pictures=4 prompts=2 '
is "with their prompts" "$(cat cups/0001.txt), $(cat cups/0002.txt)" "a red cup, a blue cup"
says "and how they were made" cups/0003.json \
    '"sampled":\{.*"image":1,"seed":0,"shift":1.0,"step":2,"steps":2\}'
is "as samples other tools read" "$(prx-ls cups/ | wc -l)" 4
prx-sample -q trained -p "a red cup" -p "a blue cup" -n 2 --steps 2 -o - > cups.tar
mkdir from-tar
tar xf cups.tar -C from-tar
is "the same on standard output" "$(diff -r from-tar cups)" "Only in cups: index.json"
prx-sample -q trained -p "a red cup" --steps 2 -s 1 -o other
is "another seed is another picture" "$(cmp -s other/0000.png cups/0000.png; echo $?)" 1
prx-sample -q trained -p "a red cup" --steps 2 --size 96x32 --format jpeg -o wide
is "of another size and format" "$(prx-ls -l wide/ | grep -c '96 *x *32')" 1

first=$(find photos -name '*.jpg' | sort | sed -n '1s,.*/\(.*\)\.jpg,\1,p')
printf 'one line\n\n%s\tfrom a key\n{"prompt": "from JSON", "key": "nobody"}\n' "$first" > list
run prx-sample trained --prompts list --steps 1 --reference photos --grid sheet.png
is "a sheet of prompts from a file" "$status" 0
says "a key that is not there is warned of" err "no picture of key 'nobody'"
is "is a PNG" "$(head -c 8 sheet.png | od -An -tx1 | tr -d ' ')" 89504e470d0a1a0a
ok "or a JPEG" prx-sample -q trained -p x --steps 1 --grid sheet.jpg

# Refused.
printf 'fine\n{"prompt": 7}\n' > bad-list
: > empty-list
cp -r trained other-encoder
rm other-encoder/ckpt-*/manifest.json
sed -i 's/\("vae_fingerprint": "\)................/\10123456789abcdef/' other-encoder/ckpt-*/prx.json
while IFS='|' read -r want words message; do
    # shellcheck disable=SC2086
    run prx-sample $words
    is "refused: $words" "$status" "$want"
    says "saying: $message" err "$message"
done << END
2|trained -o new|no prompts
2|trained -p x|name an output
2|-p x -o new|name one checkpoint
2|trained -p x --grid sheet.gif|ends neither in
2|trained -p x --size 64x -o new|--size: '64x' is not WxH
2|trained -p x --size 0x64 -o new|--size: '0x64' is not WxH
2|trained -p x --reference photos -o new|--reference: needs --grid
1|trained -p x --size 100 -o new|100 x 100 pixels, sides that 16 does not divide
1|trained -p x -o cups|is there already
1|trained -p x --grid sheet.png|is there already
1|trained --prompts bad-list -o new|bad-list: line 2: an object without
1|trained --prompts empty-list -o new|no prompts in it
1|trained --prompts missing -o new|missing: No such file
1|nowhere -p x -o new|nowhere: No such file
1|$(echo other-encoder/ckpt-*) -p x -o new|but this build's has
END
ok "nothing was written" test ! -e new

# Stopped half-way.  SIGTERM, as a shell has its background commands ignore SIGINT.
prx-sample trained -p x --steps 10000 -o stopped --grid stopped.png 2> /dev/null &
pid=$!
sleep 1
kill -TERM $pid
wait $pid
is "a signal stops it" $? 143
ok "no sheet is left" test ! -e stopped.png
ok "nor a picture" test ! -e stopped/0000.png
ok "nor anything unfinished" no_leftovers .
all_passed
