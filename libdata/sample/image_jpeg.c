/* SPDX-License-Identifier: Apache-2.0 */
/*
 * JPEG, through libjpeg.
 *
 * The library reports by calling back; a struct jpeg_job around its own struct
 * carries the jump out of it, and everything that must survive that jump, so that
 * no local variable has to.  What the library only warns of - data that end early,
 * codes that do not exist - is an error here: it would otherwise be painted grey.
 *
 * Decoding at n/8 of the size (DCT scaling) saves time where a resize follows, and
 * is not quite the same as decoding all and resizing.  How much difference the
 * resize leaves was measured on 128 photographs of 768 to 1024 pixels a side
 * (quality 90, 4:2:0; central square, Lanczos), as PSNR against full decoding:
 *
 *     scale   times the wanted size   mean dB   worst dB
 *      4/8            1.5               51.8      39.9    chosen
 *      4/8            2.0               53.5      45.7
 *      2/8            1.5               49.8      37.9
 *      2/8            2.0               52.0      41.7    chosen
 *      1/8            1.5               47.8      39.2
 *      1/8            2.0               50.4      43.4    chosen
 *
 * The JPEG of quality 95 written after it is at 44.5 (worst 39.1) dB of its pixels.
 */
#include <limits.h>
#include <setjmp.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include <jerror.h>
#include <jpeglib.h>

#include "libdata/sample/image_internal.h"

#define MARKER_EXIF (JPEG_APP0 + 1)
#define MARKER_ICC  (JPEG_APP0 + 2)
#define MARKER_SCAN 0xda

/* Some cameras pad the data before the end marker by a few bytes. */
#define N_PADDING_BYTES_MAX 16

struct jpeg_job {
    struct jpeg_error_mgr errors; /* first: the library hands back its address */
    jmp_buf jump;
    int rc;
    union {
        struct jpeg_common_struct common;
        struct jpeg_decompress_struct decoder;
        struct jpeg_compress_struct encoder;
    } u;
    uint8_t *icc; /* of the picture, owned */
    unsigned n_icc_bytes;
    uint8_t *cmyk_row; /* owned */
    struct jpeg_destination_mgr dst;
    struct prx_str *encoded;
};

static bool is_unsupported(int msg_code)
{
    switch (msg_code) {
    case JERR_ARITH_NOTIMPL:
    case JERR_BAD_PRECISION:
    case JERR_CCIR601_NOTIMPL:
    case JERR_COMPONENT_COUNT:
    case JERR_CONVERSION_NOTIMPL:
    case JERR_FRACT_SAMPLE_NOTIMPL:
    case JERR_NOT_COMPILED:
    case JERR_SOF_UNSUPPORTED:
        return true;
    default:
        return false;
    }
}

static void fail(j_common_ptr common)
{
    struct jpeg_job *job = (struct jpeg_job *)common->err;
    char text[JMSG_LENGTH_MAX];

    if (common->err->msg_code == JERR_OUT_OF_MEMORY) {
        job->rc = prx_err_nomem("a JPEG");
    } else if (common->err->msg_code == JWRN_JPEG_EOF && common->is_decompressor) {
        const struct jpeg_decompress_struct *decoder = &job->u.decoder;
        if (decoder->output_height == 0)
            job->rc = prx_err(PRX_ECORRUPT, "premature end of JPEG at its header");
        else
            job->rc = prx_err(PRX_ECORRUPT, "premature end of JPEG at row %u of %u",
                              decoder->output_scanline, decoder->output_height);
    } else {
        common->err->format_message(common, text);
        job->rc =
            prx_err(is_unsupported(common->err->msg_code) ? PRX_EFORMAT : PRX_ECORRUPT,
                    "JPEG: %s", text);
    }
    longjmp(job->jump, 1);
}

static bool is_harmless(const struct jpeg_error_mgr *errors)
{
    switch (errors->msg_code) {
    case JWRN_ADOBE_XFORM: /* the colour model is guessed as everybody does */
    case JWRN_BOGUS_ICC:   /* a broken profile is as good as none */
    case JWRN_JFIF_MAJOR:
        return true;
    case JWRN_EXTRANEOUS_DATA:
        return errors->msg_parm.i[0] <= N_PADDING_BYTES_MAX &&
               errors->msg_parm.i[1] == JPEG_EOI;
    default:
        return false;
    }
}

static void on_message(j_common_ptr common, int level)
{
    if (level < 0 && !is_harmless(common->err))
        fail(common);
}

static void job_init(struct jpeg_job *job)
{
    jpeg_std_error(&job->errors);
    job->errors.error_exit = fail;
    job->errors.emit_message = on_message;
    job->u.common.err = &job->errors;
}

static void job_release(struct jpeg_job *job)
{
    jpeg_destroy(&job->u.common);
    free(job->icc);
    free(job->cmyk_row);
}

/* What the markers of a file tell without decoding anything. */
struct outline {
    int n_scans;
    bool has_end;
};

/*
 * Walk over the markers, up to scan @n_scans_max + 1 or the end.  The library would
 * decode every scan for all of the picture: a few bytes each can keep it busy for
 * minutes.
 */
static struct outline find_outline(const uint8_t *bytes, size_t n_bytes,
                                   int n_scans_max)
{
    struct outline found = {0};
    size_t at = 2;

    while (found.n_scans <= n_scans_max && n_bytes - at >= 2) {
        const uint8_t *mark = memchr(bytes + at, 0xff, n_bytes - at - 1);
        if (!mark)
            break;
        at = (size_t)(mark - bytes) + 1;
        int code = bytes[at];
        if (code == 0xff)
            continue;
        at++;
        if (code == 0x00 || code == 0x01 ||
            (code >= JPEG_RST0 && code <= JPEG_RST0 + 7))
            continue;
        found.has_end = code == JPEG_EOI;
        if (found.has_end || n_bytes - at < 2)
            break;
        found.n_scans += code == MARKER_SCAN;
        size_t n_segment_bytes = (size_t)bytes[at] << 8 | bytes[at + 1];
        if (n_segment_bytes > n_bytes - at)
            break;
        at += n_segment_bytes;
    }
    return found;
}

/* The end marker stands at the end, or else somewhere. */
static int check_whole(const uint8_t *bytes, size_t n_bytes)
{
    if (memcmp(bytes + n_bytes - 2, "\xff\xd9", 2) == 0 ||
        find_outline(bytes, n_bytes, INT_MAX - 1).has_end)
        return 0;
    return prx_err(PRX_ECORRUPT, "premature end of JPEG at byte %zu", n_bytes);
}

static int find_orientation(const struct jpeg_decompress_struct *decoder)
{
    for (jpeg_saved_marker_ptr marker = decoder->marker_list; marker;
         marker = marker->next)
        if (marker->marker == MARKER_EXIF && marker->data_length >= 6 &&
            memcmp(marker->data, "Exif\0\0", 6) == 0)
            return prx_exif_orientation(marker->data, marker->data_length);
    return 1;
}

static int read_header(struct jpeg_job *job, struct prx_image_info *info,
                       const uint8_t *bytes, size_t n_bytes,
                       const struct prx_image_limits *limits)
{
    struct jpeg_decompress_struct *decoder = &job->u.decoder;

    jpeg_create_decompress(decoder);
    jpeg_mem_src(decoder, bytes, n_bytes);
    jpeg_save_markers(decoder, MARKER_EXIF, 0xffff);
    jpeg_save_markers(decoder, MARKER_ICC, 0xffff);
    jpeg_read_header(decoder, TRUE);

    info->format = PRX_IMAGE_JPEG;
    info->width_px = (int)decoder->image_width;
    info->height_px = (int)decoder->image_height;
    info->n_channels = decoder->num_components;
    info->bits_per_channel = decoder->data_precision;
    info->exif_orientation = find_orientation(decoder);
    jpeg_read_icc_profile(decoder, &job->icc, &job->n_icc_bytes);
    info->has_icc = job->icc != NULL;

    PRX_TRY(prx_image_check_size(info->width_px, info->height_px, limits));
    /* No block of 8 x 8 pixels takes less than one bit in Huffman's code. */
    if (!decoder->arith_code &&
        (uint64_t)info->width_px * (uint64_t)info->height_px / 64 / 8 > n_bytes)
        return prx_err(PRX_ECORRUPT, "JPEG of %zu bytes announces %d x %d pixels",
                       n_bytes, info->width_px, info->height_px);
    if (jpeg_has_multiple_scans(decoder) &&
        find_outline(bytes, n_bytes, limits->n_scans_max).n_scans > limits->n_scans_max)
        return prx_err(PRX_EINVAL, "JPEG of more than %d scans", limits->n_scans_max);
    return 0;
}

static int probe(struct prx_image_info *info, const uint8_t *bytes, size_t n_bytes,
                 const struct prx_image_limits *limits)
{
    struct jpeg_job job = {0};

    job_init(&job);
    if (setjmp(job.jump) == 0)
        job.rc = read_header(&job, info, bytes, n_bytes, limits);
    job_release(&job);
    return job.rc < 0 ? job.rc : check_whole(bytes, n_bytes);
}

/* ceil(@side_px * @eighths / 8), as the library rounds. */
static double scaled_px(int side_px, int eighths)
{
    return (double)(((int64_t)side_px * eighths + 7) / 8);
}

/* The smallest scale that leaves the resize enough to hide the difference. */
static int choose_eighths(const struct prx_image_info *info,
                          const struct prx_image_decode_opts *opts)
{
    /* The library computes other eighths more slowly than the whole. */
    static const struct {
        int eighths;
        double headroom;
    } choices[] = {
        {1, PRX_IMAGE_HEADROOM_LESS},
        {2, PRX_IMAGE_HEADROOM_LESS},
        {4, PRX_IMAGE_HEADROOM_HALF},
    };

    if (opts->min_width_px <= 0 && opts->min_height_px <= 0)
        return 8;
    bool is_transposed = info->exif_orientation >= 5;
    double want_width = is_transposed ? opts->min_height_px : opts->min_width_px;
    double want_height = is_transposed ? opts->min_width_px : opts->min_height_px;
    for (size_t i = 0; i < sizeof(choices) / sizeof(choices[0]); i++)
        if (scaled_px(info->width_px, choices[i].eighths) >=
                want_width * choices[i].headroom &&
            scaled_px(info->height_px, choices[i].eighths) >=
                want_height * choices[i].headroom)
            return choices[i].eighths;
    return 8;
}

static int read_rows(struct jpeg_job *job, struct prx_image *image,
                     const struct prx_color *color)
{
    struct jpeg_decompress_struct *decoder = &job->u.decoder;
    const size_t row_bytes = (size_t)decoder->output_width * 3;
    JSAMPROW rows[4];

    if (decoder->out_color_space == JCS_CMYK) {
        job->cmyk_row = malloc((size_t)decoder->output_width * 4);
        if (!job->cmyk_row)
            return prx_err_nomem("a row of pixels");
    }
    while (decoder->output_scanline < decoder->output_height) {
        uint8_t *row = image->pixels + decoder->output_scanline * row_bytes;
        if (job->cmyk_row) {
            rows[0] = job->cmyk_row;
            jpeg_read_scanlines(decoder, rows, 1);
            if (color)
                prx_color_apply(color, job->cmyk_row, row, decoder->output_width);
            else
                prx_color_cmyk_plain(job->cmyk_row, row, decoder->output_width);
            continue;
        }
        JDIMENSION n_rows = decoder->output_height - decoder->output_scanline;
        if (n_rows > 4)
            n_rows = 4;
        for (JDIMENSION i = 0; i < n_rows; i++)
            rows[i] = row + i * row_bytes;
        jpeg_read_scanlines(decoder, rows, n_rows);
    }
    jpeg_finish_decompress(decoder);
    return 0;
}

static int read_picture(struct jpeg_job *job, struct prx_image *image,
                        struct prx_image_info *info, const uint8_t *bytes,
                        size_t n_bytes, const struct prx_image_decode_opts *opts)
{
    struct jpeg_decompress_struct *decoder = &job->u.decoder;
    const struct prx_color *color = NULL;

    PRX_TRY(read_header(job, info, bytes, n_bytes, &opts->limits));
    bool is_cmyk =
        decoder->jpeg_color_space == JCS_CMYK || decoder->jpeg_color_space == JCS_YCCK;
    decoder->out_color_space = is_cmyk ? JCS_CMYK : JCS_RGB;
    info->eighths = choose_eighths(info, opts);
    decoder->scale_num = (unsigned)info->eighths;
    decoder->scale_denom = 8;
    jpeg_start_decompress(decoder);
    PRX_TRY(prx_image_reserve(image, (int)decoder->output_width,
                              (int)decoder->output_height));
    if (is_cmyk && !opts->keep_icc_values)
        color =
            prx_color_find(opts->colors, job->icc, job->n_icc_bytes, PRX_COLOR_CMYK);
    PRX_TRY(read_rows(job, image, color));
    if (!is_cmyk)
        prx_color_image(opts, job->icc, job->n_icc_bytes,
                        info->n_channels == 1 ? PRX_COLOR_GREY : PRX_COLOR_RGB, image);
    return 0;
}

static int decode(struct prx_image *image, struct prx_image_info *info,
                  const uint8_t *bytes, size_t n_bytes,
                  const struct prx_image_decode_opts *opts)
{
    struct jpeg_job job = {0};

    job_init(&job);
    if (setjmp(job.jump) == 0)
        job.rc = read_picture(&job, image, info, bytes, n_bytes, opts);
    job_release(&job);
    return job.rc;
}

/* The three calls by which the library writes into a prx_str. */

static void grow(struct jpeg_job *job)
{
    struct prx_str *out = job->encoded;
    int rc = prx_str_reserve(out, out->n_bytes / 2 + 4096);
    if (rc < 0) {
        job->rc = rc;
        longjmp(job->jump, 1);
    }
    job->dst.next_output_byte = (uint8_t *)out->bytes + out->n_bytes;
    job->dst.free_in_buffer = out->cap_bytes - 1 - out->n_bytes;
}

static void start_output(j_compress_ptr encoder)
{
    grow((struct jpeg_job *)encoder->err);
}

/* The buffer is full, whatever the counters say. */
static boolean empty_output(j_compress_ptr encoder)
{
    struct jpeg_job *job = (struct jpeg_job *)encoder->err;
    job->encoded->n_bytes = job->encoded->cap_bytes - 1;
    grow(job);
    return TRUE;
}

static void end_output(j_compress_ptr encoder)
{
    struct prx_str *out = ((struct jpeg_job *)encoder->err)->encoded;
    out->n_bytes = out->cap_bytes - 1 - encoder->dest->free_in_buffer;
}

static void write_picture(struct jpeg_job *job, const struct prx_image *image,
                          int quality)
{
    struct jpeg_compress_struct *encoder = &job->u.encoder;

    jpeg_create_compress(encoder);
    job->dst.init_destination = start_output;
    job->dst.empty_output_buffer = empty_output;
    job->dst.term_destination = end_output;
    encoder->dest = &job->dst;
    encoder->image_width = (JDIMENSION)image->width_px;
    encoder->image_height = (JDIMENSION)image->height_px;
    encoder->input_components = 3;
    encoder->in_color_space = JCS_RGB;
    jpeg_set_defaults(encoder);
    jpeg_set_quality(encoder, quality, TRUE);
    if (quality >= 90) {
        encoder->comp_info[0].h_samp_factor = 1;
        encoder->comp_info[0].v_samp_factor = 1;
    }
    jpeg_start_compress(encoder, TRUE);
    while (encoder->next_scanline < encoder->image_height) {
        size_t at = (size_t)encoder->next_scanline * (size_t)image->width_px * 3;
        JSAMPROW row = image->pixels + at;
        jpeg_write_scanlines(encoder, &row, 1);
    }
    jpeg_finish_compress(encoder);
}

static int encode(const struct prx_image *image, int quality, struct prx_str *out)
{
    struct jpeg_job job = {.encoded = out};

    if (image->width_px > JPEG_MAX_DIMENSION || image->height_px > JPEG_MAX_DIMENSION)
        return prx_err(PRX_EINVAL, "JPEG sides end at %d pixels, not %d x %d",
                       (int)JPEG_MAX_DIMENSION, image->width_px, image->height_px);
    job_init(&job);
    if (setjmp(job.jump) == 0)
        write_picture(&job, image, quality);
    job_release(&job);
    return job.rc;
}

const struct prx_image_codec prx_image_jpeg = {"jpg", probe, decode, encode};
