/* SPDX-License-Identifier: Apache-2.0 */
/*
 * stats.h - what a column of numbers looks like, in fixed memory.
 *
 * A histogram counts non-negative integers in buckets that are exact below 128
 * and 1/128 wide relative to the value above, so any quantile is within 1 % of
 * the true one however many values there were.  {0} is an empty one.
 *
 * One thread at a time; histograms of several threads are added up.
 */
#ifndef PRX_LIBDATA_STATS_H
#define PRX_LIBDATA_STATS_H

#include <stddef.h>
#include <stdint.h>

#include "libdata/err.h"

#ifdef __cplusplus
extern "C" {
#endif

#define PRX_HISTOGRAM_BUCKETS (58 * 128)

struct prx_histogram {
    uint64_t counts[PRX_HISTOGRAM_BUCKETS];
    uint64_t n;
    uint64_t min; /* of the values, exact; 0 while n is 0 */
    uint64_t max;
    double sum;
};

void prx_histogram_add(struct prx_histogram *histogram, uint64_t value);

/** prx_histogram_merge - count in @from too. */
void prx_histogram_merge(struct prx_histogram *histogram,
                         const struct prx_histogram *from);

/** prx_histogram_quantile - the value that the share @q of all stays below, 0..1. */
uint64_t prx_histogram_quantile(const struct prx_histogram *histogram, double q);

double prx_histogram_mean(const struct prx_histogram *histogram);

#define PRX_BINS_MAX 12

/* Bin i counts from <= value < from + width; the last one all above, too. */
struct prx_bins {
    int n;
    uint64_t from[PRX_BINS_MAX];
    uint64_t counts[PRX_BINS_MAX];
};

/**
 * prx_histogram_bins - a picture of the histogram in few bins of a round width.
 *
 * The width is 1, 2 or 5 times a power of ten, such that at most PRX_BINS_MAX
 * bins reach the 99th percentile.
 */
void prx_histogram_bins(const struct prx_histogram *histogram, struct prx_bins *bins);

#ifdef __cplusplus
}
#endif
#endif
