#!/bin/sh
# SPDX-License-Identifier: Apache-2.0
# Print make variables for what this machine has: required libraries (their
# absence is an error that says what to install) and optional ones.
set -eu

CC=${CC:-gcc}
PKG_CONFIG=${PKG_CONFIG:-pkg-config}
cppflags='' libs='' cflags='' missing='' have='' lack=''
tmp=$(mktemp -d)
trap 'rm -rf "$tmp"' EXIT

required() { # pkg-config name
    if "$PKG_CONFIG" --exists "$1" 2>/dev/null; then
        cppflags="$cppflags $("$PKG_CONFIG" --cflags "$1")"
        libs="$libs $("$PKG_CONFIG" --libs "$1")"
        have="$have $1=$("$PKG_CONFIG" --modversion "$1")"
    else
        missing="$missing $1"
    fi
}

links() { # libs...: does a program with this header link?  Source on stdin.
    cat > "$tmp/t.c"
    "$CC" -o "$tmp/t" "$tmp/t.c" "$@" > /dev/null 2>&1
}

for p in libarchive libjpeg spng libwebp libwebpdemux lcms2 libxxhash jansson yaml-0.1; do
    required "$p"
done

if echo 'int main(void){return 0;}' | links -fopenmp; then
    cflags="$cflags -fopenmp" have="$have openmp"
else
    lack="$lack openmp"
fi

if [ "${ONEDNN:-1}" = 1 ] && echo '#include <dnnl.h>
int main(void){return (int)dnnl_sgemm(78,78,0,0,0,1.f,0,1,0,1,0.f,0,1);}' | links -ldnnl; then
    cppflags="$cppflags -DPRX_HAVE_ONEDNN=1" libs="$libs -ldnnl" have="$have onednn"
else
    lack="$lack onednn"
fi
# One matrix library is enough: OpenBLAS stands in where oneDNN is not there.
case $have in
*onednn*) ;;
*)
    if "$PKG_CONFIG" --exists openblas 2>/dev/null; then
        cppflags="$cppflags -DPRX_HAVE_CBLAS=1 $("$PKG_CONFIG" --cflags openblas)"
        libs="$libs $("$PKG_CONFIG" --libs openblas)"
        have="$have openblas"
    else
        lack="$lack openblas"
    fi
    ;;
esac

if [ "${CUDA:-1}" = 1 ] && command -v nvcc > /dev/null 2>&1; then
    nvcc=1
else
    nvcc=0
fi
lack="$lack cuda"
if [ "${MPI:-1}" = 1 ] && command -v mpicc > /dev/null 2>&1; then
    mpi=1
else
    mpi=0
fi
lack="$lack mpi"

if [ -n "$missing" ]; then
    echo "probe: not found by pkg-config:$missing" >&2
    echo "probe: run 'make deps', or install the packages that 'sh mk/deps.sh --list' names" >&2
    exit 1
fi

cat <<EOF
# ${KNOBS:-}
PROBE_CPPFLAGS :=$cppflags -DPRX_FEATURES_IN='"${have# }"' -DPRX_FEATURES_OUT='"${lack# }"'
PROBE_CFLAGS :=$cflags
PROBE_LIBS :=$libs
PROBE_NVCC := $nvcc
PROBE_MPI := $mpi
EOF
