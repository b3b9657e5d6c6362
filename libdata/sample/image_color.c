/* SPDX-License-Identifier: Apache-2.0 */
/*
 * Colours on their way to 8-bit sRGB: ICC profiles (by lcms2), CMYK, alpha.
 *
 * What a profile does is tried out before it is used: one that moves no colour by
 * more than one step is sRGB, whatever its name, and is not applied at all.
 */
#include <stdlib.h>
#include <string.h>

#include <lcms2.h>

#include "libdata/sample/image_internal.h"

/* Grey stands in the first of three equal bytes. */
#define TYPE_GREY_OF_RGB_8 \
 (COLORSPACE_SH(PT_GRAY) | EXTRA_SH(2) | CHANNELS_SH(1) | BYTES_SH(1))

static bool is_identity(cmsHTRANSFORM transform)
{
    enum { N_STEPS = 9,
           N_COLORS = N_STEPS * N_STEPS * N_STEPS };
    uint8_t before[N_COLORS][3], after[N_COLORS][3];

    for (int i = 0; i < N_COLORS; i++) {
        before[i][0] = (uint8_t)(i / N_STEPS / N_STEPS * 255 / (N_STEPS - 1));
        before[i][1] = (uint8_t)(i / N_STEPS % N_STEPS * 255 / (N_STEPS - 1));
        before[i][2] = (uint8_t)(i % N_STEPS * 255 / (N_STEPS - 1));
    }
    cmsDoTransform(transform, before, after, N_COLORS);
    for (int i = 0; i < N_COLORS; i++)
        for (int c = 0; c < 3; c++)
            if (abs(before[i][c] - after[i][c]) > 1)
                return false;
    return true;
}

static bool is_grey_identity(cmsHTRANSFORM transform)
{
    uint8_t before[256][3], after[256][3];

    for (int i = 0; i < 256; i++)
        memset(before[i], i, 3);
    cmsDoTransform(transform, before, after, 256);
    for (int i = 0; i < 256; i++)
        for (int c = 0; c < 3; c++)
            if (abs(i - after[i][c]) > 1)
                return false;
    return true;
}

/* The pixel layout in which the picture can be given to this profile; 0 if none. */
static cmsUInt32Number input_type(cmsHPROFILE profile, enum prx_color_model model)
{
    cmsColorSpaceSignature space = cmsGetColorSpace(profile);

    if (model == PRX_COLOR_CMYK)
        return space == cmsSigCmykData ? TYPE_CMYK_8_REV : 0;
    if (space == cmsSigRgbData)
        return TYPE_RGB_8;
    if (model == PRX_COLOR_GREY && space == cmsSigGrayData)
        return TYPE_GREY_OF_RGB_8;
    return 0;
}

/*
 * Perceptual, as image.h promises.  A profile of a matrix and curves has only one
 * intent, so the answer is the same; but lcms2 has a fast way for such profiles and
 * misses it when it is asked for the perceptual one.
 */
static cmsUInt32Number choose_intent(cmsHPROFILE profile)
{
    return cmsIsMatrixShaper(profile) ? INTENT_RELATIVE_COLORIMETRIC
                                      : INTENT_PERCEPTUAL;
}

static cmsHTRANSFORM new_transform(const uint8_t *icc, size_t n_bytes,
                                   enum prx_color_model model)
{
    cmsHTRANSFORM transform = NULL;
    cmsHPROFILE srgb = NULL;
    cmsUInt32Number type = 0;

    cmsHPROFILE profile = cmsOpenProfileFromMem(icc, (cmsUInt32Number)n_bytes);
    if (!profile)
        return NULL;
    type = input_type(profile, model);
    if (type != 0)
        srgb = cmsCreate_sRGBProfile();
    if (srgb)
        transform = cmsCreateTransform(profile, type, srgb, TYPE_RGB_8,
                                       choose_intent(profile), 0);
    if (srgb)
        cmsCloseProfile(srgb);
    cmsCloseProfile(profile);

    if (transform && (type == TYPE_RGB_8           ? is_identity(transform)
                      : type == TYPE_GREY_OF_RGB_8 ? is_grey_identity(transform)
                                                   : false)) {
        cmsDeleteTransform(transform);
        transform = NULL;
    }
    return transform;
}

const struct prx_color *prx_color_find(struct prx_color_cache *cache,
                                       const uint8_t *icc, size_t n_bytes,
                                       enum prx_color_model model)
{
    char icc_hash[PRX_HASH_HEX_BYTES];
    struct prx_color *slot = NULL;

    if (n_bytes == 0 || n_bytes > UINT32_MAX)
        return NULL;
    prx_hash_hex(icc, n_bytes, icc_hash);
    for (size_t i = 0; i < PRX_COLOR_CACHE_SLOTS && !slot; i++)
        if (cache->slots[i].model == model &&
            strcmp(cache->slots[i].icc_hash, icc_hash) == 0)
            slot = &cache->slots[i];
    if (!slot) {
        slot = &cache->slots[cache->i_next];
        cache->i_next = (cache->i_next + 1) % PRX_COLOR_CACHE_SLOTS;
        if (slot->transform)
            cmsDeleteTransform(slot->transform);
        slot->model = model;
        slot->transform = new_transform(icc, n_bytes, model);
        memcpy(slot->icc_hash, icc_hash, sizeof(icc_hash));
    }
    return slot->transform ? slot : NULL;
}

void prx_color_apply(const struct prx_color *color, const uint8_t *src, uint8_t *dst,
                     size_t n_px)
{
    cmsDoTransform(color->transform, src, dst, (cmsUInt32Number)n_px);
}

void prx_color_image(const struct prx_image_decode_opts *opts, const uint8_t *icc,
                     size_t n_bytes, enum prx_color_model model,
                     struct prx_image *image)
{
    if (opts->keep_icc_values)
        return;
    const struct prx_color *color = prx_color_find(opts->colors, icc, n_bytes, model);
    if (!color)
        return;
    for (int y = 0; y < image->height_px; y++) {
        uint8_t *row = image->pixels + (size_t)y * (size_t)image->width_px * 3;
        prx_color_apply(color, row, row, (size_t)image->width_px);
    }
}

void prx_color_cache_release(struct prx_color_cache *cache)
{
    for (size_t i = 0; i < PRX_COLOR_CACHE_SLOTS; i++)
        if (cache->slots[i].transform)
            cmsDeleteTransform(cache->slots[i].transform);
    *cache = (struct prx_color_cache){0};
}

int prx_color_cache_new(struct prx_color_cache **out)
{
    *out = calloc(1, sizeof(**out));
    return *out ? 0 : prx_err_nomem("a colour cache");
}

void prx_color_cache_free(struct prx_color_cache *cache)
{
    if (cache)
        prx_color_cache_release(cache);
    free(cache);
}

/* a * b / 255, rounded to nearest, for 0 <= a, b <= 255. */
static int mul_255(int a, int b)
{
    int product = a * b + 128;
    return (product + (product >> 8)) >> 8;
}

void prx_color_cmyk_plain(const uint8_t *src, uint8_t *dst, size_t n_px)
{
    for (size_t i = 0; i < n_px; i++, src += 4, dst += 3) {
        int light = src[3];
        for (int c = 0; c < 3; c++)
            dst[c] = (uint8_t)(light - mul_255(255 - src[c], light));
    }
}

void prx_color_over_white(const uint8_t *src, uint8_t *dst, size_t n_px)
{
    for (size_t i = 0; i < n_px; i++, src += 4, dst += 3)
        for (int c = 0; c < 3; c++)
            dst[c] = (uint8_t)(255 - mul_255(255 - src[c], src[3]));
}
