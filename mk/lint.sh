#!/bin/sh
# SPDX-License-Identifier: Apache-2.0
# What a reviewer should not have to look for.  A line on standard error for each
# fault, and exit status 1; a check whose program is missing is skipped aloud.
set -u
export LC_ALL=C

scratch=$(mktemp -d)
trap 'rm -rf "$scratch"' EXIT
faults=$scratch/faults
: > "$faults"

fault() {
    printf 'lint: %s\n' "$*" >&2
    printf '%s\n' "$*" >> "$faults"
}

faults_from() { # every line of standard input is one
    while IFS= read -r line; do
        fault "$line"
    done
}

skip() {
    echo "lint: skipped: $*" >&2
}

has() {
    command -v "$1" > /dev/null 2>&1
}

files() { # NAME-PATTERN FOLDER...: of the folders that are there
    pattern=$1
    shift
    for folder; do
        [ ! -d "$folder" ] || find "$folder" -type f -name "$pattern"
    done | sort
}

sources() { # C files and headers, and what must be C++
    files '*.[ch]' libdata train kernels tools tests
    files '*.cc' libdata
}

public_headers() {
    find libdata train -maxdepth 1 -name '*.h' | sort
}

check_format() {
    # Other major versions lay out some lines otherwise.
    if ! has clang-format || ! clang-format --version | grep -q 'version 14\.'; then
        skip "formatting: no clang-format 14"
        return
    fi
    for file in $(sources); do
        clang-format "$file" | cmp -s - "$file" || fault "$file: not as clang-format has it"
    done
}

check_length() {
    for file in $(sources); do
        # Bytes of a character's continuation do not count.
        sed 's/[\x80-\xbf]//g' "$file" | awk -v file="$file" '
            length > 88 { printf "%s:%d: %d columns\n", file, NR, length }
            END { if (NR > 600) printf "%s: %d lines, more than 600\n", file, NR }'
    done | faults_from
}

check_heads() {
    for file in $(sources); do
        head -n 1 "$file" | grep -q '^/\* SPDX-License-Identifier: Apache-2.0 \*/$' ||
            fault "$file: does not begin with the licence line"
    done
}

# A lower layer never includes a higher one, nor a private header of another one.
check_arrows() {
    while read -r from forbidden; do
        files '*.[ch]*' "$from" | xargs -r grep -nE "^ *# *include \"($forbidden)/" |
            sed "s|\$|  (reversed: $from must not see it)|"
    done << 'ARROWS' | faults_from
libdata train|kernels|tools|tests
train kernels|tools|tests
kernels libdata|tools|tests
tools kernels|tests
ARROWS
    files '*.[ch]*' kernels | xargs -r grep -nE '^ *# *include "train/' |
        grep -v '"train/ops.h"' | faults_from
    files '*.[ch]' libdata train tools |
        xargs grep -nE '^ *# *include ".*_internal\.h"' |
        while IFS=: read -r file number text; do
            included=${text#*\"}
            included=${included%\"*}
            [ "${included%%/*}" = "${file%%/*}" ] ||
                echo "$file:$number: $included is private"
        done | faults_from
}

check_headers_alone() {
    has pkg-config || { skip "headers alone: no pkg-config"; return; }
    flags="-I. -D_XOPEN_SOURCE=700 -D_DEFAULT_SOURCE $(pkg-config --cflags jansson)"
    for header in $(public_headers) tools/opt.h tools/tool.h; do
        # shellcheck disable=SC2086 # a list of flags
        gcc -std=c11 -Wall -Wextra -Wpedantic -Werror $flags -fsyntax-only -x c "$header" ||
            fault "$header: does not compile alone"
    done
    has g++ || { skip "headers as C++: no g++"; return; }
    for header in $(public_headers); do
        # shellcheck disable=SC2086
        g++ -Wall -Wextra -Werror $flags -fsyntax-only -x c++ "$header" ||
            fault "$header: does not compile as C++"
    done
}

check_calls() {
    sources | xargs grep -nE \
        '(^|[^a-zA-Z0-9_>.])(strcpy|strcat|sprintf|vsprintf|strtok|gets|atoi|atof)\(' |
        sed 's/$/  (banned)/' | faults_from
    files '*.[ch]*' libdata train kernels |
        xargs grep -nE '(^|[^a-zA-Z0-9_>.])(exit|_exit|perror)\(' |
        sed 's/$/  (a library does not)/' | faults_from
    { files '*' libdata train kernels tools tests mk; echo Makefile; } |
        grep -vx -e 'mk/lint.sh' -e 'tests/golden/.*\.md' |
        xargs grep -nIwE 'TODO|FIXME|XXX' | sed 's/$/  (unfinished)/' | faults_from
}

check_manual() {
    for tool in tools/prx-*.c; do
        name=$(basename "$tool" .c)
        [ -f "man/$name.1" ] || fault "$name: has no manual page"
    done
    for page in man/prx*.1; do
        name=$(basename "$page" .1)
        [ -f "tools/$name.c" ] || fault "$page: has no tool"
    done
    has mandoc || { skip "manual pages: no mandoc"; return; }
    mandoc -T lint -W warning man/*.[157] 2>&1 | faults_from
}

check_shell() {
    has shellcheck || { skip "shell scripts: no shellcheck"; return; }
    find mk tests manifests -name '*.sh' | sort |
        xargs shellcheck -x -f gcc .ci/run mk/completion.bash | faults_from
}

check_format
check_length
check_heads
check_arrows
check_headers_alone
check_calls
check_manual
check_shell

n_faults=$(wc -l < "$faults")
echo "lint: $n_faults faults" >&2
[ "$n_faults" -eq 0 ]
