/* SPDX-License-Identifier: Apache-2.0 */
/* train_internal.h - what the files of a training run share. */
#ifndef PRX_TRAIN_INTERNAL_H
#define PRX_TRAIN_INTERNAL_H

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

#endif
