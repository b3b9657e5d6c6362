/* SPDX-License-Identifier: Apache-2.0 */
/*
 * checkpoint.h - a denoiser on disk, in the folder layout of diffusers.
 *
 *     ckpt-0001000/model_index.json
 *                  transformer/config.json
 *                  transformer/diffusion_pytorch_model.safetensors
 *                  ema/                  the same of the averaged weights, if any
 *                  scheduler/scheduler_config.json
 *                  prx.json              what sampling needs beyond diffusers
 *                  trainer/              position, moment1 and moment2 (training only)
 *                  manifest.json         xxh128 and size of every other file
 *
 * The folder appears by one rename or not at all.  "Whole" means that every file
 * of the manifest is there, with that size and sum.
 */
#ifndef PRX_TRAIN_CHECKPOINT_H
#define PRX_TRAIN_CHECKPOINT_H

#include "libdata/hash.h"
#include "train/denoiser.h"
#include "train/optim.h"

#ifdef __cplusplus
extern "C" {
#endif

/* Longest data.vae or data.text of a recipe, with its NUL. */
#define PRX_ENCODER_WORD_BYTES 256

/* prx.json: how the denoiser was trained, so that it can be sampled from. */
struct prx_model_info {
    int64_t step;
    char prediction[32];   /* "flow_matching" */
    double shift;          /* of the timestep schedule */
    int64_t latent_height; /* size to sample at unless told otherwise, in cells */
    int64_t latent_width;
    int64_t sample_steps;             /* sampling steps unless told otherwise */
    double sample_guidance;           /* guidance scale unless told otherwise */
    bool self_guidance;               /* by the route, not by the prompt */
    double route_share;               /* of tokens not seen there */
    char vae[PRX_ENCODER_WORD_BYTES]; /* prx_vae_open() word */
    char vae_fingerprint[PRX_HASH_HEX_BYTES];
    char text[PRX_ENCODER_WORD_BYTES]; /* prx_text_tower_open() word */
    char text_fingerprint[PRX_HASH_HEX_BYTES];
    int64_t text_width;
    int64_t text_tokens_max;
};

/* Where a run stands: trainer/state.json beside the optimiser's moments. */
struct prx_train_position {
    int64_t step;        /* batches taken, which is also the loader's position */
    int64_t optim_steps; /* steps applied: those whose numbers were finite */
    int64_t n_nonfinite; /* of the last steps, in a row */
    bool ema_active;
    int64_t batch; /* samples a step; another one would be another order */
    uint64_t seed;
    char samples[PRX_HASH_HEX_BYTES]; /* the loader's fingerprint of the samples */
    char optim[16];                   /* prx_optim_kind_name() */
    char params[8];                   /* prx_dtype_name() of weights and moments */
};

/* What a training checkpoint holds beside the weights. */
struct prx_train_state {
    struct prx_optim *optim;
    struct prx_ema *ema; /* NULL: no averages */
    struct prx_train_position position;
};

/**
 * prx_checkpoint_write - write @path whole, then name it; one of that name is replaced.
 *
 * @state: NULL for a checkpoint that only samples; optim_steps, optim, params and
 *         ema_active of its position are taken from optim and ema.
 */
PRX_MUST_USE int prx_checkpoint_write(const char *path, struct prx_denoiser *denoiser,
                                      const struct prx_model_info *info,
                                      const struct prx_train_state *state);

/* How weights are given away. */
enum prx_weight_type {
    PRX_WEIGHT_AS_KEPT,
    PRX_WEIGHT_F32,
    PRX_WEIGHT_BF16,
    PRX_WEIGHT_F16,
};
struct prx_weight_format {
    enum prx_weight_type type;
    bool prx_names; /* the reference's own names, prx_param_name_to_prx() */
};

/**
 * prx_checkpoint_export - as prx_checkpoint_write(), of weights that are to be given
 *                         away, without what training needs.
 *
 * prx.json is left out where @info names no encoders.
 * Errors: PRX_EINVAL (the reference's names, which diffusers does not know),
 *         PRX_ENONFINITE (a weight that float16 cannot hold; the message names it).
 */
PRX_MUST_USE int prx_checkpoint_export(const char *path, struct prx_denoiser *denoiser,
                                       const struct prx_model_info *info,
                                       const struct prx_weight_format *format);

/**
 * prx_checkpoint_open - a denoiser from a checkpoint folder.
 *
 * @path: the folder, a run's folder (its newest whole checkpoint is taken), or a
 *        diffusers folder without prx.json (@info then has diffusers' defaults).
 * @averaged: take the averaged weights where there are such.
 * Errors: PRX_ENOENT, PRX_ECORRUPT, PRX_ESHAPE, naming file and tensor.
 */
PRX_MUST_USE int prx_checkpoint_open(const char *path, struct prx_backend *be,
                                     bool averaged, struct prx_denoiser **denoiser,
                                     struct prx_model_info *info);

/**
 * prx_checkpoint_resume - weights, moments, averages and position from @path.
 *
 * @state: optim, and ema if it is wanted, are filled in place.
 * Errors: as prx_checkpoint_open(); PRX_EINVAL (averages are wanted and not there;
 *         made by another optimiser, or stored as another dtype).
 */
PRX_MUST_USE int prx_checkpoint_resume(const char *path, struct prx_denoiser *denoiser,
                                       struct prx_train_state *state);

/** prx_checkpoint_check - whether @path is whole. Errors: PRX_ENOENT, PRX_ECORRUPT. */
PRX_MUST_USE int prx_checkpoint_check(const char *path);

/**
 * prx_checkpoint_newest - the newest whole checkpoint of @run_dir; caller frees @out.
 *
 * One that is not whole is passed over with a warning.  Errors: PRX_ENOENT.
 */
PRX_MUST_USE int prx_checkpoint_newest(const char *run_dir, char **out);

/**
 * prx_checkpoint_prune - remove all but the @n_keep newest, and what a kill left.
 *
 * @n_keep: 0 keeps all.
 */
PRX_MUST_USE int prx_checkpoint_prune(const char *run_dir, int64_t n_keep);

/** prx_checkpoint_remove_all - remove every checkpoint of @run_dir. */
PRX_MUST_USE int prx_checkpoint_remove_all(const char *run_dir);

/** prx_checkpoint_path - "RUN/ckpt-0001000"; caller frees @out. */
PRX_MUST_USE int prx_checkpoint_path(const char *run_dir, int64_t step, char **out);

/** prx_remove_tree - remove @path and all below it; a missing one is fine. */
PRX_MUST_USE int prx_remove_tree(const char *path);

/* A network's config as diffusers' transformer/config.json has it. */
PRX_MUST_USE int prx_denoiser_config_from_json(const char *path,
                                               struct prx_denoiser_config *out);
PRX_MUST_USE int prx_denoiser_config_to_json(const struct prx_denoiser_config *config,
                                             const char *path);

/* prx.json and trainer/state.json. */
PRX_MUST_USE int prx_model_info_read(const char *path, struct prx_model_info *out);
PRX_MUST_USE int prx_model_info_write(const struct prx_model_info *info,
                                      const char *path);
PRX_MUST_USE int prx_train_position_read(const char *path,
                                         struct prx_train_position *out);
PRX_MUST_USE int prx_train_position_write(const struct prx_train_position *position,
                                          const char *path);

/**
 * prx_params_load - values from a safetensors file, by either form of the names.
 *
 * @tensors: one a parameter of @store, in its order; NULL for the parameters'
 *           own values.  A zeroed struct has no tensor in the file.
 * Strict: a missing, unexpected or misshapen tensor is an error that names it.
 * float16, bfloat16, float32 and float64 are converted to what the tensors are; saved
 * is what they are, F32 or BF16.
 */
PRX_MUST_USE int prx_params_load(struct prx_param_store *store,
                                 struct prx_tensor *tensors, const char *path);
PRX_MUST_USE int prx_params_save(struct prx_param_store *store,
                                 const struct prx_tensor *tensors, const char *path);

/** prx_params_export - the parameters' values alone, as @format says, to @path. */
PRX_MUST_USE int prx_params_export(struct prx_param_store *store,
                                   const struct prx_weight_format *format,
                                   const char *path);

#ifdef __cplusplus
}
#endif
#endif
