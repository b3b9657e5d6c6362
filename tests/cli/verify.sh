#!/bin/sh
# SPDX-License-Identifier: Apache-2.0
# prx-verify: each kind of damage is found, and named by file and key; nothing is
# changed but by --repair, and then the second look is clean.
. tests/lib/tap.sh

take_photos 18 photos
prx-shard -q --size 32 --crop center --shard-samples 6 photos -o good/%06d.tar
prx-encode -q --shard-samples 6 good/index.json -o encoded/%06d.tar

# A new copy of a data set to be damaged.
copy() { # OF TO
    rm -rf "$2"
    cp -r "$1" "$2"
}

finds() { # NAME FOLDER REGEX OPTIONS...: exactly one finding, which is this
    find_name=$1 find_folder=$2 find_regex=$3
    shift 3
    run prx-verify -q "$@" "$find_folder"
    is "$find_name: status 3" "$status $(wc -l < out)" "3 1"
    says "$find_name: named" out "$find_regex"
}

poke() { # FILE OFFSET TEXT
    # shellcheck disable=SC2059 # escapes are the point
    printf "$3" | dd of="$1" bs=1 seek="$2" conv=notrunc status=none
}

# --- what is sound -----------------------------------------------------------------
for set in good encoded photos; do
    run prx-verify "$set"
    is "$set: sound" "$status $(wc -c < out)" "0 0"
done
says "the last line counts" err 'shards=0 read=18 hidden=0 findings=0'
run prx-verify --deep encoded
is "sound in depth" "$status" 0
run prx-verify -v encoded/index.json
says "fingerprints are told" err 'latent.npy: fingerprint [0-9a-f]{32} in 18 samples'
run prx-verify 'good/*.tar' encoded/000001.tar
is "two copies of a key in two sets are found" "$status" 3
run prx-verify 'good/00000{0,1}.tar'
is "shards by braces" "$status" 0
prx-shard -q photos -o one.tar
mkdir alone && mv one.* alone
run prx-verify alone
is "a tar with its own index" "$status" 0
run prx-verify alone/one.tar
says "which is looked at too" err 'shards=1 read=18'
prx-shard -q photos -o plain/
run prx-verify plain
is "plain files with an index" "$status" 0
run sh -c 'prx-verify - < good/000000.tar'
is "a stream" "$status" 0

# --- the index ----------------------------------------------------------------------
copy good s && rm s/index.json
finds "no index" s '^s/index.json: is missing$'
copy good s && echo '{' > s/index.json
finds "broken index" s '^s/index.json:'
copy good s && rm s/000001.tar s/000001.idx
finds "a shard less" s '^s/000001.tar: is missing, and in the index$'
copy good s && cp s/000001.tar s/stray.tar && cp s/000001.idx s/stray.idx
run prx-verify -q s
says "a shard more" out '^s/stray.tar: is not in the index$'
is "and its keys" "$(grep -c 'stray.tar: .*: the key of a sample of s/000001.tar' out)" 6
copy good s && sed -i 's/"samples": 18/"samples": 19/' s/index.json
finds "a wrong total" s '^s/index.json: samples is not the sum'
copy good s && sed -i '0,/"nsamples": 6/s//"nsamples": 7/; s/"samples": 18/"samples": 19/' s/index.json
finds "a wrong count" s '^s/000000.tar: 6 samples, and the index says 7$'
copy good s && head -c 512 /dev/zero >> s/000002.tar
finds "a longer shard" s '^s/000002.tar: [0-9]* bytes, and the index says [0-9]*$'
copy good s && touch s/.prx-journal
finds "an unfinished one" s '^s/.prx-journal: unfinished'
copy good s && poke s/000000.tar 100 '0000644'
run prx-verify -q s
says "turned bytes: the hash" out '^s/000000.tar: xxh128 is .*others than were written$'
copy good s
size=$(wc -c < s/000001.tar)
poke s/000001.tar $((size - 1025)) x
finds "a byte of padding" s 'xxh128 is'
run prx-verify -q --no-hash s
is "--no-hash does not see it" "$status" 0
printf '{"shardlist":[{"url":"000000.tar"},{"url":"000000.tar"}]}' > s/index.json
run prx-verify -q s
says "a shard listed twice" out '^s/index.json: 000000.tar: is listed twice$'

# --- .idx -----------------------------------------------------------------------------
copy good s && rm s/000001.idx
finds "one .idx less" s '^s/000001.tar: has no .idx, and others of its set have$'
copy good s && rm s/*.idx
run prx-verify -q s
is "no .idx at all is fine" "$status" 0
copy good s && sed -i '3s/jpg \([0-9]*\)/jpg 1\1/' s/000001.idx
finds "a wrong offset" s '^s/000001.idx: [^:]*: another offset than in the tar$'
copy good s && sed -i '4s/\.json/.jsox/' s/000001.idx
finds "a wrong name" s '^s/000001.idx: [^:]*: another name than in the tar$'
copy good s && sed -i '2s/ txt.*//' s/000001.idx
finds "a member less" s '^s/000001.idx: [^:]*: the tar has more members$'
copy good s && sed -i '1s/6/5/' s/000001.idx
finds "a wrong count in the .idx" s '^s/000001.idx: its first line has another'
copy good s && sed -i '$d' s/000001.idx
finds "a line less" s '^s/000001.idx: [^:]*: not in the .idx'
copy good s && sed -n '$p' good/000001.idx >> s/000001.idx
finds "a line more" s '^s/000001.idx: tells of more samples than the tar has$'
copy good s && truncate -s -9 s/000001.idx
finds "a torn .idx" s '^s/000001.idx: [^:]*: the .idx is cut off here$'
copy good s && echo hello > s/000001.idx
finds "another file" s '^s/000001.idx: not a DALI index'

# --- tars ------------------------------------------------------------------------------
copy good s && truncate -s 9000 s/000001.tar && rm s/index.json
run prx-verify -q s
says "a tear: shard, key, byte" out '^s/000001.tar: [^:]*: torn at byte [0-9]+'
copy good s && : > s/000009.tar && rm s/index.json
run prx-verify -q s
says "an empty tar" out '^s/000009.tar: 000009.tar: empty, not a tar$'

# --- samples ----------------------------------------------------------------------------
fresh() { # a folder with one encoded sample, whose key is in $key
    rm -rf f && mkdir f
    tar -xf encoded/000000.tar -C f
    key=$(basename "$(find f -name '*.jpg' | sort | head -n 1)" .jpg)
    find f -type f ! -name "$key.*" -exec rm {} +
}
fresh
run prx-verify -q --deep f
is "one sample, sound" "$status" 0
fresh && truncate -s 600 "f/$key.jpg"
finds "a cut picture" f "^f/$key.jpg: $key: jpg: .*json: xxh128 is .*stale: the picture"
fresh && rm "f/$key.json" "f/$key".*.npy "f/$key.latent.npy" 2> /dev/null
truncate -s 600 "f/$key.jpg"
finds "a cut picture alone" f "^f/$key.jpg: $key: jpg: "
fresh && rm -f f/*.json f/*.npy && poke "f/$key.jpg" 700 '\000\377\000\377\000\377'
run prx-verify -q f
is "damage within a picture is not in its header" "$status" 0
fresh && rm -f f/*.json f/*.npy
n=$(wc -c < "f/$key.jpg")
head -c $((n / 2)) "f/$key.jpg" > cut.jpg
printf '\377\331' >> cut.jpg && cp cut.jpg "f/$key.jpg"
run prx-verify -q f
is "a picture cut before its end mark passes" "$status" 0
finds "but not in depth" f "^f/$key.jpg: $key: jpg: " --deep
fresh && rm -f f/*.json f/*.npy && mv "f/$key.jpg" "f/$key.png"
finds "a picture under another name" f "png: holds a jpg$"
fresh && rm -f f/*.npy && echo '[1]' > "f/$key.json"
finds "metadata that are no object" f "$key: field json: not an object$"
fresh && rm -f f/*.npy && sed -i 's/"width":32/"width":33/' "f/$key.json"
finds "a wrong width" f "json: says 33 x 32 pixels of a picture of 32 x 32$"
fresh && rm -f f/*.npy && sed -i 's/"width":32/"width":"32"/' "f/$key.json"
finds "a width that is none" f "json: width and height are not numbers"
fresh && rm -f f/*.npy && sed -i 's/"xxh128":"./"xxh128":"x/' "f/$key.json"
finds "a wrong hash" f "json: xxh128 is x[0-9a-f]* and the picture's is [0-9a-f]*$"
fresh && truncate -s -2 "f/$key.latent.npy"
finds "a cut array" f "$key: latent.npy: "
fresh && n=$(wc -c < "f/$key.latent.npy") && poke "f/$key.latent.npy" $((n - 2)) '\000\174'
run prx-verify -q f
is "an infinity passes" "$status" 0
finds "but not in depth" f "latent.npy: number [0-9]* is not finite$" --deep
fresh && sed -i 's/"dtype":"f16"/"dtype":"f32"/' "f/$key.json"
run prx-verify -q f
says "a record with another type" out 'latent.npy: holds f16, and its record says f32'
fresh && sed -i 's/"latent.npy":/"latent.npx":/' "f/$key.json"
finds "no record" f "latent.npy: json has no record of what made it$"
fresh && sed -i 's/"long":"/"long":"Not /' "f/$key.json"
finds "a caption changed" f "long.text.npy: stale: the caption is another since$"
rm -rf none && mkdir none && echo hi > none/a.txt && tar -cf none.tar -C none a.txt
finds "neither picture nor array" none.tar '^none.tar: a: no picture and no array$'

# --- fingerprints ----------------------------------------------------------------------
print=$(prx-verify -v encoded 2>&1 | sed -n 's/.*latent.npy: fingerprint \([0-9a-f]*\).*/\1/p')
run prx-verify -q --fingerprint "latent.npy=$print" encoded
is "the wanted fingerprint" "$status" 0
run prx-verify -q --fingerprint latent.npy=0123 encoded
is "another one: every sample" "$status $(grep -c "fingerprint $print, and 0123 is wanted" out)" "3 18"
run prx-verify --fingerprint latent.npy encoded
is "a fingerprint without a value" "$status" 1
rm -rf two && mkdir two && tar -xf encoded/000000.tar -C two && tar -xf encoded/000001.tar -C two
odd=$(basename "$(find two -name '*.jpg' | sort | tail -n 1)" .jpg)
sed -i "s/$print/0123/" "two/$odd.json"
finds "two encoders in one set" two \
    "^two/.*: $odd: latent.npy: the first of 1 samples with fingerprint 0123, where 11"

# --- keys -------------------------------------------------------------------------------
mkdir keys && cp "$(find photos -name '*.jpg' | head -n 1)" keys/a.jpg && cp keys/a.jpg keys/b.jpg
for n in 1 2; do tar -cf k$n.tar -C keys a.jpg; done
run prx-verify -q k1.tar k2.tar
is "a key in two shards" "$(cat out)" "k2.tar: a: the key of a sample of k1.tar"
tar -cf k3.tar -C keys a.jpg b.jpg
tar -rf k3.tar -C keys a.jpg
run prx-verify -q k3.tar
is "a key twice in one" "$(cat out)" \
    "k3.tar: a: twice in this shard, so that a skip list hides both"

# --- skip lists --------------------------------------------------------------------------
first=$(tar -tf good/000000.tar | head -n 1 | sed 's/\..*//')
copy good s && printf '%s\twhy\n' "$first" > s/000000.tar.skip
run prx-verify s
is "a skip list that is right" "$status" 0
says "what it hides is counted" err 'read=17 hidden=1'
printf '%s\twhy\nzzz\twhy\n' "$first" > s/000000.tar.skip
finds "a row too many" s '^s/000000.tar.skip: zzz: hides a sample that is not there$'
printf 'b\twhy\na\twhy\n' > s/000000.tar.skip
finds "a damaged list" s '^s/000000.tar.skip: line 2: keys are not in byte order; no'
copy photos p && printf 'zzz\twhy\n' > p.skip
finds "of a folder" p '^p.skip: zzz: hides a sample that is not there$'
rm -f p.skip

# --- output and threads ---------------------------------------------------------------------
copy good s
truncate -s 9000 s/000001.tar && printf 'zzz\twhy\n' > s/000002.tar.skip && cp s/000000.tar s/x.tar
before=$(digest s)
prx-verify -q -j 1 s > j1 2> /dev/null
prx-verify -q -j 8 s > j8 2> /dev/null
ok "-j1 and -j8 say the same" cmp j1 j8
is "nothing is changed" "$(digest s)" "$before"
prx-verify -q --json s > lines.json 2> /dev/null
is "--json: a line a finding" "$(grep -cE '^\{"file":"s/.*"check":"[a-z]*","what"' lines.json)" "$(wc -l < j1)"
run prx-verify -q --max-errors 100 s
is "--max-errors" "$status" 0
run prx-verify --rejects r.jsonl --stats st.json s
is "--rejects has them all" "$(wc -l < r.jsonl)" "$(wc -l < j1)"
says "--stats counts by check" st.json '"rejected_by_stage":\{.*"duplicate":6'
run prx-verify
is "no operand" "$status" 2
run prx-verify nowhere
is "what is not there" "$status" 1
run sh -c 'prx-verify --repair skip - < good/000000.tar'
is "a stream is not repaired" "$status" 1
if [ -w /dev/full ]; then
    run sh -c "prx-verify -q s > /dev/full"
    is "a full disk" "$status" 1
fi

# --- repair ------------------------------------------------------------------------------
copy good s
truncate -s 9000 s/000001.tar
: > s/000009.tar
printf 'zzz\twhy\n' > s/000002.tar.skip
cp s/000000.tar s/x.tar
rm s/000000.idx
shards=$(cat s/*.tar | sha256sum)
run prx-verify -q --repair all s
is "--repair tells what it found" "$status" 3
run prx-verify s
is "then all is sound" "$status $(cat out)" "0 "
says "with the bad ones hidden" err 'hidden=8'
is "no shard has changed" "$(cat s/*.tar | sha256sum)" "$shards"
says "a tear is a row of the list" s/000001.tar.skip 'torn at byte'
says "so is a duplicate" s/x.tar.skip "$(printf '\t')the key of a sample of s/000000.tar\$"
is "a row too many is gone" "$(ls s/000002.tar.skip 2> /dev/null)" ""
ok "a missing .idx is as it was" cmp s/000000.idx good/000000.idx
is "the index has every shard" "$(grep -c '"url"' s/index.json)" 5
is "but no plan" "$(grep -c '"plan"' s/index.json)" 0
is "readers see what is left" "$(prx-ls s/index.json | wc -l)" \
    "$(prx-verify s 2>&1 | sed -n 's/.* read=\([0-9]*\).*/\1/p')"
before=$(digest s)
prx-verify -q --repair all s 2> /dev/null
is "a second repair does nothing" "$(digest s)" "$before"

copy good s && rm s/index.json
prx-verify -q --repair index s > /dev/null 2>&1
is "the same shards have the same index, but for its plan" \
    "$(grep -v '"plan"\|"tool"' s/index.json)" "$(grep -v '"plan"\|"tool"' good/index.json)"
run prx-shard -q --size 32 --crop center --shard-samples 6 --resume photos -o s/%06d.tar
is "which is not resumed" "$status" 1
copy good s && touch s/.prx-journal && rm s/index.json
prx-verify -q --repair index s > /dev/null 2>&1
is "what is unfinished is left alone" "$(ls s/index.json 2> /dev/null)" ""
ok "no temporary file" no_leftovers .
all_passed
