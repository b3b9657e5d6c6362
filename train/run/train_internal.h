/* SPDX-License-Identifier: Apache-2.0 */
/* train_internal.h - what the files of a training run share. */
#ifndef PRX_TRAIN_INTERNAL_H
#define PRX_TRAIN_INTERNAL_H

#include "train/generate.h"
#include "train/run.h"

/* @batch on the device, in the tape's memory, with its noise and timesteps. */
PRX_MUST_USE int prx_batch_noise(struct prx_trainer *trainer,
                                 const struct prx_loader_batch *batch,
                                 struct prx_batch *out);

/* Encoders, and the loader over what they made. */
struct prx_train_data {
    struct prx_vae *vae;
    struct prx_text_tower *tower;
    float *null_states; /* [n_null_tokens, width] */
    int64_t n_null_tokens;
    struct prx_str spool_dir;
    bool is_spooled; /* streams lie there, whole: set before opening, or found */
    /* Open as long as the loader reads where it points. */
    struct prx_source *source;
    struct prx_loader *loader;
};

/* The encoders the recipe names, checked against its model. */
PRX_MUST_USE int prx_train_data_init(struct prx_train_data *data,
                                     const struct prx_recipe *recipe);
/* List the samples. */
PRX_MUST_USE int prx_train_data_open(struct prx_train_data *data,
                                     const struct prx_run_opts *opts);
/* The same in every process of opts->dist: the first, then, if it could, the others. */
PRX_MUST_USE int prx_train_data_open_all(struct prx_train_data *data,
                                         const struct prx_run_opts *opts);
void prx_train_data_release(struct prx_train_data *data);

/* prx_checkpoint_newest() as the first process of @dist finds it, in all of them. */
PRX_MUST_USE int prx_checkpoint_newest_all(const char *run_dir, struct prx_dist *dist,
                                           char **out);

/* Pictures of sample.prompts by the network in training. */
struct prx_train_grid {
    bool is_open; /* pictures are wanted, and this build can make them */
    const struct prx_run_opts *run;
    struct prx_trainer *trainer;
    struct prx_generator gen;
    struct prx_generate_opts opts;
};

/*
 * Everything is borrowed.  PRX_EINVAL for a size that cannot be; a VAE that cannot
 * decode in this build is a warning.
 */
PRX_MUST_USE int prx_train_grid_init(struct prx_train_grid *grid,
                                     const struct prx_run_opts *opts,
                                     const struct prx_train_data *data,
                                     struct prx_trainer *trainer,
                                     const struct prx_model_info *info);
/* Behind step @step: draw, if it is time, to RUN/samples and to @board. */
PRX_MUST_USE int prx_train_grid_step(struct prx_train_grid *grid, int64_t step,
                                     struct prx_tensorboard *board);
/* Behind a run's last step @step, before it goes on: draw what a stop prevented. */
PRX_MUST_USE int prx_train_grid_resume(struct prx_train_grid *grid, int64_t step,
                                       struct prx_tensorboard *board);
/*
 * Pictures made at once: no more than a step runs at once, so that the sampler's
 * memory, which is that of a forward pass, stays well below the step's.
 */
int64_t prx_train_grid_batch(const struct prx_recipe *recipe);
void prx_train_grid_release(struct prx_train_grid *grid);

#endif
