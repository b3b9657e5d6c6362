/* SPDX-License-Identifier: Apache-2.0 */
/* Optimisers, clipping, schedule and averages against their formulas. */
#include "tests/lib/backends.h"
#include "tests/lib/gradcheck.h"
#include "train/optim.h"

#include <math.h>
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>

#include <cmocka.h>

#define OK(expr)                      \
 do {                                 \
  if ((expr) < 0)                     \
   fail_msg("%s", prx_err_message()); \
 } while (0)

#define N 5

static const float start[N] = {1.0f, -2.0f, 0.5f, 0.0f, 3.0f};
static const float slope[N] = {0.1f, -0.3f, 0.0f, 1e-9f, 2.0f};

/* Two parameters of N and 2 elements; the gradient of the first is slope. */
static void store_init(struct prx_param_store *store, struct prx_backend *be,
                       bool train)
{
    struct prx_param *a = NULL, *b = NULL;

    prx_param_store_init(store, be, train);
    OK(prx_param_store_add(store, "a", 1, (int64_t[]){N}, &a));
    OK(prx_param_store_add(store, "b", 2, (int64_t[]){1, 2}, &b));
    OK(prx_tensor_set(be, &a->value, start));
    OK(prx_tensor_set(be, &b->value, start));
    if (!train)
        return;
    OK(prx_tensor_set(be, &a->grad, slope));
    OK(prx_tensor_set(be, &b->grad, slope + 3));
}

static void read(const struct prx_param_store *store, const struct prx_tensor *tensor,
                 float *out)
{
    OK(prx_tensor_get(store->be, tensor, out));
}

static void near(double got, double want)
{
    if (!(fabs(got - want) <= 1e-6 * fabs(want) + 1e-9))
        fail_msg("got %.9g, want %.9g", got, want);
}

/* --- AdamW ------------------------------------------------------------------------ */

static void adamw_follows_its_formula(void **state)
{
    const struct prx_optim_config config = {.adamw = {0.9, 0.95, 1e-8, 0.1}};
    struct prx_param_store store;
    struct prx_optim *optim = NULL;
    double p[N], m[N] = {0}, v[N] = {0};
    float got[N];

    store_init(&store, *state, true);
    OK(prx_optim_new(&store, &config, &optim));
    for (int i = 0; i < N; i++)
        p[i] = start[i];
    for (int k = 1; k <= 4; k++) {
        double lr = 0.01 * k;
        OK(prx_optim_step(optim, lr, 0.5));
        assert_int_equal(optim->n_steps, k);
        for (int i = 0; i < N; i++) {
            double g = 0.5 * slope[i];
            p[i] *= 1.0 - lr * 0.1;
            m[i] = 0.9 * m[i] + 0.1 * g;
            v[i] = 0.95 * v[i] + 0.05 * g * g;
            p[i] -= lr / (1.0 - pow(0.9, k)) * m[i] /
                    (sqrt(v[i]) / sqrt(1.0 - pow(0.95, k)) + 1e-8);
        }
        read(&store, &store.params[0]->value, got);
        for (int i = 0; i < N; i++)
            near(got[i], p[i]);
    }
    prx_optim_free(optim);
    prx_optim_free(NULL);
    prx_param_store_release(&store);
}

static void no_gradient_moves_nothing(void **state)
{
    const struct prx_optim_config config = {.adamw = {0.9, 0.95, 0.0, 0.0}};
    const struct prx_optim_config decaying = {.adamw = {0.9, 0.95, 1e-8, 0.5}};
    struct prx_param_store store;
    struct prx_optim *optim = NULL;
    float got[N];

    /* Zero over zero, with an epsilon of zero, too. */
    store_init(&store, *state, true);
    OK(prx_param_store_zero_grad(&store));
    OK(prx_optim_new(&store, &config, &optim));
    OK(prx_optim_step(optim, 1.0, 1.0));
    read(&store, &store.params[0]->value, got);
    assert_memory_equal(got, start, sizeof(got));
    prx_optim_free(optim);
    prx_param_store_release(&store);

    /* A parameter without a gradient is left alone, weight decay or not. */
    store_init(&store, *state, false);
    OK(prx_optim_new(&store, &decaying, &optim));
    OK(prx_optim_step(optim, 1.0, 1.0));
    read(&store, &store.params[0]->value, got);
    assert_memory_equal(got, start, sizeof(got));
    prx_optim_free(optim);
    prx_param_store_release(&store);
}

/* --- clipping ------------------------------------------------------------------------
 */

static void norm_and_factor(void **state)
{
    struct prx_param_store store;
    double norm = 0.0;
    double want = 0.0;

    store_init(&store, *state, true);
    for (int i = 0; i < N; i++)
        want += (double)slope[i] * slope[i];
    want += (double)slope[3] * slope[3] + (double)slope[4] * slope[4];
    OK(prx_grad_norm(&store, &norm));
    near(norm, sqrt(want));
    prx_param_store_release(&store);

    near(prx_clip_factor(2.0, 0.5), 0.5 / 2.000001);
    near(prx_clip_factor(0.1, 0.5), 1.0);
    near(prx_clip_factor(0.0, 0.5), 1.0);
    near(prx_clip_factor(INFINITY, 0.5), 0.0);
    assert_true(isnan(prx_clip_factor(NAN, 0.5)));
}

static void norm_of_bad_numbers_is_bad(void **state)
{
    struct prx_param_store store;
    float bad[N] = {1.0f, NAN, 1.0f, 1.0f, 1.0f};
    double norm = 0.0;

    store_init(&store, *state, true);
    OK(prx_tensor_set(*state, &store.params[0]->grad, bad));
    OK(prx_grad_norm(&store, &norm));
    assert_true(isnan(norm));
    bad[1] = INFINITY;
    OK(prx_tensor_set(*state, &store.params[0]->grad, bad));
    OK(prx_grad_norm(&store, &norm));
    assert_true(isinf(norm));
    prx_param_store_release(&store);
}

/* --- schedule
 * ------------------------------------------------------------------------- */

static void learning_rates(void **state)
{
    const struct prx_lr_schedule plain = {.lr = 2.0, .warmup_steps = 4};
    const struct prx_lr_schedule late = {
        .lr = 2.0, .warmup_steps = 4, .composer_lag = true};
    const struct prx_lr_schedule none = {.lr = 2.0, .composer_lag = true};
    const struct prx_lr_schedule cosine = {
        .lr = 2.0,
        .warmup_steps = 4,
        .decay = PRX_LR_COSINE,
        .total_steps = 12,
        .floor = 0.1,
    };
    const struct {
        const struct prx_lr_schedule *schedule;
        int64_t k;
        double want;
    } rows[] = {
        {&plain, 1, 0.5},
        {&plain, 4, 2.0},
        {&plain, 5, 2.0},
        {&plain, 1000000, 2.0},
        {&late, 1, 0.0},
        {&late, 2, 0.0},
        {&late, 3, 0.5},
        {&late, 6, 2.0},
        {&late, 7, 2.0},
        {&none, 1, 2.0},
        {&none, 9, 2.0},
        {&cosine, 2, 1.0},
        {&cosine, 4, 2.0},
        {&cosine, 8, 1.1},
        {&cosine, 12, 0.2},
        {&cosine, 99, 0.2},
        {&cosine, 6, 0.2 + 1.8 * 0.5 * (1.0 + 0.70710678118654752)},
    };
    (void)state;
    for (size_t i = 0; i < sizeof(rows) / sizeof(rows[0]); i++)
        near(prx_lr_at(rows[i].schedule, rows[i].k), rows[i].want);
}

/* --- averages
 * --------------------------------------------------------------------------- */

static void set_all(struct prx_param_store *store, float number)
{
    const float numbers[N] = {number, number, number, number, number};
    OK(prx_tensor_set(store->be, &store->params[0]->value, numbers));
}

static float first_of(const struct prx_param_store *store,
                      const struct prx_tensor *tensor)
{
    float values[N];
    read(store, tensor, values);
    return values[0];
}

static void averages_begin_late_and_move_at_intervals(void **state)
{
    struct prx_param_store store;
    struct prx_ema *ema = NULL;
    /* Weights after step k are k; start at 3, every 2nd step, half and half. */
    const double want[] = {1.0, 1.0, 3.0, 3.5, 3.5, 4.75};

    store_init(&store, *state, false);
    OK(prx_ema_new(&store, 0.5, 2, 3, &ema));
    near(first_of(&store, &ema->averages[0]), start[0]);
    for (int k = 1; k <= 6; k++) {
        set_all(&store, (float)k);
        OK(prx_ema_step(ema, k));
        assert_int_equal(ema->active, k >= 3);
        near(first_of(&store, &ema->averages[0]), want[k - 1]);
    }
    prx_ema_swap(ema);
    near(first_of(&store, &store.params[0]->value), 4.75);
    near(first_of(&store, &ema->averages[0]), 6.0);
    prx_ema_swap(ema);
    near(first_of(&store, &store.params[0]->value), 6.0);
    prx_ema_free(ema);
    prx_ema_free(NULL);
    prx_param_store_release(&store);
}

static void impossible_averages(void **state)
{
    struct prx_param_store store;
    struct prx_ema *ema = NULL;

    store_init(&store, *state, false);
    assert_int_equal(prx_ema_new(&store, 1.5, 1, 0, &ema), PRX_EINVAL);
    assert_int_equal(prx_ema_new(&store, NAN, 1, 0, &ema), PRX_EINVAL);
    assert_int_equal(prx_ema_new(&store, 0.5, 0, 0, &ema), PRX_EINVAL);
    assert_null(ema);
    prx_param_store_release(&store);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(adamw_follows_its_formula),
        cmocka_unit_test(no_gradient_moves_nothing),
        cmocka_unit_test(norm_and_factor),
        cmocka_unit_test(norm_of_bad_numbers_is_bad),
        cmocka_unit_test(learning_rates),
        cmocka_unit_test(averages_begin_late_and_move_at_intervals),
        cmocka_unit_test(impossible_averages),
    };
    return cmocka_run_group_tests_name("ref", tests, prx_open_ref, prx_close_backend) +
           cmocka_run_group_tests_name("cpu", tests, prx_open_cpu, prx_close_backend);
}
