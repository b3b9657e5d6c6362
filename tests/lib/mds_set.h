/* SPDX-License-Identifier: Apache-2.0 */
/*
 * mds_set.h - MDS shards made byte by byte, and what is wrong with them put in.
 *
 * Nothing here fails but by aborting.
 */
#ifndef PRX_TESTS_LIB_MDS_SET_H
#define PRX_TESTS_LIB_MDS_SET_H

#include <stddef.h>
#include <stdint.h>

#include "tests/lib/scratch.h"

#define PRX_MDS_SET_SAMPLES 8

struct prx_mds_value {
    const char *bytes;
    size_t n_bytes; /* 0: up to the NUL */
};

/* One shard, to be changed before it is written.  {0} but for columns. */
struct prx_mds_set {
    const char *columns; /* "caption=str n=int@8": a fixed size behind the @ */
    struct prx_str samples[PRX_MDS_SET_SAMPLES];
    size_t n_samples;
    struct prx_str shard;   /* after prx_mds_set_build() */
    size_t at_samples;      /* where in it the first sample begins */
    uint64_t index_samples; /* what the index says; 0: the truth */
    uint64_t index_bytes;
    const char *compression; /* then shard.00000.mds.EXT is the file, the caller's */
    const char *basename;    /* NULL: "shard.00000.mds" */
};

/** prx_mds_set_add - a sample, one of @values a column. */
void prx_mds_set_add(struct prx_mds_set *set, const struct prx_mds_value *values);

/** prx_mds_set_build - lay out the shard. */
void prx_mds_set_build(struct prx_mds_set *set);

/**
 * prx_mds_set_write - write FOLDER/index.json and, if nothing is compressed, the shard.
 *
 * Returns the folder's path, valid as prx_scratch_path() says.
 */
const char *prx_mds_set_write(struct prx_mds_set *set, struct prx_scratch *scratch,
                              const char *folder);

void prx_mds_set_release(struct prx_mds_set *set);

#endif
