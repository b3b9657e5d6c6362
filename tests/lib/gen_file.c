/* SPDX-License-Identifier: Apache-2.0 */
/* Test pictures as JPEG, PNG and WebP files. */
#include "tests/lib/gen.h"

#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include <jpeglib.h>
#include <spng.h>
#include <webp/encode.h>

#define MUST(cond) PRX_BUG_IF(!(cond))

static int luma(const uint8_t px[3])
{
    return (px[0] * 299 + px[1] * 587 + px[2] * 114 + 500) / 1000;
}

/* A pixel as the JPEG's input has it; CMYK inverted, as everybody stores it. */
static void put_jpeg_px(uint8_t *to, const uint8_t *px, enum prx_gen_model model)
{
    if (model == PRX_GEN_GREY_1) {
        to[0] = (uint8_t)luma(px);
    } else {
        memcpy(to, px, 3);
        if (model == PRX_GEN_CMYK_4 || model == PRX_GEN_YCCK_4)
            to[3] = 255;
    }
}

/* The whole of @file, its last scan @n_more times more. */
static struct prx_buf *repeat_last_scan(const uint8_t *file, size_t n_bytes, int n_more)
{
    struct prx_buf *out;
    size_t at = n_bytes - 2;

    while (!(file[at] == 0xff && file[at + 1] == 0xda))
        at--;
    size_t n_scan_bytes = n_bytes - 2 - at;
    MUST(prx_buf_new(n_bytes + n_scan_bytes * (size_t)n_more, &out) == 0);
    memcpy(out->bytes, file, n_bytes - 2);
    uint8_t *to = out->bytes + n_bytes - 2;
    for (int i = 0; i < n_more; i++, to += n_scan_bytes)
        memcpy(to, file + at, n_scan_bytes);
    memcpy(to, "\xff\xd9", 2);
    return out;
}

struct prx_buf *prx_gen_jpeg(const struct prx_image *image,
                             const struct prx_gen_jpeg *how)
{
    static const struct {
        int n_channels;
        J_COLOR_SPACE in, stored;
    } models[] = {
        [PRX_GEN_YCC] = {3, JCS_RGB, JCS_YCbCr},
        [PRX_GEN_RGB] = {3, JCS_RGB, JCS_RGB},
        [PRX_GEN_GREY_1] = {1, JCS_GRAYSCALE, JCS_GRAYSCALE},
        [PRX_GEN_CMYK_4] = {4, JCS_CMYK, JCS_CMYK},
        [PRX_GEN_YCCK_4] = {4, JCS_CMYK, JCS_YCCK},
    };
    struct jpeg_compress_struct encoder;
    struct jpeg_error_mgr errors;
    unsigned char *file = NULL;
    unsigned long n_bytes = 0;
    const int n_channels = models[how->model].n_channels;
    uint8_t *row = malloc((size_t)image->width_px * (size_t)n_channels);
    MUST(row);

    encoder.err = jpeg_std_error(&errors);
    jpeg_create_compress(&encoder);
    jpeg_mem_dest(&encoder, &file, &n_bytes);
    encoder.image_width = (JDIMENSION)image->width_px;
    encoder.image_height = (JDIMENSION)image->height_px;
    encoder.input_components = n_channels;
    encoder.in_color_space = models[how->model].in;
    jpeg_set_defaults(&encoder);
    jpeg_set_colorspace(&encoder, models[how->model].stored);
    jpeg_set_quality(&encoder, how->quality ? how->quality : 95, TRUE);
    if (how->is_progressive)
        jpeg_simple_progression(&encoder);
    jpeg_start_compress(&encoder, TRUE);
    if (how->exif) {
        jpeg_write_m_header(&encoder, JPEG_APP0 + 1, (unsigned)how->exif->n_bytes + 6);
        for (int i = 0; i < 6; i++)
            jpeg_write_m_byte(&encoder, "Exif\0\0"[i]);
        for (size_t i = 0; i < how->exif->n_bytes; i++)
            jpeg_write_m_byte(&encoder, how->exif->bytes[i]);
    }
    if (how->icc)
        jpeg_write_icc_profile(&encoder, how->icc->bytes, (unsigned)how->icc->n_bytes);
    for (int y = 0; y < image->height_px; y++) {
        const uint8_t *px = image->pixels + (size_t)y * (size_t)image->width_px * 3;
        for (int x = 0; x < image->width_px; x++)
            put_jpeg_px(row + x * n_channels, px + x * 3, how->model);
        jpeg_write_scanlines(&encoder, &row, 1);
    }
    jpeg_finish_compress(&encoder);
    jpeg_destroy_compress(&encoder);
    struct prx_buf *out = repeat_last_scan(file, n_bytes, how->n_last_scans);
    free(file);
    free(row);
    return out;
}

/* The number of a colour in the palette, which is begun anew at @n_entries 0. */
static int palette_index(struct spng_plte *palette, const uint8_t px[3])
{
    for (unsigned i = 0; i < palette->n_entries; i++)
        if (palette->entries[i].red == px[0] && palette->entries[i].green == px[1] &&
            palette->entries[i].blue == px[2])
            return (int)i;
    MUST(palette->n_entries < 256);
    struct spng_plte_entry *entry = &palette->entries[palette->n_entries++];
    *entry = (struct spng_plte_entry){px[0], px[1], px[2], 255};
    return (int)palette->n_entries - 1;
}

/* One channel of @bits at pixel @i of a row that is all zero so far. */
static void put_bits(uint8_t *row, size_t i, int bits, int value)
{
    if (bits == 16) {
        int wide = value * 257 + 120 > 65535 ? 65535 : value * 257 + 120;
        row[2 * i] = (uint8_t)(wide >> 8);
        row[2 * i + 1] = (uint8_t)wide;
    } else {
        size_t at_bit = i * (size_t)bits;
        row[at_bit / 8] |= (uint8_t)(value << (8 - bits - (int)(at_bit % 8)));
    }
}

static void put_png_px(uint8_t *row, size_t x, const uint8_t *px,
                       const struct prx_gen_png *how, int bits,
                       struct spng_plte *palette)
{
    const int n_color = how->color_type & 2 ? 3 : 1;
    const size_t n_channels = (size_t)n_color + (how->color_type & 4 ? 1 : 0);

    if (how->color_type == 3) {
        put_bits(row, x, bits, palette_index(palette, px));
        return;
    }
    for (int c = 0; c < n_color; c++) {
        int value = n_color == 1 ? luma(px) : px[c];
        put_bits(row, x * n_channels + (size_t)c, bits,
                 bits < 8 ? value >> (8 - bits) : value);
    }
    if (how->color_type & 4)
        put_bits(row, x * n_channels + (size_t)n_color, bits, how->alpha);
}

static void set_trns(spng_ctx *png, const uint8_t *px, const struct prx_gen_png *how)
{
    struct spng_trns trns = {0};

    trns.gray = (uint16_t)luma(px);
    trns.red = px[0];
    trns.green = px[1];
    trns.blue = px[2];
    trns.n_type3_entries = how->color_type == 3; /* entry 0 is the first pixel's */
    MUST(spng_set_trns(png, &trns) == 0);
}

struct prx_buf *prx_gen_png(const struct prx_image *image,
                            const struct prx_gen_png *how)
{
    static const int n_channels[] = {1, 0, 3, 1, 2, 0, 4};
    const int bits = how->bits ? how->bits : 8;
    const size_t width = (size_t)image->width_px, height = (size_t)image->height_px;
    const size_t row_bytes =
        (width * (size_t)(n_channels[how->color_type] * bits) + 7) / 8;
    struct spng_ihdr header = {.width = (uint32_t)width,
                               .height = (uint32_t)height,
                               .bit_depth = (uint8_t)bits,
                               .color_type = (uint8_t)how->color_type,
                               .interlace_method = how->is_interlaced};
    struct spng_plte palette = {0};
    struct prx_buf *out;
    size_t n_file_bytes;
    int code;

    uint8_t *raw = calloc(height, row_bytes);
    spng_ctx *png = spng_ctx_new(SPNG_CTX_ENCODER);
    MUST(raw && png);
    for (size_t y = 0; y < height; y++)
        for (size_t x = 0; x < width; x++)
            put_png_px(raw + y * row_bytes, x, image->pixels + (y * width + x) * 3, how,
                       bits, &palette);
    spng_set_option(png, SPNG_ENCODE_TO_BUFFER, 1);
    MUST(spng_set_ihdr(png, &header) == 0);
    if (how->color_type == 3)
        MUST(spng_set_plte(png, &palette) == 0);
    if (how->has_trns)
        set_trns(png, image->pixels, how);
    struct spng_iccp iccp = {.profile_name = "test"};
    struct spng_exif exif = {0};
    if (how->icc) {
        iccp.profile = (char *)how->icc->bytes;
        iccp.profile_len = how->icc->n_bytes;
        MUST(spng_set_iccp(png, &iccp) == 0);
    }
    if (how->exif) {
        exif.data = (char *)how->exif->bytes;
        exif.length = how->exif->n_bytes;
        MUST(spng_set_exif(png, &exif) == 0);
    }
    MUST(spng_encode_image(png, raw, row_bytes * height, SPNG_FMT_RAW,
                           SPNG_ENCODE_FINALIZE) == 0);
    uint8_t *file = spng_get_png_buffer(png, &n_file_bytes, &code);
    MUST(file && prx_buf_take(file, n_file_bytes, NULL, &out) == 0);
    spng_ctx_free(png);
    free(raw);
    return out;
}

static void put_le(uint8_t *to, uint32_t value, int n_bytes)
{
    for (int i = 0; i < n_bytes; i++)
        to[i] = (uint8_t)(value >> (8 * i));
}

static void add_riff(struct prx_str *out, const char *name, const uint8_t *bytes,
                     size_t n_bytes)
{
    uint8_t length[4];

    put_le(length, (uint32_t)n_bytes, 4);
    MUST(prx_str_add(out, name, 4) == 0 && prx_str_add(out, length, 4) == 0 &&
         prx_str_add(out, bytes, n_bytes) == 0 &&
         prx_str_add(out, "", n_bytes % 2) == 0);
}

struct prx_buf *prx_gen_webp(const struct prx_image *image,
                             const struct prx_gen_webp *how)
{
    const size_t n_px = (size_t)image->width_px * (size_t)image->height_px;
    const int stride = image->width_px * 4;
    uint8_t *file = NULL, extended[10] = {0};
    struct prx_str out = {0};
    struct prx_buf *buf;

    uint8_t *rgba = malloc(n_px * 4);
    MUST(rgba);
    for (size_t i = 0; i < n_px; i++) {
        memcpy(rgba + i * 4, image->pixels + i * 3, 3);
        rgba[i * 4 + 3] = (uint8_t)(how->has_alpha ? how->alpha : 255);
    }
    size_t n_bytes = how->is_lossless
                         ? WebPEncodeLosslessRGBA(rgba, image->width_px,
                                                  image->height_px, stride, &file)
                         : WebPEncodeRGBA(rgba, image->width_px, image->height_px,
                                          stride, 95, &file);
    MUST(n_bytes > 0);
    free(rgba);
    if (how->exif || how->icc || how->is_animated) {
        MUST(memcmp(file + 12, "VP8X", 4) != 0); /* alpha is not asked for here */
        extended[0] = (uint8_t)((how->icc ? 0x20 : 0) | (how->exif ? 0x08 : 0) |
                                (how->is_animated ? 0x02 : 0));
        put_le(extended + 4, (uint32_t)image->width_px - 1, 3);
        put_le(extended + 7, (uint32_t)image->height_px - 1, 3);
        MUST(prx_str_add(&out, "RIFF\0\0\0\0WEBP", 12) == 0);
        add_riff(&out, "VP8X", extended, sizeof(extended));
        if (how->icc)
            add_riff(&out, "ICCP", how->icc->bytes, how->icc->n_bytes);
        MUST(prx_str_add(&out, file + 12, n_bytes - 12) == 0);
        if (how->exif)
            add_riff(&out, "EXIF", how->exif->bytes, how->exif->n_bytes);
        put_le((uint8_t *)out.bytes + 4, (uint32_t)out.n_bytes - 8, 4);
    } else {
        MUST(prx_str_add(&out, file, n_bytes) == 0);
    }
    WebPFree(file);
    MUST(prx_str_take(&out, &buf) == 0);
    return buf;
}
