/* SPDX-License-Identifier: Apache-2.0 */
/* Routes are drawn by sorting: a uniform number for each token, the smallest go. */
#include "train/route.h"

#include <math.h>
#include <stdlib.h>

int64_t prx_route_n_visible(int64_t n_tokens, double share)
{
    double n_routed = rint((double)n_tokens * share); /* halves to even */

    if (n_tokens < 2)
        return n_tokens;
    if (n_routed < 1)
        n_routed = 1;
    if (n_routed > (double)(n_tokens - 1))
        n_routed = (double)(n_tokens - 1);
    return n_tokens - (int64_t)n_routed;
}

struct ticket {
    float number;
    int32_t token;
};

static int by_number(const void *a, const void *b)
{
    const struct ticket *x = a, *y = b;

    if (x->number != y->number)
        return x->number < y->number ? -1 : 1;
    return (x->token > y->token) - (x->token < y->token);
}

static int by_token(const void *a, const void *b)
{
    int32_t x = *(const int32_t *)a, y = *(const int32_t *)b;
    return (x > y) - (x < y);
}

int prx_route_draw(struct prx_rng *rng, int64_t n_tokens, double share, int32_t *out)
{
    int64_t n_visible = prx_route_n_visible(n_tokens, share);
    int64_t n_routed = n_tokens - n_visible;
    struct ticket *tickets = malloc(((size_t)n_tokens + 1) * sizeof(*tickets));

    if (!tickets)
        return prx_err_nomem("a route");
    for (int64_t i = 0; i < n_tokens; i++)
        tickets[i] = (struct ticket){prx_rng_uniform(rng), (int32_t)i};
    qsort(tickets, (size_t)n_tokens, sizeof(*tickets), by_number);
    for (int64_t i = 0; i < n_visible; i++)
        out[i] = tickets[n_routed + i].token;
    qsort(out, (size_t)n_visible, sizeof(*out), by_token);
    free(tickets);
    return 0;
}
