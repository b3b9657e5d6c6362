/* SPDX-License-Identifier: Apache-2.0 */
/*
 * The VAE that is none: a latent is the picture itself, red, green and blue planes
 * from -1 to 1.  For denoisers that work on pixels.
 *
 * Source: PRX prx/models/vae_tower.py (IdentityVAE); Li & He 2025, arXiv:2511.13720.
 */
#include "train/model/encoder_internal.h"

#include <math.h>
#include <stdlib.h>
#include <string.h>

#define VERSION    "prx vae pixels 1: rgb / 127.5 - 1"
#define N_CHANNELS 3
#define HALF_LEVEL 127.5F

static int encode(const struct prx_vae *vae, const struct prx_image *image,
                  float *latent)
{
    size_t n = (size_t)image->width_px * (size_t)image->height_px;
    (void)vae;

    if (image->width_px <= 0 || image->height_px <= 0)
        return prx_err(PRX_ESHAPE, "a picture of %dx%d pixels", image->width_px,
                       image->height_px);
    for (size_t c = 0; c < N_CHANNELS; c++)
        for (size_t i = 0; i < n; i++)
            latent[c * n + i] =
                (float)image->pixels[i * N_CHANNELS + c] / HALF_LEVEL - 1.0F;
    return 0;
}

static uint8_t level_of(float value)
{
    float level = (value + 1.0F) * HALF_LEVEL;
    return (uint8_t)lrintf(level < 0.0F ? 0.0F : level > 255.0F ? 255.0F
                                                                : level);
}

static int decode(const struct prx_vae *vae, const float *latent, int64_t height,
                  int64_t width, struct prx_image *image)
{
    struct prx_image *fresh = NULL;
    (void)vae;

    if (height <= 0 || width <= 0 || height > INT32_MAX || width > INT32_MAX)
        return prx_err(PRX_ESHAPE, "a latent of %lldx%lld cells", (long long)width,
                       (long long)height);
    size_t n = (size_t)width * (size_t)height;
    for (size_t i = 0; i < N_CHANNELS * n; i++)
        if (!isfinite(latent[i]))
            return prx_err(PRX_ENONFINITE, "value %zu of the latent is %g", i,
                           (double)latent[i]);
    PRX_TRY(prx_image_new((int)width, (int)height, &fresh));
    for (size_t i = 0; i < n; i++)
        for (size_t c = 0; c < N_CHANNELS; c++)
            fresh->pixels[i * N_CHANNELS + c] = level_of(latent[c * n + i]);
    *image = *fresh;
    fresh->pixels = NULL;
    prx_image_free(fresh);
    return 0;
}

static void close_vae(struct prx_vae *vae)
{
    free(vae);
}

int prx_vae_pixels_open(struct prx_vae **out)
{
    struct prx_vae *vae = malloc(sizeof(*vae));
    if (!vae)
        return prx_err_nomem("a VAE");
    *vae = (struct prx_vae){
        .name = "pixels",
        .channels = N_CHANNELS,
        .downsample = 1,
        .encode = encode,
        .decode = decode,
        .close = close_vae,
    };
    prx_hash_hex(VERSION, strlen(VERSION), vae->fingerprint);
    *out = vae;
    return 0;
}
