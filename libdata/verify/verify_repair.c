/* SPDX-License-Identifier: Apache-2.0 */
/*
 * index.json and .idx, written anew from the shards that stand.
 *
 * The new index has no plan, since nobody knows any more what made the shards; what
 * else the old one said, and could be read, stays.
 */
#include <stdlib.h>
#include <string.h>

#include "libdata/journal.h"
#include "libdata/outfile.h"
#include "libdata/verify/verify_internal.h"

#define N_INDEX_BYTES_MAX ((uint64_t)1 << 30)

static int compare_shards(const void *a, const void *b)
{
    const struct prx_shard *x = a, *y = b;
    return strcmp(x->name, y->name);
}

/* The shards of the set, each once, in byte order of name. */
static int gather(const struct verify_set *set, const struct verify_part *parts,
                  struct prx_index *index)
{
    const char *slash = strrchr(set->index_path, '/');
    size_t n_folder = slash ? (size_t)(slash - set->index_path) + 1 : 0;
    int rc = 0;

    struct prx_shard *shards = calloc(set->n_parts, sizeof(*shards));
    if (!shards)
        return prx_err_nomem("an index");
    for (size_t i = 0; i < set->n_parts; i++) {
        shards[i] = parts[i].found;
        shards[i].name = parts[i].path + n_folder;
    }
    qsort(shards, set->n_parts, sizeof(*shards), compare_shards);
    for (size_t i = 0; i < set->n_parts; i++)
        if (i == 0 || strcmp(shards[i - 1].name, shards[i].name) != 0)
            PRX_GO(prx_index_add(index, &shards[i]));
out:
    free(shards);
    return rc;
}

/* The members of the old index; NULL where it cannot be read. */
static int read_old(const char *path, json_t **out)
{
    struct prx_buf *bytes = NULL;
    int rc = prx_file_get(path, N_INDEX_BYTES_MAX, &bytes);

    *out = NULL;
    if (rc == PRX_ENOMEM)
        return rc;
    if (rc < 0) {
        prx_err_clear();
        return 0;
    }
    *out = json_loadb((const char *)bytes->bytes, bytes->n_bytes, 0, NULL);
    if (*out)
        json_object_del(*out, "plan");
    prx_buf_unref(bytes);
    return 0;
}

static int write_index(const struct verify_set *set, const struct verify_part *parts,
                       const struct prx_verify_opts *opts)
{
    struct prx_index index = {0};
    json_t *old = NULL;
    int rc;

    PRX_GO(read_old(set->index_path, &old));
    PRX_GO(gather(set, parts, &index));
    rc = prx_index_write(set->index_path, &index, PRX_INDEX_WIDS, opts->tool,
                         json_is_object(old) ? old : NULL, false);
out:
    json_decref(old);
    prx_index_release(&index);
    return rc;
}

static int repair(const struct verify_set *set, const struct verify_part *parts,
                  const struct prx_verify_opts *opts, uint64_t *n_written)
{
    bool is_wrong = set->is_wrong;

    for (size_t i = 0; i < set->n_parts; i++) {
        const struct verify_part *part = &parts[i];
        is_wrong |= part->is_wrong;
        if (part->is_dali_right || part->is_dali_unfit)
            continue;
        PRX_TRY(prx_verify_part_dali(part));
        ++*n_written;
    }
    if (!is_wrong)
        return 0;
    ++*n_written;
    return write_index(set, parts, opts);
}

int prx_verify_set_repair(struct verify_plan *plan, size_t i_set,
                          const struct prx_verify_opts *opts, uint64_t *n_written)
{
    const struct verify_set *set = &plan->sets[i_set];
    const struct verify_part *parts = plan->parts + set->i_first_part;
    struct prx_journal journal = {.fd = -1};
    struct prx_str path = {0};
    int rc = 0;

    /* What is unfinished has its journal to say what is there. */
    if (set->is_unfinished || set->n_parts == 0)
        return 0;
    for (size_t i = 0; i < set->n_parts; i++)
        if (parts[i].is_unreadable)
            return 0;
    /* The journal's lock keeps writers away. */
    PRX_GO(prx_journal_path(set->index_path, &path));
    PRX_GO(prx_journal_open(&journal, path.bytes));
    rc = repair(set, parts, opts, n_written);
    prx_journal_close(&journal, true);
out:
    prx_str_release(&path);
    return rc;
}
