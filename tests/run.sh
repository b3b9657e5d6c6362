#!/bin/sh
# SPDX-License-Identifier: Apache-2.0
# `make check`: every test program in turn, a line for each, and at the end
# "N passed, N failed".  The output of what failed is shown.
#
# Environment, from the Makefile: BIN (the tools), B (the build folder), SAN.
# ONLY=PATTERN runs the programs whose name matches, as ONLY='cli/*'.
set -u
: "${BIN:=build/bin}" "${B:=build/release}" "${SAN:=}" "${ONLY:=*}"
BIN=$(cd "$BIN" && pwd)
export BIN B SAN
export LC_ALL=C ASAN_OPTIONS="${ASAN_OPTIONS:-detect_leaks=1}" \
    UBSAN_OPTIONS="${UBSAN_OPTIONS:-print_stacktrace=1:halt_on_error=1}"

limit_s=300
[ -z "$SAN" ] || limit_s=900
scratch=$(mktemp -d)
trap 'rm -rf "$scratch"' EXIT
trap 'exit 130' INT
trap 'exit 143' TERM
passed=0
failed=0

count() { # extended regular expression: lines of the output that match
    grep -cE "$1" "$scratch/out"
}

# Individual tests, as the program's own words tell them: cmocka's, ours.
count_tests() {
    n_ok=$(count '^\[       OK \]|^ok ')
    n_bad=$(count '^\[  FAILED  \] [^0-9]|^not ok |^FAIL ')
}

run() { # NAME COMMAND...
    name=$1
    shift
    # shellcheck disable=SC2254 # a pattern is wanted
    case $name in
    $ONLY) ;;
    *) return ;;
    esac
    timeout -k 10 "$limit_s" "$@" > "$scratch/out" 2>&1 < /dev/null
    status=$?
    count_tests
    if [ "$status" -eq 0 ] && [ "$n_bad" -eq 0 ]; then
        [ "$n_ok" -gt 0 ] || n_ok=1
        printf 'ok    %s (%d)\n' "$name" "$n_ok"
        grep -E '^(ok .*# SKIP|todo )' "$scratch/out" | sed 's/^/      | /'
    else
        [ "$n_bad" -gt 0 ] || n_bad=1
        if [ "$status" -eq 124 ]; then
            printf 'FAIL  %s (not done in %d s)\n' "$name" "$limit_s"
        else
            printf 'FAIL  %s (status %d)\n' "$name" "$status"
        fi
        tail -n 200 "$scratch/out" | sed 's/^/      | /'
    fi
    passed=$((passed + n_ok))
    failed=$((failed + n_bad))
}

for source in tests/unit/test_*.c tests/op/test_*.c; do
    program=${source#tests/}
    program=${program%.c}
    [ ! -f "$source" ] || run "$program" "$B/tests/$program"
done
[ ! -x "$B/tests/prx-golden" ] ||
    run golden "$B/tests/prx-golden" tests/golden --allow-todo
for script in tests/cli/*.sh tests/doc/*.sh; do
    name=${script#tests/}
    [ ! -f "$script" ] || run "${name%.sh}" sh "$script"
done

echo "$passed passed, $failed failed"
[ "$failed" -eq 0 ]
