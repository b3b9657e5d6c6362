# SPDX-License-Identifier: Apache-2.0
# shellcheck shell=bash
# Completion of every prx tool out of its own --help: there is no list here that
# could fall behind.  Installed once, with a link by the name of each program.

# The options of a tool, one a line: "-o DEST", "--output DEST", "--no-sync".
_prx_options() {
    "$1" --help 2> /dev/null | sed -nE \
        -e 's/^  (-[[:alnum:]]), (--[[:alnum:]-]+)( [^ ]+)?( .*)?$/\1\3\n\2\3/p' \
        -e 's/^      (--[[:alnum:]-]+)( [^ ]+)?( .*)?$/\1\2/p'
}

_prx() {
    local word=$2 before=$3 options asked
    options=$(_prx_options "$1")
    # What the word before asks for: one of the words a|b|c, a file, or nothing.
    asked=$(awk -v before="$before" '$1 == before { print $2; exit }' <<< "$options")
    if [[ $asked == *'|'* && $asked != *[A-Z]* ]]; then
        mapfile -t COMPREPLY < <(compgen -W "${asked//|/ }" -- "$word")
    elif [[ $word == -* && -z $asked ]]; then
        mapfile -t COMPREPLY < <(compgen -W "${options//$'\n'/ }" -- "$word")
    else
        compopt -o filenames 2> /dev/null
        mapfile -t COMPREPLY < <(compgen -f -- "$word")
    fi
}

mapfile -t _prx_tools < <(compgen -c prx- | sort -u)
complete -F _prx "${BASH_SOURCE[0]##*/}" "${_prx_tools[@]}"
unset _prx_tools
