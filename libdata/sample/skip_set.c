/* SPDX-License-Identifier: Apache-2.0 */
/*
 * Rows for the lists of many shards, gathered in any order, written at the end.
 *
 * Shards stand in order of path.  Samples come shard by shard, so the one looked up
 * last is nearly always the one that is wanted.
 */
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>

#include "libdata/skip.h"

struct shard_rows {
    char *path; /* owned */
    struct prx_skip skip;
};

struct prx_skip_set {
    struct shard_rows *shards;
    size_t n_shards, cap_shards;
    size_t i_last;
};

int prx_skip_set_new(struct prx_skip_set **out)
{
    *out = calloc(1, sizeof(**out));
    return *out ? 0 : prx_err_nomem("skip lists");
}

void prx_skip_set_free(struct prx_skip_set *set)
{
    if (!set)
        return;
    for (size_t i = 0; i < set->n_shards; i++) {
        free(set->shards[i].path);
        prx_skip_release(&set->shards[i].skip);
    }
    free(set->shards);
    free(set);
}

/* Where @path stands, or would stand. */
static size_t find_place(const struct prx_skip_set *set, const char *path,
                         bool *is_there)
{
    size_t i_low = 0, i_high = set->n_shards;

    *is_there = false;
    while (i_low < i_high && !*is_there) {
        size_t i = i_low + (i_high - i_low) / 2;
        int order = strcmp(set->shards[i].path, path);
        *is_there = order == 0;
        if (order < 0)
            i_low = i + 1;
        else
            i_high = i;
    }
    return *is_there ? i_high : i_low;
}

static int insert_shard(struct prx_skip_set *set, size_t i, const char *path)
{
    char *copy;

    if (set->n_shards == set->cap_shards) {
        size_t cap = set->cap_shards ? set->cap_shards * 2 : 16;
        struct shard_rows *grown = realloc(set->shards, cap * sizeof(*grown));
        if (!grown)
            return prx_err_nomem("skip lists");
        set->shards = grown;
        set->cap_shards = cap;
    }
    PRX_TRY(prx_strdup(path, &copy));
    memmove(&set->shards[i + 1], &set->shards[i],
            (set->n_shards - i) * sizeof(*set->shards));
    set->shards[i] = (struct shard_rows){.path = copy};
    set->n_shards++;
    return 0;
}

int prx_skip_set_add(struct prx_skip_set *set, const char *shard_path, const char *key,
                     const char *reason)
{
    bool is_there = set->i_last < set->n_shards &&
                    strcmp(set->shards[set->i_last].path, shard_path) == 0;

    if (!is_there) {
        size_t i = find_place(set, shard_path, &is_there);
        if (!is_there)
            PRX_TRY(insert_shard(set, i, shard_path));
        set->i_last = i;
    }
    return prx_skip_add(&set->shards[set->i_last].skip, key, reason);
}

/* What is read first wins over what is added: an earlier reason stays. */
static int write_list(const struct shard_rows *shard, uint64_t *n_added)
{
    struct prx_skip all = {0};
    struct stat st;
    int rc = 0;

    if (stat(shard->path, &st) < 0)
        return prx_err_sys("%s", shard->path);
    PRX_GO(prx_skip_read(&all, shard->path));
    size_t n_before = all.n_rows;
    for (size_t i = 0; i < shard->skip.n_rows; i++)
        PRX_GO(prx_skip_add(&all, prx_skip_key(&shard->skip, i),
                            prx_skip_reason(&shard->skip, i)));
    PRX_GO(prx_skip_sort(&all));
    if (all.n_rows > n_before)
        rc = prx_skip_write(&all, shard->path);
    *n_added += all.n_rows - n_before;
out:
    prx_skip_release(&all);
    return rc;
}

int prx_skip_set_write(struct prx_skip_set *set, uint64_t *n_added)
{
    uint64_t n = 0;

    for (size_t i = 0; i < set->n_shards; i++)
        PRX_TRY(write_list(&set->shards[i], &n));
    if (n_added)
        *n_added = n;
    return 0;
}
