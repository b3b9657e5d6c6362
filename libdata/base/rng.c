/* SPDX-License-Identifier: Apache-2.0 */
/* Philox4x32-10 and the distributions drawn from it. */
#include "libdata/rng.h"

#include <math.h>

void prx_philox(const uint32_t counter[4], const uint32_t key[2], uint32_t out[4])
{
    uint32_t c0 = counter[0], c1 = counter[1], c2 = counter[2], c3 = counter[3];
    uint32_t k0 = key[0], k1 = key[1];

    for (int round = 0; round < 10; round++) {
        uint64_t p0 = (uint64_t)0xD2511F53u * c0;
        uint64_t p1 = (uint64_t)0xCD9E8D57u * c2;
        c0 = (uint32_t)(p1 >> 32) ^ c1 ^ k0;
        c1 = (uint32_t)p1;
        c2 = (uint32_t)(p0 >> 32) ^ c3 ^ k1;
        c3 = (uint32_t)p0;
        k0 += 0x9E3779B9u;
        k1 += 0xBB67AE85u;
    }
    out[0] = c0;
    out[1] = c1;
    out[2] = c2;
    out[3] = c3;
}

void prx_rng_init(struct prx_rng *rng, uint64_t seed, enum prx_rng_purpose purpose,
                  uint32_t epoch, uint64_t sample)
{
    *rng = (struct prx_rng){
        .key = {(uint32_t)seed, (uint32_t)(seed >> 32)},
        .counter = {0, (uint32_t)purpose | epoch << 8, (uint32_t)sample,
                    (uint32_t)(sample >> 32)},
        .n_used = 4,
    };
}

uint32_t prx_rng_u32(struct prx_rng *rng)
{
    if (rng->n_used == 4) {
        prx_philox(rng->counter, rng->key, rng->block);
        rng->counter[0]++;
        rng->n_used = 0;
    }
    return rng->block[rng->n_used++];
}

uint64_t prx_rng_below(struct prx_rng *rng, uint64_t n)
{
    /* Reject the uneven top of the range, so that every residue is equal. */
    uint64_t limit = UINT64_MAX - UINT64_MAX % n;
    uint64_t draw;
    do {
        draw = (uint64_t)prx_rng_u32(rng) << 32;
        draw |= prx_rng_u32(rng);
    } while (draw >= limit);
    return draw % n;
}

float prx_rng_uniform(struct prx_rng *rng)
{
    return (float)(prx_rng_u32(rng) >> 8) * 0x1p-24f;
}

void prx_rng_normal(struct prx_rng *rng, float *out, size_t n)
{
    for (size_t i = 0; i < n; i += 2) {
        /* (0, 1]: the logarithm of the first draw must be finite. */
        double u = ((double)prx_rng_u32(rng) + 1.0) * 0x1p-32;
        double angle = 2.0 * M_PI * ((double)prx_rng_u32(rng) * 0x1p-32);
        double radius = sqrt(-2.0 * log(u));
        out[i] = (float)(radius * cos(angle));
        if (i + 1 < n)
            out[i + 1] = (float)(radius * sin(angle));
    }
}
