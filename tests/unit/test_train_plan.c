/* SPDX-License-Identifier: Apache-2.0 */
/* Backend "plan", and that what it plans is what a step takes. */
#include "train/run.h"

#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/resource.h>

#include <cmocka.h>

#include "libdata/rng.h"
#include "train/ops.h"

#define N_OF(array) (sizeof(array) / sizeof((array)[0]))

#define OK(expr)                      \
 do {                                 \
  if ((expr) < 0)                     \
   fail_msg("%s", prx_err_message()); \
 } while (0)

/* --- the backend ------------------------------------------------------------------ */

static void test_backend(void **state)
{
    struct prx_backend *be;
    struct prx_tensor a, b;
    float values[6] = {1, 2, 3, 4, 5, 6};
    (void)state;

    OK(prx_backend_open("plan", 3, &be));
    assert_string_equal(be->name, "plan");
    OK(prx_tensor_alloc(be, PRX_F32, 1, (int64_t[]){6}, &a));
    OK(prx_tensor_alloc(be, PRX_F32, 2, (int64_t[]){INT64_C(1) << 20, 1 << 20}, &b));
    assert_true(a.data && b.data && a.data != b.data);
    assert_int_equal((uintptr_t)a.data % 64, 0);
    assert_int_equal((uintptr_t)b.data % 64, 0);
    assert_int_equal(prx_plan_usage(be).live_bytes, 24 + (INT64_C(4) << 40));
    prx_tensor_free(be, &b);
    assert_int_equal(prx_plan_usage(be).live_bytes, 24);
    assert_int_equal(prx_plan_usage(be).peak_bytes, 24 + (INT64_C(4) << 40));
    prx_plan_reset_peak(be);
    assert_int_equal(prx_plan_usage(be).peak_bytes, 24);

    /* Nothing is kept, nothing checked. */
    OK(prx_tensor_set(be, &a, values));
    OK(prx_tensor_zero(be, &a));
    OK(be->ops->add(be, &a, &a, NULL));
    OK(be->ops->lerp(be, &a, &a, 1, 0.5));
    OK(prx_tensor_get(be, &a, values));
    for (size_t i = 0; i < N_OF(values); i++)
        assert_true(values[i] == 0);
    OK(prx_backend_sync(be));

    /* Addresses end somewhere. */
    int64_t dims[] = {INT64_C(1) << 30, INT64_C(1) << 30};
    assert_int_equal(prx_tensor_alloc(be, PRX_F32, 2, dims, &b), PRX_ENOMEM);
    assert_non_null(strstr(prx_err_message(), "out of addresses"));
    prx_tensor_free(be, &a);
    prx_backend_close(be);
}

/* Nobody who asks for any backend gets one for tests. */
static void test_auto(void **state)
{
    struct prx_backend *be;
    (void)state;

    OK(prx_backend_open("auto", 1, &be));
    assert_false(be->is_plan);
    assert_string_not_equal(be->name, "fence");
    prx_backend_close(be);
}

/* --- the plan --------------------------------------------------------------------- */

static void read_recipe(struct prx_recipe *recipe, const char *name,
                        const char *const *sets, size_t n_sets)
{
    char *path;

    OK(prx_recipe_init(recipe));
    OK(prx_recipe_find(name, &path));
    OK(prx_recipe_read(recipe, path));
    for (size_t i = 0; i < n_sets; i++)
        OK(prx_recipe_set(recipe, sets[i]));
    OK(prx_recipe_resolve(recipe));
    free(path);
}

enum { N_CELLS = 16, /* a side of nano's latents */
       N_TOKENS = 48 };

static float *draw(size_t n)
{
    struct prx_rng rng;
    float *values = malloc(n * sizeof(*values));

    assert_non_null(values);
    prx_rng_init(&rng, 1, PRX_RNG_TEST, 0, 0);
    prx_rng_normal(&rng, values, n);
    return values;
}

/* Device memory of values and gradients in two steps of the real thing. */
static size_t measure_peak(const struct prx_recipe *recipe)
{
    const size_t n_batch = (size_t)recipe->train.batch;
    const int64_t width = recipe->model.config.context_in_dim;
    float *latent = draw(n_batch * 16 * N_CELLS * N_CELLS);
    float *text = draw(n_batch * N_TOKENS * (size_t)width);
    int32_t *mask = calloc(n_batch, N_TOKENS * sizeof(*mask));
    struct prx_loader_draw *draws = calloc(n_batch, sizeof(*draws));
    struct prx_step_report report;
    struct prx_trainer trainer;
    struct prx_backend *be;

    assert_true(mask && draws);
    mask[0] = 1;
    const struct prx_loader_batch batch = {
        .n_samples = recipe->train.batch,
        .channels = 16,
        .height = N_CELLS,
        .width = N_CELLS,
        .n_tokens = N_TOKENS,
        .text_width = width,
        .latent = latent,
        .text = text,
        .mask = mask,
        .draws = draws,
    };
    OK(prx_backend_open("cpu", 2, &be));
    OK(prx_trainer_init(&trainer, recipe, be));
    for (int64_t k = 1; k <= 2; k++)
        OK(prx_train_step(&trainer, &batch, k, &report));
    size_t peak_bytes = prx_tape_peak_bytes(trainer.tape);
    prx_trainer_release(&trainer);
    prx_backend_close(be);
    free(latent);
    free(text);
    free(mask);
    free(draws);
    return peak_bytes;
}

/* With what else changes a step's values: a route's tokens, weights that are cast. */
static void test_other_activations(void **state)
{
    static const char *const rows[][3] = {
        {"route.kind=tread", "route.end=5", "train.micro_batch=3"},
        {"route.kind=sprint", "route.end=5", "train.recompute=blocks"},
        {"precision.params=bf16", "optim.kind=muon", "objective.prediction=x0"},
    };
    struct prx_train_plan plan;
    struct prx_recipe recipe;
    (void)state;

    for (size_t i = 0; i < N_OF(rows); i++) {
        read_recipe(&recipe, "nano", rows[i], 3);
        OK(prx_train_plan(&recipe, 8, N_TOKENS, &plan));
        assert_int_equal(plan.activation_bytes, measure_peak(&recipe));
        prx_recipe_release(&recipe);
    }
}

/* The activations planned are those of a step, to the byte. */
static void test_activations(void **state)
{
    static const char *const rows[][2] = {
        {"train.micro_batch=0", "train.recompute=none"},
        {"train.micro_batch=3", "train.recompute=none"},
        {"train.micro_batch=0", "train.recompute=blocks"},
        {"train.micro_batch=1", "train.recompute=blocks"},
    };
    struct prx_train_plan plan;
    struct prx_recipe recipe;
    uint64_t whole_bytes = 0;
    (void)state;

    for (size_t i = 0; i < N_OF(rows); i++) {
        read_recipe(&recipe, "nano", rows[i], 2);
        OK(prx_train_plan(&recipe, 8, N_TOKENS, &plan));
        assert_int_equal(plan.activation_bytes, measure_peak(&recipe));
        if (i == 0)
            whole_bytes = plan.activation_bytes;
        else
            assert_true(2 * plan.activation_bytes < whole_bytes);
        prx_recipe_release(&recipe);
    }
}

static void test_categories(void **state)
{
    static const char *const sets[] = {"optim.ema_smoothing=0.9", "sample.size_px=0",
                                       "train.batch=2", "data.prefetch_bytes=0"};
    struct prx_train_plan plan;
    struct prx_recipe recipe;
    int64_t n_params;
    (void)state;

    read_recipe(&recipe, "nano", sets, 1);
    OK(prx_denoiser_count(&recipe.model.config, &n_params));
    const uint64_t n_bytes = (uint64_t)n_params * sizeof(float);
    OK(prx_train_plan(&recipe, 8, N_TOKENS, &plan));
    assert_int_equal(plan.param_bytes, n_bytes);
    assert_int_equal(plan.grad_bytes, n_bytes);
    assert_int_equal(plan.ema_bytes, n_bytes);
    /* Two moments, and for a moment the one number of the gradients' norm. */
    assert_int_equal(plan.optim_bytes, 2 * n_bytes + sizeof(float));
    assert_int_equal(plan.batch_bytes,
                     9 * 8 * (16 * 16 * 16 + N_TOKENS * 256 + N_TOKENS) * 4);
    assert_int_equal(plan.total_bytes,
                     5 * n_bytes + sizeof(float) + plan.activation_bytes +
                         plan.batch_bytes);
    assert_int_equal(plan.picture_bytes, 0);

    /* Pictures take more, but no gradients: four of them less than a step of eight. */
    OK(prx_recipe_set(&recipe, "sample.every=5"));
    const uint64_t total_bytes = plan.total_bytes;
    OK(prx_train_plan(&recipe, 8, N_TOKENS, &plan));
    assert_int_equal(plan.total_bytes, total_bytes + plan.picture_bytes);
    assert_true(plan.picture_bytes > 4 * 16 * 16 * 16 * sizeof(float) &&
                plan.picture_bytes < plan.activation_bytes / 2);
    prx_recipe_release(&recipe);

    /* Of no size: what does not depend on it. */
    read_recipe(&recipe, "nano", sets + 1, 3);
    OK(prx_train_plan(&recipe, 8, N_TOKENS, &plan));
    assert_int_equal(plan.activation_bytes, 0);
    assert_int_equal(plan.batch_bytes, 0);
    assert_int_equal(plan.ema_bytes, 0);
    assert_int_equal(plan.total_bytes, 4 * n_bytes);
    prx_recipe_release(&recipe);
}

/* Bytes follow the dtype, the optimiser and what is frozen. */
static void test_optimisers(void **state)
{
    /* In nano: of all parameters, of the matrices of blocks, of img_in. */
    enum { N = 5218816,
           N_MUON = 6 * 192 * (3 * 192 + 192 + 2 * 192 + 3 * 672 + 6 * 192),
           N_IN = 192 * 64 + 192 };
    static const struct {
        const char *set;
        uint64_t param, grad, optim, ema; /* bytes */
    } cases[] = {
        {"optim.kind=adamw", 4 * N, 4 * N, 8 * N, 0},
        {"optim.ema_smoothing=0.9", 4 * N, 4 * N, 8 * N, 4 * N},
        {"optim.kind=muon", 4 * N, 4 * N, 8 * N - 4 * N_MUON, 0},
        {"precision.params=bf16", 2 * N, 4 * N, 4 * N, 0},
        {"optim.lr_scale={img_in.*: 0}", 4 * N, 4 * (N - N_IN), 8 * (N - N_IN), 0},
    };
    struct prx_train_plan plan;
    struct prx_recipe recipe;
    (void)state;

    for (size_t i = 0; i < N_OF(cases); i++) {
        const char *sets[] = {cases[i].set, "sample.size_px=0"};
        read_recipe(&recipe, "nano", sets, N_OF(sets));
        OK(prx_train_plan(&recipe, 8, N_TOKENS, &plan));
        assert_int_equal(plan.param_bytes, cases[i].param);
        assert_int_equal(plan.grad_bytes, cases[i].grad);
        assert_int_equal(plan.optim_bytes, cases[i].optim);
        assert_int_equal(plan.ema_bytes, cases[i].ema);
        OK(prx_recipe_set(&recipe, "optim.decay_scale={x*: 0}"));
        assert_int_equal(prx_train_plan(&recipe, 8, N_TOKENS, &plan), PRX_EINVAL);
        assert_string_equal(prx_err_message(),
                            "optim.decay_scale: \"x*\" matches no parameter");
        prx_recipe_release(&recipe);
    }
}

/* Seven billion parameters, and a batch of many gigabytes, cost nothing to plan. */
static void test_large(void **state)
{
    static const char *const sets[] = {"sample.size_px=1024", "train.batch=65536",
                                       "train.micro_batch=512"};
    struct prx_train_plan plan;
    struct prx_recipe recipe;
    struct rusage before, after;
    (void)state;

    read_recipe(&recipe, "prx_base", sets, N_OF(sets));
    getrusage(RUSAGE_SELF, &before);
    OK(prx_train_plan(&recipe, 8, 256, &plan));
    getrusage(RUSAGE_SELF, &after);
    assert_int_equal(plan.param_bytes, UINT64_C(4) * 6985046080);
    assert_true(plan.batch_bytes > UINT64_C(100) << 30);
    assert_true(after.ru_maxrss - before.ru_maxrss < 64 << 10); /* KiB */
    prx_recipe_release(&recipe);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_backend),
        cmocka_unit_test(test_auto),
        cmocka_unit_test(test_activations),
        cmocka_unit_test(test_other_activations),
        cmocka_unit_test(test_categories),
        cmocka_unit_test(test_optimisers),
        cmocka_unit_test(test_large),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
