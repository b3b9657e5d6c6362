/* SPDX-License-Identifier: Apache-2.0 */
/* loader.h: windows and their quality, mixed sets, replacement, phases of captions. */
#include <math.h>
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <stdlib.h>
#include <string.h>

#include <cmocka.h>

#include "libdata/loader.h"
#include "tests/lib/loader_set.h"

#define N_OF(array) (sizeof(array) / sizeof((array)[0]))

static struct prx_loader_batch next(struct set_fixture *fixture)
{
    struct prx_loader_batch batch;

    assert_int_equal(prx_loader_next(fixture->loader, &batch), 0);
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

/* --- windows: shards of the set are of seven samples ------------------------------ */

static void test_window_exactly_once(void **state)
{
    static const struct {
        uint64_t n_samples, n_bytes;
        size_t n_shapes, n_batch;
    } cases[] = {
        {1, 0, 1, 4},    /* one shard at a time */
        {14, 0, 1, 4},   /* two */
        {30, 0, 3, 4},   /* four, and shapes */
        {0, 2000, 1, 5}, /* by bytes */
        {70, 0, 1, 1},   /* nearly all */
        {1000, 0, 2, 8}, /* all */
    };
    enum { N = 80,
           N_EPOCHS = 5 };
    (void)state;

    for (size_t c = 0; c < N_OF(cases); c++) {
        const struct set set = {N, cases[c].n_shapes, set_shapes, NULL};
        size_t n_batches = (size_t)N * N_EPOCHS / cases[c].n_batch;
        struct prx_loader_draw *draws = calloc(n_batches, 8 * sizeof(*draws)),
                               *other = calloc(n_batches, 8 * sizeof(*draws));
        int counts[N_EPOCHS + 1][N] = {{0}}, n_missing = 0;
        struct set_fixture fixture;

        assert_true(draws && other);
        set_fixture_write(&fixture, &set);
        fixture.opts.n_window_samples = cases[c].n_samples;
        fixture.opts.n_window_bytes = cases[c].n_bytes;
        fixture.opts.n_batch = cases[c].n_batch;
        assert_int_equal(set_fixture_open(&fixture), 0);
        record(&fixture, n_batches, draws);
        for (size_t i = 0; i < n_batches * cases[c].n_batch; i++)
            counts[draws[i].epoch][draws[i].sample]++;
        for (int e = 0; e < N_EPOCHS; e++) {
            for (int i = 0; i < N; i++) {
                assert_true(counts[e][i] <= 1);
                n_missing += counts[e][i] == 0;
            }
        }
        assert_true((size_t)n_missing <= cases[c].n_shapes * cases[c].n_batch);

        /* Sought, from the middle of an epoch on, it is the same. */
        for (size_t k = 1; k < n_batches; k += n_batches / 3) {
            assert_int_equal(set_fixture_open(&fixture), 0);
            assert_int_equal(prx_loader_seek(fixture.loader, k), 0);
            record(&fixture, n_batches - k, other);
            assert_memory_equal(draws + k * cases[c].n_batch, other,
                                (n_batches - k) * cases[c].n_batch * sizeof(*draws));
        }
        free(draws);
        free(other);
        set_fixture_close(&fixture);
    }
}

/* No more shards are open than fit: a draw of a new one means that another is empty. */
static void test_window_is_bounded(void **state)
{
    enum { N = 140,
           N_A_SHARD = 7,
           N_OPEN = 3 };
    const struct set set = {N, 1, set_shapes, NULL};
    struct prx_loader_draw draws[N];
    struct set_fixture fixture;
    (void)state;

    set_fixture_write(&fixture, &set);
    fixture.opts.n_window_samples = N_OPEN * N_A_SHARD;
    assert_int_equal(set_fixture_open(&fixture), 0);
    record(&fixture, N / 4, draws);
    int n_drawn[N / N_A_SHARD] = {0}, n_most = 0;
    for (int i = 0; i < N; i++) {
        int n_open = 0;
        n_drawn[draws[i].sample / N_A_SHARD]++;
        for (int s = 0; s < N / N_A_SHARD; s++)
            n_open += n_drawn[s] > 0 && n_drawn[s] < N_A_SHARD;
        n_most = n_open > n_most ? n_open : n_most;
    }
    assert_int_equal(n_most, N_OPEN);
    set_fixture_close(&fixture);
}

/* The window's quality: more shards mix better, all of them are a full shuffle. */
static void test_quality(void **state)
{
    static const uint64_t windows[] = {7, 28, 70, 210, 700, 0};
    const struct set set = {700, 1, set_shapes, NULL};
    struct set_fixture fixture;
    double before = 0, quality;
    (void)state;

    set_fixture_write(&fixture, &set);
    fixture.opts.n_batch = 16;
    for (size_t i = 0; i < N_OF(windows); i++) {
        fixture.opts.n_window_samples = windows[i];
        assert_int_equal(set_fixture_open(&fixture), 0);
        assert_int_equal(prx_loader_quality(fixture.loader, &quality), 0);
        assert_true(quality > before - 0.01);
        before = quality;
        /* A batch of 16 in a shuffle of 100 shards is of 14.9; in one shard, of 3.2. */
        if (windows[i] == 7)
            assert_true(quality < 0.3);
        if (windows[i] == 210)
            assert_true(quality > 0.7 && quality < 0.95);
        if (windows[i] == 700)
            assert_true(fabs(quality - 1) < 0.02);
    }
    assert_true(quality == 1);
    set_fixture_close(&fixture);
}

/* --- sets ------------------------------------------------------------------------- */

struct mix {
    struct set_fixture fixture; /* its own set is not used */
    struct prx_source *sources[3];
    struct prx_loader_set sets[3];
};

/* Sets of 12, 40 and 9 samples, in the order of the index. */
static const int mix_sizes[3] = {12, 40, 9};

static void mix_write(struct mix *mix, const double weights[3])
{
    static const char *const names[] = {"a/%06d.tar", "b/%06d.tar", "c/%06d.tar"};

    *mix = (struct mix){0};
    set_fixture_write(&mix->fixture, &(struct set){1, 1, set_shapes, NULL});
    for (size_t i = 0; i < 3; i++) {
        const struct set set = {mix_sizes[i], 1, set_shapes, NULL};
        prx_set_write(prx_scratch_path(&mix->fixture.scratch, names[i]), &set);
        mix->sets[i].weight = weights[i];
    }
}

static void mix_open(struct mix *mix)
{
    static const char *const indexes[] = {"a/index.json", "b/index.json",
                                          "c/index.json"};

    prx_loader_close(mix->fixture.loader);
    for (size_t i = 0; i < 3; i++) {
        const char *word = prx_scratch_path(&mix->fixture.scratch, indexes[i]);
        prx_source_close(mix->sources[i]);
        assert_int_equal(prx_source_open(&word, 1, NULL, &mix->sources[i]), 0);
        mix->sets[i].source = mix->sources[i];
    }
    assert_int_equal(
        prx_loader_open(mix->sets, 3, &mix->fixture.opts, &mix->fixture.loader), 0);
}

static void mix_close(struct mix *mix)
{
    set_fixture_close(&mix->fixture);
    for (size_t i = 0; i < 3; i++)
        prx_source_close(mix->sources[i]);
}

static int set_of(uint32_t sample)
{
    return sample < 12 ? 0 : sample < 52 ? 1
                                         : 2;
}

/* Shares are the weights'; within its own epochs each set gives every sample once. */
static void test_mix(void **state)
{
    enum { N_BATCHES = 1000,
           N_EPOCHS = 500 };
    static const double weights[] = {5, 3, 2};
    static struct prx_loader_draw draws[4 * N_BATCHES], other[4 * N_BATCHES];
    static int counts[N_EPOCHS][61];
    int n_of[3] = {0};
    uint32_t last[3] = {0};
    struct mix mix;
    (void)state;

    mix_write(&mix, weights);
    mix_open(&mix);
    record(&mix.fixture, N_BATCHES, draws);
    for (size_t i = 0; i < 4 * N_BATCHES; i++) {
        int s = set_of(draws[i].sample);
        n_of[s]++;
        assert_true(draws[i].epoch < N_EPOCHS && draws[i].epoch >= last[s]);
        last[s] = draws[i].epoch;
        assert_int_equal(counts[draws[i].epoch][draws[i].sample]++, 0);
    }
    for (int s = 0; s < 3; s++) {
        double share = (double)n_of[s] / (4 * N_BATCHES);
        /* Five standard deviations of a share of 4000. */
        assert_true(fabs(share - weights[s] / 10) < 0.04);
        assert_int_equal(last[s], (n_of[s] - 1) / mix_sizes[s]);
    }
    for (uint32_t k = 1; k < N_BATCHES; k += 333) {
        mix_open(&mix);
        assert_int_equal(prx_loader_seek(mix.fixture.loader, k), 0);
        record(&mix.fixture, N_BATCHES - k, other);
        assert_memory_equal(draws + 4 * k, other, 4 * (N_BATCHES - k) * sizeof(*draws));
    }
    mix_close(&mix);
}

/* The slices of any number of processes are the batch, at any batch. */
static void test_mix_elastic(void **state)
{
    enum { N_BATCHES = 60 };
    static const double weights[] = {1, 1, 1};
    static const size_t worlds[] = {1, 2, 4, 1};
    struct prx_loader_draw whole[4 * N_BATCHES];
    struct mix mix;
    (void)state;

    mix_write(&mix, weights);
    mix.fixture.opts.n_window_samples = 14;
    mix_open(&mix);
    record(&mix.fixture, N_BATCHES, whole);
    for (size_t w = 0; w < N_OF(worlds); w++) {
        for (size_t rank = 0; rank < worlds[w]; rank++) {
            size_t i_first, k_first = w * N_BATCHES / N_OF(worlds);
            size_t n = prx_loader_slice(4, rank, worlds[w], &i_first);
            mix.fixture.opts.world = worlds[w];
            mix.fixture.opts.rank = rank;
            mix_open(&mix);
            assert_int_equal(prx_loader_seek(mix.fixture.loader, k_first), 0);
            for (size_t k = k_first; k < k_first + N_BATCHES / N_OF(worlds); k++) {
                struct prx_loader_batch batch = next(&mix.fixture);
                assert_int_equal(batch.n_samples, n);
                assert_memory_equal(batch.draws, whole + 4 * k + i_first,
                                    n * sizeof(*whole));
            }
        }
    }
    mix_close(&mix);
}

/* Any sample at any time; the random numbers of a draw are its own. */
static void test_replacement(void **state)
{
    enum { N = 20,
           N_BATCHES = 500 };
    const struct set set = {N, 1, set_shapes, NULL};
    static struct prx_loader_draw draws[4 * N_BATCHES], other[4 * N_BATCHES];
    int counts[N] = {0}, n_twice = 0;
    struct set_fixture fixture;
    (void)state;

    set_fixture_write(&fixture, &set);
    fixture.opts.replacement = true;
    assert_int_equal(set_fixture_open(&fixture), 0);
    record(&fixture, N_BATCHES, draws);
    for (int i = 0; i < 4 * N_BATCHES; i++) {
        counts[draws[i].sample]++;
        for (int k = i / N * N; k < i; k++) {
            n_twice += draws[k].sample == draws[i].sample;
            assert_true(draws[k].id != draws[i].id);
        }
    }
    assert_true(n_twice > N_BATCHES);
    for (int i = 0; i < N; i++)
        assert_true(counts[i] > 50 && counts[i] < 150); /* of 100: five deviations */
    assert_int_equal(set_fixture_open(&fixture), 0);
    assert_int_equal(prx_loader_seek(fixture.loader, 77), 0);
    record(&fixture, N_BATCHES - 77, other);
    assert_memory_equal(draws + 4 * 77, other,
                        4 * (N_BATCHES - 77) * sizeof(*draws));
    set_fixture_close(&fixture);
}

/* --- captions --------------------------------------------------------------------- */

/* Weights change at their batches, and what is counted is what is there. */
static void test_phases(void **state)
{
    enum { N = 40,
           N_BATCHES = 900 };
    unsigned wrong[N] = {0};
    const struct set set = {N, 1, set_shapes, wrong};
    struct set_fixture fixture;
    int64_t n_long[3] = {0}, n_short[3] = {0}, n_fallback[3] = {0};
    (void)state;

    for (int i = 0; i < N; i += 4)
        wrong[i] = SET_NO_LONG;
    set_fixture_write(&fixture, &set);
    fixture.opts.n_captions = 2;
    fixture.opts.n_phases = 3;
    fixture.opts.phases[1] = (struct prx_loader_phase){300, {0.7, 0.3}};
    fixture.opts.phases[2] = (struct prx_loader_phase){600, {0, 1}};
    for (uint64_t k_first = 0; k_first <= 450; k_first += 450) {
        assert_int_equal(set_fixture_open(&fixture), 0);
        assert_int_equal(prx_loader_seek(fixture.loader, k_first), 0);
        for (uint64_t k = k_first; k < (k_first ? 900 : 450); k++) {
            struct prx_loader_batch batch = next(&fixture);
            int64_t n_found = 0;
            for (int64_t i = 0; i < batch.n_samples; i++) {
                float first = batch.text[i * batch.n_tokens * SET_WIDTH];
                n_found += first != floorf(first);
            }
            assert_int_equal(batch.n_by_caption[1], n_found);
            assert_int_equal(batch.n_by_caption[0], batch.n_samples - n_found);
            n_long[k / 300] += batch.n_by_caption[0];
            n_short[k / 300] += batch.n_by_caption[1];
            n_fallback[k / 300] += batch.n_fallback;
        }
    }
    /* Long only: a quarter lacks it. Mixed: 0.7 of three quarters. Then short only. */
    assert_int_equal(n_short[0], n_fallback[0]);
    assert_true(n_short[0] == 300);
    assert_true(llabs(n_long[1] - 630) < 85); /* five deviations of 1200 */
    assert_true(llabs(n_fallback[1] - 210) < 65);
    assert_int_equal(n_long[2] + n_fallback[2], 0);
    set_fixture_close(&fixture);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_window_exactly_once),
        cmocka_unit_test(test_window_is_bounded),
        cmocka_unit_test(test_quality),
        cmocka_unit_test(test_mix),
        cmocka_unit_test(test_mix_elastic),
        cmocka_unit_test(test_replacement),
        cmocka_unit_test(test_phases),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
