/* SPDX-License-Identifier: Apache-2.0 */
/*
 * The register tile under every matrix product, for *_simd.c files only.
 *
 *     c[i, :] (+)= sum_k a(i, k) b[k, :],   i < n_rows <= TILE_ROWS, TILE_COLS columns
 *
 * One element of a is spread over a vector and meets two vectors of b; the sums
 * stay in registers.  The two families differ in how a lies in memory: "down" has
 * the rows of one k side by side (a packed panel), "across" has the k of one row
 * side by side (plain row-major).  Rows of b must be readable to TILE_COLS.
 */
#ifndef PRX_TRAIN_CPU_TILE_INTERNAL_H
#define PRX_TRAIN_CPU_TILE_INTERNAL_H

#include <stdbool.h>

#include "train/cpu/vector_internal.h"

#define TILE_COLS (2 * LANES)
#if LANES == 16
# define TILE_ROWS        12
# define FOR_EACH_TILE(X) X(1) X(2) X(3) X(4) X(5) X(6) X(7) X(8) X(9) X(10) X(11) X(12)
#else
# define TILE_ROWS        6
# define FOR_EACH_TILE(X) X(1) X(2) X(3) X(4) X(5) X(6)
#endif

/* What becomes of the old c. */
enum tile_mode { TILE_SET,
                 TILE_ADD };

struct tile_args {
    int64_t n_k;
    const float *a;
    int64_t a_stride; /* down: from k to k + 1; across: from row to row */
    const float *b;
    int64_t b_stride; /* from k to k + 1 */
    float *c;
    int64_t c_stride;
    int64_t n_cols; /* 1 .. TILE_COLS columns of c are written */
    enum tile_mode mode;
    vf first[2]; /* what every row's sum begins with: zero, or a bias */
};

typedef void (*tile_fn)(const struct tile_args *t);

INLINE void tile_store_part(const struct tile_args *t, const int i, const vf *sum)
{
    float *c = t->c + i * t->c_stride, row[TILE_COLS];
    v_store(row, sum[0]);
    v_store(row + LANES, sum[1]);
    for (int64_t j = 0; j < t->n_cols; j++)
        c[j] = t->mode == TILE_ADD ? c[j] + row[j] : row[j];
}

INLINE void tile_store(const struct tile_args *t, const int n_rows, vf (*sum)[2])
{
    if (t->n_cols < TILE_COLS) {
#pragma GCC unroll 12
        for (int i = 0; i < n_rows; i++)
            tile_store_part(t, i, sum[i]);
        return;
    }
    float *c = t->c;
    if (t->mode == TILE_ADD) {
#pragma GCC unroll 12
        for (int i = 0; i < n_rows; i++, c += t->c_stride) {
            v_store(c, v_load(c) + sum[i][0]);
            v_store(c + LANES, v_load(c + LANES) + sum[i][1]);
        }
        return;
    }
#pragma GCC unroll 12
    for (int i = 0; i < n_rows; i++, c += t->c_stride) {
        v_store(c, sum[i][0]);
        v_store(c + LANES, sum[i][1]);
    }
}

INLINE void tile_down(const struct tile_args *t, const int n_rows)
{
    vf sum[TILE_ROWS][2];
    const float *a = t->a, *b = t->b;

#pragma GCC unroll 12
    for (int i = 0; i < n_rows; i++) {
        sum[i][0] = t->first[0];
        sum[i][1] = t->first[1];
    }
    for (int64_t k = 0; k < t->n_k; k++, a += t->a_stride, b += t->b_stride) {
        vf b0 = v_load(b), b1 = v_load(b + LANES);
#pragma GCC unroll 12
        for (int i = 0; i < n_rows; i++) {
            sum[i][0] += a[i] * b0;
            sum[i][1] += a[i] * b1;
        }
    }
    tile_store(t, n_rows, sum);
}

INLINE void tile_across(const struct tile_args *t, const int n_rows)
{
    vf sum[TILE_ROWS][2];
    const float *a = t->a, *b = t->b;

#pragma GCC unroll 12
    for (int i = 0; i < n_rows; i++) {
        sum[i][0] = t->first[0];
        sum[i][1] = t->first[1];
    }
    for (int64_t k = 0; k < t->n_k; k++, a++, b += t->b_stride) {
        vf b0 = v_load(b), b1 = v_load(b + LANES);
#pragma GCC unroll 12
        for (int i = 0; i < n_rows; i++) {
            sum[i][0] += a[i * t->a_stride] * b0;
            sum[i][1] += a[i * t->a_stride] * b1;
        }
    }
    tile_store(t, n_rows, sum);
}

#define TILE_FUNCTIONS(n)                               \
 static void tile_down_##n(const struct tile_args *t)   \
 {                                                      \
  tile_down(t, n);                                      \
 }                                                      \
 static void tile_across_##n(const struct tile_args *t) \
 {                                                      \
  tile_across(t, n);                                    \
 }
FOR_EACH_TILE(TILE_FUNCTIONS)

#define TILE_DOWN_SLOT(n)   tile_down_##n,
#define TILE_ACROSS_SLOT(n) tile_across_##n,
/* Indexed by the number of rows, less one. */
static const tile_fn tiles_down[TILE_ROWS] = {FOR_EACH_TILE(TILE_DOWN_SLOT)};
static const tile_fn tiles_across[TILE_ROWS] = {FOR_EACH_TILE(TILE_ACROSS_SLOT)};

#endif
