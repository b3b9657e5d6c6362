/* SPDX-License-Identifier: Apache-2.0 */
/* Gradients against central differences along random directions. */
#include "tests/lib/gradcheck.h"

#include "libdata/rng.h"

#include <math.h>
#include <stdio.h>
#include <stdlib.h>

/* Rounding of a float32 loss costs about 1e-7 / STEP; four points leave an error of
 * STEP to the fourth. */
#define STEP 4e-3f

struct slopes {
    double tape;
    double difference;
};

static void fill(float *values, int64_t count, uint64_t seed, float centre, float bound)
{
    struct prx_rng rng;
    prx_rng_init(&rng, seed, PRX_RNG_TEST, 0, 0);
    for (int64_t i = 0; i < count; i++)
        values[i] = centre + bound * (2.0f * prx_rng_uniform(&rng) - 1.0f);
}

static int fill_around(struct prx_backend *be, struct prx_tensor *tensor, uint64_t seed,
                       float centre, float bound)
{
    int64_t count = prx_tensor_count(tensor);
    float *values = malloc((size_t)(count + 1) * sizeof(*values));
    if (!values)
        return prx_err_nomem("a test");
    fill(values, count, seed, centre, bound);
    int rc = prx_tensor_set_f32(be, tensor, values);
    free(values);
    return rc;
}

int gradcheck_fill(struct prx_backend *be, struct prx_tensor *tensor, uint64_t seed,
                   float bound)
{
    return fill_around(be, tensor, seed, 0.0f, bound);
}

int gradcheck_scramble(struct prx_param_store *store, uint64_t seed, float bound)
{
    for (size_t i = 0; i < store->n_params; i++) {
        struct prx_tensor *value = &store->params[i]->value;
        PRX_TRY(fill_around(store->be, value, seed + i,
                            value->n_dims == 1 ? 1.0f : 0.0f, bound));
    }
    return 0;
}

size_t gradcheck_get(const struct prx_param_store *store, float *out, size_t cap)
{
    size_t n = 0;

    for (size_t i = 0; i < store->n_params; i++) {
        const struct prx_tensor *grad = &store->params[i]->grad;
        size_t count = (size_t)prx_tensor_count(grad);
        if (n + count > cap || prx_tensor_get(store->be, grad, out + n) < 0) {
            fprintf(stderr, "FAIL gradients of %zu floats: %s\n", n + count,
                    prx_err_message());
            exit(1);
        }
        n += count;
    }
    return n * sizeof(*out);
}

static int loss_value(struct prx_tape *tape, gradcheck_fn loss_fn, void *ctx,
                      float *out)
{
    PRX_TRY(prx_tape_reset(tape));
    struct prx_var *loss = loss_fn(ctx, tape);
    PRX_TRY(prx_tape_error(tape));
    return prx_tensor_get(prx_tape_backend(tape), &loss->value, out);
}

static int difference_along(struct prx_tape *tape, struct prx_tensor *value,
                            const float *values, const float *along, float *moved,
                            gradcheck_fn loss_fn, void *ctx, double *out)
{
    struct prx_backend *be = prx_tape_backend(tape);
    int64_t count = prx_tensor_count(value);
    static const float points[4] = {-2.0f, -1.0f, 1.0f, 2.0f};
    static const double weights[4] = {1.0 / 12.0, -8.0 / 12.0, 8.0 / 12.0, -1.0 / 12.0};

    *out = 0.0;
    for (int k = 0; k < 4; k++) {
        float loss = 0.0f;
        for (int64_t i = 0; i < count; i++)
            moved[i] = values[i] + points[k] * STEP * along[i];
        PRX_TRY(prx_tensor_set(be, value, moved));
        PRX_TRY(loss_value(tape, loss_fn, ctx, &loss));
        *out += weights[k] * (double)loss / STEP;
    }
    return prx_tensor_set(be, value, values);
}

static int slopes_of(struct prx_tape *tape, struct prx_param *param, uint64_t seed,
                     gradcheck_fn loss_fn, void *ctx, struct slopes *out)
{
    struct prx_backend *be = prx_tape_backend(tape);
    int64_t count = prx_tensor_count(&param->value);
    float *memory = malloc((size_t)(4 * count) * sizeof(*memory));
    float *values = memory;
    float *grad = memory + count;
    float *along = memory + 2 * count;
    int rc = 0;

    if (!memory)
        return prx_err_nomem("a test");
    PRX_GO(prx_tensor_get(be, &param->value, values));
    PRX_GO(prx_tensor_get(be, &param->grad, grad));
    fill(along, count, seed, 0.0f, 1.0f);
    out->tape = 0.0;
    for (int64_t i = 0; i < count; i++)
        out->tape += (double)grad[i] * along[i];
    rc = difference_along(tape, &param->value, values, along, memory + 3 * count,
                          loss_fn, ctx, &out->difference);
out:
    free(memory);
    return rc;
}

static int backward(struct prx_tape *tape, struct prx_param_store *store,
                    gradcheck_fn loss_fn, void *ctx)
{
    struct prx_var *loss = loss_fn(ctx, tape);
    PRX_TRY(prx_tape_error(tape));
    PRX_TRY(prx_param_store_zero_grad(store));
    return prx_tape_backward(tape, loss, 1.0f);
}

int gradcheck_run(struct prx_param_store *store, gradcheck_fn loss_fn, void *ctx,
                  double *worst, const char **worst_name)
{
    struct slopes *slopes = calloc(store->n_params + 1, sizeof(*slopes));
    struct prx_tape *tape = NULL;
    double largest = 0.0;
    int rc = 0;

    *worst = 0.0;
    if (!slopes)
        return prx_err_nomem("a test");
    PRX_GO(prx_tape_new(store->be, &tape));
    PRX_GO(backward(tape, store, loss_fn, ctx));
    for (size_t i = 0; i < store->n_params; i++) {
        PRX_GO(slopes_of(tape, store->params[i], 1000 + i, loss_fn, ctx, &slopes[i]));
        largest = fmax(largest, fabs(slopes[i].tape));
    }
    for (size_t i = 0; i < store->n_params; i++) {
        double size = fmax(fabs(slopes[i].tape), fabs(slopes[i].difference));
        double error =
            fabs(slopes[i].tape - slopes[i].difference) / (size + 1e-2 * largest);
        if (!(error <= *worst)) {
            *worst = error;
            if (worst_name)
                *worst_name = store->params[i]->name;
        }
    }
out:
    prx_tape_free(tape);
    free(slopes);
    return rc;
}
