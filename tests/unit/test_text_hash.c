/* SPDX-License-Identifier: Apache-2.0 */
/* encoder.h, text tower "hash": how it cuts, and what its states are like. */
#include "train/encoder.h"

#include <math.h>
#include <setjmp.h>
#include <stdarg.h>
#include <stdlib.h>
#include <string.h>

#include <cmocka.h>

#include "libdata/npy.h"

#define WIDTH    256
#define N_TOKENS 128

static struct prx_text_tower *tower;
static float states[N_TOKENS * WIDTH];

static int open_tower(void **state)
{
    (void)state;
    return prx_text_tower_open("hash", NULL, &tower);
}

static int close_tower(void **state)
{
    (void)state;
    prx_text_tower_close(tower);
    return 0;
}

static void test_interface(void **state)
{
    static const struct prx_text_opts bad[] = {
        {4, 0}, {257, 0}, {5000, 0}, {-8, 0}, {0, -1}, {0, 5000}};
    struct prx_text_opts narrow = {64, 0}, brief = {0, 16};
    struct prx_text_tower *other;

    (void)state;
    assert_string_equal(tower->name, "hash");
    assert_int_equal(tower->width, WIDTH);
    assert_int_equal(tower->n_tokens_max, N_TOKENS);
    assert_int_equal(prx_text_tower_open("hash", &narrow, &other), 0);
    assert_string_not_equal(other->fingerprint, tower->fingerprint);
    prx_text_tower_close(other);
    assert_int_equal(prx_text_tower_open("hash", &brief, &other), 0);
    assert_string_not_equal(other->fingerprint, tower->fingerprint);
    prx_text_tower_close(other);
    for (size_t i = 0; i < sizeof(bad) / sizeof(bad[0]); i++)
        assert_int_equal(prx_text_tower_open("hash", &bad[i], &other), PRX_EINVAL);
    assert_int_equal(prx_text_tower_open("t5", NULL, &other), PRX_EINVAL);
    prx_text_tower_close(NULL);
}

static void test_count(void **state)
{
    static const struct {
        const char *text;
        int want; /* tokens, the end too */
    } rows[] = {
        {"", 1},
        {" \t\r\n\x7f\x01", 1},
        {"dog", 2},
        {"a red dog", 4},
        {"  a\n\nred\tdog. ", 5},
        {"dog's 50mm-lens!", 8}, /* dog ' s 50mm - lens ! */
        {"caf\xc3\xa9 \xe7\x8c\xab", 3},
        {"\xff\xfe\x80\x80 \xc3", 3},
        {"...", 4},
        /* 32 characters are a word, of one byte or of two. */
        {"abcdefghijklmnopqrstuvwxyz012345", 2},
        {"abcdefghijklmnopqrstuvwxyz0123456", 3},
        {"\xc3\xa9\xc3\xa9\xc3\xa9\xc3\xa9\xc3\xa9\xc3\xa9\xc3\xa9\xc3\xa9"
         "\xc3\xa9\xc3\xa9\xc3\xa9\xc3\xa9\xc3\xa9\xc3\xa9\xc3\xa9\xc3\xa9"
         "\xc3\xa9\xc3\xa9\xc3\xa9\xc3\xa9\xc3\xa9\xc3\xa9\xc3\xa9\xc3\xa9"
         "\xc3\xa9\xc3\xa9\xc3\xa9\xc3\xa9\xc3\xa9\xc3\xa9\xc3\xa9\xc3\xa9",
         2},
    };

    (void)state;
    for (size_t i = 0; i < sizeof(rows) / sizeof(rows[0]); i++) {
        int got = tower->encode(tower, rows[i].text, states);
        if (got != rows[i].want)
            fail_msg("row %zu, '%s': %d tokens", i, rows[i].text, got);
    }
}

/* Too long a caption keeps its beginning, and ends in the end token. */
static void test_cut(void **state)
{
    static float end_of_many[WIDTH];
    char text[8 * 400] = "";

    (void)state;
    for (int i = 0; i < 400; i++)
        memcpy(text + 8 * i, "word no ", 8);
    text[sizeof(text) - 1] = '\0';
    assert_int_equal(tower->encode(tower, text, states), N_TOKENS);
    memcpy(end_of_many, states + (N_TOKENS - 1) * WIDTH, sizeof(end_of_many));
    for (int i = 0; i < 400; i++)
        memcpy(text + 8 * i, "another ", 8);
    text[8 * (N_TOKENS - 1)] = '\0';
    assert_int_equal(tower->encode(tower, text, states), N_TOKENS);
    assert_memory_equal(end_of_many, states + (N_TOKENS - 1) * WIDTH,
                        sizeof(end_of_many));
}

/* What no caption should be: the sanitizers look on. */
static void test_hostile(void **state)
{
    static const char bytes[] = {'a', '.', '\x80', '\xff', '\xc3'};
    size_t n = 1 << 20;
    char *text = malloc(n + 1);

    (void)state;
    assert_non_null(text);
    text[n] = '\0';
    for (size_t i = 0; i < sizeof(bytes); i++) {
        memset(text, bytes[i], n);
        assert_int_equal(tower->encode(tower, text, states), N_TOKENS);
        for (size_t j = 0; j < N_TOKENS * WIDTH; j++)
            assert_true(isfinite(states[j]));
    }
    free(text);
}

static void test_case(void **state)
{
    static float lower[4 * WIDTH];

    (void)state;
    assert_int_equal(tower->encode(tower, "a red \xc3\x89t\xc3\xa9", lower), 4);
    assert_int_equal(tower->encode(tower, "A  Red\n\xc3\x89T\xc3\xa9", states), 4);
    assert_memory_equal(states, lower, sizeof(lower));
    assert_int_equal(tower->encode(tower, "a red \xc3\xa9t\xc3\xa9", states), 4);
    assert_memory_not_equal(states, lower, sizeof(lower));
}

static double cosine(const char *a, const char *b)
{
    static float of_a[N_TOKENS * WIDTH], of_b[N_TOKENS * WIDTH];
    double ab = 0, aa = 0, bb = 0;
    assert_int_equal(tower->encode(tower, a, of_a), 2);
    assert_int_equal(tower->encode(tower, b, of_b), 2);
    for (int i = 0; i < WIDTH; i++) {
        ab += (double)of_a[i] * of_b[i];
        aa += (double)of_a[i] * of_a[i];
        bb += (double)of_b[i] * of_b[i];
    }
    return ab / sqrt(aa * bb);
}

/*
 * Words of one stem are nearer than others.  Strangers share their position, 1/8;
 * chance adds 1/16 (one over the root of the width) a standard deviation.
 */
static void test_neighbours(void **state)
{
    (void)state;
    assert_true(cosine("mountain", "mountain") > 0.999);
    assert_true(cosine("mountain", "mountains") > 0.125 + 0.2);
    assert_true(cosine("photograph", "photographer") > 0.125 + 0.2);
    assert_true(fabs(cosine("mountain", "bicycle") - 0.125) < 4.0 / 16);
    assert_true(fabs(cosine("red", "blue") - 0.125) < 4.0 / 16);
    assert_true(fabs(cosine(".", ",") - 0.125) < 4.0 / 16);
}

/* Elements have about unit variance: over 5,632 of them chance is 2 % of it. */
static void test_variance(void **state)
{
    double sum = 0, sum_squares = 0;
    int n;

    (void)state;
    n = tower->encode(tower,
                      "a large brown bear stands on all fours, turned slightly to the "
                      "right with its head lowered towards grass.",
                      states);
    assert_int_equal(n, 22);
    for (int i = 0; i < n * WIDTH; i++) {
        sum += states[i];
        sum_squares += (double)states[i] * states[i];
    }
    assert_true(fabs(sum / (n * WIDTH)) < 0.2); /* slow cosines are near one */
    assert_true(fabs(sum_squares / (n * WIDTH) - 1) < 0.1);
}

/* The same word elsewhere is the same but for its position. */
static void test_position(void **state)
{
    double difference = 0;

    (void)state;
    assert_int_equal(tower->encode(tower, "red red", states), 3);
    for (int i = 0; i < WIDTH; i++)
        difference += pow((double)states[i] - states[WIDTH + i], 2);
    assert_true(difference > 1);
    assert_true(difference < 0.5 * WIDTH);
}

/* What is on disk must not change. */
static void test_recorded(void **state)
{
    char hash[PRX_HASH_HEX_BYTES];
    struct prx_buf *buf;

    (void)state;
    int n = tower->encode(tower, "Two red cups, caf\xc3\xa9 style.", states);
    const int64_t dims[2] = {n, WIDTH};
    assert_int_equal(prx_npy_put_f32(PRX_NPY_F16, 2, dims, states, &buf), 0);
    prx_hash_hex(buf->bytes, buf->n_bytes, hash);
    assert_string_equal(hash, "5b2b04a0051bbcb80c2d6d79385a15ef");
    assert_string_equal(tower->fingerprint, "d67a027ce730972df76b169f91c34963");
    prx_buf_unref(buf);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_interface),
        cmocka_unit_test(test_count),
        cmocka_unit_test(test_cut),
        cmocka_unit_test(test_hostile),
        cmocka_unit_test(test_case),
        cmocka_unit_test(test_neighbours),
        cmocka_unit_test(test_variance),
        cmocka_unit_test(test_position),
        cmocka_unit_test(test_recorded),
    };
    return cmocka_run_group_tests(tests, open_tower, close_tower);
}
