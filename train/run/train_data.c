/* SPDX-License-Identifier: Apache-2.0 */
/*
 * What a run reads: the encoders that the recipe names, and the loader over the
 * samples that those have made.
 */
#include <pthread.h>
#include <stdatomic.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>
#include <time.h>
#include <unistd.h>

#include "libdata/log.h"
#include "train/run/train_internal.h"

/* States of the empty caption, which stands in for dropped ones. */
static int encode_null(struct prx_train_data *data)
{
    const struct prx_text_tower *tower = data->tower;

    data->null_states = calloc((size_t)(tower->n_tokens_max * tower->width),
                               sizeof(*data->null_states));
    if (!data->null_states)
        return prx_err_nomem("the null caption");
    int n_tokens = tower->encode(tower, "", data->null_states);
    PRX_TRY(n_tokens);
    data->n_null_tokens = n_tokens;
    return 0;
}

int prx_train_data_init(struct prx_train_data *data, const struct prx_recipe *recipe)
{
    const struct prx_text_opts text_opts = {
        .width = recipe->model.config.context_in_dim,
        .n_tokens_max = recipe->data.text_tokens,
    };

    *data = (struct prx_train_data){0};
    PRX_TRY(prx_vae_open(recipe->data.vae, &data->vae));
    if (data->vae->channels != recipe->model.config.in_channels)
        return prx_err(PRX_EINVAL, "model.in_channels: %lld, but %s makes %lld",
                       (long long)recipe->model.config.in_channels, recipe->data.vae,
                       (long long)data->vae->channels);
    PRX_TRY(prx_text_tower_open(recipe->data.text, &text_opts, &data->tower));
    if (data->tower->width != recipe->model.config.context_in_dim)
        return prx_err(PRX_EINVAL, "model.context_in_dim: %lld, but %s makes %lld",
                       (long long)recipe->model.config.context_in_dim,
                       recipe->data.text, (long long)data->tower->width);
    return encode_null(data);
}

void prx_train_data_release(struct prx_train_data *data)
{
    prx_loader_close(data->loader);
    prx_source_close(data->source);
    prx_str_release(&data->spool_dir);
    prx_vae_close(data->vae);
    prx_text_tower_close(data->tower);
    free(data->null_states);
    *data = (struct prx_train_data){0};
}

/* Standard input or a pipe with a name: what is read is gone. */
static bool is_stream(const char *word)
{
    struct stat stat_of;

    return strcmp(word, "-") == 0 ||
           (stat(word, &stat_of) == 0 && S_ISFIFO(stat_of.st_mode));
}

/*
 * The words to read.  A resumed run whose streams lie spooled and whole does not ask
 * for them again, and so do the processes that come after the one that has spooled.
 */
static int choose_words(const struct prx_run_opts *opts, struct prx_train_data *data,
                        const char **words, size_t *n_words)
{
    struct prx_str index = {0};
    int rc = 0;

    if (opts->spool_dir)
        PRX_GO(prx_str_puts(&data->spool_dir, opts->spool_dir));
    else
        PRX_GO(prx_str_printf(&data->spool_dir, "%s/spool", opts->run_dir));
    PRX_GO(prx_str_printf(&index, "%s/index.json", data->spool_dir.bytes));
    bool is_whole = access(index.bytes, R_OK) == 0;
    *n_words = 0;
    for (size_t i = 0; i < opts->n_sources; i++) {
        const char *word = opts->sources[i];
        if (opts->resume && is_whole && is_stream(word))
            data->is_spooled = true;
        if (data->is_spooled && is_stream(word))
            prx_log_info("reading %s, not %s", index.bytes,
                         strcmp(word, "-") == 0 ? "standard input" : word);
        else
            words[(*n_words)++] = word;
    }
out:
    prx_str_release(&index);
    return rc;
}

struct listing {
    const struct prx_run_opts *opts;
    struct prx_meter meter;
};

static bool is_stopped(const struct prx_run_opts *opts)
{
    return opts->is_stopped && opts->is_stopped(opts->ctx);
}

static void on_reject(void *ctx, const struct prx_sample *sample)
{
    const struct listing *listing = ctx;

    if (listing->opts->on_reject)
        listing->opts->on_reject(listing->opts->ctx, sample);
}

static int on_sample(void *ctx, uint64_t n_samples)
{
    struct listing *listing = ctx;

    prx_meter_tick(&listing->meter, n_samples, 0, NULL);
    return is_stopped(listing->opts);
}

/*
 * A stream may stand still for long; a thread looks out for the signal meanwhile
 * and makes the read give up.
 */
struct watch {
    struct prx_source *source;
    const struct prx_run_opts *opts;
    atomic_bool is_over;
};

static void *watch_stop(void *ctx)
{
    const struct timespec turn = {.tv_nsec = 50 * 1000 * 1000};
    struct watch *watch = ctx;

    while (!atomic_load(&watch->is_over)) {
        if (is_stopped(watch->opts)) {
            prx_source_cancel(watch->source);
            break;
        }
        nanosleep(&turn, NULL);
    }
    return NULL;
}

/* prx_loader_open(), given up when the run is stopped. */
static int open_watched(struct prx_train_data *data, const struct prx_run_opts *opts,
                        struct prx_source *source,
                        const struct prx_loader_opts *loader_opts)
{
    struct watch watch = {.source = source, .opts = opts};
    pthread_t thread;
    bool is_watched = source && opts->is_stopped &&
                      pthread_create(&thread, NULL, watch_stop, &watch) == 0;
    int rc = prx_loader_open(source, loader_opts, &data->loader);

    atomic_store(&watch.is_over, true);
    if (is_watched)
        pthread_join(thread, NULL);
    return rc;
}

static int open_loader(struct prx_train_data *data, const struct prx_run_opts *opts,
                       struct prx_source *source)
{
    const struct prx_recipe *recipe = opts->recipe;
    const struct prx_conf_weights *captions = &recipe->data.captions;
    struct listing listing = {.opts = opts};
    struct prx_loader_opts loader_opts = {
        .n_batch = (size_t)recipe->train.batch,
        .seed = (uint64_t)recipe->train.seed,
        .shuffle = recipe->data.shuffle,
        .n_prefetch = (size_t)recipe->data.prefetch_batches,
        .n_cache_bytes = (uint64_t)recipe->data.cache_bytes,
        .spool_dir = data->spool_dir.bytes,
        /* Our own folder holds nothing but an unfinished spool. */
        .spool_overwrite = !opts->spool_dir || opts->overwrite || opts->resume,
        .is_spooled = data->is_spooled,
        .rank = opts->dist ? (size_t)opts->dist->rank : 0,
        .world = opts->dist ? (size_t)opts->dist->world : 1,
        .n_captions = (size_t)captions->n,
        .captions = (const char *const *)captions->names,
        .caption_weights = captions->weights,
        .caption_dropout = recipe->data.caption_dropout,
        .null_states = data->null_states,
        .n_null_tokens = data->n_null_tokens,
        .text_width = data->tower->width,
        .n_text_tokens_max = data->tower->n_tokens_max,
        .latent_channels = data->vae->channels,
        .latent_fingerprint = data->vae->fingerprint,
        .text_fingerprint = data->tower->fingerprint,
        .on_reject = on_reject,
        .on_sample = on_sample,
        .ctx = &listing,
    };

    prx_meter_init(&listing.meter, opts->progress, "list", "samples",
                   source ? prx_source_total(source) : 0);
    int rc = open_watched(data, opts, source, &loader_opts);
    prx_meter_finish(&listing.meter);
    return rc;
}

int prx_train_data_open(struct prx_train_data *data, const struct prx_run_opts *opts)
{
    const struct prx_source_opts source_opts = {0};
    size_t n_words;
    int rc = 0;

    const char **words = calloc(opts->n_sources + 1, sizeof(*words));
    if (!words)
        return prx_err_nomem("a list of sources");
    PRX_GO(choose_words(opts, data, words, &n_words));
    if (n_words > 0 || !data->is_spooled)
        PRX_GO(prx_source_open(words, n_words, &source_opts, &data->source));
    rc = open_loader(data, opts, data->source);
out:
    free(words);
    return rc;
}
