/* SPDX-License-Identifier: Apache-2.0 */
/* encoder.h, VAE "pixels": nothing is lost, also through float16. */
#include "train/encoder.h"

#include <math.h>
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <stdlib.h>
#include <string.h>

#include <cmocka.h>

enum { WIDTH = 32,
       HEIGHT = 24,
       N = WIDTH * HEIGHT };

static struct prx_vae *vae;

static int open_vae(void **state)
{
    (void)state;
    return prx_vae_open("pixels", &vae);
}

static int close_vae(void **state)
{
    (void)state;
    prx_vae_close(vae);
    return 0;
}

/* Every level, in every channel. */
static struct prx_image *all_levels(void)
{
    struct prx_image *image = NULL;

    assert_int_equal(prx_image_new(WIDTH, HEIGHT, &image), 0);
    for (int i = 0; i < N; i++) {
        image->pixels[3 * i] = (uint8_t)i;
        image->pixels[3 * i + 1] = (uint8_t)(255 - i);
        image->pixels[3 * i + 2] = (uint8_t)(7 * i);
    }
    return image;
}

static void planes_from_minus_one_to_one(void **state)
{
    struct prx_image *image = all_levels();
    float latent[3 * N];

    (void)state;
    assert_int_equal(vae->channels, 3);
    assert_int_equal(vae->downsample, 1);
    assert_int_equal(vae->encode(vae, image, latent), 0);
    assert_true(latent[0] == -1.0F);  /* red 0 */
    assert_true(latent[255] == 1.0F); /* red 255 */
    assert_true(latent[N] == 1.0F);   /* green 255 */
    assert_true(fabsf(latent[127]) < 0.004F);
    prx_image_free(image);
}

/* The spacing of float16 in [-1, 1] is 16 times finer than that of levels. */
static float as_float16(float value)
{
    return rintf(value * 2048.0F) / 2048.0F;
}

static void what_is_decoded_is_what_was(void **state)
{
    struct prx_image *image = all_levels(), back;
    float latent[3 * N];

    (void)state;
    assert_int_equal(vae->encode(vae, image, latent), 0);
    for (int i = 0; i < 3 * N; i++)
        latent[i] = as_float16(latent[i]);
    assert_int_equal(vae->decode(vae, latent, HEIGHT, WIDTH, &back), 0);
    assert_int_equal(back.width_px, WIDTH);
    assert_int_equal(back.height_px, HEIGHT);
    assert_memory_equal(back.pixels, image->pixels, 3 * N);
    prx_image_release(&back);
    prx_image_free(image);
}

static void beyond_the_range_is_clipped(void **state)
{
    float latent[3] = {-1.7F, 1.4F, 0.0F};
    struct prx_image image;

    (void)state;
    assert_int_equal(vae->decode(vae, latent, 1, 1, &image), 0);
    assert_int_equal(image.pixels[0], 0);
    assert_int_equal(image.pixels[1], 255);
    prx_image_release(&image);
    latent[2] = NAN;
    assert_int_equal(vae->decode(vae, latent, 1, 1, &image), PRX_ENONFINITE);
    assert_int_equal(vae->decode(vae, latent, 0, 1, &image), PRX_ESHAPE);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(planes_from_minus_one_to_one),
        cmocka_unit_test(what_is_decoded_is_what_was),
        cmocka_unit_test(beyond_the_range_is_clipped),
    };
    return cmocka_run_group_tests(tests, open_vae, close_vae);
}
