/* SPDX-License-Identifier: Apache-2.0 */
/* Ops over many tensors at once: sum of squares, AdamW, running averages. */
#include "train/ref/ref_internal.h"

#include <math.h>

int prx_ref_sumsq(prx_be *be, prx_t *out, const struct prx_tensor *tensors, size_t n)
{
    (void)be;
    PRX_TRY(prx_match_scalar("sumsq", out));
    PRX_TRY(prx_match_list("sumsq", n, tensors));

    double sum = *(const float *)out->data;
    for (size_t i = 0; i < n; i++) {
        const float *x = tensors[i].data;
        for (int64_t j = 0; j < prx_tensor_count(&tensors[i]); j++)
            sum += (double)x[j] * x[j];
    }
    *(float *)out->data = (float)sum;
    return 0;
}

int prx_ref_adamw(prx_be *be, const struct prx_adamw_slot *slots, size_t n,
                  const struct prx_adamw_args *args)
{
    (void)be;
    PRX_TRY(prx_match_adamw("adamw", n, slots));
    double rate = args->lr / (1.0 - pow(args->beta1, (double)args->step));
    double root = sqrt(1.0 - pow(args->beta2, (double)args->step));

    for (size_t i = 0; i < n; i++) {
        const struct prx_adamw_slot *s = &slots[i];
        const float *g = s->g.data;
        for (int64_t j = 0; j < prx_tensor_count(&s->p); j++) {
            double grad = args->grad_scale * g[j];
            double kept = prx_ref_get(&s->p, j) * (1.0 - args->lr * args->weight_decay);
            double mean =
                args->beta1 * prx_ref_get(&s->m, j) + (1.0 - args->beta1) * grad;
            double square =
                args->beta2 * prx_ref_get(&s->v, j) + (1.0 - args->beta2) * grad * grad;
            double divisor = sqrt(square) / root + args->eps;
            prx_ref_set(&s->m, j, mean);
            prx_ref_set(&s->v, j, square);
            prx_ref_set(&s->p, j,
                        mean == 0.0 ? kept : kept - rate * mean / divisor);
        }
    }
    return 0;
}

int prx_ref_lerp(prx_be *be, const struct prx_tensor *ys, const struct prx_tensor *xs,
                 size_t n, double weight)
{
    (void)be;
    PRX_TRY(prx_match_pairs("lerp", n, ys, xs));

    for (size_t i = 0; i < n; i++)
        for (int64_t j = 0; j < prx_tensor_count(&ys[i]); j++)
            prx_ref_set(&ys[i], j,
                        (1.0 - weight) * prx_ref_get(&ys[i], j) +
                            weight * prx_ref_get(&xs[i], j));
    return 0;
}
