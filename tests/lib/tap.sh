# SPDX-License-Identifier: Apache-2.0
# shellcheck shell=sh
# What the test scripts share: a scratch folder of their own, and checks that
# print "ok" or "not ok".  Sourced as `. tests/lib/tap.sh`, from the root.
#
#   run CMD...            status=its status; its output in $T/out and $T/err
#   is NAME GOT WANT      are the words the same?
#   says NAME FILE REGEX  has the file such a line?
#   ok NAME CMD...        does the command succeed?
#   skip NAME WHY
#   kill_after S CMD...   kill -9 the command after S seconds; status, as of run
set -u
export LC_ALL=C TZ=UTC
unset RANK WORLD_SIZE SLURM_PROCID SLURM_NTASKS SLURM_ARRAY_TASK_ID \
    OMPI_COMM_WORLD_RANK OMPI_COMM_WORLD_SIZE PMI_RANK PMI_SIZE SLURM_STEP_NUM_TASKS \
    2> /dev/null

ROOT=$(pwd)
: "${BIN:=$ROOT/build/bin}" "${SAN:=}"
PATH=$BIN:$PATH
PHOTOS=$ROOT/manifests/demo/photos
T=$(mktemp -d)
n_tests=0
n_bad=0

finish() {
    chmod -R u+w "$T" 2> /dev/null
    rm -rf "$T"
    echo "1..$n_tests"
}
trap finish EXIT
trap 'exit 130' INT TERM
cd "$T" || exit 1

verdict() { # STATUS NAME
    n_tests=$((n_tests + 1))
    if [ "$1" -eq 0 ]; then
        printf 'ok %d - %s\n' "$n_tests" "$2"
    else
        printf 'not ok %d - %s\n' "$n_tests" "$2"
        n_bad=$((n_bad + 1))
    fi
}

run() {
    "$@" > "$T/out" 2> "$T/err"
    # shellcheck disable=SC2034 # for the scripts
    status=$?
}

ok() {
    ok_name=$1
    shift
    "$@" > "$T/ok.log" 2>&1
    ok_status=$?
    verdict "$ok_status" "$ok_name"
    [ "$ok_status" -eq 0 ] || sed 's/^/# /' "$T/ok.log"
}

is() {
    if [ "$2" = "$3" ]; then
        verdict 0 "$1"
    else
        verdict 1 "$1"
        printf '# got:  %s\n# want: %s\n' "$2" "$3"
        [ ! -s "$T/err" ] || sed 's/^/# stderr: /' "$T/err"
    fi
}

says() {
    if grep -qE -- "$3" "$2"; then
        verdict 0 "$1"
    else
        verdict 1 "$1"
        echo "# no line matches $3 in:"
        sed 's/^/# /' "$2"
    fi
}

skip() {
    n_tests=$((n_tests + 1))
    echo "ok $n_tests - $1 # SKIP $2"
}

# Run a program and kill it, so that nothing of it is left when this returns.
kill_after() { # SECONDS CMD...
    tap_delay=$1
    shift
    "$@" &
    tap_victim=$!
    sleep "$tap_delay"
    kill -9 $tap_victim 2> /dev/null
    wait $tap_victim 2> /dev/null
    # shellcheck disable=SC2034
    status=$?
}

# The first N photographs with their captions, in a new folder.
take_photos() { # N FOLDER
    mkdir -p "$2"
    for tap_photo in $(find "$PHOTOS" -name '*.jpg' | sort | head -n "$1"); do
        cp "${tap_photo%.jpg}".* "$2"
    done
}

# One digest of all files below a folder: their names and bytes.
digest() {
    (cd "$1" && find . -type f | sort | xargs -r sha256sum) | sha256sum | cut -d' ' -f1
}

# Is nothing there but what may stand under a final name?
no_leftovers() {
    [ -z "$(find "$1" -name '.*.tmp.*')" ]
}

all_passed() {
    [ "$n_bad" -eq 0 ]
}
