/* SPDX-License-Identifier: Apache-2.0 */
/*
 * Which sample comes when: permutations end to end, dealt into batches by shape.
 *
 * Invariant: after any number of batches, every sample of the epochs begun so far
 * has been given out or waits in pending, once for each of those epochs.
 */
#include "libdata/loader/loader_internal.h"

#include <stdlib.h>
#include <string.h>

#include "libdata/rng.h"

#define N_EPOCHS_MAX (1u << 24) /* what a Philox counter has room for */

/* Fisher and Yates' shuffle by one stream of draws. */
static void permute(struct loader_order *order)
{
    struct prx_rng rng;
    uint32_t n = order->index->n_samples;

    for (uint32_t i = 0; i < n; i++)
        order->permutation[i] = i;
    if (!order->shuffle)
        return;
    prx_rng_init(&rng, order->seed, PRX_RNG_SHUFFLE, order->epoch, 0);
    for (uint32_t i = n; i > 1; i--) {
        uint32_t j = (uint32_t)prx_rng_below(&rng, i);
        uint32_t swap = order->permutation[i - 1];
        order->permutation[i - 1] = order->permutation[j];
        order->permutation[j] = swap;
    }
}

int prx_loader_order_init(struct loader_order *order, const struct loader_index *index,
                          uint64_t seed, size_t n_batch, bool shuffle)
{
    *order = (struct loader_order){
        .index = index,
        .seed = seed,
        .n_batch = n_batch,
        .shuffle = shuffle,
        .permutation = calloc(index->n_samples, sizeof(*order->permutation)),
        .pending = calloc(index->n_shapes, sizeof(*order->pending)),
        .n_pending = calloc(index->n_shapes, sizeof(*order->n_pending)),
    };
    bool is_whole = order->permutation && order->pending && order->n_pending;
    for (size_t i = 0; is_whole && i < index->n_shapes; i++) {
        order->pending[i] = calloc(n_batch, sizeof(*order->pending[i]));
        is_whole = order->pending[i];
    }
    if (!is_whole) {
        prx_loader_order_release(order);
        return prx_err_nomem("the order of samples");
    }
    permute(order);
    return 0;
}

void prx_loader_order_release(struct loader_order *order)
{
    for (size_t i = 0; order->pending && i < order->index->n_shapes; i++)
        free(order->pending[i]);
    free(order->pending);
    free(order->n_pending);
    free(order->permutation);
    *order = (struct loader_order){0};
}

static int next_draw(struct loader_order *order, struct prx_loader_draw *out)
{
    if (order->i_next == order->index->n_samples) {
        if (order->epoch + 1 == N_EPOCHS_MAX)
            return prx_err(PRX_EINVAL, "more than %u epochs", N_EPOCHS_MAX);
        order->epoch++;
        order->i_next = 0;
        permute(order);
    }
    *out = (struct prx_loader_draw){order->permutation[order->i_next++], order->epoch};
    return 0;
}

int prx_loader_order_next(struct loader_order *order, struct prx_loader_draw *out)
{
    for (;;) {
        struct prx_loader_draw draw;
        PRX_TRY(next_draw(order, &draw));
        uint32_t shape_id = order->index->shape_ids[draw.sample];
        order->pending[shape_id][order->n_pending[shape_id]++] = draw;
        if (order->n_pending[shape_id] == order->n_batch) {
            memcpy(out, order->pending[shape_id], order->n_batch * sizeof(*out));
            order->n_pending[shape_id] = 0;
            return 0;
        }
    }
}
