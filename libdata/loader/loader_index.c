/* SPDX-License-Identifier: Apache-2.0 */
/*
 * One pass over a source: what is there, where it lies, whether it fits.
 *
 * Everything that can be known without reading the arrays is checked here, before
 * the first step: parts, fingerprints, shapes.
 */
#include <inttypes.h>
#include <stdlib.h>
#include <string.h>

#include "libdata/loader/loader_internal.h"
#include "libdata/picture.h"

#define HEAD_BYTES      4096
#define STANDARD_INPUT  "standard input" /* prx_source's name for "-" */
#define ARRAY_BYTES_MAX ((uint64_t)1 << 30)

/* --- one sample ------------------------------------------------------------- */

struct pass {
    struct loader_catalog *catalog;
    const struct prx_loader_opts *opts;
    size_t i_set;
    struct prx_fit fit;
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

/* The parts of @sample that are there, by number; NULL for absent ones. */
static int find_parts(const struct pass *pass, const struct prx_sample *sample,
                      const struct prx_field **fields)
{
    const struct loader_layout *layout = &pass->catalog->layout;
    const struct prx_loader_opts *opts = pass->opts;
    char name[LOADER_PART_NAME_BYTES];
    bool has_caption = layout->n_captions == 0;

    for (size_t i = 0; i < layout->n_parts; i++) {
        prx_loader_part_name(opts, i, name);
        fields[i] =
            *name ? prx_sample_find(sample, name) : prx_sample_find_image(sample);
        if (i >= layout->i_captions && i < layout->i_features)
            has_caption |= fields[i] != NULL;
        else if (!fields[i])
            return prx_err(PRX_EINVAL, "no %s%s", *name ? name : "picture",
                           *name ? "; encode the samples first" : "");
    }
    if (has_caption)
        return 0;
    prx_loader_part_name(opts, layout->i_captions, name);
    return prx_err(PRX_EINVAL, "no %s%s; encode the captions first", name,
                   opts->n_captions > 1 ? ", nor any other of data.captions" : "");
}

/* The first bytes of a field, from memory or disk. */
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
    PRX_TRY(prx_loader_catalog_path(pass->catalog, field->path, &place.i_path));
    return prx_loader_files_read(&pass->files, pass->catalog, &place, n, head);
}

static int read_npy_head(struct pass *pass, const struct prx_field *field,
                         struct prx_npy *npy)
{
    uint8_t head[HEAD_BYTES];
    size_t n_head_bytes;

    if (field->n_bytes > ARRAY_BYTES_MAX)
        return prx_err(PRX_ECORRUPT, "%s of %" PRIu64 " bytes", field->name,
                       field->n_bytes);
    PRX_TRY(read_head(pass, field, head, &n_head_bytes));
    return prx_npy_parse_head(head, n_head_bytes, (size_t)field->n_bytes, npy);
}

static int find_latent_shape(struct pass *pass, const struct prx_field *field,
                             struct loader_shape *shape)
{
    int64_t dims[3];
    struct prx_npy npy;

    PRX_TRY(read_npy_head(pass, field, &npy));
    PRX_TRY(prx_loader_latent_dims(&npy, dims));
    shape->channels = dims[0];
    shape->height = dims[1];
    shape->width = dims[2];
    if (dims[0] != pass->opts->latent_channels)
        return prx_err(PRX_EINVAL,
                       "latent.npy has %" PRId64 " channels, the model %" PRId64,
                       dims[0], pass->opts->latent_channels);
    return 0;
}

/* As metadata tell, else as the picture does. */
static int find_picture_size(struct prx_sample *sample, struct prx_picture_size *size)
{
    json_t *meta;

    PRX_TRY(prx_sample_meta(sample, &meta));
    json_int_t width = json_integer_value(json_object_get(meta, "width"));
    json_int_t height = json_integer_value(json_object_get(meta, "height"));
    if (width <= 0 || height <= 0 || width > INT32_MAX || height > INT32_MAX)
        return prx_picture_size(sample, size);
    *size = (struct prx_picture_size){(int)width, (int)height};
    return 0;
}

/* What a picture becomes.  A square needs no look at it. */
static int find_image_shape(struct pass *pass, struct prx_sample *sample,
                            struct loader_shape *shape)
{
    const struct prx_fit_opts *opts = &pass->fit.opts;
    struct prx_picture_size size;
    struct prx_fit_plan plan;

    shape->image_width = shape->image_height = opts->size_px;
    if (opts->crop == PRX_CROP_CENTER && opts->max_upscale == 0)
        return 0;
    PRX_TRY(find_picture_size(sample, &size));
    int rc = prx_fit_plan(&pass->fit, size.width_px, size.height_px, 0, &plan);
    if (rc == PRX_EINVAL)
        return prx_err(PRX_ECORRUPT, "%s", prx_err_message());
    shape->image_width = plan.width_px;
    shape->image_height = plan.height_px;
    return rc;
}

static int check_sample(struct pass *pass, struct prx_sample *sample,
                        const struct prx_field **fields, struct loader_shape *shape)
{
    const struct prx_loader_opts *opts = pass->opts;
    const struct loader_layout *layout = &pass->catalog->layout;
    struct prx_npy npy;

    *shape = (struct loader_shape){0};
    if (layout->has_latent) {
        PRX_TRY(check_fingerprint(sample, "latent.npy", opts->latent_fingerprint));
        PRX_TRY(find_latent_shape(pass, fields[layout->i_latent], shape));
    }
    if (layout->has_image)
        PRX_TRY(find_image_shape(pass, sample, shape));
    for (size_t i = layout->i_captions; i < layout->i_features; i++)
        if (fields[i])
            PRX_TRY(check_fingerprint(sample, fields[i]->name, opts->text_fingerprint));
    for (size_t i = 0; i < layout->n_features; i++) {
        PRX_TRY(read_npy_head(pass, fields[layout->i_features + i], &npy));
        PRX_TRY(prx_loader_feature_dims(&npy, shape->feature_dims[i]));
    }
    return 0;
}

/* What the fingerprint of the whole covers: keys and the sizes of parts. */
static void add_to_fingerprint(struct loader_catalog *catalog,
                               const struct prx_sample *sample,
                               const struct prx_field **fields)
{
    prx_hasher_add(catalog->hasher, sample->key, strlen(sample->key) + 1);
    for (size_t i = 0; i < catalog->layout.n_parts; i++) {
        uint64_t n_bytes = fields[i] ? fields[i]->n_bytes : UINT64_MAX;
        prx_hasher_add(catalog->hasher, &n_bytes, sizeof(n_bytes));
    }
}

static int add_sample(struct loader_catalog *catalog, const struct prx_sample *sample,
                      const struct prx_field **fields, const struct loader_shape *shape)
{
    struct loader_place places[LOADER_PARTS_MAX];

    for (size_t i = 0; i < catalog->layout.n_parts; i++) {
        places[i] = (struct loader_place){.i_path = LOADER_ABSENT};
        if (!fields[i])
            continue;
        places[i].offset_bytes = fields[i]->offset_bytes;
        places[i].n_bytes = (uint32_t)fields[i]->n_bytes;
        PRX_TRY(prx_loader_catalog_path(catalog, fields[i]->path, &places[i].i_path));
    }
    add_to_fingerprint(catalog, sample, fields);
    return prx_loader_catalog_add(catalog, sample->key, shape, places);
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
    pass->catalog->n_rejected++;
    if (pass->opts->on_reject)
        pass->opts->on_reject(pass->opts->ctx, sample);
    return 0;
}

static int take_sample(struct pass *pass, struct prx_sample *sample)
{
    const struct prx_field *fields[LOADER_PARTS_MAX] = {0};
    struct loader_shape shape;
    bool is_at_rest = true;

    if (sample->reject_reason)
        return take_reject(pass, sample);
    PRX_TRY(find_parts(pass, sample, fields));
    for (size_t i = 0; i < pass->catalog->layout.n_parts; i++) {
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
        return add_sample(pass->catalog, sample, fields, &shape);
    if (pass->opts->is_spooled)
        return 0;
    if (!pass->spool)
        PRX_TRY(prx_loader_spool_open(pass->opts, pass->i_set, pass->catalog->n_sets,
                                      &pass->spool));
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

int prx_loader_index_read(struct loader_catalog *catalog, size_t i_set,
                          struct prx_source *source, const struct prx_loader_opts *opts)
{
    struct pass pass = {.catalog = catalog, .opts = opts, .i_set = i_set};
    struct prx_source *spooled = NULL;
    int rc = 0;

    PRX_GO(prx_fit_init(&pass.fit, &opts->image.fit));
    if (source) {
        PRX_GO(take_source(&pass, source));
        catalog->n_hidden += prx_source_hidden(source);
    }
    if (pass.spool) {
        rc = prx_loader_spool_finish(pass.spool, &spooled);
        pass.spool = NULL;
        if (rc < 0)
            goto out;
    } else if (opts->is_spooled) {
        PRX_GO(prx_loader_spool_reopen(opts, i_set, catalog->n_sets, &spooled));
    }
    if (spooled) {
        catalog->is_spooled = true;
        PRX_GO(take_source(&pass, spooled));
    }
    if (catalog->sets[i_set].n_samples == 0)
        rc = prx_err(PRX_ENOENT, "no samples to train on (%" PRIu64 " rejected)",
                     catalog->n_rejected);
out:
    prx_loader_spool_abort(pass.spool);
    prx_source_close(spooled);
    prx_loader_files_release(&pass.files);
    prx_fit_release(&pass.fit);
    return rc;
}
