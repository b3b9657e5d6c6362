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

for p in libarchive libjpeg spng libwebp libwebpdemux lcms2 libxxhash jansson yaml-0.1 \
    lmdb libcurl; do
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
# Open MPI tells its flags by pkg-config or by its compiler's wrapper.
mpi_cppflags='' mpi_libs='' mpi_version=''
if [ "${MPI:-1}" = 1 ] && "$PKG_CONFIG" --exists ompi-c 2>/dev/null; then
    mpi_cppflags=$("$PKG_CONFIG" --cflags ompi-c)
    mpi_libs=$("$PKG_CONFIG" --libs ompi-c)
    mpi_version=$("$PKG_CONFIG" --modversion ompi-c)
elif [ "${MPI:-1}" = 1 ] && mpicc --showme:compile > /dev/null 2>&1; then
    mpi_cppflags=$(mpicc --showme:compile)
    mpi_libs=$(mpicc --showme:link)
    mpi_version=$(mpicc --showme:version | sed 's/.*Open MPI \([0-9.]*\).*/\1/')
fi
# shellcheck disable=SC2086 # lists of flags
if [ -n "$mpi_libs" ] && echo '#include <mpi.h>
int main(void){return MPI_Init(0,0);}' | links $mpi_cppflags $mpi_libs; then
    cppflags="$cppflags -DPRX_HAVE_MPI=1 $mpi_cppflags" libs="$libs $mpi_libs"
    have="$have openmpi=$mpi_version"
else
    lack="$lack openmpi"
fi

# Arrow's C++ library, else the one inside an installed pyarrow, which has no plain
# .so names.  Its headers want C++17, newer ones C++20.
ldflags='' parquet_cxxflags='' parquet_libs='' parquet_version='' cxxflags=''
if [ "${PARQUET:-1}" = 1 ] && "$PKG_CONFIG" --exists parquet 2>/dev/null; then
    parquet_cxxflags=$("$PKG_CONFIG" --cflags parquet)
    parquet_libs=$("$PKG_CONFIG" --libs parquet)
    parquet_version=$("$PKG_CONFIG" --modversion parquet)
elif [ "${PARQUET:-1}" = 1 ]; then
    for python in ${PYTHON:-build/venv/bin/python python3}; do
        found=$("$python" -c 'import glob, pyarrow
folder = pyarrow.get_library_dirs()[0]
libs = [sorted(glob.glob(f"{folder}/lib{name}.so*"))[0] for name in ("parquet", "arrow")]
print(pyarrow.__version__, pyarrow.get_include(), folder, *libs)' 2>/dev/null) || continue
        # shellcheck disable=SC2086 # the words of one line
        set -- $found
        parquet_version=$1 parquet_cxxflags="-isystem $2" parquet_libs="$4 $5 -Wl,-rpath,$3"
        break
    done
fi
parquet=0
if [ -n "$parquet_libs" ]; then
    cat > "$tmp/t.cc" << 'EOF'
#include <arrow/api.h>
#include <arrow/io/file.h>
#include <parquet/arrow/reader.h>
int main() {
    arrow::CappedMemoryPool pool(arrow::system_memory_pool(), 1 << 20);
    auto file = arrow::io::ReadableFile::Open(std::string("/nonexistent"), &pool);
    parquet::arrow::FileReaderBuilder builder;
    return file.ok() && builder.Open(*file).ok();
}
EOF
    for standard in gnu++20 gnu++17; do
        # shellcheck disable=SC2086 # lists of flags
        if "${CXX:-g++}" -std=$standard $parquet_cxxflags -o "$tmp/t" "$tmp/t.cc" \
            $parquet_libs > /dev/null 2>&1 && "$tmp/t"; then
            parquet=1 cxxflags="-std=$standard $parquet_cxxflags"
            break
        fi
    done
fi
if [ $parquet = 1 ]; then
    cppflags="$cppflags -DPRX_HAVE_PARQUET=1" libs="$libs -ldl"
    ldflags="-Wl,--export-dynamic-symbol=prx_*" # for what is loaded later
    have="$have parquet=$parquet_version"
else
    lack="$lack parquet"
fi

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
PROBE_PARQUET := $parquet
PROBE_PARQUET_LIBS := $parquet_libs -lstdc++
PROBE_LDFLAGS := $ldflags
PROBE_CXXFLAGS :=$cxxflags
EOF
