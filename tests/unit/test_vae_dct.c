/* SPDX-License-Identifier: Apache-2.0 */
/* encoder.h, VAE "dct": what it keeps is exact, what it loses is little. */
#include "train/encoder.h"

#include <math.h>
#include <setjmp.h>
#include <stdarg.h>
#include <stdlib.h>
#include <string.h>

#include <cmocka.h>

#include "libdata/npy.h"
#include "libdata/rng.h"
#include "tests/lib/gen.h"

#define N_CHANNELS 16

static struct prx_vae *vae;

static int open_vae(void **state)
{
    (void)state;
    return prx_vae_open("dct", &vae);
}

static int close_vae(void **state)
{
    (void)state;
    prx_vae_close(vae);
    return 0;
}

static size_t count_values(const struct prx_image *image)
{
    return (size_t)image->width_px * (size_t)image->height_px / 64 * N_CHANNELS;
}

static float *encode(const struct prx_image *image)
{
    float *latent = malloc(count_values(image) * sizeof(*latent));
    assert_non_null(latent);
    assert_int_equal(vae->encode(vae, image, latent), 0);
    return latent;
}

static struct prx_image decode(const float *latent, int width_px, int height_px)
{
    struct prx_image image = {0};
    assert_int_equal(vae->decode(vae, latent, height_px / 8, width_px / 8, &image), 0);
    assert_int_equal(image.width_px, width_px);
    assert_int_equal(image.height_px, height_px);
    return image;
}

static struct prx_image new_image(int width_px, int height_px)
{
    struct prx_image *image, plain;
    assert_int_equal(prx_image_new(width_px, height_px, &image), 0);
    plain = *image;
    free(image);
    return plain;
}

static void test_interface(void **state)
{
    struct prx_vae *other;

    (void)state;
    assert_string_equal(vae->name, "dct");
    assert_int_equal(vae->channels, N_CHANNELS);
    assert_int_equal(vae->downsample, 8);
    assert_int_equal(strlen(vae->fingerprint), 32);
    assert_int_equal(prx_vae_open("no/such.model", &other), PRX_EINVAL);
    assert_non_null(strstr(prx_err_message(), "no/such.model"));
    prx_vae_close(NULL);
}

/* Mean step between columns where blocks meet, over that where they do not. */
static double block_steps(const struct prx_image *image)
{
    double sum[2] = {0};
    int n[2] = {0};
    for (int y = 0; y < image->height_px; y++) {
        for (int x = 1; x < image->width_px; x++) {
            const uint8_t *px = image->pixels + ((size_t)y * (size_t)image->width_px +
                                                 (size_t)x) *
                                                    3;
            sum[x % 8 == 0] += abs(px[1] - px[-2]);
            n[x % 8 == 0]++;
        }
    }
    return sum[1] / n[1] / (sum[0] / n[0]);
}

static void test_photo(void **state)
{
    struct prx_image photo = prx_gen_photo(256, 192, 3);
    size_t n_bytes = 256 * 192 * 3;
    double error = 0;

    (void)state;
    float *latent = encode(&photo);
    struct prx_image back = decode(latent, 256, 192);
    for (size_t i = 0; i < n_bytes; i++)
        error += pow(photo.pixels[i] - back.pixels[i], 2);
    double psnr = 10 * log10(255 * 255 / (error / (double)n_bytes));
    if (psnr < 30)
        fail_msg("PSNR is %.2f dB", psnr);
    if (block_steps(&back) > 1.5)
        fail_msg("steps between blocks are %.2f times the others", block_steps(&back));
    free(latent);
    prx_image_release(&photo);
    prx_image_release(&back);
}

/* A flat picture is its mean, whatever its colour and size. */
static void test_flat(void **state)
{
    static const uint8_t colors[][3] = {
        {0, 0, 0},
        {255, 255, 255},
        {128, 128, 128},
        {255, 0, 0},
        {0, 255, 0},
        {0, 0, 255},
        {17, 130, 201},
    };
    static const int sizes[][2] = {{8, 8}, {8, 40}, {24, 16}, {128, 128}};

    (void)state;
    for (size_t i = 0; i < sizeof(colors) / sizeof(colors[0]); i++) {
        for (size_t j = 0; j < sizeof(sizes) / sizeof(sizes[0]); j++) {
            struct prx_image flat = new_image(sizes[j][0], sizes[j][1]);
            size_t n_px = (size_t)flat.width_px * (size_t)flat.height_px;
            for (size_t k = 0; k < n_px; k++)
                memcpy(flat.pixels + 3 * k, colors[i], 3);
            float *latent = encode(&flat);
            struct prx_image back = decode(latent, flat.width_px, flat.height_px);
            assert_memory_equal(flat.pixels, back.pixels, 3 * n_px);
            free(latent);
            prx_image_release(&flat);
            prx_image_release(&back);
        }
    }
}

/*
 * A picture that came from a latent gives that latent back, but for the rounding of
 * its pixels: an error of at most half a level each, about normal with 0.29 levels
 * after an orthogonal transform; six times that, over the smallest deviation (17).
 */
static void test_span(void **state)
{
    enum { WIDTH_PX = 72,
           HEIGHT_PX = 40,
           N = WIDTH_PX * HEIGHT_PX / 64 * N_CHANNELS };
    float latent[N];
    struct prx_rng rng;

    (void)state;
    for (uint64_t seed = 0; seed < 20; seed++) {
        prx_rng_init(&rng, seed, PRX_RNG_TEST, 0, 0);
        prx_rng_normal(&rng, latent, N);
        /* Small enough that no level is cut off at 0 or 255. */
        for (int i = 0; i < N; i++)
            latent[i] *= 0.12F;
        struct prx_image image = decode(latent, WIDTH_PX, HEIGHT_PX);
        float *again = encode(&image);
        for (int i = 0; i < N; i++)
            assert_float_equal(again[i], latent[i], 6 * 0.29F / 17);
        free(again);
        prx_image_release(&image);
    }
}

/* One cell reaches four pixels into its neighbours and no further. */
static void test_reach(void **state)
{
    enum { SIZE_PX = 64,
           CELLS = SIZE_PX / 8,
           N = CELLS * CELLS * N_CHANNELS };
    static const float rest[N];
    float latent[N] = {0};

    (void)state;
    struct prx_image before = decode(rest, SIZE_PX, SIZE_PX);
    latent[3 * CELLS + 5] = 0.2F;
    latent[9 * CELLS * CELLS + 3 * CELLS + 5] = 1;
    struct prx_image after = decode(latent, SIZE_PX, SIZE_PX);
    int n_changed = 0;
    for (int y = 0; y < SIZE_PX; y++) {
        for (int x = 0; x < SIZE_PX; x++) {
            size_t at = (size_t)(y * SIZE_PX + x) * 3;
            bool is_near = x >= 36 && x < 52 && y >= 20 && y < 36;
            bool is_changed = memcmp(before.pixels + at, after.pixels + at, 3) != 0;
            assert_true(is_near || !is_changed);
            n_changed += is_changed;
        }
    }
    assert_true(n_changed > 64);
    prx_image_release(&before);
    prx_image_release(&after);
}

/* What is on disk must not change: a latent of a made-up picture, by its hash. */
static void test_recorded(void **state)
{
    struct prx_image image = new_image(40, 24);
    static const int64_t dims[3] = {N_CHANNELS, 3, 5};
    char hash[PRX_HASH_HEX_BYTES];
    struct prx_buf *buf;

    (void)state;
    for (int i = 0; i < 40 * 24 * 3; i++)
        image.pixels[i] = (uint8_t)(i * i / 7 + (i % 3) * 40);
    float *latent = encode(&image);
    assert_int_equal(prx_npy_put_f32(PRX_NPY_F16, 3, dims, latent, &buf), 0);
    prx_hash_hex(buf->bytes, buf->n_bytes, hash);
    assert_string_equal(hash, "84234515fc353086fe0b1c38cadc7e95");
    assert_string_equal(vae->fingerprint, "f45c6b2f077f67e832d2b1a9fa8a8546");
    prx_buf_unref(buf);
    free(latent);
    prx_image_release(&image);
}

static void test_refused(void **state)
{
    static const int sizes[][2] = {{12, 8}, {8, 12}, {7, 7}, {250, 130}};
    struct prx_image back = {0};
    float latent[N_CHANNELS * 64] = {0};

    (void)state;
    for (size_t i = 0; i < sizeof(sizes) / sizeof(sizes[0]); i++) {
        struct prx_image image = new_image(sizes[i][0], sizes[i][1]);
        assert_int_equal(vae->encode(vae, &image, latent), PRX_ESHAPE);
        prx_image_release(&image);
    }
    assert_int_equal(vae->decode(vae, latent, 0, 4, &back), PRX_ESHAPE);
    assert_int_equal(vae->decode(vae, latent, 4, -1, &back), PRX_ESHAPE);
    assert_int_equal(vae->decode(vae, latent, 1, INT64_MAX / 4, &back), PRX_ESHAPE);
    latent[77] = NAN;
    assert_int_equal(vae->decode(vae, latent, 8, 8, &back), PRX_ENONFINITE);
    assert_string_equal(prx_err_message(), "value 77 of the latent is nan");
    latent[77] = 1e30F; /* far out, but a number: cut off */
    assert_int_equal(vae->decode(vae, latent, 8, 8, &back), 0);
    prx_image_release(&back);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_interface),
        cmocka_unit_test(test_photo),
        cmocka_unit_test(test_flat),
        cmocka_unit_test(test_span),
        cmocka_unit_test(test_reach),
        cmocka_unit_test(test_recorded),
        cmocka_unit_test(test_refused),
    };
    return cmocka_run_group_tests(tests, open_vae, close_vae);
}
