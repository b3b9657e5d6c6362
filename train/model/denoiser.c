/* SPDX-License-Identifier: Apache-2.0 */
/*
 * The denoiser: embed, blocks, head.
 *
 *     h = img_in(patchify(x));  h = block_i(h, text, time);  unpatchify(head(h))
 *
 * Source: PRX prx/models/prx.py.
 */
#include "train/model/denoiser_internal.h"

#include <inttypes.h>
#include <stdlib.h>

#define NORM_EPS 1e-6f

/* Blocks of the head's modulation. */
enum {
    SHIFT,
    SCALE,
};

static int add_param(void *ctx, const struct prx_param_spec *spec)
{
    struct prx_denoiser *denoiser = ctx;
    char *owner = spec->i_block < 0 ? (char *)&denoiser->trunk
                                    : (char *)&denoiser->blocks[spec->i_block];
    return prx_param_store_add(&denoiser->store, spec->name, spec->n_dims, spec->dims,
                               (struct prx_param **)(void *)(owner + spec->offset));
}

int prx_denoiser_new(struct prx_backend *be, const struct prx_denoiser_config *config,
                     bool train, struct prx_denoiser **out)
{
    struct prx_denoiser *denoiser = NULL;
    int rc = 0;

    PRX_GO(prx_denoiser_config_check(config));
    denoiser = calloc(1, sizeof(*denoiser));
    if (!denoiser)
        return prx_err_nomem("a denoiser");
    denoiser->config = *config;
    prx_param_store_init(&denoiser->store, be, train);
    denoiser->blocks = calloc((size_t)config->depth, sizeof(*denoiser->blocks));
    if (!denoiser->blocks)
        PRX_GO(prx_err_nomem("a denoiser"));
    PRX_GO(prx_denoiser_each_param(config, add_param, denoiser));
    *out = denoiser;
    denoiser = NULL;
out:
    prx_denoiser_free(denoiser);
    return rc;
}

void prx_denoiser_free(struct prx_denoiser *denoiser)
{
    if (!denoiser)
        return;
    prx_param_store_release(&denoiser->store);
    free(denoiser->blocks);
    free(denoiser);
}

struct prx_param_store *prx_denoiser_params(struct prx_denoiser *denoiser)
{
    return &denoiser->store;
}

const struct prx_denoiser_config *
prx_denoiser_config(const struct prx_denoiser *denoiser)
{
    return &denoiser->config;
}

/* What shapes are derived from is checked here; the rest is for the ops. */
static int check_inputs(const struct prx_denoiser_config *config,
                        const struct prx_tensor *x, const struct prx_tensor *t,
                        const struct prx_tensor *text, const struct prx_tensor *mask,
                        const struct prx_tensor *visible)
{
    int64_t n_tokens;

    if (x->n_dims != 4 || x->dims[1] != config->in_channels ||
        x->dims[2] % config->patch_size != 0 || x->dims[3] % config->patch_size != 0)
        return prx_err(PRX_ESHAPE,
                       "the latent is not [B, %" PRId64
                       ", H, W] with sides divisible by %" PRId64,
                       config->in_channels, config->patch_size);
    if (t->n_dims != 1 || t->dims[0] != x->dims[0])
        return prx_err(PRX_ESHAPE, "timesteps are not one a sample");
    if (text->n_dims != 3 || text->dims[0] != x->dims[0] ||
        text->dims[2] != config->context_in_dim)
        return prx_err(PRX_ESHAPE, "text states are not [B, L, %" PRId64 "]",
                       config->context_in_dim);
    if (mask && (mask->dtype != PRX_I32 || mask->n_dims != 2 ||
                 mask->dims[0] != text->dims[0] || mask->dims[1] != text->dims[1]))
        return prx_err(PRX_ESHAPE,
                       "the text mask is not i32 [B, L] as the text states");
    n_tokens = x->dims[2] / config->patch_size * (x->dims[3] / config->patch_size);
    if (!prx_tensor_is_absent(visible) &&
        (visible->dtype != PRX_I32 || visible->n_dims != 2 ||
         visible->dims[0] != x->dims[0] || visible->dims[1] > n_tokens))
        return prx_err(PRX_ESHAPE,
                       "the visible tokens are not i32 [B, NV], NV up to %" PRId64,
                       n_tokens);
    return 0;
}

static struct prx_var *head(const struct prx_denoiser *denoiser,
                            const struct prx_pass *pass, struct prx_var *h)
{
    const struct prx_trunk *trunk = &denoiser->trunk;
    struct prx_tape *tape = pass->tape;

    struct prx_var *mod = prx_nn_linear(tape, pass->cond, trunk->final_modulation.w,
                                        trunk->final_modulation.b); // [B, 2D]
    h = prx_nn_ln_modulate(tape, h, mod, SHIFT, SCALE, NORM_EPS);
    return prx_nn_linear(tape, h, trunk->final_linear.w, trunk->final_linear.b);
}

struct prx_var *prx_denoiser_forward(struct prx_denoiser *denoiser,
                                     struct prx_tape *tape, struct prx_var *x,
                                     const struct prx_tensor *t,
                                     const struct prx_tensor *text,
                                     const struct prx_tensor *mask,
                                     const struct prx_tensor *visible)
{
    const struct prx_denoiser_config *config = &denoiser->config;
    struct prx_pass pass;

    if (!x ||
        prx_tape_fails(tape, check_inputs(config, &x->value, t, text, mask, visible)))
        return NULL;
    struct prx_var *h = prx_denoiser_embed(denoiser, tape, x, t, text, mask, &pass);
    h = prx_denoiser_blocks(denoiser, &pass, h, visible);
    return prx_nn_unpatchify(tape, head(denoiser, &pass, h), config->in_channels,
                             x->value.dims[2], x->value.dims[3], config->patch_size);
}
