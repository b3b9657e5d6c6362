/* SPDX-License-Identifier: Apache-2.0 */
/* encoder.h, prx_stage_encode(): which parts are made, kept, made anew, refused. */
#include "train/encoder.h"

#include <math.h>
#include <setjmp.h>
#include <stdarg.h>
#include <stdlib.h>
#include <string.h>

#include <cmocka.h>

#include "libdata/npy.h"
#include "tests/lib/gen.h"

struct bench {
    struct prx_vae *vae;
    struct prx_text_tower *tower;
};

static int open_bench(void **state)
{
    static struct bench bench;
    *state = &bench;
    return prx_vae_open("dct", &bench.vae) < 0 ||
           prx_text_tower_open("hash", NULL, &bench.tower) < 0;
}

static int close_bench(void **state)
{
    struct bench *bench = *state;
    prx_vae_close(bench->vae);
    prx_text_tower_close(bench->tower);
    return 0;
}

static void put(struct prx_sample *sample, const char *name, const char *text)
{
    struct prx_buf *buf;
    assert_int_equal(prx_buf_dup(text, strlen(text), &buf), 0);
    assert_int_equal(prx_sample_put(sample, name, buf), 0);
}

static void put_photo(struct prx_sample *sample, int width_px, int height_px,
                      uint32_t seed)
{
    struct prx_image photo = prx_gen_photo(width_px, height_px, seed);
    struct prx_buf *buf;
    assert_int_equal(prx_image_encode(&photo, PRX_IMAGE_PNG, 0, &buf), 0);
    assert_int_equal(prx_sample_put(sample, "png", buf), 0);
    prx_image_release(&photo);
}

static struct prx_sample new_sample(const char *meta)
{
    struct prx_sample sample = {0};
    assert_int_equal(prx_sample_set_key(&sample, "a"), 0);
    put_photo(&sample, 64, 48, 1);
    if (meta)
        put(&sample, "json", meta);
    return sample;
}

/* Through the stage, as the pipeline does it, to bytes and back. */
static void apply(const struct prx_encode_opts *opts, struct prx_sample *sample)
{
    struct prx_stage stage;
    void *scratch;

    assert_int_equal(prx_stage_encode(opts, &stage), 0);
    assert_int_equal(stage.new_scratch(stage.ctx, &scratch), 0);
    assert_int_equal(stage.apply(stage.ctx, scratch, sample), 0);
    if (!sample->reject_reason)
        assert_int_equal(prx_sample_finish(sample), 0);
    stage.free_scratch(scratch);
    prx_stage_release(&stage);
}

static struct prx_npy part_of(const struct prx_sample *sample, const char *name)
{
    const struct prx_field *field = prx_sample_find(sample, name);
    struct prx_npy npy;
    assert_non_null(field);
    const struct prx_buf *buf = field->bytes;
    assert_int_equal(prx_npy_parse(buf->bytes, buf->n_bytes, &npy), 0);
    return npy;
}

static const json_t *record_of(struct prx_sample *sample, const char *part)
{
    json_t *meta;
    assert_int_equal(prx_sample_meta(sample, &meta), 0);
    const json_t *record = json_object_get(json_object_get(meta, "encode"), part);
    assert_non_null(record);
    return record;
}

static const char *word_of(struct prx_sample *sample, const char *part,
                           const char *name)
{
    return json_string_value(json_object_get(record_of(sample, part), name));
}

static const char both_captions[] =
    "{\"captions\":{\"long\":\"a red cup\",\"short\":\"cup\"},\"license\":\"CC0-1.0\"}";

static void test_all(void **state)
{
    const struct bench *bench = *state;
    const struct prx_encode_opts opts = {.vae = bench->vae, .tower = bench->tower};
    struct prx_sample sample = new_sample(both_captions);
    json_t *meta;

    put(&sample, "txt", "the plain one");
    put(&sample, "alt.txt", "a third\n");
    apply(&opts, &sample);
    assert_null(sample.reject_reason);

    struct prx_npy latent = part_of(&sample, "latent.npy");
    assert_int_equal(latent.type, PRX_NPY_F16);
    assert_int_equal(latent.n_dims, 3);
    assert_int_equal(latent.dims[0], 16);
    assert_int_equal(latent.dims[1], 6);
    assert_int_equal(latent.dims[2], 8);
    assert_int_equal(part_of(&sample, "long.text.npy").dims[0], 4);
    assert_int_equal(part_of(&sample, "short.text.npy").dims[0], 2);
    assert_int_equal(part_of(&sample, "alt.text.npy").dims[0], 3);
    assert_int_equal(part_of(&sample, "alt.text.npy").dims[1], 256);
    assert_null(prx_sample_find(&sample, "txt.text.npy"));
    assert_non_null(prx_sample_find(&sample, "png"));

    assert_string_equal(word_of(&sample, "latent.npy", "fingerprint"),
                        bench->vae->fingerprint);
    assert_string_equal(word_of(&sample, "latent.npy", "vae"), "dct");
    assert_string_equal(word_of(&sample, "latent.npy", "dtype"), "f16");
    assert_string_equal(word_of(&sample, "long.text.npy", "text"), "hash");
    assert_int_equal(strlen(word_of(&sample, "long.text.npy", "input")), 32);
    assert_int_equal(prx_sample_meta(&sample, &meta), 0);
    assert_string_equal(json_string_value(json_object_get(meta, "license")), "CC0-1.0");
    prx_sample_release(&sample);
}

/* The latent is the VAE's, of the decoded picture, in either precision. */
static void test_values(void **state)
{
    const struct bench *bench = *state;
    struct prx_image photo = prx_gen_photo(64, 48, 1);
    float want[16 * 6 * 8], got[16 * 6 * 8];

    assert_int_equal(bench->vae->encode(bench->vae, &photo, want), 0);
    for (int f32 = 0; f32 < 2; f32++) {
        const struct prx_encode_opts opts = {.vae = bench->vae, .f32 = f32};
        struct prx_sample sample = new_sample(NULL);
        apply(&opts, &sample);
        struct prx_npy latent = part_of(&sample, "latent.npy");
        assert_int_equal(prx_npy_get_f32(&latent, got), 0);
        for (size_t i = 0; i < 16 * 6 * 8; i++)
            assert_true(fabsf(got[i] - want[i]) <= (f32 ? 0 : fabsf(want[i]) / 2048));
        assert_string_equal(word_of(&sample, "latent.npy", "dtype"),
                            f32 ? "f32" : "f16");
        prx_sample_release(&sample);
    }
    prx_image_release(&photo);
}

static void test_plain_caption(void **state)
{
    static const char *const names[] = {"txt"};
    const struct bench *bench = *state;
    struct prx_encode_opts opts = {.tower = bench->tower};
    struct prx_sample sample = new_sample("{\"captions\":{\"long\":null}}");

    put(&sample, "txt", "one two");
    apply(&opts, &sample);
    assert_null(sample.reject_reason);
    assert_int_equal(part_of(&sample, "txt.text.npy").dims[0], 3);
    assert_null(prx_sample_find(&sample, "long.text.npy"));
    assert_null(prx_sample_find(&sample, "latent.npy"));
    prx_sample_release(&sample);

    opts.captions = names;
    opts.n_captions = 1;
    sample = new_sample(both_captions);
    put(&sample, "txt", "");
    apply(&opts, &sample);
    assert_null(sample.reject_reason);
    assert_int_equal(part_of(&sample, "txt.text.npy").dims[0], 1);
    assert_null(prx_sample_find(&sample, "long.text.npy"));
    prx_sample_release(&sample);
}

/* Is the buffer of @part still the one at @before? */
static bool is_kept(const struct prx_sample *sample, const char *part,
                    const struct prx_buf *before)
{
    const struct prx_field *field = prx_sample_find(sample, part);
    assert_non_null(field);
    return field->bytes == before;
}

static void test_again(void **state)
{
    const struct bench *bench = *state;
    const struct prx_text_opts narrow = {64, 0};
    struct prx_encode_opts opts = {.vae = bench->vae, .tower = bench->tower};
    struct prx_text_tower *other;
    struct prx_sample sample = new_sample(both_captions);
    const struct prx_buf *latent, *text;

    apply(&opts, &sample);
    latent = prx_sample_find(&sample, "latent.npy")->bytes;
    text = prx_sample_find(&sample, "long.text.npy")->bytes;
    apply(&opts, &sample);
    assert_true(is_kept(&sample, "latent.npy", latent));
    assert_true(is_kept(&sample, "long.text.npy", text));
    assert_false(sample.meta_changed);

    /* Another tower, another precision, another picture, another caption. */
    assert_int_equal(prx_text_tower_open("hash", &narrow, &other), 0);
    opts.tower = other;
    apply(&opts, &sample);
    assert_true(is_kept(&sample, "latent.npy", latent));
    assert_int_equal(part_of(&sample, "long.text.npy").dims[1], 64);
    assert_string_equal(word_of(&sample, "long.text.npy", "fingerprint"),
                        other->fingerprint);
    opts.tower = NULL;
    prx_text_tower_close(other);
    opts.f32 = true;
    apply(&opts, &sample);
    assert_int_equal(part_of(&sample, "latent.npy").type, PRX_NPY_F32);
    char before[PRX_HASH_HEX_BYTES];
    memcpy(before, word_of(&sample, "latent.npy", "input"), sizeof(before));
    put_photo(&sample, 64, 64, 2);
    apply(&opts, &sample);
    assert_int_equal(part_of(&sample, "latent.npy").dims[1], 8);
    assert_string_not_equal(word_of(&sample, "latent.npy", "input"), before);

    /* A part that is damaged, whatever its record says. */
    put(&sample, "latent.npy", "not an array");
    apply(&opts, &sample);
    assert_int_equal(part_of(&sample, "latent.npy").dims[1], 8);
    prx_sample_release(&sample);
}

static void test_drop_image(void **state)
{
    const struct bench *bench = *state;
    struct prx_encode_opts opts = {.vae = bench->vae, .drop_image = true};
    struct prx_sample sample = new_sample(NULL);
    struct prx_buf *copy;

    assert_int_equal(prx_buf_dup("x", 1, &copy), 0);
    assert_int_equal(prx_sample_put(&sample, "webp", copy), 0);
    apply(&opts, &sample);
    assert_null(sample.reject_reason);
    assert_null(prx_sample_find_image(&sample));
    const struct prx_buf *latent = prx_sample_find(&sample, "latent.npy")->bytes;
    /* There is nothing to make it from any more, and no need to. */
    apply(&opts, &sample);
    assert_null(sample.reject_reason);
    assert_true(is_kept(&sample, "latent.npy", latent));
    opts.f32 = true;
    apply(&opts, &sample);
    assert_non_null(strstr(sample.reject_reason, "no image"));
    prx_sample_release(&sample);
}

static void test_left_image(void **state)
{
    const struct bench *bench = *state;
    const struct prx_encode_opts opts = {.vae = bench->vae};
    struct prx_sample sample = {0};

    assert_int_equal(prx_sample_set_key(&sample, "a"), 0);
    assert_int_equal(prx_image_new(16, 32, &sample.image), 0);
    memset(sample.image->pixels, 100, 16 * 32 * 3);
    apply(&opts, &sample);
    assert_null(sample.reject_reason);
    assert_int_equal(part_of(&sample, "latent.npy").dims[1], 4);
    prx_sample_release(&sample);
}

static void test_rejects(void **state)
{
    static const char *const names[] = {"long", "short"};
    static const struct {
        const char *meta;
        int width_px;
        bool no_names;
        const char *says;
    } rows[] = {
        {both_captions, 60, false, "60 x 48 pixels, sides that 8 does not divide"},
        {both_captions, 0, false, "not a JPEG, PNG or WebP"},
        {"{\"captions\":{\"long\":\"a\"}}", 64, false, "no caption 'short'"},
        {"{\"captions\":{\"long\":7}}", 64, false, "captions.long in the metadata is"},
        {"{\"captions\":7}", 64, false, "no caption 'long'"},
        {NULL, 64, false, "no caption 'long'"},
        {"{", 64, false, "json"},
        {"{}", 64, true, "no caption 'txt'"},
        {"{\"captions\":{\"Long\":\"a\"}}", 64, true, "named 'Long'"},
        {"{\"captions\":{\"../x\":\"a\"}}", 64, true, "named '../x'"},
        {"{\"captions\":{\"\":\"a\"}}", 64, true, "named ''"},
    };
    const struct bench *bench = *state;

    for (size_t i = 0; i < sizeof(rows) / sizeof(rows[0]); i++) {
        const struct prx_encode_opts opts = {
            .vae = bench->vae,
            .tower = bench->tower,
            .captions = names,
            .n_captions = rows[i].no_names ? 0 : 2,
        };
        struct prx_sample sample = new_sample(rows[i].meta);
        if (rows[i].width_px > 0)
            put_photo(&sample, rows[i].width_px, 48, 1);
        else
            put(&sample, "png", "GIF89a");
        apply(&opts, &sample);
        if (!sample.reject_reason || !strstr(sample.reject_reason, rows[i].says))
            fail_msg("row %zu: %s", i, sample.reject_reason);
        assert_string_equal(sample.reject_stage, "encode");
        prx_sample_release(&sample);
    }
}

/* A VAE whose numbers no half holds. */
static int encode_huge(const struct prx_vae *vae, const struct prx_image *image,
                       float *latent)
{
    (void)vae;
    for (int i = 0; i < image->width_px * image->height_px / 64; i++)
        latent[i] = 1e6F;
    return 0;
}

static int encode_broken(const struct prx_vae *vae, const struct prx_image *image,
                         float *latent)
{
    (void)vae;
    (void)image;
    (void)latent;
    return prx_err(PRX_EDEVICE, "the device is gone");
}

static void test_foreign_vae(void **state)
{
    struct prx_vae vae = {
        .name = "x", .channels = 1, .downsample = 8, .encode = encode_huge};
    struct prx_encode_opts opts = {.vae = &vae};
    struct prx_sample sample = new_sample(NULL);
    struct prx_stage stage;
    void *scratch;

    (void)state;
    apply(&opts, &sample);
    assert_string_equal(sample.reject_reason,
                        "latent.npy: value 0 is 1e+06, beyond half precision");
    prx_sample_release(&sample);

    sample = new_sample(NULL);
    opts.f32 = true;
    apply(&opts, &sample);
    assert_null(sample.reject_reason);
    prx_sample_release(&sample);

    /* A broken device is no fault of the sample. */
    sample = new_sample(NULL);
    vae.encode = encode_broken;
    assert_int_equal(prx_stage_encode(&opts, &stage), 0);
    assert_int_equal(stage.new_scratch(stage.ctx, &scratch), 0);
    assert_int_equal(stage.apply(stage.ctx, scratch, &sample), PRX_EDEVICE);
    stage.free_scratch(scratch);
    prx_stage_release(&stage);
    prx_sample_release(&sample);
}

static void test_names(void **state)
{
    static const char *const bad[] = {
        "",
        "Long",
        "a/b",
        "a.b",
        "\xc3\xa9",
        "a_name_of_sixty_five_letters_is_one_longer_than_a_part_can_bear_x",
    };
    const struct bench *bench = *state;
    struct prx_stage stage;

    for (size_t i = 0; i < sizeof(bad) / sizeof(bad[0]); i++) {
        const struct prx_encode_opts opts = {
            .tower = bench->tower, .captions = &bad[i], .n_captions = 1};
        assert_int_equal(prx_stage_encode(&opts, &stage), PRX_EINVAL);
    }
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_all),
        cmocka_unit_test(test_values),
        cmocka_unit_test(test_plain_caption),
        cmocka_unit_test(test_again),
        cmocka_unit_test(test_drop_image),
        cmocka_unit_test(test_left_image),
        cmocka_unit_test(test_rejects),
        cmocka_unit_test(test_foreign_vae),
        cmocka_unit_test(test_names),
    };
    return cmocka_run_group_tests(tests, open_bench, close_bench);
}
