/* SPDX-License-Identifier: Apache-2.0 */
/* resize_lanczos, resize_bicubic, resize_bilinear, ar_bucket_assign, ar_bucket. */
#include "tests/golden/golden.h"

#include "libdata/bucket.h"
#include "libdata/image.h"

#include <limits.h>
#include <stdlib.h>
#include <string.h>

/* --- resize_* ------------------------------------------------------------------ */

static int small_integer(const struct golden_case *golden, const char *key, int *out)
{
    int64_t n = 0;
    PRX_TRY(golden_integer(golden, key, &n));
    if (n < 1 || n > 1 << 20)
        return prx_err(PRX_EINVAL, "config.%s is not 1 to %d", key, 1 << 20);
    *out = (int)n;
    return 0;
}

static int read_image(struct golden_case *golden, struct prx_image *out)
{
    const struct prx_st_tensor *in = NULL;

    PRX_TRY(golden_input(golden, &in, "in.image"));
    if (in->type != PRX_ST_U8 || in->n_dims != 3 || in->dims[2] != 3 ||
        in->dims[0] < 1 || in->dims[0] > INT_MAX || in->dims[1] < 1 ||
        in->dims[1] > INT_MAX)
        return prx_err(PRX_ESHAPE, "in.image is not U8 [H, W, 3]");
    PRX_TRY(golden_alloc(golden, in->n_bytes, 1, &out->pixels));
    memcpy(out->pixels, in->bytes, in->n_bytes);
    out->height_px = (int)in->dims[0];
    out->width_px = (int)in->dims[1];
    return 0;
}

static int resize(struct golden_case *golden, enum prx_resample filter)
{
    struct prx_image source = {0};
    struct prx_image scaled = {0};
    int height_px = 0;
    int width_px = 0;
    int rc = 0;

    PRX_GO(small_integer(golden, "out_h", &height_px));
    PRX_GO(small_integer(golden, "out_w", &width_px));
    PRX_GO(read_image(golden, &source));
    PRX_GO(prx_image_resize(&source, NULL, filter, width_px, height_px, &scaled));
    rc = golden_put(golden, "out.image", PRX_ST_U8, 3,
                    (int64_t[]){scaled.height_px, scaled.width_px, 3}, scaled.pixels);
out:
    prx_image_release(&scaled);
    return rc;
}

static int run_resize_lanczos(struct golden_case *golden)
{
    return resize(golden, PRX_LANCZOS);
}

static int run_resize_bicubic(struct golden_case *golden)
{
    return resize(golden, PRX_BICUBIC);
}

static int run_resize_bilinear(struct golden_case *golden)
{
    return resize(golden, PRX_BILINEAR);
}

/* --- ar_bucket_assign, ar_bucket ------------------------------------------------- */

static int table_of(const struct golden_case *golden, struct prx_bucket_table *out)
{
    int base_px = 0;
    int patch_px = 0;
    int divisible_by_px = 0;
    double min_aspect = 0.0;
    double max_aspect = 0.0;

    PRX_TRY(small_integer(golden, "default_image_size", &base_px));
    PRX_TRY(small_integer(golden, "patch_size_pixels", &patch_px));
    PRX_TRY(small_integer(golden, "divisible_by", &divisible_by_px));
    PRX_TRY(golden_number(golden, "min_ar", &min_aspect));
    PRX_TRY(golden_number(golden, "max_ar", &max_aspect));
    return prx_bucket_table_init(out, base_px, patch_px, min_aspect, max_aspect,
                                 divisible_by_px);
}

/* Rows of two positive numbers. */
static int sizes_of(struct golden_case *golden, const char *name, int64_t *n,
                    const int32_t **out)
{
    const struct prx_st_tensor *in = NULL;

    PRX_TRY(golden_ints(golden, name, 2, &in, out));
    if (in->dims[1] != 2)
        return prx_err(PRX_ESHAPE, "%s is not [n, 2]", name);
    for (int64_t i = 0; i < 2 * in->dims[0]; i++)
        if ((*out)[i] < 1)
            return prx_err(PRX_EINVAL, "%s holds a side that is not positive", name);
    *n = in->dims[0];
    return 0;
}

static int put_pairs(struct golden_case *golden, const char *name, int64_t n,
                     const int32_t *pairs)
{
    return golden_put(golden, name, PRX_ST_I32, 2, (int64_t[]){n, 2}, pairs);
}

static int put_buckets(struct golden_case *golden, const char *name,
                       const struct prx_bucket *buckets, size_t n)
{
    int32_t *pairs = NULL;
    PRX_TRY(golden_alloc(golden, 2 * n, sizeof(*pairs), &pairs));
    for (size_t i = 0; i < n; i++) {
        pairs[2 * i] = buckets[i].width_px;
        pairs[2 * i + 1] = buckets[i].height_px;
    }
    return put_pairs(golden, name, (int64_t)n, pairs);
}

static int assign(struct golden_case *golden, const struct prx_bucket_table *table)
{
    const int32_t *sizes = NULL;
    int32_t *index = NULL;
    int32_t *target = NULL;
    int64_t n = 0;

    PRX_TRY(sizes_of(golden, "in.wh", &n, &sizes));
    PRX_TRY(golden_alloc(golden, (size_t)n, sizeof(*index), &index));
    PRX_TRY(golden_alloc(golden, 2 * (size_t)n, sizeof(*target), &target));
    for (int64_t i = 0; i < n; i++) {
        size_t i_bucket = prx_bucket_find(table, sizes[2 * i], sizes[2 * i + 1]);
        index[i] = (int32_t)i_bucket;
        target[2 * i] = table->buckets[i_bucket].width_px;
        target[2 * i + 1] = table->buckets[i_bucket].height_px;
    }
    PRX_TRY(put_buckets(golden, "out.buckets_wh", table->buckets, table->n_buckets));
    PRX_TRY(golden_put(golden, "out.bucket_index", PRX_ST_I32, 1, &n, index));
    return put_pairs(golden, "out.target_wh", n, target);
}

static int run_ar_bucket_assign(struct golden_case *golden)
{
    struct prx_bucket_table table = {0};
    PRX_TRY(table_of(golden, &table));
    int rc = assign(golden, &table);
    prx_bucket_table_release(&table);
    return rc;
}

static int put_by_size(struct golden_case *golden, const struct prx_bucket_table *table)
{
    struct prx_bucket *buckets = NULL;
    size_t n = table->n_buckets;

    PRX_TRY(golden_alloc(golden, n, sizeof(*buckets), &buckets));
    memcpy(buckets, table->buckets, n * sizeof(*buckets));
    qsort(buckets, n, sizeof(*buckets), prx_bucket_compare_size);
    return put_buckets(golden, "out.bucket_wh", buckets, n);
}

/* The crop's height and width, or -1, -1 where no bucket qualifies. */
static int crop_of(const struct prx_bucket_table *table, int width_px, int height_px,
                   int32_t *out)
{
    struct prx_bucket crop = {-1, -1};
    int rc = prx_bucket_center_crop(table, width_px, height_px, &crop);
    if (rc < 0 && rc != PRX_ENOENT)
        return rc;
    out[0] = rc < 0 ? -1 : crop.height_px;
    out[1] = rc < 0 ? -1 : crop.width_px;
    return 0;
}

static int resize_and_crop(struct golden_case *golden,
                           const struct prx_bucket_table *table)
{
    const int32_t *sizes = NULL;
    int32_t *target = NULL;
    int32_t *crop = NULL;
    int64_t n = 0;

    PRX_TRY(sizes_of(golden, "in.sizes_hw", &n, &sizes));
    PRX_TRY(golden_alloc(golden, 2 * (size_t)n, sizeof(*target), &target));
    PRX_TRY(golden_alloc(golden, 2 * (size_t)n, sizeof(*crop), &crop));
    for (int64_t i = 0; i < n; i++) {
        int height_px = sizes[2 * i];
        int width_px = sizes[2 * i + 1];
        const struct prx_bucket *bucket =
            &table->buckets[prx_bucket_find(table, width_px, height_px)];
        target[2 * i] = bucket->height_px;
        target[2 * i + 1] = bucket->width_px;
        PRX_TRY(crop_of(table, width_px, height_px, &crop[2 * i]));
    }
    PRX_TRY(put_by_size(golden, table));
    PRX_TRY(put_pairs(golden, "out.resize_hw", n, target));
    return put_pairs(golden, "out.center_crop_hw", n, crop);
}

static int run_ar_bucket(struct golden_case *golden)
{
    struct prx_bucket_table table = {0};
    PRX_TRY(table_of(golden, &table));
    int rc = resize_and_crop(golden, &table);
    prx_bucket_table_release(&table);
    return rc;
}

const struct golden_op golden_image_ops[] = {
    {"resize_lanczos", run_resize_lanczos},
    {"resize_bicubic", run_resize_bicubic},
    {"resize_bilinear", run_resize_bilinear},
    {"ar_bucket_assign", run_ar_bucket_assign},
    {"ar_bucket", run_ar_bucket},
    {NULL, NULL},
};
