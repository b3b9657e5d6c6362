#!/bin/sh
# SPDX-License-Identifier: Apache-2.0
# "pipe:CMD": what a command writes is a shard, and how it ends is what counts.
# shellcheck disable=SC2016 # what stands in single quotes is the command's
. tests/lib/tap.sh

take_photos 12 photos
prx-shard -q photos -o whole.tar
prx-shard -q --shard-samples 5 photos -o many/%06d.tar
want=$(prx-shard -q whole.tar -o - | sha256sum)

is "a command's output is read" \
    "$(prx-shard -q 'pipe:cat whole.tar' -o - | sha256sum)" "$want"
is "with -j1 as with -j8" "$(prx-shard -q -j1 'pipe:cat whole.tar' -o - | sha256sum)" \
    "$(prx-shard -q -j8 'pipe:cat whole.tar' -o - | sha256sum)"
is "compressed too" \
    "$(prx-shard -q 'pipe:gzip -c whole.tar' -o - | sha256sum)" "$want"
is "several tars of one command too" \
    "$(prx-shard -q 'pipe:cat many/*.tar' -o - | sha256sum)" "$want"
is "several commands, in order" "$(prx-shard -q 'pipe:cat many/000000.tar' \
    many/000001.tar 'pipe:cat many/000002.tar' -o - | sha256sum)" "$want"
is "braces are the command's" \
    "$(prx-shard -q 'pipe:for i in 0 1 2; do { cat many/00000$i.tar; }; done' -o - |
        sha256sum)" "$want"
is "its standard input is empty" \
    "$(echo lost | prx-shard -q 'pipe:cat; cat whole.tar' -o - | sha256sum)" "$want"
for rank in 0 1; do
    prx-ls --rank $rank --world 2 'pipe:echo a >> ran; cat many/000000.tar' \
        'pipe:echo b >> ran; cat many/000001.tar'
done > listed
is "ranks share commands out" "$(sort ran | tr '\n' ' ') $(wc -l < listed)" \
    "a b  $(prx-ls many/000000.tar many/000001.tar | wc -l)"

run prx-shard -q 'pipe:cat whole.tar; exit 3' -o three.tar
is "a command that fails at its end is no clean end" "$status" 3
run prx-ls 'pipe:cat whole.tar; exit 3'
says "it is told how it ended" err 'pipe:cat whole\.tar; exit 3: ended with status 3'
is "and all samples but the last are there" "$(wc -l < out)" 11
run prx-ls 'pipe:false'
says "a command that writes nothing and fails" err 'pipe:false: ended with status 1'
run prx-ls 'pipe:no-such-program-at-all'
says "a command that is not there" err 'ended with status 127'
run prx-ls 'pipe:true'
says "a command that writes nothing" err 'pipe:true: empty, not a tar'
run prx-ls 'pipe:cat whole.tar; kill -9 $$'
says "a command that is killed" err 'ended by signal 9'
run prx-ls 'pipe:cat whole.tar; exit 141'
says "141 is a failure where nobody has closed the pipe" err 'ended with status 141'
run prx-ls 'pipe:head -c 20000 whole.tar'
says "a torn tar is torn" err 'torn at byte'
run prx-ls 'pipe:cat many/000000.tar; exit 1' many/000001.tar
is "the next source is read all the same" "$(wc -l < out)" \
    "$(($(prx-ls many/000000.tar many/000001.tar | wc -l) - 1))"

# A tar that is torn at once: the command is told to go, and gone when we are.
run prx-ls 'pipe:echo $$ > pid; yes no tar | head -c 5000; exec sleep 1000'
says "what is no tar is not waited for" err 'not a tar'
ok "and its command has gone" sh -c '! kill -0 "$(cat pid)" 2> /dev/null'
# The group, not only the shell; and what does not listen.
run prx-ls 'pipe:trap "" TERM; echo $$ > pid; yes no tar & wait'
ok "a stubborn command has gone too" sh -c '! kill -0 "$(cat pid)" 2> /dev/null'

# A run that is stopped while the command says nothing.
prx-shard -q 'pipe:echo $$ > pid2; cat many/000000.tar; exec sleep 1000' -o stopped.tar \
    2> err &
tool=$!
i=0
while [ ! -s pid2 ] && [ $i -lt 100 ]; do
    sleep 0.1
    i=$((i + 1))
done
sleep 0.3
kill -TERM $tool
wait $tool
is "a stopped run ends" "$?" 143
ok "and so does its command" sh -c '! kill -0 "$(cat pid2)" 2> /dev/null'
ok "and nothing is left under the final name" test ! -e stopped.tar

# Resumed, it gives the bytes of a run that was never stopped.
prx-shard -q --shard-samples 3 'pipe:cat whole.tar' -o once/%06d.tar
kill_after 0.2 prx-shard -q --shard-samples 3 \
    'pipe:head -c 200000 whole.tar; sleep 0.1; tail -c +200001 whole.tar' -o twice/%06d.tar
run prx-shard -q --resume --shard-samples 3 \
    'pipe:head -c 200000 whole.tar; sleep 0.1; tail -c +200001 whole.tar' -o twice/%06d.tar
is "it can be resumed" "$status" 0
is "and the shards are the same" "$(cat once/*.tar | sha256sum)" \
    "$(cat twice/*.tar | sha256sum)"
run prx-shard -q --resume --shard-samples 3 'pipe:cat many/*.tar' -o once/%06d.tar
is "another command is another plan" "$status" 1
all_passed
