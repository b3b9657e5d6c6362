/* SPDX-License-Identifier: Apache-2.0 */
/*
 * One pass over a source: what is there, where it lies, whether it fits.
 *
 * Everything that can be known without reading the arrays is checked here, before
 * the first step: parts, fingerprints, shapes.
 */
#include "libdata/loader/loader_internal.h"

#include <inttypes.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#define HEAD_BYTES       4096
#define N_SHAPES_MAX     65536
#define STANDARD_INPUT   "standard input" /* prx_source's name for "-" */
#define LATENT_BYTES_MAX ((uint64_t)1 << 30)

int prx_loader_index_init(struct loader_index *index, size_t n_parts)
{
    *index = (struct loader_index){.n_parts = n_parts};
    return prx_hasher_new(&index->hasher);
}

void prx_loader_index_release(struct loader_index *index)
{
    for (size_t i = 0; i < index->n_paths; i++)
        free(index->paths[i]);
    free(index->paths);
    free(index->key_offsets);
    free(index->shape_ids);
    free(index->places);
    free(index->shapes);
    prx_str_release(&index->keys);
    prx_hasher_free(index->hasher);
    *index = (struct loader_index){0};
}

const char *prx_loader_index_key(const struct loader_index *index, uint32_t i_sample)
{
    return index->keys.bytes + index->key_offsets[i_sample];
}

const struct loader_place *prx_loader_index_places(const struct loader_index *index,
                                                   uint32_t i_sample)
{
    return index->places + (size_t)i_sample * index->n_parts;
}

uint64_t prx_loader_index_bytes(const struct loader_index *index)
{
    uint64_t n_bytes = (uint64_t)index->cap_samples *
                       (sizeof(*index->key_offsets) + sizeof(*index->shape_ids) +
                        index->n_parts * sizeof(*index->places));

    for (size_t i = 0; i < index->n_paths; i++)
        n_bytes += strlen(index->paths[i]) + 1 + sizeof(char *);
    return n_bytes + index->keys.cap_bytes;
}

void prx_loader_part_name(const struct prx_loader_opts *opts, size_t i_part,
                          char out[LOADER_PART_NAME_BYTES])
{
    if (i_part == 0)
        snprintf(out, LOADER_PART_NAME_BYTES, "latent.npy");
    else
        snprintf(out, LOADER_PART_NAME_BYTES, "%s.text.npy",
                 opts->captions[i_part - 1]);
}

/* Grow *@array, a pointer of whatever type, to @n elements of @n_element_bytes. */
static int grow(void *array, size_t n, size_t n_element_bytes)
{
    void *elements;
    size_t n_bytes;

    if (__builtin_mul_overflow(n, n_element_bytes, &n_bytes))
        return prx_err_nomem("the index of samples");
    memcpy(&elements, array, sizeof(elements));
    elements = realloc(elements, n_bytes);
    if (!elements)
        return prx_err_nomem("the index of samples");
    memcpy(array, &elements, sizeof(elements));
    return 0;
}

static int reserve_sample(struct loader_index *index)
{
    if (index->n_samples < index->cap_samples)
        return 0;
    if (index->cap_samples >= UINT32_MAX / 2)
        return prx_err(PRX_EINVAL, "more than %" PRIu32 " samples", index->cap_samples);
    uint32_t cap = index->cap_samples ? index->cap_samples * 2 : 256;
    PRX_TRY(grow(&index->key_offsets, cap, sizeof(*index->key_offsets)));
    PRX_TRY(grow(&index->shape_ids, cap, sizeof(*index->shape_ids)));
    PRX_TRY(grow(&index->places, (size_t)cap * index->n_parts, sizeof(*index->places)));
    index->cap_samples = cap;
    return 0;
}

/* The number of @path; shards come in order, so the last few are enough to ask. */
static int find_path(struct loader_index *index, const char *path, uint32_t *out)
{
    for (size_t i = index->n_paths; i-- > 0 && i + 4 >= index->n_paths;) {
        if (strcmp(index->paths[i], path) == 0) {
            *out = (uint32_t)i;
            return 0;
        }
    }
    if (index->n_paths == index->cap_paths) {
        size_t cap = index->cap_paths ? index->cap_paths * 2 : 16;
        PRX_TRY(grow(&index->paths, cap, sizeof(*index->paths)));
        index->cap_paths = cap;
    }
    if (index->n_paths >= LOADER_ABSENT)
        return prx_err(PRX_EINVAL, "more files than an index holds");
    PRX_TRY(prx_strdup(path, &index->paths[index->n_paths]));
    *out = (uint32_t)index->n_paths++;
    return 0;
}

static int find_shape(struct loader_index *index, const struct loader_shape *shape,
                      uint32_t *out)
{
    for (size_t i = 0; i < index->n_shapes; i++) {
        if (memcmp(&index->shapes[i], shape, sizeof(*shape)) == 0) {
            *out = (uint32_t)i;
            return 0;
        }
    }
    if (index->n_shapes == N_SHAPES_MAX)
        return prx_err(PRX_EINVAL, "more than %d shapes of latents", N_SHAPES_MAX);
    PRX_TRY(grow(&index->shapes, index->n_shapes + 1, sizeof(*shape)));
    index->shapes[index->n_shapes] = *shape;
    *out = (uint32_t)index->n_shapes++;
    return 0;
}

int prx_loader_latent_shape(const struct prx_npy *npy, struct loader_shape *out)
{
    const int64_t *dims = npy->dims + (npy->n_dims == 4);

    if (npy->type != PRX_NPY_F32 && npy->type != PRX_NPY_F16)
        return prx_err(PRX_ECORRUPT, "an array of integers");
    if (npy->n_dims != 3 && !(npy->n_dims == 4 && npy->dims[0] == 2))
        return prx_err(PRX_ECORRUPT,
                       "an array that is neither [C, H, W] nor [2, C, H, W]");
    if (npy->n_elements == 0)
        return prx_err(PRX_ECORRUPT, "an array without elements");
    *out = (struct loader_shape){dims[0], dims[1], dims[2]};
    return 0;
}

/* --- one sample ------------------------------------------------------------- */

struct pass {
    struct loader_index *index;
    const struct prx_loader_opts *opts;
    struct loader_files files;
    struct loader_spool *spool; /* NULL until something must be spooled */
};

/* Whether meta.encode names @wanted as what made @part. */
static int check_fingerprint(struct prx_sample *sample, const char *part,
                             const char *wanted)
{
    json_t *meta;

    if (!wanted)
        return 0;
    PRX_TRY(prx_sample_meta(sample, &meta));
    const json_t *encode = json_object_get(json_object_get(meta, "encode"), part);
    const char *made_by = json_string_value(json_object_get(encode, "fingerprint"));
    if (made_by && strcmp(made_by, wanted) == 0)
        return 0;
    return prx_err(PRX_EINVAL,
                   "%s is stale: made by fingerprint %s, the recipe's encoder has %s;"
                   " encode the samples again",
                   part, made_by ? made_by : "none", wanted);
}

/* The parts of @sample that are there, in index order; NULL for absent ones. */
static int find_parts(const struct pass *pass, const struct prx_sample *sample,
                      const struct prx_field **fields)
{
    const struct prx_loader_opts *opts = pass->opts;
    char name[LOADER_PART_NAME_BYTES];
    bool has_caption = false;

    for (size_t i = 0; i < pass->index->n_parts; i++) {
        prx_loader_part_name(opts, i, name);
        fields[i] = prx_sample_find(sample, name);
        has_caption = has_caption || (i > 0 && fields[i]);
    }
    if (!fields[0])
        return prx_err(PRX_EINVAL, "no latent.npy; encode the samples first");
    if (!has_caption) {
        prx_loader_part_name(opts, 1, name);
        return prx_err(PRX_EINVAL, "no %s%s; encode the captions first", name,
                       opts->n_captions > 1 ? ", nor any other of data.captions" : "");
    }
    return 0;
}

/* The first bytes of the latent, from memory or disk. */
static int read_head(struct pass *pass, const struct prx_field *field, uint8_t *head,
                     size_t *n_head_bytes)
{
    size_t n = field->n_bytes < HEAD_BYTES ? (size_t)field->n_bytes : HEAD_BYTES;
    struct loader_place place = {.offset_bytes = field->offset_bytes};

    *n_head_bytes = n;
    if (field->bytes) {
        memcpy(head, field->bytes->bytes, n);
        return 0;
    }
    PRX_TRY(find_path(pass->index, field->path, &place.i_path));
    return prx_loader_files_read(&pass->files, pass->index, &place, n, head);
}

static int read_shape(struct pass *pass, const struct prx_field *field,
                      struct loader_shape *out)
{
    uint8_t head[HEAD_BYTES];
    size_t n_head_bytes;
    struct prx_npy npy;

    if (field->n_bytes > LATENT_BYTES_MAX)
        return prx_err(PRX_ECORRUPT, "a latent of %" PRIu64 " bytes", field->n_bytes);
    PRX_TRY(read_head(pass, field, head, &n_head_bytes));
    PRX_TRY(prx_npy_parse_head(head, n_head_bytes, (size_t)field->n_bytes, &npy));
    return prx_loader_latent_shape(&npy, out);
}

static int check_sample(struct pass *pass, struct prx_sample *sample,
                        const struct prx_field **fields, struct loader_shape *shape)
{
    const struct prx_loader_opts *opts = pass->opts;

    PRX_TRY(check_fingerprint(sample, "latent.npy", opts->latent_fingerprint));
    for (size_t i = 1; i < pass->index->n_parts; i++)
        if (fields[i])
            PRX_TRY(check_fingerprint(sample, fields[i]->name, opts->text_fingerprint));
    PRX_TRY(read_shape(pass, fields[0], shape));
    if (shape->channels != opts->latent_channels)
        return prx_err(PRX_EINVAL,
                       "latent.npy has %" PRId64 " channels, the model %" PRId64,
                       shape->channels, opts->latent_channels);
    return 0;
}

/* What the fingerprint of the whole covers: keys and the sizes of parts. */
static void add_to_fingerprint(struct loader_index *index,
                               const struct prx_sample *sample,
                               const struct prx_field **fields)
{
    prx_hasher_add(index->hasher, sample->key, strlen(sample->key) + 1);
    for (size_t i = 0; i < index->n_parts; i++) {
        uint64_t n_bytes = fields[i] ? fields[i]->n_bytes : UINT64_MAX;
        prx_hasher_add(index->hasher, &n_bytes, sizeof(n_bytes));
    }
}

static int add_sample(struct loader_index *index, const struct prx_sample *sample,
                      const struct prx_field **fields, const struct loader_shape *shape)
{
    PRX_TRY(reserve_sample(index));
    struct loader_place *places =
        index->places + (size_t)index->n_samples * index->n_parts;
    for (size_t i = 0; i < index->n_parts; i++) {
        places[i] = (struct loader_place){.i_path = LOADER_ABSENT};
        if (!fields[i])
            continue;
        places[i].offset_bytes = fields[i]->offset_bytes;
        places[i].n_bytes = (uint32_t)fields[i]->n_bytes;
        PRX_TRY(find_path(index, fields[i]->path, &places[i].i_path));
        index->n_part_bytes += fields[i]->n_bytes;
    }
    PRX_TRY(find_shape(index, shape, &index->shape_ids[index->n_samples]));
    index->key_offsets[index->n_samples] = index->keys.n_bytes;
    PRX_TRY(prx_str_add(&index->keys, sample->key, strlen(sample->key) + 1));
    add_to_fingerprint(index, sample, fields);
    index->n_samples++;
    return 0;
}

/* Damage is the sample's affair; anything else is the run's. */
static bool is_damage(int rc)
{
    return rc == PRX_ECORRUPT || rc == PRX_EFORMAT;
}

static int take_reject(struct pass *pass, const struct prx_sample *sample)
{
    /* A tool that feeds us has dropped its own bad samples: this is its death. */
    if (strcmp(sample->reject_stage, "read") == 0 && sample->origin &&
        strcmp(sample->origin, STANDARD_INPUT) == 0)
        return prx_err(PRX_ECORRUPT, "%s: the tool that writes it has failed",
                       sample->reject_reason);
    pass->index->n_rejected++;
    if (pass->opts->on_reject)
        pass->opts->on_reject(pass->opts->ctx, sample);
    return 0;
}

static int take_sample(struct pass *pass, struct prx_sample *sample)
{
    const struct prx_field *fields[1 + PRX_LOADER_CAPTIONS_MAX] = {0};
    struct loader_shape shape;
    bool is_at_rest = true;

    if (sample->reject_reason)
        return take_reject(pass, sample);
    PRX_TRY(find_parts(pass, sample, fields));
    for (size_t i = 0; i < pass->index->n_parts; i++) {
        if (!fields[i])
            continue;
        is_at_rest = is_at_rest && fields[i]->path;
        if (fields[i]->n_bytes > UINT32_MAX)
            prx_sample_reject(sample, "index", "%s of %" PRIu64 " bytes",
                              fields[i]->name, fields[i]->n_bytes);
    }
    int rc = check_sample(pass, sample, fields, &shape);
    if (is_damage(rc))
        prx_sample_reject(sample, "index", "%s", prx_err_message());
    else if (rc < 0)
        return rc;
    if (sample->reject_reason)
        return take_reject(pass, sample);
    if (is_at_rest)
        return add_sample(pass->index, sample, fields, &shape);
    if (pass->opts->is_spooled)
        return 0;
    if (!pass->spool)
        PRX_TRY(prx_loader_spool_open(pass->opts, &pass->spool));
    return prx_loader_spool_put(pass->spool, sample);
}

/* Take all of @source; the failure of a sample names it. */
static int take_source(struct pass *pass, struct prx_source *source)
{
    const struct prx_loader_opts *opts = pass->opts;
    struct prx_sample sample = {0};
    int rc = 0;

    for (;;) {
        PRX_GO(prx_source_next(source, &sample));
        if (rc == 0)
            break;
        uint64_t n_taken = sample.serial + 1;
        rc = take_sample(pass, &sample);
        if (rc < 0) {
            /* Reasons of the source name the shard themselves. */
            if (!sample.reject_reason && sample.key)
                rc = prx_err_frame(rc, "%s: %s", sample.origin, sample.key);
            goto out;
        }
        if (opts->on_sample && opts->on_sample(opts->ctx, n_taken) != 0) {
            rc = prx_err(PRX_ECANCELED, "stopped while samples were listed");
            goto out;
        }
    }
out:
    prx_sample_release(&sample);
    return rc;
}

/* Give back the room for more samples; where that fails, nothing is lost. */
static void trim(struct loader_index *index)
{
    size_t n = index->n_samples;

    if (n == 0 || grow(&index->key_offsets, n, sizeof(*index->key_offsets)) < 0 ||
        grow(&index->shape_ids, n, sizeof(*index->shape_ids)) < 0 ||
        grow(&index->places, n * index->n_parts, sizeof(*index->places)) < 0)
        return;
    index->cap_samples = index->n_samples;
}

int prx_loader_index_read(struct loader_index *index, struct prx_source *source,
                          const struct prx_loader_opts *opts)
{
    struct pass pass = {.index = index, .opts = opts};
    struct prx_source *spooled = NULL;
    int rc = 0;

    if (source)
        PRX_GO(take_source(&pass, source));
    if (pass.spool) {
        rc = prx_loader_spool_finish(pass.spool, &spooled);
        pass.spool = NULL;
        if (rc < 0)
            goto out;
    } else if (opts->is_spooled) {
        PRX_GO(prx_loader_spool_reopen(opts, &spooled));
    }
    if (spooled) {
        index->is_spooled = true;
        PRX_GO(take_source(&pass, spooled));
    }
    trim(index);
    if (index->n_samples == 0)
        rc = prx_err(PRX_ENOENT, "no samples to train on (%" PRIu64 " rejected)",
                     index->n_rejected);
out:
    prx_loader_spool_abort(pass.spool);
    prx_source_close(spooled);
    prx_loader_files_release(&pass.files);
    return rc;
}
