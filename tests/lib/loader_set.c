/* SPDX-License-Identifier: Apache-2.0 */
/* Sets of encoded samples for the tests of the loader. */
#include "tests/lib/loader_set.h"

#include <math.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "libdata/npy.h"
#include "libdata/sink.h"

static const float null_states[SET_N_NULL * SET_WIDTH] = {-1, -1, -1, -1,
                                                          -2, -2, -2, -2};
static const char *const caption_names[] = {"long", "short"};

const struct set_shape set_shapes[3] = {{4, 4}, {2, 8}, {8, 2}};

static const char current_json[] =
    "{\"encode\": {\"latent.npy\": {\"fingerprint\": \"vae\"},"
    " \"long.text.npy\": {\"fingerprint\": \"tower\"},"
    " \"short.text.npy\": {\"fingerprint\": \"tower\"}}}";
static const char stale_json[] =
    "{\"encode\": {\"latent.npy\": {\"fingerprint\": \"old\"}}}";

static void put_npy(struct prx_sample *sample, const char *name, enum prx_npy_type type,
                    int n_dims, const int64_t *dims, float value)
{
    struct prx_buf *bytes;
    size_t n = 1;

    for (int i = 0; i < n_dims; i++)
        n *= (size_t)dims[i];
    float *values = calloc(n, sizeof(*values));
    uint16_t *halves = calloc(n, sizeof(*halves));
    PRX_BUG_IF(!values || !halves);
    for (size_t i = 0; i < n; i++) {
        values[i] = value;
        halves[i] = prx_f16_from_f32(value);
    }
    const void *elements = type == PRX_NPY_F32 ? (void *)values : (void *)halves;
    PRX_BUG_IF(prx_npy_format(type, n_dims, dims, elements, &bytes) < 0);
    PRX_BUG_IF(prx_sample_put(sample, name, bytes) < 0);
    free(values);
    free(halves);
}

static void put_text(struct prx_sample *sample, const char *name, const char *text)
{
    struct prx_buf *bytes;

    PRX_BUG_IF(prx_buf_dup(text, strlen(text), &bytes) < 0);
    PRX_BUG_IF(prx_sample_put(sample, name, bytes) < 0);
}

static void put_latent(struct prx_sample *sample, int i, const struct set_shape *shape,
                       unsigned wrong)
{
    const int64_t dims[] = {2, wrong & SET_FOUR_CHANNELS ? 4 : SET_CHANNELS,
                            shape->height, shape->width};
    bool has_std = wrong & SET_HAS_STD;

    if (wrong & SET_BAD_LATENT)
        put_text(sample, "latent.npy", "this is no array");
    else if (!(wrong & SET_NO_LATENT))
        put_npy(sample, "latent.npy", i % 2 ? PRX_NPY_F32 : PRX_NPY_F16,
                has_std ? 4 : 3, has_std ? dims : dims + 1,
                wrong & SET_NAN_LATENT ? NAN : (float)i);
    if (wrong & SET_SHORT_LATENT) {
        struct prx_field *field = prx_sample_find(sample, "latent.npy");
        field->bytes->n_bytes -= 4;
        field->n_bytes -= 4;
    }
}

static void make_sample(struct prx_sample *sample, int i, const struct set_shape *shape,
                        unsigned wrong)
{
    const int64_t long_dims[] = {3 + i % 5,
                                 wrong & SET_WIDE_TEXT ? SET_WIDTH + 1 : SET_WIDTH};
    const int64_t short_dims[] = {1, SET_WIDTH};
    char key[32];

    prx_sample_reset(sample);
    snprintf(key, sizeof(key), "k%04d", i);
    PRX_BUG_IF(prx_sample_set_key(sample, key) < 0);
    sample->serial = (uint64_t)i;
    put_text(sample, "json", wrong & SET_STALE ? stale_json : current_json);
    put_latent(sample, i, shape, wrong);
    if (!(wrong & SET_NO_LONG))
        put_npy(sample, "long.text.npy", PRX_NPY_F16, 2, long_dims,
                wrong & SET_NAN_TEXT ? INFINITY : (float)i);
    if (!(wrong & SET_NO_SHORT))
        put_npy(sample, "short.text.npy", PRX_NPY_F32, 2, short_dims, (float)i + 0.5F);
}

void prx_set_write(const char *word, const struct set *set)
{
    const struct prx_sink_opts opts = {.n_shard_samples_max = 7, .no_sync = true};
    struct prx_sample sample = {0};
    struct prx_sink *sink;
    uint64_t n_done;

    PRX_BUG_IF(prx_sink_open(word, &opts, &n_done, &sink) < 0);
    for (int i = 0; i < set->n; i++) {
        make_sample(&sample, i, &set->shapes[(size_t)i % set->n_shapes],
                    set->wrong ? set->wrong[i] : 0);
        PRX_BUG_IF(prx_sink_put(sink, &sample) < 0);
    }
    PRX_BUG_IF(prx_sink_finish(sink, NULL, NULL) < 0);
    prx_sample_release(&sample);
}

int prx_set_open(const char *word, const struct prx_loader_opts *opts,
                 struct prx_loader **out)
{
    const struct prx_source_opts source_opts = {0};
    struct prx_source *source = NULL;

    PRX_BUG_IF(prx_source_open(&word, 1, &source_opts, &source) < 0);
    const struct prx_loader_set set = {source, 1};
    int rc = prx_loader_open(&set, 1, opts, out);
    prx_source_close(source);
    return rc;
}

void set_fixture_write(struct set_fixture *fixture, const struct set *set)
{
    *fixture = (struct set_fixture){
        .opts =
            {
                .n_batch = 4,
                .seed = 7,
                .shuffle = true,
                .n_threads = 2,
                .n_prefetch_bytes = 20000,
                .n_captions = 1,
                .captions = caption_names,
                .n_phases = 1,
                .phases = {{.weights = {1}}},
                .null_states = null_states,
                .n_null_tokens = SET_N_NULL,
                .text_width = SET_WIDTH,
                .n_text_tokens_max = 40,
                .latent_channels = SET_CHANNELS,
                .latent_fingerprint = "vae",
                .text_fingerprint = "tower",
            },
    };
    prx_scratch_open(&fixture->scratch);
    prx_set_write(prx_scratch_path(&fixture->scratch, "set/%06d.tar"), set);
}

int set_fixture_open(struct set_fixture *fixture)
{
    prx_loader_close(fixture->loader);
    fixture->loader = NULL;
    return prx_set_open(prx_scratch_path(&fixture->scratch, "set/index.json"),
                        &fixture->opts, &fixture->loader);
}

void set_fixture_close(struct set_fixture *fixture)
{
    prx_loader_close(fixture->loader);
    prx_scratch_close(&fixture->scratch);
}
