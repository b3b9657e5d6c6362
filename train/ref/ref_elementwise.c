/* SPDX-License-Identifier: Apache-2.0 */
/* Ops that treat each element alone: silu, sums, gated GELU, flow mixing. */
#include "train/ref/ref_internal.h"

#include <math.h>

int prx_ref_silu_fwd(prx_be *be, prx_t *y, prx_ct *x)
{
    int64_t n;
    (void)be;
    PRX_TRY(prx_match_elements(&n, "silu_fwd", y, x, NULL));

    for (int64_t i = 0; i < n; i++) {
        double v = ((const float *)x->data)[i];
        ((float *)y->data)[i] = (float)(v / (1.0 + exp(-v)));
    }
    return 0;
}

int prx_ref_silu_bwd(prx_be *be, prx_t *dx, bool add, prx_ct *dy, prx_ct *x)
{
    int64_t n;
    (void)be;
    PRX_TRY(prx_match_elements(&n, "silu_bwd", dx, dy, x));

    for (int64_t i = 0; i < n; i++) {
        double v = ((const float *)x->data)[i];
        double sigmoid = 1.0 / (1.0 + exp(-v));
        double slope = sigmoid * (1.0 + v * (1.0 - sigmoid));
        float *out = (float *)dx->data + i;
        double before = add ? *out : 0.0;
        *out = (float)(before + ((const float *)dy->data)[i] * slope);
    }
    return 0;
}

int prx_ref_add(prx_be *be, prx_t *y, prx_ct *a, prx_ct *b)
{
    int64_t n;
    (void)be;
    PRX_TRY(prx_match_elements(&n, "add", y, a, b));

    for (int64_t i = 0; i < n; i++)
        ((float *)y->data)[i] =
            ((const float *)a->data)[i] + ((const float *)b->data)[i];
    return 0;
}

int prx_ref_axpby(prx_be *be, prx_t *y, float alpha, prx_ct *x, float beta)
{
    int64_t n;
    (void)be;
    PRX_TRY(prx_match_elements(&n, "axpby", y, x, NULL));

    for (int64_t i = 0; i < n; i++) {
        float *out = (float *)y->data + i;
        double before = beta != 0 ? (double)beta * *out : 0.0;
        *out = (float)((double)alpha * ((const float *)x->data)[i] + before);
    }
    return 0;
}

int prx_ref_cast(prx_be *be, prx_t *y, prx_ct *x)
{
    int64_t n;
    (void)be;
    PRX_TRY(prx_match_cast(&n, "cast", y, x));

    for (int64_t i = 0; i < n; i++)
        prx_ref_set(y, i, prx_ref_get(x, i));
    return 0;
}

#define SQRT_2_OVER_PI 0.79788456080286535588
#define GELU_CUBIC     0.044715

int prx_ref_gated_gelu_fwd(prx_be *be, prx_t *y, prx_ct *g, prx_ct *u)
{
    int64_t n;
    (void)be;
    PRX_TRY(prx_match_elements(&n, "gated_gelu_fwd", y, g, u));

    for (int64_t i = 0; i < n; i++) {
        double v = ((const float *)g->data)[i];
        double t = tanh(SQRT_2_OVER_PI * (v + GELU_CUBIC * v * v * v));
        ((float *)y->data)[i] =
            (float)(0.5 * v * (1.0 + t) * ((const float *)u->data)[i]);
    }
    return 0;
}

int prx_ref_gated_gelu_bwd(prx_be *be, prx_t *dg, prx_t *du, prx_ct *dy, prx_ct *g,
                           prx_ct *u)
{
    int64_t n;
    (void)be;
    PRX_TRY(prx_match_elements(&n, "gated_gelu_bwd", g, u, dy));
    PRX_TRY(prx_match_elements(&n, "gated_gelu_bwd", g, dg, du));

    for (int64_t i = 0; i < n; i++) {
        double v = ((const float *)g->data)[i];
        double gate = ((const float *)u->data)[i];
        double grad = ((const float *)dy->data)[i];
        double t = tanh(SQRT_2_OVER_PI * (v + GELU_CUBIC * v * v * v));
        double dt = (1.0 - t * t) * SQRT_2_OVER_PI * (1.0 + 3.0 * GELU_CUBIC * v * v);
        ((float *)du->data)[i] = (float)(grad * 0.5 * v * (1.0 + t));
        ((float *)dg->data)[i] = (float)(grad * gate * 0.5 * (1.0 + t + v * dt));
    }
    return 0;
}

int prx_ref_flow_mix(prx_be *be, prx_t *xt, prx_t *v, prx_ct *x0, prx_ct *noise,
                     prx_ct *t)
{
    struct prx_sample_dims d;
    bool wants_v = !prx_tensor_is_absent(v);
    (void)be;
    PRX_TRY(prx_match_samples(&d, "flow_mix", xt, x0, v, t));
    PRX_TRY(prx_match_samples(&d, "flow_mix", xt, noise, v, t));

    for (int64_t i = 0; i < d.B * d.n_each; i++) {
        double at = ((const float *)t->data)[i / d.n_each];
        double clean = ((const float *)x0->data)[i];
        double noisy = ((const float *)noise->data)[i];
        ((float *)xt->data)[i] = (float)((1.0 - at) * clean + at * noisy);
        if (wants_v)
            ((float *)v->data)[i] = (float)(noisy - clean);
    }
    return 0;
}

/* 1 / max(t, t_min) of the sample that element @i belongs to. */
static double over_t(const struct prx_sample_dims *d, prx_ct *t, float t_min, int64_t i)
{
    double at = ((const float *)t->data)[i / d->n_each];
    return 1.0 / (at > (double)t_min ? at : (double)t_min);
}

int prx_ref_x0_velocity_fwd(prx_be *be, prx_t *v, prx_ct *xt, prx_ct *x0, prx_ct *t,
                            float t_min)
{
    struct prx_sample_dims d;
    (void)be;
    PRX_TRY(prx_match_samples(&d, "x0_velocity_fwd", xt, x0, v, t));

    for (int64_t i = 0; i < d.B * d.n_each; i++) {
        double from = ((const float *)xt->data)[i];
        double gap = from - ((const float *)x0->data)[i];
        ((float *)v->data)[i] = (float)(gap * over_t(&d, t, t_min, i));
    }
    return 0;
}

int prx_ref_x0_velocity_bwd(prx_be *be, prx_t *dx0, bool add, prx_ct *dv, prx_ct *t,
                            float t_min)
{
    struct prx_sample_dims d;
    (void)be;
    PRX_TRY(prx_match_samples(&d, "x0_velocity_bwd", dv, dx0, NULL, t));

    for (int64_t i = 0; i < d.B * d.n_each; i++) {
        float *out = (float *)dx0->data + i;
        double before = add ? *out : 0.0;
        *out = (float)(before -
                       ((const float *)dv->data)[i] * over_t(&d, t, t_min, i));
    }
    return 0;
}
