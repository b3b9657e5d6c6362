/* SPDX-License-Identifier: Apache-2.0 */
/*
 * skip.h - SHARD.skip: samples of a shard that no reader sees.
 *
 * A data set is curated without being rewritten: beside "000012.tar" stands
 * "000012.tar.skip", a line for each hidden sample,
 *
 *     KEY <tab> REASON <newline>
 *
 * in byte order of KEY, each at most once, so that sort(1), comm(1) and join(1) can
 * work with it.  A folder "photos" has "photos.skip" beside it, a list
 * "images.csv" has "images.csv.skip", an LMDB environment "set.lmdb" has
 * "set.lmdb.skip".
 *
 * A list that is damaged is an error, not an empty list: samples that somebody
 * has taken out must not come back unseen.
 *
 * A struct prx_skip is one list; a prx_skip_set gathers rows for the lists of many
 * shards, which tools that find samples to hide then add to what is there.
 */
#ifndef PRX_LIBDATA_SKIP_H
#define PRX_LIBDATA_SKIP_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

#include "libdata/buf.h"
#include "libdata/err.h"

#ifdef __cplusplus
extern "C" {
#endif

struct prx_skip_row {
    size_t key_place; /* in text */
    size_t reason_place;
};

/* {0} is an empty list.  Read-only use by any number of threads. */
struct prx_skip {
    struct prx_str text; /* keys and reasons, each with its NUL */
    struct prx_skip_row *rows;
    size_t n_rows, cap_rows;
};

void prx_skip_release(struct prx_skip *skip);

/**
 * prx_skip_read - add the rows of the list beside @shard_path to the empty @skip.
 *
 * @shard_path: of the shard, not of its list; slashes at its end do not count.
 * Where there is no list, @skip stays empty.
 * Errors: PRX_ECORRUPT (a line without a tab or a newline, a key that no sample
 *         can have, keys out of order), PRX_EIO, PRX_ENOMEM.
 */
PRX_MUST_USE int prx_skip_read(struct prx_skip *skip, const char *shard_path);

/** prx_skip_find - why @key is hidden; NULL where it is not.  Rows are sorted. */
const char *prx_skip_find(const struct prx_skip *skip, const char *key);

/** prx_skip_find_row - the row of @key, below n_rows; n_rows where there is none. */
size_t prx_skip_find_row(const struct prx_skip *skip, const char *key);

/* Of row @i; valid until rows are added. */
const char *prx_skip_key(const struct prx_skip *skip, size_t i);
const char *prx_skip_reason(const struct prx_skip *skip, size_t i);

/**
 * prx_skip_add - hide @key, for @reason, whose control characters become spaces.
 *
 * Rows may be added in any order; prx_skip_find() must wait for prx_skip_sort().
 */
PRX_MUST_USE int prx_skip_add(struct prx_skip *skip, const char *key,
                              const char *reason);

/** prx_skip_sort - rows in order; of several with one key the first added stays. */
PRX_MUST_USE int prx_skip_sort(struct prx_skip *skip);

/**
 * prx_skip_write - sort @skip, and make it the list of @shard_path, atomically.
 *
 * It replaces the list that is there: read that first to add to it.  An empty one
 * removes the list.
 */
PRX_MUST_USE int prx_skip_write(struct prx_skip *skip, const char *shard_path);

/** prx_skip_path - the name of @shard_path's list, added to @out. */
PRX_MUST_USE int prx_skip_path(const char *shard_path, struct prx_str *out);

/**
 * prx_skip_plan - add the line that fixes what is hidden of @shard_path to @plan.
 *
 * The list's name and a hash of its bytes; nothing where there is no list.
 */
PRX_MUST_USE int prx_skip_plan(const char *shard_path, struct prx_str *plan);

/* Memory: the keys and reasons, and 16 bytes a row.  One thread at a time. */
struct prx_skip_set;

PRX_MUST_USE int prx_skip_set_new(struct prx_skip_set **out);
void prx_skip_set_free(struct prx_skip_set *set); /* NULL is fine */

/**
 * prx_skip_set_add - hide @key of @shard_path (of a sample: prx_sample_shard()).
 *
 * Nothing is written yet.  Errors: PRX_EINVAL (a key that no sample can have),
 * PRX_ENOMEM.
 */
PRX_MUST_USE int prx_skip_set_add(struct prx_skip_set *set, const char *shard_path,
                                  const char *key, const char *reason);

/**
 * prx_skip_set_write - add all rows to the lists that are there, in order of path.
 *
 * A key that a list has keeps its reason.  Each list changes atomically: a run that
 * was stopped between two is made good by the next one.
 * @n_added: rows that were not there before; NULL to discard.
 * Errors: PRX_ENOENT (no such shard), PRX_ECORRUPT (a list that is damaged), PRX_EIO,
 *         PRX_ENOMEM.
 */
PRX_MUST_USE int prx_skip_set_write(struct prx_skip_set *set, uint64_t *n_added);

#ifdef __cplusplus
}
#endif
#endif
