/* SPDX-License-Identifier: Apache-2.0 */
/* Linear maps, weight [out, in]. */
#include "train/ref/ref_internal.h"

int prx_ref_linear_fwd(prx_be *be, prx_t *y, prx_ct *x, prx_ct *w, prx_ct *b)
{
    struct prx_linear_dims d;
    (void)be;
    PRX_TRY(prx_match_linear(&d, "linear_fwd", y, x, w, b));
    const float *bias = prx_tensor_is_absent(b) ? NULL : b->data;

    for (int64_t r = 0; r < d.R; r++) {
        const float *x_row = (const float *)x->data + r * d.I;
        float *y_row = (float *)y->data + r * d.O;
        for (int64_t o = 0; o < d.O; o++) {
            const float *w_row = (const float *)w->data + o * d.I;
            double sum = bias ? bias[o] : 0.0;
            for (int64_t i = 0; i < d.I; i++)
                sum += (double)x_row[i] * w_row[i];
            y_row[o] = (float)sum;
        }
    }
    return 0;
}

/* dx[r] (+)= sum_o dy[r, o] w[o] */
static void linear_bwd_input(const struct prx_linear_dims *d, float *dx, bool add,
                             const float *dy, const float *w)
{
    for (int64_t r = 0; r < d->R; r++) {
        for (int64_t i = 0; i < d->I; i++) {
            double sum = add ? dx[r * d->I + i] : 0.0;
            for (int64_t o = 0; o < d->O; o++)
                sum += (double)dy[r * d->O + o] * w[o * d->I + i];
            dx[r * d->I + i] = (float)sum;
        }
    }
}

/* dw[o] += sum_r dy[r, o] x[r] */
static void linear_bwd_weight(const struct prx_linear_dims *d, float *dw,
                              const float *dy, const float *x)
{
    for (int64_t o = 0; o < d->O; o++) {
        for (int64_t i = 0; i < d->I; i++) {
            double sum = dw[o * d->I + i];
            for (int64_t r = 0; r < d->R; r++)
                sum += (double)dy[r * d->O + o] * x[r * d->I + i];
            dw[o * d->I + i] = (float)sum;
        }
    }
}

/* db += sum_r dy[r] */
static void linear_bwd_bias(const struct prx_linear_dims *d, float *db, const float *dy)
{
    for (int64_t o = 0; o < d->O; o++) {
        double sum = db[o];
        for (int64_t r = 0; r < d->R; r++)
            sum += dy[r * d->O + o];
        db[o] = (float)sum;
    }
}

int prx_ref_linear_bwd(prx_be *be, prx_t *dx, bool add, prx_t *dw, prx_t *db,
                       prx_ct *dy, prx_ct *x, prx_ct *w)
{
    struct prx_linear_dims d;
    (void)be;
    PRX_TRY(prx_match_linear(&d, "linear_bwd", dy, x, w, NULL));
    PRX_TRY(prx_match_linear_grad(&d, "linear_bwd", dx, dw, db));

    if (!prx_tensor_is_absent(dx))
        linear_bwd_input(&d, dx->data, add, dy->data, w->data);
    if (!prx_tensor_is_absent(dw))
        linear_bwd_weight(&d, dw->data, dy->data, x->data);
    if (!prx_tensor_is_absent(db))
        linear_bwd_bias(&d, db->data, dy->data);
    return 0;
}
