/* SPDX-License-Identifier: Apache-2.0 */
/* One sample's parts: named, found, read, turned into numbers. */
#include <errno.h>
#include <fcntl.h>
#include <inttypes.h>
#include <stdatomic.h>
#include <stdio.h>
#include <string.h>
#include <unistd.h>

#include "libdata/loader/loader_internal.h"

struct loader_layout prx_loader_layout(const struct prx_loader_opts *opts)
{
    struct loader_layout layout = {
        .has_latent = opts->latent_channels > 0,
        .has_image = opts->image.form != PRX_LOADER_NO_IMAGE,
        .n_captions = opts->n_captions,
        .n_features = opts->n_features,
    };

    layout.i_image = layout.has_latent;
    layout.i_captions = layout.i_image + layout.has_image;
    layout.i_features = layout.i_captions + layout.n_captions;
    layout.n_parts = layout.i_features + layout.n_features;
    return layout;
}

void prx_loader_part_name(const struct prx_loader_opts *opts, size_t i_part,
                          char out[LOADER_PART_NAME_BYTES])
{
    const struct loader_layout layout = prx_loader_layout(opts);

    if (layout.has_latent && i_part == layout.i_latent)
        snprintf(out, LOADER_PART_NAME_BYTES, "latent.npy");
    else if (layout.has_image && i_part == layout.i_image)
        out[0] = '\0';
    else if (i_part < layout.i_features)
        snprintf(out, LOADER_PART_NAME_BYTES, "%s.text.npy",
                 opts->captions[i_part - layout.i_captions]);
    else
        snprintf(out, LOADER_PART_NAME_BYTES, "%s.feat.npy",
                 opts->features[i_part - layout.i_features]);
}

/* --- bytes ---------------------------------------------------------------------- */

void prx_loader_files_release(struct loader_files *files)
{
    for (size_t i = 0; i < LOADER_OPEN_FILES; i++)
        if (files->slots[i].fd > 0)
            close(files->slots[i].fd);
    *files = (struct loader_files){0};
}

/* Each path has one slot that it may be open in. */
static int open_file(struct loader_files *files, const struct loader_catalog *catalog,
                     uint32_t i_path, int *out)
{
    int *fd = &files->slots[i_path % LOADER_OPEN_FILES].fd;

    if (*fd > 0 && files->slots[i_path % LOADER_OPEN_FILES].i_path != i_path) {
        close(*fd);
        *fd = 0;
    }
    if (*fd <= 0) {
        *fd = open(catalog->paths[i_path], O_RDONLY | O_CLOEXEC);
        if (*fd < 0) {
            *fd = 0;
            return prx_err_sys("%s", catalog->paths[i_path]);
        }
        files->slots[i_path % LOADER_OPEN_FILES].i_path = i_path;
    }
    *out = *fd;
    return 0;
}

int prx_loader_files_read(struct loader_files *files,
                          const struct loader_catalog *catalog,
                          const struct loader_place *place, size_t n_bytes,
                          uint8_t *out)
{
    size_t n_done = 0;
    int fd = -1;

    PRX_TRY(open_file(files, catalog, place->i_path, &fd));
    while (n_done < n_bytes) {
        off_t at = (off_t)(place->offset_bytes + n_done);
        ssize_t n_got = pread(fd, out + n_done, n_bytes - n_done, at);
        if (n_got < 0 && errno == EINTR)
            continue;
        if (n_got < 0)
            return prx_err_sys("%s", catalog->paths[place->i_path]);
        if (n_got == 0)
            return prx_err(PRX_ECORRUPT, "%s: is shorter than it was",
                           catalog->paths[place->i_path]);
        n_done += (size_t)n_got;
    }
    return 0;
}

void prx_loader_reader_release(struct loader_reader *reader)
{
    prx_loader_files_release(&reader->files);
    prx_str_release(&reader->bytes);
    prx_str_release(&reader->values);
    if (reader->has_fitter)
        prx_fitter_release(&reader->fitter);
    reader->has_fitter = false;
}

static int read_to_cache(struct loader_reader *reader, const struct loader_place *place,
                         struct prx_buf *_Atomic *cached, struct prx_buf **held)
{
    struct prx_buf *bytes = atomic_load(cached), *empty = NULL;

    if (bytes) {
        *held = prx_buf_ref(bytes);
        return 0;
    }
    PRX_TRY(prx_buf_new(place->n_bytes, &bytes));
    int rc = prx_loader_files_read(&reader->files, reader->catalog, place,
                                   place->n_bytes, bytes->bytes);
    if (rc < 0) {
        prx_buf_unref(bytes);
        return rc;
    }
    /* Another thread may have been faster; then its copy stays. */
    if (atomic_compare_exchange_strong(cached, &empty, bytes))
        prx_buf_ref(bytes);
    *held = bytes;
    return 0;
}

int prx_loader_part_read(struct loader_reader *reader,
                         const struct loader_reading *reading, size_t i_part,
                         const uint8_t **bytes, struct prx_buf **held)
{
    const struct loader_place *place = &reading->places[i_part];

    *held = NULL;
    if (reader->cache) {
        size_t i = reading->i_sample * reader->catalog->layout.n_parts + i_part;
        PRX_TRY(read_to_cache(reader, place, &reader->cache[i], held));
        *bytes = (*held)->bytes;
        return 0;
    }
    prx_str_reset(&reader->bytes);
    PRX_TRY(prx_str_reserve(&reader->bytes, place->n_bytes));
    *bytes = (const uint8_t *)reader->bytes.bytes;
    return prx_loader_files_read(&reader->files, reader->catalog, place, place->n_bytes,
                                 (uint8_t *)reader->bytes.bytes);
}

/* --- numbers -------------------------------------------------------------------- */

static int check_finite(const struct prx_npy *npy, const char *what)
{
    return prx_npy_is_finite(npy)
               ? 0
               : prx_err(PRX_ENONFINITE, "%s: a value is not finite", what);
}

/* Are the elements floating-point numbers, and is there one? */
static int check_numbers(const struct prx_npy *npy)
{
    if (npy->type != PRX_NPY_F32 && npy->type != PRX_NPY_F16)
        return prx_err(PRX_ECORRUPT, "an array of integers");
    if (npy->n_elements == 0)
        return prx_err(PRX_ECORRUPT, "an array without elements");
    return 0;
}

int prx_loader_latent_dims(const struct prx_npy *npy, int64_t dims[3])
{
    PRX_TRY(check_numbers(npy));
    if (npy->n_dims != 3 && !(npy->n_dims == 4 && npy->dims[0] == 2))
        return prx_err(PRX_ECORRUPT,
                       "an array that is neither [C, H, W] nor [2, C, H, W]");
    memcpy(dims, npy->dims + (npy->n_dims == 4), 3 * sizeof(*dims));
    return 0;
}

int prx_loader_feature_dims(const struct prx_npy *npy, int64_t dims[2])
{
    PRX_TRY(check_numbers(npy));
    if (npy->n_dims != 1 && npy->n_dims != 2)
        return prx_err(PRX_ECORRUPT, "an array that is neither [D] nor [tokens, D]");
    dims[0] = npy->n_dims == 2 ? npy->dims[0] : 1;
    dims[1] = npy->dims[npy->n_dims - 1];
    return 0;
}

/* mean + deviation * noise, the noise drawn for this sample in this epoch. */
static void draw_latent(const float *deviation, uint64_t seed,
                        const struct prx_loader_draw *draw, size_t n, float *latent)
{
    struct prx_rng rng;
    float noise[64];

    prx_rng_init(&rng, seed, PRX_RNG_LATENT, draw->epoch, draw->id);
    for (size_t i = 0; i < n; i++) {
        if (i % 64 == 0)
            prx_rng_normal(&rng, noise, n - i < 64 ? n - i : 64);
        latent[i] += deviation[i] * noise[i % 64];
    }
}

static int decode_latent(struct loader_reader *reader, const struct prx_npy *npy,
                         const struct prx_loader_draw *draw, float *out)
{
    size_t n = npy->n_elements / 2;

    if (npy->n_dims == 3)
        return prx_npy_get_f32(npy, out);
    prx_str_reset(&reader->values);
    PRX_TRY(prx_str_reserve(&reader->values, npy->n_elements * sizeof(float)));
    float *values = (float *)(void *)reader->values.bytes;
    PRX_TRY(prx_npy_get_f32(npy, values));
    memcpy(out, values, n * sizeof(*out));
    draw_latent(values + n, reader->opts->seed, draw, n, out);
    return 0;
}

static const struct loader_shape *shape_of(const struct loader_reader *reader,
                                           uint32_t i_sample)
{
    const struct loader_catalog *catalog = reader->catalog;
    return &catalog->shapes[prx_loader_shape_id(catalog, i_sample)];
}

int prx_loader_latent_read(struct loader_reader *reader,
                           const struct loader_reading *reading, float *out)
{
    const struct loader_shape *wanted = shape_of(reader, reading->i_sample);
    size_t i_part = reader->catalog->layout.i_latent;
    struct prx_buf *held = NULL;
    const uint8_t *bytes;
    struct prx_npy npy;
    int64_t dims[3];
    int rc = 0;

    PRX_GO(prx_loader_part_read(reader, reading, i_part, &bytes, &held));
    PRX_GO(prx_npy_parse(bytes, reading->places[i_part].n_bytes, &npy));
    PRX_GO(prx_loader_latent_dims(&npy, dims));
    if (dims[0] != wanted->channels || dims[1] != wanted->height ||
        dims[2] != wanted->width) {
        rc = prx_err(PRX_ECORRUPT, "latent.npy: another shape than was listed");
        goto out;
    }
    PRX_GO(check_finite(&npy, "latent.npy"));
    rc = decode_latent(reader, &npy, reading->draw, out);
out:
    prx_buf_unref(held);
    return rc;
}

int prx_loader_feature_read(struct loader_reader *reader,
                            const struct loader_reading *reading, size_t i, float *out)
{
    const struct loader_shape *wanted = shape_of(reader, reading->i_sample);
    size_t i_part = reader->catalog->layout.i_features + i;
    char name[LOADER_PART_NAME_BYTES];
    struct prx_buf *held = NULL;
    const uint8_t *bytes;
    struct prx_npy npy;
    int64_t dims[2];
    int rc = 0;

    prx_loader_part_name(reader->opts, i_part, name);
    PRX_GO(prx_loader_part_read(reader, reading, i_part, &bytes, &held));
    PRX_GO(prx_npy_parse(bytes, reading->places[i_part].n_bytes, &npy));
    PRX_GO(prx_loader_feature_dims(&npy, dims));
    if (memcmp(dims, wanted->feature_dims[i], sizeof(dims)) != 0) {
        rc = prx_err(PRX_ECORRUPT, "%s: another shape than was listed", name);
        goto out;
    }
    PRX_GO(check_finite(&npy, name));
    rc = prx_npy_get_f32(&npy, out);
out:
    prx_buf_unref(held);
    return rc;
}
