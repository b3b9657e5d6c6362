/* SPDX-License-Identifier: Apache-2.0 */
/*
 * optim.h - optimisers, gradient clipping, learning-rate schedule, weight averages.
 */
#ifndef PRX_TRAIN_OPTIM_H
#define PRX_TRAIN_OPTIM_H

#include "train/tape.h"

#ifdef __cplusplus
extern "C" {
#endif

struct prx_adamw_config {
    double beta1, beta2;
    double eps;
    double weight_decay;
};

/*
 * Moments of every parameter of one store, float32, in the store's order.  A
 * parameter without gradient is left alone.
 */
struct prx_adamw {
    struct prx_param_store *store;
    struct prx_adamw_config config;
    struct prx_tensor *m;
    struct prx_tensor *v;
    int64_t n_steps;              /* taken so far */
    struct prx_adamw_slot *slots; /* private */
};

/** prx_adamw_new - moments zero.  @store must outlive it. */
PRX_MUST_USE int prx_adamw_new(struct prx_param_store *store,
                               const struct prx_adamw_config *config,
                               struct prx_adamw **out);
void prx_adamw_free(struct prx_adamw *optim);

/** prx_adamw_step - one step with @lr; gradients are scaled by @grad_scale first. */
PRX_MUST_USE int prx_adamw_step(struct prx_adamw *optim, double lr, double grad_scale);

/**
 * prx_grad_norm - global L2 norm of all gradients of @store.
 *
 * The clip factor is min(1, max_norm / (norm + 1e-6)), as torch's
 * clip_grad_norm_(): prx_clip_factor().
 */
PRX_MUST_USE int prx_grad_norm(struct prx_param_store *store, double *out);
double prx_clip_factor(double norm, double max_norm);

enum prx_lr_decay {
    PRX_LR_CONSTANT,
    PRX_LR_COSINE,
};

struct prx_lr_schedule {
    double lr;
    int64_t warmup_steps;
    enum prx_lr_decay decay;
    int64_t total_steps; /* cosine: lr * floor is reached here and kept */
    double floor;        /* share of lr */
    bool composer_lag;   /* warm-up as in PRX, two steps late: max(0, k-2)/warmup */
};

/** prx_lr_at - learning rate of optimiser step @k = 1, 2, ... */
double prx_lr_at(const struct prx_lr_schedule *schedule, int64_t k);

/*
 * ema = smoothing * ema + (1 - smoothing) * w after every interval-th step, once
 * active.  Averages begin as copies of the weights, when made and when they become
 * active.  Source: PRX prx/algorithm/ema.py.
 */
struct prx_ema {
    struct prx_param_store *store;
    struct prx_tensor *averages;
    double smoothing;
    int64_t interval_steps;
    int64_t start_step; /* becomes a copy at the first step >= this and >= 1 */
    bool active;
};

PRX_MUST_USE int prx_ema_new(struct prx_param_store *store, double smoothing,
                             int64_t interval_steps, int64_t start_step,
                             struct prx_ema **out);
void prx_ema_free(struct prx_ema *ema);

/** prx_ema_step - after step @k = 1, 2, ...: begin, or average where it is time. */
PRX_MUST_USE int prx_ema_step(struct prx_ema *ema, int64_t k);

/** prx_ema_swap - exchange averages and weights (and back, when called again). */
void prx_ema_swap(struct prx_ema *ema);

#ifdef __cplusplus
}
#endif
#endif
