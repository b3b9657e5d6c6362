/* SPDX-License-Identifier: Apache-2.0 */
/*
 * index.h - index.json: what a finished data set consists of.
 *
 * WebDataset's "wids" shard index, with members added:
 *
 *     {"__kind__": "wids-shard-index-v1", "wids_version": 1,
 *      "shardlist": [{"url": "000000.tar", "nsamples": 2391, "filesize": 268400640,
 *                     "xxh128": "…"}, …],
 *      "samples": N, "rejected": N, "bytes": N, "plan": "…", "tool": "…"}
 *
 * It is written last: a folder of shards without one is unfinished.  url is the
 * path of the shard, relative to the index and below its folder.
 *
 * The index of MDS shards (mds.h) is read too: their names, sizes and hashes, and the
 * totals where this suite has written it.
 */
#ifndef PRX_LIBDATA_INDEX_H
#define PRX_LIBDATA_INDEX_H

#include <jansson.h>
#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

#include "libdata/err.h"
#include "libdata/hash.h"

#ifdef __cplusplus
extern "C" {
#endif

#define PRX_INDEX_WIDS   "wids-shard-index-v1"
#define PRX_INDEX_FOLDER "prx-folder-index-v1" /* plain files: shardlist is empty */
#define PRX_INDEX_LMDB   "prx-lmdb-index-v1"   /* shardlist holds data.mdb alone */

struct prx_shard {
    char *name;            /* owned */
    uint64_t first_serial; /* input samples settled before it, and with it; */
    uint64_t next_serial;  /* both 0 as read from index.json */
    uint64_t n_samples;
    uint64_t n_rejected;
    uint64_t n_bytes;
    char xxh128[PRX_HASH_HEX_BYTES]; /* "" where nobody knows */
};

struct prx_index {
    struct prx_shard *shards;
    size_t n_shards;
    size_t cap_shards;
    bool is_ours;                  /* it has a plan: of who wrote the shards */
    char plan[PRX_HASH_HEX_BYTES]; /* "": none, and not written */
    uint64_t n_samples;
    uint64_t n_rejected;
    uint64_t n_bytes;
};

void prx_index_release(struct prx_index *index);

/** prx_index_add - append a copy of @shard; the totals grow by it. */
PRX_MUST_USE int prx_index_add(struct prx_index *index, const struct prx_shard *shard);

/** prx_index_cut - keep the first @n_shards only; the totals shrink. */
void prx_index_cut(struct prx_index *index, size_t n_shards);

/**
 * prx_index_read - read the index at @path into the empty @index.
 *
 * Errors: PRX_ENOENT, PRX_EIO, PRX_ENOMEM, PRX_ECORRUPT (not JSON, or numbers
 * that cannot be), PRX_EFORMAT (JSON, but no index), PRX_EINVAL (a url that leads
 * out of the folder).
 */
PRX_MUST_USE int prx_index_read(const char *path, struct prx_index *index);

/** prx_index_parse - the same from @n_bytes of text at @bytes; @path for messages. */
PRX_MUST_USE int prx_index_parse(const char *path, const void *bytes, size_t n_bytes,
                                 struct prx_index *index);

/** prx_index_put - write @text and a newline to @path, whole or not at all. */
PRX_MUST_USE int prx_index_put(const char *path, const char *text, bool no_sync);

/**
 * prx_index_write - write @index to @path, whole or not at all.
 *
 * @kind:  PRX_INDEX_WIDS, PRX_INDEX_FOLDER or PRX_INDEX_LMDB.
 * @tool:  who wrote the data, or NULL.
 * @extra: members to add, or NULL; what the index itself says cannot be replaced.
 */
PRX_MUST_USE int prx_index_write(const char *path, const struct prx_index *index,
                                 const char *kind, const char *tool, json_t *extra,
                                 bool no_sync);

#ifdef __cplusplus
}
#endif
#endif
