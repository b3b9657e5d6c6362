#!/bin/sh
# SPDX-License-Identifier: Apache-2.0
# What cannot be resumed: standard output, and the file of a shuffle.
. tests/lib/tap.sh
. "$ROOT/tests/lib/fault.sh"
need_shim

take_photos 5 photos
prx-shard -q --size 32 photos -o small/
rm small/index.json

# Where K-th calls go wrong, the run fails and says why, or gives the same bytes.
stream() { # NAME PATHPART WANT-MESSAGE COMMAND...
    stream_name=$1
    stream_part=$2
    stream_says=$3
    shift 3
    fault=''
    under_fault "$@" > want
    for error in ENOSPC EDQUOT EIO SHORT EINTR; do
        k=1
        bad=''
        while :; do
            rm -f struck landing-out
            fault="any:$k:$error:$stream_part"
            under_fault "$@" > landing-out 2> err
            status=$?
            [ -s struck ] || break
            case $error in
            SHORT | EINTR)
                [ $status -eq 0 ] && cmp -s want landing-out ||
                    bad="$bad $k: status $status, $(cat err)"
                ;;
            *)
                grep -q "^prx-shard: error: $stream_says.*: $(reason $error)\$" err &&
                    [ $status -eq 1 ] || bad="$bad $k: status $status, $(cat err)"
                ;;
            esac
            k=$((k + 1))
        done
        is "$stream_name: $error at each of $((k - 1)) calls" "$bad" ""
        is "$stream_name: $error: there were some" "$((k > 1))" 1
    done
}

stream "standard output" landing-out "standard output" prx-shard -q -j1 small -o -
mkdir landing-tmp
TMPDIR=landing-tmp
export TMPDIR
stream "the file of a shuffle" landing-tmp/prx- landing-tmp prx-shard -q -j1 --shuffle 1 small -o -
all_passed
