/* SPDX-License-Identifier: Apache-2.0 */
/*
 * Ops of token routing: rows copied by number.
 *
 * Where the rows that are not named count, they are found by crossing off the others
 * in a list of all.
 */
#include "train/cpu/cpu_internal.h"

#include <string.h>

static void copy_row(float *to, const float *from, int64_t n)
{
    memcpy(to, from, (size_t)n * sizeof(float));
}

/* Threads worth waking to move @n_rows of @n floats. */
static int team_of(const prx_be *be, int64_t n_rows, int64_t n)
{
    return prx_cpu_team(be, prx_cpu_n_runs(n_rows * n));
}

int prx_cpu_gather_tokens_fwd(prx_be *be, prx_t *y, prx_ct *x, prx_ct *idx)
{
    struct prx_gather_dims d;
    const int32_t *token = idx->data;
    PRX_TRY(prx_match_gather(&d, "gather_tokens_fwd", y, x, idx));
    PRX_TRY(prx_match_indices("gather_tokens_fwd", token, d.B * d.M, d.N));

    int n_team = team_of(be, d.B * d.M, d.X);
#pragma omp parallel for schedule(static) num_threads(n_team)
    for (int64_t r = 0; r < d.B * d.M; r++)
        copy_row((float *)y->data + r * d.X,
                 (const float *)x->data + r / d.M * d.x_stride + token[r] * d.X, d.X);
    return 0;
}

int prx_cpu_gather_tokens_bwd(prx_be *be, prx_t *dx, bool add, prx_ct *dy, prx_ct *idx)
{
    struct prx_merge_dims d;
    const int32_t *token = idx->data;
    PRX_TRY(prx_match_merge(&d, "gather_tokens_bwd", dx, dy, idx, NULL));
    PRX_TRY(prx_match_indices("gather_tokens_bwd", token, d.B * d.M, d.N));

    if (!add)
        PRX_TRY(be->zero(be, dx->data, prx_tensor_bytes(dx)));
    int n_team = team_of(be, d.B * d.M, d.X);
#pragma omp parallel for schedule(static) num_threads(n_team)
    for (int64_t r = 0; r < d.B * d.M; r++) {
        float *row = (float *)dx->data + (r / d.M * d.N + token[r]) * d.X;
        const float *from = (const float *)dy->data + r * d.X;
        for (int64_t i = 0; i < d.X; i++)
            row[i] += from[i];
    }
    return 0;
}

/* One flag a row of [B, N]: whether idx leaves it out. */
static int find_others(prx_be *be, const struct prx_merge_dims *d, const int32_t *token,
                       const float **out)
{
    float *is_other = NULL;

    PRX_TRY(prx_cpu_scratch(be, d->B * d->N, &is_other));
    for (int64_t r = 0; r < d->B * d->N; r++)
        is_other[r] = 1.0F;
    for (int64_t r = 0; r < d->B * d->M; r++)
        is_other[r / d->M * d->N + token[r]] = 0.0F;
    *out = is_other;
    return 0;
}

int prx_cpu_merge_tokens_fwd(prx_be *be, prx_t *y, prx_ct *x, prx_ct *idx, prx_ct *rest)
{
    struct prx_merge_dims d;
    const int32_t *token = idx->data;
    const float *is_other = NULL;
    PRX_TRY(prx_match_merge(&d, "merge_tokens_fwd", y, x, idx, rest));
    PRX_TRY(prx_match_indices("merge_tokens_fwd", token, d.B * d.M, d.N));
    PRX_TRY(find_others(be, &d, token, &is_other));

    int n_team = team_of(be, d.B * d.N, d.X);
#pragma omp parallel num_threads(n_team)
    {
#pragma omp for schedule(static) nowait
        for (int64_t r = 0; r < d.B * d.N; r++)
            if (is_other[r] != 0.0F)
                copy_row((float *)y->data + r * d.X,
                         (const float *)rest->data + (d.is_shared ? 0 : r * d.X), d.X);
#pragma omp for schedule(static)
        for (int64_t r = 0; r < d.B * d.M; r++)
            copy_row((float *)y->data + (r / d.M * d.N + token[r]) * d.X,
                     (const float *)x->data + r * d.X, d.X);
    }
    return 0;
}

/* drest [B, N, X]: row for row. */
static void put_rest(const prx_be *be, const struct prx_merge_dims *d, float *drest,
                     bool add, const float *dy, const float *is_other)
{
    int n_team = team_of(be, d->B * d->N, d->X);

#pragma omp parallel for schedule(static) num_threads(n_team)
    for (int64_t r = 0; r < d->B * d->N; r++) {
        float *row = drest + r * d->X;
        const float *from = dy + r * d->X;
        if (is_other[r] == 0.0F) {
            if (!add)
                memset(row, 0, (size_t)d->X * sizeof(float));
        } else if (add) {
            for (int64_t i = 0; i < d->X; i++)
                row[i] += from[i];
        } else {
            copy_row(row, from, d->X);
        }
    }
}

/* drest [X]: columns are shared out in runs of whole cache lines; rows in order. */
#define REST_COLS 64

static void sum_rest(const prx_be *be, const struct prx_merge_dims *d, float *drest,
                     const float *dy, const float *is_other)
{
    int64_t n_runs = (d->X + REST_COLS - 1) / REST_COLS;
    int n_team = prx_cpu_team(be, n_runs);

#pragma omp parallel for schedule(static) num_threads(n_team)
    for (int64_t i = 0; i < n_runs; i++) {
        int64_t col = i * REST_COLS;
        int64_t n_cols = d->X - col < REST_COLS ? d->X - col : REST_COLS;
        float sum[REST_COLS] = {0};
        for (int64_t r = 0; r < d->B * d->N; r++)
            for (int64_t j = 0; is_other[r] != 0.0F && j < n_cols; j++)
                sum[j] += dy[r * d->X + col + j];
        for (int64_t j = 0; j < n_cols; j++)
            drest[col + j] += sum[j];
    }
}

int prx_cpu_merge_tokens_bwd(prx_be *be, prx_t *dx, prx_t *drest, bool add, prx_ct *dy,
                             prx_ct *idx)
{
    struct prx_merge_dims d;
    const int32_t *token = idx->data;
    const float *is_other = NULL;
    PRX_TRY(prx_match_merge(&d, "merge_tokens_bwd", dy, dx, idx, drest));
    PRX_TRY(prx_match_indices("merge_tokens_bwd", token, d.B * d.M, d.N));
    PRX_TRY(find_others(be, &d, token, &is_other));

    if (!prx_tensor_is_absent(dx)) {
        int n_team = team_of(be, d.B * d.M, d.X);
#pragma omp parallel for schedule(static) num_threads(n_team)
        for (int64_t r = 0; r < d.B * d.M; r++)
            copy_row((float *)dx->data + r * d.X,
                     (const float *)dy->data + (r / d.M * d.N + token[r]) * d.X, d.X);
    }
    if (prx_tensor_is_absent(drest))
        return 0;
    if (d.is_shared)
        sum_rest(be, &d, drest->data, dy->data, is_other);
    else
        put_rest(be, &d, drest->data, add, dy->data, is_other);
    return 0;
}
