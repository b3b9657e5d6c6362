/* SPDX-License-Identifier: Apache-2.0 */
/*
 * sink_internal.h - what a kind of sink provides, and what kinds share.
 *
 * A new kind is one file and one row in sink.c.
 */
#ifndef PRX_SINK_INTERNAL_H
#define PRX_SINK_INTERNAL_H

#include "libdata/index.h"
#include "libdata/journal.h"
#include "libdata/path.h"
#include "libdata/sink.h"

#define PRX_SHARD_BYTES_MAX ((uint64_t)256 << 20)

typedef int (*prx_reject_fn)(void *ctx, const char *key, const char *stage,
                             const char *reason, const char *origin);

struct prx_sink_ops {
    int (*put)(struct prx_sink *sink, struct prx_sample *sample);
    int (*finish)(struct prx_sink *sink, json_t *extra, struct prx_sink_totals *totals);
    /* Of all memory, after finish too. */
    void (*release)(struct prx_sink *sink);
    /* Drop what is not finished. */
    void (*abort)(struct prx_sink *sink);
    /* NULL where nothing is remembered. */
    struct prx_ledger *(*ledger)(const struct prx_sink *sink);
    /* NULL where shards are not numbered files. */
    int (*adopt)(struct prx_sink *sink, const char *path,
                 const struct prx_shard *shard);
};

/* The first member of every kind's own struct. */
struct prx_sink {
    const struct prx_sink_ops *ops;
};

/* @word: "-", "x.tar" or "out/%06d.tar". */
int prx_sink_tar_open(const char *word, const struct prx_sink_opts *opts,
                      uint64_t *n_done_serials, struct prx_sink **out);
/* @word: "DIR/". */
int prx_sink_dir_open(const char *word, const struct prx_sink_opts *opts,
                      uint64_t *n_done_serials, struct prx_sink **out);
/* @word: "lmdb:PATH". */
int prx_sink_lmdb_open(const char *word, const struct prx_sink_opts *opts,
                       uint64_t *n_done_serials, struct prx_sink **out);
/* The same with a map that has room for @n_room_bytes at first: tests make it small. */
int prx_sink_lmdb_open_room(const char *word, const struct prx_sink_opts *opts,
                            uint64_t n_room_bytes, uint64_t *n_done_serials,
                            struct prx_sink **out);
/* @word: "mds:DIR". */
int prx_sink_mds_open(const char *word, const struct prx_sink_opts *opts,
                      uint64_t *n_done_serials, struct prx_sink **out);
int prx_sink_null_open(const char *word, const struct prx_sink_opts *opts,
                       uint64_t *n_done_serials, struct prx_sink **out);

/*
 * What a destination in a folder remembers: which shards are finished.
 *
 *     fresh ──put shards──▶ journal ──finish──▶ journal, index ──close──▶ index
 *                            │   ▲                 │   ▲
 *                          killed  resumed       killed  resumed: all is done, but
 *                                                    rejects can be told again
 *
 * The journal is locked all the while.
 */
struct prx_ledger;
typedef int (*prx_ledger_index_fn)(const struct prx_ledger *ledger, json_t *extra);

struct prx_ledger {
    char *folder; /* "" or with a slash behind */
    char *index_path;
    const char *kind; /* PRX_INDEX_... */
    prx_ledger_index_fn write_index;
    char *tool; /* or NULL */
    bool no_sync;
    bool is_finished;   /* an earlier run has done everything, */
    bool is_recalled;   /* and its journal is still there */
    bool has_outputs;   /* something may stand under a final name, of this run */
    bool has_leftovers; /* an earlier run has left outputs, perhaps none that count */
    struct prx_journal journal;
    uint64_t n_kept_bytes;   /* of the journal, from an earlier run */
    struct prx_index index;  /* finished shards, and the plan */
    uint64_t n_done_serials; /* settled by them */
    struct prx_paths begun;  /* names an earlier run began to write */
};

struct prx_ledger_place {
    const char *folder; /* "" or with a slash behind */
    const char *prefix; /* of the names of index and journal, or "" */
    const char *layout; /* text that, with the plan, fixes the bytes */
    const char *kind;
    /* Write the index that @ledger remembers; NULL: prx_index_write() as @kind. */
    prx_ledger_index_fn write_index;
    /* Could @name, a file in the folder, be an output of this destination? */
    bool (*is_output)(const void *ctx, const char *name);
    const void *ctx;
    bool is_shared; /* outputs nobody remembers may be replaced */
    /* Does what @shard, from the journal, says still hold?  1, 0 or < 0; NULL: a file
     * of its name and size is there. */
    int (*holds)(const void *ctx, const struct prx_shard *shard);
};

PRX_MUST_USE int prx_ledger_open(struct prx_ledger *ledger,
                                 const struct prx_ledger_place *place,
                                 const struct prx_sink_opts *opts);

/** prx_ledger_begin - note that file @name is about to be written. */
PRX_MUST_USE int prx_ledger_begin(struct prx_ledger *ledger, const char *name);

/** prx_ledger_reject - note a reject; it counts with the next shard. */
PRX_MUST_USE int prx_ledger_reject(struct prx_ledger *ledger,
                                   const struct prx_sample *sample);

/** prx_ledger_put - @shard stands under its final name. */
PRX_MUST_USE int prx_ledger_put(struct prx_ledger *ledger,
                                const struct prx_shard *shard);

/** prx_ledger_finish - write the index. */
PRX_MUST_USE int prx_ledger_finish(struct prx_ledger *ledger, json_t *extra,
                                   struct prx_sink_totals *totals);

/** prx_ledger_close - remove the journal: rejects cannot be asked for any more. */
PRX_MUST_USE int prx_ledger_close(struct prx_ledger *ledger);

/** prx_ledger_release - unlock; a journal that remembers nothing is removed. */
void prx_ledger_release(struct prx_ledger *ledger);

int prx_ledger_each_reject(struct prx_ledger *ledger, prx_reject_fn fn, void *ctx);

/* How far the environment came that an earlier run has left. */
struct prx_lmdb_remains {
    bool is_complete;    /* it has entries, and no longer says how far it came */
    uint64_t n_progress; /* input samples that are settled by what it holds */
};

/**
 * prx_lmdb_remains_read - look into the environment @folder, its file @data_path.
 *
 * One that is not there, or has lost a part of its file, settles nothing.
 */
PRX_MUST_USE int prx_lmdb_remains_read(const char *folder, const char *data_path,
                                       struct prx_lmdb_remains *out);

/**
 * prx_tar_header - append the header blocks of a member to @out.
 *
 * ustar; a pax header before it only where the name does not fit or the size
 * needs more than 33 bits.
 */
PRX_MUST_USE int prx_tar_header(struct prx_str *out, const char *name,
                                uint64_t n_bytes);

#endif
