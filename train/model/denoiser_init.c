/* SPDX-License-Identifier: Apache-2.0 */
/*
 * Start values: each parameter is a pure function of the seed and its number.
 *
 * Source: PyTorch's default of nn.Linear, which PRX keeps, with PRX's zeros for
 * modulations and the final layer (adaLN-zero): every block begins as identity.
 */
#include "train/model/denoiser_internal.h"

#include "libdata/rng.h"

#include <math.h>
#include <stdlib.h>

struct init {
    struct prx_param_store *store;
    uint64_t seed;
    size_t i_param;
    float *values; /* room for the largest parameter */
};

static void draw(struct prx_rng *rng, const struct prx_param_spec *spec, float *values,
                 int64_t count)
{
    float bound = 1.0f / sqrtf((float)spec->fan_in);
    for (int64_t i = 0; i < count; i++) {
        switch (spec->init) {
        case PRX_INIT_UNIFORM:
            values[i] = (2.0f * prx_rng_uniform(rng) - 1.0f) * bound;
            break;
        case PRX_INIT_ONES:
            values[i] = 1.0f;
            break;
        default:
            values[i] = 0.0f;
        }
    }
}

static int init_param(void *ctx, const struct prx_param_spec *spec)
{
    struct init *init = ctx;
    struct prx_param *param = init->store->params[init->i_param];
    struct prx_rng rng;

    prx_rng_init(&rng, init->seed, PRX_RNG_INIT, 0, init->i_param++);
    draw(&rng, spec, init->values, prx_tensor_count(&param->value));
    return prx_tensor_set_f32(init->store->be, &param->value, init->values);
}

int prx_denoiser_init(struct prx_denoiser *denoiser, uint64_t seed)
{
    struct init init = {.store = &denoiser->store, .seed = seed};
    int64_t count_max = 0;
    int rc = 0;

    for (size_t i = 0; i < init.store->n_params; i++) {
        int64_t count = prx_tensor_count(&init.store->params[i]->value);
        if (count > count_max)
            count_max = count;
    }
    init.values = malloc((size_t)count_max * sizeof(*init.values));
    if (!init.values)
        return prx_err_nomem("the largest parameter");
    rc = prx_denoiser_each_param(&denoiser->config, init_param, &init);
    free(init.values);
    return rc;
}
