/* SPDX-License-Identifier: Apache-2.0 */
/*
 * What samples there are, kept on disk so that memory does not grow with them.
 *
 * A record is fixed in size: the place of the key, then those of the parts.  Records
 * and keys go to two files without names; reading one back is a pread(2) of what the
 * page cache nearly always has.  In memory stay shards, shapes and paths, and the shape
 * of each sample where there are several.
 */
#include <errno.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

#include "libdata/loader/loader_internal.h"
#include "libdata/outfile.h"

#define PENDING_BYTES     ((size_t)256 << 10)
#define N_SHAPES_MAX      UINT16_MAX
#define SHARD_SAMPLES_MAX 4096
/* The "path" of samples that are files of their own: neighbours lie together. */
#define WHOLE_FILES (UINT32_MAX - 1)

/* --- files ---------------------------------------------------------------------- */

static int file_open(struct loader_file *file)
{
    *file = (struct loader_file){.fd = -1};
    return prx_temp_open(NULL, &file->fd);
}

static void file_release(struct loader_file *file)
{
    if (file->fd >= 0)
        close(file->fd);
    prx_str_release(&file->pending);
    *file = (struct loader_file){.fd = -1};
}

static int file_flush(struct loader_file *file)
{
    PRX_TRY(prx_write_all(file->fd, "the index of samples", file->pending.bytes,
                          file->pending.n_bytes));
    prx_str_reset(&file->pending);
    return 0;
}

static int file_add(struct loader_file *file, const void *bytes, size_t n_bytes)
{
    PRX_TRY(prx_str_add(&file->pending, bytes, n_bytes));
    file->n_bytes += n_bytes;
    return file->pending.n_bytes < PENDING_BYTES ? 0 : file_flush(file);
}

/* As many of @n_bytes at @at_bytes as there are. */
static int file_read(const struct loader_file *file, uint64_t at_bytes, void *out,
                     size_t n_bytes, size_t *n_read)
{
    *n_read = 0;
    while (*n_read < n_bytes) {
        ssize_t n_got = pread(file->fd, (char *)out + *n_read, n_bytes - *n_read,
                              (off_t)(at_bytes + *n_read));
        if (n_got < 0 && errno == EINTR)
            continue;
        if (n_got < 0)
            return prx_err_sys("the index of samples");
        if (n_got == 0)
            break;
        *n_read += (size_t)n_got;
    }
    return 0;
}

/* --- the catalog ---------------------------------------------------------------- */

int prx_loader_grow(void *array, size_t n, size_t n_element_bytes)
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

int prx_loader_catalog_init(struct loader_catalog *catalog,
                            const struct prx_loader_opts *opts, size_t n_sets)
{
    *catalog = (struct loader_catalog){
        .layout = prx_loader_layout(opts),
        .records.fd = -1,
        .keys.fd = -1,
        .n_sets = n_sets,
    };
    catalog->sets = calloc(n_sets, sizeof(*catalog->sets));
    if (!catalog->sets)
        return prx_err_nomem("the index of samples");
    PRX_TRY(file_open(&catalog->records));
    PRX_TRY(file_open(&catalog->keys));
    return prx_hasher_new(&catalog->hasher);
}

void prx_loader_catalog_release(struct loader_catalog *catalog)
{
    for (size_t i = 0; i < catalog->n_paths; i++)
        free(catalog->paths[i]);
    free(catalog->paths);
    free(catalog->shape_ids);
    free(catalog->shapes);
    free(catalog->shards);
    free(catalog->sets);
    file_release(&catalog->records);
    file_release(&catalog->keys);
    prx_hasher_free(catalog->hasher);
    *catalog = (struct loader_catalog){.records.fd = -1, .keys.fd = -1};
}

/* Shards come in order, so the last few paths are enough to ask. */
int prx_loader_catalog_path(struct loader_catalog *catalog, const char *path,
                            uint32_t *out)
{
    for (size_t i = catalog->n_paths; i-- > 0 && i + 4 >= catalog->n_paths;) {
        if (strcmp(catalog->paths[i], path) == 0) {
            *out = (uint32_t)i;
            return 0;
        }
    }
    if (catalog->n_paths == catalog->cap_paths) {
        size_t cap = catalog->cap_paths ? catalog->cap_paths * 2 : 16;
        PRX_TRY(prx_loader_grow(&catalog->paths, cap, sizeof(*catalog->paths)));
        catalog->cap_paths = cap;
    }
    if (catalog->n_paths >= WHOLE_FILES)
        return prx_err(PRX_EINVAL, "more files than an index holds");
    PRX_TRY(prx_strdup(path, &catalog->paths[catalog->n_paths]));
    *out = (uint32_t)catalog->n_paths++;
    return 0;
}

static int find_shape(struct loader_catalog *catalog, const struct loader_shape *shape,
                      uint16_t *out)
{
    for (size_t i = 0; i < catalog->n_shapes; i++) {
        if (memcmp(&catalog->shapes[i], shape, sizeof(*shape)) == 0) {
            *out = (uint16_t)i;
            return 0;
        }
    }
    if (catalog->n_shapes == N_SHAPES_MAX)
        return prx_err(PRX_EINVAL, "more than %d shapes of samples", N_SHAPES_MAX);
    PRX_TRY(prx_loader_grow(&catalog->shapes, catalog->n_shapes + 1, sizeof(*shape)));
    catalog->shapes[catalog->n_shapes] = *shape;
    *out = (uint16_t)catalog->n_shapes++;
    return 0;
}

/* Note the shape of the sample being added; nothing is kept while there is only one. */
static int add_shape(struct loader_catalog *catalog, const struct loader_shape *shape)
{
    size_t i_sample = catalog->n_samples;
    uint16_t id = 0;

    PRX_TRY(find_shape(catalog, shape, &id));
    if (id == 0 && !catalog->shape_ids)
        return 0;
    if (i_sample >= catalog->cap_shape_ids) {
        size_t cap = i_sample < 512 ? 1024 : i_sample * 2;
        PRX_TRY(prx_loader_grow(&catalog->shape_ids, cap, sizeof(id)));
        memset(catalog->shape_ids + catalog->cap_shape_ids, 0,
               (cap - catalog->cap_shape_ids) * sizeof(id));
        catalog->cap_shape_ids = cap;
    }
    catalog->shape_ids[i_sample] = id;
    return 0;
}

static int begin_shard(struct loader_catalog *catalog)
{
    if (catalog->n_shards == catalog->cap_shards) {
        size_t cap = catalog->cap_shards ? catalog->cap_shards * 2 : 16;
        PRX_TRY(prx_loader_grow(&catalog->shards, cap, sizeof(*catalog->shards)));
        catalog->cap_shards = cap;
    }
    catalog->shards[catalog->n_shards++] =
        (struct loader_shard){.first_sample = catalog->n_samples};
    catalog->sets[catalog->i_set].n_shards++;
    return 0;
}

/* Count the sample in a shard: of its file, or of the files around it. */
static int join_shard(struct loader_catalog *catalog, const struct loader_place *places)
{
    const struct loader_set *set = &catalog->sets[catalog->i_set];
    uint32_t i_path = WHOLE_FILES;
    uint64_t n_bytes = 0;

    for (size_t i = 0; i < catalog->layout.n_parts; i++) {
        if (places[i].i_path == LOADER_ABSENT)
            continue;
        if (places[i].offset_bytes > 0)
            i_path = places[i].i_path;
        n_bytes += places[i].n_bytes;
    }
    if (set->n_samples == 0 || i_path != catalog->i_shard_path ||
        catalog->shards[catalog->n_shards - 1].n_samples == SHARD_SAMPLES_MAX) {
        PRX_TRY(begin_shard(catalog));
        catalog->i_shard_path = i_path;
    }
    catalog->shards[catalog->n_shards - 1].n_samples++;
    catalog->shards[catalog->n_shards - 1].n_bytes += n_bytes;
    catalog->n_part_bytes += n_bytes;
    return 0;
}

void prx_loader_catalog_begin(struct loader_catalog *catalog, size_t i_set,
                              double weight)
{
    catalog->i_set = i_set;
    catalog->sets[i_set] = (struct loader_set){
        .first_shard = (uint32_t)catalog->n_shards,
        .first_sample = catalog->n_samples,
        .weight = weight,
    };
}

int prx_loader_catalog_add(struct loader_catalog *catalog, const char *key,
                           const struct loader_shape *shape,
                           const struct loader_place *places)
{
    uint64_t key_place = catalog->keys.n_bytes;

    if (catalog->n_samples == UINT32_MAX)
        return prx_err(PRX_EINVAL, "more than %u samples", UINT32_MAX);
    PRX_TRY(join_shard(catalog, places));
    PRX_TRY(add_shape(catalog, shape));
    PRX_TRY(file_add(&catalog->keys, key, strlen(key) + 1));
    PRX_TRY(file_add(&catalog->records, &key_place, sizeof(key_place)));
    PRX_TRY(file_add(&catalog->records, places,
                     catalog->layout.n_parts * sizeof(*places)));
    catalog->sets[catalog->i_set].n_samples++;
    catalog->n_samples++;
    return 0;
}

int prx_loader_catalog_finish(struct loader_catalog *catalog)
{
    PRX_TRY(file_flush(&catalog->records));
    PRX_TRY(file_flush(&catalog->keys));
    prx_str_release(&catalog->records.pending);
    prx_str_release(&catalog->keys.pending);
    return 0;
}

static size_t record_bytes(const struct loader_catalog *catalog)
{
    return sizeof(uint64_t) + catalog->layout.n_parts * sizeof(struct loader_place);
}

static int read_record(const struct loader_catalog *catalog, uint32_t i_sample,
                       size_t skip_bytes, void *out, size_t n_bytes)
{
    size_t n_read;

    PRX_TRY(file_read(&catalog->records,
                      i_sample * (uint64_t)record_bytes(catalog) + skip_bytes, out,
                      n_bytes, &n_read));
    return n_read == n_bytes ? 0 : prx_err(PRX_EIO, "the index of samples is cut off");
}

int prx_loader_catalog_places(const struct loader_catalog *catalog, uint32_t i_sample,
                              struct loader_place *places)
{
    return read_record(catalog, i_sample, sizeof(uint64_t), places,
                       catalog->layout.n_parts * sizeof(*places));
}

int prx_loader_catalog_key(const struct loader_catalog *catalog, uint32_t i_sample,
                           struct prx_str *out)
{
    char key[PRX_KEY_BYTES_MAX + 1];
    uint64_t key_place;
    size_t n_read;

    PRX_TRY(read_record(catalog, i_sample, 0, &key_place, sizeof(key_place)));
    PRX_TRY(file_read(&catalog->keys, key_place, key, sizeof(key), &n_read));
    return prx_str_add(out, key, strnlen(key, n_read));
}

uint64_t prx_loader_catalog_bytes(const struct loader_catalog *catalog)
{
    uint64_t n_bytes = catalog->cap_shape_ids * sizeof(*catalog->shape_ids) +
                       catalog->n_shapes * sizeof(*catalog->shapes) +
                       catalog->cap_shards * sizeof(*catalog->shards);

    for (size_t i = 0; i < catalog->n_paths; i++)
        n_bytes += strlen(catalog->paths[i]) + 1 + sizeof(char *);
    return n_bytes;
}
