/* SPDX-License-Identifier: Apache-2.0 */
/*
 * optim.h - optimisers, gradient clipping, learning-rate schedule, weight averages.
 */
#ifndef PRX_TRAIN_OPTIM_H
#define PRX_TRAIN_OPTIM_H

#include "libdata/conf.h"
#include "train/tape.h"

#ifdef __cplusplus
extern "C" {
#endif

enum prx_optim_kind {
    PRX_OPTIM_ADAMW,
    PRX_OPTIM_MUON, /* for matrices of blocks; AdamW for all others */
};

struct prx_adamw_config {
    double beta1, beta2;
    double eps;
    double weight_decay;
};

struct prx_muon_config {
    double momentum;
    bool nesterov;
    double weight_decay;
    int64_t ns_steps;   /* Newton-Schulz iterations */
    bool rms_scale;     /* scale updates to the size of AdamW's */
    int dtype;          /* of the iterations: PRX_F32 or PRX_BF16 */
    int eps_mode;       /* enum prx_muon_eps */
    const char *filter; /* of prx_muon_takes(), borrowed; NULL: PRX_MUON_FILTER */
    double adam_eps;    /* in place of adamw.eps */
};

/*
 * Factors of rate and weight decay stand in tables keyed by shell patterns of
 * parameter names, as {"final_layer.*": 0.5}; the first that matches holds, and 1
 * where none does.
 */
struct prx_optim_config {
    int kind; /* enum prx_optim_kind */
    struct prx_adamw_config adamw;
    struct prx_muon_config muon; /* PRX_OPTIM_MUON only */
    struct prx_conf_weights lr_scale;
    struct prx_conf_weights decay_scale;
};

/* What becomes of one parameter. */
struct prx_optim_rule {
    enum prx_optim_kind kind;
    double lr_scale; /* 0: not trained */
    double decay_scale;
};

/* Which patterns of a config have met a parameter. */
struct prx_optim_met {
    bool lr_scale[PRX_CONF_LIST_MAX];
    bool decay_scale[PRX_CONF_LIST_MAX];
};

/**
 * prx_optim_rule - the rule for parameter @name of @n_dims dimensions.
 *
 * @met: the patterns that match are marked.
 */
struct prx_optim_rule prx_optim_rule(const struct prx_optim_config *config,
                                     const char *name, int n_dims,
                                     struct prx_optim_met *met);

/** prx_optim_check_met - PRX_EINVAL, naming a pattern that met no parameter. */
PRX_MUST_USE int prx_optim_check_met(const struct prx_optim_config *config,
                                     const struct prx_optim_met *met);

/* The reference's words for parameters of blocks. */
#define PRX_MUON_FILTER "blocks"

/** prx_muon_takes - whether Muon takes @name: a matrix with @filter in its name. */
bool prx_muon_takes(const char *name, int n_dims, const char *filter);

/*
 * The state of one store's parameters, in its order and of its dtype: m, the first
 * moment or Muon's momentum, of each that is trained, and v, the second moment, of
 * those that AdamW trains; others are zeroed structs.  A parameter without gradient
 * is left alone.
 */
struct prx_optim {
    struct prx_param_store *store;
    enum prx_optim_kind kind;
    struct prx_tensor *m;
    struct prx_tensor *v;
    int64_t n_steps; /* taken so far */
    /* Private. */
    struct prx_adamw_config adamw;
    struct prx_muon_config muon;
    struct prx_optim_rule *rules; /* of each parameter */
    struct prx_adamw_slot *slots; /* room for all */
    struct prx_muon_slot *muon_slots;
};

/**
 * prx_optim_new - state zero.  @store must outlive it.
 *
 * Parameters whose rate has the factor 0 are frozen: their gradients are given back.
 * Errors: PRX_EINVAL (a pattern matches no parameter), PRX_ENOMEM.
 */
PRX_MUST_USE int prx_optim_new(struct prx_param_store *store,
                               const struct prx_optim_config *config,
                               struct prx_optim **out);
void prx_optim_free(struct prx_optim *optim);

/** prx_optim_step - one step with @lr; gradients are scaled by @grad_scale first. */
PRX_MUST_USE int prx_optim_step(struct prx_optim *optim, double lr, double grad_scale);

/** prx_optim_kind_name - "adamw", "muon". */
const char *prx_optim_kind_name(enum prx_optim_kind kind);

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
 * active, in float32 whatever the weights are stored as.  Averages begin as copies of
 * the weights, when made and when they become active.
 * Source: PRX prx/algorithm/ema.py.
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
