/* SPDX-License-Identifier: Apache-2.0 */
/* bench_latents DEST N SIDE - N samples with a float16 latent of [16, SIDE, SIDE]. */
#include <stdio.h>
#include <stdlib.h>

#include "libdata/npy.h"
#include "libdata/rng.h"
#include "libdata/sink.h"

enum { N_CHANNELS = 16 };

static int put(struct prx_sink *sink, struct prx_sample *sample, uint64_t i,
               int64_t side, uint16_t *values)
{
    const int64_t dims[] = {N_CHANNELS, side, side};
    struct prx_buf *bytes;
    char key[24];

    snprintf(key, sizeof(key), "%09llu", (unsigned long long)i);
    prx_sample_reset(sample);
    sample->serial = i;
    PRX_TRY(prx_sample_set_key(sample, key));
    values[0] = (uint16_t)(i % 0x3c00); /* finite, and not all the same */
    PRX_TRY(prx_npy_format(PRX_NPY_F16, 3, dims, values, &bytes));
    PRX_TRY(prx_sample_put(sample, "latent.npy", bytes));
    return prx_sink_put(sink, sample);
}

static int make(const char *dest, uint64_t n, int64_t side)
{
    const struct prx_sink_opts opts = {.exists = PRX_SINK_OVERWRITE,
                                       .no_sync = true,
                                       .no_dali_index = true,
                                       .n_shard_bytes_max = (uint64_t)64 << 20};
    size_t n_values = (size_t)(N_CHANNELS * side * side);
    uint16_t *values = calloc(n_values, sizeof(*values));
    struct prx_sample sample = {0};
    struct prx_sink *sink = NULL;
    struct prx_rng rng;
    uint64_t n_done;
    int rc = 0;

    PRX_BUG_IF(!values);
    prx_rng_init(&rng, 1, PRX_RNG_TEST, 0, 0);
    for (size_t i = 0; i < n_values; i++)
        values[i] = prx_f16_from_f32(prx_rng_uniform(&rng));
    PRX_GO(prx_sink_open(dest, &opts, &n_done, &sink));
    for (uint64_t i = 0; i < n; i++)
        PRX_GO(put(sink, &sample, i, side, values));
    rc = prx_sink_finish(sink, NULL, NULL);
    sink = NULL;
out:
    prx_sink_abort(sink);
    prx_sample_release(&sample);
    free(values);
    return rc;
}

int main(int argc, char **argv)
{
    if (argc != 4) {
        fprintf(stderr, "usage: bench_latents DEST N SIDE\n");
        return 2;
    }
    if (make(argv[1], strtoull(argv[2], NULL, 10), strtoll(argv[3], NULL, 10)) < 0) {
        fprintf(stderr, "bench_latents: %s\n", prx_err_message());
        return 1;
    }
    return 0;
}
