/* SPDX-License-Identifier: Apache-2.0 */
/*
 * sampler.h - from noise to a latent: Euler steps with classifier-free guidance.
 *
 * sigma = shift(1 - i/n), i = 0..n;  x -= (sigma_i - sigma_(i+1)) v(x, sigma_i).
 * Guidance: v = u + scale (c - u) (Ho & Salimans 2022, arXiv:2207.12598).  Of a
 * network that predicts x0, guidance acts on x0, and v = (x - x0) / max(sigma, 0.05).
 */
#ifndef PRX_TRAIN_SAMPLER_H
#define PRX_TRAIN_SAMPLER_H

#include "train/denoiser.h"
#include "train/objective.h"

#ifdef __cplusplus
extern "C" {
#endif

struct prx_sampler_opts {
    int64_t n_steps;
    double guidance_scale; /* 1, or no @uncond: one pass a step */
    double shift;
    enum prx_prediction prediction;
};

/** prx_sampler_sigmas - @out [n_steps + 1], from 1 to 0. */
void prx_sampler_sigmas(int64_t n_steps, double shift, float *out);

/**
 * prx_sample_euler - integrate @x in place.
 *
 * @x      [B, C, H, W] start noise in, latent out, device tensor
 * @text   [B, L, X] with @mask [B, L] (or NULL)
 * @uncond [B, LU, X] with @uncond_mask (or NULL); NULL without guidance
 * @on_step: called after each step, may be NULL; non-zero stops (PRX_ECANCELED).
 */
PRX_MUST_USE int prx_sample_euler(struct prx_denoiser *denoiser,
                                  const struct prx_sampler_opts *opts,
                                  struct prx_tensor *x, const struct prx_tensor *text,
                                  const struct prx_tensor *mask,
                                  const struct prx_tensor *uncond,
                                  const struct prx_tensor *uncond_mask,
                                  int (*on_step)(void *ctx, int64_t i_step), void *ctx);

#ifdef __cplusplus
}
#endif
#endif
