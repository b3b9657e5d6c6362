/* SPDX-License-Identifier: Apache-2.0 */
/*
 * Pictures: which format, whose turn it is, and the memory they live in.
 *
 * The codecs leave RGB as stored; turning it upright is done here, for all.
 */
#include "libdata/image.h"

#include <limits.h>
#include <stdlib.h>
#include <string.h>

#include "libdata/sample/image_internal.h"

#define N_SCANS_MAX_DEFAULT 100

static const struct prx_image_codec *const codecs[] = {
    [PRX_IMAGE_JPEG] = &prx_image_jpeg,
    [PRX_IMAGE_PNG] = &prx_image_png,
    [PRX_IMAGE_WEBP] = &prx_image_webp,
};

static const struct prx_image_codec *find_codec(enum prx_image_format format)
{
    if ((size_t)format >= sizeof(codecs) / sizeof(codecs[0]))
        return NULL;
    return codecs[format];
}

enum prx_image_format prx_image_sniff(const uint8_t *bytes, size_t n_bytes)
{
    if (n_bytes >= 3 && memcmp(bytes, "\xff\xd8\xff", 3) == 0)
        return PRX_IMAGE_JPEG;
    if (n_bytes >= 8 && memcmp(bytes, "\x89PNG\r\n\x1a\n", 8) == 0)
        return PRX_IMAGE_PNG;
    if (n_bytes >= 12 && memcmp(bytes, "RIFF", 4) == 0 &&
        memcmp(bytes + 8, "WEBP", 4) == 0)
        return PRX_IMAGE_WEBP;
    return PRX_IMAGE_UNKNOWN;
}

const char *prx_image_format_name(enum prx_image_format format)
{
    const struct prx_image_codec *codec = find_codec(format);
    return codec ? codec->name : NULL;
}

static int sniff_codec(const uint8_t *bytes, size_t n_bytes,
                       const struct prx_image_codec **out)
{
    *out = find_codec(prx_image_sniff(bytes, n_bytes));
    if (*out)
        return 0;
    if (n_bytes == 0)
        return prx_err(PRX_ECORRUPT, "empty image");
    return prx_err(PRX_EFORMAT, "not a JPEG, PNG or WebP image");
}

static struct prx_image_limits fill_limits(const struct prx_image_limits *limits)
{
    struct prx_image_limits filled = {0};
    if (limits)
        filled = *limits;
    if (filled.n_px_max <= 0)
        filled.n_px_max = PRX_IMAGE_N_PX_MAX;
    if (filled.n_scans_max <= 0)
        filled.n_scans_max = N_SCANS_MAX_DEFAULT;
    return filled;
}

int prx_image_check_size(int64_t width_px, int64_t height_px,
                         const struct prx_image_limits *limits)
{
    if (width_px <= 0 || height_px <= 0)
        return prx_err(PRX_ECORRUPT, "image of no size");
    if (width_px > INT_MAX || height_px > INT_MAX ||
        width_px > limits->n_px_max / height_px)
        return prx_err(
            PRX_EINVAL, "image of %lld x %lld pixels: more than %lld allowed",
            (long long)width_px, (long long)height_px, (long long)limits->n_px_max);
    return 0;
}

int prx_image_probe(const uint8_t *bytes, size_t n_bytes,
                    const struct prx_image_limits *limits, struct prx_image_info *info)
{
    const struct prx_image_codec *codec;
    const struct prx_image_limits filled = fill_limits(limits);

    *info = (struct prx_image_info){.exif_orientation = 1, .eighths = 8};
    PRX_TRY(sniff_codec(bytes, n_bytes, &codec));
    return codec->probe(info, bytes, n_bytes, &filled);
}

int prx_image_decode(struct prx_image *image, struct prx_image_info *info,
                     const uint8_t *bytes, size_t n_bytes,
                     const struct prx_image_decode_opts *opts)
{
    const struct prx_image_codec *codec;
    struct prx_image_decode_opts filled = {0};
    struct prx_color_cache colors = {0};
    struct prx_image_info found = {.exif_orientation = 1, .eighths = 8};
    int rc = 0;

    if (opts)
        filled = *opts;
    filled.limits = fill_limits(&filled.limits);
    if (!filled.colors)
        filled.colors = &colors;
    PRX_GO(sniff_codec(bytes, n_bytes, &codec));
    PRX_GO(codec->decode(image, &found, bytes, n_bytes, &filled));
    PRX_GO(prx_image_orient(image, found.exif_orientation));
    if (info)
        *info = found;
out:
    prx_color_cache_release(&colors);
    return rc;
}

int prx_image_encode(const struct prx_image *image, enum prx_image_format format,
                     int quality, struct prx_buf **out)
{
    const struct prx_image_codec *codec = find_codec(format);
    struct prx_str bytes = {0};

    if (!codec)
        return prx_err(PRX_EINVAL, "no image format to encode to");
    if (image->width_px <= 0 || image->height_px <= 0)
        return prx_err(PRX_EINVAL, "image of no size");
    if (format != PRX_IMAGE_PNG && (quality < 1 || quality > 100))
        return prx_err(PRX_EINVAL, "image quality %d: 1 to 100 is possible", quality);
    int rc = codec->encode(image, quality, &bytes);
    if (rc == 0)
        rc = prx_str_take(&bytes, out);
    prx_str_release(&bytes);
    return rc;
}

int prx_image_reserve(struct prx_image *image, int width_px, int height_px)
{
    PRX_BUG_IF(width_px <= 0 || height_px <= 0);
    if ((size_t)width_px > SIZE_MAX / 3 / (size_t)height_px)
        return prx_err_nomem("an image");
    size_t want_bytes = (size_t)width_px * (size_t)height_px * 3;
    if (image->cap_bytes < want_bytes) {
        prx_image_release(image);
        image->pixels = malloc(want_bytes);
        if (!image->pixels)
            return prx_err(PRX_ENOMEM, "out of memory for an image of %d x %d pixels",
                           width_px, height_px);
        image->cap_bytes = want_bytes;
    }
    image->width_px = width_px;
    image->height_px = height_px;
    return 0;
}

int prx_image_new(int width_px, int height_px, struct prx_image **out)
{
    if (width_px <= 0 || height_px <= 0)
        return prx_err(PRX_EINVAL, "image of no size");
    struct prx_image *image = calloc(1, sizeof(*image));
    if (!image)
        return prx_err_nomem("an image");
    int rc = prx_image_reserve(image, width_px, height_px);
    if (rc < 0) {
        free(image);
        return rc;
    }
    *out = image;
    return 0;
}

void prx_image_release(struct prx_image *image)
{
    if (!image)
        return;
    free(image->pixels);
    *image = (struct prx_image){0};
}

void prx_image_free(struct prx_image *image)
{
    prx_image_release(image);
    free(image);
}
