/* SPDX-License-Identifier: Apache-2.0 */
/* loader.h: the order of samples, and what a batch holds of them. */
#include "libdata/loader.h"

#include <math.h>
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include <cmocka.h>

#include "tests/lib/loader_set.h"

#define N_OF(array) (sizeof(array) / sizeof((array)[0]))

static struct prx_loader_batch next(struct set_fixture *fixture)
{
    struct prx_loader_batch batch;
    int rc = prx_loader_next(fixture->loader, &batch);
    if (rc < 0)
        print_message("%s\n", prx_err_message());
    assert_int_equal(rc, 0);
    return batch;
}

static void record(struct set_fixture *fixture, size_t n_batches,
                   struct prx_loader_draw *out)
{
    for (size_t k = 0; k < n_batches; k++) {
        struct prx_loader_batch batch = next(fixture);
        memcpy(out + k * fixture->opts.n_batch, batch.draws,
               fixture->opts.n_batch * sizeof(*out));
    }
}

/* --- order ---------------------------------------------------------------------- */

/* Every epoch of the stream has every sample once, in full batches of one shape. */
static void test_exactly_once(void **state)
{
    static const struct {
        int n;
        size_t n_batch, n_shapes;
        bool shuffle;
    } cases[] = {
        {1, 1, 1, true},
        {1, 5, 1, true},
        {10, 4, 1, true},
        {12, 4, 1, true},
        {31, 8, 3, true},
        {31, 8, 3, false},
        {64, 16, 2, true},
        {3, 7, 3, true},
    };
    enum { N_EPOCHS = 12 };
    (void)state;

    for (size_t c = 0; c < N_OF(cases); c++) {
        const struct set set = {cases[c].n, cases[c].n_shapes, set_shapes, NULL};
        struct set_fixture fixture;
        int counts[N_EPOCHS][64] = {{0}};
        set_fixture_write(&fixture, &set);
        fixture.opts.n_batch = cases[c].n_batch;
        fixture.opts.shuffle = cases[c].shuffle;
        assert_int_equal(set_fixture_open(&fixture), 0);
        /* So many batches that the first epochs are given out to the last sample. */
        size_t n_batches = (size_t)cases[c].n * N_EPOCHS / cases[c].n_batch;
        for (size_t k = 0; k < n_batches; k++) {
            struct prx_loader_batch batch = next(&fixture);
            assert_int_equal(batch.n_samples, cases[c].n_batch);
            const struct set_shape *shape =
                &set_shapes[batch.draws[0].sample % cases[c].n_shapes];
            assert_int_equal(batch.height, shape->height);
            assert_int_equal(batch.width, shape->width);
            for (int64_t i = 0; i < batch.n_samples; i++) {
                struct prx_loader_draw draw = batch.draws[i];
                assert_true(draw.epoch < N_EPOCHS + 8);
                assert_ptr_equal(&set_shapes[draw.sample % cases[c].n_shapes], shape);
                if (draw.epoch < N_EPOCHS)
                    counts[draw.epoch][draw.sample]++;
                /* And the numbers are that sample's own. */
                assert_true(
                    batch.latent[i * SET_CHANNELS * batch.height * batch.width] ==
                    (float)draw.sample);
            }
        }
        /* What waits for its batch to fill is less than a batch a shape. */
        int n_missing = 0;
        for (int e = 0; e < N_EPOCHS; e++) {
            for (int i = 0; i < cases[c].n; i++) {
                assert_true(counts[e][i] <= 1);
                n_missing += counts[e][i] == 0;
            }
        }
        assert_true((size_t)n_missing <= cases[c].n_shapes * cases[c].n_batch);
        set_fixture_close(&fixture);
    }
}

static void test_order_is_a_function(void **state)
{
    const struct set set = {23, 3, set_shapes, NULL};
    struct prx_loader_draw first[4 * 30], other[4 * 30];
    struct set_fixture fixture;
    (void)state;

    set_fixture_write(&fixture, &set);
    assert_int_equal(set_fixture_open(&fixture), 0);
    record(&fixture, 30, first);

    /* Neither threads nor prefetch nor cache matter. */
    fixture.opts.n_threads = 1;
    fixture.opts.n_prefetch_bytes = 0;
    fixture.opts.n_cache_bytes = 1 << 20;
    assert_int_equal(set_fixture_open(&fixture), 0);
    record(&fixture, 30, other);
    assert_memory_equal(first, other, sizeof(first));

    /* From any batch on, the same. */
    for (uint64_t k = 0; k < 30; k += 7) {
        assert_int_equal(set_fixture_open(&fixture), 0);
        assert_int_equal(prx_loader_seek(fixture.loader, k), 0);
        record(&fixture, 30 - (size_t)k, other);
        assert_memory_equal(first + 4 * k, other,
                            (30 - (size_t)k) * 4 * sizeof(*first));
    }

    /* Another seed is another order, and so is another epoch. */
    fixture.opts.seed = 8;
    assert_int_equal(set_fixture_open(&fixture), 0);
    record(&fixture, 30, other);
    assert_memory_not_equal(first, other, sizeof(first));
    bool is_same = true;
    for (int i = 0; i < 4; i++)
        is_same = is_same && first[i].sample == first[4 * 6 + i].sample;
    assert_false(is_same);
    set_fixture_close(&fixture);
}

static void test_unshuffled(void **state)
{
    const struct set set = {10, 1, set_shapes, NULL};
    struct prx_loader_draw draws[4 * 5];
    struct set_fixture fixture;
    (void)state;

    set_fixture_write(&fixture, &set);
    fixture.opts.shuffle = false;
    assert_int_equal(set_fixture_open(&fixture), 0);
    record(&fixture, 5, draws);
    for (uint32_t i = 0; i < 20; i++) {
        assert_int_equal(draws[i].sample, i % 10);
        assert_int_equal(draws[i].epoch, i / 10);
    }
    set_fixture_close(&fixture);
}

/* --- contents ------------------------------------------------------------------- */

static void test_text(void **state)
{
    const struct set set = {9, 1, set_shapes, NULL};
    struct set_fixture fixture;
    int64_t n_null = 0;
    (void)state;

    set_fixture_write(&fixture, &set);
    fixture.opts.caption_dropout = 0.3;
    assert_int_equal(set_fixture_open(&fixture), 0);
    for (int k = 0; k < 100; k++) {
        struct prx_loader_batch batch = next(&fixture);
        int64_t n_null_here = 0;
        assert_int_equal(batch.n_tokens, 16); /* 7 at most, up to a multiple of 16 */
        assert_int_equal(batch.text_width, SET_WIDTH);
        for (int64_t i = 0; i < batch.n_samples; i++) {
            const float *text = batch.text + i * batch.n_tokens * SET_WIDTH;
            const int32_t *mask = batch.mask + i * batch.n_tokens;
            uint32_t sample = batch.draws[i].sample;
            bool is_null = text[0] == -1;
            int64_t n_tokens = is_null ? SET_N_NULL : 3 + sample % 5;
            n_null_here += is_null;
            for (int64_t j = 0; j < batch.n_tokens; j++) {
                float want = j >= n_tokens ? 0
                             : is_null     ? -1 - (float)j
                                           : (float)sample;
                assert_int_equal(mask[j], j < n_tokens);
                assert_true(text[j * SET_WIDTH] == want &&
                            text[j * SET_WIDTH + 3] == want);
            }
        }
        assert_int_equal(batch.n_null, n_null_here);
        n_null += n_null_here;
    }
    assert_true(n_null > 400 * 0.22 && n_null < 400 * 0.38);
    set_fixture_close(&fixture);
}

static void test_cut_text(void **state)
{
    const struct set set = {9, 1, set_shapes, NULL};
    struct set_fixture fixture;
    (void)state;

    set_fixture_write(&fixture, &set);
    fixture.opts.n_text_tokens_max = 5;
    assert_int_equal(set_fixture_open(&fixture), 0);
    for (int k = 0; k < 10; k++) {
        struct prx_loader_batch batch = next(&fixture);
        assert_int_equal(batch.n_tokens, 5);
        for (int64_t i = 0; i < batch.n_samples; i++) {
            int64_t n_tokens = 3 + batch.draws[i].sample % 5;
            assert_int_equal(batch.mask[i * 5 + 4], n_tokens >= 5);
        }
    }
    set_fixture_close(&fixture);
}

/* Shares of the captions chosen, by weights and by what is there. */
static void test_caption_weights(void **state)
{
    static const struct {
        double weights[2];
        unsigned wrong;
        double dropout, want_long, want_short;
    } cases[] = {
        {{1, 0}, 0, 0, 1, 0},
        {{0, 1}, 0, 0, 0, 1},
        {{7, 3}, 0, 0, 0.7, 0.3},
        {{0.5, 0.5}, 0, 0.4, 0.3, 0.3},
        {{7, 3}, SET_NO_LONG, 0, 0, 1},
        {{1, 0}, SET_NO_LONG, 0, 0, 1}, /* weight 0: fallback */
        {{0, 1}, SET_NO_SHORT, 0, 1, 0},
        {{1, 1}, 0, 1, 0, 0},
    };
    enum { N = 20,
           N_BATCHES = 500 };
    (void)state;

    for (size_t c = 0; c < N_OF(cases); c++) {
        unsigned wrong[N];
        const struct set set = {N, 1, set_shapes, wrong};
        struct set_fixture fixture;
        double n_long = 0, n_short = 0, n_all = 0;
        for (int i = 0; i < N; i++)
            wrong[i] = cases[c].wrong;
        set_fixture_write(&fixture, &set);
        fixture.opts.n_captions = 2;
        memcpy(fixture.opts.phases[0].weights, cases[c].weights,
               sizeof(cases[c].weights));
        fixture.opts.caption_dropout = cases[c].dropout;
        assert_int_equal(set_fixture_open(&fixture), 0);
        for (int k = 0; k < N_BATCHES; k++) {
            struct prx_loader_batch batch = next(&fixture);
            for (int64_t i = 0; i < batch.n_samples; i++) {
                float first = batch.text[i * batch.n_tokens * SET_WIDTH];
                n_all++;
                n_short += first > 0 && first != floorf(first);
                n_long += first >= 0 && first == floorf(first);
            }
        }
        /* Five standard deviations of a share of 2000. */
        assert_true(fabs(n_long / n_all - cases[c].want_long) < 0.056);
        assert_true(fabs(n_short / n_all - cases[c].want_short) < 0.056);
        set_fixture_close(&fixture);
    }
}

/* The draws of a sample do not depend on the batch it is in. */
static void test_draws_are_a_samples_own(void **state)
{
    const struct set set = {24, 1, set_shapes, NULL};
    float first[24];
    struct set_fixture fixture;
    (void)state;

    set_fixture_write(&fixture, &set);
    fixture.opts.n_captions = 2;
    fixture.opts.phases[0].weights[1] = 1;
    fixture.opts.caption_dropout = 0.2;
    for (size_t n_batch = 1; n_batch <= 24; n_batch *= 2) {
        fixture.opts.n_batch = n_batch == 16 ? 24 : n_batch;
        assert_int_equal(set_fixture_open(&fixture), 0);
        for (size_t k = 0; k < 24 / fixture.opts.n_batch; k++) {
            struct prx_loader_batch batch = next(&fixture);
            for (int64_t i = 0; i < batch.n_samples; i++) {
                float text = batch.text[i * batch.n_tokens * SET_WIDTH];
                assert_int_equal(batch.draws[i].epoch, 0);
                if (n_batch == 1)
                    first[batch.draws[i].sample] = text;
                assert_true(text == first[batch.draws[i].sample]);
            }
        }
    }
    set_fixture_close(&fixture);
}

/* [2, C, H, W]: mean and deviation, drawn anew each epoch, the same each time. */
static void test_posterior(void **state)
{
    unsigned wrong[8];
    const struct set set = {8, 1, set_shapes, wrong};
    const int64_t n = SET_CHANNELS * 16;
    float epochs[2][SET_CHANNELS * 16];
    struct set_fixture fixture;
    double sum = 0, sum_squares = 0, count = 0;
    (void)state;

    for (int i = 0; i < 8; i++)
        wrong[i] = SET_HAS_STD;
    set_fixture_write(&fixture, &set);
    fixture.opts.n_batch = 8;
    for (int round = 0; round < 2; round++) {
        assert_int_equal(set_fixture_open(&fixture), 0);
        for (int e = 0; e < 2; e++) {
            struct prx_loader_batch batch = next(&fixture);
            for (int64_t i = 0; i < 8; i++) {
                const float *latent = batch.latent + i * n;
                float value = (float)batch.draws[i].sample; /* mean and deviation */
                for (int64_t j = 0; value > 0 && j < n; j++) {
                    double z = ((double)latent[j] - (double)value) / (double)value;
                    sum += z;
                    sum_squares += z * z;
                    count++;
                }
                if (batch.draws[i].sample != 3)
                    continue;
                if (round == 0)
                    memcpy(epochs[e], latent, sizeof(epochs[e]));
                assert_memory_equal(epochs[e], latent, sizeof(epochs[e]));
            }
        }
    }
    assert_memory_not_equal(epochs[0], epochs[1], sizeof(epochs[0]));
    assert_true(fabs(sum / count) < 0.15 && fabs(sum_squares / count - 1) < 0.2);
    set_fixture_close(&fixture);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_exactly_once),
        cmocka_unit_test(test_order_is_a_function),
        cmocka_unit_test(test_unshuffled),
        cmocka_unit_test(test_text),
        cmocka_unit_test(test_cut_text),
        cmocka_unit_test(test_caption_weights),
        cmocka_unit_test(test_draws_are_a_samples_own),
        cmocka_unit_test(test_posterior),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
