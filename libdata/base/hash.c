/* SPDX-License-Identifier: Apache-2.0 */
/* xxh3: 128 bits in canonical hex, 64 bits as a number. */
#include "libdata/hash.h"

#include <fcntl.h>
#include <stdio.h>
#include <stdlib.h>
#include <unistd.h>

#include <xxhash.h>
/* The library's own choice among SSE2, AVX2 and AVX-512 as the program runs; the
 * header is installed only with a library that has it.  Three times as fast. */
#if defined(__x86_64__) && __has_include(<xxh_x86dispatch.h>)
# include <xxh_x86dispatch.h>
#endif

struct prx_hasher {
    XXH3_state_t *state;
};

static void put_hex(XXH128_hash_t hash, char out[PRX_HASH_HEX_BYTES])
{
    snprintf(out, PRX_HASH_HEX_BYTES, "%016llx%016llx", (unsigned long long)hash.high64,
             (unsigned long long)hash.low64);
}

void prx_hash_hex(const void *bytes, size_t n_bytes, char out[PRX_HASH_HEX_BYTES])
{
    put_hex(XXH3_128bits(bytes, n_bytes), out);
}

uint64_t prx_hash_u64(const void *bytes, size_t n_bytes, uint64_t seed)
{
    return XXH3_64bits_withSeed(bytes, n_bytes, seed);
}

int prx_hasher_new(struct prx_hasher **out)
{
    struct prx_hasher *hasher = malloc(sizeof(*hasher));
    if (!hasher)
        return prx_err_nomem("a hash state");
    hasher->state = XXH3_createState();
    if (!hasher->state) {
        free(hasher);
        return prx_err_nomem("a hash state");
    }
    XXH3_128bits_reset(hasher->state);
    *out = hasher;
    return 0;
}

void prx_hasher_reset(struct prx_hasher *hasher)
{
    XXH3_128bits_reset(hasher->state);
}

void prx_hasher_add(struct prx_hasher *hasher, const void *bytes, size_t n_bytes)
{
    XXH3_128bits_update(hasher->state, bytes, n_bytes);
}

void prx_hasher_hex(const struct prx_hasher *hasher, char out[PRX_HASH_HEX_BYTES])
{
    put_hex(XXH3_128bits_digest(hasher->state), out);
}

void prx_hasher_free(struct prx_hasher *hasher)
{
    if (!hasher)
        return;
    XXH3_freeState(hasher->state);
    free(hasher);
}

int prx_hash_file(const char *path, char out[PRX_HASH_HEX_BYTES])
{
    static const size_t n_chunk_bytes = 1 << 20;
    struct prx_hasher *hasher = NULL;
    char *chunk = malloc(n_chunk_bytes);
    int rc = 0;

    int fd = open(path, O_RDONLY | O_CLOEXEC);
    if (fd < 0) {
        rc = prx_err_sys("%s", path);
        goto out;
    }
    if (!chunk) {
        rc = prx_err_nomem("a read buffer");
        goto out;
    }
    PRX_GO(prx_hasher_new(&hasher));
    ssize_t n_got;
    while ((n_got = read(fd, chunk, n_chunk_bytes)) > 0)
        prx_hasher_add(hasher, chunk, (size_t)n_got);
    if (n_got < 0) {
        rc = prx_err_sys("%s", path);
        goto out;
    }
    prx_hasher_hex(hasher, out);
out:
    prx_hasher_free(hasher);
    if (fd >= 0)
        close(fd);
    free(chunk);
    return rc;
}
