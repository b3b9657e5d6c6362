#!/bin/sh
# SPDX-License-Identifier: Apache-2.0
# Install what is missing of what the build and the tests need.
#
#   sh mk/deps.sh          through apt-get (Debian, Ubuntu), or say what to install
#   sh mk/deps.sh --dev    with what `make lint` uses, and what is optional in the build
#   sh mk/deps.sh --list   only print the packages' names
#
# Asks no server and changes nothing where everything is there.
set -eu

# A package and the sign that it is there: pc:NAME is pkg-config's, cmd:NAME a
# program, hdr:NAME a header that the compiler finds.
wanted='gcc cmd:gcc
libc6-dev hdr:stdio.h
make cmd:make
pkg-config cmd:pkg-config
libarchive-dev pc:libarchive
libjpeg-dev pc:libjpeg
libspng-dev pc:spng
libwebp-dev pc:libwebp
liblcms2-dev pc:lcms2
libxxhash-dev pc:libxxhash
libjansson-dev pc:jansson
libyaml-dev pc:yaml-0.1
liblmdb-dev pc:lmdb
libcurl4-openssl-dev pc:libcurl
libcmocka-dev pc:cmocka
gnuplot-nox cmd:gnuplot
mandoc cmd:mandoc'
dev='g++ cmd:g++
clang-format cmd:clang-format
shellcheck cmd:shellcheck
nginx-light cmd:nginx
openssl cmd:openssl
openmpi-bin cmd:mpirun
libopenmpi-dev pc:ompi-c'
# One matrix library is enough: the first that this architecture's archive has.
matrix='libdnnl-dev hdr:dnnl.h
libopenblas-dev pc:openblas'

say() {
    echo "deps: $*" >&2
}

names() { # the first word of every line
    echo "$1" | while read -r package _; do
        echo "$package"
    done
}

is_there() {
    case $1 in
    cmd:*) command -v "${1#cmd:}" > /dev/null 2>&1 ;;
    pc:*) pkg-config --exists "${1#pc:}" 2> /dev/null ;;
    hdr:*) echo "#include <${1#hdr:}>" | gcc -E - > /dev/null 2>&1 ;;
    esac
}

missing() {
    echo "$wanted" | while read -r package sign; do
        is_there "$sign" || printf '%s ' "$package"
    done
}

has_matrix() {
    is_there hdr:dnnl.h || is_there pc:openblas
}

has_candidate() { # does the archive have it for this architecture?
    apt-cache policy "$1" 2> /dev/null | grep -q 'Candidate: [^(]'
}

apt() {
    set -- env DEBIAN_FRONTEND=noninteractive apt-get -q "$@"
    if [ "$(id -u)" -eq 0 ]; then
        "$@"
    elif command -v sudo > /dev/null 2>&1; then
        sudo "$@"
    else
        say "this needs root, and there is no sudo: $*"
        exit 1
    fi
}

case ${1:-} in
'') ;;
--dev)
    wanted="$wanted
$dev"
    ;;
--list)
    names "$wanted"
    names "$matrix" | head -n 1
    exit 0
    ;;
*)
    echo "usage: sh mk/deps.sh [--dev | --list]" >&2
    exit 2
    ;;
esac

packages=$(missing)
if [ -z "$packages" ] && has_matrix; then
    say "everything is there"
    exit 0
fi
if ! command -v apt-get > /dev/null 2>&1; then
    say "no apt-get here; install what these Debian packages hold:"
    names "$wanted" >&2
    names "$matrix" >&2
    say "not found: $packages"
    exit 1
fi

# A fresh container has no package lists, and old lists name files that are gone.
apt update || say "going on with the package lists that are there"
if ! has_matrix; then
    for package in $(names "$matrix"); do
        if has_candidate "$package"; then
            packages="$packages$package"
            break
        fi
    done
fi
say "installing $packages"
# shellcheck disable=SC2086 # a list of words
apt install -y --no-install-recommends $packages

packages=$(missing)
if [ -n "$packages" ]; then
    say "not found even after the installation: $packages"
    exit 1
fi
