/* SPDX-License-Identifier: Apache-2.0 */
/*
 * denoiser.h - the PRX transformer: latents and text states in, velocity out.
 *
 * Source: Photoroom/PRX, prx/models/prx.py and prx_layers.py; the same network
 * as diffusers' PRXTransformer2DModel.  Parameters carry diffusers' names.
 */
#ifndef PRX_TRAIN_DENOISER_H
#define PRX_TRAIN_DENOISER_H

#include "train/tape.h"

#ifdef __cplusplus
extern "C" {
#endif

enum prx_resolution_mode {
    PRX_RESOLUTION_NONE,
    PRX_RESOLUTION_VEC,
    PRX_RESOLUTION_TOKEN,
};

/*
 * Token routing: blocks start..end see some tokens of each sample only.  Behind them
 * TREAD (Krause et al. 2025, arXiv:2501.04765) puts the others back as they were;
 * SPRINT (Park et al. 2025, arXiv:2510.21986) puts a learnt token in their place and
 * fuses the result, by a linear map, with what was before the route.
 * Source: PRX prx/algorithm/tread.py, sprint.py.
 */
enum prx_route_kind {
    PRX_ROUTE_NONE,
    PRX_ROUTE_TREAD,
    PRX_ROUTE_SPRINT,
};

struct prx_route {
    enum prx_route_kind kind;
    int64_t start, end; /* blocks, from 0, both routed */
    bool detach;        /* no gradient around the route */
};

struct prx_denoiser_config {
    int64_t in_channels;    /* C */
    int64_t patch_size;     /* P */
    int64_t context_in_dim; /* width of the text states */
    int64_t hidden_size;    /* D */
    double mlp_ratio;       /* F = floor(D * mlp_ratio) */
    int64_t num_heads;      /* NH */
    int64_t depth;
    int64_t axes_dim[2]; /* RoPE width of rows and of columns; sum = HD, both even */
    double theta;
    double time_factor;
    double time_max_period;
    int64_t bottleneck_size; /* 0 = none */
    enum prx_resolution_mode resolution_mode;
    struct prx_route route;
};

struct prx_denoiser; /* holds a prx_param_store and the config */

/** prx_denoiser_config_check - PRX_EINVAL with the reason where it is impossible. */
PRX_MUST_USE int prx_denoiser_config_check(const struct prx_denoiser_config *config);

/** prx_denoiser_new - parameters allocated (values zero); @train: gradients too. */
PRX_MUST_USE int prx_denoiser_new(struct prx_backend *be,
                                  const struct prx_denoiser_config *config, bool train,
                                  struct prx_denoiser **out);
void prx_denoiser_free(struct prx_denoiser *denoiser);

/**
 * prx_denoiser_init - the reference's initialisation, drawn from @seed.
 *
 * Parameter i of the store draws from the Philox stream (seed, PRX_RNG_INIT, 0, i).
 * Linear layers uniform(+-1/sqrt(fan_in)) for weight and bias; norm scales 1;
 * modulation and final layer zero.
 */
PRX_MUST_USE int prx_denoiser_init(struct prx_denoiser *denoiser, uint64_t seed);

struct prx_param_store *prx_denoiser_params(struct prx_denoiser *denoiser);
const struct prx_denoiser_config *
prx_denoiser_config(const struct prx_denoiser *denoiser);

/** prx_denoiser_count - elements of all parameters; nothing is allocated. */
PRX_MUST_USE int prx_denoiser_count(const struct prx_denoiser_config *config,
                                    int64_t *out);

/**
 * prx_denoiser_list - call @visit for every parameter, in the store's order.
 *
 * @shape: dims without memory.  Nothing is allocated.  Stops at a visit that fails.
 */
PRX_MUST_USE int prx_denoiser_list(const struct prx_denoiser_config *config,
                                   int (*visit)(void *ctx, const char *name,
                                                const struct prx_tensor *shape),
                                   void *ctx);

/**
 * prx_denoiser_flops - multiply-adds times two of one forward pass, for reports.
 *
 * @n_visible_tokens: of the image, in the blocks of the config's route.
 */
double prx_denoiser_flops(const struct prx_denoiser_config *config,
                          int64_t n_image_tokens, int64_t n_visible_tokens,
                          int64_t n_text_tokens);

/**
 * prx_denoiser_forward - record the network on @tape.
 *
 * @x    [B, C, H, W], P divides H and W
 * @t    [B] timesteps in [0, 1]
 * @text [B, L, context_in_dim]  @mask [B, L] i32 (1 = token present) or NULL
 * @visible [B, NV] i32: tokens that the route's blocks see, by number, ascending; NULL
 *          or data NULL: all of them (SPRINT then fuses all the same)
 * The tensors live until backward.  Returns [B, C, H, W], or NULL (prx_tape_error()).
 */
struct prx_var *prx_denoiser_forward(struct prx_denoiser *denoiser,
                                     struct prx_tape *tape, struct prx_var *x,
                                     const struct prx_tensor *t,
                                     const struct prx_tensor *text,
                                     const struct prx_tensor *mask,
                                     const struct prx_tensor *visible);

/**
 * prx_param_name_from_prx - diffusers' name of a parameter that PRX calls @prx_name.
 *
 * Old PRX checkpoints' ".weight" for the norms' ".scale" is understood.  A name that
 * has no other form (diffusers' own among them) comes out as it is; so does that of
 * prx_param_name_to_prx().  Errors: PRX_EINVAL (too long for @out).
 */
PRX_MUST_USE int prx_param_name_from_prx(const char *prx_name, char *out,
                                         size_t n_out_bytes);
PRX_MUST_USE int prx_param_name_to_prx(const char *name, char *out, size_t n_out_bytes);

#ifdef __cplusplus
}
#endif
#endif
