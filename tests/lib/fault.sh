# SPDX-License-Identifier: Apache-2.0
# shellcheck shell=sh
# Jobs whose system calls go wrong, or that are killed.  Sourced after tap.sh by
# scripts that define
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
#   kill_often KIND       kill -9 at random, KILLS times (8), and resume
#
# Of several ERRORs each k takes the next one; FAULTS=all takes all at each k.
: "${B:=build/release}" "${FAULTS:=}" "${KILLS:=8}" "${SEED:=1}"
SHIM=$ROOT/$B/libprxfault.so
fault=''  # as PRX_FAULT has it
launch='' # exec: a job takes the place of its shell, to be killed by its number

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
        $launch "$@"
    fi
}

# A destination of each kind, in FOLDER.
dest() { # KIND FOLDER
    case $1 in
    shards) echo "$2/out/%02d.tar" ;;
    tar) echo "$2/out/one.tar" ;;
    files) echo "$2/out/" ;;
    lmdb) echo "lmdb:$2/out/set.mdb" ;;
    mds) echo "mds:$2/out/set" ;;
    esac
}

# Do straight and landing differ?  Hidden files count, too.
differ() { # KIND
    case $1 in
    lmdb) # pages may lie elsewhere, but hold the same
        diff -rq -x '*.mdb' straight landing
        for differ_folder in straight landing; do
            prx-shard -q "$(dest lmdb $differ_folder)" -o - > $differ_folder.tar
        done
        cmp straight.tar landing.tar
        ;;
    *) diff -rq straight landing ;;
    esac
}

# What is never the same twice does not count.
trim_stats() { # FOLDER
    [ ! -f "$1/stats.json" ] || sed -i 's/"elapsed_s":.*//' "$1/stats.json"
}

begin() { # KIND: false where this build does not write it
    fault=''
    rm -rf straight landing
    job "$1" straight > straight.log 2>&1
    begun=$?
    if grep -q 'not written by this build' straight.log; then
        skip "$1" "this build does not write it"
        return 1
    fi
    is "$1: the straight run ends well" "$begun" 0
    # shellcheck disable=SC2034 # for kill_often
    elapsed_s=$(sed 's/.*"elapsed_s":\([0-9.]*\).*/\1/' straight/stats.json)
    trim_stats straight
}

# What has a final name in landing and is not what the straight run has there.
not_whole() {
    [ ! -d landing ] ||
        diff -rq -x '.*' -x stats.json -x '*.mdb' landing straight 2>&1 |
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
    elif grep -q '^close .*\.mdb' struck && [ "$status" -eq 0 ]; then
        : # liblmdb does not look at that: what is committed is synced before
    else
        [ "$status" -eq 1 ] || echo "status $status instead of 1"
        read -r said < err
        case $said in
        prx-*": error: landing"*": $(reason "$2")") ;;
        *) echo "is said as: $said" ;;
        esac
        [ ! -d landing ] || no_leftovers landing || echo "leaves a temporary file"
    fi
    not_whole
    conclude "$1"
}

# What is wrong with the end of a run that is resumed, and now left in peace.
conclude() { # KIND
    fault=''
    job "$1" landing --resume > resume.log 2>&1 ||
        echo "cannot be resumed: $(cat resume.log)"
    trim_stats landing
    differ "$1"
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
        wrong=$(differ "$1")
        [ $status -eq 0 ] && [ -z "$wrong" ] || bad="$bad
# $2 at $k, $(cat struck): status $status, $(cat err), $wrong"
        k=$((k + 1))
    done
    tell "$1: $2" $((k - 1)) "$bad"
}

# Each fourth run, at the latest, is left to come to its end.
kill_often() { # KIND
    delays=$(awk -v n="$KILLS" -v seed="$SEED" -v s="$elapsed_s" 'BEGIN {
        for (srand(seed); n > 0; n--) printf "%.3f ", s * rand() }')
    n_runs=0
    n_killed=0
    n_ended=0
    bad=''
    rm -rf landing
    for delay in $delays; do
        launch='exec'
        kill_after "$delay" job "$1" landing --resume > out 2> err
        launch=''
        n_runs=$((n_runs + 1))
        wrong=$(not_whole)
        if [ "$status" -eq 137 ]; then
            n_killed=$((n_killed + 1))
            [ $((n_runs % 4)) -ne 0 ] || wrong=$wrong$(conclude "$1")
        elif [ "$status" -eq 0 ]; then
            trim_stats landing
            wrong=$wrong$(differ "$1")
        else
            wrong="status $status, $(cat err)"
        fi
        if [ "$status" -ne 137 ] || [ $((n_runs % 4)) -eq 0 ]; then
            n_ended=$((n_ended + 1))
            rm -rf landing
        fi
        [ -z "$wrong" ] || bad="$bad
# after $delay s: $wrong"
    done
    is "$1: $n_killed runs killed, $n_ended ended as if none had been" "$bad" ""
    is "$1: some were killed" "$((4 * n_killed > n_runs))" 1
}
