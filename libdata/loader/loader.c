/* SPDX-License-Identifier: Apache-2.0 */
/*
 * The threads that read ahead, and the consumer's side.
 *
 * Batches are numbered, and batch k is made in slot k modulo n_slots.  A thread takes
 * a few places of the youngest batch that has any left, or begins the next batch: draws
 * its samples, under the lock, so that draws are in order whatever the threads do.  It
 * fills its places without the lock; who fills the last one pads the texts.  A batch
 * is begun only when its slot is free: given out and no longer in use.  The consumer
 * takes batches in order.
 *
 *     n_taken <= n_begun <= n_taken + n_slots - 1
 *
 * where batch n_taken - 1 is the one in the consumer's hands.
 */
#include "libdata/loader.h"

#include <pthread.h>
#include <stdlib.h>
#include <string.h>

#include "libdata/loader/loader_internal.h"

/* More batches than these hide no delay that fewer do not. */
#define N_SLOTS_MAX 9
/* A fingerprint holds for one way to make an order of what it covers. */
#define ORDER_VERSION "order 2"

struct prx_loader {
    struct prx_loader_opts opts;
    struct loader_catalog catalog;
    struct loader_order order;
    struct prx_buf *_Atomic *cache; /* NULL: parts are read again every time */
    size_t i_slice, n_slice;        /* of a batch's draws, ours */
    uint64_t k_first;               /* sought */

    size_t n_slots;
    struct loader_slot *slots;
    size_t n_claim; /* places that are taken at once */
    pthread_mutex_t lock;
    pthread_cond_t is_free;  /* there is work, or stop */
    pthread_cond_t is_ready; /* a slot was filled */
    uint64_t n_begun;
    uint64_t n_taken;
    bool is_stopping;
    struct prx_error error; /* of a batch; it is the last word */
    pthread_t *threads;
    int n_threads; /* running */
};

static struct loader_slot *slot_of(struct prx_loader *loader, uint64_t k)
{
    return &loader->slots[k % loader->n_slots];
}

/* --- reading ahead ---------------------------------------------------------------- */

/* Nothing more is begun, and this slot tells why. */
static void fail_slot(struct prx_loader *loader, struct loader_slot *slot)
{
    prx_err_save(&slot->error);
    slot->is_ready = true;
    loader->is_stopping = true;
    pthread_cond_broadcast(&loader->is_ready);
    pthread_cond_broadcast(&loader->is_free);
}

/* Draw the next batch's samples. */
static int begin_batch(struct prx_loader *loader)
{
    struct loader_slot *slot = slot_of(loader, loader->n_begun);
    int rc = prx_loader_order_next(&loader->order, slot->draws);

    if (rc == 0)
        rc = prx_loader_slot_begin(slot, &loader->catalog, &loader->opts,
                                   loader->n_slice, loader->k_first + loader->n_begun);
    loader->n_begun++;
    if (rc < 0)
        fail_slot(loader, slot);
    else if (loader->n_slice > loader->n_claim)
        pthread_cond_broadcast(&loader->is_free);
    return rc;
}

/* Take places of a batch: a slot, and from *@i on; NULL: stop. */
static struct loader_slot *claim(struct prx_loader *loader, size_t *i, size_t *n)
{
    while (!loader->is_stopping) {
        struct loader_slot *slot =
            loader->n_begun > 0 ? slot_of(loader, loader->n_begun - 1) : NULL;
        if (slot && slot->n_claimed < loader->n_slice) {
            size_t n_left = loader->n_slice - slot->n_claimed;
            *i = slot->n_claimed;
            *n = n_left < loader->n_claim ? n_left : loader->n_claim;
            slot->n_claimed += *n;
            return slot;
        }
        if (loader->n_begun + 1 > loader->n_taken + loader->n_slots - 1)
            pthread_cond_wait(&loader->is_free, &loader->lock);
        else if (begin_batch(loader) < 0)
            break;
    }
    return NULL;
}

/* What becomes of one place, told to its slot; the first in order has the word. */
static void settle(struct loader_slot *slot, size_t i, int rc, const char *reason)
{
    if (rc < 0 && i < slot->i_error) {
        prx_err_save(&slot->error);
        slot->i_error = i;
    }
    if (*reason && i < slot->i_replaced) {
        memcpy(slot->replaced_reason, reason, sizeof(slot->replaced_reason));
        slot->i_replaced = i;
    }
    slot->n_done++;
}

/* Fill places, unlocked but for the bookkeeping; then the batch, if it is the last. */
static void fill(struct prx_loader *loader, struct loader_reader *reader,
                 struct loader_slot *slot, size_t i, size_t n)
{
    for (size_t i_end = i + n; i < i_end; i++) {
        char reason[PRX_ERR_TEXT_BYTES] = "";
        pthread_mutex_unlock(&loader->lock);
        int rc = prx_loader_slot_fill(slot, reader, i,
                                      &slot->draws[loader->i_slice + i], reason);
        pthread_mutex_lock(&loader->lock);
        settle(slot, i, rc, reason);
    }
    if (slot->n_done < loader->n_slice)
        return;
    pthread_mutex_unlock(&loader->lock);
    int rc = 0;
    if (slot->error.code == 0)
        rc = prx_loader_slot_finish(slot, &loader->opts, loader->n_slice);
    pthread_mutex_lock(&loader->lock);
    if (rc < 0)
        prx_err_save(&slot->error);
    slot->is_ready = true;
    pthread_cond_broadcast(&loader->is_ready);
}

static void *read_ahead(void *ctx)
{
    struct prx_loader *loader = ctx;
    struct loader_reader reader = {
        .catalog = &loader->catalog,
        .opts = &loader->opts,
        .cache = loader->cache,
    };
    struct loader_slot *slot;
    size_t i, n;

    pthread_mutex_lock(&loader->lock);
    while ((slot = claim(loader, &i, &n)))
        fill(loader, &reader, slot, i, n);
    pthread_mutex_unlock(&loader->lock);
    prx_loader_reader_release(&reader);
    return NULL;
}

static int start_threads(struct prx_loader *loader)
{
    int n = loader->opts.n_threads > 0 ? loader->opts.n_threads : 1;

    loader->threads = calloc((size_t)n, sizeof(*loader->threads));
    if (!loader->threads)
        return prx_err_nomem("reading threads");
    loader->n_claim = loader->n_slice / (4 * (size_t)n);
    if (loader->n_claim == 0)
        loader->n_claim = 1;
    for (; loader->n_threads < n; loader->n_threads++)
        if (pthread_create(&loader->threads[loader->n_threads], NULL, read_ahead,
                           loader) != 0)
            break;
    /* Fewer threads are slower, and none is an error. */
    return loader->n_threads > 0 ? 0 : prx_err(PRX_EIO, "no thread could be started");
}

size_t prx_loader_slots(uint64_t n_prefetch_bytes, uint64_t n_batch_bytes)
{
    uint64_t n_ahead = n_prefetch_bytes / (n_batch_bytes ? n_batch_bytes : 1);

    return n_ahead < 1 ? 2 : n_ahead < N_SLOTS_MAX ? (size_t)n_ahead + 1
                                                   : N_SLOTS_MAX;
}

/* As many batches as the bound has room for, each the largest there is. */
static int make_slots(struct prx_loader *loader)
{
    const struct loader_catalog *catalog = &loader->catalog;
    uint64_t n_most = 1;

    for (size_t i = 0; i < catalog->n_shapes; i++) {
        uint64_t n_bytes = prx_loader_slot_bytes(&catalog->shapes[i], &loader->opts,
                                                 loader->n_slice);
        n_most = n_bytes > n_most ? n_bytes : n_most;
    }
    size_t n_slots = prx_loader_slots(loader->opts.n_prefetch_bytes, n_most);
    loader->slots = calloc(n_slots, sizeof(*loader->slots));
    if (!loader->slots)
        return prx_err_nomem("batches");
    loader->n_slots = n_slots;
    for (size_t i = 0; i < loader->n_slots; i++)
        PRX_TRY(prx_loader_slot_init(&loader->slots[i], loader->opts.n_batch,
                                     loader->n_slice));
    return 0;
}

/* --- opening ---------------------------------------------------------------------- */

size_t prx_loader_slice(size_t n_batch, size_t rank, size_t world, size_t *i_first)
{
    size_t n_each = n_batch / (world ? world : 1);
    size_t n_larger = n_batch % (world ? world : 1);

    if (i_first)
        *i_first = rank * n_each + (rank < n_larger ? rank : n_larger);
    return n_each + (rank < n_larger);
}

static void check_opts(const struct prx_loader_set *sets, size_t n_sets,
                       const struct prx_loader_opts *opts)
{
    PRX_BUG_IF(n_sets == 0 || opts->n_batch == 0 ||
               opts->n_captions > PRX_LOADER_CAPTIONS_MAX ||
               opts->n_features > PRX_LOADER_FEATURES_MAX);
    PRX_BUG_IF(opts->n_captions > 0 &&
               (opts->n_phases == 0 || opts->n_phases > PRX_LOADER_PHASES_MAX ||
                opts->phases[0].first_batch != 0));
    PRX_BUG_IF(opts->world > 0 &&
               (opts->rank >= opts->world || opts->world > opts->n_batch));
    PRX_BUG_IF(opts->image.form != PRX_LOADER_NO_IMAGE && opts->image.fit.size_px <= 0);
    for (size_t i = 0; i < n_sets; i++) {
        PRX_BUG_IF(!sets[i].source && !opts->is_spooled);
        PRX_BUG_IF(n_sets > 1 && !(sets[i].weight > 0));
    }
}

static int index_sets(struct prx_loader *loader, const struct prx_loader_set *sets,
                      size_t n_sets)
{
    struct loader_catalog *catalog = &loader->catalog;

    PRX_TRY(prx_loader_catalog_init(catalog, &loader->opts, n_sets));
    if (catalog->layout.n_parts == 0)
        return prx_err(PRX_EINVAL, "nothing is to be read of the samples");
    prx_hasher_add(catalog->hasher, ORDER_VERSION, sizeof(ORDER_VERSION));
    for (size_t i = 0; i < n_sets; i++) {
        prx_loader_catalog_begin(catalog, i, n_sets > 1 ? sets[i].weight : 1);
        prx_hasher_add(catalog->hasher, &i, sizeof(i));
        PRX_TRY(prx_loader_index_read(catalog, i, sets[i].source, &loader->opts));
    }
    return prx_loader_catalog_finish(catalog);
}

int prx_loader_open(const struct prx_loader_set *sets, size_t n_sets,
                    const struct prx_loader_opts *opts, struct prx_loader **out)
{
    int rc = 0;

    check_opts(sets, n_sets, opts);
    struct prx_loader *loader = calloc(1, sizeof(*loader));
    if (!loader)
        return prx_err_nomem("a loader");
    loader->opts = *opts;
    loader->n_slice = prx_loader_slice(opts->n_batch, opts->rank, opts->world,
                                       &loader->i_slice);
    pthread_mutex_init(&loader->lock, NULL);
    pthread_cond_init(&loader->is_free, NULL);
    pthread_cond_init(&loader->is_ready, NULL);
    PRX_GO(index_sets(loader, sets, n_sets));
    PRX_GO(prx_loader_order_init(&loader->order, &loader->catalog, &loader->opts));
    PRX_GO(make_slots(loader));
    if (loader->catalog.n_part_bytes <= opts->n_cache_bytes) {
        loader->cache =
            calloc((size_t)loader->catalog.n_samples * loader->catalog.layout.n_parts,
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
    const struct loader_catalog *catalog = &loader->catalog;
    const struct loader_shape *first =
        &catalog->shapes[prx_loader_shape_id(catalog, 0)];

    *out = (struct prx_loader_summary){
        .n_samples = catalog->n_samples,
        .n_rejected = catalog->n_rejected,
        .n_hidden = catalog->n_hidden,
        .n_bytes = catalog->n_part_bytes,
        .n_index_bytes = prx_loader_catalog_bytes(catalog),
        .n_shards = catalog->n_shards,
        .n_shapes = catalog->n_shapes,
        .channels = first->channels,
        .height = first->height,
        .width = first->width,
        .image_height = first->image_height,
        .image_width = first->image_width,
        .is_spooled = catalog->is_spooled,
        .is_cached = loader->cache != NULL,
    };
    prx_hasher_hex(catalog->hasher, out->fingerprint);
}

int prx_loader_quality(const struct prx_loader *loader, double *out)
{
    return prx_loader_order_quality(&loader->catalog, &loader->opts, out);
}

int prx_loader_key(const struct prx_loader *loader, uint32_t sample,
                   struct prx_str *out)
{
    PRX_BUG_IF(sample >= loader->catalog.n_samples);
    return prx_loader_catalog_key(&loader->catalog, sample, out);
}

/* --- the consumer ----------------------------------------------------------------- */

int prx_loader_seek(struct prx_loader *loader, uint64_t k)
{
    PRX_BUG_IF(loader->threads);
    prx_loader_order_release(&loader->order);
    PRX_TRY(prx_loader_order_init(&loader->order, &loader->catalog, &loader->opts));
    loader->k_first = k;
    return prx_loader_order_skip(&loader->order, k);
}

static void count_outcomes(const struct prx_loader *loader,
                           const struct loader_slot *slot, struct prx_loader_batch *out)
{
    for (size_t i = 0; i < loader->n_slice; i++) {
        const struct loader_outcome *outcome = &slot->outcomes[i];
        out->n_replaced += outcome->is_replaced;
        if (loader->opts.n_captions == 0)
            continue;
        out->n_fallback += outcome->is_fallback;
        if (outcome->caption == LOADER_NULL_CAPTION)
            out->n_null++;
        else
            out->n_by_caption[outcome->caption]++;
    }
    if (out->n_replaced > 0)
        out->replaced_reason = slot->replaced_reason;
}

static void hand_out(const struct prx_loader *loader, const struct loader_slot *slot,
                     struct prx_loader_batch *out)
{
    const struct prx_loader_opts *opts = &loader->opts;
    const struct loader_layout *layout = &loader->catalog.layout;
    const struct loader_shape *shape = slot->shape;

    *out = (struct prx_loader_batch){
        .n_samples = (int64_t)loader->n_slice,
        .draws = slot->draws + loader->i_slice,
    };
    if (layout->has_latent) {
        out->channels = shape->channels;
        out->height = shape->height;
        out->width = shape->width;
        out->latent = slot->latent.elements;
    }
    if (layout->has_image) {
        out->image_height = shape->image_height;
        out->image_width = shape->image_width;
        if (opts->image.form == PRX_LOADER_IMAGE_U8)
            out->image_u8 = slot->image.elements;
        else
            out->image = slot->image.elements;
    }
    if (layout->n_captions > 0) {
        out->n_tokens = slot->n_tokens;
        out->text_width = opts->text_width;
        out->text = slot->text.elements;
        out->mask = slot->mask.elements;
    }
    for (size_t i = 0; i < layout->n_features; i++) {
        out->features[i].n_tokens = shape->feature_dims[i][0];
        out->features[i].width = shape->feature_dims[i][1];
        out->features[i].values = slot->features[i].elements;
    }
    count_outcomes(loader, slot, out);
}

int prx_loader_next(struct prx_loader *loader, struct prx_loader_batch *out)
{
    if (loader->error.code < 0)
        return prx_err_restore(&loader->error);
    if (!loader->threads)
        PRX_TRY(start_threads(loader));

    pthread_mutex_lock(&loader->lock);
    struct loader_slot *slot = slot_of(loader, loader->n_taken);
    if (loader->n_taken > 0) /* the batch before this one is given back */
        slot_of(loader, loader->n_taken - 1)->is_ready = false;
    loader->n_taken++;
    pthread_cond_broadcast(&loader->is_free);
    while (!slot->is_ready)
        pthread_cond_wait(&loader->is_ready, &loader->lock);
    pthread_mutex_unlock(&loader->lock);

    if (slot->error.code < 0) {
        loader->error = slot->error;
        return prx_err_restore(&loader->error);
    }
    hand_out(loader, slot, out);
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
        size_t n = (size_t)loader->catalog.n_samples * loader->catalog.layout.n_parts;
        for (size_t i = 0; i < n; i++)
            prx_buf_unref(loader->cache[i]);
        free(loader->cache);
    }
    for (size_t i = 0; i < loader->n_slots; i++)
        prx_loader_slot_release(&loader->slots[i], &loader->opts, loader->n_slice);
    free(loader->slots);
    prx_loader_order_release(&loader->order);
    prx_loader_catalog_release(&loader->catalog);
    pthread_cond_destroy(&loader->is_ready);
    pthread_cond_destroy(&loader->is_free);
    pthread_mutex_destroy(&loader->lock);
    free(loader);
}
