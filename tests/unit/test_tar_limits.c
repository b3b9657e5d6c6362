/* SPDX-License-Identifier: Apache-2.0 */
/*
 * Tars that are large or say so: in how much memory they are read; and that nothing of
 * any tar is written outside of where it should.
 */
#include <fcntl.h>
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/resource.h>
#include <sys/wait.h>
#include <unistd.h>

#include <cmocka.h>

#include "libdata/pipeline.h"
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

/* --- sizes ----------------------------------------------------------------------- */

/* A sample that begins at or about 2^31, 2^32, 2^33, in a file that is all hole. */
static void test_far_offsets(void **state)
{
    struct prx_scratch *scratch = *state;
    const struct prx_source_opts opts = {.n_member_bytes_max = UINT64_C(1) << 40};
    struct prx_str head = {0}, tail = {0};

    add(&tail, "far.jpg", "beyond");
    prx_tar_end(&tail);
    for (int i = 0; i < 9; i++) {
        uint64_t at = (UINT64_C(1) << (31 + i / 3)) + (uint64_t)(i % 3) * 512 - 1024;
        char size[16];
        snprintf(size, sizeof(size), "%011llo", (unsigned long long)(at - 512));
        const struct prx_tar_lie lie = {.size_text = size, .size_bytes = 11};
        prx_str_reset(&head);
        prx_tar_add(&head, "far.bin", "", 0, &lie);
        const char *path =
            prx_scratch_put(scratch, "t.tar", head.bytes, head.n_bytes);
        int fd = open(path, O_WRONLY);
        assert_int_equal(pwrite(fd, tail.bytes, tail.n_bytes, (off_t)at), tail.n_bytes);
        close(fd);

        struct prx_source *source;
        struct prx_sample sample = {0};
        assert_int_equal(prx_source_open(&path, 1, &opts, &source), 0);
        assert_int_equal(prx_source_next(source, &sample), 1);
        assert_null(sample.reject_reason);
        const struct prx_field *field = prx_sample_find(&sample, "jpg");
        assert_int_equal(field->offset_bytes, at + 512);
        prx_sample_drop(&sample, "bin");
        assert_int_equal(prx_sample_load(&sample), 0);
        field = prx_sample_find(&sample, "jpg");
        assert_memory_equal(field->bytes->bytes, "beyond", 6);
        assert_int_equal(prx_source_next(source, &sample), 0);
        prx_sample_release(&sample);
        prx_source_close(source);
    }
    prx_str_release(&head);
    prx_str_release(&tail);
}

static size_t count(const char *text, const char *what)
{
    size_t n = 0;
    for (; (text = strstr(text, what)); text++)
        n++;
    return n;
}

/* As many samples as members; and one sample of as many, in falling order. */
static void test_many_members(void **state)
{
    struct prx_scratch *scratch = *state;
    struct prx_str tar = {0};
    char name[32];

    for (int is_one = 0; is_one <= 1; is_one++) {
        prx_str_reset(&tar);
        for (int i = 100000; i-- > 0;) {
            snprintf(name, sizeof(name), is_one ? "a.%06d" : "%06d.jpg", i);
            add(&tar, name, "");
        }
        add(&tar, "z.jpg", "Z");
        prx_tar_end(&tar);
        char *got = prx_tell_source(
            scratch, prx_scratch_put(scratch, "t.tar", tar.bytes, tar.n_bytes), NULL);
        if (is_one)
            assert_string_equal(got, "a! more than 1024 fields\nz: jpg=Z\n");
        else
            assert_int_equal(count(got, ": jpg="), 100001);
        free(got);
    }
    prx_str_release(&tar);
}

/* Members below the limit, that together are above it. */
static void test_limit_of_a_sample(void **state)
{
    struct prx_scratch *scratch = *state;
    const struct prx_source_opts opts = {.n_member_bytes_max = 10};
    struct prx_str tar = {0};

    add(&tar, "a.jpg", "12345");
    add(&tar, "a.txt", "12345");
    add(&tar, "b.jpg", "12345");
    add(&tar, "b.txt", "123456");
    add(&tar, "z.jpg", "Z");
    prx_tar_end(&tar);
    prx_scratch_put(scratch, "t.tar", tar.bytes, tar.n_bytes);
    char *got = prx_tell_source(scratch, prx_scratch_path(scratch, "t.tar"), &opts);
    assert_string_equal(got, "a: jpg=12345 txt=12345\n"
                             "b! t.tar: member b.txt: larger than the limit with those"
                             " before it\n"
                             "z: jpg=Z\n");
    free(got);
    prx_scratch_puts(scratch, "d/b.jpg", "12345");
    prx_scratch_puts(scratch, "d/b.txt", "123456");
    got = prx_tell_source(scratch, prx_scratch_path(scratch, "d"), &opts);
    assert_string_equal(got, "b! d/b.txt: larger than the limit with those before"
                             " it\n");
    free(got);
    prx_str_release(&tar);
}

#if !defined(__SANITIZE_ADDRESS__) && !defined(__SANITIZE_THREAD__)
/* Read @path with 64 MiB more than now; the child's exit status: 0 if it ends. */
static int read_in_little_memory(struct prx_scratch *scratch, const char *path)
{
    unsigned long n_pages = 0;
    int status;

    pid_t child = fork();
    assert_true(child >= 0);
    if (child == 0) {
        FILE *statm = fopen("/proc/self/statm", "r");
        if (!statm || fscanf(statm, "%lu", &n_pages) != 1)
            _exit(2);
        fclose(statm);
        rlim_t n_bytes = (rlim_t)n_pages * (rlim_t)sysconf(_SC_PAGESIZE) + (64 << 20);
        const struct rlimit limit = {n_bytes, n_bytes};
        if (setrlimit(RLIMIT_AS, &limit) < 0)
            _exit(2);
        char *got = prx_tell_source(scratch, path, NULL);
        _exit(strchr(got, '!') ? 0 : 3);
    }
    assert_int_equal(waitpid(child, &status, 0), child);
    return status;
}
#endif

/* Names, headers and members of 2 GiB, told of and there: no memory for them. */
static void test_memory(void **state)
{
#if defined(__SANITIZE_ADDRESS__) || defined(__SANITIZE_THREAD__)
    (void)state;
    skip(); /* sanitizers want all addresses for themselves */
#else
    static const struct {
        char typeflag;
        const char *size_text;
    } rows[] = {
        {'L', "20000000000"},
        {'K', "20000000000"},
        {'x', "20000000000"},
        {'g', "20000000000"},
        {'L', "77777777777"},
        {'x', "77777777777"},
        {'0', "20000000000"},
        {'S', "20000000000"},
    };
    struct prx_scratch *scratch = *state;

    for (size_t i = 0; i < N_OF(rows); i++) {
        const struct prx_tar_lie lie = {.typeflag = rows[i].typeflag,
                                        .size_text = rows[i].size_text,
                                        .size_bytes = 11};
        struct prx_str tar = {0};
        add(&tar, "a.jpg", "A");
        prx_tar_add(&tar, "b.jpg", "", 0, &lie);
        for (int is_there = 0; is_there <= 1; is_there++) {
            const char *path =
                prx_scratch_put(scratch, "t.tar", tar.bytes, tar.n_bytes);
            if (is_there)
                assert_int_equal(truncate(path, (off_t)1 << 31), 0);
            int status = read_in_little_memory(scratch, path);
            if (status != 0)
                fail_msg("type %c, size %s: status %d", rows[i].typeflag,
                         rows[i].size_text, status);
        }
        prx_str_release(&tar);
    }
#endif
}

/* --- where it goes --------------------------------------------------------------- */

static void unpack(struct prx_scratch *scratch, const char *word)
{
    const struct prx_sink_opts opts = {.exists = PRX_SINK_OVERWRITE, .no_sync = true};
    const char *path = prx_scratch_path(scratch, "t.tar");
    struct prx_source *source;
    struct prx_sink *sink;
    uint64_t n_done;

    assert_int_equal(prx_source_open(&path, 1, NULL, &source), 0);
    assert_int_equal(
        prx_sink_open(prx_scratch_path(scratch, word), &opts, &n_done, &sink), 0);
    if (prx_pipeline_run(source, NULL, 0, sink, NULL, NULL) == 0)
        assert_int_equal(prx_sink_finish(sink, NULL, NULL), 0);
    else
        prx_sink_abort(sink);
    prx_source_close(source);
}

/* Nothing but t.tar and what is below in/out stands anywhere near. */
static void test_stays_inside(void **state)
{
    static const char *const names[] = {
        "../up.jpg",
        "/abs.jpg",
        "../../up.jpg",
        "b/../../up.jpg",
        "./../up.jpg",
        "..//up.jpg",
        "b/./../../u.jpg",
        "...jpg",
        "..\\up.jpg",
        "b/../../../t.tar",
        "~/up.jpg",
        "//abs.jpg",
        "out/../../u.jpg",
        "b\n../up.jpg",
        "../in/up.jpg",
        ".jpg",
    };
    const struct prx_tar_lie link = {.typeflag = '2', .linkname = ".."};
    struct prx_scratch *scratch = *state;
    struct prx_str tar = {0};

    for (size_t i = 0; i < N_OF(names); i++) {
        prx_str_reset(&tar);
        add(&tar, "a.jpg", "A");
        prx_tar_add(&tar, "b.jpg", "", 0, &link);
        add(&tar, "b.jpg/through.jpg", "x");
        add(&tar, names[i], "x");
        add(&tar, "z.jpg", "Z");
        prx_tar_end(&tar);
        prx_scratch_put(scratch, "t.tar", tar.bytes, tar.n_bytes);
        unpack(scratch, "in/out/");
        char *there = prx_scratch_names(scratch->root), *rest = NULL;
        for (char *name = strtok_r(there, " ", &rest); name;
             name = strtok_r(NULL, " ", &rest))
            if (strncmp(name, "in/out/", 7) != 0 && strcmp(name, "t.tar") != 0)
                fail_msg("%s is written", name);
        assert_int_equal(access(prx_scratch_path(scratch, "in/out/z.jpg"), F_OK), 0);
        free(there);
        assert_int_equal(access("/abs.jpg", F_OK), -1);
    }
    prx_str_release(&tar);
}

int main(void)
{
#define TEST(name) cmocka_unit_test_setup_teardown(name, open_scratch, close_scratch)
    const struct CMUnitTest tests[] = {
        TEST(test_far_offsets),
        TEST(test_many_members),
        TEST(test_limit_of_a_sample),
        TEST(test_memory),
        TEST(test_stays_inside),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
