/* SPDX-License-Identifier: Apache-2.0 */
/* Ops of token routing: some tokens of each sample, and back among the others. */
#include "train/ref/ref_internal.h"

int prx_ref_gather_tokens_fwd(prx_be *be, prx_t *y, prx_ct *x, prx_ct *idx)
{
    struct prx_gather_dims d;
    const int32_t *token = idx->data;
    (void)be;
    PRX_TRY(prx_match_gather(&d, "gather_tokens_fwd", y, x, idx));
    PRX_TRY(prx_match_indices("gather_tokens_fwd", token, d.B * d.M, d.N));

    for (int64_t r = 0; r < d.B * d.M; r++) {
        const float *row =
            (const float *)x->data + r / d.M * d.x_stride + token[r] * d.X;
        for (int64_t i = 0; i < d.X; i++)
            ((float *)y->data)[r * d.X + i] = row[i];
    }
    return 0;
}

int prx_ref_gather_tokens_bwd(prx_be *be, prx_t *dx, bool add, prx_ct *dy, prx_ct *idx)
{
    struct prx_merge_dims d;
    const int32_t *token = idx->data;
    (void)be;
    PRX_TRY(prx_match_merge(&d, "gather_tokens_bwd", dx, dy, idx, NULL));
    PRX_TRY(prx_match_indices("gather_tokens_bwd", token, d.B * d.M, d.N));

    for (int64_t i = 0; !add && i < d.B * d.N * d.X; i++)
        ((float *)dx->data)[i] = 0.0f;
    for (int64_t r = 0; r < d.B * d.M; r++) {
        float *row = (float *)dx->data + (r / d.M * d.N + token[r]) * d.X;
        for (int64_t i = 0; i < d.X; i++)
            row[i] += ((const float *)dy->data)[r * d.X + i];
    }
    return 0;
}

int prx_ref_merge_tokens_fwd(prx_be *be, prx_t *y, prx_ct *x, prx_ct *idx, prx_ct *rest)
{
    struct prx_merge_dims d;
    const int32_t *token = idx->data;
    (void)be;
    PRX_TRY(prx_match_merge(&d, "merge_tokens_fwd", y, x, idx, rest));
    PRX_TRY(prx_match_indices("merge_tokens_fwd", token, d.B * d.M, d.N));

    for (int64_t i = 0; i < d.B * d.N * d.X; i++)
        ((float *)y->data)[i] =
            ((const float *)rest->data)[d.is_shared ? i % d.X : i];
    for (int64_t r = 0; r < d.B * d.M; r++) {
        float *row = (float *)y->data + (r / d.M * d.N + token[r]) * d.X;
        for (int64_t i = 0; i < d.X; i++)
            row[i] = ((const float *)x->data)[r * d.X + i];
    }
    return 0;
}

static bool is_listed(const int32_t *tokens, int64_t n_tokens, int64_t token)
{
    for (int64_t m = 0; m < n_tokens; m++)
        if (tokens[m] == token)
            return true;
    return false;
}

int prx_ref_merge_tokens_bwd(prx_be *be, prx_t *dx, prx_t *drest, bool add, prx_ct *dy,
                             prx_ct *idx)
{
    struct prx_merge_dims d;
    const int32_t *token = idx->data;
    const float *grad = dy->data;
    (void)be;
    PRX_TRY(prx_match_merge(&d, "merge_tokens_bwd", dy, dx, idx, drest));
    PRX_TRY(prx_match_indices("merge_tokens_bwd", token, d.B * d.M, d.N));

    for (int64_t r = 0; !prx_tensor_is_absent(dx) && r < d.B * d.M; r++)
        for (int64_t i = 0; i < d.X; i++)
            ((float *)dx->data)[r * d.X + i] =
                grad[(r / d.M * d.N + token[r]) * d.X + i];
    for (int64_t r = 0; !prx_tensor_is_absent(drest) && r < d.B * d.N; r++) {
        bool is_other = !is_listed(token + r / d.N * d.M, d.M, r % d.N);
        float *row = (float *)drest->data + (d.is_shared ? 0 : r * d.X);
        for (int64_t i = 0; i < d.X; i++) {
            float before = add || d.is_shared ? row[i] : 0.0f;
            row[i] = before + (is_other ? grad[r * d.X + i] : 0.0f);
        }
    }
    return 0;
}
