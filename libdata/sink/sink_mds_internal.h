/* SPDX-License-Identifier: Apache-2.0 */
/*
 * sink_mds_internal.h - one MDS shard, gathered in memory and written at once.
 *
 * All samples of an MDS shard have the same columns, and ours need not have the same
 * fields.  So a shard has a column for every field that any of its samples has.
 * PRX_MDS_FIELDS says which fields are a sample's own; in the columns of the others it
 * has something that can be read, and means nothing.
 *
 * A column's encoding is the most telling one that all its values allow: pictures are
 * "jpeg" or "png" (their reader opens any format), text "str", metadata "json", arrays
 * "ndarray:TYPE".  Where one value is no such thing, or a picture is missing, all are
 * "bytes".  Either way every sample comes back to the byte.
 */
#ifndef PRX_SINK_MDS_INTERNAL_H
#define PRX_SINK_MDS_INTERNAL_H

#include "libdata/hash.h"
#include "libdata/mds.h"
#include "libdata/outfile.h"
#include "libdata/sample.h"

struct mds_column;

/* {0} is an empty one. */
struct mds_shard {
    struct prx_sample *samples; /* their fields are references */
    size_t n_samples, cap_samples;
    uint64_t n_value_bytes;
    struct mds_column *columns; /* in byte order of name */
    size_t n_columns, cap_columns;
    uint64_t n_name_bytes; /* of columns */
};

void mds_shard_release(struct mds_shard *shard);
void mds_shard_reset(struct mds_shard *shard);

/** mds_shard_bound - at least the bytes, and the columns, with @sample in it too. */
uint64_t mds_shard_bound(const struct mds_shard *shard, const struct prx_sample *sample,
                         size_t *n_columns);

/** mds_shard_add - hold what @sample has now. */
PRX_MUST_USE int mds_shard_add(struct mds_shard *shard,
                               const struct prx_sample *sample);

/**
 * mds_shard_write - write all to @file, which is open, and add it to @hasher.
 *
 * @size_limit: what the shard's head calls so.
 * The shard's bound must not be above PRX_MDS_SHARD_BYTES_MAX.
 */
PRX_MUST_USE int mds_shard_write(const struct mds_shard *shard, uint64_t size_limit,
                                 struct prx_outfile *file, struct prx_hasher *hasher);

#endif
