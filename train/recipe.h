/* SPDX-License-Identifier: Apache-2.0 */
/*
 * recipe.h - everything that fixes a training run but its data: one YAML file.
 *
 * The keys are the rows of prx_recipe_rows(); prx-recipe(5) is written from them.
 * Life: prx_recipe_init(), then _read() and _set() in any order and number, then
 * _resolve(), which fills in what follows from other keys and refuses what
 * cannot be.  A resolved recipe, formatted and read again, is the same recipe.
 */
#ifndef PRX_TRAIN_RECIPE_H
#define PRX_TRAIN_RECIPE_H

#include "libdata/conf.h"
#include "libdata/loader.h"
#include "train/denoiser.h"
#include "train/objective.h"
#include "train/optim.h"

#ifdef __cplusplus
extern "C" {
#endif

enum prx_objective_kind { PRX_OBJECTIVE_FLOW };
enum prx_image_crop {
    PRX_IMAGE_CROP_CENTER,
    PRX_IMAGE_CROP_RANDOM,
    PRX_IMAGE_CROP_BUCKET,
};
enum prx_recompute_kind {
    PRX_RECOMPUTE_NONE,
    PRX_RECOMPUTE_BLOCKS,
};

struct prx_recipe {
    struct {
        struct prx_denoiser_config config;
        struct prx_conf_ints axes_dim;
    } model;
    struct {
        char *vae;  /* prx_vae_open() word */
        char *text; /* prx_text_tower_open() word */
        int64_t text_tokens;
        struct prx_conf_weights sources; /* words; none: the caller's */
        struct prx_conf_phases captions; /* the first one there stands in */
        double caption_dropout;
        bool shuffle;
        bool replacement;
        int64_t window_samples, window_bytes; /* of the shuffle; 0 = no bound */
        int64_t cache_bytes;
        int64_t prefetch_bytes;
        int64_t image_px; /* train on pictures of about this side; 0: on latents */
        int image_crop;   /* enum prx_image_crop */
        double image_flip;
    } data;
    struct {
        int kind;       /* enum prx_objective_kind */
        int prediction; /* enum prx_prediction */
        struct prx_timestep_config timestep;
    } objective;
    struct {
        double share; /* of tokens that the route's blocks do not see */
    } route;          /* the rest of it is the network's: model.config.route */
    struct {
        struct prx_optim_config config;
        struct prx_lr_schedule schedule;
        double clip_norm;     /* 0 = none */
        double ema_smoothing; /* 0 = no average */
        int64_t ema_interval_steps;
        int64_t ema_start_step;
    } optim;
    struct {
        int params; /* PRX_F32 or PRX_BF16 */
    } precision;
    struct {
        int64_t steps;
        int64_t batch;       /* samples */
        int64_t micro_batch; /* samples; 0 = the batch */
        int recompute;       /* enum prx_recompute_kind */
        int64_t seed;
        int64_t checkpoint_every; /* steps; 0 = at the end only */
        int64_t keep;             /* checkpoints; 0 = all */
        int64_t log_every;        /* steps */
        bool tensorboard;         /* write event files too */
        int64_t nonfinite_max;    /* steps in a row that may fail to be finite */
    } train;
    struct {
        int64_t size_px; /* 0 = as the first training samples */
        int64_t steps;
        double guidance;
        bool self_guidance;
        int64_t every; /* steps between grids of pictures; 0 = none */
        struct prx_conf_strings prompts;
        int64_t per_prompt; /* pictures */
        int64_t seed;
    } sample;
};

/** prx_recipe_rows - the table of keys; *@n_rows receives their number. */
const struct prx_conf_row *prx_recipe_rows(size_t *n_rows);

/* As the prx_conf_ functions of the same verbs. */
PRX_MUST_USE int prx_recipe_init(struct prx_recipe *recipe);
void prx_recipe_release(struct prx_recipe *recipe);
PRX_MUST_USE int prx_recipe_read(struct prx_recipe *recipe, const char *path);
PRX_MUST_USE int prx_recipe_set(struct prx_recipe *recipe, const char *assignment);
PRX_MUST_USE int prx_recipe_format(const struct prx_recipe *recipe,
                                   struct prx_str *out);

/**
 * prx_recipe_resolve - derive what follows, and refuse contradictions.
 *
 * Errors: PRX_EINVAL, naming the key.
 */
PRX_MUST_USE int prx_recipe_resolve(struct prx_recipe *recipe);

/**
 * prx_caption_names - all names in @captions, each once, as they first come.
 *
 * They are borrowed.  Returns how many, or PRX_EINVAL where there are too many.
 */
int prx_caption_names(const struct prx_conf_phases *captions,
                      const char *names[PRX_LOADER_CAPTIONS_MAX]);

/**
 * prx_recipe_find - the file that @word names; the caller frees *@out.
 *
 * A word with a slash or a dot is a path.  A bare one is looked up as
 * manifests/recipes/WORD.yaml below the current folder and beside the program's
 * own tree, then in the installed recipes.
 * Errors: PRX_ENOENT, naming the places; PRX_ENOMEM.
 */
PRX_MUST_USE int prx_recipe_find(const char *word, char **out);

/* What a recipe costs, known before any data. */
struct prx_recipe_budget {
    int64_t n_params;
    int64_t n_image_tokens; /* a sample, at sample.size_px; 0 = not known */
    double step_flops;      /* forward and backward of a whole batch; 0 = not known */
    double recompute_flops; /* of train.recompute, not among step_flops */
};

/**
 * prx_recipe_budget - parameters and work; prx_train_plan() has the memory.
 *
 * @pixels_per_cell: the VAE's downsampling factor.  @n_text_tokens: a caption's.
 */
PRX_MUST_USE int prx_recipe_budget(const struct prx_recipe *recipe,
                                   int64_t pixels_per_cell, int64_t n_text_tokens,
                                   struct prx_recipe_budget *out);

#ifdef __cplusplus
}
#endif
#endif
