/* SPDX-License-Identifier: Apache-2.0 */
/* The matrix product of the cpu backend, and its kernels' table. */
#ifndef PRX_TRAIN_CPU_GEMM_INTERNAL_H
#define PRX_TRAIN_CPU_GEMM_INTERNAL_H

#include "libdata/simd.h"
#include <stdbool.h>
#include <stdint.h>

#include "train/backend.h"

/*
 * c[i, j] (+)= bias[j] + sum_k a(i, k) b(k, j),  i < M, j < N, k < K.
 *
 * a(i, k) is at a[i * a_row + k * a_k], one of both steps being 1; b(k, j) at
 * b[k * b_k + j * b_col], likewise; c is row-major.
 */
struct prx_gemm {
    int64_t M, N, K;
    const float *a;
    int64_t a_row, a_k;
    const float *b;
    int64_t b_k, b_col;
    const float *bias; /* [N] or NULL; not with add */
    float *c;
    int64_t c_row;
    bool add;
};

/* Rows and packed panels of one product, over one block of k. */
struct prx_gemm_block {
    int64_t n_rows, n_cols, n_k;
    const float *a;
    int64_t a_row, a_k;
    const float *panels; /* of b: [n_panels][n_k][tile_cols] */
    const float *bias;   /* of the first column, or NULL */
    float *c;
    int64_t c_row;
    bool add;
    float *a_scratch; /* n_k * (n_rows rounded up to tiles, + 16) floats */
};

struct prx_gemm_kernels {
    int64_t tile_rows, tile_cols;
    /* Columns of b to a panel [n_k][tile_cols], zeros behind n_cols. */
    void (*pack)(float *panel, const float *b, int64_t b_k, int64_t b_col, int64_t n_k,
                 int64_t n_cols);
    void (*block)(const struct prx_gemm_block *block);
};

PRX_SIMD_DECLARE(struct prx_gemm_kernels, prx_gemm_kernels);

/** prx_cpu_gemm - run @gemm on @be's threads, by the fastest product there is. */
PRX_MUST_USE int prx_cpu_gemm(struct prx_backend *be, const struct prx_gemm *gemm);

/* The products behind it: M, N, K >= 1; only the suite's own takes a bias. */
PRX_MUST_USE int prx_cpu_gemm_blocks(struct prx_backend *be,
                                     const struct prx_gemm *gemm);
PRX_MUST_USE int prx_cpu_gemm_onednn(struct prx_backend *be,
                                     const struct prx_gemm *gemm);
PRX_MUST_USE int prx_cpu_gemm_cblas(struct prx_backend *be,
                                    const struct prx_gemm *gemm);

/* A library's view of a or b: as it lies or transposed, and the step between rows. */
struct prx_gemm_operand {
    bool plain;
    int64_t stride;
};

/* A lone row or column may come with steps of 1 both ways: libraries ask for more. */
static inline struct prx_gemm_operand prx_gemm_operand(int64_t step, int64_t inner_step,
                                                       int64_t n_inner)
{
    if (inner_step != 1)
        return (struct prx_gemm_operand){.plain = false, .stride = inner_step};
    return (struct prx_gemm_operand){.plain = true,
                                     .stride = step > n_inner ? step : n_inner};
}

#endif
