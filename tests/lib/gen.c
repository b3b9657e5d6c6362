/* SPDX-License-Identifier: Apache-2.0 */
/* Test pictures as pixels, and the EXIF and ICC blocks that files carry. */
#include "tests/lib/gen.h"

#include <math.h>
#include <stdlib.h>
#include <string.h>

#include <lcms2.h>

#define MUST(cond) PRX_BUG_IF(!(cond))

const uint8_t prx_gen_corner_colors[4][3] = {
    {220, 30, 40},
    {20, 160, 60},
    {30, 60, 200},
    {240, 210, 20},
};

static struct prx_image new_image(int width_px, int height_px)
{
    struct prx_image image = {.width_px = width_px, .height_px = height_px};
    image.cap_bytes = (size_t)width_px * (size_t)height_px * 3;
    image.pixels = malloc(image.cap_bytes);
    MUST(image.pixels);
    return image;
}

struct prx_image prx_gen_corners(int width_px, int height_px)
{
    struct prx_image image = new_image(width_px, height_px);
    uint8_t *px = image.pixels;

    for (int y = 0; y < height_px; y++)
        for (int x = 0; x < width_px; x++, px += 3)
            memcpy(
                px,
                prx_gen_corner_colors[(y >= height_px / 2) * 2 + (x >= width_px / 2)],
                3);
    return image;
}

int prx_gen_wrong_corner(const struct prx_image *image, const uint8_t *want, int slack)
{
    for (int i = 0; i < 4; i++) {
        size_t x = (size_t)image->width_px * (i % 2 ? 3 : 1) / 4;
        size_t y = (size_t)image->height_px * (i / 2 ? 3 : 1) / 4;
        const uint8_t *px = image->pixels + (y * (size_t)image->width_px + x) * 3;
        for (int c = 0; c < 3; c++)
            if (abs(px[c] - want[i * 3 + c]) > slack)
                return i;
    }
    return -1;
}

struct prx_image prx_gen_photo(int width_px, int height_px, uint32_t seed)
{
    struct prx_image image = new_image(width_px, height_px);
    uint32_t state = seed * 2654435761u + 1;
    uint8_t *px = image.pixels;

    for (int y = 0; y < height_px; y++) {
        for (int x = 0; x < width_px; x++) {
            bool is_inside =
                hypot(x - width_px * 0.4, y - height_px * 0.6) < height_px * 0.3;
            for (int c = 0; c < 3; c++) {
                state = state * 1664525u + 1013904223u;
                double grain = (double)(state >> 24) / 16 - 8;
                double wave = sin(x * 0.05 * (c + 1) + seed) * cos(y * 0.04 + c) * 60;
                double value = (is_inside ? 170 : 90) + wave + grain;
                *px++ = (uint8_t)fmin(fmax(value, 0), 255);
            }
        }
    }
    return image;
}

struct prx_buf *prx_gen_exif(int orientation, bool is_big)
{
    /* Two entries: the width, which is of no matter, and the orientation. */
    static const uint8_t little[] = {
        'I', 'I', '*', 0, 8, 0, 0, 0, 2, 0, 0x00, 0x01, 3, 0, 1, 0, 0, 0, 9,
        0, 0, 0, 0x12, 0x01, 3, 0, 1, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0};
    static const uint8_t big[] = {'M', 'M', 0, '*', 0, 0, 0, 8, 0, 2, 0x01, 0x00, 0,
                                  3, 0, 0, 0, 1, 0, 9, 0, 0, 0x01, 0x12, 0, 3,
                                  0, 0, 0, 1, 0, 0, 0, 0, 0, 0, 0, 0};
    struct prx_buf *exif;

    MUST(prx_buf_dup(is_big ? big : little, sizeof(big), &exif) == 0);
    exif->bytes[is_big ? 31 : 30] = (uint8_t)orientation;
    return exif;
}

static cmsHPROFILE new_rgb(bool is_swapped)
{
    const cmsCIExyY white = {0.3127, 0.3290, 1.0};
    const cmsCIExyYTRIPLE primaries = {
        {0.64, 0.33, 1}, {0.30, 0.60, 1}, {0.15, 0.06, 1}};
    const cmsCIExyYTRIPLE swapped = {{0.30, 0.60, 1}, {0.64, 0.33, 1}, {0.15, 0.06, 1}};
    const cmsFloat64Number params[] = {2.4, 1 / 1.055, 0.055 / 1.055, 1 / 12.92,
                                       0.04045};
    cmsToneCurve *curve = cmsBuildParametricToneCurve(NULL, 4, params);
    cmsToneCurve *curves[] = {curve, curve, curve};
    MUST(curve);
    cmsHPROFILE profile =
        cmsCreateRGBProfile(&white, is_swapped ? &swapped : &primaries, curves);
    cmsFreeToneCurve(curve);
    return profile;
}

static cmsHPROFILE new_grey(void)
{
    cmsToneCurve *curve = cmsBuildGamma(NULL, 1.0);
    MUST(curve);
    cmsHPROFILE profile = cmsCreateGrayProfile(cmsD50_xyY(), curve);
    cmsFreeToneCurve(curve);
    return profile;
}

/* A table from four inks to Lab: three take a third of the light each, black all. */
static cmsHPROFILE new_cmyk(void)
{
    cmsUInt16Number table[16][3]; /* [CMYK, Lab]: K is the lowest bit of the four */
    for (int i = 0; i < 16; i++) {
        int n_inks = (i >> 3 & 1) + (i >> 2 & 1) + (i >> 1 & 1);
        table[i][0] = (cmsUInt16Number)(i & 1 ? 0 : 0xff00 * (3 - n_inks) / 3);
        table[i][1] = table[i][2] = 0x8000;
    }
    cmsHPROFILE profile = cmsCreateProfilePlaceholder(NULL);
    cmsPipeline *lut = cmsPipelineAlloc(NULL, 4, 3);
    MUST(profile && lut);
    cmsSetProfileVersion(profile, 2.4);
    cmsSetDeviceClass(profile, cmsSigOutputClass);
    cmsSetColorSpace(profile, cmsSigCmykData);
    cmsSetPCS(profile, cmsSigLabData);
    MUST(cmsPipelineInsertStage(lut, cmsAT_BEGIN,
                                cmsStageAllocCLut16bit(NULL, 2, 4, 3, &table[0][0])));
    MUST(cmsWriteTag(profile, cmsSigAToB0Tag, lut));
    cmsPipelineFree(lut);
    return profile;
}

struct prx_buf *prx_gen_icc(enum prx_gen_profile kind)
{
    cmsUInt32Number n_bytes = 0;
    struct prx_buf *icc;

    cmsHPROFILE profile = kind == PRX_GEN_CMYK   ? new_cmyk()
                          : kind == PRX_GEN_GREY ? new_grey()
                                                 : new_rgb(kind == PRX_GEN_SWAPPED);
    MUST(profile && cmsSaveProfileToMem(profile, NULL, &n_bytes));
    MUST(prx_buf_new(n_bytes, &icc) == 0);
    MUST(cmsSaveProfileToMem(profile, icc->bytes, &n_bytes));
    cmsCloseProfile(profile);
    return icc;
}
