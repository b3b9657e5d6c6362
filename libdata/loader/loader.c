/* SPDX-License-Identifier: Apache-2.0 */
/*
 * The threads that read ahead, and the consumer's side.
 *
 * Batches are numbered.  A thread claims the next number, draws its samples under
 * the lock (so draws are in order whatever the threads do), and fills slot number
 * modulo n_slots without it.  A number is claimed only when its slot is free:
 * given out and no longer in use.  The consumer takes numbers in order.
 *
 *     n_taken <= n_claimed <= n_taken + n_slots - 1
 *
 * where batch n_taken - 1 is the one in the consumer's hands.
 */
#include "libdata/loader.h"

#include <pthread.h>
#include <stdlib.h>
#include <string.h>

#include "libdata/loader/loader_internal.h"

struct prx_loader {
    struct prx_loader_opts opts;
    struct loader_index index;
    struct loader_order order;
    struct prx_buf *_Atomic *cache; /* NULL: parts are read again every time */
    size_t i_slice, n_slice;        /* of a batch's draws, ours */

    size_t n_slots;
    struct loader_slot *slots;
    pthread_mutex_t lock;
    pthread_cond_t is_free;  /* a slot was given back, or stop */
    pthread_cond_t is_ready; /* a slot was filled */
    uint64_t n_claimed;
    uint64_t n_taken;
    bool is_stopping;
    struct prx_error error; /* of a batch; it is the last word */
    pthread_t *threads;
    int n_threads; /* running */
};

/* Fill batches until the loader stops or one fails. */
static void *read_ahead(void *ctx)
{
    struct prx_loader *loader = ctx;
    struct loader_reader reader = {
        .index = &loader->index,
        .opts = &loader->opts,
        .i_slice = loader->i_slice,
        .n_slice = loader->n_slice,
        .cache = loader->cache,
    };
    int rc = 0;

    pthread_mutex_lock(&loader->lock);
    while (rc == 0) {
        while (!loader->is_stopping &&
               loader->n_claimed + 1 > loader->n_taken + loader->n_slots - 1)
            pthread_cond_wait(&loader->is_free, &loader->lock);
        if (loader->is_stopping)
            break;
        struct loader_slot *slot = &loader->slots[loader->n_claimed % loader->n_slots];
        rc = prx_loader_order_next(&loader->order, slot->draws);
        loader->n_claimed++;
        pthread_mutex_unlock(&loader->lock);

        if (rc == 0)
            rc = prx_loader_slot_fill(slot, &reader);

        pthread_mutex_lock(&loader->lock);
        if (rc < 0)
            prx_err_save(&slot->error);
        slot->is_ready = true;
        pthread_cond_broadcast(&loader->is_ready);
    }
    pthread_mutex_unlock(&loader->lock);
    prx_loader_files_release(&reader.files);
    return NULL;
}

static int start_threads(struct prx_loader *loader)
{
    int n = loader->opts.n_threads > 0 ? loader->opts.n_threads : 1;

    loader->threads = calloc((size_t)n, sizeof(*loader->threads));
    if (!loader->threads)
        return prx_err_nomem("reading threads");
    for (; loader->n_threads < n; loader->n_threads++)
        if (pthread_create(&loader->threads[loader->n_threads], NULL, read_ahead,
                           loader) != 0)
            break;
    /* Fewer threads are slower, and none is an error. */
    return loader->n_threads > 0 ? 0 : prx_err(PRX_EIO, "no thread could be started");
}

static int make_slots(struct prx_loader *loader)
{
    size_t n_prefetch = loader->opts.n_prefetch > 0 ? loader->opts.n_prefetch : 1;

    loader->slots = calloc(n_prefetch + 1, sizeof(*loader->slots));
    if (!loader->slots)
        return prx_err_nomem("batches");
    for (; loader->n_slots < n_prefetch + 1; loader->n_slots++)
        PRX_TRY(prx_loader_slot_init(&loader->slots[loader->n_slots],
                                     loader->opts.n_batch));
    return 0;
}

size_t prx_loader_slice(size_t n_batch, size_t rank, size_t world, size_t *i_first)
{
    size_t n_each = n_batch / (world ? world : 1);
    size_t n_larger = n_batch % (world ? world : 1);

    if (i_first)
        *i_first = rank * n_each + (rank < n_larger ? rank : n_larger);
    return n_each + (rank < n_larger);
}

int prx_loader_open(struct prx_source *source, const struct prx_loader_opts *opts,
                    struct prx_loader **out)
{
    int rc = 0;

    PRX_BUG_IF(opts->n_batch == 0 || opts->n_captions == 0 ||
               opts->n_captions > PRX_LOADER_CAPTIONS_MAX);
    PRX_BUG_IF(opts->world > 0 &&
               (opts->rank >= opts->world || opts->world > opts->n_batch));
    PRX_BUG_IF(!source && !opts->is_spooled);
    struct prx_loader *loader = calloc(1, sizeof(*loader));
    if (!loader)
        return prx_err_nomem("a loader");
    loader->opts = *opts;
    loader->n_slice = prx_loader_slice(opts->n_batch, opts->rank, opts->world,
                                       &loader->i_slice);
    pthread_mutex_init(&loader->lock, NULL);
    pthread_cond_init(&loader->is_free, NULL);
    pthread_cond_init(&loader->is_ready, NULL);
    PRX_GO(prx_loader_index_init(&loader->index, 1 + opts->n_captions));
    PRX_GO(prx_loader_index_read(&loader->index, source, &loader->opts));
    PRX_GO(prx_loader_order_init(&loader->order, &loader->index, opts->seed,
                                 opts->n_batch, opts->shuffle));
    PRX_GO(make_slots(loader));
    if (loader->index.n_part_bytes <= opts->n_cache_bytes) {
        loader->cache = calloc((size_t)loader->index.n_samples * loader->index.n_parts,
                               sizeof(*loader->cache));
        if (!loader->cache)
            rc = prx_err_nomem("the cache of samples");
    }
out:
    if (rc < 0) {
        prx_loader_close(loader);
        loader = NULL;
    }
    *out = loader;
    return rc;
}

void prx_loader_summary(const struct prx_loader *loader, struct prx_loader_summary *out)
{
    const struct loader_index *index = &loader->index;
    const struct loader_shape *first = &index->shapes[index->shape_ids[0]];

    *out = (struct prx_loader_summary){
        .n_samples = index->n_samples,
        .n_rejected = index->n_rejected,
        .n_bytes = index->n_part_bytes,
        .n_index_bytes = prx_loader_index_bytes(index),
        .n_shapes = index->n_shapes,
        .channels = first->channels,
        .height = first->height,
        .width = first->width,
        .is_spooled = index->is_spooled,
        .is_cached = loader->cache != NULL,
    };
    prx_hasher_hex(index->hasher, out->fingerprint);
}

int prx_loader_seek(struct prx_loader *loader, uint64_t k)
{
    PRX_BUG_IF(loader->threads);
    prx_loader_order_release(&loader->order);
    PRX_TRY(prx_loader_order_init(&loader->order, &loader->index, loader->opts.seed,
                                  loader->opts.n_batch, loader->opts.shuffle));
    /* Replaying draws costs some nanoseconds a sample, and cannot be wrong. */
    for (uint64_t i = 0; i < k; i++)
        PRX_TRY(prx_loader_order_next(&loader->order, loader->slots[0].draws));
    return 0;
}

int prx_loader_next(struct prx_loader *loader, struct prx_loader_batch *out)
{
    if (loader->error.code < 0)
        return prx_err_restore(&loader->error);
    if (!loader->threads)
        PRX_TRY(start_threads(loader));

    pthread_mutex_lock(&loader->lock);
    struct loader_slot *slot = &loader->slots[loader->n_taken % loader->n_slots];
    if (loader->n_taken > 0) /* the batch before this one is given back */
        loader->slots[(loader->n_taken - 1) % loader->n_slots].is_ready = false;
    loader->n_taken++;
    pthread_cond_broadcast(&loader->is_free);
    while (!slot->is_ready)
        pthread_cond_wait(&loader->is_ready, &loader->lock);
    pthread_mutex_unlock(&loader->lock);

    if (slot->error.code < 0) {
        loader->error = slot->error;
        return prx_err_restore(&loader->error);
    }
    *out = (struct prx_loader_batch){
        .n_samples = (int64_t)loader->n_slice,
        .channels = slot->shape.channels,
        .height = slot->shape.height,
        .width = slot->shape.width,
        .n_tokens = slot->n_tokens,
        .text_width = loader->opts.text_width,
        .latent = slot->latent,
        .text = slot->text,
        .mask = slot->mask,
        .draws = slot->draws + loader->i_slice,
        .n_null = slot->n_null,
        .n_replaced = slot->n_replaced,
        .replaced_reason = slot->n_replaced > 0 ? slot->replaced_reason : NULL,
    };
    return 0;
}

static void stop_threads(struct prx_loader *loader)
{
    pthread_mutex_lock(&loader->lock);
    loader->is_stopping = true;
    pthread_cond_broadcast(&loader->is_free);
    pthread_mutex_unlock(&loader->lock);
    for (int i = 0; i < loader->n_threads; i++)
        pthread_join(loader->threads[i], NULL);
    free(loader->threads);
}

void prx_loader_close(struct prx_loader *loader)
{
    if (!loader)
        return;
    stop_threads(loader);
    if (loader->cache) {
        size_t n = (size_t)loader->index.n_samples * loader->index.n_parts;
        for (size_t i = 0; i < n; i++)
            prx_buf_unref(loader->cache[i]);
        free(loader->cache);
    }
    for (size_t i = 0; i < loader->n_slots; i++)
        prx_loader_slot_release(&loader->slots[i], loader->opts.n_batch);
    free(loader->slots);
    prx_loader_order_release(&loader->order);
    prx_loader_index_release(&loader->index);
    pthread_cond_destroy(&loader->is_ready);
    pthread_cond_destroy(&loader->is_free);
    pthread_mutex_destroy(&loader->lock);
    free(loader);
}
