/* SPDX-License-Identifier: Apache-2.0 */
/* tiny_denoiser.h - a denoiser with scrambled weights, and a batch to train it on. */
#ifndef PRX_TESTS_LIB_TINY_DENOISER_H
#define PRX_TESTS_LIB_TINY_DENOISER_H

#include "train/denoiser.h"
#include "train/objective.h"

/* Depth 2; latents of 3 channels, patches of 2, text 5 wide. */
extern const struct prx_denoiser_config prx_tiny_config;

/* Two samples of 4 x 6 cells: 6 tokens each. */
#define PRX_TINY_LATENT (2 * 3 * 4 * 6)
#define PRX_TINY_TOKENS 6

struct prx_tiny {
    struct prx_backend *be; /* borrowed */
    struct prx_denoiser *denoiser;
    enum prx_prediction prediction;
    struct prx_batch batch;
};

/**
 * prx_tiny_init - the same weights and batch every time; whoever fails ends the test.
 *
 * @config:  prx_tiny_config, changed; in_channels and patch_size stay
 * @mask:    [2, n_text], or NULL
 */
void prx_tiny_init(struct prx_tiny *tiny, struct prx_backend *be,
                   const struct prx_denoiser_config *config, int64_t n_text,
                   const int32_t *mask);

/** prx_tiny_route - let a route's blocks see @visible [2, n_visible]. */
void prx_tiny_route(struct prx_tiny *tiny, const int32_t *visible, int64_t n_visible);
void prx_tiny_release(struct prx_tiny *tiny);

/** prx_tiny_loss - a gradcheck_fn, of a struct prx_tiny. */
struct prx_var *prx_tiny_loss(void *ctx, struct prx_tape *tape);

#endif
