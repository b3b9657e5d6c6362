/* SPDX-License-Identifier: Apache-2.0 */
/* libdata/bucket.h: tables, nearest bucket, centre crop, what is refused. */
#include "libdata/bucket.h"

#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <stdlib.h>

#include <cmocka.h>

static struct prx_bucket_table make(int base_px, int patch_px)
{
    struct prx_bucket_table table;
    assert_int_equal(prx_bucket_table_init(&table, base_px, patch_px, 0.5, 2.0, 1), 0);
    return table;
}

static void test_counts(void **state)
{
    static const struct {
        int base_px, patch_px;
        size_t n_buckets;
    } rows[] = {
        {256, 32, 7}, {512, 32, 13}, {1024, 32, 27}, {256, 16, 13}, {1024, 16, 53}};

    (void)state;
    for (size_t i = 0; i < sizeof(rows) / sizeof(rows[0]); i++) {
        struct prx_bucket_table table = make(rows[i].base_px, rows[i].patch_px);
        assert_int_equal(table.n_buckets, rows[i].n_buckets);
        for (size_t j = 0; j < table.n_buckets; j++) {
            const struct prx_bucket *bucket = &table.buckets[j];
            assert_int_equal(bucket->width_px % rows[i].patch_px, 0);
            assert_int_equal(bucket->height_px % rows[i].patch_px, 0);
            assert_true((int64_t)bucket->width_px * bucket->height_px <=
                        (int64_t)rows[i].base_px * rows[i].base_px);
            if (j > 0) /* a/b < c/d, in whole numbers */
                assert_true((int64_t)bucket[-1].width_px * bucket->height_px <
                            (int64_t)bucket->width_px * bucket[-1].height_px);
        }
        prx_bucket_table_release(&table);
    }
}

static void test_256(void **state)
{
    static const struct prx_bucket want[] = {
        {160, 352},
        {192, 320},
        {224, 288},
        {256, 256},
        {288, 224},
        {320, 192},
        {352, 160},
    };
    struct prx_bucket_table table = make(256, 32);

    (void)state;
    assert_int_equal(table.n_buckets, 7);
    assert_memory_equal(table.buckets, want, sizeof(want));
    prx_bucket_table_release(&table);
    prx_bucket_table_release(&table);
    prx_bucket_table_release(NULL);
}

static void test_1024_bounds(void **state)
{
    struct prx_bucket_table table = make(1024, 32);

    (void)state;
    assert_int_equal(table.buckets[0].width_px, 704);
    assert_int_equal(table.buckets[0].height_px, 1440);
    assert_int_equal(table.buckets[26].width_px, 1440);
    assert_int_equal(table.buckets[26].height_px, 704);
    prx_bucket_table_release(&table);
}

static void test_find(void **state)
{
    static const struct {
        int width_px, height_px;
        struct prx_bucket want;
    } rows[] = {
        {1, 1, {256, 256}},
        {4000, 3000, {288, 224}},
        {3000, 4000, {224, 288}},
        {1920, 1080, {320, 192}},
        {1, 1000, {160, 352}},
        {100000, 1, {352, 160}},
        {8, 7, {256, 256}}, /* 1.1428 is half-way to 1.2857: the narrower */
        {8001, 7000, {288, 224}},
    };
    struct prx_bucket_table table = make(256, 32);

    (void)state;
    for (size_t i = 0; i < sizeof(rows) / sizeof(rows[0]); i++) {
        size_t found = prx_bucket_find(&table, rows[i].width_px, rows[i].height_px);
        assert_int_equal(table.buckets[found].width_px, rows[i].want.width_px);
        assert_int_equal(table.buckets[found].height_px, rows[i].want.height_px);
    }
    prx_bucket_table_release(&table);
}

static void test_center_crop(void **state)
{
    static const struct {
        int width_px, height_px;
        struct prx_bucket want;
    } rows[] = {
        {500, 500, {500, 500}},
        {4000, 3000, {3857, 3000}}, /* 288 / 224 * 3000 = 3857.14 */
        {3000, 4000, {3000, 3857}},
        {1000, 900, {900, 900}},
        {10000, 1000, {2200, 1000}},
        {1000, 10000, {1000, 2200}},
    };
    struct prx_bucket_table table = make(256, 32), wide;
    struct prx_bucket crop;

    (void)state;
    for (size_t i = 0; i < sizeof(rows) / sizeof(rows[0]); i++) {
        assert_int_equal(
            prx_bucket_center_crop(&table, rows[i].width_px, rows[i].height_px, &crop),
            0);
        assert_int_equal(crop.width_px, rows[i].want.width_px);
        assert_int_equal(crop.height_px, rows[i].want.height_px);
    }
    prx_bucket_table_release(&table);

    assert_int_equal(prx_bucket_table_init(&wide, 256, 32, 1.5, 2.0, 1), 0);
    assert_int_equal(prx_bucket_center_crop(&wide, 500, 500, &crop), PRX_ENOENT);
    prx_bucket_table_release(&wide);
}

static void test_compare_size(void **state)
{
    struct prx_bucket rows[] = {{3, 1}, {1, 2}, {1, 1}, {2, 9}};
    static const struct prx_bucket want[] = {{1, 1}, {1, 2}, {2, 9}, {3, 1}};

    (void)state;
    qsort(rows, 4, sizeof(rows[0]), prx_bucket_compare_size);
    assert_memory_equal(rows, want, sizeof(want));
}

static void test_refused(void **state)
{
    static const struct {
        int base_px, patch_px;
        double min_aspect, max_aspect;
        int divisible_by_px;
    } rows[] = {
        {0, 32, 0.5, 2, 16},
        {256, 0, 0.5, 2, 16},
        {256, 32, 0.5, 2, 0},
        {256, 32, 0, 2, 16},
        {256, 32, -1, 2, 16},
        {256, 32, 2, 0.5, 16},
        {256, 32, 0.5, 1.0 / 0.0, 16},
        {256, 32, 0.0 / 0.0, 2, 16},
        {256, 32, 0.5, 2, 7},
        {2000000000, 1, 0.5, 2, 1},
        {256, 32, 1e-300, 2, 1},
        {1, 32, 0.5, 2, 1},
    };
    struct prx_bucket_table table;

    (void)state;
    for (size_t i = 0; i < sizeof(rows) / sizeof(rows[0]); i++) {
        assert_int_equal(prx_bucket_table_init(&table, rows[i].base_px,
                                               rows[i].patch_px, rows[i].min_aspect,
                                               rows[i].max_aspect,
                                               rows[i].divisible_by_px),
                         PRX_EINVAL);
        assert_null(table.buckets);
    }
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_counts),
        cmocka_unit_test(test_256),
        cmocka_unit_test(test_1024_bounds),
        cmocka_unit_test(test_find),
        cmocka_unit_test(test_center_crop),
        cmocka_unit_test(test_compare_size),
        cmocka_unit_test(test_refused),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
