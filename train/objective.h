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

/** prx_prediction_name - the reference's word for it, as written in prx.json. */
const char *prx_prediction_name(enum prx_prediction kind);

/** prx_prediction_find - the kind that @name is. Errors: PRX_EINVAL. */
PRX_MUST_USE int prx_prediction_find(const char *name, enum prx_prediction *out);

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

/* PRX divides by no less than this where it turns x0 into a velocity. */
#define PRX_X0_T_MIN 0.05f

/* What one step trains on; tensors of the backend, which live until backward. */
struct prx_batch {
    struct prx_tensor latent;  /* [B, C, H, W] x0 */
    struct prx_tensor noise;   /* [B, C, H, W] */
    struct prx_tensor t;       /* [B] */
    struct prx_tensor text;    /* [B, L, context_in_dim], zero behind each caption */
    struct prx_tensor mask;    /* [B, L] i32, or data NULL: all text is there */
    struct prx_tensor visible; /* [B, NV] i32 of prx_denoiser_forward(); data NULL */
};

/* What the loss was taken of, for auxiliary losses and reports. */
struct prx_flow_terms {
    struct prx_tensor noised;   /* x_t, [B, C, H, W] */
    struct prx_var *output;     /* of the network */
    struct prx_var *prediction; /* the velocity it means */
    struct prx_tensor target;   /* the velocity it should be */
};

/**
 * prx_flow_loss - record mean (prediction - target)^2 on @tape.
 *
 *     x_t = (1 - t) x0 + t noise
 *     velocity: prediction = output,            target = noise - x0
 *     x0:       prediction = (x_t - output)/tc, target = (x_t - x0)/tc,
 *               tc = max(t, 0.05)
 *
 * Source: the second form is JiT's, Li & He 2025, arXiv:2511.13720, as in PRX
 * prx/pipeline/fm_pipeline.py.
 *
 * @terms, @per_sample (as of prx_nn_mse()): NULL to discard.
 */
struct prx_var *prx_flow_loss(struct prx_tape *tape, struct prx_denoiser *denoiser,
                              enum prx_prediction kind, const struct prx_batch *batch,
                              struct prx_flow_terms *terms,
                              struct prx_tensor *per_sample);

#ifdef __cplusplus
}
#endif
#endif
