/* SPDX-License-Identifier: Apache-2.0 */
/* loader.h: pictures decoded, cropped and mirrored; features read along. */
#include <math.h>
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include <cmocka.h>

#include "libdata/image.h"
#include "libdata/loader.h"
#include "libdata/npy.h"
#include "libdata/sink.h"
#include "tests/lib/gen.h"
#include "tests/lib/scratch.h"

#define N_OF(array) (sizeof(array) / sizeof((array)[0]))

enum { N = 12,
       SIZE = 48 };

/* Sample i is sizes[i % 3], a PNG; sample 5 turned by EXIF, sample 7 broken. */
static const int sizes[3][2] = {{64, 64}, {90, 60}, {60, 90}};

struct album {
    struct prx_scratch scratch;
    struct prx_source *source;
    struct prx_loader *loader;
    struct prx_loader_opts opts;
};

static void put_feature(struct prx_sample *sample, int i)
{
    const int64_t dims[] = {3, 5};
    float values[15];
    struct prx_buf *bytes;

    for (int k = 0; k < 15; k++)
        values[k] = (float)i + (float)k / 16;
    PRX_BUG_IF(prx_npy_format(PRX_NPY_F32, 2, dims, values, &bytes) < 0);
    PRX_BUG_IF(prx_sample_put(sample, "dino.feat.npy", bytes) < 0);
}

static void make_sample(struct prx_sample *sample, int i, bool is_broken)
{
    struct prx_image image = prx_gen_photo(sizes[i % 3][0], sizes[i % 3][1],
                                           (uint32_t)i);
    struct prx_buf *exif = prx_gen_exif(6, false);
    const struct prx_gen_png how = {.color_type = 2, .exif = i == 5 ? exif : NULL};
    struct prx_buf *bytes = prx_gen_png(&image, &how);
    char key[16];

    prx_sample_reset(sample);
    snprintf(key, sizeof(key), "p%02d", i);
    PRX_BUG_IF(prx_sample_set_key(sample, key) < 0);
    sample->serial = (uint64_t)i;
    if (is_broken)
        memset(bytes->bytes + bytes->n_bytes / 2, 0x55, bytes->n_bytes / 4);
    PRX_BUG_IF(prx_sample_put(sample, "png", bytes) < 0);
    put_feature(sample, i);
    prx_buf_unref(exif);
    prx_image_release(&image);
}

static void album_write(struct album *album, bool has_broken)
{
    const struct prx_sink_opts opts = {.n_shard_samples_max = 5, .no_sync = true};
    struct prx_sample sample = {0};
    struct prx_sink *sink;
    uint64_t n_done;

    *album = (struct album){
        .opts = {.n_batch = 4,
                 .seed = 3,
                 .shuffle = true,
                 .n_threads = 2,
                 .image = {.form = PRX_LOADER_IMAGE_U8,
                           .fit = {.size_px = SIZE, .crop = PRX_CROP_CENTER}}},
    };
    prx_scratch_open(&album->scratch);
    PRX_BUG_IF(prx_sink_open(prx_scratch_path(&album->scratch, "%06d.tar"), &opts,
                             &n_done, &sink) < 0);
    for (int i = 0; i < N; i++) {
        make_sample(&sample, i, has_broken && i == 7);
        PRX_BUG_IF(prx_sink_put(sink, &sample) < 0);
    }
    PRX_BUG_IF(prx_sink_finish(sink, NULL, NULL) < 0);
    prx_sample_release(&sample);
}

static void album_open(struct album *album)
{
    const char *word = prx_scratch_path(&album->scratch, "index.json");

    prx_loader_close(album->loader);
    prx_source_close(album->source);
    assert_int_equal(prx_source_open(&word, 1, NULL, &album->source), 0);
    const struct prx_loader_set set = {album->source, 1};
    assert_int_equal(prx_loader_open(&set, 1, &album->opts, &album->loader), 0);
}

static void album_close(struct album *album)
{
    prx_loader_close(album->loader);
    prx_source_close(album->source);
    prx_scratch_close(&album->scratch);
}

static struct prx_loader_batch next(struct album *album)
{
    struct prx_loader_batch batch;
    int rc = prx_loader_next(album->loader, &batch);

    if (rc < 0)
        print_message("%s\n", prx_err_message());
    assert_int_equal(rc, 0);
    return batch;
}

/* What sample @i must become, by the plain functions. */
static struct prx_image want_image(int i, int width_px, int height_px)
{
    struct prx_image decoded = {0}, resized = {0};
    struct prx_sample sample = {0};

    make_sample(&sample, i, false);
    const struct prx_buf *bytes = prx_sample_find_image(&sample)->bytes;
    assert_int_equal(
        prx_image_decode(&decoded, NULL, bytes->bytes, bytes->n_bytes, NULL), 0);
    /* Whole pixels: the sizes are chosen so. */
    int side = decoded.width_px < decoded.height_px ? decoded.width_px
                                                    : decoded.height_px;
    int crop[4] = {(decoded.width_px - side) / 2, (decoded.height_px - side) / 2, side,
                   side};
    assert_int_equal(prx_image_resize(&decoded, crop, PRX_LANCZOS, width_px, height_px,
                                      &resized),
                     0);
    prx_image_release(&decoded);
    prx_sample_release(&sample);
    return resized;
}

static void check_pixels(const struct prx_loader_batch *batch, int64_t i,
                         const struct prx_image *want, bool is_mirrored)
{
    for (int y = 0; y < SIZE; y++) {
        for (int x = 0; x < SIZE; x++) {
            int from = is_mirrored ? SIZE - 1 - x : x;
            for (int c = 0; c < 3; c++) {
                uint8_t level = want->pixels[(y * SIZE + from) * 3 + c];
                int64_t chw = ((i * 3 + c) * SIZE + y) * SIZE + x;
                if (batch->image_u8)
                    assert_int_equal(
                        batch->image_u8[((i * SIZE + y) * SIZE + x) * 3 + c], level);
                else
                    assert_true(batch->image[chw] == (float)level / 127.5F - 1.0F);
            }
        }
    }
}

static void test_pixels(void **state)
{
    struct album album;
    (void)state;

    album_write(&album, false);
    for (int form = PRX_LOADER_IMAGE_U8; form <= PRX_LOADER_IMAGE_F32; form++) {
        for (int flip = 0; flip < 2; flip++) {
            album.opts.image.form = (enum prx_loader_image_form)form;
            album.opts.image.flip = flip;
            album_open(&album);
            for (int k = 0; k < 3; k++) {
                struct prx_loader_batch batch = next(&album);
                assert_int_equal(batch.image_height, SIZE);
                assert_int_equal(batch.image_width, SIZE);
                assert_null(batch.latent);
                assert_null(batch.text);
                for (int64_t i = 0; i < 4; i++) {
                    struct prx_image want =
                        want_image((int)batch.draws[i].sample, SIZE, SIZE);
                    check_pixels(&batch, i, &want, flip);
                    prx_image_release(&want);
                }
            }
        }
    }
    album_close(&album);
}

/* About as many are mirrored as asked for; which, the epoch decides, not the batch. */
static void test_flip_and_crop_are_drawn(void **state)
{
    static uint8_t first[N][SIZE * SIZE * 3];
    struct album album;
    int n_other = 0, n_same_next = 0;
    (void)state;

    album_write(&album, false);
    album.opts.image.random_crop = true;
    album.opts.image.flip = 0.5;
    for (int round = 0; round < 2; round++) {
        album.opts.n_batch = round ? 3 : 4;
        album_open(&album);
        for (size_t k = 0; k < 2 * N / album.opts.n_batch; k++) {
            struct prx_loader_batch batch = next(&album);
            for (int64_t i = 0; i < batch.n_samples; i++) {
                const uint8_t *pixels = batch.image_u8 + i * SIZE * SIZE * 3;
                uint32_t sample = batch.draws[i].sample;
                if (round == 0 && batch.draws[i].epoch == 0)
                    memcpy(first[sample], pixels, sizeof(first[0]));
                else if (batch.draws[i].epoch == 0)
                    assert_memory_equal(first[sample], pixels, sizeof(first[0]));
                else
                    n_same_next += memcmp(first[sample], pixels, sizeof(first[0])) == 0;
                struct prx_image want = want_image((int)sample, SIZE, SIZE);
                n_other += memcmp(want.pixels, pixels, sizeof(first[0])) != 0;
                prx_image_release(&want);
            }
        }
    }
    assert_true(n_other > N);
    assert_true(n_same_next < N); /* squares that are mirrored alike */
    album_close(&album);
}

/* A batch is of one bucket, all buckets come, nothing is lost. */
static void test_buckets(void **state)
{
    int counts[N] = {0}, n_shapes[3] = {0};
    struct prx_loader_summary summary;
    struct album album;
    (void)state;

    album_write(&album, false);
    album.opts.image.fit.crop = PRX_CROP_BUCKET;
    album.opts.image.fit.size_px = 64;
    album.opts.image.fit.bucket_step_px = 16;
    album.opts.n_batch = 2;
    album_open(&album);
    prx_loader_summary(album.loader, &summary);
    assert_int_equal(summary.n_shapes, 3);
    for (int k = 0; k < 2 * N / 2; k++) {
        struct prx_loader_batch batch = next(&album);
        int aspect = batch.image_width == batch.image_height  ? 0
                     : batch.image_width > batch.image_height ? 1
                                                              : 2;
        n_shapes[aspect]++;
        for (int64_t i = 0; i < 2; i++) {
            int sample = (int)batch.draws[i].sample;
            /* Turned by EXIF, a high one is a wide one. */
            assert_int_equal(sample == 5 ? 1 : sample % 3, aspect);
            counts[sample]++;
        }
    }
    for (int i = 0; i < N; i++)
        assert_true(counts[i] >= 1 && counts[i] <= 3);
    assert_true(n_shapes[0] > 0 && n_shapes[1] > 0 && n_shapes[2] > 0);
    album_close(&album);
}

/* A broken picture is replaced by the next one, and told of. */
static void test_broken(void **state)
{
    struct album album;
    int64_t n_replaced = 0;
    (void)state;

    album_write(&album, true);
    album_open(&album);
    for (int k = 0; k < 3; k++) {
        struct prx_loader_batch batch = next(&album);
        n_replaced += batch.n_replaced;
        for (int64_t i = 0; i < 4; i++) {
            int sample = (int)batch.draws[i].sample;
            struct prx_image want = want_image(sample == 7 ? 8 : sample, SIZE, SIZE);
            check_pixels(&batch, i, &want, false);
            prx_image_release(&want);
        }
        if (batch.n_replaced > 0)
            assert_non_null(strstr(batch.replaced_reason, "p07: "));
    }
    assert_int_equal(n_replaced, 1);
    album_close(&album);
}

static void test_too_small(void **state)
{
    struct prx_loader_summary summary;
    struct album album;
    (void)state;

    album_write(&album, false);
    album.opts.image.fit.size_px = 80;
    album.opts.image.fit.max_upscale = 1.3; /* of 64 pixels 80, but not of 60 */
    album_open(&album);
    prx_loader_summary(album.loader, &summary);
    assert_int_equal(summary.n_samples, 4);
    assert_int_equal(summary.n_rejected, 8);
    album_close(&album);
}

static void test_features(void **state)
{
    static const char *const names[] = {"dino"};
    struct album album;
    (void)state;

    album_write(&album, false);
    album.opts.n_features = 1;
    album.opts.features = names;
    for (int has_image = 0; has_image < 2; has_image++) {
        if (!has_image)
            album.opts.image.form = PRX_LOADER_NO_IMAGE;
        else
            album.opts.image.form = PRX_LOADER_IMAGE_F32;
        album_open(&album);
        for (int k = 0; k < 6; k++) {
            struct prx_loader_batch batch = next(&album);
            assert_int_equal(batch.features[0].n_tokens, 3);
            assert_int_equal(batch.features[0].width, 5);
            assert_int_equal(batch.image != NULL, has_image);
            for (int64_t i = 0; i < 4 * 15; i++)
                assert_true(batch.features[0].values[i] ==
                            (float)batch.draws[i / 15].sample + (float)(i % 15) / 16);
        }
    }
    album_close(&album);
}

static size_t n_allocated;

static void *allocate(void *ctx, size_t n_bytes)
{
    ++*(int *)ctx;
    n_allocated += n_bytes;
    return aligned_alloc(4096, (n_bytes + 4095) / 4096 * 4096);
}

static void deallocate(void *ctx, void *memory)
{
    --*(int *)ctx;
    free(memory);
}

/* Batches lie in the caller's memory, and no more of it is taken than is allowed. */
static void test_memory(void **state)
{
    static const char *const names[] = {"dino"};
    struct album album;
    int n_live = 0;
    (void)state;

    album_write(&album, false);
    album.opts.n_features = 1;
    album.opts.features = names;
    album.opts.allocate = allocate;
    album.opts.deallocate = deallocate;
    album.opts.memory_ctx = &n_live;
    uint64_t n_batch_bytes = 4 * (SIZE * SIZE * 3 + 15 * sizeof(float));
    album.opts.n_prefetch_bytes = 3 * n_batch_bytes + 5;
    album_open(&album);
    for (int k = 0; k < 40; k++) {
        struct prx_loader_batch batch = next(&album);
        assert_int_equal((uintptr_t)batch.image_u8 % 4096, 0);
    }
    assert_true(n_live <= 2 * 4 && n_live >= 2);
    assert_true(n_allocated <= 4 * (n_batch_bytes + 2 * 64));
    album_close(&album);
    assert_int_equal(n_live, 0);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_pixels),
        cmocka_unit_test(test_flip_and_crop_are_drawn),
        cmocka_unit_test(test_buckets),
        cmocka_unit_test(test_broken),
        cmocka_unit_test(test_too_small),
        cmocka_unit_test(test_features),
        cmocka_unit_test(test_memory),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
