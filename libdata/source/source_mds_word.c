/* SPDX-License-Identifier: Apache-2.0 */
/*
 * What a word can name of MDS: an index, the folder it is in, or a tree of such folders
 * as TIER/ASPECT/index.json.
 *
 * A folder without an index is a tree where every folder in it is one of MDS, or such
 * a tree, and no picture lies beside them.  Keys made of names begin with the folders
 * between the tree and the shard.
 */
#include <dirent.h>
#include <errno.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>

#include "libdata/path.h"
#include "libdata/source/source_mds_internal.h"

#define N_LEVELS_MAX 3
#define SCHEME       "mds:"

static const char *const index_ends[] = {".json", NULL};

static bool is_folder(const char *path)
{
    struct stat st;
    return stat(path, &st) == 0 && S_ISDIR(st.st_mode);
}

static int compare_names(const void *a, const void *b)
{
    return strcmp(*(char *const *)a, *(char *const *)b);
}

/* Bytes of @path without the slashes at its end. */
static size_t folder_bytes(const char *path)
{
    size_t n = strlen(path);

    while (n > 1 && path[n - 1] == '/')
        n--;
    return n;
}

/* The paths of what is in @folder and not hidden, in byte order. */
static int list(const char *folder, struct prx_paths *out)
{
    struct prx_str path = {0};
    struct dirent *here;
    int rc = 0;
    DIR *dir = opendir(folder);

    if (!dir)
        return prx_err_sys("%s", folder);
    while ((here = readdir(dir))) {
        if (here->d_name[0] == '.')
            continue;
        prx_str_reset(&path);
        PRX_GO(prx_str_printf(&path, "%.*s/%s", (int)folder_bytes(folder), folder,
                              here->d_name));
        PRX_GO(prx_paths_add(out, path.bytes));
    }
    if (out->n_paths > 0)
        qsort(out->paths, out->n_paths, sizeof(char *), compare_names);
out:
    closedir(dir);
    prx_str_release(&path);
    return rc;
}

/* Add the index in @folder, or those in the folders below it; none: it is no MDS. */
static int find_indexes(const char *folder, int n_levels, struct prx_paths *out)
{
    static const char *const pictures[] = {".jpg", ".jpeg", ".png", ".webp", NULL};
    struct prx_paths all = {0};
    struct prx_str index = {0};
    struct stat st;
    size_t n_before = out->n_paths;
    int rc = 0;

    PRX_GO(
        prx_str_printf(&index, "%.*s/index.json", (int)folder_bytes(folder), folder));
    if (stat(index.bytes, &st) == 0) {
        if (S_ISREG(st.st_mode) && prx_mds_index_is(index.bytes))
            PRX_GO(prx_paths_add(out, index.bytes));
        goto out;
    }
    if (n_levels == 0)
        goto out;
    PRX_GO(list(folder, &all));
    for (size_t i = 0; i < all.n_paths; i++) {
        size_t n_found = out->n_paths;
        bool is_one = true;
        if (is_folder(all.paths[i])) {
            PRX_GO(find_indexes(all.paths[i], n_levels - 1, out));
            is_one = out->n_paths > n_found;
        } else if (prx_path_ends_with(all.paths[i], pictures)) {
            is_one = false;
        }
        if (!is_one) {
            while (out->n_paths > n_before)
                free(out->paths[--out->n_paths]);
            break;
        }
    }
out:
    prx_paths_release(&all);
    prx_str_release(&index);
    return rc;
}

static bool takes_mds(const char *path, const struct stat *st)
{
    struct prx_paths indexes = {0};
    bool is_mds = false;

    if (S_ISREG(st->st_mode))
        return prx_path_ends_with(path, index_ends) && prx_mds_index_is(path);
    if (S_ISDIR(st->st_mode))
        is_mds = find_indexes(path, N_LEVELS_MAX, &indexes) == 0 && indexes.n_paths > 0;
    prx_paths_release(&indexes);
    return is_mds;
}

const char *mds_input_parse(const char *path, size_t *i_shard, size_t *n_root)
{
    char *end;

    *i_shard = strtoull(path, &end, 10);
    *n_root = strtoull(end, &end, 10);
    return end + 1;
}

/* Each shard of @index with samples; keys begin behind @n_root bytes of its path. */
static int add_index(struct prx_inputs *inputs, const char *index, size_t n_root)
{
    struct prx_str input = {0};
    json_t *root = NULL, *shards, *object;
    size_t i;
    int rc = 0;

    PRX_GO(prx_mds_index_read(index, &root, &shards));
    json_array_foreach(shards, i, object)
    {
        json_int_t n_samples = json_integer_value(json_object_get(object, "samples"));
        if (n_samples <= 0)
            continue;
        prx_str_reset(&input);
        PRX_GO(prx_str_printf(&input, "%zu %zu %s", i, n_root, index));
        PRX_GO(prx_inputs_add(inputs, &prx_source_mds_kind, input.bytes,
                              (uint64_t)n_samples));
    }
out:
    json_decref(root);
    prx_str_release(&input);
    return rc;
}

static int expand_mds(struct prx_inputs *inputs, const char *path)
{
    struct prx_paths indexes = {0};
    int rc = 0;

    if (is_folder(path))
        PRX_GO(find_indexes(path, N_LEVELS_MAX, &indexes));
    else
        PRX_GO(prx_paths_add(&indexes, path));
    for (size_t i = 0; i < indexes.n_paths; i++) {
        const char *index = indexes.paths[i];
        const char *slash = strrchr(index, '/');
        size_t n_root = slash ? (size_t)(slash - index) + 1 : 0;
        if (is_folder(path))
            n_root = folder_bytes(path) + 1;
        PRX_GO(add_index(inputs, index, n_root));
    }
out:
    prx_paths_release(&indexes);
    return rc;
}

static int add_mds(struct prx_inputs *inputs, const char *word,
                   const struct prx_source_opts *opts)
{
    const char *path = word + strlen(SCHEME);
    struct stat st;

    (void)opts;
    if (stat(path, &st) < 0)
        return prx_err_sys("%s", path);
    if (!takes_mds(path, &st))
        return prx_err(PRX_EINVAL, "%s: no index.json of MDS shards", path);
    return expand_mds(inputs, path);
}

const struct prx_source_kind prx_source_mds_kind = {
    .takes = takes_mds,
    .expand = expand_mds,
    .scheme = SCHEME,
    .add = add_mds,
    .is_shard = true,
    .open = mds_open,
};
