/* SPDX-License-Identifier: Apache-2.0 */
/*
 * The text tower that needs no training: random vectors for words and their parts.
 *
 * A caption is cut into words and punctuation marks.  A token's state is the sum of
 *
 *   word      a vector of +1 and -1 drawn from the word's hash,
 *   subwords  the sum of such vectors for each run of 3 to 5 characters of "<word>",
 *             so that words of one stem are neighbours (Bojanowski et al. 2017,
 *             arXiv:1607.04606),
 *   position  sines and cosines of its number (Vaswani et al. 2017,
 *             arXiv:1706.03762),
 *
 * each scaled to its share of a unit variance.  Vectors of different words are
 * nearly orthogonal, so a network can tell them apart and learn what they mean;
 * words it never saw still share parts with those it did.
 *
 * ASCII letters are lower-cased; bytes above 0x7f belong to words as they are, and
 * what is not UTF-8 is no error.  Sums of signs are integers, so the order of adding
 * does not matter and states are the same on every machine.  Changing anything that
 * shows in a state needs a new VERSION.
 */
#include "train/model/encoder_internal.h"

#include <math.h>
#include <stdbool.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "libdata/rng.h"

#define VERSION 1

#define WIDTH_DEFAULT    256
#define WIDTH_STEP       8
#define WIDTH_MAX        4096
#define N_TOKENS_DEFAULT 128
#define N_TOKENS_MAX     4096

/* Longer runs are cut into several words, which bounds the work a caption asks for. */
#define N_WORD_CHARS_MAX 32
#define N_WORD_BYTES_MAX 128

#define N_GRAM_CHARS_MIN 3
#define N_GRAM_CHARS_MAX 5

/* Shares of a state's variance. */
static const float word_share = 0.5F;
static const float gram_share = 0.375F;
static const float position_share = 0.125F;

/* The slowest wave turns once in 2 pi of this: more tokens than captions have. */
static const double max_period = 100;

enum feature { FEATURE_WORD = 1,
               FEATURE_GRAM = 2,
               FEATURE_END = 3 };

/* A token: "<word>", and where its characters begin. */
struct word {
    char bytes[N_WORD_BYTES_MAX + 2];
    size_t n_bytes;
    size_t starts[N_WORD_CHARS_MAX + 3]; /* n_chars of them, and n_bytes */
    size_t n_chars;
};

/* --- cutting --------------------------------------------------------------- */

static bool is_word_byte(unsigned char c)
{
    return c >= 0x80 || (c >= '0' && c <= '9') || (c >= 'a' && c <= 'z') ||
           (c >= 'A' && c <= 'Z');
}

static void word_add(struct word *word, unsigned char c)
{
    bool is_continuation = (c & 0xC0) == 0x80;
    if (!is_continuation)
        word->starts[word->n_chars++] = word->n_bytes;
    word->bytes[word->n_bytes++] = (char)(c >= 'A' && c <= 'Z' ? c - 'A' + 'a' : c);
}

static bool word_is_full(const struct word *word, unsigned char next)
{
    bool is_continuation = (next & 0xC0) == 0x80;
    return word->n_bytes == N_WORD_BYTES_MAX + 1 ||
           (word->n_chars == N_WORD_CHARS_MAX + 1 && !is_continuation);
}

/* The next word or punctuation mark of @text; returns what follows, NULL at the end. */
static const char *next_word(const char *text, struct word *word)
{
    const unsigned char *at = (const unsigned char *)text;

    while (*at > 0 && (*at <= ' ' || *at == 0x7F))
        at++;
    if (*at == 0)
        return NULL;
    word->n_bytes = word->n_chars = 0;
    word_add(word, '<');
    if (!is_word_byte(*at)) {
        word_add(word, *at++);
    } else {
        while (is_word_byte(*at) && !word_is_full(word, *at))
            word_add(word, *at++);
    }
    word_add(word, '>');
    word->starts[word->n_chars] = word->n_bytes;
    return (const char *)at;
}

/* --- states ---------------------------------------------------------------- */

/* Add to @sums the signs that belong to @bytes. */
static void add_signs(enum feature feature, const char *bytes, size_t n_bytes,
                      size_t width, int16_t *sums)
{
    uint64_t hash = prx_hash_u64(bytes, n_bytes, (uint64_t)feature);
    const uint32_t key[2] = {(uint32_t)hash, (uint32_t)(hash >> 32)};
    uint32_t counter[4] = {0};
    uint32_t draw[4];

    for (size_t i = 0; i < width; i += WIDTH_STEP) {
        if (i % 128 == 0) {
            prx_philox(counter, key, draw);
            counter[0]++;
        }
        uint32_t bits = draw[i / 32 % 4] >> (i % 32);
        for (size_t j = 0; j < WIDTH_STEP; j++)
            sums[i + j] += (int16_t)(bits >> j & 1 ? 1 : -1);
    }
}

/* state += scale * sums; sums are left zero. */
static void add_scaled(float scale, size_t width, int16_t *sums, float *state)
{
    for (size_t i = 0; i < width; i++) {
        state[i] += scale * (float)sums[i];
        sums[i] = 0;
    }
}

static void add_word(const struct word *word, size_t width, int16_t *sums, float *state)
{
    add_signs(FEATURE_WORD, word->bytes, word->n_bytes, width, sums);
    add_scaled(sqrtf(word_share), width, sums, state);

    int n_grams = 0;
    for (size_t n = N_GRAM_CHARS_MIN; n <= N_GRAM_CHARS_MAX; n++) {
        for (size_t i = 0; i + n <= word->n_chars; i++, n_grams++)
            add_signs(FEATURE_GRAM, word->bytes + word->starts[i],
                      word->starts[i + n] - word->starts[i], width, sums);
    }
    if (n_grams > 0)
        add_scaled(sqrtf(gram_share / (float)n_grams), width, sums, state);
}

/* @positions [n_tokens_max, width] of the tower. */
static int encode(const struct prx_text_tower *tower, const char *text, float *states)
{
    const float *positions = tower->impl;
    size_t width = (size_t)tower->width;
    int n_max = (int)tower->n_tokens_max;
    int16_t sums[WIDTH_MAX] = {0};
    struct word word;
    int n = 0;

    for (; n < n_max - 1 && (text = next_word(text, &word)); n++) {
        float *state = states + (size_t)n * width;
        memcpy(state, positions + (size_t)n * width, width * sizeof(*state));
        add_word(&word, width, sums, state);
    }
    /* The end, which is all there is of "". */
    float *state = states + (size_t)n * width;
    memcpy(state, positions + (size_t)n * width, width * sizeof(*state));
    add_signs(FEATURE_END, "", 0, width, sums);
    add_scaled(sqrtf(word_share + gram_share), width, sums, state);
    return n + 1;
}

/* Cosines of each row in its first half, sines in the second. */
static void fill_positions(size_t n_tokens, size_t width, float *positions)
{
    size_t half = width / 2;
    double amplitude = sqrt(2 * (double)position_share);
    for (size_t n = 0; n < n_tokens; n++) {
        for (size_t j = 0; j < half; j++) {
            double angle = (double)n * pow(max_period, -(double)j / (double)half);
            positions[n * width + j] = (float)(amplitude * cos(angle));
            positions[n * width + half + j] = (float)(amplitude * sin(angle));
        }
    }
}

static void close_tower(struct prx_text_tower *tower)
{
    free(tower->impl);
    free(tower);
}

int prx_text_hash_open(const struct prx_text_opts *opts, struct prx_text_tower **out)
{
    int64_t width = opts && opts->width ? opts->width : WIDTH_DEFAULT;
    int64_t n_tokens_max = opts && opts->n_tokens_max ? opts->n_tokens_max
                                                      : N_TOKENS_DEFAULT;

    if (width < WIDTH_STEP || width > WIDTH_MAX || width % WIDTH_STEP != 0)
        return prx_err(PRX_EINVAL,
                       "text states of width %lld; hash makes multiples of %d up to %d",
                       (long long)width, WIDTH_STEP, WIDTH_MAX);
    if (n_tokens_max < 1 || n_tokens_max > N_TOKENS_MAX)
        return prx_err(PRX_EINVAL, "captions of %lld tokens; hash makes 1 to %d",
                       (long long)n_tokens_max, N_TOKENS_MAX);

    struct prx_text_tower *tower = malloc(sizeof(*tower));
    float *positions = malloc((size_t)(n_tokens_max * width) * sizeof(*positions));
    if (!tower || !positions) {
        free(positions);
        free(tower);
        return prx_err_nomem("a text tower");
    }
    fill_positions((size_t)n_tokens_max, (size_t)width, positions);
    *tower = (struct prx_text_tower){
        .name = "hash",
        .width = width,
        .n_tokens_max = n_tokens_max,
        .impl = positions,
        .encode = encode,
        .close = close_tower,
    };
    char made_by[96];
    int n_chars = snprintf(made_by, sizeof(made_by),
                           "prx text hash %d: width %lld tokens %lld", VERSION,
                           (long long)width, (long long)n_tokens_max);
    prx_hash_hex(made_by, (size_t)n_chars, tower->fingerprint);
    *out = tower;
    return 0;
}
