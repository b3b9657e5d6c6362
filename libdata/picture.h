/* SPDX-License-Identifier: Apache-2.0 */
/*
 * picture.h - what a sample's picture is, without decoding it.
 *
 * One thread at a time, as the sample.
 */
#ifndef PRX_LIBDATA_PICTURE_H
#define PRX_LIBDATA_PICTURE_H

#include <stddef.h>

#include "libdata/err.h"
#include "libdata/sample.h"

#ifdef __cplusplus
extern "C" {
#endif

/* Upright; 0 x 0 where there is none. */
struct prx_picture_size {
    int width_px;
    int height_px;
};

/** prx_field_head - a copy of the first bytes of a field, loaded or not. */
PRX_MUST_USE int prx_field_head(const struct prx_field *field, size_t n_bytes_max,
                                struct prx_buf **out);

/**
 * prx_picture_size - look at the header of the sample's picture, reading little.
 *
 * Errors: those of prx_image_probe() where the header is unreadable, PRX_EIO,
 * PRX_ENOMEM.
 */
PRX_MUST_USE int prx_picture_size(struct prx_sample *sample,
                                  struct prx_picture_size *out);

#ifdef __cplusplus
}
#endif
#endif
