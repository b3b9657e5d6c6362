/* SPDX-License-Identifier: Apache-2.0 */
/*
 * Which sample comes when: the sets' draws mixed, and dealt into batches by shape.
 *
 * Invariant: after any number of batches, every sample of the epochs begun so far
 * has been given out or waits in pending, once for each of those epochs.
 */
#include <stdlib.h>
#include <string.h>

#include "libdata/loader/loader_internal.h"

#define N_QUALITY_DRAWS ((uint64_t)1 << 20)

static int init_weights(struct loader_order *order)
{
    double sum = 0, sum_so_far = 0;

    order->weight_sums = calloc(order->catalog->n_sets, sizeof(*order->weight_sums));
    if (!order->weight_sums)
        return prx_err_nomem("the order of samples");
    for (size_t i = 0; i < order->catalog->n_sets; i++)
        sum += order->catalog->sets[i].weight;
    for (size_t i = 0; i < order->catalog->n_sets; i++) {
        sum_so_far += order->catalog->sets[i].weight;
        order->weight_sums[i] = sum_so_far / sum;
    }
    return 0;
}

int prx_loader_order_init(struct loader_order *order,
                          const struct loader_catalog *catalog,
                          const struct prx_loader_opts *opts)
{
    int rc = 0;

    *order = (struct loader_order){
        .catalog = catalog,
        .seed = opts->seed,
        .n_batch = opts->n_batch,
        .streams = calloc(catalog->n_sets, sizeof(*order->streams)),
        .pending = calloc(catalog->n_shapes, sizeof(*order->pending)),
        .n_pending = calloc(catalog->n_shapes, sizeof(*order->n_pending)),
    };
    bool is_whole = order->streams && order->pending && order->n_pending;
    for (size_t i = 0; is_whole && i < catalog->n_shapes; i++) {
        order->pending[i] = calloc(opts->n_batch, sizeof(*order->pending[i]));
        is_whole = order->pending[i];
    }
    if (!is_whole) {
        rc = prx_err_nomem("the order of samples");
        goto out;
    }
    PRX_GO(init_weights(order));
    for (size_t i = 0; i < catalog->n_sets; i++)
        PRX_GO(prx_loader_stream_init(&order->streams[i], catalog, i, opts));
out:
    if (rc < 0)
        prx_loader_order_release(order);
    return rc;
}

void prx_loader_order_release(struct loader_order *order)
{
    for (size_t i = 0; order->streams && i < order->catalog->n_sets; i++)
        prx_loader_stream_release(&order->streams[i]);
    for (size_t i = 0; order->pending && i < order->catalog->n_shapes; i++)
        free(order->pending[i]);
    free(order->streams);
    free(order->weight_sums);
    free(order->pending);
    free(order->n_pending);
    *order = (struct loader_order){0};
}

/* The set that the next draw is of. */
static struct loader_stream *choose_stream(struct loader_order *order)
{
    struct prx_rng rng;
    size_t i = 0;

    if (order->catalog->n_sets == 1)
        return order->streams;
    prx_rng_init(&rng, order->seed, PRX_RNG_MIX, 0, order->n_drawn);
    double choice = (double)prx_rng_uniform(&rng);
    while (choice >= order->weight_sums[i])
        i++;
    return &order->streams[i];
}

static int next_draw(struct loader_order *order, struct prx_loader_draw *out)
{
    PRX_TRY(prx_loader_stream_next(choose_stream(order), out));
    order->n_drawn++;
    return 0;
}

int prx_loader_order_next(struct loader_order *order, struct prx_loader_draw *out)
{
    for (;;) {
        struct prx_loader_draw draw;
        PRX_TRY(next_draw(order, &draw));
        size_t shape_id = prx_loader_shape_id(order->catalog, draw.sample);
        order->pending[shape_id][order->n_pending[shape_id]++] = draw;
        if (order->n_pending[shape_id] == order->n_batch) {
            memcpy(out, order->pending[shape_id], order->n_batch * sizeof(*out));
            order->n_pending[shape_id] = 0;
            return 0;
        }
    }
}

int prx_loader_order_skip(struct loader_order *order, uint64_t k)
{
    struct prx_loader_draw *draws;
    uint64_t n_draws;
    int rc = 0;

    if (__builtin_mul_overflow(k, (uint64_t)order->n_batch, &n_draws))
        return prx_err(PRX_EINVAL, "batch %llu is too far", (unsigned long long)k);
    if (order->catalog->n_sets == 1 && order->catalog->n_shapes == 1) {
        order->n_drawn = n_draws;
        return prx_loader_stream_skip(order->streams, n_draws);
    }
    /* Replaying draws costs some nanoseconds a sample, and cannot be wrong. */
    draws = calloc(order->n_batch, sizeof(*draws));
    if (!draws)
        return prx_err_nomem("the order of samples");
    for (uint64_t i = 0; i < k && rc == 0; i++)
        rc = prx_loader_order_next(order, draws);
    free(draws);
    return rc;
}

/* --- quality -------------------------------------------------------------------- */

static int compare_u32(const void *a, const void *b)
{
    uint32_t x = *(const uint32_t *)a, y = *(const uint32_t *)b;
    return x < y ? -1 : x > y;
}

/* The shard of @i_sample, by bisection. */
static uint32_t shard_of(const struct loader_catalog *catalog, uint32_t i_sample)
{
    size_t i_low = 0, i_high = catalog->n_shards;

    while (i_high - i_low > 1) {
        size_t i = i_low + (i_high - i_low) / 2;
        if (catalog->shards[i].first_sample <= i_sample)
            i_low = i;
        else
            i_high = i;
    }
    return (uint32_t)i_low;
}

/* How many different shards @n draws from all samples would be of, on average. */
static double expect_shards(const struct loader_catalog *catalog, size_t n)
{
    double n_samples = catalog->n_samples, sum = 0;

    for (size_t i = 0; i < catalog->n_shards; i++) {
        double others = n_samples - catalog->shards[i].n_samples, none = 1;
        for (size_t k = 0; k < n && none > 0; k++)
            none *= others > (double)k ? (others - (double)k) / (n_samples - (double)k)
                                       : 0;
        sum += 1 - none;
    }
    return sum;
}

/* The number of different shards in @n_batches batches, one after another. */
static int count_shards(struct loader_order *order, uint64_t n_batches, double *out)
{
    size_t n_batch = order->n_batch;
    struct prx_loader_draw *draws = calloc(n_batch, sizeof(*draws));
    uint32_t *shards = calloc(n_batch, sizeof(*shards));
    int rc = draws && shards ? 0 : prx_err_nomem("the order of samples");

    *out = 0;
    for (uint64_t k = 0; rc == 0 && k < n_batches; k++) {
        rc = prx_loader_order_next(order, draws);
        for (size_t i = 0; i < n_batch; i++)
            shards[i] = shard_of(order->catalog, draws[i].sample);
        qsort(shards, n_batch, sizeof(*shards), compare_u32);
        for (size_t i = 0; i < n_batch; i++)
            *out += i == 0 || shards[i] != shards[i - 1];
    }
    free(draws);
    free(shards);
    return rc;
}

int prx_loader_order_quality(const struct loader_catalog *catalog,
                             const struct prx_loader_opts *opts, double *out)
{
    uint64_t n_draws =
        catalog->n_samples < N_QUALITY_DRAWS ? catalog->n_samples : N_QUALITY_DRAWS;
    uint64_t n_batches = n_draws / opts->n_batch;
    struct loader_order order;
    double n_shards;

    *out = 1;
    if (n_batches == 0 || (opts->n_window_samples == 0 && opts->n_window_bytes == 0))
        return 0;
    PRX_TRY(prx_loader_order_init(&order, catalog, opts));
    int rc = count_shards(&order, n_batches, &n_shards);
    prx_loader_order_release(&order);
    *out = n_shards / ((double)n_batches * expect_shards(catalog, opts->n_batch));
    return rc;
}
