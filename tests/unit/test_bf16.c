/* SPDX-License-Identifier: Apache-2.0 */
/* Parameters stored as bf16: what layers read, and what training loses. */
#include "tests/lib/backends.h"
#include "tests/lib/gradcheck.h"
#include "train/bf16.h"
#include "train/optim.h"

#include <math.h>
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <string.h>

#include <cmocka.h>

#define OK(expr)                      \
 do {                                 \
  if ((expr) < 0)                     \
   fail_msg("%s", prx_err_message()); \
 } while (0)

enum { N = 6 };

/* Parameters for a chain of layers: weights, bias, scale, and a value. */
static void store_init(struct prx_param_store *store, struct prx_backend *be)
{
    prx_param_store_init(store, be, true);
    OK(prx_param_store_add(store, "weight", 2, (int64_t[]){N, N}, NULL));
    OK(prx_param_store_add(store, "bias", 1, (int64_t[]){N}, NULL));
    OK(prx_param_store_add(store, "scale", 1, (int64_t[]){N / 2}, NULL));
    OK(prx_param_store_add(store, "tokens", 3, (int64_t[]){1, 2, N}, NULL));
    OK(gradcheck_scramble(store, 3, 0.5f));
}

static struct prx_var *layer(struct prx_tape *tape, struct prx_param_store *store,
                             struct prx_var *x)
{
    struct prx_var *y =
        prx_nn_linear(tape, x, store->params[0], store->params[1]);
    return prx_nn_head_norm_rope(tape, y, 0, N, store->params[2], NULL, 1e-6f);
}

/* Three layers, each forgotten before the next where the tape does not train. */
static void run(struct prx_param_store *store, bool train, float y[2 * N],
                float *grads)
{
    const float zeros[2 * N] = {0};
    struct prx_tensor target;
    struct prx_tape *tape = NULL;

    OK(prx_tape_new(store->be, &tape));
    prx_tape_train(tape, train);
    OK(prx_tensor_alloc(store->be, PRX_F32, 3, (int64_t[]){1, 2, N}, &target));
    OK(prx_tensor_set(store->be, &target, zeros));
    struct prx_var *x = prx_nn_silu(tape, prx_tape_param(tape, store->params[3]));
    for (int i = 0; i < 3; i++) {
        struct prx_arena_mark mark = prx_tape_mark(tape);
        struct prx_var *h = x;
        /* Of other lengths, so that values come to lie where copies have lain. */
        for (int j = 0; j < 3 * i; j++)
            h = prx_nn_silu(tape, h);
        x = prx_tape_rewind(tape, mark, layer(tape, store, h), x);
    }
    struct prx_var *loss = prx_nn_mse(tape, x, &target, NULL);
    OK(prx_tape_error(tape));
    OK(prx_tensor_get(store->be, &x->value, y));
    if (train) {
        OK(prx_param_store_zero_grad(store));
        OK(prx_tape_backward(tape, loss, 1.0f));
        for (size_t i = 0; i < store->n_params; i++) {
            OK(prx_tensor_get(store->be, &store->params[i]->grad, grads));
            grads += prx_tensor_count(&store->params[i]->grad);
        }
    }
    prx_tensor_free(store->be, &target);
    prx_tape_free(tape);
}

static void layers_compute_in_float32(void **state)
{
    struct prx_param_store store;
    float narrow[3][2 * N], wide[3][2 * N];
    float narrow_grads[100], wide_grads[100];
    size_t n_grads = N * N + N + N / 2 + 2 * N;

    store_init(&store, *state);
    OK(prx_param_store_cast(&store, PRX_BF16));
    for (size_t i = 0; i < store.n_params; i++) {
        assert_int_equal(store.params[i]->value.dtype, PRX_BF16);
        assert_int_equal(store.params[i]->grad.dtype, PRX_F32);
    }
    run(&store, false, narrow[0], NULL);
    run(&store, true, narrow[1], narrow_grads);
    OK(prx_param_store_cast(&store, PRX_F32));
    run(&store, false, wide[0], NULL);
    run(&store, true, wide[1], wide_grads);
    assert_memory_equal(narrow[0], wide[0], sizeof(wide[0]));
    assert_memory_equal(narrow[1], wide[1], sizeof(wide[1]));
    assert_memory_equal(wide[0], wide[1], sizeof(wide[1]));
    assert_memory_equal(narrow_grads, wide_grads, n_grads * sizeof(float));
    prx_param_store_release(&store);
}

static void casting_rounds(void **state)
{
    struct prx_param_store store;
    float before[N * N], after[N * N];

    store_init(&store, *state);
    OK(prx_tensor_get_f32(store.be, &store.params[0]->value, before));
    OK(prx_param_store_cast(&store, PRX_BF16));
    OK(prx_tensor_get_f32(store.be, &store.params[0]->value, after));
    for (int i = 0; i < N * N; i++)
        assert_true(after[i] == prx_bf16_round(before[i]));
    OK(prx_tensor_set_f32(store.be, &store.params[0]->value, before));
    OK(prx_tensor_get_f32(store.be, &store.params[0]->value, before));
    assert_memory_equal(before, after, sizeof(after));

    /* What is added later is of the store's dtype. */
    struct prx_param *late = NULL;
    assert_int_equal(store.dtype, PRX_BF16);
    OK(prx_param_store_add(&store, "late", 1, (int64_t[]){3}, &late));
    assert_int_equal(late->value.dtype, PRX_BF16);
    assert_int_equal(late->grad.dtype, PRX_F32);
    prx_param_store_release(&store);
}

/* --- what training loses ---------------------------------------------------------- */

/* A weight of 1 after @n_steps by a gradient of 1, whose average lags a step. */
static void descend(struct prx_backend *be, enum prx_dtype dtype, int kind, double lr,
                    int n_steps, float *weight, float *average)
{
    const struct prx_optim_config config = {
        .kind = kind,
        .adamw = {0.9, 0.95, 1e-15, 0},
        .muon = {.momentum = 0.9, .ns_steps = 5, .rms_scale = true, .adam_eps = 1e-8},
    };
    const float one = 1.0f;
    struct prx_param_store store;
    struct prx_param *param = NULL;
    struct prx_optim *optim = NULL;
    struct prx_ema *ema = NULL;

    prx_param_store_init(&store, be, true);
    OK(prx_param_store_add(&store, "blocks.0.weight", 2, (int64_t[]){1, 1}, &param));
    OK(prx_tensor_set(be, &param->value, &one));
    OK(prx_tensor_set(be, &param->grad, &one));
    OK(prx_param_store_cast(&store, dtype));
    OK(prx_optim_new(&store, &config, &optim));
    OK(prx_ema_new(&store, 0.5, 1, 0, &ema));
    assert_int_equal(optim->m[0].dtype, dtype);
    assert_int_equal(ema->averages[0].dtype, PRX_F32);
    for (int k = 1; k <= n_steps; k++) {
        OK(prx_optim_step(optim, lr, 1.0));
        OK(prx_ema_step(ema, k));
    }
    OK(prx_tensor_get_f32(be, &param->value, weight));
    OK(prx_tensor_get_f32(be, &ema->averages[0], average));
    prx_ema_free(ema);
    prx_optim_free(optim);
    prx_param_store_release(&store);
}

/* The study's pitfall: below 1/512 of the weight, any number of steps is no step. */
static void small_updates_vanish(void **state)
{
    float weight, average;

    for (int kind = PRX_OPTIM_ADAMW; kind <= PRX_OPTIM_MUON; kind++) {
        descend(*state, PRX_F32, kind, 1e-3, 100, &weight, &average);
        assert_true(weight < (kind == PRX_OPTIM_MUON ? 0.99f : 0.91f));
        descend(*state, PRX_BF16, kind, 1e-3, 100, &weight, &average);
        assert_true(weight == 1.0f && average == 1.0f);
        /* Larger ones arrive, each rounded. */
        descend(*state, PRX_BF16, kind, 0.1, 3, &weight, &average);
        assert_true(weight < 0.99f && weight == prx_bf16_round(weight));
    }
}

/* The average takes what lies between two numbers of the weights. */
static void averages_stay_float32(void **state)
{
    float weight, average;

    descend(*state, PRX_BF16, PRX_OPTIM_ADAMW, 1.0 / 128, 9, &weight, &average);
    assert_true(weight < 1.0f && weight == prx_bf16_round(weight));
    assert_true(average > weight && average != prx_bf16_round(average));
}

static void averages_change_places(void **state)
{
    struct prx_param_store store;
    struct prx_ema *ema = NULL;
    float narrow[2 * N], wide[2 * N], again[2 * N];

    store_init(&store, *state);
    OK(prx_ema_new(&store, 0.5, 1, 0, &ema));
    run(&store, false, wide, NULL);
    OK(prx_param_store_cast(&store, PRX_BF16));
    run(&store, false, narrow, NULL);
    prx_ema_swap(ema);
    run(&store, false, again, NULL);
    assert_memory_equal(again, wide, sizeof(wide));
    prx_ema_swap(ema);
    run(&store, false, again, NULL);
    assert_memory_equal(again, narrow, sizeof(narrow));
    prx_ema_free(ema);
    prx_param_store_release(&store);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(layers_compute_in_float32),
        cmocka_unit_test(casting_rounds),
        cmocka_unit_test(small_updates_vanish),
        cmocka_unit_test(averages_stay_float32),
        cmocka_unit_test(averages_change_places),
    };
    return cmocka_run_group_tests_name("ref", tests, prx_open_ref, prx_close_backend) +
           cmocka_run_group_tests_name("cpu", tests, prx_open_cpu, prx_close_backend);
}
