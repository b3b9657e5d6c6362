/* SPDX-License-Identifier: Apache-2.0 */
/*
 * A batch filled: latents decoded in place, captions gathered, then padded to the
 * longest.  The texts' bytes are held until that length is known.
 */
#include "libdata/loader/loader_internal.h"

#include <math.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

/* Lengths come in steps, so that few shapes of a batch exist. */
#define TOKEN_STEP          16
#define REPLACEMENTS_IN_ROW 16

int prx_loader_slot_init(struct loader_slot *slot, size_t n_batch)
{
    *slot = (struct loader_slot){
        .draws = calloc(n_batch, sizeof(*slot->draws)),
        .texts = calloc(n_batch, sizeof(*slot->texts)),
        .text_views = calloc(n_batch, sizeof(*slot->text_views)),
    };
    if (!slot->draws || !slot->texts || !slot->text_views) {
        prx_loader_slot_release(slot, n_batch);
        return prx_err_nomem("a batch");
    }
    return 0;
}

static void drop_texts(struct loader_slot *slot, size_t n_batch)
{
    for (size_t i = 0; slot->texts && i < n_batch; i++) {
        prx_buf_unref(slot->texts[i]);
        slot->texts[i] = NULL;
    }
}

void prx_loader_slot_release(struct loader_slot *slot, size_t n_batch)
{
    drop_texts(slot, n_batch);
    free(slot->draws);
    free(slot->texts);
    free(slot->text_views);
    free(slot->latent);
    free(slot->text);
    free(slot->mask);
    *slot = (struct loader_slot){0};
}

/*
 * Make room for @n elements of @n_element_bytes in *@array, a pointer of whatever
 * type, hence copied and not cast; contents are lost.
 */
static int reserve(void *array, size_t *cap, int64_t n, size_t n_element_bytes)
{
    void *elements;
    size_t n_bytes;

    if ((size_t)n <= *cap)
        return 0;
    if (__builtin_mul_overflow((size_t)n, n_element_bytes, &n_bytes))
        return prx_err_nomem("a batch");
    memcpy(&elements, array, sizeof(elements));
    free(elements);
    elements = malloc(n_bytes);
    memcpy(array, &elements, sizeof(elements));
    *cap = elements ? (size_t)n : 0;
    return elements ? 0 : prx_err_nomem("a batch");
}

static bool is_finite(const float *values, size_t n)
{
    /* The sum of x - x is 0 but where some x is not finite; this vectorises. */
    float sum = 0;

    for (size_t i = 0; i < n; i++)
        sum += values[i] - values[i];
    return sum == 0;
}

/* The same of an array that is not decoded yet: all ones in the exponent. */
static bool is_finite_npy(const struct prx_npy *npy)
{
    for (size_t i = 0; i < npy->n_elements; i++) {
        uint32_t bits = 0;
        if (npy->type == PRX_NPY_F16) {
            memcpy(&bits, npy->bytes + 2 * i, 2);
            if ((bits & 0x7c00) == 0x7c00)
                return false;
        } else {
            memcpy(&bits, npy->bytes + 4 * i, 4);
            if ((bits & 0x7f800000) == 0x7f800000)
                return false;
        }
    }
    return true;
}

/* --- one sample --------------------------------------------------------------- */

static size_t latent_count(const struct loader_shape *shape)
{
    return (size_t)(shape->channels * shape->height * shape->width);
}

static int fill_latent(struct loader_slot *slot, struct loader_reader *reader, size_t i,
                       uint32_t i_sample)
{
    size_t n = latent_count(&slot->shape);
    float *latent = slot->latent + i * n;
    const struct prx_loader_draw *draw = &slot->draws[reader->i_slice + i];

    PRX_TRY(prx_loader_latent_read(reader, i_sample, draw, latent));
    if (!is_finite(latent, n))
        return prx_err(PRX_ENONFINITE, "latent.npy: a value is not finite");
    return 0;
}

/* The bytes of the chosen caption; none for the null caption. */
static int gather_text(struct loader_slot *slot, struct loader_reader *reader, size_t i,
                       uint32_t i_sample)
{
    const struct prx_loader_opts *opts = reader->opts;
    struct prx_npy *npy = &slot->text_views[i];
    const struct prx_loader_draw *draw = &slot->draws[reader->i_slice + i];
    char name[LOADER_PART_NAME_BYTES];
    size_t i_part = prx_loader_caption_part(reader->index, opts, i_sample, draw);

    if (i_part == 0)
        return 0;
    PRX_TRY(prx_loader_part_read(reader, i_sample, i_part, &slot->texts[i]));
    PRX_TRY(prx_npy_parse(slot->texts[i]->bytes, slot->texts[i]->n_bytes, npy));
    prx_loader_part_name(opts, i_part, name);
    if (npy->n_dims != 2 || npy->dims[0] == 0 ||
        (npy->type != PRX_NPY_F16 && npy->type != PRX_NPY_F32))
        return prx_err(PRX_ECORRUPT, "%s: not [tokens, width] numbers", name);
    if (npy->dims[1] != opts->text_width)
        return prx_err(PRX_ESHAPE, "%s: states of width %lld, the model takes %lld",
                       name, (long long)npy->dims[1], (long long)opts->text_width);
    if (!is_finite_npy(npy))
        return prx_err(PRX_ENONFINITE, "%s: a value is not finite", name);
    return 0;
}

static int fill_sample(struct loader_slot *slot, struct loader_reader *reader, size_t i,
                       uint32_t i_sample)
{
    int rc = fill_latent(slot, reader, i, i_sample);
    if (rc == 0)
        rc = gather_text(slot, reader, i, i_sample);
    if (rc < 0) {
        prx_buf_unref(slot->texts[i]);
        slot->texts[i] = NULL;
        rc = prx_err_frame(rc, "%s", prx_loader_index_key(reader->index, i_sample));
    }
    return rc;
}

static uint32_t next_of_shape(const struct loader_index *index, uint32_t i_sample)
{
    uint32_t shape_id = index->shape_ids[i_sample];

    do
        i_sample = i_sample + 1 < index->n_samples ? i_sample + 1 : 0;
    while (index->shape_ids[i_sample] != shape_id);
    return i_sample;
}

/* Fill place @i with its sample, or with the next whole one of the same shape. */
static int fill_or_replace(struct loader_slot *slot, struct loader_reader *reader,
                           size_t i)
{
    uint32_t i_sample = slot->draws[reader->i_slice + i].sample;

    for (int n_tries = 0;; n_tries++) {
        int rc = fill_sample(slot, reader, i, i_sample);
        if (rc != PRX_ECORRUPT && rc != PRX_EFORMAT && rc != PRX_ENONFINITE)
            return rc;
        if (n_tries == REPLACEMENTS_IN_ROW)
            return prx_err(PRX_ECORRUPT, "%d damaged samples in a row, the last: %s",
                           n_tries + 1, prx_err_message());
        if (n_tries == 0)
            slot->n_replaced++;
        snprintf(slot->replaced_reason, sizeof(slot->replaced_reason), "%s",
                 prx_err_message());
        i_sample = next_of_shape(reader->index, i_sample);
    }
}

/* --- the batch ----------------------------------------------------------------- */

static int64_t n_tokens_of(const struct loader_slot *slot,
                           const struct prx_loader_opts *opts, size_t i)
{
    int64_t n = slot->texts[i] ? slot->text_views[i].dims[0] : opts->n_null_tokens;

    return n < opts->n_text_tokens_max ? n : opts->n_text_tokens_max;
}

static int fill_text(struct loader_slot *slot, const struct loader_reader *reader)
{
    const struct prx_loader_opts *opts = reader->opts;
    int64_t n_slice = (int64_t)reader->n_slice, width = opts->text_width, n_longest = 0;

    for (size_t i = 0; i < reader->n_slice; i++) {
        int64_t n = n_tokens_of(slot, opts, i);
        n_longest = n > n_longest ? n : n_longest;
    }
    slot->n_tokens = (n_longest + TOKEN_STEP - 1) / TOKEN_STEP * TOKEN_STEP;
    if (slot->n_tokens > opts->n_text_tokens_max)
        slot->n_tokens = opts->n_text_tokens_max;
    PRX_TRY(reserve(&slot->text, &slot->cap_text, n_slice * slot->n_tokens * width,
                    sizeof(float)));
    PRX_TRY(reserve(&slot->mask, &slot->cap_mask, n_slice * slot->n_tokens,
                    sizeof(int32_t)));
    memset(slot->text, 0, (size_t)(n_slice * slot->n_tokens * width) * sizeof(float));
    for (size_t i = 0; i < reader->n_slice; i++) {
        int64_t n = n_tokens_of(slot, opts, i);
        int32_t *mask = slot->mask + (int64_t)i * slot->n_tokens;
        float *text = slot->text + (int64_t)i * slot->n_tokens * width;
        for (int64_t j = 0; j < slot->n_tokens; j++)
            mask[j] = j < n;
        if (slot->texts[i]) {
            struct prx_npy npy = slot->text_views[i];
            npy.n_elements = (size_t)(n * width);
            PRX_TRY(prx_npy_get_f32(&npy, text));
        } else {
            memcpy(text, opts->null_states, (size_t)(n * width) * sizeof(float));
            slot->n_null++;
        }
    }
    return 0;
}

int prx_loader_slot_fill(struct loader_slot *slot, struct loader_reader *reader)
{
    const struct loader_index *index = reader->index;
    size_t n_slice = reader->n_slice;
    int rc = 0;

    slot->shape = index->shapes[index->shape_ids[slot->draws[0].sample]];
    slot->n_null = 0;
    slot->n_replaced = 0;
    PRX_GO(reserve(&slot->latent, &slot->cap_latent,
                   (int64_t)(n_slice * latent_count(&slot->shape)), sizeof(float)));
    for (size_t i = 0; i < n_slice; i++)
        PRX_GO(fill_or_replace(slot, reader, i));
    rc = fill_text(slot, reader);
out:
    drop_texts(slot, n_slice);
    return rc;
}
