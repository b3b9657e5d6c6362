/* SPDX-License-Identifier: Apache-2.0 */
/*
 * hash.h - xxh3-128 as 32 hex digits: fingerprints of files, plans and parts; and
 * xxh3-64 where a number is wanted.
 */
#ifndef PRX_LIBDATA_HASH_H
#define PRX_LIBDATA_HASH_H

#include <stddef.h>
#include <stdint.h>

#include "libdata/err.h"

#ifdef __cplusplus
extern "C" {
#endif

#define PRX_HASH_HEX_BYTES 33 /* 32 digits and a NUL */

/** prx_hash_hex - XXH3 128 bits of @bytes, canonical (big-endian) hex. */
void prx_hash_hex(const void *bytes, size_t n_bytes, char out[PRX_HASH_HEX_BYTES]);

/** prx_hash_u64 - XXH3 64 bits of @bytes under @seed, for tables and draws. */
uint64_t prx_hash_u64(const void *bytes, size_t n_bytes, uint64_t seed);

struct prx_hasher; /* streaming form */

PRX_MUST_USE int prx_hasher_new(struct prx_hasher **out);
void prx_hasher_reset(struct prx_hasher *hasher);
void prx_hasher_add(struct prx_hasher *hasher, const void *bytes, size_t n_bytes);
void prx_hasher_hex(const struct prx_hasher *hasher, char out[PRX_HASH_HEX_BYTES]);
void prx_hasher_free(struct prx_hasher *hasher);

/** prx_hash_file - the hash of all bytes of the file at @path. */
PRX_MUST_USE int prx_hash_file(const char *path, char out[PRX_HASH_HEX_BYTES]);

#ifdef __cplusplus
}
#endif
#endif
