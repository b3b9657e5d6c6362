/* SPDX-License-Identifier: Apache-2.0 */
/* Histograms: exact where they promise it, within 1 % elsewhere. */
#include <math.h>
#include <setjmp.h>
#include <stdarg.h>
#include <stdlib.h>

#include <cmocka.h>

#include "libdata/rng.h"
#include "libdata/stats.h"

static struct prx_histogram *histogram;

static int set_up(void **state)
{
    (void)state;
    histogram = calloc(1, sizeof(*histogram));
    return histogram ? 0 : -1;
}

static int tear_down(void **state)
{
    (void)state;
    free(histogram);
    return 0;
}

static void test_empty(void **state)
{
    struct prx_bins bins;

    (void)state;
    assert_int_equal(prx_histogram_quantile(histogram, 0.5), 0);
    assert_true(prx_histogram_mean(histogram) == 0);
    prx_histogram_bins(histogram, &bins);
    assert_int_equal(bins.n, 0);
}

static void test_small_values_are_exact(void **state)
{
    static const struct {
        double q;
        uint64_t want;
    } rows[] = {{0, 1}, {.01, 1}, {.05, 5}, {.5, 50}, {.501, 51}, {.99, 99}, {1, 100}};

    (void)state;
    for (uint64_t value = 100; value >= 1; value--)
        prx_histogram_add(histogram, value);
    for (size_t i = 0; i < sizeof(rows) / sizeof(rows[0]); i++)
        assert_int_equal(prx_histogram_quantile(histogram, rows[i].q), rows[i].want);
    assert_true(prx_histogram_mean(histogram) == 50.5);
}

static void test_any_value_is_within_one_percent(void **state)
{
    (void)state;
    for (int shift = 0; shift < 64; shift++) {
        for (uint64_t part = 0; part < 5; part++) {
            uint64_t power = UINT64_C(1) << shift;
            uint64_t value = power + power / 5 * part;
            *histogram = (struct prx_histogram){0};
            prx_histogram_add(histogram, 0);
            prx_histogram_add(histogram, value);
            prx_histogram_add(histogram, UINT64_MAX);
            double got = (double)prx_histogram_quantile(histogram, 0.5);
            assert_true(fabs(got - (double)value) <= 0.01 * (double)value);
        }
    }
    assert_int_equal(histogram->min, 0);
    assert_true(histogram->max == UINT64_MAX);
}

static int compare(const void *a, const void *b)
{
    uint64_t x = *(const uint64_t *)a, y = *(const uint64_t *)b;
    return (x > y) - (x < y);
}

static void test_quantiles_are_those_of_the_sorted_values(void **state)
{
    enum {
        N = 10007,
    };
    static uint64_t values[N];
    struct prx_rng rng;

    (void)state;
    prx_rng_init(&rng, 1, PRX_RNG_TEST, 0, 0);
    for (size_t i = 0; i < N; i++) {
        values[i] = prx_rng_below(&rng, UINT64_C(1) << (1 + prx_rng_below(&rng, 40)));
        prx_histogram_add(histogram, values[i]);
    }
    qsort(values, N, sizeof(values[0]), compare);
    for (int percent = 1; percent <= 100; percent++) {
        size_t rank = (size_t)ceil(percent / 100.0 * N);
        double want = (double)values[rank - 1];
        double got = (double)prx_histogram_quantile(histogram, percent / 100.0);
        assert_true(fabs(got - want) <= 0.01 * want);
    }
}

static void test_merge_is_the_same_as_adding(void **state)
{
    struct prx_histogram *parts = calloc(2, sizeof(*parts));

    (void)state;
    assert_non_null(parts);
    for (uint64_t i = 0; i < 1000; i++) {
        prx_histogram_add(histogram, i * i);
        prx_histogram_add(&parts[i % 2], i * i);
    }
    prx_histogram_merge(&parts[0], &parts[1]);
    assert_memory_equal(&parts[0], histogram, sizeof(*histogram));
    prx_histogram_merge(&parts[0], &(struct prx_histogram){0});
    assert_memory_equal(&parts[0], histogram, sizeof(*histogram));
    free(parts);
}

static void test_bins_are_round_and_count_all(void **state)
{
    static const struct {
        uint64_t from, step, n;
        int want_bins;
        uint64_t want_first, want_width;
    } rows[] = {
        {7, 1, 1, 1, 7, 1},
        {0, 1, 12, 12, 0, 1},
        {0, 1, 13, 7, 0, 2},
        {3, 1, 100, 11, 0, 10},
        {256, 0, 50, 1, 256, 1},
        {UINT64_MAX - 10, 1, 10, 10, UINT64_MAX - 10, 1},
    };

    (void)state;
    for (size_t i = 0; i < sizeof(rows) / sizeof(rows[0]); i++) {
        struct prx_bins bins;
        uint64_t n_counted = 0;
        *histogram = (struct prx_histogram){0};
        for (uint64_t j = 0; j < rows[i].n; j++)
            prx_histogram_add(histogram, rows[i].from + j * rows[i].step);
        prx_histogram_bins(histogram, &bins);
        for (int j = 0; j < bins.n; j++)
            n_counted += bins.counts[j];
        assert_int_equal(n_counted, rows[i].n);
        assert_in_range(bins.n, 1, PRX_BINS_MAX);
        assert_true(bins.from[0] <= rows[i].from);
        if (rows[i].from < 128) {
            assert_int_equal(bins.n, rows[i].want_bins);
            assert_int_equal(bins.from[0], rows[i].want_first);
        }
        if (bins.n > 1 && rows[i].from < 128)
            assert_int_equal(bins.from[1] - bins.from[0], rows[i].want_width);
    }
}

int main(void)
{
#define TEST(function) cmocka_unit_test_setup_teardown(function, set_up, tear_down)
    const struct CMUnitTest tests[] = {
        TEST(test_empty),
        TEST(test_small_values_are_exact),
        TEST(test_any_value_is_within_one_percent),
        TEST(test_quantiles_are_those_of_the_sorted_values),
        TEST(test_merge_is_the_same_as_adding),
        TEST(test_bins_are_round_and_count_all),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
