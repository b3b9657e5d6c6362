/* SPDX-License-Identifier: Apache-2.0 */
/* index.json, read and written. */
#include "libdata/index.h"

#include <stdlib.h>
#include <string.h>

#include "libdata/buf.h"
#include "libdata/mds.h"
#include "libdata/outfile.h"
#include "libdata/sample.h"

#define N_INDEX_BYTES_MAX ((uint64_t)1 << 30)

void prx_index_release(struct prx_index *index)
{
    prx_index_cut(index, 0);
    free(index->shards);
    *index = (struct prx_index){0};
}

int prx_index_add(struct prx_index *index, const struct prx_shard *shard)
{
    if (index->n_shards == index->cap_shards) {
        size_t cap = index->cap_shards ? index->cap_shards * 2 : 16;
        struct prx_shard *grown = realloc(index->shards, cap * sizeof(*grown));
        if (!grown)
            return prx_err_nomem("a list of shards");
        index->shards = grown;
        index->cap_shards = cap;
    }
    struct prx_shard *copy = &index->shards[index->n_shards];
    *copy = *shard;
    PRX_TRY(prx_strdup(shard->name, &copy->name));
    index->n_shards++;
    index->n_samples += shard->n_samples;
    index->n_rejected += shard->n_rejected;
    index->n_bytes += shard->n_bytes;
    return 0;
}

void prx_index_cut(struct prx_index *index, size_t n_shards)
{
    while (index->n_shards > n_shards) {
        struct prx_shard *shard = &index->shards[--index->n_shards];
        index->n_samples -= shard->n_samples;
        index->n_rejected -= shard->n_rejected;
        index->n_bytes -= shard->n_bytes;
        free(shard->name);
    }
}

/* A count, 0 where it is absent. */
static int get_count(const char *path, json_t *object, const char *name, uint64_t *out)
{
    json_t *value = json_object_get(object, name);

    *out = 0;
    if (!value || json_is_null(value))
        return 0;
    if (!json_is_integer(value) || json_integer_value(value) < 0)
        return prx_err(PRX_ECORRUPT, "%s: %s is not a count", path, name);
    *out = (uint64_t)json_integer_value(value);
    return 0;
}

static void get_hash(json_t *object, const char *name, char out[PRX_HASH_HEX_BYTES])
{
    const char *text = json_string_value(json_object_get(object, name));

    out[0] = '\0';
    if (text && strlen(text) == PRX_HASH_HEX_BYTES - 1)
        memcpy(out, text, PRX_HASH_HEX_BYTES);
}

static int read_shard(const char *path, json_t *object, struct prx_index *index)
{
    const char *url = json_string_value(json_object_get(object, "url"));
    struct prx_shard shard = {0};

    if (!url)
        return prx_err(PRX_ECORRUPT, "%s: a shard without url", path);
    if (strstr(url, "://"))
        return prx_err(PRX_EINVAL, "%s: %s is not a file beside the index", path, url);
    if (prx_key_check(url) < 0)
        return prx_err_frame(PRX_EINVAL, "%s: url", path);
    PRX_TRY(get_count(path, object, "nsamples", &shard.n_samples));
    PRX_TRY(get_count(path, object, "filesize", &shard.n_bytes));
    get_hash(object, "xxh128", shard.xxh128);
    shard.name = (char *)(uintptr_t)url;
    return prx_index_add(index, &shard);
}

/* A shard of MDS, by the file that is sure to be there. */
static int read_mds_shard(const char *path, json_t *object, struct prx_index *index)
{
    struct prx_mds_shard mds = {0};
    int rc = prx_mds_shard_parse(object, &mds);

    if (rc < 0)
        return prx_err_frame(rc, "%s", path);
    struct prx_shard shard = {
        .name = mds.zip_name ? mds.zip_name : mds.raw_name,
        .n_samples = mds.n_samples,
        .n_bytes = mds.zip_name ? mds.n_zip_bytes : mds.n_raw_bytes,
    };
    memcpy(shard.xxh128, mds.zip_name ? mds.zip_xxh128 : mds.raw_xxh128,
           sizeof(shard.xxh128));
    rc = prx_index_add(index, &shard);
    prx_mds_shard_release(&mds);
    return rc;
}

static int read_object(const char *path, json_t *root, struct prx_index *index)
{
    json_t *list = json_object_get(root, "shardlist"), *shard;
    json_t *mds_list = json_object_get(root, "shards");
    size_t i;

    if (!json_is_array(list) && !json_is_array(mds_list))
        return prx_err(PRX_EFORMAT, "%s: not a shard index", path);
    json_array_foreach(list, i, shard)
        PRX_TRY(read_shard(path, shard, index));
    json_array_foreach(list ? NULL : mds_list, i, shard)
        PRX_TRY(read_mds_shard(path, shard, index));
    get_hash(root, "plan", index->plan);
    index->is_ours = index->plan[0] != '\0';
    if (index->is_ours) {
        PRX_TRY(get_count(path, root, "samples", &index->n_samples));
        PRX_TRY(get_count(path, root, "rejected", &index->n_rejected));
        PRX_TRY(get_count(path, root, "bytes", &index->n_bytes));
    }
    return 0;
}

int prx_index_parse(const char *path, const void *bytes, size_t n_bytes,
                    struct prx_index *index)
{
    json_error_t fault;
    int rc;

    json_t *root = json_loadb(bytes, n_bytes, 0, &fault);
    if (!root)
        rc = prx_err(PRX_ECORRUPT, "%s:%d: %s", path, fault.line, fault.text);
    else
        rc = read_object(path, root, index);
    json_decref(root);
    if (rc < 0)
        prx_index_release(index);
    return rc;
}

int prx_index_read(const char *path, struct prx_index *index)
{
    struct prx_buf *bytes = NULL;

    PRX_TRY(prx_file_get(path, N_INDEX_BYTES_MAX, &bytes));
    int rc = prx_index_parse(path, bytes->bytes, bytes->n_bytes, index);
    prx_buf_unref(bytes);
    return rc;
}

static json_t *list_shards(const struct prx_index *index)
{
    json_t *list = json_array();

    for (size_t i = 0; list && i < index->n_shards; i++) {
        const struct prx_shard *shard = &index->shards[i];
        json_t *object = json_pack("{ss sI sI ss}", "url", shard->name, "nsamples",
                                   (json_int_t)shard->n_samples, "filesize",
                                   (json_int_t)shard->n_bytes, "xxh128", shard->xxh128);
        if (json_array_append_new(list, object) < 0) {
            json_decref(list);
            return NULL;
        }
    }
    return list;
}

int prx_index_put(const char *path, const char *text, bool no_sync)
{
    struct prx_outfile file = {.fd = -1};
    int rc = 0;

    PRX_GO(prx_outfile_open(&file, path));
    PRX_GO(prx_outfile_write(&file, text, strlen(text)));
    PRX_GO(prx_outfile_write(&file, "\n", 1));
    PRX_GO(prx_outfile_commit(&file, no_sync));
out:
    prx_outfile_abort(&file);
    return rc;
}

int prx_index_write(const char *path, const struct prx_index *index, const char *kind,
                    const char *tool, json_t *extra, bool no_sync)
{
    char *text = NULL;
    json_t *list = list_shards(index);
    json_t *root = json_pack("{ss si so sI sI sI ss* ss*}", "__kind__", kind,
                             "wids_version", 1, "shardlist", list, "samples",
                             (json_int_t)index->n_samples, "rejected",
                             (json_int_t)index->n_rejected, "bytes",
                             (json_int_t)index->n_bytes, "plan",
                             index->plan[0] ? index->plan : NULL, "tool", tool);
    int rc = 0;

    if (!root || (extra && json_object_update_missing(root, extra) < 0) ||
        !(text = json_dumps(root, JSON_INDENT(1) | JSON_SORT_KEYS))) {
        rc = prx_err_nomem("an index");
        goto out;
    }
    rc = prx_index_put(path, text, no_sync);
out:
    json_decref(root);
    free(text);
    return rc;
}
