#!/bin/sh
# SPDX-License-Identifier: Apache-2.0
# What every tool does with its command line.
. tests/lib/tap.sh

for program in "$BIN"/prx-*; do
    name=${program##*/}
    run "$program" -h
    is "$name -h succeeds" "$status" 0
    says "$name -h tells the usage" out "^usage: $name "
    is "$name -h says nothing on standard error" "$(cat err)" ""
    run "$program" --frobnicate -h
    is "$name -h wins over other complaints" "$status" 0
    run "$program" --version
    is "$name --version succeeds" "$status" 0
    says "$name --version names what is in" out '^built in: .*libarchive'
    says "$name --version names what is out" out '^left out: '
    run "$program" --frobnicate
    is "$name: an unknown option is a usage error" "$status" 2
    says "$name: and is named" err "^$name: error: --frobnicate: no such option"
    is "$name: in one line" "$(wc -l < err)" 1
    run "$program"
    is "$name without operands is a usage error" "$status" 2
    says "$name: which points to -h" err '; see -h$'
    "$program" --help > /dev/full 2> err
    is "$name --help into a full disk fails" "$?" 1
    says "$name: and says so" err 'error: standard output: No space left'
done

refused() { # NAME REGEX ARGUMENTS...
    refused_name=$1
    refused_regex=$2
    shift 2
    run prx-shard "$@"
    is "$refused_name is refused" "$status" 2
    says "$refused_name: why" err "$refused_regex"
}
take_photos 1 photos
refused "a word for a number" 'error: --size: 12x is not a number; see -h$' --size 12x photos
refused "an empty number" '--size:  is not a number' --size= photos
refused "a blank before a number" 'is not a number' --size ' 12' photos
refused "a number beyond 64 bits" 'is not a number' --size 99999999999999999999 photos
refused "a number too small" '--size: -1 is less than 0' --size -1 photos
refused "a number too large" '--quality: 101 is more than 100' -Q 101 photos
refused "an unknown choice" '--crop: oval is none of none.center.bucket' --crop oval photos
refused "an unknown size" '--shard-bytes: 12Q is not a number' --shard-bytes 12Q photos
refused "a size beyond 64 bits" 'is too much' --shard-bytes 18446744073709551615T photos
refused "a missing value" 'error: --output: needs a value' photos -o
refused "a value for a flag" '--deep: takes no value' --deep=1 photos
refused "an unknown letter" 'error: -Z: no such option' -Z photos
refused "a share without a number" '--max-errors: % is neither' --max-errors % photos -o x.tar
refused "--resume with --overwrite" 'exclude each other' --resume --overwrite photos -o x.tar
refused "a crop without a size" '--crop: needs --size' --crop center photos -o x.tar
refused "a rank without a world" '--rank' --rank 0 photos -o x.tar
refused "a rank beyond the world" '--rank' --rank 2 --world 2 photos -o x.tar
RANK=x WORLD_SIZE=2
export RANK WORLD_SIZE
refused "a rank in the environment that is no number" 'RANK=x' photos -o x.tar
unset RANK WORLD_SIZE
is "nothing was written by any of these" "$(ls x.tar 2> /dev/null)" ""

# Options may stand anywhere, in any spelling; POSIXLY_CORRECT changes nothing.
ok "an option behind the operand" prx-shard photos -o a.tar -q
POSIXLY_CORRECT=1 prx-shard photos -qob.tar
is "letters may be joined" "$?" 0
ok "-- ends the options" prx-shard -q --output=c.tar -- photos
is "all of these mean the same" \
    "$(sha256sum < a.tar)$(sha256sum < a.tar)" "$(sha256sum < b.tar)$(sha256sum < c.tar)"
ok "a flag is taken back" prx-shard -q --overwrite --no-overwrite photos -o d.tar
run prx-shard -q --overwrite --no-overwrite photos -o d.tar
is "and then does not count" "$status" 1
all_passed
