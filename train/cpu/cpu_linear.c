/* SPDX-License-Identifier: Apache-2.0 */
/* Linear maps: matrix products, and the bias's gradient. */
#include "train/cpu/cpu_internal.h"
#include "train/cpu/gemm_internal.h"

int prx_cpu_linear_fwd(prx_be *be, prx_t *y, prx_ct *x, prx_ct *w, prx_ct *b)
{
    struct prx_linear_dims d;
    PRX_TRY(prx_match_linear(&d, "linear_fwd", y, x, w, b));
    struct prx_gemm gemm = {
        .M = d.R,
        .N = d.O,
        .K = d.I,
        .a = x->data,
        .a_row = d.I,
        .a_k = 1,
        .b = w->data,
        .b_k = 1,
        .b_col = d.I,
        .bias = prx_tensor_is_absent(b) ? NULL : b->data,
        .c = y->data,
        .c_row = d.O,
    };
    return prx_cpu_gemm(be, &gemm);
}

/* Columns are shared out in runs of whole cache lines; rows run in order. */
#define BIAS_COLS 64

static void linear_bwd_bias(prx_be *be, const struct prx_linear_dims *d, float *db,
                            const float *dy)
{
    int64_t n_runs = (d->O + BIAS_COLS - 1) / BIAS_COLS;

#pragma omp parallel for schedule(static) num_threads(be->n_threads)
    for (int64_t i = 0; i < n_runs; i++) {
        int64_t col = i * BIAS_COLS;
        int64_t n_cols = d->O - col < BIAS_COLS ? d->O - col : BIAS_COLS;
        float sum[BIAS_COLS] = {0};
        for (int64_t r = 0; r < d->R; r++)
            for (int64_t j = 0; j < n_cols; j++)
                sum[j] += dy[r * d->O + col + j];
        for (int64_t j = 0; j < n_cols; j++)
            db[col + j] += sum[j];
    }
}

int prx_cpu_linear_bwd(prx_be *be, prx_t *dx, bool add, prx_t *dw, prx_t *db,
                       prx_ct *dy, prx_ct *x, prx_ct *w)
{
    struct prx_linear_dims d;
    PRX_TRY(prx_match_linear(&d, "linear_bwd", dy, x, w, NULL));
    PRX_TRY(prx_match_linear_grad(&d, "linear_bwd", dx, dw, db));

    if (!prx_tensor_is_absent(dx)) {
        struct prx_gemm gemm = {
            .M = d.R,
            .N = d.I,
            .K = d.O,
            .a = dy->data,
            .a_row = d.O,
            .a_k = 1,
            .b = w->data,
            .b_k = d.I,
            .b_col = 1,
            .c = dx->data,
            .c_row = d.I,
            .add = add,
        };
        PRX_TRY(prx_cpu_gemm(be, &gemm));
    }
    if (!prx_tensor_is_absent(dw)) {
        struct prx_gemm gemm = {
            .M = d.O,
            .N = d.I,
            .K = d.R,
            .a = dy->data,
            .a_row = 1,
            .a_k = d.O,
            .b = x->data,
            .b_k = d.I,
            .b_col = 1,
            .c = dw->data,
            .c_row = d.I,
            .add = true,
        };
        PRX_TRY(prx_cpu_gemm(be, &gemm));
    }
    if (!prx_tensor_is_absent(db))
        linear_bwd_bias(be, &d, db->data, dy->data);
    return 0;
}
