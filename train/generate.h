/* SPDX-License-Identifier: Apache-2.0 */
/*
 * generate.h - prompts to pictures: a checkpoint with the encoders it was trained on.
 *
 * A picture depends on its prompt, its seed and its two numbers, not on the batch
 * it is made in (but for rounding: sums over a batch may run in another order).
 * One thread at a time.
 */
#ifndef PRX_TRAIN_GENERATE_H
#define PRX_TRAIN_GENERATE_H

#include "train/checkpoint.h"
#include "train/encoder.h"
#include "train/sampler.h"

#ifdef __cplusplus
extern "C" {
#endif

struct prx_generator {
    struct prx_backend *be; /* borrowed */
    struct prx_denoiser *denoiser;
    bool is_borrowed; /* denoiser, vae and tower are another's */
    struct prx_model_info info;
    enum prx_prediction prediction; /* as info says */
    struct prx_vae *vae;
    struct prx_text_tower *tower;
    float *null_states; /* [n_null_tokens, tower->width] of no prompt */
    int64_t n_null_tokens;
    int64_t step_px; /* sides of pictures divide by this */
};

/**
 * prx_generator_open - the model of checkpoint @path and its encoders.
 *
 * Errors: PRX_EINVAL (an encoder that this build lacks, or another version of it
 *         than the model was trained on), else as prx_checkpoint_open().
 */
PRX_MUST_USE int prx_generator_open(struct prx_generator *gen, const char *path,
                                    struct prx_backend *be);

/**
 * prx_generator_borrow - the same over a network that is there, as while it trains.
 *
 * @denoiser, @vae, @tower: borrowed, to outlive @gen; parameters are read anew by
 *         each prx_generate(), and never changed.
 * Errors: PRX_EINVAL (they do not fit one another), PRX_ENOMEM.
 */
PRX_MUST_USE int prx_generator_borrow(struct prx_generator *gen,
                                      struct prx_denoiser *denoiser,
                                      const struct prx_model_info *info,
                                      struct prx_vae *vae,
                                      struct prx_text_tower *tower);
void prx_generator_release(struct prx_generator *gen);

struct prx_generate_opts {
    struct prx_sampler_opts sampler;
    int64_t width_px;
    int64_t height_px;
    uint64_t seed;
    int (*on_step)(void *ctx, int64_t i_step); /* as of prx_sample_euler() */
    void *ctx;
};

/** prx_generate_presets - @opts as the checkpoint asks for; seed 0. */
void prx_generate_presets(const struct prx_generator *gen,
                          struct prx_generate_opts *opts);

/**
 * prx_generate_check - PRX_EINVAL for a size that step_px does not divide, and for
 * latents that this build cannot turn into pictures.
 */
PRX_MUST_USE int prx_generate_check(const struct prx_generator *gen,
                                    const struct prx_generate_opts *opts);

/* Start noise is drawn from (seed, PRX_RNG_SAMPLER, i_image, i_prompt). */
struct prx_generate_job {
    const char *prompt;
    uint64_t i_prompt;
    uint32_t i_image; /* of the prompt's pictures; below 2^24 */
};

/**
 * prx_generate - make the pictures of @n_jobs jobs, all in one batch.
 *
 * @images [n_jobs]: overwritten; released by the caller, after an error none is left.
 * Errors: as prx_generate_check(), PRX_EINVAL (no steps), PRX_ENONFINITE (naming
 *         prompt and picture), PRX_ECANCELED, PRX_EDEVICE, PRX_ENOMEM.
 */
PRX_MUST_USE int prx_generate(struct prx_generator *gen,
                              const struct prx_generate_opts *opts,
                              const struct prx_generate_job *jobs, size_t n_jobs,
                              struct prx_image *images);

/**
 * prx_generate_all - @n_images pictures of each of @n_prompts, @n_batch at a time.
 *
 * @on_picture: called for each in order of prompts, then images; it takes the
 *              picture's pixels where it leaves image->pixels NULL.  A negative
 *              return stops, and is returned.
 */
PRX_MUST_USE int prx_generate_all(struct prx_generator *gen,
                                  const struct prx_generate_opts *opts,
                                  const char *const *prompts, size_t n_prompts,
                                  uint32_t n_images, size_t n_batch,
                                  int (*on_picture)(void *ctx,
                                                    const struct prx_generate_job *job,
                                                    struct prx_image *image),
                                  void *ctx);

#ifdef __cplusplus
}
#endif
#endif
