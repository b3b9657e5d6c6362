/* SPDX-License-Identifier: Apache-2.0 */
/* sample.h: fields, lazy loading, metadata, rejects, keys. */
#include "libdata/sample.h"

#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <stdlib.h>
#include <string.h>

#include <cmocka.h>

#include "tests/lib/scratch.h"

#define N_OF(array) (sizeof(array) / sizeof((array)[0]))

static void put_text(struct prx_sample *sample, const char *name, const char *text)
{
    struct prx_buf *buf;
    assert_int_equal(prx_buf_dup(text, strlen(text), &buf), 0);
    assert_int_equal(prx_sample_put(sample, name, buf), 0);
}

static void assert_text(const struct prx_sample *sample, const char *name,
                        const char *want)
{
    struct prx_field *field = prx_sample_find(sample, name);
    assert_non_null(field);
    assert_non_null(field->bytes);
    assert_int_equal(field->n_bytes, strlen(want));
    assert_memory_equal(field->bytes->bytes, want, strlen(want));
}

static void test_fields_are_sorted_and_unique(void **state)
{
    struct prx_sample sample = {0}, other = {0};

    (void)state;
    put_text(&sample, "txt", "1");
    put_text(&sample, "json", "{}");
    put_text(&sample, "latent.npy", "22");
    put_text(&sample, "webp", "333");
    put_text(&sample, "txt", "4444");
    assert_int_equal(sample.n_fields, 4);
    for (size_t i = 1; i < sample.n_fields; i++)
        assert_true(strcmp(sample.fields[i - 1].name, sample.fields[i].name) < 0);
    assert_text(&sample, "txt", "4444");
    assert_int_equal(prx_sample_bytes(&sample), 4 + 2 + 2 + 3);
    assert_ptr_equal(prx_sample_find_image(&sample), prx_sample_find(&sample, "webp"));
    put_text(&sample, "jpg", "j");
    assert_ptr_equal(prx_sample_find_image(&sample), prx_sample_find(&sample, "jpg"));
    prx_sample_drop(&sample, "json");
    prx_sample_drop(&sample, "json");
    assert_null(prx_sample_find(&sample, "json"));
    assert_int_equal(sample.n_fields, 4);

    assert_int_equal(prx_sample_set_key(&sample, "a/b"), 0);
    prx_sample_move(&other, &sample);
    assert_int_equal(sample.n_fields, 0);
    assert_string_equal(other.key, "a/b");
    prx_sample_reset(&other);
    assert_null(other.key);
    assert_int_equal(other.n_fields, 0);
    prx_sample_release(&other);
    prx_sample_release(&other);
    prx_sample_release(NULL);
}

static void test_load(void **state)
{
    struct prx_scratch scratch;
    struct prx_sample sample = {0};

    (void)state;
    prx_scratch_open(&scratch);
    const char *path = prx_scratch_puts(&scratch, "f", "0123456789");
    assert_int_equal(prx_sample_put_path(&sample, "all", path, 0, 10), 0);
    assert_int_equal(prx_sample_put_path(&sample, "part", path, 3, 4), 0);
    assert_int_equal(prx_sample_put_path(&sample, "none", path, 10, 0), 0);
    assert_int_equal(prx_sample_load(&sample), 0);
    assert_text(&sample, "all", "0123456789");
    assert_text(&sample, "part", "3456");
    assert_text(&sample, "none", "");
    assert_int_equal(prx_sample_load(&sample), 0);

    static const struct {
        uint64_t offset_bytes, n_bytes;
        const char *name;
        int want;
    } rows[] = {
        {0, 9, "f", PRX_ECORRUPT},  /* it grew */
        {0, 11, "f", PRX_ECORRUPT}, /* it shrank */
        {5, 6, "f", PRX_ECORRUPT},  /* ends too soon */
        {0, 1, "g", PRX_ENOENT},
        {0, 0, ".", PRX_ECORRUPT},                 /* now a folder */
        {1, (uint64_t)1 << 62, "f", PRX_ECORRUPT}, /* not believed */
        {(uint64_t)1 << 62, 1, "f", PRX_ECORRUPT},
    };
    for (size_t i = 0; i < N_OF(rows); i++) {
        prx_sample_reset(&sample);
        path = prx_scratch_path(&scratch, rows[i].name);
        assert_int_equal(prx_sample_put_path(&sample, "x", path, rows[i].offset_bytes,
                                             rows[i].n_bytes),
                         0);
        assert_int_equal(prx_sample_load(&sample), rows[i].want);
        assert_non_null(strstr(prx_err_message(), path));
    }
    prx_sample_release(&sample);
    prx_scratch_close(&scratch);
}

static void test_meta(void **state)
{
    struct prx_sample sample = {0};
    json_t *meta, *again;

    (void)state;
    put_text(&sample, "json", " {\"z\": 1, \"a\": [1.5, null], \"\\u00e9\": \"x\"} ");
    assert_int_equal(prx_sample_meta(&sample, &meta), 0);
    assert_int_equal(prx_sample_finish(&sample), 0);
    assert_text(&sample, "json",
                " {\"z\": 1, \"a\": [1.5, null], \"\\u00e9\": \"x\"} ");
    json_object_set_new(meta, "m", json_true());
    sample.meta_changed = true;
    assert_int_equal(prx_sample_finish(&sample), 0);
    assert_text(&sample, "json", "{\"a\":[1.5,null],\"m\":true,\"z\":1,\"é\":\"x\"}\n");
    /* The parsed object lives on, until the field is replaced. */
    assert_int_equal(prx_sample_meta(&sample, &again), 0);
    assert_ptr_equal(meta, again);
    put_text(&sample, "json", "{\"b\":2}");
    assert_int_equal(prx_sample_meta(&sample, &meta), 0);
    assert_int_equal(json_integer_value(json_object_get(meta, "b")), 2);

    prx_sample_drop(&sample, "json");
    assert_int_equal(prx_sample_meta(&sample, &meta), 0);
    assert_int_equal(json_object_size(meta), 0);
    assert_int_equal(prx_sample_finish(&sample), 0);
    assert_null(prx_sample_find(&sample, "json"));

    static const char *const bad[] = {
        "", "[1]", "{\"a\":}", "{} x", "{\"a\":\"\xff\"}", "nul", "{\"a\":1"};
    for (size_t i = 0; i < N_OF(bad); i++) {
        put_text(&sample, "json", bad[i]);
        assert_int_equal(prx_sample_meta(&sample, &meta), PRX_ECORRUPT);
    }
    prx_sample_release(&sample);
}

static void test_reject(void **state)
{
    struct prx_sample sample = {0};

    (void)state;
    prx_sample_reject(&sample, "decode", "at \xff%d\n", 7);
    prx_sample_reject(&sample, "later", "second");
    assert_string_equal(sample.reject_stage, "decode");
    assert_string_equal(sample.reject_reason, "at \\xff7\\x0a");
    prx_sample_release(&sample);
}

static void test_key_split(void **state)
{
    /* What webdataset's base_plus_ext() gives, but for hidden base names. */
    static const struct {
        const char *path, *key, *field;
    } rows[] = {
        {"a.jpg", "a", "jpg"},
        {"a/b.jpg", "a/b", "jpg"},
        {"a.b/c.long.TXT", "a.b/c", "long.TXT"},
        {"/a.b", "/a", "b"},
        {"a/b.c.d.e", "a/b", "c.d.e"},
        {"a.", "a", ""},
        {"a b.jpg", "a b", "jpg"},
        {"../x.jpg", "../x", "jpg"},
        {"a", NULL, NULL},
        {"", NULL, NULL},
        {"a.b/c", NULL, NULL},
        {".a", NULL, NULL},
        {"dir/._x.jpg", NULL, NULL},
        {"dir/.x.jpg", NULL, NULL},
        {"dir/", NULL, NULL},
    };

    (void)state;
    for (size_t i = 0; i < N_OF(rows); i++) {
        size_t n_key = prx_key_split(rows[i].path);
        assert_int_equal(n_key, rows[i].key ? strlen(rows[i].key) : 0);
        if (rows[i].key) {
            assert_memory_equal(rows[i].path, rows[i].key, n_key);
            assert_string_equal(rows[i].path + n_key + 1, rows[i].field);
        }
    }
}

static void test_key_check(void **state)
{
    static const char *const good[] = {"a", "a/b", "a b", "é", "\U0001f600",
                                       "...", "a/..b", "a../b", "%d", "~"};
    static const struct {
        const char *key, *why;
    } bad[] = {
        {"", "empty"},
        {"/a", "absolute"},
        {"..", ".."},
        {"../a", ".."},
        {"a/../b", ".."},
        {"a/..", ".."},
        {".", "component ."},
        {"a/./b", "component ."},
        {"a//b", "empty component"},
        {"a/", "empty component"},
        {"a\nb", "control"},
        {"a\x7f", "control"},
        {"\x80", "UTF-8"},
        {"\xc0\xaf", "UTF-8"},         /* overlong slash */
        {"\xe0\x80\xaf", "UTF-8"},     /* and again */
        {"\xed\xa0\x80", "UTF-8"},     /* surrogate */
        {"\xf4\x90\x80\x80", "UTF-8"}, /* above U+10FFFF */
        {"\xe2\x82", "UTF-8"},         /* cut */
    };
    char long_key[PRX_KEY_BYTES_MAX + 2];

    (void)state;
    for (size_t i = 0; i < N_OF(good); i++)
        assert_int_equal(prx_key_check(good[i]), 0);
    for (size_t i = 0; i < N_OF(bad); i++) {
        assert_int_equal(prx_key_check(bad[i].key), PRX_EINVAL);
        assert_non_null(strstr(prx_err_message(), bad[i].why));
    }
    memset(long_key, 'a', sizeof(long_key));
    long_key[PRX_KEY_BYTES_MAX] = '\0';
    assert_int_equal(prx_key_check(long_key), 0);
    long_key[PRX_KEY_BYTES_MAX] = 'a';
    long_key[PRX_KEY_BYTES_MAX + 1] = '\0';
    assert_int_equal(prx_key_check(long_key), PRX_EINVAL);
    assert_int_equal(prx_field_check("latent.npy"), 0);
    assert_int_equal(prx_field_check(""), 0);
    assert_int_equal(prx_field_check("a/b"), PRX_EINVAL);
    assert_int_equal(prx_field_check("a\x01"), PRX_EINVAL);
    assert_int_equal(prx_field_check(long_key), PRX_EINVAL);
}

static void test_escape(void **state)
{
    char out[16];

    (void)state;
    assert_string_equal(prx_escape("a\x01é\xff", out, sizeof(out)), "a\\x01é\\xff");
    assert_string_equal(prx_escape("0123456789abcdef", out, sizeof(out)),
                        "012345678...");
    assert_string_equal(prx_escape("", out, 8), "");
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_fields_are_sorted_and_unique),
        cmocka_unit_test(test_load),
        cmocka_unit_test(test_meta),
        cmocka_unit_test(test_reject),
        cmocka_unit_test(test_key_split),
        cmocka_unit_test(test_key_check),
        cmocka_unit_test(test_escape),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
