#!/bin/sh
# SPDX-License-Identifier: Apache-2.0
# prx-train at the end of a pipe: spooled, resumed without the stream, and refusing
# one whose writer has died.
. tests/lib/tap.sh

take_photos 10 photos
prx-shard -q --size 64 --crop center photos -o - | prx-encode -q - -o set.tar
tiny="--set model.hidden_size=32 --set model.num_heads=2 --set model.depth=2
    --set model.axes_dim=null --set train.batch=4 --set train.checkpoint_every=0"

train() {
    # shellcheck disable=SC2086 # words
    prx-train nano $tiny "$@"
}
cd "$ROOT" || exit 1 # "nano" is found from here
train -q "$T/set.tar" -o "$T/direct" --set train.steps=6
is "a recipe is found by its name" $? 0
train -q - -o "$T/piped" --set train.steps=6 < "$T/set.tar"
is "a stream is trained on" $? 0
is "with the same result" \
    "$(digest "$T/piped/ckpt-0000006")" "$(digest "$T/direct/ckpt-0000006")"
is "the spool has just what training reads" \
    "$(tar tf "$T/piped/spool/000000.tar" | sed 's/[^.]*\.//' | sort -u | tr '\n' ' ')" \
    "json latent.npy long.text.npy "

(prx-shard -q --size 64 --crop center "$T/photos" -o - | prx-encode -q - -o - |
    train -q - -o "$T/whole" --set train.steps=6)
is "the whole pipe" "$(digest "$T/whole/ckpt-0000006")" "$(digest "$T/direct/ckpt-0000006")"

train -q - -o "$T/piped" --resume --set train.steps=9 < /dev/null
is "resuming does not need the stream" $? 0
train -q "$T/set.tar" -o "$T/direct" --resume --set train.steps=9
is "and goes on as if it were there" \
    "$(digest "$T/piped/ckpt-0000009")" "$(digest "$T/direct/ckpt-0000009")"

cp "$T/set.tar" "$T/rest.tar"
train -q - "$T/rest.tar" -o "$T/both" --set train.steps=6 < "$T/set.tar"
train -q - "$T/rest.tar" -o "$T/both" --resume --set train.steps=9 < /dev/null
is "also where other samples follow the stream" $? 0

gzip -c "$T/set.tar" > "$T/set.tar.gz"
train -q "$T/set.tar.gz" -o "$T/gz" --spool "$T/elsewhere" --set train.steps=6
is "a compressed shard is spooled, too" \
    "$(digest "$T/gz/ckpt-0000006")" "$(digest "$T/direct/../whole/ckpt-0000006")"
ok "where it is told" test -s "$T/elsewhere/index.json"
ok "and nowhere else" test ! -e "$T/gz/spool"
run train "$T/set.tar.gz" -o "$T/gz2" --spool "$T/elsewhere" --set train.steps=6
is "another's spool is not overwritten" "$status" 1

# Streams that end early.
size=$(wc -c < "$T/set.tar")
for cut in 0 700 $((size / 2)) $((size - 1024)); do
    head -c "$cut" "$T/set.tar" > "$T/cut"
    run train - -o "$T/cut$cut" --set train.steps=6 < "$T/cut"
    is "a stream cut at byte $cut is refused" "$status" 1
    says "with the place" "$T/err" 'standard input: (torn at byte [0-9]+|empty)'
    is "and no checkpoint" "$(find "$T/cut$cut" -name 'ckpt-*' | wc -l)" 0
    ok "and no shard half-written" no_leftovers "$T/cut$cut"
done
run train - -o "$T/cut0" --set train.steps=2 < "$T/set.tar"
is "the folder is as good as new" "$status" 0
# One that stands still does not hold up who wants to stop.
mkfifo "$T/pipe"
(head -c 3000 "$T/set.tar" && sleep 60) > "$T/pipe" 2> "$T/ok.log" &
writer=$!
run timeout --preserve-status -s TERM 2 prx-train nano - -o "$T/still" < "$T/pipe"
is "a stream that stands still can be stopped" "$status" 143
kill $writer 2> /dev/null
run train - -o "$T/closed" --set train.steps=2 <&-
is "a closed standard input is refused" "$status" 1

all_passed
