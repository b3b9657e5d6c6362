/* SPDX-License-Identifier: Apache-2.0 */
/* Rotary positions: one sine and cosine per line of the grid, spread over it. */
#include "train/rope.h"

#include <math.h>

void prx_rope_table(int64_t n_rows, int64_t n_cols, const int64_t axes_dim[2],
                    double theta, float *out)
{
    const int64_t n_positions[2] = {n_rows, n_cols};
    const int64_t stride[2] = {n_cols, 1}; /* from a position to the next, in tokens */
    int64_t half = (axes_dim[0] + axes_dim[1]) / 2;

    for (int axis = 0; axis < 2; axis++) {
        int64_t i_first = axis == 0 ? 0 : axes_dim[0] / 2;
        for (int64_t j = 0; j < axes_dim[axis] / 2; j++) {
            double omega = pow(theta, -2.0 * (double)j / (double)axes_dim[axis]);
            for (int64_t pos = 0; pos < n_positions[axis]; pos++) {
                float c = (float)cos((double)pos * omega);
                float s = (float)sin((double)pos * omega);
                for (int64_t i = 0; i < n_positions[1 - axis]; i++) {
                    int64_t token = pos * stride[axis] + i * stride[1 - axis];
                    float *row = out + token * 2 * half;
                    row[i_first + j] = c;
                    row[half + i_first + j] = s;
                }
            }
        }
    }
}
