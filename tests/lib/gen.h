/* SPDX-License-Identifier: Apache-2.0 */
/*
 * gen.h - pictures of every kind, made in memory for the tests.
 *
 * Nothing here can fail but for lack of memory, on which it aborts; the libraries
 * are called directly, so that the code under test does not make its own fixtures.
 * Buffers are the caller's, to be given back with prx_buf_unref().
 */
#ifndef PRX_TESTS_LIB_GEN_H
#define PRX_TESTS_LIB_GEN_H

#include "libdata/buf.h"
#include "libdata/image.h"

/* The colours of prx_gen_corners(): top left, top right, bottom left, bottom right. */
extern const uint8_t prx_gen_corner_colors[4][3];

/** prx_gen_corners - four flat quarters in four colours. */
struct prx_image prx_gen_corners(int width_px, int height_px);

/**
 * prx_gen_wrong_corner - the first quarter whose middle is not what is wanted.
 *
 * @want:  [4, 3]
 * @slack: how much each channel may be off.
 * Returns 0..3, or -1 if all are right.
 */
int prx_gen_wrong_corner(const struct prx_image *image, const uint8_t *want, int slack);

/** prx_gen_photo - something smooth, with edges and grain; the same for a seed. */
struct prx_image prx_gen_photo(int width_px, int height_px, uint32_t seed);

/** prx_gen_exif - a TIFF block that tells @orientation; little or big endian. */
struct prx_buf *prx_gen_exif(int orientation, bool is_big);

enum prx_gen_profile {
    PRX_GEN_SRGB,    /* sRGB under another name */
    PRX_GEN_SWAPPED, /* primaries red and green swapped */
    PRX_GEN_GREY,    /* linear grey */
    PRX_GEN_CMYK,    /* inks without colour, as dark as each other */
};

struct prx_buf *prx_gen_icc(enum prx_gen_profile profile);

enum prx_gen_model {
    PRX_GEN_YCC,
    PRX_GEN_RGB,
    PRX_GEN_GREY_1,
    PRX_GEN_CMYK_4,
    PRX_GEN_YCCK_4
};

struct prx_gen_jpeg {
    enum prx_gen_model model; /* CMYK: inks are the inverted colours, no black */
    int quality;              /* 0 = 95 */
    bool is_progressive;
    int n_last_scans; /* write the last scan again so many times */
    const struct prx_buf *exif, *icc;
};

struct prx_buf *prx_gen_jpeg(const struct prx_image *image,
                             const struct prx_gen_jpeg *how);

struct prx_gen_png {
    int color_type; /* PNG's own numbers: 0 grey, 2 RGB, 3 palette, 4 and 6 with alpha
                     */
    int bits;       /* 0 = 8 */
    bool is_interlaced;
    bool has_trns; /* the top left colour is transparent */
    int alpha;     /* of every pixel, in 8 bits, for types 4 and 6 */
    const struct prx_buf *exif, *icc;
};

/* Palettes: up to 256 colours. 16 bits: each value is v * 257 + 120, at most 65535. */
struct prx_buf *prx_gen_png(const struct prx_image *image,
                            const struct prx_gen_png *how);

struct prx_gen_webp {
    bool is_lossless;
    bool has_alpha;
    int alpha;
    bool is_animated; /* only says that it is */
    const struct prx_buf *exif, *icc;
};

struct prx_buf *prx_gen_webp(const struct prx_image *image,
                             const struct prx_gen_webp *how);

#endif
