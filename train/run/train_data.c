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
    for (size_t i = 0; i < data->n_sets; i++)
        prx_source_close(data->sources[i]);
    free(data->sources);
    prx_str_release(&data->spool_dir);
    prx_vae_close(data->vae);
    prx_text_tower_close(data->tower);
    free(data->null_states);
    *data = (struct prx_train_data){0};
}

static bool has_scheme(const char *word, const char *scheme)
{
    return strncmp(word, scheme, strlen(scheme)) == 0;
}

/* Standard input, a pipe, a command: what is read is gone. */
static bool is_pipe(const char *word)
{
    struct stat stat_of;

    return strcmp(word, "-") == 0 || has_scheme(word, "pipe:") ||
           (stat(word, &stat_of) == 0 && S_ISFIFO(stat_of.st_mode));
}

/* What had better be read only once. */
static bool is_stream(const char *word)
{
    return is_pipe(word) || has_scheme(word, "http://") || has_scheme(word, "https://");
}

static int find_spool(const struct prx_run_opts *opts, struct prx_train_data *data,
                      bool *is_whole)
{
    struct prx_str index = {0};
    int rc = 0;

    if (opts->spool_dir)
        PRX_GO(prx_str_puts(&data->spool_dir, opts->spool_dir));
    else
        PRX_GO(prx_str_printf(&data->spool_dir, "%s/spool", opts->run_dir));
    PRX_GO(prx_str_printf(&index, "%s/index.json", data->spool_dir.bytes));
    *is_whole = access(index.bytes, R_OK) == 0;
out:
    prx_str_release(&index);
    return rc;
}

/*
 * The words to read.  A resumed run whose streams lie spooled and whole does not ask
 * for them again, and so do the processes that come after the one that has spooled.
 */
static void choose_words(const struct prx_run_opts *opts, struct prx_train_data *data,
                         bool is_whole, const char **words, size_t *n_words)
{
    *n_words = 0;
    for (size_t i = 0; i < opts->n_sources; i++) {
        const char *word = opts->sources[i];
        if (opts->resume && is_whole && is_stream(word))
            data->is_spooled = true;
        if (data->is_spooled && is_stream(word))
            prx_log_info("reading %s, not %s", data->spool_dir.bytes,
                         strcmp(word, "-") == 0 ? "standard input" : word);
        else
            words[(*n_words)++] = word;
    }
}

/* The words of the command line are one set. */
static int open_words(const struct prx_run_opts *opts, struct prx_train_data *data,
                      bool is_whole)
{
    const struct prx_source_opts source_opts = {.may_run = opts->may_run};
    size_t n_words;
    int rc = 0;

    const char **words = calloc(opts->n_sources + 1, sizeof(*words));
    if (!words)
        return prx_err_nomem("a list of sources");
    choose_words(opts, data, is_whole, words, &n_words);
    data->n_sets = 1;
    if (n_words > 0 || !data->is_spooled)
        rc = prx_source_open(words, n_words, &source_opts, data->sources);
    free(words);
    return rc;
}

/* Each source of the recipe is a set of its own. */
static int open_mix(const struct prx_conf_weights *mix, struct prx_train_data *data)
{
    const struct prx_source_opts source_opts = {0};

    for (int i = 0; i < mix->n; i++) {
        const char *word = mix->names[i];
        if (is_pipe(word))
            return prx_err(PRX_EINVAL,
                           "data.sources: %s: a stream is named on the command line",
                           word);
        PRX_TRY(prx_source_open(&word, 1, &source_opts, &data->sources[i]));
        data->n_sets++;
    }
    return 0;
}

static int open_sources(const struct prx_run_opts *opts, struct prx_train_data *data)
{
    const struct prx_conf_weights *mix = &opts->recipe->data.sources;
    bool is_whole;

    PRX_TRY(find_spool(opts, data, &is_whole));
    data->sources = calloc(1 + (size_t)mix->n, sizeof(*data->sources));
    if (!data->sources)
        return prx_err_nomem("a list of sources");
    if (opts->n_sources > 0 || mix->n == 0)
        return open_words(opts, data, is_whole);
    return open_mix(mix, data);
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
    struct prx_train_data *data;
    const struct prx_run_opts *opts;
    atomic_bool is_over;
};

static void *watch_stop(void *ctx)
{
    const struct timespec turn = {.tv_nsec = 50 * 1000 * 1000};
    struct watch *watch = ctx;

    while (!atomic_load(&watch->is_over)) {
        if (is_stopped(watch->opts)) {
            for (size_t i = 0; i < watch->data->n_sets; i++)
                if (watch->data->sources[i])
                    prx_source_cancel(watch->data->sources[i]);
            break;
        }
        nanosleep(&turn, NULL);
    }
    return NULL;
}

/* prx_loader_open(), given up when the run is stopped. */
static int open_watched(struct prx_train_data *data, const struct prx_run_opts *opts,
                        const struct prx_loader_opts *loader_opts)
{
    struct prx_loader_set sets[PRX_CONF_LIST_MAX];
    struct watch watch = {.data = data, .opts = opts};
    pthread_t thread;

    for (size_t i = 0; i < data->n_sets; i++)
        sets[i] = (struct prx_loader_set){data->sources[i],
                                          data->n_sets > 1
                                              ? opts->recipe->data.sources.weights[i]
                                              : 1};
    bool is_watched =
        opts->is_stopped && pthread_create(&thread, NULL, watch_stop, &watch) == 0;
    int rc = prx_loader_open(sets, data->n_sets, loader_opts, &data->loader);

    atomic_store(&watch.is_over, true);
    if (is_watched)
        pthread_join(thread, NULL);
    return rc;
}

/* --- what the loader is asked for ------------------------------------------------- */

static void choose_captions(struct prx_train_data *data,
                            const struct prx_conf_phases *captions,
                            struct prx_loader_opts *loader_opts)
{
    /* The recipe is resolved: there are not too many. */
    loader_opts->n_captions = (size_t)prx_caption_names(captions, data->captions);
    loader_opts->captions = data->captions;
    loader_opts->n_phases = (size_t)captions->n;
    for (int i = 0; i < captions->n; i++) {
        const struct prx_conf_weights *weights = &captions->weights[i];
        struct prx_loader_phase *phase = &loader_opts->phases[i];
        phase->first_batch = (uint64_t)captions->from[i];
        for (size_t k = 0; k < loader_opts->n_captions; k++)
            for (int w = 0; w < weights->n; w++)
                if (strcmp(weights->names[w], data->captions[k]) == 0)
                    phase->weights[k] = weights->weights[w];
    }
}

static void choose_pictures(const struct prx_recipe *recipe,
                            struct prx_loader_opts *loader_opts)
{
    const int crop = recipe->data.image_crop;

    loader_opts->latent_channels = 0;
    loader_opts->image = (struct prx_loader_image_opts){
        .form = PRX_LOADER_IMAGE_F32,
        .fit =
            {
                .size_px = (int)recipe->data.image_px,
                .crop = crop == PRX_IMAGE_CROP_BUCKET ? PRX_CROP_BUCKET
                                                      : PRX_CROP_CENTER,
            },
        .random_crop = crop == PRX_IMAGE_CROP_RANDOM,
        .flip = recipe->data.image_flip,
    };
}

static int tell_quality(const struct prx_train_data *data,
                        const struct prx_recipe *recipe)
{
    double quality;

    if (recipe->data.window_samples == 0 && recipe->data.window_bytes == 0)
        return 0;
    PRX_TRY(prx_loader_quality(data->loader, &quality));
    prx_log_info("the shuffle's window: a batch is of %.0f %% of the shards that one of"
                 " a full shuffle is of",
                 100 * quality);
    return 0;
}

static int open_loader(struct prx_train_data *data, const struct prx_run_opts *opts)
{
    const struct prx_recipe *recipe = opts->recipe;
    struct listing listing = {.opts = opts};
    struct prx_loader_opts loader_opts = {
        .n_batch = (size_t)recipe->train.batch,
        .seed = (uint64_t)recipe->train.seed,
        .shuffle = recipe->data.shuffle,
        .replacement = recipe->data.replacement,
        .n_window_samples = (uint64_t)recipe->data.window_samples,
        .n_window_bytes = (uint64_t)recipe->data.window_bytes,
        .n_prefetch_bytes = (uint64_t)recipe->data.prefetch_bytes,
        .n_cache_bytes = (uint64_t)recipe->data.cache_bytes,
        .spool_dir = data->spool_dir.bytes,
        /* Our own folder holds nothing but an unfinished spool. */
        .spool_overwrite = !opts->spool_dir || opts->overwrite || opts->resume,
        .is_spooled = data->is_spooled,
        .rank = opts->dist ? (size_t)opts->dist->rank : 0,
        .world = opts->dist ? (size_t)opts->dist->world : 1,
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
    uint64_t n_total = 0;

    choose_captions(data, &recipe->data.captions, &loader_opts);
    if (recipe->data.image_px > 0)
        choose_pictures(recipe, &loader_opts);
    for (size_t i = 0; i < data->n_sets; i++)
        n_total += data->sources[i] ? prx_source_total(data->sources[i]) : 0;
    prx_meter_init(&listing.meter, opts->progress, "list", "samples", n_total);
    int rc = open_watched(data, opts, &loader_opts);
    prx_meter_finish(&listing.meter);
    return rc < 0 ? rc : tell_quality(data, recipe);
}

int prx_train_data_open(struct prx_train_data *data, const struct prx_run_opts *opts)
{
    PRX_TRY(open_sources(opts, data));
    return open_loader(data, opts);
}

int prx_train_data_next(struct prx_train_data *data, struct prx_loader_batch *batch)
{
    PRX_TRY(prx_loader_next(data->loader, batch));
    if (batch->image) {
        batch->latent = batch->image;
        batch->channels = data->vae->channels;
        batch->height = batch->image_height;
        batch->width = batch->image_width;
    }
    return 0;
}
