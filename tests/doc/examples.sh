#!/bin/sh
# SPDX-License-Identifier: Apache-2.0
# The EXAMPLES of the manual pages work.
#
# A command is what follows "$ " there, with further lines after a backslash or a
# vertical bar at the end.  Those of one page run in their order in
# one folder, which at first holds photos/ and manifests/.
. tests/lib/tap.sh

commands() { # PAGE: one command a line
    mandoc -T ascii -O width=200 "$1" | sed "s/.$(printf '\b')//g" | awk '
        /^[A-Z]/ { is_in = ($0 == "EXAMPLES"); next }
        !is_in { next }
        /^ +\$ / { is_command = 1; sub(/^ +\$ /, "") }
        is_command {
            sub(/^ +/, "")
            is_command = sub(/\\$/, "") || /\|$/
            printf "%s%s", $0, is_command ? " " : "\n"
        }'
}

if ! command -v mandoc > /dev/null; then
    skip "examples of the manual pages" "no mandoc"
    exit 0
fi
for page in "$ROOT"/man/*.[157]; do
    folder=$T/$(basename "$page")
    take_photos 12 "$folder/photos"
    ln -s "$ROOT/manifests" "$folder/manifests"
    cd "$folder" || exit 1
    commands "$page" > "$T/commands"
    n_commands=$(wc -l < "$T/commands")
    case $page in
    *.1) is "${page##*/} has two examples or more" "$((n_commands >= 2))" 1 ;;
    esac
    while IFS= read -r command; do
        run sh -e -c "$command" < /dev/null
        is "${page##*/}: $command" "$status $(grep -c '^prx-[a-z]*: error: ' "$T/err")" "0 0"
    done < "$T/commands"
done
all_passed
