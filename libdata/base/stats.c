/* SPDX-License-Identifier: Apache-2.0 */
/*
 * Histograms with buckets of constant relative width.
 *
 * A value with its highest bit at position e >= 7 lies in octave e - 6, at the
 * place that its next seven bits give; values below 128 are octave 0.
 */
#include "libdata/stats.h"

#include <string.h>

enum {
    OCTAVE_BITS = 7,
    OCTAVE = 1 << OCTAVE_BITS,
};

static size_t bucket_of(uint64_t value)
{
    if (value < OCTAVE)
        return (size_t)value;
    int shift = 63 - __builtin_clzll(value) - OCTAVE_BITS;
    return (size_t)(shift + 1) * OCTAVE + (size_t)((value >> shift) - OCTAVE);
}

/* The least value of a bucket. */
static uint64_t bucket_from(size_t i_bucket)
{
    size_t octave = i_bucket / OCTAVE;

    if (octave == 0)
        return i_bucket;
    return (uint64_t)(OCTAVE + i_bucket % OCTAVE) << (octave - 1);
}

void prx_histogram_add(struct prx_histogram *histogram, uint64_t value)
{
    histogram->counts[bucket_of(value)]++;
    if (histogram->n == 0 || value < histogram->min)
        histogram->min = value;
    if (value > histogram->max)
        histogram->max = value;
    histogram->n++;
    histogram->sum += (double)value;
}

void prx_histogram_merge(struct prx_histogram *histogram,
                         const struct prx_histogram *from)
{
    if (from->n == 0)
        return;
    for (size_t i = 0; i < PRX_HISTOGRAM_BUCKETS; i++)
        histogram->counts[i] += from->counts[i];
    if (histogram->n == 0 || from->min < histogram->min)
        histogram->min = from->min;
    if (from->max > histogram->max)
        histogram->max = from->max;
    histogram->n += from->n;
    histogram->sum += from->sum;
}

uint64_t prx_histogram_quantile(const struct prx_histogram *histogram, double q)
{
    uint64_t n_below = 0;

    if (histogram->n == 0)
        return 0;
    /* The nearest rank: the smallest value that q * n values do not exceed. */
    uint64_t n_wanted = (uint64_t)(q * (double)histogram->n);
    if ((double)n_wanted < q * (double)histogram->n)
        n_wanted++;
    if (n_wanted <= 1)
        return histogram->min;
    if (n_wanted >= histogram->n)
        return histogram->max;
    for (size_t i = 0; i < PRX_HISTOGRAM_BUCKETS; i++) {
        n_below += histogram->counts[i];
        if (n_below >= n_wanted) {
            uint64_t value = bucket_from(i);
            return value < histogram->min ? histogram->min : value;
        }
    }
    return histogram->max;
}

double prx_histogram_mean(const struct prx_histogram *histogram)
{
    return histogram->n > 0 ? histogram->sum / (double)histogram->n : 0;
}

/* The least 1, 2 or 5 times a power of ten that is not below @width. */
static uint64_t round_width(uint64_t width)
{
    static const uint64_t steps[] = {1, 2, 5};
    uint64_t power = 1;

    for (;;) {
        for (size_t i = 0; i < 3; i++)
            if (steps[i] * power >= width || power > UINT64_MAX / 100)
                return steps[i] * power;
        power *= 10;
    }
}

void prx_histogram_bins(const struct prx_histogram *histogram, struct prx_bins *bins)
{
    *bins = (struct prx_bins){0};
    if (histogram->n == 0)
        return;

    uint64_t high = prx_histogram_quantile(histogram, 0.99);
    uint64_t width = round_width((high - histogram->min) / PRX_BINS_MAX + 1);
    uint64_t first = histogram->min / width * width;
    while ((high - first) / width >= PRX_BINS_MAX) {
        width = round_width(width + 1);
        first = histogram->min / width * width;
    }
    bins->n = (int)((high - first) / width) + 1;
    for (int i = 0; i < bins->n; i++)
        bins->from[i] = first + (uint64_t)i * width;
    for (size_t i = 0; i < PRX_HISTOGRAM_BUCKETS; i++) {
        uint64_t from = bucket_from(i);
        uint64_t i_bin = from < first ? 0 : (from - first) / width;
        if (i_bin >= (uint64_t)bins->n)
            i_bin = (uint64_t)bins->n - 1;
        bins->counts[i_bin] += histogram->counts[i];
    }
}
