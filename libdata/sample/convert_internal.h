/* SPDX-License-Identifier: Apache-2.0 */
/*
 * convert_internal.h - long arrays of one type become another, as fast as memory is.
 *
 * All levels give the same bits, but for those inside a NaN.
 */
#ifndef PRX_CONVERT_INTERNAL_H
#define PRX_CONVERT_INTERNAL_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

#include "libdata/simd.h"

struct prx_convert_kernels {
    /* @n float16 at @halves, at any address, to float32. */
    void (*f32_from_f16)(const uint8_t *halves, size_t n, float *out);
    /* Is each of @n words, at any address, without one of the bits of @mask at least?
     * Those of an exponent are all set in what is not finite. */
    bool (*lack_u16)(const uint8_t *words, size_t n, uint16_t mask);
    bool (*lack_u32)(const uint8_t *words, size_t n, uint32_t mask);
    /*
     * A row of @width RGB pixels to three planes' rows: level / 127.5 - 1.
     * @step: 1, or -1 to mirror it.
     */
    void (*planes)(const uint8_t *rgb, int width, int step, float *red, float *green,
                   float *blue);
};

PRX_SIMD_DECLARE(struct prx_convert_kernels, prx_convert_kernels);

#endif
