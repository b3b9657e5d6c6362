/* SPDX-License-Identifier: Apache-2.0 */
/* Ops over many tensors at once: sum of squares, AdamW, running averages. */
#include "train/ref/ref_internal.h"

#include <math.h>

int prx_ref_sumsq(prx_be *be, prx_t *out, const struct prx_tensor *tensors, size_t n)
{
    (void)be;
    PRX_TRY(prx_match_scalar("sumsq", out));
    PRX_TRY(prx_match_lists("sumsq", n, tensors, NULL));

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
        float *p = slots[i].p.data, *m = slots[i].m.data, *v = slots[i].v.data;
        const float *g = slots[i].g.data;
        for (int64_t j = 0; j < prx_tensor_count(&slots[i].p); j++) {
            double grad = args->grad_scale * g[j];
            double kept = p[j] * (1.0 - args->lr * args->weight_decay);
            double mean = args->beta1 * m[j] + (1.0 - args->beta1) * grad;
            double square = args->beta2 * v[j] + (1.0 - args->beta2) * grad * grad;
            double divisor = sqrt(square) / root + args->eps;
            m[j] = (float)mean;
            v[j] = (float)square;
            p[j] = (float)(mean == 0.0 ? kept : kept - rate * mean / divisor);
        }
    }
    return 0;
}

int prx_ref_lerp(prx_be *be, const struct prx_tensor *ys, const struct prx_tensor *xs,
                 size_t n, double weight)
{
    (void)be;
    PRX_TRY(prx_match_lists("lerp", n, ys, xs));

    for (size_t i = 0; i < n; i++) {
        float *y = ys[i].data;
        const float *x = xs[i].data;
        for (int64_t j = 0; j < prx_tensor_count(&ys[i]); j++)
            y[j] = (float)((1.0 - weight) * y[j] + weight * x[j]);
    }
    return 0;
}
