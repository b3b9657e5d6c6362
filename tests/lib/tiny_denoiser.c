/* SPDX-License-Identifier: Apache-2.0 */
/* A denoiser so small that its gradients can be checked one by one. */
#include "tests/lib/tiny_denoiser.h"

#include <stdio.h>
#include <stdlib.h>

#include "tests/lib/gradcheck.h"

const struct prx_denoiser_config prx_tiny_config = {
    .in_channels = 3,
    .patch_size = 2,
    .context_in_dim = 5,
    .hidden_size = 12,
    .mlp_ratio = 1.5,
    .num_heads = 2,
    .depth = 2,
    .axes_dim = {2, 4},
    .theta = 10000.0,
    .time_factor = 1000.0,
    .time_max_period = 10000.0,
};

static void must(int rc)
{
    if (rc >= 0)
        return;
    fprintf(stderr, "FAIL tiny denoiser: %s\n", prx_err_message());
    exit(1);
}

static void fill(struct prx_backend *be, struct prx_tensor *tensor, int n_dims,
                 const int64_t *dims, uint64_t seed)
{
    must(prx_tensor_alloc(be, PRX_F32, n_dims, dims, tensor));
    must(gradcheck_fill(be, tensor, seed, 1.0f));
}

void prx_tiny_init(struct prx_tiny *tiny, struct prx_backend *be,
                   const struct prx_denoiser_config *config, int64_t n_text,
                   const int32_t *mask)
{
    static const float times[2] = {0.25f, 0.8f};
    const int64_t image[4] = {2, config->in_channels, 4, 6};
    const int64_t text[3] = {2, n_text, config->context_in_dim};
    struct prx_batch *batch = &tiny->batch;

    *tiny = (struct prx_tiny){.be = be};
    must(prx_denoiser_new(be, config, true, &tiny->denoiser));
    must(gradcheck_scramble(prx_denoiser_params(tiny->denoiser), 1, 0.25f));
    fill(be, &batch->latent, 4, image, 101);
    fill(be, &batch->noise, 4, image, 102);
    fill(be, &batch->text, 3, text, 103);
    must(prx_tensor_alloc(be, PRX_F32, 1, image, &batch->t));
    must(prx_tensor_set(be, &batch->t, times));
    if (!mask)
        return;
    must(prx_tensor_alloc(be, PRX_I32, 2, text, &batch->mask));
    must(prx_tensor_set(be, &batch->mask, mask));
}

void prx_tiny_route(struct prx_tiny *tiny, const int32_t *visible, int64_t n_visible)
{
    struct prx_tensor *out = &tiny->batch.visible;

    must(prx_tensor_alloc(tiny->be, PRX_I32, 2, (int64_t[]){2, n_visible}, out));
    must(prx_tensor_set(tiny->be, out, visible));
}

void prx_tiny_release(struct prx_tiny *tiny)
{
    prx_denoiser_free(tiny->denoiser);
    prx_tensor_free(tiny->be, &tiny->batch.latent);
    prx_tensor_free(tiny->be, &tiny->batch.noise);
    prx_tensor_free(tiny->be, &tiny->batch.text);
    prx_tensor_free(tiny->be, &tiny->batch.t);
    prx_tensor_free(tiny->be, &tiny->batch.mask);
    prx_tensor_free(tiny->be, &tiny->batch.visible);
}

struct prx_var *prx_tiny_loss(void *ctx, struct prx_tape *tape)
{
    struct prx_tiny *tiny = ctx;
    return prx_flow_loss(tape, tiny->denoiser, tiny->prediction, &tiny->batch, NULL,
                         NULL);
}
