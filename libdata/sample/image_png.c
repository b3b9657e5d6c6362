/* SPDX-License-Identifier: Apache-2.0 */
/*
 * PNG, through spng: every colour type and depth, interlaced or not.
 *
 * Opaque 8-bit pictures are decoded where they will stay.  The others come row by
 * row as RGBA of 8 or 16 bits (interlaced ones as a whole), are composed over
 * white and rounded.
 */
#include <stdlib.h>
#include <string.h>

#include <spng.h>

#include "libdata/sample/image_internal.h"

/* Profiles and EXIF, unpacked; all that we keep of other chunks together. */
#define CHUNK_BYTES_MAX (8u << 20)
#define CACHE_BYTES_MAX (16u << 20)

/* Length, type and checksum. */
#define CHUNK_FRAME_BYTES 12

/* Deflate cannot pack better than this. */
#define INFLATE_RATIO_MAX 1032

static int png_error(int code)
{
    switch (code) {
    case SPNG_OK:
        return 0;
    case SPNG_EMEM:
        return prx_err_nomem("a PNG");
    case SPNG_EOF:
    case SPNG_EIDAT_TOO_SHORT:
    case SPNG_IO_EOF:
        return prx_err(PRX_ECORRUPT, "premature end of PNG");
    case SPNG_ECHUNK_LIMITS:
        return prx_err(PRX_EINVAL, "PNG: a chunk of more than %u bytes",
                       CHUNK_BYTES_MAX);
    default:
        return prx_err(PRX_ECORRUPT, "PNG: %s", spng_strerror(code));
    }
}

/* The file must reach its end marker: spng is content without it. */
static int check_whole(const uint8_t *bytes, size_t n_bytes)
{
    size_t at = 8;

    while (n_bytes - at >= CHUNK_FRAME_BYTES) {
        const uint8_t *chunk = bytes + at;
        size_t n_chunk_bytes = (size_t)chunk[0] << 24 | (size_t)chunk[1] << 16 |
                               (size_t)chunk[2] << 8 | chunk[3];
        if (n_chunk_bytes > n_bytes - at - CHUNK_FRAME_BYTES)
            break;
        if (memcmp(chunk + 4, "IEND", 4) == 0)
            return 0;
        at += CHUNK_FRAME_BYTES + n_chunk_bytes;
    }
    return prx_err(PRX_ECORRUPT, "premature end of PNG at byte %zu", n_bytes);
}

static int open_png(const uint8_t *bytes, size_t n_bytes, spng_ctx **out)
{
    PRX_TRY(check_whole(bytes, n_bytes));
    *out = spng_ctx_new(0);
    if (!*out)
        return prx_err_nomem("a PNG");
    spng_set_chunk_limits(*out, CHUNK_BYTES_MAX, CACHE_BYTES_MAX);
    spng_set_crc_action(*out, SPNG_CRC_ERROR, SPNG_CRC_ERROR);
    return png_error(spng_set_png_buffer(*out, bytes, n_bytes));
}

static int read_header(spng_ctx *png, struct prx_image_info *info,
                       struct spng_ihdr *header, size_t n_bytes,
                       const struct prx_image_limits *limits)
{
    static const int n_channels[] = {[SPNG_COLOR_TYPE_GRAYSCALE] = 1,
                                     [SPNG_COLOR_TYPE_TRUECOLOR] = 3,
                                     [SPNG_COLOR_TYPE_INDEXED] = 3,
                                     [SPNG_COLOR_TYPE_GRAYSCALE_ALPHA] = 2,
                                     [SPNG_COLOR_TYPE_TRUECOLOR_ALPHA] = 4};
    struct spng_trns trns;
    struct spng_iccp iccp;
    struct spng_exif exif;
    size_t n_raw_bytes;

    PRX_TRY(png_error(spng_get_ihdr(png, header)));
    info->format = PRX_IMAGE_PNG;
    info->width_px = (int)header->width;
    info->height_px = (int)header->height;
    info->n_channels = n_channels[header->color_type];
    info->bits_per_channel = header->bit_depth;
    PRX_TRY(prx_image_check_size(header->width, header->height, limits));
    PRX_TRY(png_error(spng_decoded_image_size(png, SPNG_FMT_RAW, &n_raw_bytes)));
    if (n_raw_bytes / INFLATE_RATIO_MAX > n_bytes)
        return prx_err(PRX_ECORRUPT, "PNG of %zu bytes announces %d x %d pixels",
                       n_bytes, info->width_px, info->height_px);
    info->has_alpha = (header->color_type & 4) != 0 || spng_get_trns(png, &trns) == 0;
    info->has_icc = spng_get_iccp(png, &iccp) == 0;
    if (spng_get_exif(png, &exif) == 0)
        info->exif_orientation =
            prx_exif_orientation((uint8_t *)exif.data, exif.length);
    return 0;
}

static int probe(struct prx_image_info *info, const uint8_t *bytes, size_t n_bytes,
                 const struct prx_image_limits *limits)
{
    struct spng_ihdr header;
    spng_ctx *png = NULL;

    int rc = open_png(bytes, n_bytes, &png);
    if (rc == 0)
        rc = read_header(png, info, &header, n_bytes, limits);
    spng_ctx_free(png);
    return rc;
}

static uint16_t to_8_bits(uint16_t value)
{
    return (uint16_t)((value * 255u + 32767u) / 65535u);
}

/* One row of RGBA to RGB; 16-bit values are rounded first, in place. */
static void flatten_row(void *rgba, int bits, uint8_t *rgb, size_t n_px)
{
    if (bits == 16) {
        const uint16_t *from = rgba;
        uint8_t *to = rgba;
        for (size_t i = 0; i < n_px * 4; i++)
            to[i] = (uint8_t)to_8_bits(from[i]);
    }
    prx_color_over_white(rgba, rgb, n_px);
}

/* All rows through RGBA of @bits; @image has its size. */
static int read_rgba(spng_ctx *png, const struct spng_ihdr *header, int bits,
                     struct prx_image *image)
{
    const size_t row_bytes = (size_t)header->width * (size_t)(bits / 2);
    const bool is_whole = header->interlace_method != 0;
    const size_t n_rows = is_whole ? header->height : 1;
    const int format = bits == 16 ? SPNG_FMT_RGBA16 : SPNG_FMT_RGBA8;
    struct spng_row_info row;
    int rc = 0, code = 0;

    if (row_bytes > SIZE_MAX / n_rows)
        return prx_err_nomem("a PNG");
    uint8_t *rgba = malloc(row_bytes * n_rows);
    if (!rgba)
        return prx_err_nomem("a PNG");
    PRX_GO(png_error(spng_decode_image(png, NULL, 0, format,
                                       SPNG_DECODE_TRNS | SPNG_DECODE_PROGRESSIVE)));
    while (code == 0) {
        PRX_GO(png_error(spng_get_row_info(png, &row)));
        uint8_t *to = rgba + (is_whole ? row.row_num * row_bytes : 0);
        code = spng_decode_row(png, to, row_bytes);
        if (code != 0 && code != SPNG_EOI) {
            rc = png_error(code);
            goto out;
        }
        if (!is_whole)
            flatten_row(to, bits,
                        image->pixels + (size_t)row.row_num * header->width * 3,
                        header->width);
    }
    for (size_t y = 0; is_whole && y < n_rows; y++)
        flatten_row(rgba + y * row_bytes, bits, image->pixels + y * header->width * 3,
                    header->width);
out:
    free(rgba);
    return rc;
}

static int decode(struct prx_image *image, struct prx_image_info *info,
                  const uint8_t *bytes, size_t n_bytes,
                  const struct prx_image_decode_opts *opts)
{
    struct spng_ihdr header;
    struct spng_iccp iccp;
    spng_ctx *png = NULL;
    int rc = 0;

    PRX_GO(open_png(bytes, n_bytes, &png));
    PRX_GO(read_header(png, info, &header, n_bytes, &opts->limits));
    PRX_GO(prx_image_reserve(image, info->width_px, info->height_px));
    if (header.bit_depth == 16 || info->has_alpha) {
        PRX_GO(read_rgba(png, &header, header.bit_depth == 16 ? 16 : 8, image));
    } else {
        size_t n_pixel_bytes = (size_t)header.width * header.height * 3;
        PRX_GO(png_error(
            spng_decode_image(png, image->pixels, n_pixel_bytes, SPNG_FMT_RGB8, 0)));
    }
    PRX_GO(png_error(spng_decode_chunks(png))); /* up to the end marker */
    if (spng_get_iccp(png, &iccp) == 0)
        prx_color_image(opts, (uint8_t *)iccp.profile, iccp.profile_len,
                        info->n_channels <= 2 ? PRX_COLOR_GREY : PRX_COLOR_RGB, image);
out:
    spng_ctx_free(png);
    return rc;
}

static int write_bytes(spng_ctx *png, void *out, void *bytes, size_t n_bytes)
{
    (void)png;
    return prx_str_add(out, bytes, n_bytes) == 0 ? 0 : SPNG_IO_ERROR;
}

static int encode(const struct prx_image *image, int quality, struct prx_str *out)
{
    struct spng_ihdr header = {.width = (uint32_t)image->width_px,
                               .height = (uint32_t)image->height_px,
                               .bit_depth = 8,
                               .color_type = SPNG_COLOR_TYPE_TRUECOLOR};
    size_t n_pixel_bytes = (size_t)image->width_px * (size_t)image->height_px * 3;
    int rc = 0;

    (void)quality;
    spng_ctx *png = spng_ctx_new(SPNG_CTX_ENCODER);
    if (!png)
        return prx_err_nomem("a PNG");
    PRX_GO(png_error(spng_set_png_stream(png, write_bytes, out)));
    PRX_GO(png_error(spng_set_ihdr(png, &header)));
    int code = spng_encode_image(png, image->pixels, n_pixel_bytes, SPNG_FMT_PNG,
                                 SPNG_ENCODE_FINALIZE);
    /* All that our writer can fail by. */
    rc = code == SPNG_IO_ERROR ? prx_err_nomem("a PNG") : png_error(code);
out:
    spng_ctx_free(png);
    return rc;
}

const struct prx_image_codec prx_image_png = {"png", probe, decode, encode};
