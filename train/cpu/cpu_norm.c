/* SPDX-License-Identifier: Apache-2.0 */
/*
 * Modulated layer norm and gated residual, rows shared out among threads.
 *
 * Gradients of shift, scale and gate are sums over a sample's rows.  Rows come in
 * spans of SPAN_ROWS with a partial sum each, and the partial sums are added in
 * order, so that neither timing nor the number of threads shows in the result.
 */
#include "train/cpu/cpu_internal.h"
#include "train/cpu/norm_internal.h"

#include <string.h>

#define SPAN_ROWS 64

static const struct prx_norm_kernels *kernels(void)
{
    return PRX_SIMD_PICK(prx_norm_kernels);
}

/* Block i_block of D columns in row b of mod [B, K*D]. */
static float *mod_block(prx_ct *mod, int64_t b, int i_block, int64_t D)
{
    return (float *)mod->data + b * mod->dims[1] + i_block * D;
}

static float *row(prx_ct *tensor, int64_t r, int64_t D)
{
    return (float *)tensor->data + r * D;
}

static int64_t n_spans(const struct prx_modulate_dims *d)
{
    return (d->N + SPAN_ROWS - 1) / SPAN_ROWS;
}

/* Rows of span i_span of its sample. */
static int64_t span_rows(const struct prx_modulate_dims *d, int64_t i_span)
{
    int64_t n_left = d->N - i_span * SPAN_ROWS;
    return n_left < SPAN_ROWS ? n_left : SPAN_ROWS;
}

/* out = the sum of one sample's partial sums, @stride floats apart. */
static void sum_spans(float *out, const float *partial, int64_t stride, int64_t n,
                      int64_t D)
{
    memset(out, 0, (size_t)D * sizeof(float));
    for (int64_t i = 0; i < n; i++)
        kernels()->accumulate(out, partial + i * stride, D);
}

int prx_cpu_ln_modulate_fwd(prx_be *be, prx_t *y, prx_t *mean, prx_t *rstd, prx_ct *x,
                            prx_ct *mod, int i_shift, int i_scale, float eps)
{
    struct prx_modulate_dims d;
    PRX_TRY(prx_match_modulate(&d, "ln_modulate_fwd", x, y, mod, i_shift));
    PRX_TRY(prx_match_modulate(&d, "ln_modulate_fwd", x, y, mod, i_scale));
    PRX_TRY(prx_match_row_stats(&d, "ln_modulate_fwd", mean, rstd));
    int n_team = prx_cpu_team(be, prx_cpu_n_runs(d.B * d.N * d.D));

#pragma omp parallel for schedule(static) num_threads(n_team)
    for (int64_t r = 0; r < d.B * d.N; r++)
        kernels()->ln_fwd(row(y, r, d.D), row(mean, r, 1), row(rstd, r, 1),
                          row(x, r, d.D), mod_block(mod, r / d.N, i_shift, d.D),
                          mod_block(mod, r / d.N, i_scale, d.D), d.D, eps);
    return 0;
}

int prx_cpu_ln_modulate_bwd(prx_be *be, prx_t *dx, bool add, prx_t *dmod, prx_ct *dy,
                            prx_ct *x, prx_ct *mean, prx_ct *rstd, prx_ct *mod,
                            int i_shift, int i_scale)
{
    struct prx_modulate_dims d;
    float *partial = NULL; /* [B][n_spans][2][D] */
    PRX_TRY(prx_match_modulate(&d, "ln_modulate_bwd", x, dx, mod, i_shift));
    PRX_TRY(prx_match_modulate(&d, "ln_modulate_bwd", x, dy, dmod, i_scale));
    PRX_TRY(prx_match_row_stats(&d, "ln_modulate_bwd", mean, rstd));
    PRX_TRY(prx_cpu_scratch(be, d.B * n_spans(&d) * 2 * d.D, &partial));
    int64_t n_each = n_spans(&d), D = d.D;
    int n_team = prx_cpu_team(be, prx_cpu_n_runs(d.B * d.N * D));

#pragma omp parallel num_threads(n_team)
    {
#pragma omp for schedule(static)
        for (int64_t i = 0; i < d.B * n_each; i++) {
            int64_t b = i / n_each, first = b * d.N + i % n_each * SPAN_ROWS;
            float *sums = partial + i * 2 * D;
            memset(sums, 0, (size_t)(2 * D) * sizeof(float));
            for (int64_t r = first; r < first + span_rows(&d, i % n_each); r++)
                kernels()->ln_bwd(row(dx, r, D), add, sums, sums + D, row(dy, r, D),
                                  row(x, r, D), mod_block(mod, b, i_scale, D),
                                  *row(mean, r, 1), *row(rstd, r, 1), D);
        }
#pragma omp for schedule(static)
        for (int64_t b = 0; b < d.B; b++) {
            const float *sums = partial + b * n_each * 2 * D;
            sum_spans(mod_block(dmod, b, i_shift, D), sums, 2 * D, n_each, D);
            sum_spans(mod_block(dmod, b, i_scale, D), sums + D, 2 * D, n_each, D);
        }
    }
    return 0;
}

int prx_cpu_gate_residual_fwd(prx_be *be, prx_t *y, prx_ct *h, prx_ct *x, prx_ct *mod,
                              int i_gate)
{
    struct prx_modulate_dims d;
    PRX_TRY(prx_match_modulate(&d, "gate_residual_fwd", x, y, mod, i_gate));
    PRX_TRY(prx_match_modulate(&d, "gate_residual_fwd", x, h, mod, i_gate));
    int n_team = prx_cpu_team(be, prx_cpu_n_runs(d.B * d.N * d.D));

#pragma omp parallel for schedule(static) num_threads(n_team)
    for (int64_t r = 0; r < d.B * d.N; r++)
        kernels()->gate_fwd(row(y, r, d.D), row(h, r, d.D), row(x, r, d.D),
                            mod_block(mod, r / d.N, i_gate, d.D), d.D);
    return 0;
}

int prx_cpu_gate_residual_bwd(prx_be *be, prx_t *dx, prx_t *dmod, prx_ct *dy, prx_ct *x,
                              prx_ct *mod, int i_gate)
{
    struct prx_modulate_dims d;
    float *partial = NULL; /* [B][n_spans][D] */
    PRX_TRY(prx_match_modulate(&d, "gate_residual_bwd", x, dx, mod, i_gate));
    PRX_TRY(prx_match_modulate(&d, "gate_residual_bwd", x, dy, dmod, i_gate));
    PRX_TRY(prx_cpu_scratch(be, d.B * n_spans(&d) * d.D, &partial));
    int64_t n_each = n_spans(&d), D = d.D;
    int n_team = prx_cpu_team(be, prx_cpu_n_runs(d.B * d.N * D));

#pragma omp parallel num_threads(n_team)
    {
#pragma omp for schedule(static)
        for (int64_t i = 0; i < d.B * n_each; i++) {
            int64_t b = i / n_each, first = b * d.N + i % n_each * SPAN_ROWS;
            memset(partial + i * D, 0, (size_t)D * sizeof(float));
            for (int64_t r = first; r < first + span_rows(&d, i % n_each); r++)
                kernels()->gate_bwd(row(dx, r, D), partial + i * D, row(dy, r, D),
                                    row(x, r, D), mod_block(mod, b, i_gate, D), D);
        }
#pragma omp for schedule(static)
        for (int64_t b = 0; b < d.B; b++)
            sum_spans(mod_block(dmod, b, i_gate, D), partial + b * n_each * D, D,
                      n_each, D);
    }
    return 0;
}
