/* SPDX-License-Identifier: Apache-2.0 */
/*
 * bucket.h - aspect buckets: the few picture sizes that a training run batches by.
 *
 * All buckets of a table have about the area base_px * base_px, sides that are
 * whole patches, and aspects (width / height) between two bounds, from narrow to
 * wide.  With r = base_px / patch_px, a table holds
 *
 *     for w = ceil(r sqrt(min_aspect)) .. floor(r sqrt(max_aspect)):
 *         w x floor(r^2 / w) patches
 *     for h = ceil(r / sqrt(max_aspect)) .. floor(r / sqrt(min_aspect)):
 *         floor(r^2 / h) x h patches
 *
 * without those whose sides in pixels do not divide by divisible_by_px, each once,
 * by rising aspect.  (The outermost may lie just beyond the bounds.)  PRX uses
 * aspects 0.5 to 2, patches of 32 px and divisible_by_px 16: 7 buckets at 256 px,
 * 13 at 512, 27 at 1024.
 *
 * A table does not change once made; any number of threads may read it.
 */
#ifndef PRX_LIBDATA_BUCKET_H
#define PRX_LIBDATA_BUCKET_H

#include <stddef.h>

#include "libdata/err.h"

#ifdef __cplusplus
extern "C" {
#endif

struct prx_bucket {
    int width_px;
    int height_px;
};

struct prx_bucket_table {
    struct prx_bucket *buckets; /* [n_buckets], by rising aspect; owned */
    size_t n_buckets;
};

/**
 * prx_bucket_table_init - make the table.
 *
 * @divisible_by_px: 1 to ask for nothing more than whole patches.
 * Errors: PRX_EINVAL (a size below one, bounds that are not 0 < min <= max, no
 * bucket left), PRX_ENOMEM.
 */
PRX_MUST_USE int prx_bucket_table_init(struct prx_bucket_table *table, int base_px,
                                       int patch_px, double min_aspect,
                                       double max_aspect, int divisible_by_px);
void prx_bucket_table_release(struct prx_bucket_table *table);

/**
 * prx_bucket_find - the number of the bucket whose aspect is nearest, linearly.
 *
 * Of two as near the narrower one.  Sides must be positive.
 */
size_t prx_bucket_find(const struct prx_bucket_table *table, int width_px,
                       int height_px);

/**
 * prx_bucket_center_crop - what PRX's ArAwareCenterCrop cuts a picture to.
 *
 * A picture at least as wide as high is cut in width, to the widest bucket that is
 * no wider than it; a higher one in height, to the highest that is no higher.
 * Sizes are rounded half to even.
 * Errors: PRX_ENOENT (no such bucket).
 */
PRX_MUST_USE int prx_bucket_center_crop(const struct prx_bucket_table *table,
                                        int width_px, int height_px,
                                        struct prx_bucket *out);

/** prx_bucket_compare_size - for qsort(3): by width, then by height. */
int prx_bucket_compare_size(const void *a, const void *b);

#ifdef __cplusplus
}
#endif
#endif
