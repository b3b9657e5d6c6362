/* SPDX-License-Identifier: Apache-2.0 */
/* Shards at URLs: words, indexes, versions, what is cut, what differs. */
#include <pthread.h>
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

#include <cmocka.h>

#include "libdata/hash.h"
#include "libdata/progress.h"
#include "libdata/source.h"
#include "tests/lib/http_server.h"
#include "tests/lib/scratch.h"
#include "tests/lib/source_text.h"

#define N_OF(array)  (sizeof(array) / sizeof((array)[0]))
#define N_SHARDS     9
#define N_HERE_BYTES 64 /* of "http://127.0.0.1:PORT/" */

/* Nine shards of three samples, and an index of all of them. */
struct fixture {
    struct prx_str tars[N_SHARDS], index, want;
    struct http_page pages[N_SHARDS + 1];
    struct http_server *server;
    char here[N_HERE_BYTES];
};

static void add_shard(struct fixture *fixture, int i)
{
    struct prx_str *tar = &fixture->tars[i];
    char name[32], text[32], hash[PRX_HASH_HEX_BYTES];

    for (int j = 0; j < 3; j++) {
        snprintf(name, sizeof(name), "%d%d.jpg", i, j);
        snprintf(text, sizeof(text), "picture %d %d", i, j);
        prx_tar_add(tar, name, text, strlen(text), NULL);
        assert_int_equal(prx_str_printf(&fixture->want, "%d%d: jpg=%s\n", i, j, text),
                         0);
    }
    prx_tar_end(tar);
    prx_hash_hex(tar->bytes, tar->n_bytes, hash);
    assert_int_equal(
        prx_str_printf(&fixture->index,
                       "%s{\"url\": \"%d.tar\", \"nsamples\": 3, \"filesize\": %zu,"
                       " \"xxh128\": \"%s\"}",
                       i ? "," : "{\"shardlist\": [", i, tar->n_bytes, hash),
        0);
}

static int open_fixture(void **state)
{
    static const char *const paths[] = {"/0.tar", "/1.tar", "/2.tar",
                                        "/3.tar", "/4.tar", "/5.tar",
                                        "/6.tar", "/7.tar", "/8.tar"};
    struct fixture *fixture = calloc(1, sizeof(*fixture));

    assert_non_null(fixture);
    for (int i = 0; i < N_SHARDS; i++) {
        add_shard(fixture, i);
        fixture->pages[i] = (struct http_page){
            .path = paths[i],
            .bytes = fixture->tars[i].bytes,
            .n_bytes = fixture->tars[i].n_bytes,
            .etag = "\"1\"",
        };
    }
    assert_int_equal(prx_str_puts(&fixture->index, "]}"), 0);
    fixture->pages[N_SHARDS] = (struct http_page){
        .path = "/index.json",
        .bytes = fixture->index.bytes,
        .n_bytes = fixture->index.n_bytes,
    };
    fixture->server = http_server_open(fixture->pages, N_SHARDS + 1);
    snprintf(fixture->here, sizeof(fixture->here), "http://127.0.0.1:%d/",
             http_server_port(fixture->server));
    *state = fixture;
    return 0;
}

static int close_fixture(void **state)
{
    struct fixture *fixture = *state;

    http_server_close(fixture->server);
    for (int i = 0; i < N_SHARDS; i++)
        prx_str_release(&fixture->tars[i]);
    prx_str_release(&fixture->index);
    prx_str_release(&fixture->want);
    free(fixture);
    return 0;
}

static const char *word_of(const struct fixture *fixture, const char *path)
{
    static char word[256];

    snprintf(word, sizeof(word), "%s%s", fixture->here, path);
    return word;
}

static void expect(const struct fixture *fixture, const char *path, const char *want)
{
    char *got = source_text(word_of(fixture, path), NULL, fixture->here);

    assert_string_equal(got, want);
    free(got);
}

static void test_words(void **state)
{
    struct fixture *fixture = *state;

    expect(fixture, "{0..8}.tar", fixture->want.bytes);
    for (int i = 0; i < N_SHARDS; i++) /* one look, one read */
        assert_int_equal(fixture->pages[i].n_requests, 2);
    expect(fixture, "index.json", fixture->want.bytes);
    for (int i = 0; i < N_SHARDS; i++) /* nobody need look */
        assert_int_equal(fixture->pages[i].n_requests, 3);
    expect(fixture, "index.json?token=1", fixture->want.bytes);
    expect(fixture, "{0,9}.tar",
           "FAILED -6: 9.tar: the server answers 404, it is not there\n");
    assert_int_equal(fixture->pages[0].n_bodies, 5); /* looked at, and not read */
    expect(fixture, "0.tar#md5=1",
           "FAILED -5: 0.tar: #md5=1: want #bytes=N,"
           " #xxh128=HEX or both with &\n");
    char *got = source_text("https:///x.tar", NULL, NULL);
    assert_string_equal(got, "FAILED -5: https:///x.tar: a URL without a host\n");
    free(got);
}

/* What a file names is never a command. */
static void test_no_command(void **state)
{
    char *got = source_text("pipe:exit 0", NULL, NULL);

    (void)state;
    assert_string_equal(got, "FAILED -5: pipe:exit 0: a command is run only if it"
                             " stands on the command line\n");
    free(got);
}

/* The samples know how many they are, and ranks share shards out. */
static void test_index_and_ranks(void **state)
{
    struct fixture *fixture = *state;
    const char *word = word_of(fixture, "index.json");
    struct prx_source *source;

    assert_int_equal(prx_source_open(&word, 1, NULL, &source), 0);
    assert_int_equal(prx_source_total(source), 27);
    prx_source_close(source);
    for (int rank = 0; rank < 2; rank++) {
        struct prx_source_opts opts = {.rank = rank, .world = 2};
        char *got = source_text(word, &opts, NULL);
        assert_int_equal(got[0], '0' + rank);
        assert_non_null(strstr(got, rank ? "\n32: jpg=picture 3 2\n50: "
                                         : "\n22: jpg=picture 2 2\n40: "));
        free(got);
    }
    /* Each rank has read its own. */
    for (int i = 0; i < N_SHARDS; i++)
        assert_int_equal(fixture->pages[i].n_bodies, 1);
}

static void test_cut(void **state)
{
    struct fixture *fixture = *state;

    for (int i = 0; i < N_SHARDS; i += 2) {
        fixture->pages[i].n_cuts = 1;
        fixture->pages[i].n_cut = 700;
    }
    expect(fixture, "index.json", fixture->want.bytes);
}

/* What an index promised is another shard: its samples are not to be trusted. */
static void test_differs(void **state)
{
    struct fixture *fixture = *state;
    char text[256];

    fixture->pages[0].n_bytes -= 512;
    fixture->pages[1].bytes = fixture->pages[2].bytes;
    char *got = source_text(word_of(fixture, "index.json"), NULL, fixture->here);
    snprintf(text, sizeof(text),
             "0.tar! 0.tar: %zu bytes, and its index says %zu\n"
             "20: jpg=picture 2 0\n"
             "21: jpg=picture 2 1\n"
             "22! 1.tar: differs from its index: xxh128 ",
             fixture->tars[0].n_bytes - 512, fixture->tars[0].n_bytes);
    assert_int_equal(strncmp(got, text, strlen(text)), 0);
    assert_non_null(strstr(got, "\n20: jpg=picture 2 0\n21"));
    free(got);
    /* Also where no length is told before. */
    fixture->pages[0].is_chunked = true;
    got = source_text(word_of(fixture, "index.json"), NULL, fixture->here);
    assert_non_null(strstr(got, "02! 0.tar: "));
    free(got);
}

static void test_not_a_tar(void **state)
{
    static const char html[] = "<html><body>Please log in</body></html>";
    struct fixture *fixture = *state;

    fixture->pages[0].bytes = html;
    fixture->pages[0].n_bytes = sizeof(html) - 1;
    fixture->pages[0].type = "text/html";
    fixture->pages[1].n_bytes = 0;
    expect(fixture, "{0,1}.tar",
           "0.tar! 0.tar: not a tar; the server calls it text/html\n"
           "1.tar! 1.tar: empty, not a tar\n");
    fixture->pages[N_SHARDS].bytes = html;
    fixture->pages[N_SHARDS].n_bytes = sizeof(html) - 1;
    expect(fixture, "index.json",
           "FAILED -3: index.json:1: '[' or '{' expected near '<'\n");
}

static void test_index_that_leads_away(void **state)
{
    static const char *const urls[] = {"http://127.0.0.1:1/x.tar", "../x.tar",
                                       "/etc/passwd", "file:///etc/passwd"};
    struct fixture *fixture = *state;
    char indexes[N_OF(urls)][128]; /* the server may not have put one down yet */

    for (size_t i = 0; i < N_OF(urls); i++) {
        snprintf(indexes[i], sizeof(indexes[i]), "{\"shardlist\": [{\"url\": \"%s\"}]}",
                 urls[i]);
        fixture->pages[N_SHARDS].bytes = indexes[i];
        fixture->pages[N_SHARDS].n_bytes = strlen(indexes[i]);
        char *got = source_text(word_of(fixture, "index.json"), NULL, fixture->here);
        assert_int_equal(strncmp(got, "FAILED -5: index.json", 21), 0);
        free(got);
    }
}

/* The plan holds the version: one that changes before it is read is not read. */
static void test_changed(void **state)
{
    struct fixture *fixture = *state;
    struct prx_str plans[4] = {{0}};
    static const char *const paths[] = {"0.tar", "0.tar?signed=1", "1.tar", "0.tar"};

    for (size_t i = 0; i < N_OF(plans); i++) {
        struct prx_source *source;
        const char *word = word_of(fixture, paths[i]);
        if (i == 3)
            fixture->pages[0].etag = "\"2\"";
        assert_int_equal(prx_source_open(&word, 1, NULL, &source), 0);
        assert_int_equal(prx_source_plan(source, &plans[i]), 0);
        prx_source_close(source);
    }
    assert_string_equal(plans[0].bytes, plans[1].bytes);
    assert_string_not_equal(plans[0].bytes, plans[2].bytes);
    assert_string_not_equal(plans[0].bytes, plans[3].bytes);
    for (size_t i = 0; i < N_OF(plans); i++)
        prx_str_release(&plans[i]);

    fixture->pages[5].etag_later = "\"2\"";
    expect(fixture, "5.tar",
           "FAILED -2: 5.tar: changed while it was being read: it has another ETag\n");
}

/* Closed at the first sample, while three more come in. */
static void test_closed_early(void **state)
{
    struct fixture *fixture = *state;
    const char *word = word_of(fixture, "index.json");
    struct prx_source *source;
    struct prx_sample sample = {0};

    fixture->pages[1].n_stalls = fixture->pages[2].n_stalls = 1;
    fixture->pages[2].n_cut = 100;
    assert_int_equal(prx_source_open(&word, 1, NULL, &source), 0);
    assert_int_equal(prx_source_next(source, &sample), 1);
    prx_sample_release(&sample);
    int64_t begin_ns = prx_now_ns();
    prx_source_close(source);
    assert_true(prx_now_ns() - begin_ns < 5000000000);
}

static void *cancel_soon(void *source)
{
    usleep(100000);
    prx_source_cancel(source);
    return NULL;
}

static void test_cancel(void **state)
{
    struct fixture *fixture = *state;
    const char *word = word_of(fixture, "index.json");
    struct prx_source *source;
    struct prx_sample sample = {0};
    pthread_t thread;
    int got;

    fixture->pages[1].n_stalls = 1;
    fixture->pages[1].n_cut = 1000;
    assert_int_equal(prx_source_open(&word, 1, NULL, &source), 0);
    assert_int_equal(pthread_create(&thread, NULL, cancel_soon, source), 0);
    while ((got = prx_source_next(source, &sample)) == 1)
        ;
    assert_int_equal(got, PRX_ECANCELED);
    pthread_join(thread, NULL);
    prx_sample_release(&sample);
    prx_source_close(source);
}

int main(void)
{
#define TEST(name) cmocka_unit_test_setup_teardown(name, open_fixture, close_fixture)
    const struct CMUnitTest tests[] = {
        TEST(test_words),
        cmocka_unit_test(test_no_command),
        TEST(test_index_and_ranks),
        TEST(test_cut),
        TEST(test_differs),
        TEST(test_not_a_tar),
        TEST(test_index_that_leads_away),
        TEST(test_changed),
        TEST(test_closed_early),
        TEST(test_cancel),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
