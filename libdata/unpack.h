/* SPDX-License-Identifier: Apache-2.0 */
/*
 * unpack.h - the bytes of a file that one of the usual programs has compressed.
 */
#ifndef PRX_LIBDATA_UNPACK_H
#define PRX_LIBDATA_UNPACK_H

#include <stdint.h>

#include "libdata/buf.h"
#include "libdata/err.h"

#ifdef __cplusplus
extern "C" {
#endif

/**
 * prx_unpack_file - what the file at @path holds: gzip, zstd or bzip2, by its bytes.
 *
 * Memory grows with what comes out, not with what the file announces.
 * Errors: PRX_ECORRUPT (damaged, cut off, or more than @n_bytes_max), PRX_EFORMAT
 *         (libarchive has no such filter), PRX_EIO, PRX_ENOENT, PRX_ENOMEM.
 */
PRX_MUST_USE int prx_unpack_file(const char *path, uint64_t n_bytes_max,
                                 struct prx_buf **out);

#ifdef __cplusplus
}
#endif
#endif
