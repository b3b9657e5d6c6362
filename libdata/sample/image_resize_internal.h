/* SPDX-License-Identifier: Apache-2.0 */
/* What the resize (image_resize.c) asks of its kernels (image_resize_simd.c). */
#ifndef PRX_LIBDATA_SAMPLE_IMAGE_RESIZE_INTERNAL_H
#define PRX_LIBDATA_SAMPLE_IMAGE_RESIZE_INTERNAL_H

#include <stddef.h>
#include <stdint.h>

#include "libdata/image.h"
#include "libdata/simd.h"

#define PRX_RESIZE_WEIGHT_BITS 22
#define PRX_RESIZE_HALF_BITS   12

/* The columns kernel takes this many rows at a time, to load each weight once. */
#define PRX_RESIZE_N_ROWS 4

/* It takes taps by fours, and reads up to this many pixels behind the last of them. */
#define PRX_RESIZE_N_TAPS_STEP 4
#define PRX_RESIZE_N_PX_BEHIND 2

/*
 * One axis: output position o is the sum over j < n_taps[o] of
 * weights[o * stride + j] times input position first[o] + j.
 * Weights are of 22-bit fixed point, below 2^26 in size, and sum up to 2^22 or so;
 * up to the stride, a multiple of PRX_RESIZE_N_TAPS_STEP, they go on with zeros.
 * The halves are the same weights, as high * 2^12 + low: of every two taps first the
 * two high halves, then the two low ones.
 */
struct prx_resize_axis {
    enum prx_resample filter; /* what the table was made for; */
    int n_in, n_out;          /* n_out = 0 while it is for nothing */
    double from, to;
    size_t stride;
    int *first;       /* [n_out], never falling; owned */
    int *n_taps;      /* [n_out], owned */
    int32_t *weights; /* [n_out, stride], owned */
    int16_t *halves;  /* [n_out, stride / 2, 2, 2], owned */
    int n_inner;      /* outputs, from 0 on, where reading behind stays within n_in */
    size_t cap_out, cap_weights;
};

struct prx_resize_kernels {
    /*
     * Horizontal pass of PRX_RESIZE_N_ROWS rows of RGB pixels; the same row may be
     * given more than once.
     */
    void (*columns)(uint8_t *const dst[], const uint8_t *const src[],
                    const struct prx_resize_axis *axis);
    /* Vertical pass of one row of @n_bytes from the @n_taps rows of @window. */
    void (*rows)(uint8_t *dst, const uint8_t *const window[], const int32_t *weights,
                 int n_taps, size_t n_bytes);
};

#endif
