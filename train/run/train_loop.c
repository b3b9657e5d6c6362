/* SPDX-License-Identifier: Apache-2.0 */
/*
 * A run from its first line to its last: set up, resume, step, log, save.
 *
 * The position of a run is its count of batches, k.  Everything else follows:
 * batch k of the loader, the rate of step k, the draws of its samples.  So a
 * checkpoint is weights, moments and k, and resuming is reading those.
 */
#include <math.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

#include "libdata/log.h"
#include "libdata/outfile.h"
#include "train/route.h"
#include "train/run/train_internal.h"

/* How long the backend's peak is measured. */
#define PEAK_TIME_S 0.1

struct run {
    const struct prx_run_opts *opts;
    const struct prx_recipe *recipe;
    struct prx_run_result *result;
    int lock_fd;
    struct prx_train_data data;
    struct prx_loader_summary summary;
    struct prx_backend *be;
    double peak_flop_per_s;
    struct prx_trainer trainer;
    struct prx_train_grid grid;
    struct prx_train_position position;
    int64_t saved_step; /* < 0: none yet */
    struct prx_runlog log;
    struct prx_tensorboard board; /* not open: not asked for */
    struct prx_runlog_line line;  /* being gathered; n_steps of it */
    int64_t n_line_steps;
    struct prx_meter meter;
    bool is_stopping, is_save_wanted; /* asked of all processes, once a step */
};

static bool is_first(const struct run *run)
{
    return prx_dist_is_first(run->opts->dist);
}

/* What any of the processes is asked for, all of them are. */
static int ask(struct run *run)
{
    const struct prx_run_opts *opts = run->opts;
    double wishes[] = {
        opts->is_stopped && opts->is_stopped(opts->ctx),
        opts->is_save_wanted && opts->is_save_wanted(opts->ctx),
    };

    PRX_TRY(prx_dist_max(opts->dist, wishes, 2));
    run->is_stopping = wishes[0] > 0;
    run->is_save_wanted = wishes[1] > 0;
    return 0;
}

static bool is_save_due(const struct run *run)
{
    int64_t every = run->recipe->train.checkpoint_every;

    return run->is_save_wanted || (every > 0 && run->position.step % every == 0);
}

/* --- checkpoints ---------------------------------------------------------------- */

static struct prx_model_info model_info(const struct run *run)
{
    const struct prx_recipe *recipe = run->recipe;
    const struct prx_train_data *data = &run->data;
    int64_t n_cells = recipe->sample.size_px / data->vae->downsample;
    struct prx_model_info info = {
        .step = run->position.step,
        .shift = recipe->objective.timestep.shift,
        .latent_height = n_cells > 0 ? n_cells : run->summary.height,
        .latent_width = n_cells > 0 ? n_cells : run->summary.width,
        .sample_steps = recipe->sample.steps,
        .sample_guidance = recipe->sample.guidance,
        .self_guidance = recipe->sample.self_guidance,
        .route_share = recipe->route.share,
        .text_width = data->tower->width,
        .text_tokens_max = data->tower->n_tokens_max,
    };

    snprintf(info.prediction, sizeof(info.prediction), "%s",
             prx_prediction_name(recipe->objective.prediction));
    snprintf(info.vae, sizeof(info.vae), "%s", recipe->data.vae);
    snprintf(info.text, sizeof(info.text), "%s", recipe->data.text);
    memcpy(info.vae_fingerprint, data->vae->fingerprint, sizeof(info.vae_fingerprint));
    memcpy(info.text_fingerprint, data->tower->fingerprint,
           sizeof(info.text_fingerprint));
    return info;
}

static int write_checkpoint(struct run *run)
{
    const struct prx_model_info info = model_info(run);
    const struct prx_train_state state = {
        .optim = run->trainer.optim,
        .ema = run->trainer.ema,
        .position = run->position,
    };
    char *path = NULL;
    int rc = 0;

    PRX_GO(prx_checkpoint_path(run->opts->run_dir, run->position.step, &path));
    PRX_GO(prx_checkpoint_write(path, run->trainer.denoiser, &info, &state));
    PRX_GO(prx_checkpoint_prune(run->opts->run_dir, run->recipe->train.keep));
    prx_log_info("saved %s", path);
out:
    free(path);
    return rc;
}

/* What is saved is what all processes have; they wait for it. */
static int save(struct run *run)
{
    struct prx_param_store *params = prx_denoiser_params(run->trainer.denoiser);

    PRX_TRY(prx_dist_check_values(run->opts->dist, params));
    PRX_TRY(prx_dist_agree(run->opts->dist, is_first(run) ? write_checkpoint(run) : 0));
    run->saved_step = run->position.step;
    return 0;
}

/* A checkpoint continues only the order of samples that it was made in. */
static int check_position(const struct run *run, const char *path,
                          const struct prx_train_position *found)
{
    const struct prx_train_position *own = &run->position;

    if (found->batch != own->batch)
        return prx_err(PRX_EINVAL, "%s: made with train.batch %lld, not %lld", path,
                       (long long)found->batch, (long long)own->batch);
    if (found->seed != own->seed)
        return prx_err(PRX_EINVAL, "%s: made with train.seed %llu, not %llu", path,
                       (unsigned long long)found->seed, (unsigned long long)own->seed);
    if (strcmp(found->samples, own->samples) != 0)
        return prx_err(PRX_EINVAL, "%s: made from other samples than these", path);
    return 0;
}

static int go_on_from(struct run *run, const char *path)
{
    struct prx_train_state state = {
        .optim = run->trainer.optim,
        .ema = run->trainer.ema,
    };

    PRX_TRY(prx_checkpoint_resume(path, run->trainer.denoiser, &state));
    PRX_TRY(check_position(run, path, &state.position));
    run->position = state.position;
    run->saved_step = state.position.step;
    PRX_TRY(prx_loader_seek(run->data.loader, (uint64_t)state.position.step));
    prx_log_warning("going on from %s", path);
    return 0;
}

/* Go on from the newest whole checkpoint; without any, begin. */
static int resume(struct run *run)
{
    char *path = NULL;
    int rc = prx_checkpoint_newest_all(run->opts->run_dir, run->opts->dist, &path);

    if (rc == PRX_ENOENT) {
        prx_log_info("%s; beginning", prx_err_message());
        return 0;
    }
    if (rc == 0)
        rc = prx_dist_agree(run->opts->dist, go_on_from(run, path));
    free(path);
    return rc;
}

/* --- the log -------------------------------------------------------------------- */

/* What the processes add up once a step, besides loss and gradients. */
enum {
    ALL_SAMPLES,
    ALL_TOKENS,
    ALL_FLOPS,
    ALL_NULL,
    ALL_FALLBACK,
    ALL_REPLACED,
    ALL_BY_CAPTION,
    N_ALL = ALL_BY_CAPTION + PRX_LOADER_CAPTIONS_MAX,
};

static double batch_flops(const struct run *run, const struct prx_loader_batch *batch)
{
    const struct prx_recipe *recipe = run->recipe;
    int64_t patch = recipe->model.config.patch_size;
    int64_t n_tokens = batch->height / patch * (batch->width / patch);

    return 3 * (double)batch->n_samples *
           prx_denoiser_flops(&recipe->model.config, n_tokens,
                              prx_route_n_visible(n_tokens, recipe->route.share),
                              batch->n_tokens);
}

static int64_t batch_tokens(const struct run *run, const struct prx_loader_batch *batch)
{
    int64_t patch = run->recipe->model.config.patch_size;

    return batch->n_samples *
           (batch->height / patch * (batch->width / patch) + batch->n_tokens);
}

static int add_up(struct run *run, const struct prx_loader_batch *batch,
                  double all[N_ALL])
{
    double own[N_ALL] = {
        [ALL_SAMPLES] = (double)batch->n_samples,
        [ALL_TOKENS] = (double)batch_tokens(run, batch),
        [ALL_FLOPS] = batch_flops(run, batch),
        [ALL_NULL] = (double)batch->n_null,
        [ALL_FALLBACK] = (double)batch->n_fallback,
        [ALL_REPLACED] = (double)batch->n_replaced,
    };
    for (int i = 0; i < PRX_LOADER_CAPTIONS_MAX; i++)
        own[ALL_BY_CAPTION + i] = (double)batch->n_by_caption[i];

    memcpy(all, own, sizeof(own));
    return prx_dist_sum(run->opts->dist, all, N_ALL);
}

static void show(struct run *run)
{
    char note[160];

    prx_runlog_format_note(&run->line, note, sizeof(note));
    prx_meter_tick(&run->meter, (uint64_t)run->position.step, 0, note);
}

/* Write the line being gathered, if any step is in it, and begin the next. */
static int end_line(struct run *run)
{
    struct prx_scalar scalars[PRX_RUNLOG_N_SCALARS];

    if (run->n_line_steps > 0 && is_first(run)) {
        prx_runlog_scalars(&run->line, scalars);
        PRX_TRY(prx_runlog_put(&run->log, &run->line));
        PRX_TRY(prx_tensorboard_scalars(&run->board, run->line.step, scalars,
                                        PRX_RUNLOG_N_SCALARS));
    }
    run->line = (struct prx_runlog_line){0};
    run->n_line_steps = 0;
    return 0;
}

/* Add one step to the line being gathered; write it when it is whole. */
static int log_step(struct run *run, const struct prx_loader_batch *batch,
                    const double all[N_ALL], const struct prx_step_report *report,
                    double wait_s, double step_s)
{
    struct prx_runlog_line *line = &run->line;
    double share = 1 / (double)++run->n_line_steps;

    line->step = run->position.step;
    line->peak_flop_per_s = run->peak_flop_per_s;
    line->epoch = batch->draws[0].epoch;
    line->report.loss += (report->loss - line->report.loss) * share;
    line->report.grad_norm += (report->grad_norm - line->report.grad_norm) * share;
    line->report.lr = report->lr;
    line->n_samples += (int64_t)all[ALL_SAMPLES];
    line->n_tokens += (int64_t)all[ALL_TOKENS];
    line->flops += all[ALL_FLOPS];
    line->step_s += step_s;
    line->data_wait_s += wait_s;
    line->n_null += (int64_t)all[ALL_NULL];
    line->n_fallback += (int64_t)all[ALL_FALLBACK];
    for (int i = 0; i < PRX_LOADER_CAPTIONS_MAX; i++)
        line->n_by_caption[i] += (int64_t)all[ALL_BY_CAPTION + i];
    line->captions = run->data.captions;
    line->n_replaced += (int64_t)all[ALL_REPLACED];
    line->n_skipped += report->is_skipped;
    run->result->loss = line->report.loss;
    run->result->elapsed_s += step_s;
    show(run);
    return run->n_line_steps < run->recipe->train.log_every ? 0 : end_line(run);
}

/* --- steps ---------------------------------------------------------------------- */

static int count_skipped(struct run *run, const struct prx_step_report *report)
{
    int64_t n_max = run->recipe->train.nonfinite_max;

    if (!report->is_skipped) {
        run->position.n_nonfinite = 0;
        return 0;
    }
    run->result->n_skipped++;
    prx_log_warning("step %lld: loss %g, gradient norm %g; skipped",
                    (long long)run->position.step, report->loss, report->grad_norm);
    if (++run->position.n_nonfinite <= n_max)
        return 0;
    return prx_err(PRX_ENONFINITE, "no finite loss and gradient in %lld steps in a row",
                   (long long)run->position.n_nonfinite);
}

static void count_replaced(struct run *run, const struct prx_loader_batch *batch,
                           const double all[N_ALL])
{
    if (all[ALL_REPLACED] > 0 && run->result->n_replaced == 0)
        prx_log_warning("a damaged sample is replaced by another: %s",
                        batch->n_replaced > 0 ? batch->replaced_reason
                                              : "another process has read it");
    run->result->n_replaced += (int64_t)all[ALL_REPLACED];
}

static int step(struct run *run)
{
    struct prx_loader_batch batch;
    struct prx_step_report report = {0};
    double all[N_ALL];
    int64_t start_ns = prx_now_ns();

    PRX_TRY(prx_train_data_next(&run->data, &batch));
    int64_t loaded_ns = prx_now_ns();
    int64_t k = run->position.step + 1;
    int rc = prx_train_step(&run->trainer, &batch, k, &report);
    if (rc < 0)
        return prx_err_frame(rc, "step %lld", (long long)k);

    run->position.step = k;
    PRX_TRY(add_up(run, &batch, all));
    count_replaced(run, &batch, all);
    PRX_TRY(log_step(run, &batch, all, &report, (double)(loaded_ns - start_ns) / 1e9,
                     (double)(prx_now_ns() - start_ns) / 1e9));
    /* All have the same numbers, so all fail or none: one tells. */
    rc = count_skipped(run, &report);
    return rc < 0 ? prx_dist_agree(run->opts->dist, rc) : 0;
}

static int train(struct run *run)
{
    PRX_TRY(prx_train_grid_resume(&run->grid, run->position.step, &run->board));
    PRX_TRY(ask(run));
    while (run->position.step < run->recipe->train.steps && !run->is_stopping) {
        PRX_TRY(step(run));
        PRX_TRY(prx_train_grid_step(&run->grid, run->position.step, &run->board));
        /* Not before the pictures: what stops those must stop the run behind them. */
        PRX_TRY(ask(run));
        if (is_save_due(run))
            PRX_TRY(save(run));
    }
    PRX_TRY(end_line(run));
    return run->saved_step == run->position.step ? 0 : save(run);
}

/* --- the whole ------------------------------------------------------------------ */

/* Say which keys a resumed run has changed: it may, but is another run then. */
static void compare_recipe(const struct run *run, const char *path)
{
    size_t n_rows;
    const struct prx_conf_row *rows = prx_recipe_rows(&n_rows);
    struct prx_str was = {0}, is = {0};
    struct prx_recipe before;

    if (prx_recipe_init(&before) < 0 || prx_recipe_read(&before, path) < 0) {
        prx_log_warning("%s", prx_err_message());
        n_rows = 0;
    }
    for (size_t i = 0; i < n_rows; i++) {
        prx_str_reset(&was);
        prx_str_reset(&is);
        if (prx_conf_format_value(&rows[i], &before, &was) < 0 ||
            prx_conf_format_value(&rows[i], run->recipe, &is) < 0)
            break;
        if (strcmp(was.bytes, is.bytes) != 0)
            prx_log_warning("%s was %s, is %s", rows[i].key, was.bytes, is.bytes);
    }
    prx_recipe_release(&before);
    prx_str_release(&was);
    prx_str_release(&is);
}

static int put_recipe(const struct run *run)
{
    struct prx_str path = {0}, text = {0};
    int rc = 0;

    PRX_GO(prx_str_printf(&path, "%s/recipe.yaml", run->opts->run_dir));
    if (run->opts->resume && access(path.bytes, R_OK) == 0)
        compare_recipe(run, path.bytes);
    PRX_GO(prx_recipe_format(run->recipe, &text));
    rc = prx_file_put(path.bytes, text.bytes, text.n_bytes);
out:
    prx_str_release(&path);
    prx_str_release(&text);
    return rc;
}

/* What does not need the samples. */
static int open_own(struct run *run)
{
    const struct prx_run_opts *opts = run->opts;
    const struct prx_dist *dist = opts->dist;
    int n_threads = opts->n_threads;

    if (dist && run->recipe->train.batch < dist->world)
        return prx_err(PRX_EINVAL, "train.batch: %lld, fewer samples than the %d"
                                   " processes",
                       (long long)run->recipe->train.batch, dist->world);
    if (dist && n_threads == 0)
        n_threads = dist->n_threads;
    PRX_TRY(prx_train_data_init(&run->data, run->recipe));
    PRX_TRY(prx_backend_open(opts->backend, n_threads, &run->be));
    if (!is_first(run))
        return 0;
    PRX_TRY(prx_run_dir_open(opts->run_dir, opts->resume, opts->overwrite,
                             &run->lock_fd));
    return put_recipe(run);
}

/* Of all processes together; not earlier, for tools that send a stream are done only
 * when all is listed. */
static int measure_peak(struct run *run)
{
    struct prx_dist *dist = run->opts->dist;
    int rc = prx_backend_peak(run->be, PEAK_TIME_S, &run->peak_flop_per_s);

    PRX_TRY(prx_dist_agree(dist, rc));
    return prx_dist_sum(dist, &run->peak_flop_per_s, 1);
}

static int open_outputs(struct run *run)
{
    const char *run_dir = run->opts->run_dir;
    const struct prx_model_info info = model_info(run);

    PRX_TRY(prx_train_grid_init(&run->grid, run->opts, &run->data, &run->trainer,
                                &info));
    PRX_TRY(prx_runlog_open(&run->log, run_dir, run->position.step));
    if (!run->recipe->train.tensorboard)
        return 0;
    return prx_tensorboard_open(&run->board, run_dir, run->position.step);
}

/* Of several processes all succeed, or all fail and one of them has the message. */
static int open_all(struct run *run)
{
    const struct prx_run_opts *opts = run->opts;
    const struct prx_recipe *recipe = run->recipe;

    PRX_TRY(prx_dist_agree(opts->dist, open_own(run)));
    PRX_TRY(prx_train_data_open_all(&run->data, opts));
    prx_loader_summary(run->data.loader, &run->summary);
    if (run->summary.image_height > 0) {
        run->summary.height = run->summary.image_height;
        run->summary.width = run->summary.image_width;
    }
    run->result->n_samples = run->summary.n_samples;
    run->result->n_rejected = run->summary.n_rejected;
    run->position = (struct prx_train_position){
        .batch = recipe->train.batch,
        .seed = (uint64_t)recipe->train.seed,
    };
    memcpy(run->position.samples, run->summary.fingerprint,
           sizeof(run->position.samples));
    PRX_TRY(prx_dist_agree(opts->dist,
                           prx_trainer_init(&run->trainer, recipe, run->be)));
    run->trainer.dist = opts->dist;
    if (opts->resume)
        PRX_TRY(resume(run));
    PRX_TRY(measure_peak(run));
    return prx_dist_agree(opts->dist, is_first(run) ? open_outputs(run) : 0);
}

static void plot(const struct run *run)
{
    int rc = prx_plot_loss(run->opts->run_dir);

    if (rc == PRX_ENOENT)
        prx_log_warning("gnuplot is not there; the loss is not drawn");
    else if (rc < 0)
        prx_log_warning("%s", prx_err_message());
}

static void close_all(struct run *run)
{
    prx_tensorboard_close(&run->board);
    prx_runlog_close(&run->log);
    prx_train_grid_release(&run->grid);
    prx_trainer_release(&run->trainer);
    prx_train_data_release(&run->data);
    prx_backend_close(run->be);
    if (run->lock_fd >= 0)
        close(run->lock_fd);
}

int prx_run(const struct prx_run_opts *opts, struct prx_run_result *result)
{
    struct run run = {
        .opts = opts,
        .recipe = opts->recipe,
        .result = result,
        .lock_fd = -1,
        .saved_step = -1,
        .log.fd = -1,
        .board.fd = -1,
    };
    int rc;

    *result = (struct prx_run_result){0};
    rc = open_all(&run);
    if (rc == 0) {
        prx_meter_init(&run.meter, opts->progress, "train", "steps",
                       (uint64_t)run.recipe->train.steps);
        run.meter.n_before = (uint64_t)run.position.step;
        rc = train(&run);
        prx_meter_finish(&run.meter);
        result->n_steps = run.position.step;
    }
    if (rc == 0 && is_first(&run))
        plot(&run);
    if (rc == 0 && run.is_stopping && run.position.step < run.recipe->train.steps)
        rc = prx_dist_agree(
            opts->dist,
            prx_err(PRX_ECANCELED, "stopped after step %lld; --resume goes on",
                    (long long)run.position.step));
    close_all(&run);
    return rc;
}
