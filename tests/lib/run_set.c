/* SPDX-License-Identifier: Apache-2.0 */
#include "tests/lib/run_set.h"

#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>

#include <cmocka.h>

#include "libdata/npy.h"
#include "libdata/rng.h"
#include "libdata/sink.h"
#include "train/encoder.h"

static void put_array(struct prx_sample *sample, const char *name, int n_dims,
                      const int64_t *dims, struct prx_rng *rng)
{
    struct prx_buf *bytes;
    size_t n = 1;
    for (int i = 0; i < n_dims; i++)
        n *= (size_t)dims[i];
    float *values = calloc(n, sizeof(*values));
    assert_non_null(values);
    prx_rng_normal(rng, values, n);
    assert_int_equal(prx_npy_put_f32(PRX_NPY_F16, n_dims, dims, values, &bytes), 0);
    assert_int_equal(prx_sample_put(sample, name, bytes), 0);
    free(values);
}

void prx_run_set_write(const char *word)
{
    const struct prx_text_opts text_opts = {.width = 16};
    const struct prx_sink_opts opts = {.no_sync = true};
    struct prx_text_tower *tower;
    struct prx_sample sample = {0};
    struct prx_sink *sink;
    struct prx_vae *vae;
    uint64_t n_done;

    assert_int_equal(prx_vae_open("dct", &vae), 0);
    assert_int_equal(prx_text_tower_open("hash", &text_opts, &tower), 0);
    assert_int_equal(prx_sink_open(word, &opts, &n_done, &sink), 0);
    for (uint64_t i = 0; i < RUN_SET_N_SAMPLES; i++) {
        const int64_t latent[] = {16, i % 3 ? 4 : 2, i % 3 ? 4 : 8};
        const int64_t text[] = {2 + (int64_t)i % 4, 16};
        struct prx_rng rng;
        char key[16];
        prx_rng_init(&rng, 1, PRX_RNG_TEST, 0, i);
        snprintf(key, sizeof(key), "s%02d", (int)i);
        prx_sample_reset(&sample);
        assert_int_equal(prx_sample_set_key(&sample, key), 0);
        sample.serial = i;
        put_array(&sample, "latent.npy", 3, latent, &rng);
        put_array(&sample, "long.text.npy", 2, text, &rng);
        json_t *meta;
        assert_int_equal(prx_sample_meta(&sample, &meta), 0);
        json_object_set_new(meta, "encode",
                            json_pack("{s:{s:s}, s:{s:s}}", "latent.npy", "fingerprint",
                                      vae->fingerprint, "long.text.npy", "fingerprint",
                                      tower->fingerprint));
        sample.meta_changed = true;
        assert_int_equal(prx_sample_finish(&sample), 0);
        assert_int_equal(prx_sink_put(sink, &sample), 0);
    }
    assert_int_equal(prx_sink_finish(sink, NULL, NULL), 0);
    prx_sample_release(&sample);
    prx_text_tower_close(tower);
    prx_vae_close(vae);
}
