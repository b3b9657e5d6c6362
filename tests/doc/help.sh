#!/bin/sh
# SPDX-License-Identifier: Apache-2.0
# A tool and its manual page say the same: synopsis and options.
. tests/lib/tap.sh

# The text of a page's section, without overstrikes.
section() { # PAGE SECTION
    mandoc -T ascii -O width=200 "$1" | sed "s/.$(printf '\b')//g" |
        awk -v want="$2" '/^[A-Z]/ { is_in = ($0 == want); next } is_in'
}

squeeze() { # one line, single blanks, none before dots
    tr -s ' \n' '  ' | sed 's/^ //; s/ $//; s/ \.\.\./.../g'
}

for program in "$BIN"/prx-*; do
    name=${program##*/}
    page=$ROOT/man/$name.1
    run "$program" --help
    is "$name --help succeeds" "$status" 0
    if [ ! -f "$page" ]; then
        verdict 1 "$name has a page"
        continue
    fi
    sed -nE 's/^  (-[[:alnum:]]), (--[a-z0-9-]+).*/\1\n\2/p; s/^      (--[a-z0-9-]+).*/\1/p' \
        out | sort > help.options
    # ".It Fl j , Fl -threads Ar N", or ".It Fl j , -threads Ar N".
    awk '/^\.It Fl/ {
        for (i = 2; i <= NF; i++)
            if ($i ~ /^[A-Z][a-z]$/) is_flag = $i == "Fl"
            else if (is_flag && $i != ",") print "-" $i
    }' "$page" | sort > page.options
    is "$name: the page has the options of --help" \
        "$(comm -3 help.options page.options | tr '\n\t' '  ')" ""
    if command -v mandoc > /dev/null; then
        # The page may have more forms behind it.
        usage=$(sed -n 's/^usage: //p' out | squeeze)
        synopsis=$(section "$page" SYNOPSIS | squeeze)
        case "$synopsis " in
        "$usage "*) synopsis=$usage ;;
        esac
        is "$name: the page has the synopsis of --help" "$synopsis" "$usage"
    else
        skip "$name: synopsis" "no mandoc"
    fi
done
all_passed
