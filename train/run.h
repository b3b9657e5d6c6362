/* SPDX-License-Identifier: Apache-2.0 */
/*
 * run.h - a training run: recipe and samples in, checkpoints and a log out.
 *
 *     RUN/recipe.yaml     the resolved recipe, written first
 *         log.jsonl       one object a step (or train.log_every), append-only
 *         tensorboard/    the same numbers as events: train/tensorboard.h
 *         samples/        step-NNNNNNN.png, grids of pictures of sample.prompts
 *         loss.svg        the loss curve, where gnuplot is there; loss.gnuplot draws it
 *         ckpt-NNNNNNN/   train/checkpoint.h
 *         spool/          the samples, where they came as a stream
 *
 * A run is a pure function of recipe, samples and backend: stopped anywhere and
 * resumed, it gives on the CPU the same bytes as one that never stopped.
 */
#ifndef PRX_TRAIN_RUN_H
#define PRX_TRAIN_RUN_H

#include "libdata/loader.h"
#include "libdata/progress.h"
#include "train/checkpoint.h"
#include "train/dist.h"
#include "train/encoder.h"
#include "train/recipe.h"
#include "train/tensorboard.h"

#ifdef __cplusplus
extern "C" {
#endif

/* --- one step ------------------------------------------------------------------- */

/* A network and what trains it. */
struct prx_trainer {
    const struct prx_recipe *recipe; /* borrowed */
    struct prx_backend *be;          /* borrowed */
    struct prx_denoiser *denoiser;
    struct prx_tape *tape;
    struct prx_optim *optim;
    struct prx_ema *ema; /* NULL: none is asked for */
    /* Who trains with us, each a slice of train.batch samples; borrowed.  Set after
     * prx_trainer_init(); NULL: nobody. */
    struct prx_dist *dist;
};

struct prx_step_report {
    double loss;      /* mean over all samples of the step */
    double grad_norm; /* before clipping */
    double lr;
    bool is_skipped; /* loss or norm is not finite: nothing was applied */
};

/** prx_trainer_init - build and initialise what @recipe describes. */
PRX_MUST_USE int prx_trainer_init(struct prx_trainer *trainer,
                                  const struct prx_recipe *recipe,
                                  struct prx_backend *be);
void prx_trainer_release(struct prx_trainer *trainer);

/**
 * prx_train_step - one optimiser step, number @k = 1, 2, ..., on @batch.
 *
 * Noise and timesteps are drawn from (train.seed, epoch, sample) of each sample.
 *
 * @batch: of several processes, this one's slice; they report the same and take the
 *         same step.
 */
PRX_MUST_USE int prx_train_step(struct prx_trainer *trainer,
                                const struct prx_loader_batch *batch, int64_t k,
                                struct prx_step_report *report);

/* --- what a step takes ----------------------------------------------------------- */

/* Memory of a run in bytes, by what it is for. */
struct prx_train_plan {
    uint64_t param_bytes;
    uint64_t grad_bytes;
    uint64_t optim_bytes;      /* state, and what a step takes for a moment */
    uint64_t ema_bytes;        /* averages */
    uint64_t activation_bytes; /* prx_tape_peak_bytes(): a slice's batch, values,
                                  gradients of values */
    uint64_t picture_bytes;    /* while pictures of sample.prompts are made */
    uint64_t batch_bytes;      /* of the host: batches read ahead, captions in full */
    uint64_t total_bytes;
};

/**
 * prx_train_plan - what training @recipe takes, found by steps on backend "plan".
 *
 * @pixels_per_cell, @n_text_tokens: as of prx_recipe_budget().
 * With sample.size_px = 0 no step can be taken: activation_bytes, picture_bytes and
 * batch_bytes are 0.  Not counted: data.cache_bytes, the list of samples, and what the
 * encoders and the backend keep for themselves.
 */
PRX_MUST_USE int prx_train_plan(const struct prx_recipe *recipe,
                                int64_t pixels_per_cell, int64_t n_text_tokens,
                                struct prx_train_plan *out);

/* --- the run -------------------------------------------------------------------- */

struct prx_run_opts {
    const struct prx_recipe *recipe; /* resolved */
    const char *const *sources;      /* prx_source_open() words */
    size_t n_sources;
    bool may_run; /* "pipe:CMD" among them is run: the user has typed it */
    const char *run_dir;
    const char *spool_dir; /* NULL: RUN/spool */
    bool resume;           /* go on from the newest whole checkpoint, if any */
    bool overwrite;        /* remove what an earlier run left in run_dir */
    const char *backend;   /* prx_backend_open() name */
    int n_threads;         /* 0 = all processors, or a fair share of them */
    struct prx_dist *dist; /* who trains with us; NULL: nobody */
    enum prx_meter_when progress;

    /* Asked after every step, and by another thread while a stream is read: finish
     * the step, save, stop.  May be NULL. */
    bool (*is_stopped)(void *ctx);
    /* Asked after every step: save, go on.  May be NULL. */
    bool (*is_save_wanted)(void *ctx);
    void (*on_reject)(void *ctx, const struct prx_sample *sample); /* may be NULL */
    void *ctx;
};

struct prx_run_result {
    int64_t n_steps;    /* the run's last, counted from its beginning */
    double loss;        /* mean over the last log line */
    int64_t n_skipped;  /* steps, for numbers that were not finite */
    int64_t n_replaced; /* damaged samples that others stood in for */
    uint64_t n_samples; /* in the data set */
    uint64_t n_rejected;
    double elapsed_s; /* of the steps */
};

/**
 * prx_run - train.
 *
 * Of several processes all call it, with the same recipe and sources, and a run_dir
 * that all can read.  Rank 0 alone writes there, and reads standard input.  Together
 * they take the steps that one process would: the same samples, noise and timesteps,
 * with sums that round in another order.  is_stopped and is_save_wanted count for all
 * where they are true in one.
 *
 * @result: filled in as far as the run came, also after an error.
 * Errors: PRX_EEXIST (run_dir holds something; in use), PRX_ECANCELED (was
 *         stopped, and all is saved), PRX_ENONFINITE (too many skipped steps in a
 *         row; the last checkpoint stays), PRX_ECORRUPT (the ranks' weights are no
 *         longer the same), and those of source, loader, backend.
 */
PRX_MUST_USE int prx_run(const struct prx_run_opts *opts,
                         struct prx_run_result *result);

/* --- its folder and its log, for the run and its tests ---------------------------- */

/* Bring @run_dir to where a run may write: see prx_run_opts.  *@lock_fd: to close. */
PRX_MUST_USE int prx_run_dir_open(const char *run_dir, bool resume, bool overwrite,
                                  int *lock_fd);

/* log.jsonl: lines behind step @last_step are removed, then lines are added. */
struct prx_runlog {
    int fd;
    char *path;
};

struct prx_runlog_line {
    int64_t step;
    int64_t epoch;
    struct prx_step_report report; /* means, where a line covers several steps */
    int64_t n_samples;
    int64_t n_tokens;   /* of image and text */
    double step_s;      /* wall time of all the line's steps */
    double data_wait_s; /* of which waiting for batches */
    double flops;
    double peak_flop_per_s; /* of the backend, prx_backend_peak(); 0: not known */
    int64_t n_skipped;
    int64_t n_null;
    int64_t n_fallback; /* samples that lacked the caption that was drawn */
    int64_t n_replaced;
    const char *const *captions; /* names, PRX_LOADER_CAPTIONS_MAX, NULL behind them */
    int64_t n_by_caption[PRX_LOADER_CAPTIONS_MAX];
};

#define PRX_RUNLOG_N_SCALARS 9

/* The numbers of @line, by their names in log.jsonl. */
void prx_runlog_scalars(const struct prx_runlog_line *line,
                        struct prx_scalar out[PRX_RUNLOG_N_SCALARS]);

/* What of @line the meter shows: loss, rates, share of peak, waiting. */
void prx_runlog_format_note(const struct prx_runlog_line *line, char *out,
                            size_t n_out_bytes);

PRX_MUST_USE int prx_runlog_open(struct prx_runlog *log, const char *run_dir,
                                 int64_t last_step);
PRX_MUST_USE int prx_runlog_put(struct prx_runlog *log,
                                const struct prx_runlog_line *line);
void prx_runlog_close(struct prx_runlog *log);

/** prx_plot_loss - draw RUN/loss.svg from RUN/log.jsonl; PRX_ENOENT without gnuplot. */
PRX_MUST_USE int prx_plot_loss(const char *run_dir);

#ifdef __cplusplus
}
#endif
#endif
