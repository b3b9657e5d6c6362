/* SPDX-License-Identifier: Apache-2.0 */
/* path.h: braces as bash expands them, globs in byte order. */
#include "libdata/path.h"

#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <stdlib.h>
#include <string.h>

#include <cmocka.h>

#include "libdata/buf.h"
#include "tests/lib/scratch.h"

#define N_OF(array) (sizeof(array) / sizeof((array)[0]))

/* All of @paths, a space between. */
static char *join(const struct prx_paths *paths)
{
    struct prx_str out = {0};

    assert_int_equal(prx_str_puts(&out, ""), 0);
    for (size_t i = 0; i < paths->n_paths; i++)
        assert_int_equal(prx_str_printf(&out, "%s%s", i ? " " : "", paths->paths[i]),
                         0);
    return out.bytes;
}

static void test_braces(void **state)
{
    /* What bash 5.2 prints for echo WORD. */
    static const struct {
        const char *word, *want;
    } rows[] = {
        {"plain", "plain"},
        {"a/{000..003}.tar", "a/000.tar a/001.tar a/002.tar a/003.tar"},
        {"{8..11}", "8 9 10 11"},
        {"{08..11}", "08 09 10 11"},
        {"{1..010}x", "001x 002x 003x 004x 005x 006x 007x 008x 009x 010x"},
        {"{3..1}", "3 2 1"},
        {"{0..9..3}", "0 3 6 9"},
        {"{9..0..-3}", "9 6 3 0"},
        {"{-2..1}", "-2 -1 0 1"},
        {"{-02..1}", "-02 -01 000 001"},
        {"{a..d}", "a b c d"},
        {"{d..a..2}", "d b"},
        {"{a,b,}c", "ac bc c"},
        {"x{a,b}{1,2}", "xa1 xa2 xb1 xb2"},
        {"{a,b{1,2}}c{x,y}", "acx acy b1cx b1cy b2cx b2cy"},
        {"{{a,b},c}", "a b c"},
        {"{}", "{}"},
        {"{a}", "{a}"},
        {"{a", "{a"},
        {"a}", "a}"},
        {"{a..1}", "{a..1}"},
        {"{1..}", "{1..}"},
        {"{{1..2}", "{1 {2"},
        {"{a{1,2}}", "{a1} {a2}"},
        {"{1..2..0}", "1 2"},
    };

    (void)state;
    for (size_t i = 0; i < N_OF(rows); i++) {
        struct prx_paths paths = {0};
        assert_int_equal(prx_brace_expand(rows[i].word, 1000, &paths), 0);
        char *got = join(&paths);
        assert_string_equal(got, rows[i].want);
        free(got);
        prx_paths_release(&paths);
    }
}

static void test_brace_bombs(void **state)
{
    static const char *const words[] = {
        "{1..101}",
        "{1..999999999999999999}",
        "{-999999999999999999..999999999999999999}",
        "{1..20}{1..20}",
        "{,}{,}{,}{,}{,}{,}{,}{,}{,}{,}{,}{,}{,}{,}{,}{,}{,}{,}{,}{,}",
    };

    (void)state;
    for (size_t i = 0; i < N_OF(words); i++) {
        struct prx_paths paths = {0};
        assert_int_equal(prx_brace_expand(words[i], 100, &paths), PRX_EINVAL);
        assert_non_null(strstr(prx_err_message(), words[i]));
        prx_paths_release(&paths);
    }
}

static void test_glob(void **state)
{
    struct prx_scratch scratch;
    struct prx_paths paths = {0};

    (void)state;
    prx_scratch_open(&scratch);
    prx_scratch_puts(&scratch, "b.tar", "");
    prx_scratch_puts(&scratch, "B.tar", "");
    prx_scratch_puts(&scratch, "a.tar", "");
    prx_scratch_puts(&scratch, "a.txt", "");
    assert_true(prx_glob_is("x[0]"));
    assert_false(prx_glob_is("x{0}"));
    assert_int_equal(prx_glob_expand(prx_scratch_path(&scratch, "*.tar"), &paths), 0);
    assert_int_equal(paths.n_paths, 3);
    assert_string_equal(strrchr(paths.paths[0], '/'), "/B.tar");
    assert_string_equal(strrchr(paths.paths[1], '/'), "/a.tar");
    assert_string_equal(strrchr(paths.paths[2], '/'), "/b.tar");
    assert_int_equal(prx_glob_expand(prx_scratch_path(&scratch, "*.zip"), &paths),
                     PRX_ENOENT);
    prx_paths_release(&paths);
    prx_scratch_close(&scratch);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_braces),
        cmocka_unit_test(test_brace_bombs),
        cmocka_unit_test(test_glob),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
