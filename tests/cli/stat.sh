#!/bin/sh
# SPDX-License-Identifier: Apache-2.0
# prx-stat: the numbers are those of the input.
. tests/lib/tap.sh

take_photos 10 photos
n_words=$(cat photos/*.txt | wc -w)
n_jpg_bytes=$(cat photos/*.jpg | wc -c)
run prx-stat photos
is "a folder is summarised" "$status" 0
says "samples are counted" out '^samples  10$'
says "bytes are counted" out "^bytes    $(cat photos/* | wc -c)$"
says "fields have their row" out '^jpg +10 '
says "widths have theirs" out '^width px +10 '
says "captions theirs" out '^txt words +10 '
says "captions of the metadata too" out '^captions\.long words +10 '
says "there are bars" out '\|#+ +[0-9]+$'
run prx-stat --no-histograms photos
is "bars can be left out" "$(grep -c '|#' out)" 0

field() { # NAME OF COLUMN, MEMBER
    tr -d ' \n' < out | sed -n "s/.*\"$1\":{[^}]*\"$2\":\([0-9.]*\).*/\1/p"
}
run prx-stat --json --no-histograms photos
is "--json: mean bytes of jpg" "$(field jpg mean)" "$(echo "$n_jpg_bytes" | sed 's/.$/.&/')"
is "--json: mean words" "$(field txtwords mean)" "$(echo "$n_words" | sed 's/.$/.&/')"
max=0
for jpg in photos/*.jpg; do
    n=$(wc -c < "$jpg")
    [ "$n" -le "$max" ] || max=$n
done
is "--json: the largest" "$(field jpg max)" "$max.0"

prx-shard -q --size 64 --crop center photos -o squares.tar
run prx-stat --json --no-histograms squares.tar
is "after a crop all are squares" \
    "$(field width max) $(field widthpx min) $(field heightpx max) $(field aspect min)" \
    " 64.0 64.0 1.0"
prx-stat --no-histograms squares.tar > by-name
prx-stat --no-histograms - < squares.tar > by-pipe
ok "standard input gives the same" cmp by-name by-pipe
mkdir none
run prx-stat none
is "an empty folder has no samples" "$status $(grep -c '^samples  0$' out)" "0 1"
run prx-stat --json none
is "in JSON too" "$status" 0
echo '{"broken"' > photos/zzz.json
cp "$(find photos -name '*.jpg' | head -n 1)" photos/zzz.jpg
run prx-stat photos
is "broken metadata gives status 3" "$status" 3
says "and its name" err 'zzz: captions: '
all_passed
