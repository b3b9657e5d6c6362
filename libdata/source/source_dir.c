/* SPDX-License-Identifier: Apache-2.0 */
/*
 * A folder: every image below it, with the files that share its key.
 *
 * Everything is listed when the source is opened, so that the plan and the
 * number of samples are known and a file that appears later changes nothing.
 * The list holds 16 bytes and the path for each file of a sample; what belongs
 * to no sample is not kept.
 *
 * Order is byte order of path, made folder by folder: a folder sorts as its name
 * and a slash, a file as its key and a dot, so that the files of one sample
 * stand together and all before the folders that share their first letters.
 *
 * A sample needs an image, or an array (.npy): a caption alone is none, and is
 * passed over.  Hidden files and folders are.  Links to files and folders are
 * followed, but not to a folder that the link is in.
 */
#include <dirent.h>
#include <errno.h>
#include <fcntl.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <strings.h>
#include <sys/stat.h>
#include <unistd.h>

#include "libdata/hash.h"
#include "libdata/skip.h"
#include "libdata/source/source_internal.h"

#define NOT_A_FILE UINT64_MAX /* as n_bytes: a socket, a dangling link, ... */

struct file {
    uint64_t n_bytes;
    size_t name_place; /* in names: path below the root */
};

struct source_dir {
    struct prx_source base;
    char *root;
    uint64_t n_member_bytes_max;
    struct file *files; /* of one sample next to each other */
    size_t n_files, cap_files;
    struct prx_str names; /* each with its NUL */
    struct prx_hasher *hasher;
    char list_hash[PRX_HASH_HEX_BYTES];
    struct prx_skip skip; /* wanted only while files are listed */
    size_t i_next;
    struct prx_str path; /* scratch */
};

/* What one folder holds, before it is sorted. */
struct found {
    union {
        size_t place; /* in names, while those may still move */
        const char *name;
    };
    size_t n_sort; /* bytes of name that sort it: "key." or "folder/" */
    uint64_t n_bytes;
};

struct folder {
    struct prx_str names;
    struct found *found;
    size_t n_found, cap_found;
    const struct folder *above;
    dev_t dev;
    ino_t ino;
};

static void folder_release(struct folder *folder)
{
    prx_str_release(&folder->names);
    free(folder->found);
}

static bool is_folder(const struct found *found)
{
    return found->name[found->n_sort - 1] == '/';
}

static int compare_found(const void *a, const void *b)
{
    const struct found *x = a, *y = b;
    size_t n_common = x->n_sort < y->n_sort ? x->n_sort : y->n_sort;
    int order = memcmp(x->name, y->name, n_common);

    if (order == 0 && x->n_sort != y->n_sort)
        order = x->n_sort < y->n_sort ? -1 : 1;
    return order ? order : strcmp(x->name, y->name);
}

static int add_found(struct folder *folder, const char *name, const char *behind,
                     size_t n_sort, uint64_t n_bytes)
{
    if (folder->n_found == folder->cap_found) {
        size_t cap = folder->cap_found ? folder->cap_found * 2 : 64;
        struct found *grown = realloc(folder->found, cap * sizeof(*grown));
        if (!grown)
            return prx_err_nomem("a list of files");
        folder->found = grown;
        folder->cap_found = cap;
    }
    size_t place = folder->names.n_bytes;
    PRX_TRY(prx_str_puts(&folder->names, name));
    PRX_TRY(prx_str_add(&folder->names, behind, strlen(behind) + 1));
    folder->found[folder->n_found++] = (struct found){
        .place = place,
        .n_sort = n_sort,
        .n_bytes = n_bytes,
    };
    return 0;
}

/* Look at @name in the open folder @fd. */
static int look_at(struct folder *folder, int fd, const char *name)
{
    struct stat st;
    size_t n_key = prx_key_split(name);

    if (*name == '.')
        return 0;
    if (fstatat(fd, name, &st, 0) < 0) {
        if (errno != ENOENT && errno != ELOOP)
            return prx_err_sys("%s", name);
        /* A dangling link is reported; a file that has just gone is not there. */
        if (fstatat(fd, name, &st, AT_SYMLINK_NOFOLLOW) < 0)
            return 0;
    }
    if (S_ISDIR(st.st_mode))
        return add_found(folder, name, "/", strlen(name) + 1, 0);
    if (n_key == 0)
        return 0;
    uint64_t n_bytes = S_ISREG(st.st_mode) ? (uint64_t)st.st_size : NOT_A_FILE;
    return add_found(folder, name, "", n_key + 1, n_bytes);
}

static int read_folder(struct folder *folder, const char *path)
{
    struct stat st;
    int rc = 0;
    DIR *dir = opendir(path);

    if (!dir)
        return prx_err_sys("%s", path);
    if (fstat(dirfd(dir), &st) < 0) {
        rc = prx_err_sys("%s", path);
        goto out;
    }
    folder->dev = st.st_dev;
    folder->ino = st.st_ino;
    for (const struct folder *up = folder->above; up; up = up->above)
        if (up->dev == folder->dev && up->ino == folder->ino)
            goto out;
    for (;;) {
        errno = 0;
        struct dirent *here = readdir(dir);
        if (!here && errno != 0) {
            rc = prx_err_sys("%s", path);
            goto out;
        }
        if (!here)
            break;
        rc = look_at(folder, dirfd(dir), here->d_name);
        if (rc < 0) {
            prx_err_frame(rc, "%s", path);
            goto out;
        }
    }
    for (size_t i = 0; i < folder->n_found; i++)
        folder->found[i].name = folder->names.bytes + folder->found[i].place;
    if (folder->n_found > 0)
        qsort(folder->found, folder->n_found, sizeof(*folder->found), compare_found);
out:
    closedir(dir);
    return rc;
}

static bool ends_with_any_case(const char *name, const char *end)
{
    size_t n_name = strlen(name), n_end = strlen(end);
    return n_name >= n_end && strcasecmp(name + n_name - n_end, end) == 0;
}

/* Does @name, "KEY.FIELD", alone make a sample? */
static bool makes_sample(const struct found *found)
{
    static const char *const images[] = {"jpg", "jpeg", "png", "webp"};
    const char *field = found->name + found->n_sort;

    for (size_t i = 0; i < sizeof(images) / sizeof(*images); i++)
        if (strcasecmp(field, images[i]) == 0)
            return true;
    return ends_with_any_case(field, ".npy") || strcasecmp(field, "npy") == 0;
}

static int keep_file(struct source_dir *dir, const char *below,
                     const struct found *found)
{
    if (dir->n_files == dir->cap_files) {
        size_t cap = dir->cap_files ? dir->cap_files * 2 : 256;
        struct file *grown = realloc(dir->files, cap * sizeof(*grown));
        if (!grown)
            return prx_err_nomem("a list of files");
        dir->files = grown;
        dir->cap_files = cap;
    }
    struct file *file = &dir->files[dir->n_files];
    *file = (struct file){found->n_bytes, dir->names.n_bytes};
    PRX_TRY(prx_str_puts(&dir->names, below));
    PRX_TRY(prx_str_add(&dir->names, found->name, strlen(found->name) + 1));
    dir->n_files++;

    const char *name = dir->names.bytes + file->name_place;
    prx_hasher_add(dir->hasher, name, dir->names.n_bytes - file->name_place);
    char size[24];
    int n_size =
        snprintf(size, sizeof(size), "%llu", (unsigned long long)file->n_bytes);
    prx_hasher_add(dir->hasher, size, (size_t)n_size + 1);
    return 0;
}

static bool is_same_key(const struct found *a, const struct found *b)
{
    return a->n_sort == b->n_sort && memcmp(a->name, b->name, a->n_sort) == 0;
}

/* List the folder @below (its path under the root, with a slash, or ""). */
static int list_folder(struct source_dir *dir, const char *below,
                       const struct folder *above)
{
    struct folder folder = {.above = above};
    struct prx_str path = {0};
    int rc = 0;

    PRX_GO(prx_str_printf(&path, "%s/%s", dir->root, below));
    PRX_GO(read_folder(&folder, path.bytes));
    for (size_t i = 0, i_end; i < folder.n_found; i = i_end) {
        struct found *found = folder.found;
        i_end = i + 1;
        if (is_folder(&found[i])) {
            prx_str_reset(&path);
            PRX_GO(prx_str_printf(&path, "%s%s", below, found[i].name));
            PRX_GO(list_folder(dir, path.bytes, &folder));
            continue;
        }
        bool is_sample = makes_sample(&found[i]);
        for (; i_end < folder.n_found && is_same_key(&found[i], &found[i_end]); i_end++)
            is_sample |= makes_sample(&found[i_end]);
        if (!is_sample)
            continue;
        prx_str_reset(&path);
        PRX_GO(prx_str_printf(&path, "%s%.*s", below, (int)found[i].n_sort - 1,
                              found[i].name));
        if (prx_skip_find(&dir->skip, path.bytes)) {
            dir->base.n_hidden++;
            continue;
        }
        for (size_t k = i; k < i_end; k++)
            PRX_GO(keep_file(dir, below, &found[k]));
        dir->base.n_total++;
    }
out:
    folder_release(&folder);
    prx_str_release(&path);
    return rc;
}

static const char *name_of(const struct source_dir *dir, size_t i)
{
    return dir->names.bytes + dir->files[i].name_place;
}

static int add_file(struct source_dir *dir, struct prx_sample *sample, size_t i,
                    size_t n_key)
{
    const struct file *file = &dir->files[i];
    const char *name = name_of(dir, i);

    prx_str_reset(&dir->path);
    PRX_TRY(prx_str_printf(&dir->path, "%s/%s", dir->root, name));
    if (!sample->key) {
        PRX_TRY(prx_sample_begin(sample, name, n_key, dir->path.bytes));
        PRX_TRY(prx_sample_set_shard(sample, dir->root));
    }
    if (file->n_bytes == NOT_A_FILE)
        prx_sample_reject(sample, "read", "%s: not a regular file", dir->path.bytes);
    else if (file->n_bytes > dir->n_member_bytes_max)
        prx_sample_reject(sample, "read", "%s: larger than the limit", dir->path.bytes);
    else if (file->n_bytes > dir->n_member_bytes_max - prx_sample_bytes(sample))
        prx_sample_reject(sample, "read",
                          "%s: larger than the limit with those before it",
                          dir->path.bytes);
    else
        return prx_sample_add_file(sample, name, n_key, NULL, dir->path.bytes, 0,
                                   file->n_bytes);
    return 0;
}

/* Does file i share the key of @name, its first @n_key bytes? */
static bool has_key(const struct source_dir *dir, size_t i, const char *name,
                    size_t n_key)
{
    return i < dir->n_files && prx_key_split(name_of(dir, i)) == n_key &&
           memcmp(name_of(dir, i), name, n_key) == 0;
}

static int dir_next(struct prx_source *source, struct prx_sample *sample)
{
    struct source_dir *dir = (struct source_dir *)source;

    if (dir->i_next == dir->n_files)
        return 0;
    const char *name = name_of(dir, dir->i_next);
    size_t n_key = prx_key_split(name);
    do
        PRX_TRY(add_file(dir, sample, dir->i_next++, n_key));
    while (has_key(dir, dir->i_next, name, n_key));
    return 1;
}

static int dir_plan(const struct prx_source *source, struct prx_str *plan)
{
    const struct source_dir *dir = (const struct source_dir *)source;
    PRX_TRY(prx_str_printf(plan, "folder %s %zu files %s\n", dir->root, dir->n_files,
                           dir->list_hash));
    return prx_skip_plan(dir->root, plan);
}

static void dir_close(struct prx_source *source)
{
    struct source_dir *dir = (struct source_dir *)source;

    prx_skip_release(&dir->skip);
    prx_hasher_free(dir->hasher);
    prx_str_release(&dir->names);
    prx_str_release(&dir->path);
    free(dir->files);
    free(dir->root);
    free(dir);
}

/* A file that a sink replaces is a shard or its index: none of those is read. */
static bool dir_has(const struct prx_source *source, const char *path, bool is_folder)
{
    char *root = realpath(((const struct source_dir *)source)->root, NULL);
    bool has = is_folder && root &&
               (prx_path_is_below(path, root) || prx_path_is_below(root, path));

    free(root);
    return has;
}

static const struct prx_source_ops dir_ops = {dir_next, dir_plan, NULL, dir_close,
                                              dir_has};

static int open_folder(const char *const *paths, size_t n_paths,
                       const struct prx_source_opts *opts, struct prx_source **out)
{
    struct source_dir *dir = calloc(1, sizeof(*dir));
    int rc = 0;

    if (!dir)
        return prx_err_nomem("a folder source");
    dir->base.ops = &dir_ops;
    dir->n_member_bytes_max =
        opts->n_member_bytes_max ? opts->n_member_bytes_max : PRX_MEMBER_BYTES_MAX;
    (void)n_paths; /* one: not a shard */
    PRX_GO(prx_strdup(paths[0], &dir->root));
    for (size_t n = strlen(dir->root); n > 1 && dir->root[n - 1] == '/'; n--)
        dir->root[n - 1] = '\0';
    if (!opts->with_hidden)
        PRX_GO(prx_skip_read(&dir->skip, dir->root));
    PRX_GO(prx_hasher_new(&dir->hasher));
    PRX_GO(list_folder(dir, "", NULL));
    prx_skip_release(&dir->skip);
    prx_hasher_hex(dir->hasher, dir->list_hash);
    dir->base.has_total = true;
    *out = &dir->base;
out:
    if (rc < 0)
        dir_close(&dir->base);
    return rc;
}

static bool takes_folder(const char *path, const struct stat *st)
{
    (void)path;
    return S_ISDIR(st->st_mode);
}

const struct prx_source_kind prx_source_dir_kind = {
    .takes = takes_folder,
    .open = open_folder,
};
