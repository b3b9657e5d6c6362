/* SPDX-License-Identifier: Apache-2.0 */
/* WebP, through libwebp: lossy, lossless, with alpha; still pictures only. */
#include <stdlib.h>

#include <webp/decode.h>
#include <webp/demux.h>
#include <webp/encode.h>

#include "libdata/sample/image_internal.h"

static int status_error(VP8StatusCode status)
{
    switch (status) {
    case VP8_STATUS_OK:
        return 0;
    case VP8_STATUS_OUT_OF_MEMORY:
        return prx_err_nomem("a WebP");
    case VP8_STATUS_SUSPENDED:
    case VP8_STATUS_NOT_ENOUGH_DATA:
        return prx_err(PRX_ECORRUPT, "premature end of WebP");
    case VP8_STATUS_UNSUPPORTED_FEATURE:
        return prx_err(PRX_EFORMAT, "WebP: unsupported feature");
    default:
        return prx_err(PRX_ECORRUPT, "WebP: broken bitstream");
    }
}

/*
 * Read the header and open what a file holds besides pixels.
 *
 * @out: to be given to WebPDemuxDelete() in any case.
 */
static int open_webp(const uint8_t *bytes, size_t n_bytes,
                     const struct prx_image_limits *limits, struct prx_image_info *info,
                     WebPDemuxer **out)
{
    const WebPData whole = {bytes, n_bytes};
    WebPDemuxState state = WEBP_DEMUX_PARSE_ERROR;
    WebPBitstreamFeatures features;
    WebPChunkIterator exif;

    PRX_TRY(status_error(WebPGetFeatures(bytes, n_bytes, &features)));
    info->format = PRX_IMAGE_WEBP;
    info->width_px = features.width;
    info->height_px = features.height;
    info->has_alpha = features.has_alpha;
    info->n_channels = features.has_alpha ? 4 : 3;
    info->bits_per_channel = 8;
    if (features.has_animation)
        return prx_err(PRX_EFORMAT, "animated WebP");
    PRX_TRY(prx_image_check_size(info->width_px, info->height_px, limits));

    *out = WebPDemuxPartial(&whole, &state);
    if (state == WEBP_DEMUX_PARSING_HEADER || state == WEBP_DEMUX_PARSED_HEADER)
        return prx_err(PRX_ECORRUPT, "premature end of WebP at byte %zu", n_bytes);
    if (!*out)
        return prx_err(PRX_ECORRUPT, "WebP: broken structure");
    info->has_icc = (WebPDemuxGetI(*out, WEBP_FF_FORMAT_FLAGS) & ICCP_FLAG) != 0;
    if (WebPDemuxGetChunk(*out, "EXIF", 1, &exif)) {
        info->exif_orientation =
            prx_exif_orientation(exif.chunk.bytes, exif.chunk.size);
        WebPDemuxReleaseChunkIterator(&exif);
    }
    return 0;
}

static int probe(struct prx_image_info *info, const uint8_t *bytes, size_t n_bytes,
                 const struct prx_image_limits *limits)
{
    WebPDemuxer *demuxer = NULL;

    int rc = open_webp(bytes, n_bytes, limits, info, &demuxer);
    WebPDemuxDelete(demuxer);
    return rc;
}

/* Decode into @pixels, rows of @n_channels (3 or 4) bytes a pixel, unpadded. */
static int read_pixels(const struct prx_image_info *info, const uint8_t *bytes,
                       size_t n_bytes, int n_channels, uint8_t *pixels)
{
    WebPDecoderConfig config;

    if (!WebPInitDecoderConfig(&config))
        return prx_err(PRX_EFORMAT, "libwebp of another version than its header");
    config.output.colorspace = n_channels == 4 ? MODE_RGBA : MODE_RGB;
    config.output.is_external_memory = 1;
    config.output.u.RGBA.rgba = pixels;
    config.output.u.RGBA.stride = info->width_px * n_channels;
    config.output.u.RGBA.size =
        (size_t)info->width_px * (size_t)info->height_px * (size_t)n_channels;
    int rc = status_error(WebPDecode(bytes, n_bytes, &config));
    WebPFreeDecBuffer(&config.output);
    return rc;
}

static int decode(struct prx_image *image, struct prx_image_info *info,
                  const uint8_t *bytes, size_t n_bytes,
                  const struct prx_image_decode_opts *opts)
{
    WebPDemuxer *demuxer = NULL;
    WebPChunkIterator chunk;
    uint8_t *rgba = NULL;
    int rc = 0;

    PRX_GO(open_webp(bytes, n_bytes, &opts->limits, info, &demuxer));
    PRX_GO(prx_image_reserve(image, info->width_px, info->height_px));
    if (info->has_alpha) {
        size_t n_px = (size_t)info->width_px * (size_t)info->height_px;
        rgba = malloc(n_px * 4);
        if (!rgba) {
            rc = prx_err_nomem("a WebP");
            goto out;
        }
        PRX_GO(read_pixels(info, bytes, n_bytes, 4, rgba));
        prx_color_over_white(rgba, image->pixels, n_px);
    } else {
        PRX_GO(read_pixels(info, bytes, n_bytes, 3, image->pixels));
    }
    if (info->has_icc && WebPDemuxGetChunk(demuxer, "ICCP", 1, &chunk)) {
        prx_color_image(opts, chunk.chunk.bytes, chunk.chunk.size, PRX_COLOR_RGB,
                        image);
        WebPDemuxReleaseChunkIterator(&chunk);
    }
out:
    free(rgba);
    WebPDemuxDelete(demuxer);
    return rc;
}

static int write_bytes(const uint8_t *bytes, size_t n_bytes, const WebPPicture *picture)
{
    return prx_str_add(picture->custom_ptr, bytes, n_bytes) == 0;
}

static int encode(const struct prx_image *image, int quality, struct prx_str *out)
{
    WebPConfig config;
    WebPPicture picture;
    int rc = 0;

    if (image->width_px > WEBP_MAX_DIMENSION || image->height_px > WEBP_MAX_DIMENSION)
        return prx_err(PRX_EINVAL, "WebP sides end at %d pixels, not %d x %d",
                       WEBP_MAX_DIMENSION, image->width_px, image->height_px);
    if (!WebPConfigInit(&config) || !WebPPictureInit(&picture))
        return prx_err(PRX_EFORMAT, "libwebp of another version than its header");
    config.quality = (float)quality;
    picture.width = image->width_px;
    picture.height = image->height_px;
    picture.writer = write_bytes;
    picture.custom_ptr = out;
    if (!WebPPictureImportRGB(&picture, image->pixels, image->width_px * 3) ||
        !WebPEncode(&config, &picture))
        rc = prx_err(PRX_ENOMEM, "out of memory while encoding a WebP (error %d)",
                     (int)picture.error_code);
    WebPPictureFree(&picture);
    return rc;
}

const struct prx_image_codec prx_image_webp = {"webp", probe, decode, encode};
