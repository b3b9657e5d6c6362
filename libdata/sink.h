/* SPDX-License-Identifier: Apache-2.0 */
/*
 * sink.h - where samples go: put, then finish or abort.
 *
 * A destination is opened from the word a user writes: "out/%06d.tar" (shards
 * and index.json), "out.tar" (one shard), "-" (a tar on standard output),
 * "DIR/" (plain files), "lmdb:PATH" (an LMDB environment), "mds:DIR" (MDS shards, each
 * held in memory until it is whole), "null:" (counted and dropped).  "x.tar" has its
 * index in "x.index.json", beside it, so that a folder can hold several.
 *
 * Nothing stands under its final name before it is whole: shards are written
 * as .NAME.tmp.PID, synced and renamed; index.json comes last, so that without it an
 * LMDB, which grows in its place, is unfinished.  A second process on the same
 * destination is refused (PRX_EEXIST): the journal is locked.
 *
 * A shard sink keeps a journal of finished shards beside them, so that a killed
 * run can be continued: prx_sink_open() with resume set tells in n_done_serials
 * how many input samples are settled already, and the caller skips so many.
 * The same plan continued any number of times gives the same bytes; of an LMDB, the
 * same entries.
 *
 * One thread at a time.
 */
#ifndef PRX_LIBDATA_SINK_H
#define PRX_LIBDATA_SINK_H

#include <stdbool.h>

#include "libdata/err.h"
#include "libdata/index.h"
#include "libdata/sample.h"
#include "libdata/source.h"

#ifdef __cplusplus
extern "C" {
#endif

struct prx_sink;

enum prx_sink_exists {
    PRX_SINK_REFUSE, /* an existing destination is an error */
    /* What its index or journal names is removed first; a file of the same naming
     * that they do not name is an error.  "DIR/" just replaces files. */
    PRX_SINK_OVERWRITE,
    /* It is continued where the plan is the same; where there is nothing, begun;
     * where all is finished, nothing is left to do. */
    PRX_SINK_RESUME,
    /* The same, by one of the processes of a job (job.h).  To all others a folder
     * with a job in it is in use. */
    PRX_SINK_JOIN,
};

/* Where a job keeps its state, in the folder of its destination. */
#define PRX_SINK_JOB_FOLDER ".prx-job"

struct prx_sink_opts {
    enum prx_sink_exists exists;
    /* Begin a new shard before this, and before so many samples.  Where the last of
     * several would be less than half full by both, the last two share evenly. */
    uint64_t n_shard_bytes_max;   /* 0 = 256 MiB */
    uint64_t n_shard_samples_max; /* 0 = no limit */
    /* Text that fixes what is written, or NULL.  Its hash, with that of the naming
     * and the limits, is kept: only the same is resumed. */
    const char *plan;
    const char *tool; /* "prx-shard 0.1.0", for the index; or NULL */
    bool no_sync;     /* leave syncing to the system: faster, not crash-safe */
    /* No .idx beside a shard.  A shard with a space in a name never has one: the
     * format cannot say it. */
    bool no_dali_index;
    /* What is being read, or NULL: its files are not overwritten.  Looked at in
     * prx_sink_open() only. */
    const struct prx_source *source;
};

struct prx_sink_totals {
    uint64_t n_samples;
    uint64_t n_bytes; /* of all outputs, as on disk or in the pipe */
    uint64_t n_shards;
    uint64_t n_rejected;
};

/**
 * prx_sink_open - open @word for writing.
 *
 * @n_done_serials: input samples settled by an earlier run (0 unless resuming).
 * Errors: PRX_EEXIST (is there; in use; another plan), PRX_EINVAL, PRX_EIO,
 *         PRX_ENOENT, PRX_ENOMEM.
 */
PRX_MUST_USE int prx_sink_open(const char *word, const struct prx_sink_opts *opts,
                               uint64_t *n_done_serials, struct prx_sink **out);

/**
 * prx_sink_call - a destination that hands each sample to @fn, and drops it.
 *
 * In order, in the thread that puts, rejected ones too; @fn may reject more.  What it
 * returns below 0 is the failure of prx_sink_put().
 */
PRX_MUST_USE int prx_sink_call(int (*fn)(void *ctx, struct prx_sample *sample),
                               void *ctx, struct prx_sink **out);

/**
 * prx_sink_put - write @sample, or account for it where it is rejected.
 *
 * Samples come in the order of their serials, their fields loaded.  A rejected
 * one (reject_reason) is journalled with the shard it would have been in.  The
 * sink itself rejects a sample without fields, and in a shard one with the key of
 * the one before, which no reader could tell from it; in an LMDB one whose key is
 * there already, or with names longer than LMDB takes; in "DIR/" a name that is there
 * already is PRX_EEXIST.
 * Errors: PRX_EIO, PRX_EPIPE (the reader went away), PRX_EINVAL (a key that
 *         must not be written; the sample is then not written), PRX_ENOMEM.
 */
PRX_MUST_USE int prx_sink_put(struct prx_sink *sink, struct prx_sample *sample);

/** prx_sink_is_numbered - is @word one of numbered shards, that can be adopted? */
bool prx_sink_is_numbered(const char *word);

/**
 * prx_sink_adopt - rename the finished shard at @path, and the .idx beside it, to be
 * the next shard of this destination; a resumed one finds that done already.
 *
 * Instead of prx_sink_put(), and only where prx_sink_is_numbered().  Each adopted
 * shard counts as one serial.
 * @path:  in the same file system; NULL: only rejects are counted.
 * @shard: its samples, bytes and hash, and rejects to be counted with it.
 * Errors: PRX_EIO, PRX_ENOENT (it is in neither place), PRX_ENOMEM.
 */
PRX_MUST_USE int prx_sink_adopt(struct prx_sink *sink, const char *path,
                                const struct prx_shard *shard);

/**
 * prx_sink_complete - complete everything, and only then name it.
 *
 * Until prx_sink_close() a run that is resumed can still tell the rejects, so what
 * depends on them comes between the two.
 * @extra: members added to index.json's object, or NULL; borrowed.
 * @totals: of this and all earlier runs of the plan; NULL to discard.
 * After an error only prx_sink_abort() is left.
 */
PRX_MUST_USE int prx_sink_complete(struct prx_sink *sink, json_t *extra,
                                   struct prx_sink_totals *totals);

/** prx_sink_close - after prx_sink_complete(): drop the journal; frees @sink. */
PRX_MUST_USE int prx_sink_close(struct prx_sink *sink);

/** prx_sink_finish - both in one; frees @sink, after an error too. */
PRX_MUST_USE int prx_sink_finish(struct prx_sink *sink, json_t *extra,
                                 struct prx_sink_totals *totals);

/** prx_sink_abort - drop what is not finished; finished shards stay for a resume. */
void prx_sink_abort(struct prx_sink *sink);

/**
 * prx_sink_each_reject - rejects an earlier, resumed run has journalled, in order.
 *
 * Calls @fn for each; @origin is NULL where the sample had none.  Stops at its first
 * non-zero return, which is returned.
 */
int prx_sink_each_reject(const struct prx_sink *sink,
                         int (*fn)(void *ctx, const char *key, const char *stage,
                                   const char *reason, const char *origin),
                         void *ctx);

#ifdef __cplusplus
}
#endif
#endif
