/* SPDX-License-Identifier: Apache-2.0 */
/* One sample's parts: found, read, drawn. */
#include "libdata/loader/loader_internal.h"

#include <errno.h>
#include <fcntl.h>
#include <stdatomic.h>
#include <unistd.h>

#include "libdata/rng.h"

void prx_loader_files_release(struct loader_files *files)
{
    for (size_t i = 0; i < LOADER_OPEN_FILES; i++)
        if (files->slots[i].fd > 0)
            close(files->slots[i].fd);
    *files = (struct loader_files){0};
}

/* Each path has one slot that it may be open in. */
static int open_file(struct loader_files *files, const struct loader_index *index,
                     uint32_t i_path, int *out)
{
    int *fd = &files->slots[i_path % LOADER_OPEN_FILES].fd;

    if (*fd > 0 && files->slots[i_path % LOADER_OPEN_FILES].i_path != i_path) {
        close(*fd);
        *fd = 0;
    }
    if (*fd <= 0) {
        *fd = open(index->paths[i_path], O_RDONLY | O_CLOEXEC);
        if (*fd < 0) {
            *fd = 0;
            return prx_err_sys("%s", index->paths[i_path]);
        }
        files->slots[i_path % LOADER_OPEN_FILES].i_path = i_path;
    }
    *out = *fd;
    return 0;
}

int prx_loader_files_read(struct loader_files *files, const struct loader_index *index,
                          const struct loader_place *place, size_t n_bytes,
                          uint8_t *out)
{
    size_t n_done = 0;
    int fd = -1;

    PRX_TRY(open_file(files, index, place->i_path, &fd));
    while (n_done < n_bytes) {
        off_t at = (off_t)(place->offset_bytes + n_done);
        ssize_t n_got = pread(fd, out + n_done, n_bytes - n_done, at);
        if (n_got < 0 && errno == EINTR)
            continue;
        if (n_got < 0)
            return prx_err_sys("%s", index->paths[place->i_path]);
        if (n_got == 0)
            return prx_err(PRX_ECORRUPT, "%s: is shorter than it was",
                           index->paths[place->i_path]);
        n_done += (size_t)n_got;
    }
    return 0;
}

int prx_loader_part_read(struct loader_reader *reader, uint32_t i_sample, size_t i_part,
                         struct prx_buf **out)
{
    const struct loader_index *index = reader->index;
    const struct loader_place *place =
        &prx_loader_index_places(index, i_sample)[i_part];
    size_t i_cached = (size_t)i_sample * index->n_parts + i_part;
    struct prx_buf *bytes = NULL;

    if (reader->cache)
        bytes = atomic_load(&reader->cache[i_cached]);
    if (bytes) {
        *out = prx_buf_ref(bytes);
        return 0;
    }
    PRX_TRY(prx_buf_new(place->n_bytes, &bytes));
    int rc = prx_loader_files_read(&reader->files, index, place, place->n_bytes,
                                   bytes->bytes);
    if (rc < 0) {
        prx_buf_unref(bytes);
        return rc;
    }
    if (reader->cache) {
        struct prx_buf *empty = NULL;
        /* Another thread may have been faster; then its copy stays. */
        if (atomic_compare_exchange_strong(&reader->cache[i_cached], &empty, bytes))
            prx_buf_ref(bytes);
    }
    *out = bytes;
    return 0;
}

/* mean + deviation * noise, the noise drawn for this sample in this epoch. */
static void draw_latent(const float *deviation, uint64_t seed,
                        const struct prx_loader_draw *draw, size_t n, float *latent)
{
    struct prx_rng rng;
    float noise[64];

    prx_rng_init(&rng, seed, PRX_RNG_LATENT, draw->epoch, draw->sample);
    for (size_t i = 0; i < n; i++) {
        if (i % 64 == 0)
            prx_rng_normal(&rng, noise, n - i < 64 ? n - i : 64);
        latent[i] += deviation[i] * noise[i % 64];
    }
}

int prx_loader_latent_read(struct loader_reader *reader, uint32_t i_sample,
                           const struct prx_loader_draw *draw, float *out)
{
    const struct loader_index *index = reader->index;
    const struct loader_shape *wanted = &index->shapes[index->shape_ids[i_sample]];
    struct prx_buf *bytes = NULL;
    struct prx_str both = {0};
    struct loader_shape shape;
    struct prx_npy npy;
    int rc = 0;

    PRX_GO(prx_loader_part_read(reader, i_sample, 0, &bytes));
    PRX_GO(prx_npy_parse(bytes->bytes, bytes->n_bytes, &npy));
    PRX_GO(prx_loader_latent_shape(&npy, &shape));
    if (shape.channels != wanted->channels || shape.height != wanted->height ||
        shape.width != wanted->width) {
        rc = prx_err(PRX_ECORRUPT, "latent.npy: another shape than was listed");
        goto out;
    }
    if (npy.n_dims == 3) {
        rc = prx_npy_get_f32(&npy, out);
        goto out;
    }
    size_t n = npy.n_elements / 2;
    PRX_GO(prx_str_reserve(&both, npy.n_elements * sizeof(float)));
    float *values = (float *)(void *)both.bytes;
    PRX_GO(prx_npy_get_f32(&npy, values));
    for (size_t i = 0; i < n; i++)
        out[i] = values[i];
    draw_latent(values + n, reader->opts->seed, draw, n, out);
out:
    prx_str_release(&both);
    prx_buf_unref(bytes);
    return rc;
}

size_t prx_loader_caption_part(const struct loader_index *index,
                               const struct prx_loader_opts *opts, uint32_t i_sample,
                               const struct prx_loader_draw *draw)
{
    const struct loader_place *places = prx_loader_index_places(index, i_sample);
    size_t i_fallback = 0, i_last = 0;
    struct prx_rng rng;
    double sum = 0;

    /* Both draws are taken always, so that neither shifts the other. */
    prx_rng_init(&rng, opts->seed, PRX_RNG_CAPTION, draw->epoch, draw->sample);
    double for_dropout = (double)prx_rng_uniform(&rng);
    double for_choice = (double)prx_rng_uniform(&rng);
    if (for_dropout < opts->caption_dropout)
        return 0;
    for (size_t i = 1; i < index->n_parts; i++) {
        if (places[i].i_path == LOADER_ABSENT)
            continue;
        if (i_fallback == 0)
            i_fallback = i;
        sum += opts->caption_weights[i - 1];
    }
    for (size_t i = 1; i < index->n_parts; i++) {
        double weight = opts->caption_weights[i - 1];
        if (places[i].i_path == LOADER_ABSENT || weight <= 0)
            continue;
        i_last = i;
        if (for_choice * sum < weight)
            return i;
        for_choice -= weight / sum;
    }
    /* Rounding may leave a crumb behind the last one. */
    return i_last > 0 ? i_last : i_fallback;
}
