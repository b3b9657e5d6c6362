/* SPDX-License-Identifier: Apache-2.0 */
/* progress.h where standard error is no terminal: when a line comes, what it says. */
#include "libdata/progress.h"

#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <stdio.h>
#include <string.h>
#include <unistd.h>

#include <cmocka.h>

#define N_SECOND_NS INT64_C(1000000000)

/* What one tick prints, of a meter begun @elapsed_s ago, into @out. */
static void tick(enum prx_meter_when when, int elapsed_s, int shown_s, uint64_t n_total,
                 uint64_t n_done, uint64_t n_bytes, char out[256])
{
    struct prx_meter meter;
    int ends[2], kept = dup(STDERR_FILENO);

    prx_meter_init(&meter, when, "shard", "samples", n_total);
    meter.start_ns -= elapsed_s * N_SECOND_NS;
    if (shown_s >= 0)
        meter.shown_ns = prx_now_ns() - shown_s * N_SECOND_NS;
    assert_int_equal(pipe(ends), 0);
    dup2(ends[1], STDERR_FILENO);
    prx_meter_tick(&meter, n_done, n_bytes, NULL);
    dup2(kept, STDERR_FILENO);
    close(kept);
    close(ends[1]);
    ssize_t n_got = read(ends[0], out, 255);
    assert_true(n_got >= 0);
    out[n_got] = '\0';
    close(ends[0]);
}

static void test_when(void **state)
{
    static const struct {
        enum prx_meter_when when;
        int elapsed_s, shown_s; /* shown -1: never yet */
        int is_line;
    } rows[] = {
        {PRX_METER_AUTO, 0, -1, 0},
        {PRX_METER_AUTO, 59, -1, 0},
        {PRX_METER_AUTO, 61, -1, 1},
        {PRX_METER_AUTO, 100, 59, 0},
        {PRX_METER_AUTO, 100, 61, 1},
        {PRX_METER_ALWAYS, 0, -1, 0},
        {PRX_METER_ALWAYS, 2, -1, 1},
        {PRX_METER_ALWAYS, 9, 0, 0},
        {PRX_METER_ALWAYS, 9, 2, 1},
        {PRX_METER_NEVER, 999, 99, 0},
    };
    char line[256];

    (void)state;
    for (size_t i = 0; i < sizeof(rows) / sizeof(*rows); i++) {
        tick(rows[i].when, rows[i].elapsed_s, rows[i].shown_s, 0, 1, 1, line);
        assert_int_equal(line[0] != '\0', rows[i].is_line);
    }
}

static void test_line(void **state)
{
    char line[256];

    (void)state;
    tick(PRX_METER_ALWAYS, 100, -1, 3000, 1500, 5000000000, line);
    assert_non_null(strstr(line, "shard  1.5k samples  "));
    assert_non_null(strstr(line, "  50MB/s"));
    assert_non_null(strstr(line, "  eta 1m40s"));
    /* Nobody knows how many: no estimate; nor where all is done. */
    tick(PRX_METER_ALWAYS, 100, -1, 0, 1500, 1, line);
    assert_null(strstr(line, "eta"));
    tick(PRX_METER_ALWAYS, 100, -1, 1500, 1500, 1, line);
    assert_null(strstr(line, "eta"));
    tick(PRX_METER_ALWAYS, 10, -1, UINT64_MAX, 1, 1, line);
    assert_non_null(strstr(line, "eta 1000h00m"));
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_when),
        cmocka_unit_test(test_line),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
