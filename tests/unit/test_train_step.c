/* SPDX-License-Identifier: Apache-2.0 */
/* One step, whole, in slices, or with blocks run twice: one gradient. */
#include "train/run.h"

#include <math.h>
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include <cmocka.h>

#include "tests/lib/gradcheck.h"

#define N_OF(array) (sizeof(array) / sizeof((array)[0]))

#define OK(expr)                      \
 do {                                 \
  if ((expr) < 0)                     \
   fail_msg("%s", prx_err_message()); \
 } while (0)

enum { B = 8,
       C = 4,
       H = 4,
       W = 6,
       L = 16,
       X = 8 };

/* A batch as a loader hands it out: each sample its own caption length and draw. */
struct fixture {
    float latent[B * C * H * W];
    float text[B * L * X];
    int32_t mask[B * L];
    struct prx_loader_draw draws[B];
    struct prx_loader_batch batch;
};

/* What a step left behind. */
struct outcome {
    struct prx_step_report report;
    float *grads; /* of all parameters, the caller frees */
    size_t n;
    size_t peak_bytes;
};

static int open_fixture(void **state)
{
    static struct fixture fixture;
    struct prx_rng rng;

    prx_rng_init(&rng, 1, PRX_RNG_TEST, 0, 0);
    prx_rng_normal(&rng, fixture.latent, N_OF(fixture.latent));
    for (int b = 0; b < B; b++) {
        int n_tokens = 1 + 2 * b;
        prx_rng_normal(&rng, fixture.text + (size_t)b * L * X, (size_t)n_tokens * X);
        for (int i = 0; i < n_tokens; i++)
            fixture.mask[b * L + i] = 1;
        fixture.draws[b] = (struct prx_loader_draw){.sample = 3 * (uint32_t)b};
    }
    fixture.batch = (struct prx_loader_batch){
        .n_samples = B,
        .channels = C,
        .height = H,
        .width = W,
        .n_tokens = L,
        .text_width = X,
        .latent = fixture.latent,
        .text = fixture.text,
        .mask = fixture.mask,
        .draws = fixture.draws,
    };
    *state = &fixture;
    return 0;
}

/* One step of a network with scrambled weights: at its own, most gradients are 0. */
static void step(const struct fixture *fixture, const char *backend,
                 const char *const sets[], struct outcome *out)
{
    static const char *const common[] = {
        "model.in_channels=4",
        "model.context_in_dim=8",
        "model.hidden_size=32",
        "model.num_heads=2",
        "model.depth=6",
        "model.axes_dim=null",
        "route.start=1",
        "route.end=4",
        "optim.warmup_steps=0",
        "train.batch=8",
    };
    struct prx_backend *be = NULL;
    struct prx_trainer trainer;
    struct prx_recipe recipe;

    *out = (struct outcome){0};
    OK(prx_backend_open(backend, 2, &be));
    OK(prx_recipe_init(&recipe));
    for (size_t i = 0; i < N_OF(common); i++)
        OK(prx_recipe_set(&recipe, common[i]));
    for (; *sets; sets++)
        OK(prx_recipe_set(&recipe, *sets));
    OK(prx_recipe_resolve(&recipe));
    OK(prx_trainer_init(&trainer, &recipe, be));
    struct prx_param_store *store = prx_denoiser_params(trainer.denoiser);
    OK(gradcheck_scramble(store, 2, 0.25f));
    /* To numbers that both dtypes have, so that runs of either compare. */
    OK(prx_param_store_cast(store, PRX_BF16));
    OK(prx_param_store_cast(store, (enum prx_dtype)recipe.precision.params));
    OK(prx_train_step(&trainer, &fixture->batch, 1, &out->report));
    assert_false(out->report.is_skipped);

    out->grads = calloc((size_t)prx_param_store_count(store), sizeof(float));
    assert_non_null(out->grads);
    for (size_t i = 0; i < store->n_params; i++) {
        OK(prx_tensor_get(be, &store->params[i]->grad, out->grads + out->n));
        out->n += (size_t)prx_tensor_count(&store->params[i]->grad);
    }
    out->peak_bytes = prx_tape_peak_bytes(trainer.tape);
    prx_trainer_release(&trainer);
    prx_recipe_release(&recipe);
    prx_backend_close(be);
}

#define SETS(...) ((const char *const[]){__VA_ARGS__, NULL})

/* |a - b| / |b|, over all parameters. */
static double distance(const struct outcome *a, const struct outcome *b)
{
    double gap = 0, size = 0;

    assert_int_equal(a->n, b->n);
    for (size_t i = 0; i < a->n; i++) {
        gap += pow((double)a->grads[i] - (double)b->grads[i], 2);
        size += pow((double)b->grads[i], 2);
    }
    assert_true(size > 0);
    return sqrt(gap / size);
}

static const char *const backends[] = {"ref", "cpu"};

/* What is computed with weights is float32, whatever they are stored as. */
static void storage_costs_no_gradient(void **state)
{
    static const char *const others[] = {"train.micro_batch=0", "train.micro_batch=3",
                                         "train.recompute=blocks"};
    for (size_t i = 0; i < N_OF(backends); i++) {
        for (size_t j = 0; j < N_OF(others); j++) {
            struct outcome wide, narrow;
            step(*state, backends[i], SETS(others[j], "precision.params=f32"), &wide);
            step(*state, backends[i], SETS(others[j], "precision.params=bf16"),
                 &narrow);
            assert_int_equal(narrow.n, wide.n);
            assert_memory_equal(narrow.grads, wide.grads, wide.n * sizeof(float));
            assert_true(narrow.report.loss == wide.report.loss);
            free(wide.grads);
            free(narrow.grads);
        }
    }
}

static void slices_add_up(void **state)
{
    static const char *const sizes[] = {
        "train.micro_batch=1",
        "train.micro_batch=3", /* the last has 2 */
        "train.micro_batch=4",
    };
    /* A route, too: who is seen is each sample's own matter. */
    static const char *const routes[] = {"route.kind=none", "route.kind=tread",
                                         "route.kind=sprint"};
    for (size_t i = 0; i < N_OF(backends) * N_OF(routes); i++) {
        const char *backend = backends[i % N_OF(backends)];
        const char *route = routes[i / N_OF(backends)];
        struct outcome whole, sliced;
        step(*state, backend, SETS("train.micro_batch=0", route), &whole);
        for (size_t j = 0; j < N_OF(sizes); j++) {
            step(*state, backend, SETS(sizes[j], route), &sliced);
            double gap = distance(&sliced, &whole);
            if (!(gap < 1e-5))
                fail_msg("%s, %s, %s: off by %g", backend, route, sizes[j], gap);
            assert_true(fabs(sliced.report.loss / whole.report.loss - 1) < 1e-6);
            assert_true(sliced.peak_bytes < whole.peak_bytes);
            free(sliced.grads);
        }
        /* One slice, or one that more than holds the batch, is the batch. */
        for (int j = 0; j < 2; j++) {
            const char *size = j ? "train.micro_batch=9" : "train.micro_batch=8";
            step(*state, backend, SETS(size, route), &sliced);
            assert_memory_equal(sliced.grads, whole.grads, whole.n * sizeof(float));
            assert_true(sliced.report.loss == whole.report.loss);
            free(sliced.grads);
        }
        free(whole.grads);
    }
}

static void recomputing_changes_no_bit(void **state)
{
    static const char *const rows[][2] = {
        {"model.resolution_mode=none", "train.micro_batch=0"},
        {"model.resolution_mode=vec", "train.micro_batch=0"},
        {"model.resolution_mode=token", "train.micro_batch=3"},
        {"route.kind=tread", "train.micro_batch=0"},
        {"route.kind=sprint", "train.micro_batch=3"},
    };
    for (size_t i = 0; i < N_OF(backends) * N_OF(rows); i++) {
        const char *backend = backends[i % N_OF(backends)];
        const char *const *row = rows[i / N_OF(backends)];
        struct outcome once, twice;
        step(*state, backend, SETS(row[0], row[1], "train.recompute=none"), &once);
        step(*state, backend, SETS(row[0], row[1], "train.recompute=blocks"), &twice);
        assert_int_equal(once.n, twice.n);
        assert_memory_equal(once.grads, twice.grads, once.n * sizeof(float));
        assert_true(once.report.loss == twice.report.loss);
        print_message("%s, %s, %s: %zu bytes, recomputing %zu\n", backend, row[0],
                      row[1], once.peak_bytes, twice.peak_bytes);
        assert_true(5 * twice.peak_bytes < 3 * once.peak_bytes);
        free(once.grads);
        free(twice.grads);
    }
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(storage_costs_no_gradient),
        cmocka_unit_test(slices_add_up),
        cmocka_unit_test(recomputing_changes_no_bit),
    };
    return cmocka_run_group_tests(tests, open_fixture, NULL);
}
