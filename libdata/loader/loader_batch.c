/* SPDX-License-Identifier: Apache-2.0 */
/*
 * A batch filled: arrays decoded and pictures made in place, captions gathered, then
 * padded to the longest.  The texts' bytes are held until that length is known.
 */
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "libdata/loader/loader_internal.h"

/* Lengths come in steps, so that few shapes of a batch exist. */
#define TOKEN_STEP          16
#define REPLACEMENTS_IN_ROW 16
#define ALIGN_BYTES         ((size_t)64)

/* --- memory --------------------------------------------------------------------- */

int prx_loader_slot_init(struct loader_slot *slot, size_t n_batch, size_t n_slice)
{
    *slot = (struct loader_slot){
        .draws = calloc(n_batch, sizeof(*slot->draws)),
        .outcomes = calloc(n_slice, sizeof(*slot->outcomes)),
        .texts = calloc(n_slice, sizeof(*slot->texts)),
        .text_views = calloc(n_slice, sizeof(*slot->text_views)),
    };
    return slot->draws && slot->outcomes && slot->texts && slot->text_views
               ? 0
               : prx_err_nomem("a batch");
}

static void memory_release(struct loader_memory *memory,
                           const struct prx_loader_opts *opts)
{
    if (opts->deallocate && memory->elements)
        opts->deallocate(opts->memory_ctx, memory->elements);
    else
        free(memory->elements);
    *memory = (struct loader_memory){0};
}

/* Make room for @n_bytes; contents are lost. */
static int memory_reserve(struct loader_memory *memory,
                          const struct prx_loader_opts *opts, size_t n_bytes)
{
    if (n_bytes <= memory->n_bytes)
        return 0;
    memory_release(memory, opts);
    n_bytes = (n_bytes + ALIGN_BYTES - 1) / ALIGN_BYTES * ALIGN_BYTES;
    memory->elements = opts->allocate ? opts->allocate(opts->memory_ctx, n_bytes)
                                      : aligned_alloc(ALIGN_BYTES, n_bytes);
    if (!memory->elements)
        return prx_err_nomem("a batch");
    memory->n_bytes = n_bytes;
    return 0;
}

static void drop_texts(struct loader_slot *slot, size_t n_slice)
{
    for (size_t i = 0; slot->texts && i < n_slice; i++) {
        prx_buf_unref(slot->texts[i]);
        slot->texts[i] = NULL;
    }
}

void prx_loader_slot_release(struct loader_slot *slot,
                             const struct prx_loader_opts *opts, size_t n_slice)
{
    drop_texts(slot, n_slice);
    free(slot->draws);
    free(slot->outcomes);
    free(slot->texts);
    free(slot->text_views);
    memory_release(&slot->latent, opts);
    memory_release(&slot->image, opts);
    memory_release(&slot->text, opts);
    memory_release(&slot->mask, opts);
    for (size_t i = 0; i < PRX_LOADER_FEATURES_MAX; i++)
        memory_release(&slot->features[i], opts);
    *slot = (struct loader_slot){0};
}

/* --- sizes, of one sample --------------------------------------------------------- */

static size_t n_latent(const struct loader_shape *shape)
{
    return (size_t)(shape->channels * shape->height * shape->width);
}

static size_t n_image(const struct loader_shape *shape)
{
    return (size_t)(3 * shape->image_height * shape->image_width);
}

static size_t n_feature(const struct loader_shape *shape, size_t i)
{
    return (size_t)(shape->feature_dims[i][0] * shape->feature_dims[i][1]);
}

static size_t image_value_bytes(const struct prx_loader_opts *opts)
{
    return opts->image.form == PRX_LOADER_IMAGE_U8 ? 1 : sizeof(float);
}

uint64_t prx_loader_slot_bytes(const struct loader_shape *shape,
                               const struct prx_loader_opts *opts, size_t n_slice)
{
    uint64_t n_bytes = n_latent(shape) * sizeof(float) +
                       n_image(shape) * image_value_bytes(opts);

    for (size_t i = 0; i < opts->n_features; i++)
        n_bytes += n_feature(shape, i) * sizeof(float);
    if (opts->n_captions > 0)
        n_bytes += (uint64_t)opts->n_text_tokens_max *
                   ((uint64_t)opts->text_width * sizeof(float) + sizeof(int32_t));
    return n_bytes * n_slice;
}

/* --- one sample ------------------------------------------------------------------- */

static int check_text(const struct prx_npy *npy, const struct prx_loader_opts *opts,
                      const char *name)
{
    if (npy->n_dims != 2 || npy->dims[0] == 0 ||
        (npy->type != PRX_NPY_F16 && npy->type != PRX_NPY_F32))
        return prx_err(PRX_ECORRUPT, "%s: not [tokens, width] numbers", name);
    if (npy->dims[1] != opts->text_width)
        return prx_err(PRX_ESHAPE, "%s: states of width %lld, the model takes %lld",
                       name, (long long)npy->dims[1], (long long)opts->text_width);
    if (!prx_npy_is_finite(npy))
        return prx_err(PRX_ENONFINITE, "%s: a value is not finite", name);
    return 0;
}

/* The bytes of the chosen caption; none for the null caption. */
static int gather_text(struct loader_slot *slot, struct loader_reader *reader,
                       const struct loader_reading *reading, size_t i)
{
    const struct prx_loader_opts *opts = reader->opts;
    const struct loader_layout *layout = &reader->catalog->layout;
    struct loader_outcome *outcome = &slot->outcomes[i];
    char name[LOADER_PART_NAME_BYTES];
    struct prx_buf *held;
    const uint8_t *bytes;

    outcome->caption =
        prx_loader_caption(opts, layout, reading, slot->k, &outcome->is_fallback);
    if (outcome->caption == LOADER_NULL_CAPTION)
        return 0;
    size_t i_part = layout->i_captions + (size_t)outcome->caption;
    size_t n_bytes = reading->places[i_part].n_bytes;
    PRX_TRY(prx_loader_part_read(reader, reading, i_part, &bytes, &held));
    if (!held)
        PRX_TRY(prx_buf_dup(bytes, n_bytes, &held));
    slot->texts[i] = held;
    prx_loader_part_name(opts, i_part, name);
    PRX_TRY(prx_npy_parse(held->bytes, n_bytes, &slot->text_views[i]));
    return check_text(&slot->text_views[i], opts, name);
}

static int read_arrays(struct loader_slot *slot, struct loader_reader *reader,
                       const struct loader_reading *reading, size_t i)
{
    const struct loader_layout *layout = &reader->catalog->layout;
    const struct loader_shape *shape = slot->shape;

    if (layout->has_latent)
        PRX_TRY(prx_loader_latent_read(
            reader, reading, (float *)slot->latent.elements + i * n_latent(shape)));
    if (layout->has_image)
        PRX_TRY(prx_loader_image_read(
            reader, reading,
            (uint8_t *)slot->image.elements +
                i * n_image(shape) * image_value_bytes(reader->opts)));
    for (size_t k = 0; k < layout->n_features; k++)
        PRX_TRY(prx_loader_feature_read(reader, reading, k,
                                        (float *)slot->features[k].elements +
                                            i * n_feature(shape, k)));
    return layout->n_captions > 0 ? gather_text(slot, reader, reading, i) : 0;
}

static int fill_sample(struct loader_slot *slot, struct loader_reader *reader, size_t i,
                       const struct prx_loader_draw *draw, uint32_t i_sample)
{
    struct loader_reading reading = {.i_sample = i_sample, .draw = draw};
    struct prx_str key = {0};

    PRX_TRY(prx_loader_catalog_places(reader->catalog, i_sample, reading.places));
    int rc = read_arrays(slot, reader, &reading, i);
    if (rc == 0)
        return 0;
    prx_buf_unref(slot->texts[i]);
    slot->texts[i] = NULL;
    struct prx_error error;
    prx_err_save(&error);
    if (prx_loader_catalog_key(reader->catalog, i_sample, &key) < 0)
        prx_str_reset(&key);
    prx_err_restore(&error);
    rc = prx_err_frame(rc, "%s", key.bytes ? key.bytes : "?");
    prx_str_release(&key);
    return rc;
}

static uint32_t next_of_shape(const struct loader_catalog *catalog, uint32_t i_sample)
{
    size_t shape_id = prx_loader_shape_id(catalog, i_sample);

    do
        i_sample = i_sample + 1 < catalog->n_samples ? i_sample + 1 : 0;
    while (prx_loader_shape_id(catalog, i_sample) != shape_id);
    return i_sample;
}

int prx_loader_slot_fill(struct loader_slot *slot, struct loader_reader *reader,
                         size_t i, const struct prx_loader_draw *draw, char *reason)
{
    uint32_t i_sample = draw->sample;

    slot->outcomes[i] = (struct loader_outcome){.caption = LOADER_NULL_CAPTION};
    for (int n_tries = 0;; n_tries++) {
        int rc = fill_sample(slot, reader, i, draw, i_sample);
        if (rc != PRX_ECORRUPT && rc != PRX_EFORMAT && rc != PRX_ENONFINITE)
            return rc;
        if (n_tries == REPLACEMENTS_IN_ROW)
            return prx_err(PRX_ECORRUPT, "%d damaged samples in a row, the last: %s",
                           n_tries + 1, prx_err_message());
        slot->outcomes[i].is_replaced = true;
        snprintf(reason, PRX_ERR_TEXT_BYTES, "%s", prx_err_message());
        i_sample = next_of_shape(reader->catalog, i_sample);
    }
}

/* --- the batch -------------------------------------------------------------------- */

int prx_loader_slot_begin(struct loader_slot *slot,
                          const struct loader_catalog *catalog,
                          const struct prx_loader_opts *opts, size_t n_slice,
                          uint64_t k)
{
    const struct loader_shape *shape =
        &catalog->shapes[prx_loader_shape_id(catalog, slot->draws[0].sample)];

    slot->k = k;
    slot->shape = shape;
    slot->n_claimed = slot->n_done = 0;
    slot->i_replaced = n_slice;
    slot->i_error = n_slice;
    PRX_TRY(memory_reserve(&slot->latent, opts,
                           n_slice * n_latent(shape) * sizeof(float)));
    PRX_TRY(memory_reserve(&slot->image, opts,
                           n_slice * n_image(shape) * image_value_bytes(opts)));
    for (size_t i = 0; i < opts->n_features; i++)
        PRX_TRY(memory_reserve(&slot->features[i], opts,
                               n_slice * n_feature(shape, i) * sizeof(float)));
    return 0;
}

static int64_t n_tokens_of(const struct loader_slot *slot,
                           const struct prx_loader_opts *opts, size_t i)
{
    int64_t n = slot->texts[i] ? slot->text_views[i].dims[0] : opts->n_null_tokens;

    return n < opts->n_text_tokens_max ? n : opts->n_text_tokens_max;
}

/* Row @i of text and mask. */
static int pad_text(struct loader_slot *slot, const struct prx_loader_opts *opts,
                    size_t i)
{
    int64_t n = n_tokens_of(slot, opts, i), width = opts->text_width;
    int32_t *mask = (int32_t *)slot->mask.elements + (int64_t)i * slot->n_tokens;
    float *text = (float *)slot->text.elements + (int64_t)i * slot->n_tokens * width;

    for (int64_t k = 0; k < slot->n_tokens; k++)
        mask[k] = k < n;
    memset(text + n * width, 0, (size_t)((slot->n_tokens - n) * width) * sizeof(*text));
    if (!slot->texts[i]) {
        memcpy(text, opts->null_states, (size_t)(n * width) * sizeof(*text));
        return 0;
    }
    struct prx_npy npy = slot->text_views[i];
    npy.n_elements = (size_t)(n * width);
    return prx_npy_get_f32(&npy, text);
}

int prx_loader_slot_finish(struct loader_slot *slot, const struct prx_loader_opts *opts,
                           size_t n_slice)
{
    int64_t n_longest = 0;
    int rc = 0;

    if (opts->n_captions == 0)
        return 0;
    for (size_t i = 0; i < n_slice; i++) {
        int64_t n = n_tokens_of(slot, opts, i);
        n_longest = n > n_longest ? n : n_longest;
    }
    slot->n_tokens = (n_longest + TOKEN_STEP - 1) / TOKEN_STEP * TOKEN_STEP;
    if (slot->n_tokens > opts->n_text_tokens_max)
        slot->n_tokens = opts->n_text_tokens_max;
    size_t n_rows = n_slice * (size_t)slot->n_tokens;
    PRX_GO(memory_reserve(&slot->text, opts,
                          n_rows * (size_t)opts->text_width * sizeof(float)));
    PRX_GO(memory_reserve(&slot->mask, opts, n_rows * sizeof(int32_t)));
    for (size_t i = 0; i < n_slice; i++)
        PRX_GO(pad_text(slot, opts, i));
out:
    drop_texts(slot, n_slice);
    return rc;
}
