/* SPDX-License-Identifier: Apache-2.0 */
/*
 * objective.h - timesteps and the rectified-flow objective.
 *
 * Source: PRX, prx/schedulers/scheduler.py; Esser et al. 2024, arXiv:2403.03206
 * (logit-normal timesteps, shift); Liu et al. 2022, arXiv:2209.03003.
 */
#ifndef PRX_TRAIN_OBJECTIVE_H
#define PRX_TRAIN_OBJECTIVE_H

#include "libdata/rng.h"
#include "train/tape.h"

#ifdef __cplusplus
extern "C" {
#endif

enum prx_timestep_kind {
    PRX_TIMESTEP_LOGIT_NORMAL,
    PRX_TIMESTEP_UNIFORM,
};

struct prx_timestep_config {
    enum prx_timestep_kind kind;
    double shift;        /* 1 = none */
    double uniform_part; /* share replaced by unshifted uniform draws; PRX: 0.1 */
    double t_min, t_max; /* [0.001, 1) */
};

/* What the network's output means. */
enum prx_prediction {
    PRX_PREDICT_VELOCITY, /* "flow_matching": noise - x0 */
    PRX_PREDICT_X0,       /* "x_prediction_flow_matching" */
};

/** prx_timestep_shift - s t / (1 + (s - 1) t). */
double prx_timestep_shift(double t, double shift);

/**
 * prx_timestep_draw - one timestep from a sample's own stream.
 *
 * The same distribution as the reference's batch draw: logit-normal draws outside
 * [t_min, t_max) are drawn again (a thousand times; then the draw is uniform).
 */
float prx_timestep_draw(const struct prx_timestep_config *config, struct prx_rng *rng);

/**
 * prx_timestep_select - the reference's selection from given draws, for parity.
 *
 * @normal [10 n], @uniform [n], @coin [n] -> @t [n].  The i-th uniform and coin are
 * those of the i-th draw that is kept.  Returns how many of the n the draws gave.
 */
size_t prx_timestep_select(const struct prx_timestep_config *config, size_t n,
                           const float *normal, const float *uniform, const float *coin,
                           float *t);

struct prx_denoiser;

/* What one step trains on; tensors of the backend. */
struct prx_batch {
    struct prx_tensor latent; /* [B, C, H, W] x0 */
    struct prx_tensor noise;  /* [B, C, H, W] */
    struct prx_tensor t;      /* [B] */
    struct prx_tensor text;   /* [B, L, context_in_dim], zero behind each caption */
    struct prx_tensor mask;   /* [B, L] i32, or data NULL: all text is there */
};

/**
 * prx_flow_loss - record mean (v_pred - (noise - x0))^2 on @tape.
 *
 * @prediction: the velocity, or NULL to discard.  @per_sample: as prx_nn_mse().
 */
struct prx_var *prx_flow_loss(struct prx_tape *tape, struct prx_denoiser *denoiser,
                              const struct prx_batch *batch,
                              struct prx_var **prediction,
                              struct prx_tensor *per_sample);

#ifdef __cplusplus
}
#endif
#endif
