/* SPDX-License-Identifier: Apache-2.0 */
/*
 * dist.h: what one process alone gets, and what several get together; tests/cli/
 * train_mpi.sh runs this program by mpirun as well.
 *
 * Every expectation is a formula in rank and world.
 */
#include "train/dist.h"

#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include <cmocka.h>

#define N_OF(array) (sizeof(array) / sizeof((array)[0]))

static struct prx_dist dist;

static void test_numbers(void **state)
{
    double w = dist.world, r = dist.rank;
    double values[] = {1, r, r + 0.5};
    (void)state;

    assert_true(dist.rank >= 0 && dist.rank < dist.world);
    assert_int_equal(prx_dist_is_first(&dist), dist.rank == 0);
    assert_int_equal(prx_dist_is_alone(&dist), dist.world == 1);
    assert_int_equal(dist.n_threads > 0, dist.world > 1);
    assert_int_equal(prx_dist_sum(&dist, values, N_OF(values)), 0);
    assert_true(values[0] == w);
    assert_true(values[1] == w * (w - 1) / 2);
    assert_true(values[2] == w * w / 2);

    double most[] = {r, -r};
    assert_int_equal(prx_dist_max(&dist, most, N_OF(most)), 0);
    assert_true(most[0] == w - 1 && most[1] == 0);

    char word[32];
    snprintf(word, sizeof(word), "from rank %d", dist.rank);
    assert_int_equal(prx_dist_share(&dist, word, sizeof(word)), 0);
    assert_string_equal(word, "from rank 0");
}

/* One failure is everyone's, and only where it happened is there a message. */
static void test_agree(void **state)
{
    static const int codes[] = {PRX_EINVAL, PRX_ENOMEM, -100};
    (void)state;

    assert_int_equal(prx_dist_agree(&dist, 0), 0);
    assert_int_equal(prx_dist_agree(&dist, 3), 0);
    for (size_t i = 0; i < N_OF(codes); i++) {
        for (int first = 0; first < dist.world; first++) {
            /* All from this rank on fail; the others have an older message. */
            prx_err(PRX_EIO, "older");
            int rc = 0;
            if (dist.rank >= first) {
                prx_err(PRX_EINVAL, "rank %d", dist.rank);
                rc = dist.rank == first ? codes[i] : PRX_ECORRUPT;
            }
            assert_int_equal(prx_dist_agree(&dist, rc), codes[i]);
            if (dist.world == 1)
                continue;
            char want[32] = "";
            if (dist.rank == first)
                snprintf(want, sizeof(want), "rank %d", first);
            assert_string_equal(prx_err_message(), want);
            assert_int_equal(dist.teller, first);
        }
    }
}

/* Parameters small and large, one of them longer than two buckets, one not trained. */
static void open_store(struct prx_param_store *store, const char *backend)
{
    static const int64_t counts[] = {1, 3, (2 << 20) + 5, 0, 7, (1 << 20) - 11, 2};
    struct prx_backend *be;

    assert_int_equal(prx_backend_open(backend, 1, &be), 0);
    prx_param_store_init(store, be, true);
    for (size_t i = 0; i < N_OF(counts); i++) {
        struct prx_param *param;
        char name[16];
        snprintf(name, sizeof(name), "p%zu", i);
        assert_int_equal(prx_param_store_add(store, name, 1, &counts[i], &param), 0);
        if (i == 4)
            prx_tensor_free(be, &param->grad);
    }
}

static void close_store(struct prx_param_store *store)
{
    struct prx_backend *be = store->be;

    prx_param_store_release(store);
    prx_backend_close(be);
}

static float *numbers(int64_t n)
{
    float *values = calloc((size_t)n + 1, sizeof(*values));

    assert_non_null(values);
    return values;
}

/* Element @j of parameter @i: whole numbers, so that their sums are exact. */
static float element(size_t i, int64_t j)
{
    return (float)((int64_t)i + j % 1013);
}

static void test_sum_grads(void **state)
{
    static const char *const backends[] = {"ref", "cpu", "fence"};
    float factor = (float)(dist.world * (dist.world + 1) / 2);
    (void)state;

    for (size_t b = 0; b < N_OF(backends); b++) {
        struct prx_param_store store;
        open_store(&store, backends[b]);
        for (int is_after = 0; is_after < 2; is_after++) {
            for (size_t i = 0; i < store.n_params; i++) {
                struct prx_tensor *grad = &store.params[i]->grad;
                if (prx_tensor_is_absent(grad))
                    continue;
                int64_t n = prx_tensor_count(grad);
                float *values = numbers(n);
                for (int64_t j = 0; j < n && !is_after; j++)
                    values[j] = (float)(dist.rank + 1) * element(i, j);
                if (!is_after)
                    assert_int_equal(prx_tensor_set(store.be, grad, values), 0);
                else
                    assert_int_equal(prx_tensor_get(store.be, grad, values), 0);
                for (int64_t j = 0; j < n && is_after; j++)
                    assert_true(values[j] == factor * element(i, j));
                free(values);
            }
            if (!is_after)
                assert_int_equal(prx_dist_sum_grads(&dist, &store), 0);
        }
        close_store(&store);
    }
}

static void test_check_values(void **state)
{
    struct prx_param_store store;
    (void)state;

    open_store(&store, "cpu");
    /* Gradients may differ: they are not looked at. */
    float number = (float)dist.rank;
    assert_int_equal(prx_tensor_set(store.be, &store.params[0]->grad, &number), 0);
    assert_int_equal(prx_dist_check_values(&dist, &store), 0);
    /* The least difference, in the last element of the last rank. */
    float pair[] = {0, dist.rank == dist.world - 1 ? 0x1p-149F : 0};
    struct prx_param *last = store.params[store.n_params - 1];
    assert_int_equal(prx_tensor_set(store.be, &last->value, pair), 0);
    assert_int_equal(prx_dist_check_values(&dist, &store),
                     dist.world == 1 ? 0 : PRX_ECORRUPT);
    if (dist.world > 1 && dist.rank == dist.world - 1)
        assert_non_null(strstr(prx_err_message(), "ranks have diverged"));
    close_store(&store);
}

/* Who trains alone need not make a struct for it. */
static void test_null(void **state)
{
    struct prx_param_store store;
    double value = 4;
    (void)state;

    open_store(&store, "ref");
    assert_true(prx_dist_is_alone(NULL) && prx_dist_is_first(NULL));
    assert_int_equal(prx_dist_sum(NULL, &value, 1), 0);
    assert_int_equal(prx_dist_max(NULL, &value, 1), 0);
    assert_int_equal(prx_dist_share(NULL, &value, sizeof(value)), 0);
    assert_true(value == 4);
    assert_int_equal(prx_dist_agree(NULL, PRX_EIO), PRX_EIO);
    assert_int_equal(prx_dist_sum_grads(NULL, &store), 0);
    assert_int_equal(prx_dist_check_values(NULL, &store), 0);
    close_store(&store);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_numbers),
        cmocka_unit_test(test_agree),
        cmocka_unit_test(test_sum_grads),
        cmocka_unit_test(test_check_values),
        cmocka_unit_test(test_null),
    };
    if (prx_dist_open(&dist) < 0) {
        print_message("%s\n", prx_err_message());
        return 1;
    }
    int n_failed = cmocka_run_group_tests(tests, NULL, NULL);
    prx_dist_close(&dist);
    return n_failed;
}
