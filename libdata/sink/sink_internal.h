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
                             const char *reason);

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
int prx_sink_null_open(const char *word, const struct prx_sink_opts *opts,
                       uint64_t *n_done_serials, struct prx_sink **out);

/*
 * What a destination in a folder remembers: which shards are finished.
 *
 *     fresh ──put shards──▶ journal stands ──finish──▶ index stands, no journal
 *                               │  ▲
 *                             killed  resumed
 *
 * The journal is locked all the while.
 */
struct prx_ledger {
    char *folder; /* "" or with a slash behind */
    char *index_path;
    const char *kind; /* PRX_INDEX_... */
    char *tool;       /* or NULL */
    bool no_sync;
    bool is_finished;   /* an earlier run has done everything */
    bool has_leftovers; /* it has left outputs, perhaps none that count */
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
    /* Could @name, a file in the folder, be an output of this destination? */
    bool (*is_output)(const void *ctx, const char *name);
    const void *ctx;
    bool is_shared; /* outputs nobody remembers may be replaced */
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

/** prx_ledger_finish - write the index, then remove the journal. */
PRX_MUST_USE int prx_ledger_finish(struct prx_ledger *ledger, json_t *extra,
                                   struct prx_sink_totals *totals);

/** prx_ledger_release - unlock; a journal that remembers nothing is removed. */
void prx_ledger_release(struct prx_ledger *ledger);

int prx_ledger_each_reject(struct prx_ledger *ledger, prx_reject_fn fn, void *ctx);

/**
 * prx_tar_header - append the header blocks of a member to @out.
 *
 * ustar; a pax header before it only where the name does not fit or the size
 * needs more than 33 bits.
 */
PRX_MUST_USE int prx_tar_header(struct prx_str *out, const char *name,
                                uint64_t n_bytes);

#endif
