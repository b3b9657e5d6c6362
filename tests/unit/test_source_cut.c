/* SPDX-License-Identifier: Apache-2.0 */
/* Sources cut into units: each sample in one, in order, whichever comes first. */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>
#include <unistd.h>

#include <cmocka.h>

#include "libdata/source.h"
#include "tests/lib/scratch.h"

#define N_OF(array) (sizeof(array) / sizeof((array)[0]))

static int open_scratch(void **state)
{
    static struct prx_scratch scratch;
    prx_scratch_open(&scratch);
    *state = &scratch;
    return 0;
}

static int close_scratch(void **state)
{
    prx_scratch_close(*state);
    return 0;
}

/* A folder "p" of k0 .. k9, k4 hidden; tars t0 of a0 a1, t1 of b0, its b1 hidden. */
static void make_inputs(struct prx_scratch *scratch, const char *words[3])
{
    struct prx_str tars[2] = {{0}, {0}};
    char name[32];

    for (int i = 0; i < 10; i++) {
        snprintf(name, sizeof(name), "p/k%d.jpg", i);
        prx_scratch_puts(scratch, name, "x");
    }
    prx_scratch_puts(scratch, "p.skip", "k4\tugly\n");
    for (int i = 0; i < 2; i++) {
        for (int j = 0; j < 2; j++) {
            snprintf(name, sizeof(name), "%c%d.jpg", 'a' + i, j);
            prx_tar_add(&tars[i], name, "x", 1, NULL);
        }
        prx_tar_end(&tars[i]);
        snprintf(name, sizeof(name), "t%d.tar", i);
        prx_scratch_put(scratch, name, tars[i].bytes, tars[i].n_bytes);
        prx_str_release(&tars[i]);
    }
    prx_scratch_puts(scratch, "t1.tar.skip", "b1\tblurred\n");
    words[0] = prx_scratch_path(scratch, "t0.tar");
    words[1] = prx_scratch_path(scratch, "p");
    words[2] = prx_scratch_path(scratch, "t1.tar");
}

/* "k0 k1 /1" of unit @i_unit: its samples, and how many are hidden. */
static void expect_unit(struct prx_source *source, uint64_t i_unit, const char *want)
{
    struct prx_sample sample = {0};
    struct prx_str out = {0};
    uint64_t serial = 0;
    int got;

    assert_int_equal(prx_source_set_unit(source, i_unit), 0);
    while ((got = prx_source_next(source, &sample)) == 1) {
        assert_int_equal(sample.serial, serial++);
        assert_int_equal(prx_str_printf(&out, "%s ", sample.key), 0);
    }
    assert_int_equal(got, 0);
    assert_int_equal(
        prx_str_printf(&out, "/%d", (int)prx_source_hidden(source)), 0);
    assert_string_equal(out.bytes, want);
    prx_sample_release(&sample);
    prx_str_release(&out);
}

static void test_units_in_any_order(void **state)
{
    static const char *const want[] = {"a0 a1 /0", "k0 k1 k2 k3 /1", "k5 k6 k7 k8 /0",
                                       "k9 /0", "b0 /1"};
    static const int orders[][5] = {
        {0, 1, 2, 3, 4}, {4, 3, 2, 1, 0}, {2, 2, 0, 3, 1}, {3, 1, 1, 4, 2}};
    const char *words[3];
    uint64_t n_units;

    make_inputs(*state, words);
    for (size_t i = 0; i < N_OF(orders); i++) {
        struct prx_source *source;
        assert_int_equal(prx_source_open(words, 3, NULL, &source), 0);
        assert_int_equal(prx_source_cut(source, 4, &n_units), 0);
        assert_int_equal(n_units, 5);
        for (size_t k = 0; k < 5; k++)
            expect_unit(source, (uint64_t)orders[i][k], want[orders[i][k]]);
        prx_source_close(source);
    }
}

static void test_sizes(void **state)
{
    static const struct {
        uint64_t n_unit_samples, n_units;
    } rows[] = {{1, 11}, {2, 7}, {3, 5}, {9, 3}, {10, 3}, {UINT64_MAX, 3}};
    struct prx_scratch *scratch = *state;
    const char *words[3];
    uint64_t n_units;

    make_inputs(scratch, words);
    for (size_t i = 0; i < N_OF(rows); i++) {
        struct prx_source *source;
        assert_int_equal(prx_source_open(words, 3, NULL, &source), 0);
        assert_int_equal(prx_source_cut(source, rows[i].n_unit_samples, &n_units), 0);
        assert_int_equal(n_units, rows[i].n_units);
        prx_source_close(source);
    }
    /* Nothing at all is no unit. */
    prx_scratch_puts(scratch, "none/a.txt", "");
    const char *none = prx_scratch_path(scratch, "none");
    struct prx_source *source;
    assert_int_equal(prx_source_open(&none, 1, NULL, &source), 0);
    assert_int_equal(prx_source_cut(source, 4, &n_units), 0);
    assert_int_equal(n_units, 0);
    prx_source_close(source);
}

/* The new order is cut, not the old one, and shards are none in it. */
static void test_shuffled(void **state)
{
    struct prx_scratch *scratch = *state;
    struct prx_sample sample = {0};
    struct prx_str order = {0}, units = {0};
    struct prx_source *source;
    const char *words[3];
    uint64_t n_units, n_hidden = 0;

    make_inputs(scratch, words);
    for (int is_cut = 0; is_cut < 2; is_cut++) {
        assert_int_equal(prx_source_open(words, 3, NULL, &source), 0);
        assert_int_equal(prx_source_shuffle(source, 7, scratch->root, &source), 0);
        n_units = 1;
        if (is_cut) {
            assert_int_equal(prx_source_cut(source, 5, &n_units), 0);
            assert_int_equal(n_units, 3);
        }
        for (uint64_t i = 0; i < n_units; i++) {
            if (is_cut)
                assert_int_equal(prx_source_set_unit(source, i), 0);
            while (prx_source_next(source, &sample) == 1)
                assert_int_equal(
                    prx_str_printf(is_cut ? &units : &order, "%s ", sample.key), 0);
            n_hidden += is_cut ? prx_source_hidden(source) : 0;
        }
        prx_source_close(source);
    }
    assert_string_equal(units.bytes, order.bytes);
    assert_null(strstr(order.bytes, "a0 a1 k0 k1"));
    assert_int_equal(n_hidden, 2);
    prx_str_release(&order);
    prx_str_release(&units);
    prx_sample_release(&sample);
}

static void test_pipes_are_not_cut(void **state)
{
    struct prx_scratch *scratch = *state;
    const char *words[4];
    uint64_t n_units;

    make_inputs(scratch, words);
    words[3] = prx_scratch_path(scratch, "pipe");
    assert_int_equal(mkfifo(words[3], 0600), 0);
    for (int is_shuffled = 0; is_shuffled < 2; is_shuffled++) {
        struct prx_source *source;
        assert_int_equal(prx_source_open(words, 4, NULL, &source), 0);
        if (is_shuffled)
            assert_int_equal(prx_source_shuffle(source, 7, scratch->root, &source), 0);
        assert_int_equal(prx_source_cut(source, 4, &n_units), PRX_EINVAL);
        assert_non_null(strstr(prx_err_message(), "pipe"));
        prx_source_close(source);
    }
}

/* A unit that is broken off does not break those behind it. */
static void test_canceled_unit(void **state)
{
    struct prx_source *source;
    const char *words[3];
    uint64_t n_units;

    make_inputs(*state, words);
    assert_int_equal(prx_source_open(words, 3, NULL, &source), 0);
    assert_int_equal(prx_source_cut(source, 4, &n_units), 0);
    assert_int_equal(prx_source_set_unit(source, 1), 0);
    prx_source_cancel(source);
    expect_unit(source, 1, "k0 k1 k2 k3 /1");
    prx_source_cancel(source);
    expect_unit(source, 4, "b0 /1");
    expect_unit(source, 2, "k5 k6 k7 k8 /0");
    prx_source_close(source);
}

/* Going back opens the folder again, which must then be what it was. */
static void test_changed_folder(void **state)
{
    struct prx_scratch *scratch = *state;
    struct prx_source *source;
    const char *words[3];
    uint64_t n_units;

    make_inputs(scratch, words);
    assert_int_equal(prx_source_open(&words[1], 1, NULL, &source), 0);
    assert_int_equal(prx_source_cut(source, 4, &n_units), 0);
    expect_unit(source, 2, "k9 /0");
    prx_scratch_puts(scratch, "p/a.jpg", "new");
    assert_int_equal(prx_source_set_unit(source, 0), PRX_ECORRUPT);
    assert_non_null(strstr(prx_err_message(), "has changed"));
    prx_source_close(source);
}

int main(void)
{
#define TEST(name) cmocka_unit_test_setup_teardown(name, open_scratch, close_scratch)
    const struct CMUnitTest tests[] = {
        TEST(test_units_in_any_order),
        TEST(test_sizes),
        TEST(test_shuffled),
        TEST(test_pipes_are_not_cut),
        TEST(test_changed_folder),
        TEST(test_canceled_unit),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
