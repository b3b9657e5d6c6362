/* SPDX-License-Identifier: Apache-2.0 */
/*
 * Shards at URLs, and the indexes that list them.
 *
 * A URL that is pinned (stream_url_internal.h) is believed until it is read; any
 * other is asked about when the source is opened, several at a time, so that a shard
 * that is missing is an error then, and so that the plan knows lengths and versions.
 *
 * Up to PRX_SHARDS_AHEAD_MAX shards come in ahead of their turn, each into a buffer of
 * its own.
 */
#include <stdlib.h>
#include <string.h>

#include "libdata/index.h"
#include "libdata/path.h"
#include "libdata/pool.h"
#include "libdata/source/source_internal.h"
#include "libdata/source/stream_url_internal.h"

#define N_URLS_MAX        ((size_t)1 << 20) /* that braces may spell out */
#define N_PROBES          16                /* at a time */
#define N_TRIES_OF_PROBE  4                 /* a wrong word is to be told soon */
#define N_AHEAD_BYTES     ((size_t)8 << 20) /* for each shard */
#define N_INDEX_BYTES_MAX ((uint64_t)1 << 28)

static const struct prx_url_opts probe_opts = {.n_tries_max = N_TRIES_OF_PROBE};

static int probe(void *ctx, void *scratch, void *task)
{
    struct prx_shard_place *place = task;
    struct prx_url_id *id = calloc(1, sizeof(*id));

    (void)ctx, (void)scratch;
    if (!id)
        return prx_err_nomem("a URL");
    place->own = id;
    PRX_TRY(prx_url_probe(place->path, &probe_opts, id));
    place->n_bytes = id->n_bytes;
    return 0;
}

static uint64_t weigh_nothing(void *ctx, const void *task)
{
    (void)ctx, (void)task;
    return 0;
}

static void drop_nothing(void *ctx, void *task)
{
    (void)ctx, (void)task;
}

/* What is pinned needs no asking. */
static int look_at_pin(struct prx_shard_place *place, bool *is_pinned)
{
    struct prx_url_pin pin;

    PRX_TRY(prx_url_pin_parse(&pin, place->path));
    *is_pinned = pin.has_n_bytes && *pin.xxh128;
    if (*is_pinned)
        place->n_bytes = pin.n_bytes;
    return 0;
}

static int look_at_urls(struct prx_shard_place *places, size_t n_places)
{
    const struct prx_pool_opts opts = {
        .n_threads = n_places < N_PROBES ? (int)n_places : N_PROBES,
        .n_tasks_max = n_places + 1,
        .work = probe,
        .weigh = weigh_nothing,
        .drop = drop_nothing,
    };
    struct prx_pool *pool = NULL;
    void *task;
    int rc = 0;

    PRX_TRY(prx_pool_new(&opts, &pool));
    for (size_t i = 0; i < n_places; i++) {
        bool is_pinned = false;
        PRX_GO(look_at_pin(&places[i], &is_pinned));
        if (!is_pinned && (rc = prx_pool_put(pool, &places[i])) == PRX_ECANCELED)
            break; /* one has failed, and next() will say why */
        PRX_GO(rc);
    }
    prx_pool_end(pool, 0);
    while ((rc = prx_pool_next(pool, &task)) == 1)
        ;
out:
    prx_pool_free(pool);
    return rc;
}

/*
 * The query may be a signature that is another one every day, and so it counts only
 * where nothing else tells one version from another.
 */
static int plan_url(const struct prx_shard_place *place, struct prx_str *plan)
{
    const struct prx_url_id *id = place->own;
    char name[PRX_KEY_BYTES_MAX], hash[PRX_HASH_HEX_BYTES];
    struct prx_url_pin pin;

    prx_url_show(place->path, name, sizeof(name));
    prx_hash_hex(place->path, strlen(place->path), hash);
    PRX_TRY(prx_url_pin_parse(&pin, place->path));
    const char *version = hash;
    if (*pin.xxh128)
        version = pin.xxh128;
    else if (id && *id->etag)
        version = id->etag;
    else if (id && *id->modified)
        version = id->modified;
    return prx_str_printf(plan, "url %s %llu %s\n", name,
                          (unsigned long long)place->n_bytes, version);
}

static int open_url(const struct prx_shard_place *place, struct prx_stream **out)
{
    struct prx_stream *stream = NULL;

    PRX_TRY(prx_stream_url(place->path, place->own, &stream));
    return prx_stream_ahead(stream, N_AHEAD_BYTES, out);
}

static const struct prx_shard_kind url_kind = {
    .look = look_at_urls,
    .plan = plan_url,
    .show = prx_url_show,
    .open = open_url,
    .n_ahead = PRX_SHARDS_AHEAD_MAX,
};

static int open_urls(const char *const *words, size_t n_words,
                     const struct prx_source_opts *opts, struct prx_source **out)
{
    return prx_source_shards_open(&url_kind, words, n_words, opts, out);
}

/* The shards that the index at @url lists, beside it, pinned to what it says. */
static int add_index(struct prx_inputs *inputs, const char *url)
{
    struct prx_index index = {0};
    struct prx_buf *bytes = NULL;
    struct prx_str shard = {0};
    char name[PRX_KEY_BYTES_MAX];
    int rc = 0;

    prx_url_show(url, name, sizeof(name));
    PRX_GO(prx_url_get(url, &probe_opts, N_INDEX_BYTES_MAX, &bytes));
    PRX_GO(prx_index_parse(name, bytes->bytes, bytes->n_bytes, &index));
    for (size_t i = 0; i < index.n_shards; i++) {
        const struct prx_shard *listed = &index.shards[i];
        struct prx_url_pin pin = {
            .has_n_bytes = listed->n_bytes > 0,
            .n_bytes = listed->n_bytes,
        };
        memcpy(pin.xxh128, listed->xxh128, sizeof(pin.xxh128));
        prx_str_reset(&shard);
        PRX_GO(prx_url_join(url, listed->name, &shard));
        PRX_GO(prx_url_pin_format(&pin, &shard));
        PRX_GO(prx_inputs_add(inputs, &prx_source_https_kind, shard.bytes,
                              listed->n_samples));
    }
out:
    prx_buf_unref(bytes);
    prx_str_release(&shard);
    prx_index_release(&index);
    return rc;
}

static int add_url(struct prx_inputs *inputs, const char *url)
{
    if (!prx_url_is(url))
        return prx_err(PRX_EINVAL, "%s: a URL without a host", url);
    if (prx_url_path_ends_with(url, ".json"))
        return add_index(inputs, url);
    return prx_inputs_add(inputs, &prx_source_https_kind, url, 0);
}

static int add_urls(struct prx_inputs *inputs, const char *word,
                    const struct prx_source_opts *opts)
{
    struct prx_paths spelled = {0};
    int rc = 0;

    (void)opts;
    PRX_GO(prx_brace_expand(word, N_URLS_MAX, &spelled));
    for (size_t i = 0; i < spelled.n_paths; i++)
        PRX_GO(add_url(inputs, spelled.paths[i]));
out:
    prx_paths_release(&spelled);
    return rc;
}

/* Inputs of both schemes are of one kind, so that they can stand in one source. */
const struct prx_source_kind prx_source_http_kind = {
    .scheme = "http:",
    .add = add_urls,
};

const struct prx_source_kind prx_source_https_kind = {
    .scheme = "https:",
    .add = add_urls,
    .is_shard = true,
    .open = open_urls,
};
