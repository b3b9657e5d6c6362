/* SPDX-License-Identifier: Apache-2.0 */
/* Which caption a draw gets: a pure function of the seed, the draw and the batch. */
#include "libdata/loader/loader_internal.h"

/* The weights in force at batch @k. */
static const double *find_weights(const struct prx_loader_opts *opts, uint64_t k)
{
    size_t i = opts->n_phases - 1;

    while (i > 0 && opts->phases[i].first_batch > k)
        i--;
    return opts->phases[i].weights;
}

static int choose(const struct prx_loader_opts *opts, uint64_t k, double choice)
{
    const double *weights = find_weights(opts, k);
    double sum = 0;
    int i_last = 0;

    for (size_t i = 0; i < opts->n_captions; i++)
        sum += weights[i];
    for (size_t i = 0; i < opts->n_captions; i++) {
        if (weights[i] <= 0)
            continue;
        i_last = (int)i;
        if (choice * sum < weights[i])
            return i_last;
        choice -= weights[i] / sum;
    }
    return i_last; /* rounding may leave a crumb behind it */
}

int prx_loader_caption(const struct prx_loader_opts *opts,
                       const struct loader_layout *layout,
                       const struct loader_reading *reading, uint64_t k,
                       bool *is_fallback)
{
    const struct loader_place *places = reading->places + layout->i_captions;
    const struct prx_loader_draw *draw = reading->draw;
    struct prx_rng rng;

    /* Both draws are taken always, so that neither shifts the other. */
    prx_rng_init(&rng, opts->seed, PRX_RNG_CAPTION, draw->epoch, draw->id);
    double for_dropout = (double)prx_rng_uniform(&rng);
    double for_choice = (double)prx_rng_uniform(&rng);
    *is_fallback = false;
    if (for_dropout < opts->caption_dropout)
        return LOADER_NULL_CAPTION;
    int caption = choose(opts, k, for_choice);
    if (places[caption].i_path != LOADER_ABSENT)
        return caption;
    *is_fallback = true;
    for (caption = 0; places[caption].i_path == LOADER_ABSENT;)
        caption++; /* every sample has one */
    return caption;
}
