/* SPDX-License-Identifier: Apache-2.0 */
/* loader.h: the slices of a batch that several processes take are the batch. */
#include "libdata/loader.h"

#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

#include <cmocka.h>

#include "tests/lib/loader_set.h"

#define N_OF(array) (sizeof(array) / sizeof((array)[0]))

enum {
    WORLD_MAX = 5,
    N_BATCHES = 12,
};

static struct prx_loader_batch next(struct prx_loader *loader)
{
    struct prx_loader_batch batch;
    int rc = prx_loader_next(loader, &batch);
    if (rc < 0)
        print_message("%s\n", prx_err_message());
    assert_int_equal(rc, 0);
    return batch;
}

static void test_even(void **state)
{
    static const struct {
        size_t n_batch, world;
        size_t want[WORLD_MAX];
    } cases[] = {
        {7, 0, {7}},
        {7, 1, {7}},
        {7, 2, {4, 3}},
        {8, 2, {4, 4}},
        {7, 3, {3, 2, 2}},
        {5, 5, {1, 1, 1, 1, 1}},
        {9, 5, {2, 2, 2, 2, 1}},
    };
    (void)state;

    for (size_t c = 0; c < N_OF(cases); c++) {
        size_t n_before = 0;
        for (size_t r = 0; r == 0 || r < cases[c].world; r++) {
            size_t i_first;
            size_t n = prx_loader_slice(cases[c].n_batch, r, cases[c].world, &i_first);
            assert_int_equal(n, cases[c].want[r]);
            assert_int_equal(i_first, n_before);
            n_before += n;
        }
        assert_int_equal(n_before, cases[c].n_batch);
    }
}

/* Sample @i of @slice is sample @j of @whole, to the last number. */
static void assert_same_sample(const struct prx_loader_batch *slice, int64_t i,
                               const struct prx_loader_batch *whole, int64_t j)
{
    size_t n = (size_t)(whole->channels * whole->height * whole->width);
    size_t n_text = (size_t)(slice->n_tokens * SET_WIDTH);

    assert_int_equal(slice->height, whole->height);
    assert_int_equal(slice->width, whole->width);
    assert_memory_equal(&slice->draws[i], &whole->draws[j], sizeof(*whole->draws));
    assert_memory_equal(slice->latent + (size_t)i * n, whole->latent + (size_t)j * n,
                        n * sizeof(float));
    /* A slice is padded to its own longest caption, which may be the shorter one. */
    assert_true(slice->n_tokens <= whole->n_tokens);
    assert_memory_equal(slice->text + (size_t)i * n_text,
                        whole->text + j * whole->n_tokens * SET_WIDTH,
                        n_text * sizeof(float));
    for (int64_t t = 0; t < whole->n_tokens; t++)
        assert_int_equal(whole->mask[j * whole->n_tokens + t],
                         t < slice->n_tokens && slice->mask[i * slice->n_tokens + t]);
}

/* Batches of three shapes, damaged samples among them, with drawn captions. */
static void test_slices_are_the_batch(void **state)
{
    unsigned wrong[31] = {0};
    const struct set set = {31, 3, set_shapes, wrong};
    struct prx_loader *slices[WORLD_MAX];
    struct set_fixture fixture;
    int64_t n_null = 0, n_replaced = 0;
    (void)state;

    for (int i = 0; i < 31; i += 5)
        wrong[i] = i % 2 ? SET_NAN_TEXT : SET_NAN_LATENT;
    wrong[7] = SET_HAS_STD; /* whose latent is drawn anew each epoch */
    set_fixture_write(&fixture, &set);
    fixture.opts.n_batch = 7;
    fixture.opts.n_captions = 2;
    fixture.opts.phases[0].weights[1] = 1;
    fixture.opts.caption_dropout = 0.2;
    for (size_t world = 1; world <= WORLD_MAX; world++) {
        assert_int_equal(set_fixture_open(&fixture), 0);
        for (size_t r = 0; r < world; r++) {
            struct prx_loader_opts opts = fixture.opts;
            opts.rank = r;
            opts.world = world;
            opts.n_threads = 1 + (int)r % 2;
            const char *set_path = prx_scratch_path(&fixture.scratch, "set/index.json");
            assert_int_equal(prx_set_open(set_path, &opts, &slices[r]), 0);
            assert_int_equal(prx_loader_seek(slices[r], 2), 0);
        }
        (void)next(fixture.loader);
        (void)next(fixture.loader);
        for (int k = 0; k < N_BATCHES; k++) {
            struct prx_loader_batch whole = next(fixture.loader);
            int64_t n_samples = 0, n_null_here = 0, n_replaced_here = 0;
            n_null += whole.n_null;
            n_replaced += whole.n_replaced;
            for (size_t r = 0; r < world; r++) {
                struct prx_loader_batch slice = next(slices[r]);
                for (int64_t i = 0; i < slice.n_samples; i++)
                    assert_same_sample(&slice, i, &whole, n_samples++);
                n_null_here += slice.n_null;
                n_replaced_here += slice.n_replaced;
                assert_int_equal(slice.replaced_reason != NULL, slice.n_replaced > 0);
            }
            assert_int_equal(n_samples, 7);
            assert_int_equal(n_null_here, whole.n_null);
            assert_int_equal(n_replaced_here, whole.n_replaced);
        }
        for (size_t r = 0; r < world; r++)
            prx_loader_close(slices[r]);
    }
    assert_true(n_null > 0 && n_replaced > 0);
    set_fixture_close(&fixture);
}

/* What is in other slices is not read: it may even be gone. */
static void test_others_are_not_read(void **state)
{
    const struct set set = {8, 1, set_shapes, NULL};
    struct set_fixture fixture;
    (void)state;

    set_fixture_write(&fixture, &set);
    prx_set_write(prx_scratch_path(&fixture.scratch, "files/"), &set);
    fixture.opts.shuffle = false;
    fixture.opts.rank = 1;
    fixture.opts.world = 2;
    assert_int_equal(prx_set_open(prx_scratch_path(&fixture.scratch, "files"),
                                  &fixture.opts, &fixture.loader),
                     0);
    for (int i = 0; i < 8; i++) {
        char name[64];
        snprintf(name, sizeof(name), "files/k%04d.latent.npy", i);
        if (i % 4 < 2)
            assert_int_equal(unlink(prx_scratch_path(&fixture.scratch, name)), 0);
    }
    for (uint32_t k = 0; k < 6; k++) {
        struct prx_loader_batch batch = next(fixture.loader);
        assert_int_equal(batch.n_samples, 2);
        for (uint32_t i = 0; i < 2; i++)
            assert_int_equal(batch.draws[i].sample, 4 * (k % 2) + 2 + i);
    }
    set_fixture_close(&fixture);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_even),
        cmocka_unit_test(test_slices_are_the_batch),
        cmocka_unit_test(test_others_are_not_read),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
