/* SPDX-License-Identifier: Apache-2.0 */
/* The picture stage of libdata/stage.h: sizes, formats, names, metadata, rejects. */
#include "libdata/stage.h"

#include <math.h>
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdlib.h>
#include <string.h>

#include <cmocka.h>

#include "libdata/hash.h"
#include "tests/lib/gen.h"

#define N_OF(array) (sizeof(array) / sizeof((array)[0]))

/* A sample of one image field; takes @file. */
static struct prx_sample make_sample(const char *name, struct prx_buf *file)
{
    struct prx_sample sample = {0};

    assert_int_equal(prx_sample_set_key(&sample, "a/b"), 0);
    assert_int_equal(prx_sample_put(&sample, name, file), 0);
    return sample;
}

static struct prx_buf *make_jpeg(int width_px, int height_px, int orientation)
{
    struct prx_image corners = prx_gen_corners(width_px, height_px);
    struct prx_buf *exif = orientation ? prx_gen_exif(orientation, false) : NULL;
    const struct prx_gen_jpeg how = {.exif = exif};
    struct prx_buf *file = prx_gen_jpeg(&corners, &how);

    prx_buf_unref(exif);
    prx_image_release(&corners);
    return file;
}

static struct prx_buf *make_png(int width_px, int height_px, int color_type)
{
    struct prx_image corners = prx_gen_corners(width_px, height_px);
    const struct prx_gen_png how = {.color_type = color_type, .alpha = 255};
    struct prx_buf *file = prx_gen_png(&corners, &how);

    prx_image_release(&corners);
    return file;
}

static void run_stage(const struct prx_picture_opts *opts, bool deep,
                      struct prx_sample *sample)
{
    struct prx_stage stage;
    void *scratch;

    if (prx_stage_picture(opts, deep, &stage) < 0)
        fail_msg("%s", prx_err_message());
    assert_int_equal(stage.new_scratch(stage.ctx, &scratch), 0);
    assert_int_equal(stage.apply(stage.ctx, scratch, sample), 0);
    stage.free_scratch(scratch);
    prx_stage_release(&stage);
    prx_stage_release(&stage);
}

static int number(struct prx_sample *sample, const char *name)
{
    json_t *meta;

    assert_int_equal(prx_sample_meta(sample, &meta), 0);
    const json_t *value = json_object_get(meta, name);
    if (!json_is_integer(value))
        fail_msg("no number %s", name);
    return (int)json_integer_value(value);
}

/* The sample is good, its only image is @name, and meta tells the truth of it. */
static struct prx_image check_good(struct prx_sample *sample, const char *name)
{
    struct prx_image image = {0};
    struct prx_image_info info;
    char hash[PRX_HASH_HEX_BYTES];
    json_t *meta;

    if (sample->reject_reason)
        fail_msg("rejected: %s", sample->reject_reason);
    assert_int_equal(sample->n_fields, 1);
    const struct prx_field *field = prx_sample_find(sample, name);
    assert_non_null(field);
    const struct prx_buf *bytes = field->bytes;
    assert_int_equal(
        prx_image_decode(&image, &info, bytes->bytes, bytes->n_bytes, NULL), 0);
    assert_int_equal(number(sample, "width"), image.width_px);
    assert_int_equal(number(sample, "height"), image.height_px);
    assert_int_equal(number(sample, "exif_orientation"), info.exif_orientation);
    prx_hash_hex(bytes->bytes, bytes->n_bytes, hash);
    assert_int_equal(prx_sample_meta(sample, &meta), 0);
    assert_string_equal(json_string_value(json_object_get(meta, "xxh128")), hash);
    assert_true(sample->meta_changed);
    return image;
}

static void test_sizes(void **state)
{
    static const struct {
        int width_px, height_px, orientation;
        struct prx_picture_opts opts;
        int want_width_px, want_height_px;
    } rows[] = {
        {300, 200, 0, {.fit = {.size_px = 100, .crop = PRX_CROP_NONE}}, 150, 100},
        {200, 300, 0, {.fit = {.size_px = 100, .crop = PRX_CROP_NONE}}, 100, 150},
        {200, 333, 0, {.fit = {.size_px = 100, .crop = PRX_CROP_NONE}}, 100, 167},
        {300, 200, 6, {.fit = {.size_px = 100, .crop = PRX_CROP_NONE}}, 100, 150},
        {300, 200, 0, {.fit = {.size_px = 64, .crop = PRX_CROP_CENTER}}, 64, 64},
        {301, 203, 8, {.fit = {.size_px = 64, .crop = PRX_CROP_CENTER}}, 64, 64},
        {30, 20, 0, {.fit = {.size_px = 64, .crop = PRX_CROP_CENTER}}, 64, 64},
        {400, 300, 0, {.fit = {.size_px = 256, .crop = PRX_CROP_BUCKET}}, 288, 224},
        {400, 300, 5, {.fit = {.size_px = 256, .crop = PRX_CROP_BUCKET}}, 224, 288},
        {900, 100, 0, {.fit = {.size_px = 256, .crop = PRX_CROP_BUCKET}}, 352, 160},
        {400,
         300,
         0,
         {.fit = {.size_px = 256, .crop = PRX_CROP_BUCKET, .bucket_step_px = 64}},
         256,
         256},
        {301, 203, 7, {.format = PRX_IMAGE_JPEG}, 203, 301},
        {1, 1, 0, {.fit = {.size_px = 16, .crop = PRX_CROP_CENTER}}, 16, 16},
        {1, 70, 0, {.fit = {.size_px = 2, .crop = PRX_CROP_NONE}}, 2, 140},
    };

    (void)state;
    for (size_t i = 0; i < 2 * N_OF(rows); i++) {
        const int k = (int)i / 2;
        struct prx_picture_opts opts = rows[k].opts;
        struct prx_sample sample = make_sample(
            "jpg", make_jpeg(rows[k].width_px, rows[k].height_px, rows[k].orientation));
        bool is_turned = rows[k].orientation >= 5;
        opts.full_decode = i % 2;
        run_stage(&opts, false, &sample);
        struct prx_image image = check_good(&sample, "jpg");
        assert_int_equal(image.width_px, rows[k].want_width_px);
        assert_int_equal(image.height_px, rows[k].want_height_px);
        assert_int_equal(number(&sample, "orig_width"),
                         is_turned ? rows[k].height_px : rows[k].width_px);
        assert_int_equal(number(&sample, "orig_height"),
                         is_turned ? rows[k].width_px : rows[k].height_px);
        assert_int_equal(number(&sample, "exif_orientation"), 1);
        prx_image_release(&image);
        prx_sample_release(&sample);
    }
}

/* The middle stays in the middle and upright, at any decoding scale. */
static void test_crop_is_centred(void **state)
{
    static const int seen_6[4] = {2, 0, 3, 1};

    (void)state;
    for (int i = 0; i < 8; i++) {
        const bool is_turned = i & 1;
        const struct prx_picture_opts opts = {
            .fit = {.size_px = i & 2 ? 64 : 32, .crop = PRX_CROP_CENTER},
            .full_decode = i & 4};
        struct prx_sample sample =
            make_sample("jpg", make_jpeg(602, 398, is_turned ? 6 : 1));
        uint8_t want[4][3];
        for (int k = 0; k < 4; k++)
            memcpy(want[k], prx_gen_corner_colors[is_turned ? seen_6[k] : k], 3);
        run_stage(&opts, false, &sample);
        struct prx_image image = check_good(&sample, "jpg");
        assert_int_equal(prx_gen_wrong_corner(&image, want[0], 4), -1);
        /* The border between the quarters: where red, added up, says it is. */
        const uint8_t *row = image.pixels + 3 * image.width_px * (image.height_px / 4);
        double n_left = 0;
        for (int x = 0; x < image.width_px; x++)
            n_left += (double)(row[3 * x] - want[1][0]) / (want[0][0] - want[1][0]);
        assert_true(fabs(n_left - image.width_px / 2.0) < 0.25);
        prx_image_release(&image);
        prx_sample_release(&sample);
    }
}

/* Scaled decoding may not be told from full decoding once resized. */
static void test_scaled_is_close(void **state)
{
    struct prx_image photo = prx_gen_photo(801, 603, 1), images[2];
    const struct prx_gen_jpeg how = {.quality = 90};

    (void)state;
    for (int i = 0; i < 2; i++) {
        const struct prx_picture_opts opts = {
            .fit = {.size_px = 200, .crop = PRX_CROP_CENTER},
            .format = PRX_IMAGE_PNG,
            .full_decode = i};
        struct prx_sample sample = make_sample("jpg", prx_gen_jpeg(&photo, &how));
        run_stage(&opts, false, &sample);
        images[i] = check_good(&sample, "png");
        prx_sample_release(&sample);
    }
    double sum = 0;
    for (int i = 0; i < 200 * 200 * 3; i++) {
        double diff = images[0].pixels[i] - images[1].pixels[i];
        sum += diff * diff;
    }
    assert_true(sum > 0);                     /* it was scaled */
    assert_true(sum / (200 * 200 * 3) < 6.5); /* 40 dB */
    prx_image_release(&images[0]);
    prx_image_release(&images[1]);
    prx_image_release(&photo);
}

static void test_untouched(void **state)
{
    static const struct {
        int width_px, height_px, orientation;
        struct prx_picture_opts opts;
        bool is_untouched;
    } rows[] = {
        {30, 20, 0, {.fit = {0}}, true},
        {30, 20, 6, {.fit = {0}}, true},
        {32, 32, 0, {.fit = {.size_px = 32, .crop = PRX_CROP_CENTER}}, true},
        {32, 48, 0, {.fit = {.size_px = 32, .crop = PRX_CROP_NONE}}, true},
        {288, 224, 0, {.fit = {.size_px = 256, .crop = PRX_CROP_BUCKET}}, true},
        {32, 32, 3, {.fit = {.size_px = 32, .crop = PRX_CROP_CENTER}}, false},
        {33, 32, 0, {.fit = {.size_px = 32, .crop = PRX_CROP_CENTER}}, false},
        {64, 64, 0, {.fit = {.size_px = 32, .crop = PRX_CROP_CENTER}}, false},
        {32,
         32,
         0,
         {.fit = {.size_px = 32, .crop = PRX_CROP_CENTER}, .format = PRX_IMAGE_JPEG},
         false},
        {32, 32, 0, {.format = PRX_IMAGE_JPEG}, false},
    };

    (void)state;
    for (size_t i = 0; i < 2 * N_OF(rows); i++) {
        const size_t k = i / 2;
        struct prx_buf *file =
            make_jpeg(rows[k].width_px, rows[k].height_px, rows[k].orientation);
        struct prx_sample sample = make_sample("jpg", prx_buf_ref(file));
        run_stage(&rows[k].opts, i % 2, &sample);
        struct prx_image image = check_good(&sample, "jpg");
        assert_int_equal(prx_sample_find(&sample, "jpg")->bytes == file,
                         rows[k].is_untouched);
        prx_image_release(&image);
        prx_sample_release(&sample);
        prx_buf_unref(file);
    }
    /* Not plain RGB: made so, although it has the size. */
    const struct prx_picture_opts opts = {
        .fit = {.size_px = 32, .crop = PRX_CROP_CENTER}};
    struct prx_buf *file = make_png(32, 32, 6);
    struct prx_sample sample = make_sample("png", prx_buf_ref(file));
    run_stage(&opts, false, &sample);
    struct prx_image image = check_good(&sample, "png");
    assert_ptr_not_equal(prx_sample_find(&sample, "png")->bytes, file);
    assert_int_equal(prx_gen_wrong_corner(&image, prx_gen_corner_colors[0], 0), -1);
    prx_image_release(&image);
    prx_sample_release(&sample);
    prx_buf_unref(file);
}

static void test_names(void **state)
{
    static const struct {
        const char *name;
        bool is_png;
        enum prx_image_format format;
        const char *want;
    } rows[] = {
        {"jpg", false, PRX_IMAGE_UNKNOWN, "jpg"},
        {"jpeg", false, PRX_IMAGE_UNKNOWN, "jpeg"},
        {"jpg", true, PRX_IMAGE_UNKNOWN, "png"},
        {"webp", false, PRX_IMAGE_UNKNOWN, "jpg"},
        {"jpeg", false, PRX_IMAGE_JPEG, "jpeg"},
        {"png", true, PRX_IMAGE_JPEG, "jpg"},
        {"jpg", false, PRX_IMAGE_WEBP, "webp"},
        {"png", false, PRX_IMAGE_PNG, "png"},
    };

    (void)state;
    for (size_t i = 0; i < N_OF(rows); i++) {
        const struct prx_picture_opts opts = {.format = rows[i].format};
        struct prx_sample sample = make_sample(
            rows[i].name, rows[i].is_png ? make_png(30, 20, 2) : make_jpeg(30, 20, 0));
        run_stage(&opts, true, &sample);
        struct prx_image image = check_good(&sample, rows[i].want);
        const struct prx_buf *bytes = prx_sample_find(&sample, rows[i].want)->bytes;
        const char *format =
            prx_image_format_name(prx_image_sniff(bytes->bytes, bytes->n_bytes));
        assert_string_equal(format,
                            strcmp(rows[i].want, "jpeg") == 0 ? "jpg" : rows[i].want);
        prx_image_release(&image);
        prx_sample_release(&sample);
    }
}

static void test_meta_kept(void **state)
{
    static const char json[] = "{\"orig_width\":4000,\"orig_height\":3000,\"width\":1,"
                               "\"license\":\"CC0\",\"xxh128\":\"old\"}";
    const struct prx_picture_opts opts = {
        .fit = {.size_px = 16, .crop = PRX_CROP_CENTER}};
    struct prx_sample sample = make_sample("jpg", make_jpeg(30, 20, 0));
    struct prx_buf *bytes;
    json_t *meta;

    (void)state;
    assert_int_equal(prx_buf_dup(json, strlen(json), &bytes), 0);
    assert_int_equal(prx_sample_put(&sample, "json", bytes), 0);
    run_stage(&opts, false, &sample);
    assert_null(sample.reject_reason);
    assert_int_equal(number(&sample, "orig_width"), 4000);
    assert_int_equal(number(&sample, "orig_height"), 3000);
    assert_int_equal(number(&sample, "width"), 16);
    assert_int_equal(prx_sample_meta(&sample, &meta), 0);
    assert_string_equal(json_string_value(json_object_get(meta, "license")), "CC0");
    assert_int_equal(strlen(json_string_value(json_object_get(meta, "xxh128"))), 32);
    prx_sample_release(&sample);
}

static void check_rejected(struct prx_sample *sample, const char *reason)
{
    assert_non_null(sample->reject_reason);
    assert_string_equal(sample->reject_stage, "picture");
    if (!strstr(sample->reject_reason, reason))
        fail_msg("'%s' does not say '%s'", sample->reject_reason, reason);
    prx_sample_release(sample);
}

static void test_rejects(void **state)
{
    static const char html[] = "<html>404</html>";
    const struct prx_picture_opts keep = {.quality = 0};
    const struct prx_picture_opts small = {
        .fit = {.size_px = 16, .crop = PRX_CROP_CENTER}};
    const struct prx_picture_opts large = {
        .fit = {.size_px = 64, .crop = PRX_CROP_CENTER}, .fit.max_upscale = 1};
    const struct prx_picture_opts long_side = {.fit = {.size_px = 256}};
    const struct prx_picture_opts few_px = {.limits.n_px_max = 599};
    struct prx_buf *bytes;
    struct prx_sample sample;

    (void)state;
    assert_int_equal(prx_buf_dup("a cat", 5, &bytes), 0);
    sample = make_sample("txt", bytes);
    run_stage(&keep, false, &sample);
    check_rejected(&sample, "no image");

    assert_int_equal(prx_buf_dup(html, strlen(html), &bytes), 0);
    sample = make_sample("jpg", bytes);
    run_stage(&keep, false, &sample);
    check_rejected(&sample, "not a JPEG, PNG or WebP");

    for (int i = 0; i < 3; i++) { /* resized, only looked at, looked at in depth */
        struct prx_buf *whole = make_jpeg(300, 200, 0);
        assert_int_equal(prx_buf_dup(whole->bytes, whole->n_bytes * 3 / 4, &bytes), 0);
        sample = make_sample("jpg", bytes);
        run_stage(i == 0 ? &small : &keep, i == 2, &sample);
        check_rejected(&sample, "premature end of JPEG at byte ");
        prx_buf_unref(whole);
    }

    sample = make_sample("jpg", make_jpeg(100, 63, 0));
    run_stage(&large, false, &sample);
    check_rejected(&sample, "100 x 63 pixels: too small for 64 x 64");
    sample = make_sample("jpg", make_jpeg(100, 64, 0));
    run_stage(&large, false, &sample);
    assert_null(sample.reject_reason);
    prx_sample_release(&sample);

    sample = make_sample("jpg", make_jpeg(60000, 1, 0));
    run_stage(&long_side, false, &sample);
    check_rejected(&sample, "would become");

    sample = make_sample("jpg", make_jpeg(30, 20, 0));
    run_stage(&few_px, false, &sample);
    check_rejected(&sample, "more than 599 allowed");

    sample = make_sample("jpg", make_png(30, 20, 2));
    assert_int_equal(prx_sample_put(&sample, "png", make_png(30, 20, 2)), 0);
    run_stage(&keep, false, &sample);
    check_rejected(&sample, "there is a field png too");

    sample = make_sample("jpg", make_jpeg(30, 20, 0));
    assert_int_equal(prx_buf_dup("{", 1, &bytes), 0);
    assert_int_equal(prx_sample_put(&sample, "json", bytes), 0);
    run_stage(&keep, false, &sample);
    check_rejected(&sample, "");
}

static void test_opts_refused(void **state)
{
    static const struct prx_picture_opts rows[] = {
        {.fit = {.size_px = -1}},
        {.quality = 101},
        {.quality = -1},
        {.fit = {.bucket_step_px = -32}},
        {.fit = {.size_px = 16, .crop = PRX_CROP_BUCKET, .bucket_step_px = 64}},
    };
    struct prx_stage stage;

    (void)state;
    for (size_t i = 0; i < N_OF(rows); i++) {
        assert_int_equal(prx_stage_picture(&rows[i], false, &stage), PRX_EINVAL);
        assert_null(stage.ctx);
    }
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_sizes),
        cmocka_unit_test(test_crop_is_centred),
        cmocka_unit_test(test_scaled_is_close),
        cmocka_unit_test(test_untouched),
        cmocka_unit_test(test_names),
        cmocka_unit_test(test_meta_kept),
        cmocka_unit_test(test_rejects),
        cmocka_unit_test(test_opts_refused),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
