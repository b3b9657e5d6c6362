/* SPDX-License-Identifier: Apache-2.0 */
/* Tars of every dialect and malice, cut anywhere, bits turned: what is read of them. */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include <cmocka.h>

#include "libdata/rng.h"
#include "tests/lib/tell.h"

#define N_OF(array) (sizeof(array) / sizeof((array)[0]))

static int open_scratch(void **state)
{
    static struct prx_scratch scratch;
    prx_scratch_open(&scratch);
    *state = &scratch;
    return 0;
}

static int close_scratch(void **state)
{
    prx_scratch_close(*state);
    return 0;
}

static void add(struct prx_str *tar, const char *name, const char *text)
{
    prx_tar_add(tar, name, text, strlen(text), NULL);
}

static void add_typed(struct prx_str *tar, char typeflag, const char *name,
                      const char *text, size_t n_text)
{
    const struct prx_tar_lie lie = {.typeflag = typeflag};
    prx_tar_add(tar, name, text, n_text, &lie);
}

/* One line of a pax header; LENGTH counts itself. */
static void add_pax(struct prx_str *tar, const char *line)
{
    add_typed(tar, 'x', "pax", line, strlen(line));
}

/* --- the dialects ---------------------------------------------------------------- */

/* Each is put between two sound samples, "a" and "z". */

static void put_pax_size(struct prx_str *tar)
{
    const struct prx_tar_lie lie = {.size_text = "00000000000", .size_bytes = 11};
    add_pax(tar, "10 size=4\n");
    prx_tar_add(tar, "b.jpg", "four", 4, &lie);
}

static void put_pax_size_huge(struct prx_str *tar)
{
    add_pax(tar, "28 size=9223372036854775807\n");
    add(tar, "b.jpg", "x");
}

static void put_pax_size_negative(struct prx_str *tar)
{
    add_pax(tar, "11 size=-4\n");
    add(tar, "b.jpg", "x");
}

static void put_pax_path(struct prx_str *tar)
{
    add_pax(tar, "21 path=../../up.jpg\n");
    add(tar, "b.jpg", "x");
}

static void put_pax_bad_length(struct prx_str *tar)
{
    add_pax(tar, "999 path=c.jpg\n");
    add(tar, "b.jpg", "x");
}

static void put_pax_hard_link(struct prx_str *tar)
{
    add_pax(tar, "24 linkpath=/etc/passwd\n");
    add(tar, "b.jpg", "x");
}

static void put_pax_global(struct prx_str *tar)
{
    add_typed(tar, 'g', "pax", "19 path=../all.jpg\n", 19);
    add(tar, "b.jpg", "x");
}

static void put_gnu_name(struct prx_str *tar)
{
    char name[256];

    memset(name, 'n', sizeof(name));
    memcpy(name + 250, ".jpg", 5);
    add_typed(tar, 'L', "././@LongLink", name, 255);
    add(tar, "b.jpg", "x");
}

static void put_gnu_name_up(struct prx_str *tar)
{
    add_typed(tar, 'L', "././@LongLink", "../../up.jpg", 13);
    add(tar, "b.jpg", "x");
}

static void put_ustar_prefix(struct prx_str *tar)
{
    char prefix[155];
    const struct prx_tar_lie lie = {
        .patch_at = 345, .patch = prefix, .patch_bytes = sizeof(prefix)};

    memset(prefix, 'p', sizeof(prefix));
    prx_tar_add(tar, "b.jpg", "x", 1, &lie);
}

static void put_full_name(struct prx_str *tar)
{
    char name[101];

    memset(name, 'n', 100);
    memcpy(name + 96, ".jpg", 5);
    add(tar, name, "x");
}

static void put_nul_in_name(struct prx_str *tar)
{
    static const char patch[] = "b.jpg\0../../up.jpg";
    const struct prx_tar_lie lie = {.patch = patch, .patch_bytes = sizeof(patch)};
    prx_tar_add(tar, "", "x", 1, &lie);
}

static void put_v7(struct prx_str *tar)
{
    static const char zeros[255];
    const struct prx_tar_lie lie = {
        .patch_at = 257, .patch = zeros, .patch_bytes = 255};
    const struct prx_tar_lie folder = {
        .typeflag = '5', .patch_at = 257, .patch = zeros, .patch_bytes = 255};
    prx_tar_add(tar, "d/", "", 0, &folder);
    prx_tar_add(tar, "b.jpg", "x", 1, &lie);
}

static void put_mtime_base256(struct prx_str *tar)
{
    const struct prx_tar_lie lie = {.patch_at = 136,
                                    .patch = "\xff\xff\xff\xff\xff\xff\xff\xff\xff\xff"
                                             "\xff\xfe",
                                    .patch_bytes = 12};
    prx_tar_add(tar, "b.jpg", "x", 1, &lie);
}

static void put_size_base256(struct prx_str *tar)
{
    const struct prx_tar_lie lie = {
        .size_text = "\x80\0\0\0\0\0\0\0\0\0\0\4", .size_bytes = 12};
    prx_tar_add(tar, "b.jpg", "four", 4, &lie);
}

/* Old GNU sparse: 'S', one block of 1 byte at 0, a real size of 8 GiB. */
static void put_gnu_sparse(struct prx_str *tar)
{
    char patch[238] = "ustar  ";
    const struct prx_tar_lie lie = {.typeflag = 'S',
                                    .patch_at = 257,
                                    .patch = patch,
                                    .patch_bytes = sizeof(patch)};
    memcpy(patch + 129, "00000000000", 12);
    memcpy(patch + 141, "00000000001", 12);
    memcpy(patch + 226, "77777777777", 12);
    prx_tar_add(tar, "b.jpg", "x", 1, &lie);
}

/* pax 1.0 sparse: the map stands before the bytes. */
static void put_pax_sparse(struct prx_str *tar)
{
    char body[513] = "1\n0\n1\n";

    body[512] = 'x';
    add_pax(tar, "22 GNU.sparse.major=1\n22 GNU.sparse.minor=0\n"
                 "25 GNU.sparse.name=b.jpg\n31 GNU.sparse.realsize=99999999\n");
    add_typed(tar, '0', "GNUSparseFile.1/b.jpg", body, sizeof(body));
}

static void put_contiguous(struct prx_str *tar)
{
    add_typed(tar, '7', "b.jpg", "x", 1);
}

static void put_unknown_type(struct prx_str *tar)
{
    add_typed(tar, 'Q', "b.jpg", "x", 1);
}

static void put_folder_with_bytes(struct prx_str *tar)
{
    add_typed(tar, '5', "b.jpg", "x", 1);
}

static void put_link_with_bytes(struct prx_str *tar)
{
    const struct prx_tar_lie lie = {.typeflag = '2', .linkname = "/etc"};
    prx_tar_add(tar, "b.jpg", "x", 1, &lie);
    add(tar, "b.jpg/c.jpg", "through");
}

static void put_many_dots(struct prx_str *tar)
{
    add(tar, "b.c.d.JPG", "x");
    add(tar, "b..jpg", "y");
    add(tar, "b.", "e");
}

static void put_empty(struct prx_str *tar)
{
    add(tar, "b.jpg", "");
}

static void put_apart(struct prx_str *tar)
{
    add(tar, "b.jpg", "1");
    add(tar, "c.jpg", "x");
    add(tar, "b.txt", "2");
}

static void put_dotted(struct prx_str *tar)
{
    add(tar, "d/._b.jpg", "mac");
    add(tar, ".b.jpg", "hidden");
    add(tar, "b/.", "folder");
    add(tar, "b/..", "folder");
}

static void put_mode_garbage(struct prx_str *tar)
{
    const struct prx_tar_lie lie = {
        .patch_at = 100, .patch = "not octal, no digits at", .patch_bytes = 24};
    prx_tar_add(tar, "b.jpg", "x", 1, &lie);
}

#define N46 "nnnnnnnnnnnnnnnnnnnnnnnnnnnnnnnnnnnnnnnnnnnnnn"
#define N50 N46 "nnnn"
#define P50 "pppppppppppppppppppppppppppppppppppppppppppppppppp"

/* Between the lines of "a" and "z"; NULL: a tear, which somebody is told of. */
static const struct dialect {
    const char *name;
    void (*put)(struct prx_str *tar);
    const char *want;
} dialects[] = {
    {"pax size", put_pax_size, "b: jpg=four\n"},
    {"pax size, huge", put_pax_size_huge, NULL},
    {"pax size, negative", put_pax_size_negative, NULL},
    {"pax path", put_pax_path, "../../up! key \"../../up\" has a component ..\n"},
    {"pax length", put_pax_bad_length, "b: jpg=x\n"},
    {"pax link", put_pax_hard_link, "b: jpg=x\n"},
    {"pax global", put_pax_global, "b: jpg=x\n"},
    {"GNU name", put_gnu_name, N50 N50 N50 N50 N50 ": jpg=x\n"},
    {"GNU name, up", put_gnu_name_up,
     "../../up! key \"../../up\" has a component ..\n"},
    {"ustar prefix", put_ustar_prefix, P50 P50 P50 "ppppp/b: jpg=x\n"},
    {"name of 100", put_full_name, N50 N46 ": jpg=x\n"},
    {"NUL in name", put_nul_in_name, "b: jpg=x\n"},
    {"v7", put_v7, "b: jpg=x\n"},
    {"mtime in base 256", put_mtime_base256, "b: jpg=x\n"},
    {"size in base 256", put_size_base256, "b: jpg=four\n"},
    {"GNU sparse", put_gnu_sparse, "b! t.tar: member b.jpg: a sparse file\n"},
    {"pax sparse", put_pax_sparse,
     "GNUSparseFile.1/b! t.tar: member GNUSparseFile.1/b.jpg: a sparse file\n"},
    {"contiguous file", put_contiguous, "b: jpg=x\n"},
    {"unknown type", put_unknown_type, "b: jpg=x\n"},
    {"folder with bytes", put_folder_with_bytes, NULL},
    {"link with bytes", put_link_with_bytes, NULL},
    {"many dots", put_many_dots, "b: =e .jpg=y c.d.jpg=x\n"},
    {"empty member", put_empty, "b: jpg=\n"},
    {"members apart", put_apart, "b: jpg=1\nc: jpg=x\nb: txt=2\n"},
    {"dots first", put_dotted, ""},
    {"no mode", put_mode_garbage, "b: jpg=x\n"},
};

static void make(const struct dialect *dialect, struct prx_str *tar)
{
    prx_str_reset(tar);
    add(tar, "a.jpg", "A");
    add(tar, "a.txt", "T");
    dialect->put(tar);
    add(tar, "z.jpg", "Z");
    prx_tar_end(tar);
}

static void test_dialects(void **state)
{
    struct prx_scratch *scratch = *state;
    struct prx_str tar = {0}, want = {0};

    for (size_t i = 0; i < N_OF(dialects); i++) {
        const struct dialect *dialect = &dialects[i];
        make(dialect, &tar);
        char *got = prx_tell_source(
            scratch, prx_scratch_put(scratch, "t.tar", tar.bytes, tar.n_bytes), NULL);
        prx_str_reset(&want);
        assert_int_equal(prx_str_printf(&want, "a: jpg=A txt=T\n%sz: jpg=Z\n",
                                        dialect->want ? dialect->want : ""),
                         0);
        bool is_right = dialect->want ? strcmp(got, want.bytes) == 0
                                      : strstr(got, "torn at byte") != NULL;
        if (!is_right)
            fail_msg("%s: %s", dialect->name, got);
        free(got);
    }
    prx_str_release(&tar);
    prx_str_release(&want);
}

/* A sparse file cut off: what would come behind it is missed. */
static void test_torn_in_sparse(void **state)
{
    struct prx_scratch *scratch = *state;
    struct prx_str tar = {0};

    make(&(struct dialect){"", put_gnu_sparse, NULL}, &tar);
    const char *path = prx_scratch_put(scratch, "t.tar", tar.bytes, 4 * 512 + 512 + 7);
    char *got = prx_tell_source(scratch, path, NULL);
    assert_non_null(strstr(got, "b! t.tar: member b.jpg: a sparse file\nt.tar! "));
    free(got);
    prx_str_release(&tar);
}

/* Cut anywhere, by blocks and at random: told, but for what stood whole before. */
static void test_cut_at_random(void **state)
{
    struct prx_scratch *scratch = *state;
    struct prx_str tar = {0};
    struct prx_rng rng;

    prx_rng_init(&rng, 11, PRX_RNG_TEST, 0, 0);
    for (size_t i = 0; i < N_OF(dialects); i++) {
        make(&dialects[i], &tar);
        for (size_t k = 0; k < 40; k++) {
            size_t n = k < 8 ? k * 512 : prx_rng_below(&rng, tar.n_bytes - 1024);
            const char *path = prx_scratch_put(scratch, "t.tar", tar.bytes, n);
            char *got = prx_tell_source(scratch, path, NULL);
            if (!strchr(got, '!'))
                fail_msg("%s, cut at %zu: %s", dialects[i].name, n, got);
            free(got);
        }
    }
    prx_str_release(&tar);
}

/* Bits turned, bytes cut off: it ends, and what is called good is good. */
static void test_mutations(void **state)
{
    struct prx_scratch *scratch = *state;
    struct prx_str tar = {0};
    struct prx_rng rng;
    uint64_t n_good = 0, n_rejected = 0;

    prx_rng_init(&rng, 3, PRX_RNG_TEST, 0, 0);
    for (unsigned round = 0; round < 2000; round++) {
        make(&dialects[round % N_OF(dialects)], &tar);
        for (int i = 0; i < 4; i++) {
            /* Headers are the interesting half of the blocks. */
            size_t at = prx_rng_below(&rng, tar.n_bytes / 512) * 512 +
                        prx_rng_below(&rng, i % 2 ? 512 : 160);
            tar.bytes[at] = (char)(tar.bytes[at] ^ 1 << prx_rng_below(&rng, 8));
        }
        size_t n = round % 3 ? tar.n_bytes : prx_rng_below(&rng, tar.n_bytes);
        char *got = prx_tell_source(
            scratch, prx_scratch_put(scratch, "t.tar", tar.bytes, n), NULL);
        n_good += strstr(got, ": ") != NULL;
        n_rejected += strstr(got, "! ") != NULL;
        free(got);
    }
    assert_true(n_good > 200);
    assert_true(n_rejected > 200);
    prx_str_release(&tar);
}

int main(void)
{
#define TEST(name) cmocka_unit_test_setup_teardown(name, open_scratch, close_scratch)
    const struct CMUnitTest tests[] = {
        TEST(test_dialects),
        TEST(test_torn_in_sparse),
        TEST(test_cut_at_random),
        TEST(test_mutations),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
