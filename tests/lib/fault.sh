# SPDX-License-Identifier: Apache-2.0
# shellcheck shell=sh
# Jobs whose system calls go wrong.  Sourced after tap.sh by scripts that define
#
#   job KIND FOLDER OPTIONS...   run the tool by `under_fault`, with the destination
#                                `dest KIND FOLDER` and its reports in FOLDER
#
# and then call
#
#   begin KIND            make the folder "straight" by a job that nothing disturbs
#   sweep KIND ERROR...   for k = 1, 2, ... let the k-th call that changes a file of
#                         the job go wrong, until a run has no k-th: each failure is
#                         told, leaves nothing incomplete under a final name, and a
#                         resumed run ends with the very files of the straight one
#   endure KIND ERROR     the same for errors that are none: the run must succeed
#
# Of several ERRORs each k takes the next one; FAULTS=all takes all at each k.
: "${B:=build/release}" "${FAULTS:=}"
SHIM=$ROOT/$B/libprxfault.so
fault='' # as PRX_FAULT has it

need_shim() {
    if [ -n "$SAN" ]; then
        skip "faults" "sanitizers want to be loaded first"
    elif [ ! -f "$SHIM" ]; then
        skip "faults" "there is no $SHIM; 'make check' builds it"
    else
        return
    fi
    exit 0
}

under_fault() { # CMD...
    if [ -n "$fault" ]; then
        LD_PRELOAD=$SHIM PRX_FAULT=$fault PRX_FAULT_LOG=$T/struck "$@"
    else
        "$@"
    fi
}

# A destination of each kind, in FOLDER.
dest() { # KIND FOLDER
    case $1 in
    shards) echo "$2/out/%02d.tar" ;;
    tar) echo "$2/out/one.tar" ;;
    files) echo "$2/out/" ;;
    esac
}

# What is never the same twice does not count.
trim_stats() { # FOLDER
    [ ! -f "$1/stats.json" ] || sed -i 's/"elapsed_s":.*//' "$1/stats.json"
}

begin() { # KIND
    fault=''
    rm -rf straight
    job "$1" straight > straight.log 2>&1
    is "$1: the straight run ends well" "$?" 0
    trim_stats straight
}

# What has a final name in FOLDER and is not what the straight run has there.
not_whole() { # FOLDER
    [ ! -d "$1" ] || diff -rq -x '.*' -x stats.json "$1" straight 2>&1 |
        grep -v '^Only in straight'
}

reason() { # ERROR: as messages have it
    case $1 in
    ENOSPC) echo 'No space left on device' ;;
    EDQUOT) echo 'Disk quota exceeded' ;;
    EIO) echo 'Input/output error' ;;
    esac
}

# What is wrong with a run that ERROR struck, and with what came of it.
judge() { # KIND ERROR
    if [ "$2" = KILL ]; then
        [ "$status" -eq 137 ] || echo "status $status instead of 137"
    else
        [ "$status" -eq 1 ] || echo "status $status instead of 1"
        read -r said < err
        case $said in
        prx-*": error: landing"*": $(reason "$2")") ;;
        *) echo "is said as: $said" ;;
        esac
        [ ! -d landing ] || no_leftovers landing || echo "leaves a temporary file"
    fi
    not_whole landing
    fault=''
    job "$1" landing --resume > resume.log 2>&1 ||
        echo "cannot be resumed: $(cat resume.log)"
    trim_stats landing
    diff -rq straight landing
}

strike() { # KIND ERROR K: false where there is no K-th call
    rm -rf landing struck
    fault="any:$3:$2:landing"
    job "$1" landing > out 2> err
    status=$?
    [ -s struck ]
}

# One line for a test over all k, and what went wrong behind it.
tell() { # NAME N BAD
    is "$1, at each of $2 calls" "$3" ""
    is "$1: there were some" "$(($2 > 10))" 1
}

sweep() { # KIND ERROR...
    kind=$1
    shift
    errors=$*
    k=1
    bad=''
    while :; do
        for error; do
            strike "$kind" "$error" $k || break 2
            wrong=$(judge "$kind" "$error")
            [ -z "$wrong" ] || bad="$bad
# $error at $k, $(cat struck): $wrong"
            [ "$FAULTS" = all ] || break
        done
        k=$((k + 1))
        error=$1
        shift
        set -- "$@" "$error"
    done
    tell "$kind: $errors" $((k - 1)) "$bad"
}

endure() { # KIND ERROR
    k=1
    bad=''
    while strike "$1" "$2" $k; do
        trim_stats landing
        if [ $status -ne 0 ] || ! diff -rq straight landing > differ; then
            bad="$bad
# $2 at $k, $(cat struck): status $status, $(cat err differ)"
        fi
        k=$((k + 1))
    done
    tell "$1: $2" $((k - 1)) "$bad"
}
