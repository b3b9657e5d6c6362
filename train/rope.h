/* SPDX-License-Identifier: Apache-2.0 */
/*
 * rope.h - rotary positions of a grid of tokens (Su et al. 2021, arXiv:2104.09864).
 */
#ifndef PRX_TRAIN_ROPE_H
#define PRX_TRAIN_ROPE_H

#include <stdint.h>

#ifdef __cplusplus
extern "C" {
#endif

/**
 * prx_rope_table - cosines and sines of every token of a row-major grid.
 *
 * Axis 0 is the row, axis 1 the column; axis k owns @axes_dim[k]/2 angles of each
 * token, position * theta^(-2j/axes_dim[k]), in float64, row angles first.
 *
 * @axes_dim: both even; HD is their sum
 * @out:      [n_rows * n_cols, 2, HD/2]: cosines, then sines
 */
void prx_rope_table(int64_t n_rows, int64_t n_cols, const int64_t axes_dim[2],
                    double theta, float *out);

#ifdef __cplusplus
}
#endif
#endif
