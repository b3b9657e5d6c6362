/* SPDX-License-Identifier: Apache-2.0 */
/*
 * image.h - pictures: bytes to plain 8-bit sRGB pixels, resized, and back to bytes.
 *
 * Decoding always ends in interleaved 8-bit sRGB, upright: EXIF orientation is
 * applied, embedded ICC profiles are converted (perceptual intent), CMYK and
 * YCCK become RGB, grey is spread, palettes are looked up, 16-bit is rounded to
 * 8, and alpha is composed over white in stored (gamma) values, as Pillow users
 * expect.  What was there is told in struct prx_image_info.
 *
 * Hostile input is bounded before it is believed: at most
 * prx_image_limits.n_px_max pixels, n_scans_max progressive scans, and no
 * allocation larger than the announced picture needs.
 *
 * All functions are reentrant.  A struct prx_image is one thread's at a time.
 */
#ifndef PRX_LIBDATA_IMAGE_H
#define PRX_LIBDATA_IMAGE_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

#include "libdata/buf.h"
#include "libdata/err.h"

#ifdef __cplusplus
extern "C" {
#endif

/*
 * How many times the wanted size a DCT-scaled JPEG must still have, at 4/8 and at
 * smaller scales.  Chosen by measurement: see image_jpeg.c.
 */
#define PRX_IMAGE_HEADROOM_HALF 1.5
#define PRX_IMAGE_HEADROOM_LESS 2.0

enum prx_image_format {
    PRX_IMAGE_UNKNOWN,
    PRX_IMAGE_JPEG,
    PRX_IMAGE_PNG,
    PRX_IMAGE_WEBP,
};

struct prx_image {
    uint8_t *pixels; /* [height_px, width_px, 3] sRGB, rows unpadded; owned */
    int width_px;
    int height_px;
    size_t cap_bytes; /* private: what pixels can hold without a new allocation */
};

/* What the header alone tells; cheap (no pixel is decoded). */
struct prx_image_info {
    enum prx_image_format format;
    int width_px; /* as stored, before EXIF orientation and DCT scaling */
    int height_px;
    int exif_orientation; /* 1..8; 1 where there is none */
    bool has_icc;
    bool has_alpha;
    int n_channels;
    int bits_per_channel;
    int eighths; /* a JPEG decoded at n/8 of its size: n; else 8 */
};

#define PRX_IMAGE_N_PX_MAX 178956970 /* what Pillow refuses */

struct prx_image_limits {
    int64_t n_px_max; /* refuse larger pictures; 0 = PRX_IMAGE_N_PX_MAX */
    int n_scans_max;  /* progressive JPEG scans; 0 = 100 (encoders write about ten) */
};

/*
 * Colour transforms kept from picture to picture, because making one from an ICC
 * profile takes longer than using it.  One thread at a time.
 */
struct prx_color_cache;

PRX_MUST_USE int prx_color_cache_new(struct prx_color_cache **out);
void prx_color_cache_free(struct prx_color_cache *cache);

struct prx_image_decode_opts {
    struct prx_image_limits limits;
    /*
     * The size that is wanted in the end, in upright pixels; 0 = full size.
     * A JPEG may then be decoded at 4/8, 2/8 or 1/8 of its size (DCT scaling) as
     * long as the result still is PRX_IMAGE_HEADROOM_... times as large in both
     * directions, so that the resize after it hides the difference.
     */
    int min_width_px;
    int min_height_px;
    bool keep_icc_values;           /* do not convert colours, for measuring */
    struct prx_color_cache *colors; /* NULL: make every transform afresh */
};

/** prx_image_sniff - the format by the first bytes, whatever the name says. */
enum prx_image_format prx_image_sniff(const uint8_t *bytes, size_t n_bytes);

/** prx_image_format_name - "jpg", "png", "webp"; NULL for unknown. */
const char *prx_image_format_name(enum prx_image_format format);

/**
 * prx_image_probe - fill @info from the header, and see that the file has its end.
 * Errors: PRX_EFORMAT (none of ours), PRX_ECORRUPT, PRX_EINVAL (over a limit).
 */
PRX_MUST_USE int prx_image_probe(const uint8_t *bytes, size_t n_bytes,
                                 const struct prx_image_limits *limits,
                                 struct prx_image_info *info);

/**
 * prx_image_decode - decode to upright sRGB.
 *
 * @image: {0} or an earlier picture, whose memory is used again where it suffices;
 *         after an error its contents are undefined, still to be released.
 * @info:  as prx_image_probe(); NULL to discard.
 * @opts:  NULL for the defaults.
 * A truncated or damaged picture is an error, not a grey area.
 * Errors: as prx_image_probe(), PRX_ENOMEM.
 */
PRX_MUST_USE int prx_image_decode(struct prx_image *image, struct prx_image_info *info,
                                  const uint8_t *bytes, size_t n_bytes,
                                  const struct prx_image_decode_opts *opts);

PRX_MUST_USE int prx_image_new(int width_px, int height_px, struct prx_image **out);
void prx_image_release(struct prx_image *image); /* the pixels; NULL is fine */
void prx_image_free(struct prx_image *image);    /* the pixels and the struct */

enum prx_resample {
    PRX_LANCZOS,
    PRX_BICUBIC,
    PRX_BILINEAR,
};

/* Filter tables and rows of scratch, kept from call to call.  One thread at a time. */
struct prx_resizer;

PRX_MUST_USE int prx_resizer_new(struct prx_resizer **out);
void prx_resizer_free(struct prx_resizer *resizer);

/**
 * prx_resizer_apply - Pillow's convolution resize, bit for bit.
 *
 * @box: {left, top, right, bottom} of @src, stretched over the output, or NULL for
 *       all of it.  As in Pillow the filter may look at pixels beyond the box, so
 *       that a crop shows what cropping after the resize would.
 * @dst: {0} or an earlier picture, whose memory is used again; not @src.
 *
 * Fixed-point (22-bit) separable filters, horizontal pass first, rounded to
 * 8 bits between the passes, as Pillow's Resample.c defines the result.  The
 * bytes are the same on every instruction set.
 * Errors: PRX_EINVAL (empty output or box, box outside), PRX_ENOMEM.
 */
PRX_MUST_USE int prx_resizer_apply(struct prx_resizer *resizer,
                                   const struct prx_image *src, const double box[4],
                                   enum prx_resample filter, int width_px,
                                   int height_px, struct prx_image *dst);

/**
 * prx_image_resize - prx_resizer_apply() for once.
 *
 * @crop: {x, y, width, height} of @src, or NULL for all of it.
 */
PRX_MUST_USE int prx_image_resize(const struct prx_image *src, const int crop[4],
                                  enum prx_resample filter, int width_px, int height_px,
                                  struct prx_image *dst);

/**
 * prx_image_encode - @image, encoded, as a new buffer.
 *
 * @quality: 1..100 for JPEG and WebP, ignored for PNG.
 * JPEG: baseline, 4:2:0 below quality 90 and 4:4:4 from 90 on, optimised
 * Huffman tables off, no metadata; the same pixels give the same bytes.
 * Errors: PRX_EINVAL, PRX_EFORMAT, PRX_ENOMEM.
 */
PRX_MUST_USE int prx_image_encode(const struct prx_image *image,
                                  enum prx_image_format format, int quality,
                                  struct prx_buf **out);

#ifdef __cplusplus
}
#endif
#endif
