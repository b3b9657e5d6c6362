/* SPDX-License-Identifier: Apache-2.0 */
/*
 * route.h - which tokens of a sample a route's blocks see.
 *
 * Source: PRX prx/algorithm/tread.py; Krause et al. 2025, arXiv:2501.04765.  The
 * reference draws anew for each batch; here each sample draws from its own stream, so
 * that it sees the same tokens in any batch.
 */
#ifndef PRX_TRAIN_ROUTE_H
#define PRX_TRAIN_ROUTE_H

#include "libdata/err.h"
#include "libdata/rng.h"

#ifdef __cplusplus
extern "C" {
#endif

/**
 * prx_route_n_visible - how many of @n_tokens a route leaves visible.
 *
 * All but round(n_tokens @share), halves to even, of which there is at least one, and
 * which are never all; the one token of a sample that has but one is visible.
 */
int64_t prx_route_n_visible(int64_t n_tokens, double share);

/**
 * prx_route_draw - the visible tokens of one sample, ascending, into @out
 *                  [prx_route_n_visible()].
 *
 * A token is routed around where its number of n_tokens uniform ones is among the
 * smallest; of equal numbers the earlier token's is the smaller.
 * Errors: PRX_ENOMEM.
 */
PRX_MUST_USE int prx_route_draw(struct prx_rng *rng, int64_t n_tokens, double share,
                                int32_t *out);

#ifdef __cplusplus
}
#endif
#endif
