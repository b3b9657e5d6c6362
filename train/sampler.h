/* SPDX-License-Identifier: Apache-2.0 */
/*
 * sampler.h - from noise to a latent: Euler steps with classifier-free guidance.
 *
 * sigma = shift(1 - i/n), i = 0..n;  x -= (sigma_i - sigma_(i+1)) v(x, sigma_i).
 * Guidance: v = u + scale (c - u), where c has seen the prompt and u, the weaker one,
 * has not (Ho & Salimans 2022, arXiv:2207.12598); or has seen it with some of the
 * tokens alone, over the route of the network (TREAD's self-guidance).  Of a network
 * that predicts x0, guidance acts on x0, and v = (x - x0) / max(sigma, 0.05).
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
    double guidance_scale; /* 1: one pass a step */
    double shift;
    enum prx_prediction prediction;
};

/* What a pass is told beside x and t; [B, L, X], [B, L] and [B, NV], or NULL. */
struct prx_conditions {
    const struct prx_tensor *text;
    const struct prx_tensor *mask;    /* NULL: all text is there */
    const struct prx_tensor *visible; /* as of prx_denoiser_forward() */
};

/** prx_sampler_sigmas - @out [n_steps + 1], from 1 to 0. */
void prx_sampler_sigmas(int64_t n_steps, double shift, float *out);

/**
 * prx_sample_euler - integrate @x in place.
 *
 * @x: [B, C, H, W] start noise in, latent out, device tensor
 * @weaker: what guidance leads away from; NULL without guidance
 * @on_step: called after each step, may be NULL; non-zero stops (PRX_ECANCELED).
 */
PRX_MUST_USE int prx_sample_euler(struct prx_denoiser *denoiser,
                                  const struct prx_sampler_opts *opts,
                                  struct prx_tensor *x,
                                  const struct prx_conditions *conditions,
                                  const struct prx_conditions *weaker,
                                  int (*on_step)(void *ctx, int64_t i_step), void *ctx);

#ifdef __cplusplus
}
#endif
#endif
