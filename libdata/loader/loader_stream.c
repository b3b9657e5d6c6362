/* SPDX-License-Identifier: Apache-2.0 */
/*
 * The endless draws of one set, epoch after epoch, through a window of open shards.
 *
 * While shards are still to be opened, every draw takes one of the open ones with the
 * same chance, so that each is read at about the same pace and goes after a time that
 * can be foreseen.  Once none are, what is left of the open ones is shuffled as one:
 * no epoch ends with a few samples of a single shard.
 *
 * Invariant: the samples of the epoch that have not been drawn are those in
 * open[].left, in rest, and in shard_order from n_opened on, each once.
 */
#include <stdlib.h>

#include "libdata/loader/loader_internal.h"

#define N_EPOCHS_MAX (1u << 24) /* what a Philox counter has room for */

/* What a stream of random numbers is for, of one set in one epoch. */
enum {
    OF_SHARD,   /* order of a shard's samples; number = of the shard */
    OF_SHARDS,  /* order of shards */
    OF_CHOICES, /* which of the open shards */
    OF_REST,    /* order of what is left, or of all */
    OF_DRAW,    /* with replacement: a sample; number = of the draw */
};

static void init_rng(const struct loader_stream *stream, uint64_t what, uint64_t number,
                     struct prx_rng *rng)
{
    prx_rng_init(rng, stream->opts->seed, PRX_RNG_SHUFFLE, stream->epoch,
                 (uint64_t)stream->i_set << 52 | what << 48 | number);
}

/* Fisher and Yates' shuffle by one stream of draws. */
static void permute(struct prx_rng *rng, uint32_t *values, uint32_t n)
{
    for (uint32_t i = n; i > 1; i--) {
        uint32_t j = (uint32_t)prx_rng_below(rng, i);
        uint32_t swap = values[i - 1];
        values[i - 1] = values[j];
        values[j] = swap;
    }
}

static bool is_windowed(const struct loader_stream *stream)
{
    return stream->opts->n_window_samples > 0 || stream->opts->n_window_bytes > 0;
}

static int reserve_rest(struct loader_stream *stream, size_t n)
{
    if (n <= stream->cap_rest)
        return 0;
    PRX_TRY(prx_loader_grow(&stream->rest, n, sizeof(*stream->rest)));
    stream->cap_rest = n;
    return 0;
}

/* No more shards come: what is left is shuffled.  It is drawn from its end. */
static int gather_rest(struct loader_stream *stream)
{
    struct prx_rng rng;
    size_t n = 0;

    for (size_t i = 0; i < stream->n_open; i++)
        n += stream->open[i].n_left;
    PRX_TRY(reserve_rest(stream, n));
    stream->n_rest = 0;
    for (size_t i = 0; i < stream->n_open; i++)
        for (uint32_t k = 0; k < stream->open[i].n_left; k++)
            stream->rest[stream->n_rest++] = stream->open[i].left[k];
    stream->n_open = 0;
    init_rng(stream, OF_REST, 0, &rng);
    permute(&rng, stream->rest, (uint32_t)stream->n_rest);
    return 0;
}

static int open_shard(struct loader_stream *stream, uint32_t i_shard)
{
    const struct loader_shard *shard = &stream->catalog->shards[i_shard];
    struct prx_rng rng;

    if (stream->n_open == stream->cap_open) {
        size_t cap = stream->cap_open ? stream->cap_open * 2 : 8;
        PRX_TRY(prx_loader_grow(&stream->open, cap, sizeof(*stream->open)));
        for (size_t i = stream->cap_open; i < cap; i++)
            stream->open[i] = (struct loader_open_shard){0};
        stream->cap_open = cap;
    }
    struct loader_open_shard *open = &stream->open[stream->n_open];
    if (open->cap_left < shard->n_samples) {
        PRX_TRY(prx_loader_grow(&open->left, shard->n_samples, sizeof(*open->left)));
        open->cap_left = shard->n_samples;
    }
    open->shard = shard;
    open->n_left = shard->n_samples;
    for (uint32_t i = 0; i < shard->n_samples; i++)
        open->left[i] = shard->first_sample + i;
    init_rng(stream, OF_SHARD, i_shard, &rng);
    permute(&rng, open->left, open->n_left);
    stream->n_open++;
    stream->n_open_samples += shard->n_samples;
    stream->n_open_bytes += shard->n_bytes;
    return 0;
}

static bool has_room(const struct loader_stream *stream,
                     const struct loader_shard *shard)
{
    const struct prx_loader_opts *opts = stream->opts;

    if (stream->n_open == 0)
        return true;
    return (opts->n_window_samples == 0 ||
            stream->n_open_samples + shard->n_samples <= opts->n_window_samples) &&
           (opts->n_window_bytes == 0 ||
            stream->n_open_bytes + shard->n_bytes <= opts->n_window_bytes);
}

/* Open shards while there is room; behind the last one, gather the rest. */
static int fill_window(struct loader_stream *stream)
{
    while (stream->n_opened < stream->set->n_shards) {
        uint32_t i_shard = stream->shard_order[stream->n_opened];
        if (!has_room(stream, &stream->catalog->shards[i_shard]))
            return 0;
        PRX_TRY(open_shard(stream, i_shard));
        stream->n_opened++;
    }
    return gather_rest(stream);
}

/* The samples of the open shard @i are all drawn. */
static int close_shard(struct loader_stream *stream, size_t i)
{
    const struct loader_open_shard emptied = stream->open[i];

    stream->n_open_samples -= emptied.shard->n_samples;
    stream->n_open_bytes -= emptied.shard->n_bytes;
    stream->open[i] = stream->open[--stream->n_open];
    stream->open[stream->n_open] = emptied; /* its memory is used again */
    return fill_window(stream);
}

static int begin_epoch(struct loader_stream *stream)
{
    const struct loader_set *set = stream->set;
    struct prx_rng rng;

    stream->n_drawn = 0;
    stream->n_open = 0;
    stream->n_open_samples = 0;
    stream->n_open_bytes = 0;
    stream->n_rest = 0;
    if (!stream->opts->shuffle || stream->opts->replacement)
        return 0;
    if (!is_windowed(stream)) {
        PRX_TRY(reserve_rest(stream, set->n_samples));
        for (uint32_t i = 0; i < set->n_samples; i++)
            stream->rest[i] = set->first_sample + i;
        stream->n_rest = set->n_samples;
        init_rng(stream, OF_REST, 0, &rng);
        permute(&rng, stream->rest, set->n_samples);
        return 0;
    }
    for (uint32_t i = 0; i < set->n_shards; i++)
        stream->shard_order[i] = set->first_shard + i;
    init_rng(stream, OF_SHARDS, 0, &rng);
    permute(&rng, stream->shard_order, set->n_shards);
    stream->n_opened = 0;
    init_rng(stream, OF_CHOICES, 0, &stream->choices);
    return fill_window(stream);
}

int prx_loader_stream_init(struct loader_stream *stream,
                           const struct loader_catalog *catalog, size_t i_set,
                           const struct prx_loader_opts *opts)
{
    *stream = (struct loader_stream){
        .catalog = catalog,
        .set = &catalog->sets[i_set],
        .opts = opts,
        .i_set = (uint32_t)i_set,
        .shard_order =
            calloc(catalog->sets[i_set].n_shards, sizeof(*stream->shard_order)),
    };
    if (!stream->shard_order)
        return prx_err_nomem("the order of samples");
    return begin_epoch(stream);
}

void prx_loader_stream_release(struct loader_stream *stream)
{
    for (size_t i = 0; i < stream->cap_open; i++)
        free(stream->open[i].left);
    free(stream->open);
    free(stream->rest);
    free(stream->shard_order);
    *stream = (struct loader_stream){0};
}

static int next_epoch(struct loader_stream *stream, uint64_t n_epochs)
{
    if (stream->epoch + n_epochs >= N_EPOCHS_MAX)
        return prx_err(PRX_EINVAL, "more than %u epochs", N_EPOCHS_MAX);
    stream->epoch += (uint32_t)n_epochs;
    return begin_epoch(stream);
}

/* The random numbers of a draw that may come twice are its own. */
static int draw_with_replacement(struct loader_stream *stream,
                                 struct prx_loader_draw *out)
{
    const struct loader_set *set = stream->set;
    uint64_t turn = stream->n_drawn % set->n_samples;
    struct prx_rng rng;

    if (stream->n_drawn / set->n_samples >= N_EPOCHS_MAX)
        return prx_err(PRX_EINVAL, "more than %u epochs", N_EPOCHS_MAX);
    stream->epoch = (uint32_t)(stream->n_drawn / set->n_samples);
    init_rng(stream, OF_DRAW, turn, &rng);
    uint32_t i = set->first_sample + (uint32_t)prx_rng_below(&rng, set->n_samples);
    *out = (struct prx_loader_draw){i, stream->epoch, i | (turn + 1) << 32};
    stream->n_drawn++;
    return 0;
}

int prx_loader_stream_next(struct loader_stream *stream, struct prx_loader_draw *out)
{
    uint32_t i_sample;

    if (stream->opts->replacement)
        return draw_with_replacement(stream, out);
    if (stream->n_drawn == stream->set->n_samples)
        PRX_TRY(next_epoch(stream, 1));
    uint32_t epoch = stream->epoch;
    if (!stream->opts->shuffle) {
        i_sample = stream->set->first_sample + (uint32_t)stream->n_drawn;
    } else if (stream->n_open == 0) {
        i_sample = stream->rest[--stream->n_rest];
    } else {
        size_t i = (size_t)prx_rng_below(&stream->choices, stream->n_open);
        struct loader_open_shard *open = &stream->open[i];
        i_sample = open->left[--open->n_left];
        if (open->n_left == 0)
            PRX_TRY(close_shard(stream, i));
    }
    stream->n_drawn++;
    *out = (struct prx_loader_draw){i_sample, epoch, i_sample};
    return 0;
}

int prx_loader_stream_skip(struct loader_stream *stream, uint64_t n)
{
    struct prx_loader_draw draw;

    if (stream->opts->replacement) {
        stream->n_drawn = n;
        return 0;
    }
    if (n >= stream->set->n_samples) {
        PRX_TRY(next_epoch(stream, n / stream->set->n_samples));
        n %= stream->set->n_samples;
    }
    while (n-- > 0)
        PRX_TRY(prx_loader_stream_next(stream, &draw));
    return 0;
}
