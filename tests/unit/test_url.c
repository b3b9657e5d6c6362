/* SPDX-License-Identifier: Apache-2.0 */
/* URLs, from a server that cuts, lies, stalls, refuses and changes its mind. */
#include <setjmp.h>
#include <stdarg.h>
#include <stdatomic.h>
#include <stddef.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include <cmocka.h>

#include "libdata/progress.h"
#include "libdata/rng.h"
#include "libdata/url.h"
#include "tests/lib/http_server.h"

#define N_OF(array) (sizeof(array) / sizeof((array)[0]))
#define N_BODY      ((size_t)3 << 20)

static char body[N_BODY], other_body[N_BODY];

static const struct prx_url_opts fast = {
    .n_tries_max = 4,
    .wait_ms = 2,
    .wait_max_ms = 1500,
    .stall_timeout_ms = 5000, /* on a busy machine too */
};

static int fill_bodies(void **state)
{
    struct prx_rng rng;

    (void)state;
    prx_rng_init(&rng, 1, PRX_RNG_TEST, 0, 0);
    for (size_t i = 0; i < N_BODY; i++)
        body[i] = other_body[i] = (char)prx_rng_u32(&rng);
    other_body[100]++; /* in what comes before any cut */
    return 0;
}

/* Everything at @page of a server of its own; the bytes must be @want, if it ends. */
static int read_page(struct http_page *page, const struct prx_url_opts *opts,
                     const struct prx_url_id *id, const char *want, size_t n_want)
{
    struct http_server *server = http_server_open(page, 1);
    char *text = http_server_url(server, page->path), *got = malloc(n_want + 1);
    struct prx_url *url;
    size_t n_all = 0, n_got = 0;
    int rc;

    assert_non_null(got);
    assert_int_equal(prx_url_open(text, opts, id, &url), 0);
    do {
        rc = prx_url_read(url, got + n_all, n_want + 1 - n_all, &n_got);
        n_all += n_got;
        assert_true(n_all <= n_want);
    } while (rc == 0 && n_got > 0);
    if (n_all > 0)
        assert_memory_equal(got, want, n_all); /* whatever happens behind them */
    if (rc == 0)
        assert_int_equal(n_all, n_want);
    prx_url_close(url);
    http_server_close(server);
    free(text);
    free(got);
    return rc;
}

struct row {
    const char *name;
    struct http_page page; /* its bytes are body, unless set */
    int rc;
    const char *says;
    int n_requests; /* 0: any number */
    int n_range_requests;
};

static void check_rows(struct row *rows, size_t n_rows)
{
    for (size_t i = 0; i < n_rows; i++) {
        struct row *row = &rows[i];
        row->page.path = "/x.tar";
        if (!row->page.bytes) {
            row->page.bytes = body;
            row->page.n_bytes = N_BODY;
        }
        struct prx_url_opts opts = fast;
        if (row->page.n_stalls || row->page.n_drips_ms)
            opts.stall_timeout_ms = 200;
        int rc = read_page(&row->page, &opts, NULL, row->page.bytes, row->page.n_bytes);
        if (rc != row->rc)
            fail_msg("%s: returned %d: %s", row->name, rc, prx_err_message());
        if (row->says && !strstr(prx_err_message(), row->says))
            fail_msg("%s: said \"%s\"", row->name, prx_err_message());
        if (row->n_requests && row->page.n_requests != row->n_requests)
            fail_msg("%s: asked %d times", row->name, row->page.n_requests);
        if (row->n_range_requests &&
            row->page.n_range_requests != row->n_range_requests)
            fail_msg("%s: asked %d times for ranges", row->name,
                     row->page.n_range_requests);
    }
}

static void test_whole(void **state)
{
    struct row rows[] = {
        {"plain", {.etag = "\"1\""}, 0, NULL, 1, 0},
        {"nothing known", {.has_no_length = true}, 0, NULL, 1, 0},
        {"chunked", {.is_chunked = true}, 0, NULL, 1, 0},
        {"empty", {.bytes = "", .n_bytes = 0}, 0, NULL, 1, 0},
        {"one byte", {.bytes = "a", .n_bytes = 1}, 0, NULL, 1, 0},
        {"slow, but not too slow",
         {.bytes = body, .n_bytes = 9000, .n_drips_ms = 5, .n_drip = 50},
         0,
         NULL,
         0,
         0},
    };

    (void)state;
    check_rows(rows, N_OF(rows));
}

/* What breaks on the way and is mended without anybody noticing. */
static void test_mended(void **state)
{
    struct row rows[] = {
        {"cut once", {.etag = "\"1\"", .n_cuts = 1, .n_cut = 1000}, 0, NULL, 2, 1},
        {"cut before the first byte", {.n_cuts = 3, .n_cut = 0}, 0, NULL, 4, 0},
        {"cut with a date only",
         {.modified = "Wed, 21 Oct 2015 07:28:00 GMT", .n_cuts = 1, .n_cut = 7},
         0,
         NULL,
         2,
         1},
        {"cut, and ranges are ignored",
         {.etag = "\"1\"", .n_cuts = 1, .n_cut = 1 << 20, .ignores_ranges = true},
         0,
         NULL,
         2,
         1},
        {"cut, and nothing to compare by",
         {.n_cuts = 1, .n_cut = 99999},
         0,
         NULL,
         2,
         0},
        {"cut, and a weak tag",
         {.etag = "W/\"1\"", .n_cuts = 1, .n_cut = 9},
         0,
         NULL,
         2,
         0},
        {"cut while chunked",
         {.etag = "\"1\"", .is_chunked = true, .n_cuts = 1, .n_cut = 5000},
         0,
         NULL,
         2,
         1},
        {"cut again and again, with progress",
         {.etag = "\"1\"", .n_cuts = 2, .n_cut = (1 << 20) + 1},
         0,
         NULL,
         3,
         2},
        {"stalled", {.etag = "\"1\"", .n_stalls = 1, .n_cut = 5000}, 0, NULL, 2, 1},
        {"503", {.n_refusals = 2, .refusal = 503}, 0, NULL, 3, 0},
        {"429", {.n_refusals = 1, .refusal = 429}, 0, NULL, 2, 0},
        {"500", {.n_refusals = 3, .refusal = 500}, 0, NULL, 4, 0},
    };

    (void)state;
    check_rows(rows, N_OF(rows));
}

/* What no trying mends. */
static void test_failures(void **state)
{
    struct row rows[] = {
        {"404", {.n_refusals = 9, .refusal = 404}, PRX_ENOENT, "404", 1, 0},
        {"410", {.n_refusals = 9, .refusal = 410}, PRX_ENOENT, "410", 1, 0},
        {"403", {.n_refusals = 9, .refusal = 403}, PRX_EIO, "answers 403", 1, 0},
        {"204", {.n_refusals = 9, .refusal = 204}, PRX_EIO, "answers 204", 1, 0},
        {"503 for good",
         {.n_refusals = 99, .refusal = 503},
         PRX_EIO,
         "the server answers 503 (4 tries)",
         4,
         0},
        {"cut for good",
         {.etag = "\"1\"", .n_cuts = 99, .n_cut = 1000},
         PRX_EIO,
         "(4 tries)",
         4,
         3},
        {"cut for good, with nothing new",
         {.n_cuts = 99, .n_cut = 1000, .ignores_ranges = true},
         PRX_EIO,
         "(4 tries)",
         4,
         0},
        {"stalls for good",
         {.n_stalls = 99, .n_cut = 10},
         PRX_EIO,
         "nearly stopped sending",
         4,
         0},
        {"drips", {.n_drips_ms = 20}, PRX_EIO, "nearly stopped sending", 4, 0},
        {"says more than it has", {.n_length_more = 10}, PRX_EIO, "(4 tries)", 4, 0},
        {"gzip", {.encoding = "gzip"}, PRX_EFORMAT, "comes in encoding gzip", 1, 0},
        {"redirected to itself",
         {.location = "/x.tar"},
         PRX_EIO,
         "Maximum (10) redirects",
         11,
         0},
        {"redirected to a file",
         {.location = "file:///etc/passwd"},
         PRX_EIO,
         "file",
         1,
         0},
        {"another tag after a cut",
         {.etag = "\"1\"", .etag_later = "\"2\"", .n_cuts = 1, .n_cut = 1000},
         PRX_EIO,
         "another ETag",
         2,
         1},
        {"another weak tag after a cut",
         {.etag = "W/\"1\"", .etag_later = "W/\"2\"", .n_cuts = 1, .n_cut = 1000},
         PRX_EIO,
         "another ETag",
         2,
         0},
        {"longer after a cut",
         {.bytes = body,
          .n_bytes = 9000,
          .bytes_later = body,
          .n_bytes_later = 9001,
          .n_cuts = 1,
          .n_cut = 1000},
         PRX_EIO,
         "another length",
         2,
         0},
        {"other bytes after a cut",
         {.bytes_later = other_body,
          .n_bytes_later = N_BODY,
          .n_cuts = 1,
          .n_cut = 1000},
         PRX_EIO,
         "other bytes",
         2,
         0},
        {"shorter after a cut, length unknown",
         {.bytes = body,
          .n_bytes = 9000,
          .bytes_later = body,
          .n_bytes_later = 500,
          .is_chunked = true,
          .n_cuts = 1,
          .n_cut = 2000},
         PRX_EIO,
         "become shorter",
         2,
         0},
        {"shorter than the range asked for",
         {.bytes = body,
          .n_bytes = 9000,
          .bytes_later = body,
          .n_bytes_later = 500,
          .etag = "\"1\"",
          .is_chunked = true,
          .n_cuts = 1,
          .n_cut = 2000},
         PRX_EIO,
         "become shorter",
         2,
         1},
        {"another range than was asked for",
         {.etag = "\"1\"",
          .range_lie = "bytes 0-1/3145728",
          .n_cuts = 1,
          .n_cut = 1000},
         PRX_EIO,
         "another range",
         2,
         1},
        {"a range that is no range",
         {.etag = "\"1\"", .range_lie = "bytes 9-8/x", .n_cuts = 1, .n_cut = 1000},
         PRX_EIO,
         "another range",
         2,
         1},
        {"a range beyond the end",
         {.etag = "\"1\"",
          .range_lie = "bytes 1000-1001/5",
          .n_cuts = 1,
          .n_cut = 1000},
         PRX_EIO,
         "another range",
         2,
         1},
        {"a range of something longer",
         {.etag = "\"1\"",
          .range_lie = "bytes 1000-3145727/3145729",
          .n_cuts = 1,
          .n_cut = 1000},
         PRX_EIO,
         "another length",
         2,
         1},
    };

    (void)state;
    check_rows(rows, N_OF(rows));
}

static void test_retry_after(void **state)
{
    struct http_page page = {.path = "/a",
                             .bytes = "A",
                             .n_bytes = 1,
                             .n_refusals = 1,
                             .refusal = 429,
                             .retry_after = "1"};
    int64_t begin_ns = prx_now_ns();

    (void)state;
    assert_int_equal(read_page(&page, &fast, NULL, "A", 1), 0);
    assert_true(prx_now_ns() - begin_ns >= 950000000);
    /* A server may ask for less patience than a year. */
    struct prx_url_opts hasty = fast;
    hasty.wait_max_ms = 50;
    struct http_page year = {.path = "/a",
                             .bytes = "A",
                             .n_bytes = 1,
                             .n_refusals = 1,
                             .refusal = 503,
                             .retry_after = "31536000"};
    begin_ns = prx_now_ns();
    assert_int_equal(read_page(&year, &hasty, NULL, "A", 1), 0);
    assert_true(prx_now_ns() - begin_ns < 5000000000);
}

/* The version that was looked at is the one that is read. */
static void test_probe(void **state)
{
    struct http_page pages[] = {
        {.path = "/x",
         .bytes = body,
         .n_bytes = N_BODY,
         .etag = "\"1\"",
         .type = "text/html"},
        {.path = "/whole", .bytes = body, .n_bytes = N_BODY, .ignores_ranges = true},
        {.path = "/empty", .bytes = "", .n_bytes = 0},
        {.path = "/unknown",
         .bytes = body,
         .n_bytes = 9,
         .ignores_ranges = true,
         .is_chunked = true},
    };
    struct http_server *server = http_server_open(pages, N_OF(pages));
    struct prx_url_id id;

    (void)state;
    for (size_t i = 0; i < N_OF(pages); i++) {
        char *text = http_server_url(server, pages[i].path);
        assert_int_equal(prx_url_probe(text, &fast, &id), 0);
        assert_int_equal(id.has_n_bytes, i < 3);
        assert_int_equal(id.n_bytes, i == 3 ? 0 : pages[i].n_bytes);
        assert_int_equal(pages[i].n_requests, 1);
        if (i == 0) {
            assert_string_equal(id.etag, "\"1\"");
            assert_string_equal(id.type, "text/html");
        }
        free(text);
    }
    char *gone = http_server_url(server, "/gone");
    assert_int_equal(prx_url_probe(gone, &fast, &id), PRX_ENOENT);
    free(gone);
    http_server_close(server);

    struct prx_url_id was = {.has_n_bytes = true, .n_bytes = 4, .etag = "\"0\""};
    struct http_page page = {
        .path = "/x", .bytes = "abcd", .n_bytes = 4, .etag = "\"1\""};
    assert_int_equal(read_page(&page, &fast, &was, "", 0), PRX_EIO);
    assert_non_null(strstr(prx_err_message(), "another ETag"));
    was = (struct prx_url_id){.has_n_bytes = true, .n_bytes = 5};
    assert_int_equal(read_page(&page, &fast, &was, "", 0), PRX_EIO);
    assert_non_null(strstr(prx_err_message(), "another length"));
}

static void test_get(void **state)
{
    struct http_page page = {.path = "/index.json", .bytes = body, .n_bytes = 1000};
    struct http_server *server = http_server_open(&page, 1);
    char *text = http_server_url(server, page.path);
    struct prx_buf *got = NULL;

    (void)state;
    assert_int_equal(prx_url_get(text, &fast, 999, &got), PRX_EINVAL);
    assert_int_equal(prx_url_get(text, &fast, 1000, &got), 0);
    assert_int_equal(got->n_bytes, 1000);
    assert_memory_equal(got->bytes, body, 1000);
    assert_int_equal(got->bytes[1000], 0);
    prx_buf_unref(got);
    free(text);
    http_server_close(server);
}

/* A name that data holds does not lead into somebody's own network. */
static void test_private(void **state)
{
    static const char *const hosts[] = {"127.0.0.1", "localhost", "0.0.0.0",
                                        "2130706433", "[::1]", "[::ffff:127.0.0.1]",
                                        "127.1", "0177.0.0.1"};
    struct http_page page = {.path = "/x", .bytes = "A", .n_bytes = 1};
    struct http_server *server = http_server_open(&page, 1);
    struct prx_url_opts from_data = fast;
    struct prx_url_id id;
    char text[128];

    (void)state;
    from_data.is_from_data = true;
    for (size_t i = 0; i < N_OF(hosts); i++) {
        snprintf(text, sizeof(text), "http://%s:%d/x", hosts[i],
                 http_server_port(server));
        assert_int_equal(prx_url_probe(text, &from_data, &id), PRX_EINVAL);
        assert_non_null(strstr(prx_err_message(), "private address"));
    }
    assert_int_equal(page.n_requests, 0);
    http_server_close(server);
}

static bool is_late(void *ctx)
{
    return prx_now_ns() > *(int64_t *)ctx;
}

static void test_cancel(void **state)
{
    struct http_page pages[] = {
        {.path = "/x", .bytes = body, .n_bytes = 100, .n_stalls = 1, .n_cut = 10},
        {.path = "/x",
         .bytes = body,
         .n_bytes = 100,
         .n_refusals = 1,
         .refusal = 503,
         .retry_after = "60"},
    };

    (void)state;
    for (size_t i = 0; i < N_OF(pages); i++) {
        int64_t begin_ns = prx_now_ns(), end_ns = begin_ns + 100000000;
        struct prx_url_opts opts = {.is_canceled = is_late, .ctx = &end_ns};
        assert_int_equal(read_page(&pages[i], &opts, NULL, body, 100), PRX_ECANCELED);
        assert_true(prx_now_ns() - begin_ns < 5000000000);
    }
}

/* Nobody listens there: said soon, and with no secret in it. */
static void test_refused_connection(void **state)
{
    struct http_page page = {.path = "/x"};
    struct http_server *server = http_server_open(&page, 1);
    char text[128];
    struct prx_url_id id;

    (void)state;
    snprintf(text, sizeof(text), "http://me:secret@127.0.0.1:%d/x?token=secret#secret",
             http_server_port(server));
    http_server_close(server);
    assert_int_equal(prx_url_probe(text, &fast, &id), PRX_EIO);
    assert_non_null(strstr(prx_err_message(), "/x: "));
    assert_null(strstr(prx_err_message(), "secret"));
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_whole),
        cmocka_unit_test(test_mended),
        cmocka_unit_test(test_failures),
        cmocka_unit_test(test_retry_after),
        cmocka_unit_test(test_probe),
        cmocka_unit_test(test_get),
        cmocka_unit_test(test_private),
        cmocka_unit_test(test_cancel),
        cmocka_unit_test(test_refused_connection),
    };
    return cmocka_run_group_tests(tests, fill_bodies, NULL);
}
