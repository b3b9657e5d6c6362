/* SPDX-License-Identifier: Apache-2.0 */
/* Optimisers, clipping, schedule and averages against their formulas. */
#include "tests/lib/backends.h"
#include "tests/lib/gradcheck.h"
#include "train/optim.h"

#include <math.h>
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <string.h>

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

/* --- groups --------------------------------------------------------------------- */

enum { N_PARAMS = 4,
       N_EACH = 12 };

static const struct {
    const char *name;
    int n_dims;
    int64_t dims[2];
} params[N_PARAMS] = {
    {"blocks.0.up_proj.weight", 2, {3, 4}},
    {"blocks.0.modulation.lin.bias", 1, {12}},
    {"final_layer.linear.weight", 2, {4, 3}},
    {"final_layer.linear.bias", 1, {12}},
};

static void model_init(struct prx_param_store *store, struct prx_backend *be)
{
    prx_param_store_init(store, be, true);
    for (size_t i = 0; i < N_PARAMS; i++) {
        struct prx_param *param = NULL;
        OK(prx_param_store_add(store, params[i].name, params[i].n_dims, params[i].dims,
                               &param));
        OK(gradcheck_fill(be, &param->value, 1 + i, 1.0f));
        OK(gradcheck_fill(be, &param->grad, 11 + i, 1.0f));
    }
}

/* Values of parameter @i after two steps of a rate of 0.01. */
static void train(struct prx_backend *be, const struct prx_optim_config *config,
                  size_t i, float *out)
{
    struct prx_param_store store;
    struct prx_optim *optim = NULL;

    model_init(&store, be);
    OK(prx_optim_new(&store, config, &optim));
    OK(prx_optim_step(optim, 0.01, 0.5));
    OK(prx_optim_step(optim, 0.01, 0.5));
    read(&store, &store.params[i]->value, out);
    prx_optim_free(optim);
    prx_param_store_release(&store);
}

static const struct prx_optim_config muon = {
    .kind = PRX_OPTIM_MUON,
    .adamw = {0.9, 0.95, 0.5, 0.1},
    .muon = {.momentum = 0.9,
             .nesterov = true,
             .weight_decay = 0.2,
             .ns_steps = 5,
             .rms_scale = true,
             .adam_eps = 1e-3},
};

/* Of two steps by the ops themselves. */
static void expect_muon(struct prx_backend *be, double lr, double decay, float *out)
{
    const struct prx_muon_args args = {
        .lr = lr,
        .momentum = 0.9,
        .nesterov = true,
        .weight_decay = decay,
        .ns_steps = 5,
        .a = 3.4445,
        .b = -4.7750,
        .c = 2.0315,
        .eps = 1e-7,
        .rms_scale = true,
        .grad_scale = 0.5,
    };
    struct prx_param_store store;
    struct prx_tensor m;

    model_init(&store, be);
    OK(prx_tensor_alloc(be, PRX_F32, 2, params[0].dims, &m));
    OK(prx_tensor_zero(be, &m));
    const struct prx_muon_slot slot = {store.params[0]->value, store.params[0]->grad,
                                       m};
    OK(be->ops->muon(be, &slot, 1, &args));
    OK(be->ops->muon(be, &slot, 1, &args));
    read(&store, &store.params[0]->value, out);
    prx_tensor_free(be, &m);
    prx_param_store_release(&store);
}

static void muon_takes_matrices_of_blocks(void **state)
{
    const struct prx_optim_config adamw = {.adamw = {0.9, 0.95, 1e-3, 0.1}};
    float got[N_EACH], want[N_EACH];
    struct prx_param_store store;

    model_init(&store, *state);
    for (int kind = 0; kind < 2; kind++) {
        struct prx_optim *optim = NULL;
        OK(prx_optim_new(&store, kind ? &muon : &adamw, &optim));
        assert_string_equal(prx_optim_kind_name(optim->kind), kind ? "muon" : "adamw");
        for (size_t i = 0; i < N_PARAMS; i++) {
            assert_non_null(optim->m[i].data);
            assert_int_equal(optim->v[i].data == NULL, kind == 1 && i == 0);
        }
        prx_optim_free(optim);
    }
    prx_param_store_release(&store);

    expect_muon(*state, 0.01, 0.2, want);
    train(*state, &muon, 0, got);
    assert_memory_equal(got, want, sizeof(got));
    /* All others: AdamW, of the epsilon that is Muon's. */
    for (size_t i = 1; i < N_PARAMS; i++) {
        train(*state, &adamw, i, want);
        train(*state, &muon, i, got);
        assert_memory_equal(got, want, sizeof(got));
    }

    static const struct {
        const char *name;
        int n_dims;
        const char *filter;
        bool want;
    } rows[] = {
        {"blocks.1.attn_out.weight", 2, PRX_MUON_FILTER, true},
        {"denoiser.blocks.1.attn_out.weight", 2, PRX_MUON_FILTER, true},
        {"blocks.1.modulation.lin.bias", 1, PRX_MUON_FILTER, false},
        {"blocks.1.conv.weight", 4, PRX_MUON_FILTER, false},
        {"img_in.weight", 2, PRX_MUON_FILTER, false},
        {"img_in.weight", 2, "", true},
        {"img_in.weight", 2, "in.w", true},
    };
    for (size_t i = 0; i < sizeof(rows) / sizeof(rows[0]); i++)
        assert_int_equal(prx_muon_takes(rows[i].name, rows[i].n_dims, rows[i].filter),
                         rows[i].want);
}

/* A weight table of @n rows, borrowed. */
static struct prx_conf_weights table(int n, const char *const *names,
                                     const double *weights)
{
    struct prx_conf_weights out = {.n = n};
    for (int i = 0; i < n; i++) {
        out.names[i] = (char *)(uintptr_t)names[i];
        out.weights[i] = weights[i];
    }
    return out;
}

static void first_pattern_that_matches_holds(void **state)
{
    static const char *const by_name[] = {"final_*", "*.bias", "*"};
    static const char *const by_kind[] = {"*.bias"};
    struct prx_optim_config groups = muon;
    float got[N_EACH], want[N_EACH];

    groups.lr_scale = table(3, by_name, (const double[]){0.5, 0.25, 2.0});
    groups.decay_scale = table(1, by_kind, (const double[]){0.0});
    expect_muon(*state, 0.02, 0.2, want);
    train(*state, &groups, 0, got);
    assert_memory_equal(got, want, sizeof(got));

    static const double rates[N_PARAMS] = {0, 0.25, 0.5, 0.5};
    for (size_t i = 1; i < N_PARAMS; i++) {
        /* The same rate and decay for all. */
        struct prx_optim_config single = {
            .adamw = {0.9, 0.95, 1e-3, i == 2 ? 0.1 : 0.0}};
        single.lr_scale = table(1, (const char *const[]){"*"}, &rates[i]);
        train(*state, &single, i, want);
        train(*state, &groups, i, got);
        assert_memory_equal(got, want, sizeof(got));
    }
}

static void factor_zero_freezes(void **state)
{
    struct prx_optim_config config = muon;
    struct prx_param_store store;
    struct prx_optim *optim = NULL;
    float before[N_PARAMS][N_EACH], after[N_EACH];
    double norm_before = 0, norm_after = 0;

    config.lr_scale = table(2, (const char *const[]){"blocks.*weight", "final*bias"},
                            (const double[]){0, 0});
    model_init(&store, *state);
    for (size_t i = 0; i < N_PARAMS; i++)
        read(&store, &store.params[i]->value, before[i]);
    OK(prx_grad_norm(&store, &norm_before));
    OK(prx_optim_new(&store, &config, &optim));
    OK(prx_grad_norm(&store, &norm_after));
    assert_true(norm_after < norm_before);
    OK(prx_param_store_zero_grad(&store));
    OK(prx_optim_step(optim, 0.1, 1.0)); /* weight decay alone moves the others */
    for (size_t i = 0; i < N_PARAMS; i++) {
        bool is_frozen = i == 0 || i == 3;
        read(&store, &store.params[i]->value, after);
        assert_int_equal(memcmp(after, before[i], sizeof(after)) == 0, is_frozen);
        assert_int_equal(optim->m[i].n_dims == 0, is_frozen);
        assert_int_equal(optim->v[i].n_dims == 0, is_frozen);
        assert_int_equal(store.params[i]->grad.data == NULL, is_frozen);
    }
    prx_optim_free(optim);
    prx_param_store_release(&store);
}

static void unmet_patterns_are_refused(void **state)
{
    static const char *const names[] = {"blocks.*", "blocks.0.*", "block.*"};
    struct prx_param_store store;
    struct prx_optim *optim = NULL;

    model_init(&store, *state);
    for (int i = 0; i < 2; i++) {
        struct prx_optim_config config = muon;
        *(i ? &config.lr_scale : &config.decay_scale) =
            table(3, names, (const double[]){1, 1, 0});
        assert_int_equal(prx_optim_new(&store, &config, &optim), PRX_EINVAL);
        assert_string_equal(prx_err_message(),
                            i ? "optim.lr_scale: \"block.*\" matches no parameter"
                              : "optim.decay_scale: \"block.*\" matches no parameter");
        assert_null(optim);
    }
    /* Nothing was frozen on the way. */
    for (size_t i = 0; i < N_PARAMS; i++)
        assert_non_null(store.params[i]->grad.data);
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
        cmocka_unit_test(muon_takes_matrices_of_blocks),
        cmocka_unit_test(first_pattern_that_matches_holds),
        cmocka_unit_test(factor_zero_freezes),
        cmocka_unit_test(unmet_patterns_are_refused),
        cmocka_unit_test(norm_and_factor),
        cmocka_unit_test(norm_of_bad_numbers_is_bad),
        cmocka_unit_test(learning_rates),
        cmocka_unit_test(averages_begin_late_and_move_at_intervals),
        cmocka_unit_test(impossible_averages),
    };
    return cmocka_run_group_tests_name("ref", tests, prx_open_ref, prx_close_backend) +
           cmocka_run_group_tests_name("cpu", tests, prx_open_cpu, prx_close_backend);
}
