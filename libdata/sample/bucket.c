/* SPDX-License-Identifier: Apache-2.0 */
/* Aspect buckets, as PRX's dataset transforms make and choose them. */
#include "libdata/bucket.h"

#include <limits.h>
#include <math.h>
#include <stdbool.h>
#include <stdlib.h>

/* More patches along a side than any picture has; keeps all products in range. */
#define N_SIDE_PATCHES_MAX 16384

static double aspect(const struct prx_bucket *bucket)
{
    return (double)bucket->width_px / bucket->height_px;
}

static int compare_aspect(const void *a, const void *b)
{
    double aspect_a = aspect(a), aspect_b = aspect(b);
    return aspect_a != aspect_b ? (aspect_a > aspect_b) - (aspect_a < aspect_b)
                                : prx_bucket_compare_size(a, b);
}

int prx_bucket_compare_size(const void *a, const void *b)
{
    const struct prx_bucket *x = a, *y = b;
    return x->width_px != y->width_px
               ? (x->width_px > y->width_px) - (x->width_px < y->width_px)
               : (x->height_px > y->height_px) - (x->height_px < y->height_px);
}

static void add(struct prx_bucket_table *table, int width_px, int height_px,
                int divisible_by_px)
{
    if (width_px > 0 && height_px > 0 && width_px % divisible_by_px == 0 &&
        height_px % divisible_by_px == 0)
        table->buckets[table->n_buckets++] = (struct prx_bucket){width_px, height_px};
}

static void sort_unique(struct prx_bucket_table *table)
{
    size_t n_kept = 0;

    qsort(table->buckets, table->n_buckets, sizeof(*table->buckets), compare_aspect);
    for (size_t i = 0; i < table->n_buckets; i++)
        if (n_kept == 0 || prx_bucket_compare_size(&table->buckets[n_kept - 1],
                                                   &table->buckets[i]) != 0)
            table->buckets[n_kept++] = table->buckets[i];
    table->n_buckets = n_kept;
}

int prx_bucket_table_init(struct prx_bucket_table *table, int base_px, int patch_px,
                          double min_aspect, double max_aspect, int divisible_by_px)
{
    *table = (struct prx_bucket_table){0};
    if (base_px < 1 || patch_px < 1 || divisible_by_px < 1)
        return prx_err(PRX_EINVAL,
                       "buckets of base %d, patch %d, divisible by %d pixels", base_px,
                       patch_px, divisible_by_px);
    if (!(min_aspect > 0 && min_aspect <= max_aspect && isfinite(max_aspect)))
        return prx_err(PRX_EINVAL, "buckets of aspect %g to %g", min_aspect,
                       max_aspect);

    const double r = (double)base_px / patch_px, area = r * r;
    const double w_first = ceil(sqrt(area * min_aspect)),
                 w_last = floor(sqrt(area * max_aspect));
    const double h_first = ceil(sqrt(area / max_aspect)),
                 h_last = floor(sqrt(area / min_aspect));
    if (w_last > N_SIDE_PATCHES_MAX || h_last > N_SIDE_PATCHES_MAX ||
        area / w_first > INT_MAX / patch_px || area / h_first > INT_MAX / patch_px)
        return prx_err(PRX_EINVAL,
                       "buckets of base %d px in patches of %d px: too many", base_px,
                       patch_px);
    const double n_max = fmax(w_last - w_first + 1, 0) + fmax(h_last - h_first + 1, 0);
    table->buckets = calloc((size_t)n_max + 1, sizeof(*table->buckets));
    if (!table->buckets)
        return prx_err_nomem("aspect buckets");
    for (int w = (int)w_first; w <= (int)w_last; w++)
        add(table, w * patch_px, (int)floor(area / w) * patch_px, divisible_by_px);
    for (int h = (int)h_first; h <= (int)h_last; h++)
        add(table, (int)floor(area / h) * patch_px, h * patch_px, divisible_by_px);
    sort_unique(table);
    if (table->n_buckets == 0) {
        prx_bucket_table_release(table);
        return prx_err(
            PRX_EINVAL,
            "no bucket of base %d px, patch %d px, aspect %g to %g has sides "
            "divisible by %d",
            base_px, patch_px, min_aspect, max_aspect, divisible_by_px);
    }
    return 0;
}

void prx_bucket_table_release(struct prx_bucket_table *table)
{
    if (!table)
        return;
    free(table->buckets);
    *table = (struct prx_bucket_table){0};
}

size_t prx_bucket_find(const struct prx_bucket_table *table, int width_px,
                       int height_px)
{
    const double wanted = (double)width_px / height_px;
    size_t i_best = 0;

    PRX_BUG_IF(table->n_buckets == 0 || width_px <= 0 || height_px <= 0);
    for (size_t i = 1; i < table->n_buckets; i++)
        if (fabs(aspect(&table->buckets[i]) - wanted) <
            fabs(aspect(&table->buckets[i_best]) - wanted))
            i_best = i;
    return i_best;
}

int prx_bucket_center_crop(const struct prx_bucket_table *table, int width_px,
                           int height_px, struct prx_bucket *out)
{
    const double has = (double)width_px / height_px;
    const bool is_wide = width_px >= height_px;
    double best = 0.0;

    PRX_BUG_IF(width_px <= 0 || height_px <= 0);
    for (size_t i = 0; i < table->n_buckets; i++) {
        double offered = aspect(&table->buckets[i]);
        if (is_wide ? offered <= has : offered >= has && best == 0.0)
            best = offered;
    }
    if (best == 0.0)
        return prx_err(PRX_ENOENT, "no bucket to crop %d x %d pixels to", width_px,
                       height_px);
    if (is_wide)
        *out = (struct prx_bucket){(int)nearbyint(best * height_px), height_px};
    else
        *out = (struct prx_bucket){width_px, (int)nearbyint(width_px / best)};
    return 0;
}
