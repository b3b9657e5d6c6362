/* SPDX-License-Identifier: Apache-2.0 */
/* What image.c and the codecs say to each other. */
#ifndef PRX_LIBDATA_SAMPLE_IMAGE_INTERNAL_H
#define PRX_LIBDATA_SAMPLE_IMAGE_INTERNAL_H

#include "libdata/hash.h"
#include "libdata/image.h"

/*
 * One file format.  probe and decode fill @info; decode leaves the picture as
 * stored (not upright) but in RGB, colours converted.  opts has its defaults
 * filled in.  encode appends to @out; the sides are known to be positive.
 */
struct prx_image_codec {
    const char *name; /* of the field: "jpg" */
    int (*probe)(struct prx_image_info *info, const uint8_t *bytes, size_t n_bytes,
                 const struct prx_image_limits *limits);
    int (*decode)(struct prx_image *image, struct prx_image_info *info,
                  const uint8_t *bytes, size_t n_bytes,
                  const struct prx_image_decode_opts *opts);
    int (*encode)(const struct prx_image *image, int quality, struct prx_str *out);
};

extern const struct prx_image_codec prx_image_jpeg, prx_image_png, prx_image_webp;

/** prx_image_reserve - give @image this size; what the pixels hold is undefined. */
PRX_MUST_USE int prx_image_reserve(struct prx_image *image, int width_px,
                                   int height_px);

/**
 * prx_image_check_size - refuse what is empty or over the limit.
 *
 * Errors: PRX_ECORRUPT (empty), PRX_EINVAL (too large).
 */
PRX_MUST_USE int prx_image_check_size(int64_t width_px, int64_t height_px,
                                      const struct prx_image_limits *limits);

/** prx_exif_orientation - 1..8 from a TIFF block, 1 where it has none or is broken. */
int prx_exif_orientation(const uint8_t *tiff, size_t n_bytes);

/** prx_image_orient - turn @image upright. Errors: PRX_ENOMEM. */
PRX_MUST_USE int prx_image_orient(struct prx_image *image, int orientation);

enum prx_color_model { PRX_COLOR_RGB,
                       PRX_COLOR_GREY,
                       PRX_COLOR_CMYK };

/* A profile met earlier, by the hash of its bytes. */
struct prx_color {
    char icc_hash[PRX_HASH_HEX_BYTES]; /* "" while the slot is free */
    enum prx_color_model model;
    void *transform; /* of lcms; NULL where there is nothing to convert */
};

#define PRX_COLOR_CACHE_SLOTS 8

struct prx_color_cache {
    struct prx_color slots[PRX_COLOR_CACHE_SLOTS];
    unsigned i_next; /* the slot to be given up next */
};

void prx_color_cache_release(struct prx_color_cache *cache);

/**
 * prx_color_find - what converts pixels from @icc to sRGB.
 *
 * @model: RGB and GREY come as 3 bytes a pixel, CMYK as 4, inverted as in JPEG.
 * Returns NULL where there is nothing to convert: a broken profile, one for
 * another colour model, or sRGB itself.  A grey picture with an RGB profile is
 * converted as RGB.  Borrowed, valid until the next call on @cache.
 */
const struct prx_color *prx_color_find(struct prx_color_cache *cache,
                                       const uint8_t *icc, size_t n_bytes,
                                       enum prx_color_model model);

/** prx_color_apply - @n_px pixels of @src to sRGB; for 3 bytes @dst may be @src. */
void prx_color_apply(const struct prx_color *color, const uint8_t *src, uint8_t *dst,
                     size_t n_px);

/** prx_color_image - find, then apply to all of @image in place, as @opts asks. */
void prx_color_image(const struct prx_image_decode_opts *opts, const uint8_t *icc,
                     size_t n_bytes, enum prx_color_model model,
                     struct prx_image *image);

/** prx_color_cmyk_plain - inverted CMYK to RGB without a profile, as Pillow does. */
void prx_color_cmyk_plain(const uint8_t *src, uint8_t *dst, size_t n_px);

/** prx_color_over_white - @n_px RGBA pixels composed over white to RGB. */
void prx_color_over_white(const uint8_t *src, uint8_t *dst, size_t n_px);

#endif
