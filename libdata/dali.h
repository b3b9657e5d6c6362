/* SPDX-License-Identifier: Apache-2.0 */
/*
 * dali.h - SHARD.idx: where in a shard its members are, for NVIDIA DALI's reader.
 *
 * Version 1.2: a line "v1.2 SAMPLES", then a line a sample, for each of its members
 * "EXT OFFSET SIZE NAME", all separated by one space.  So a shard has none where a
 * name has a space in it or no extension.  Source: DALI, tools/wds2idx.py.
 */
#ifndef PRX_LIBDATA_DALI_H
#define PRX_LIBDATA_DALI_H

#include <stdbool.h>
#include <stdint.h>

#include "libdata/buf.h"
#include "libdata/err.h"
#include "libdata/sample.h"

#ifdef __cplusplus
extern "C" {
#endif

/* {0} is one without samples.  One thread at a time. */
struct prx_dali {
    struct prx_str lines; /* of the samples */
    uint64_t n_samples;
    bool is_begun; /* a sample has a member already */
    bool is_unfit; /* the format cannot say a name */
};

void prx_dali_release(struct prx_dali *dali);
void prx_dali_reset(struct prx_dali *dali);

/** prx_dali_put - add @sample, whose field i begins at @at_bytes[i] of the shard. */
PRX_MUST_USE int prx_dali_put(struct prx_dali *dali, const struct prx_sample *sample,
                              const uint64_t *at_bytes);

/*
 * A sample member by member: prx_dali_begin(), prx_dali_member() for each in order,
 * prx_dali_end().
 */
void prx_dali_begin(struct prx_dali *dali);
PRX_MUST_USE int prx_dali_member(struct prx_dali *dali, const char *key,
                                 const char *field, uint64_t at_bytes,
                                 uint64_t n_bytes);
PRX_MUST_USE int prx_dali_end(struct prx_dali *dali);

/** prx_dali_path - add the name of the index of @shard_path, "….tar", to @out. */
PRX_MUST_USE int prx_dali_path(const char *shard_path, struct prx_str *out);

/** prx_dali_write - make @dali, which is fit, the index of @shard_path, atomically. */
PRX_MUST_USE int prx_dali_write(const struct prx_dali *dali, const char *shard_path,
                                bool no_sync);

#ifdef __cplusplus
}
#endif
#endif
