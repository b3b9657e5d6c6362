/* SPDX-License-Identifier: Apache-2.0 */
/* outfile.h and journal.h: whole or not at all; torn lines; one holder. */
#include "libdata/outfile.h"

#include <fcntl.h>
#include <setjmp.h>
#include <signal.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>
#include <sys/wait.h>
#include <unistd.h>

#include <cmocka.h>

#include "libdata/journal.h"
#include "tests/lib/scratch.h"

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

static void assert_tree(struct prx_scratch *scratch, const char *want)
{
    char *names = prx_scratch_names(scratch->root);
    assert_string_equal(names, want);
    free(names);
}

static void test_commit(void **state)
{
    struct prx_scratch *scratch = *state;
    const char *path = prx_scratch_path(scratch, "a/b/c.txt");
    struct iovec parts[3000];
    struct prx_outfile file;
    struct prx_buf *got;

    assert_int_equal(prx_outfile_open(&file, path), 0);
    assert_int_equal(prx_outfile_write(&file, "x", 1), 0);
    /* More parts than one system call takes, some of them empty. */
    for (int i = 0; i < 3000; i++)
        parts[i] = (struct iovec){(void *)(uintptr_t) "yz", (size_t)(i % 3)};
    assert_int_equal(prx_outfile_writev(&file, parts, 3000), 0);
    assert_int_equal(file.n_bytes, 3001);
    assert_int_equal(access(path, F_OK), -1);
    assert_int_equal(prx_outfile_commit(&file, false), 0);
    assert_tree(scratch, "a/b/c.txt ");
    assert_int_equal(prx_file_get(path, 3001, &got), 0);
    assert_int_equal(got->n_bytes, 3001);
    assert_memory_equal(got->bytes, "xyyzyyz", 7);
    prx_buf_unref(got);
    assert_int_equal(prx_file_get(path, 3000, &got), PRX_EINVAL);
    prx_outfile_abort(&file);
}

static void test_abort_leaves_what_was_there(void **state)
{
    struct prx_scratch *scratch = *state;
    const char *path = prx_scratch_puts(scratch, "x", "old");
    struct prx_outfile file, zero = {0};
    struct prx_buf *got;

    assert_int_equal(prx_outfile_open(&file, path), 0);
    assert_int_equal(prx_outfile_write(&file, "new", 3), 0);
    prx_outfile_abort(&file);
    prx_outfile_abort(&file);
    prx_outfile_abort(&zero);
    assert_tree(scratch, "x ");
    assert_int_equal(prx_file_get(path, 100, &got), 0);
    assert_string_equal((char *)got->bytes, "old");
    prx_buf_unref(got);
}

static void test_failures_name_the_file(void **state)
{
    struct prx_scratch *scratch = *state;
    struct prx_outfile file;

    int fd = open("/dev/full", O_WRONLY);
    assert_true(fd >= 0);
    assert_int_equal(prx_write_all(fd, "out/x.tar", "abc", 3), PRX_EIO);
    assert_string_equal(prx_err_message(), "out/x.tar: No space left on device");
    close(fd);

    prx_scratch_puts(scratch, "f", "");
    assert_true(prx_outfile_open(&file, prx_scratch_path(scratch, "f/g")) < 0);
    assert_non_null(strstr(prx_err_message(), "/f"));
    assert_int_equal(prx_mkdirs(prx_scratch_path(scratch, "f")), PRX_EEXIST);
    /* The rename fails: a folder stands under the name. */
    assert_int_equal(prx_mkdirs(prx_scratch_path(scratch, "d/e")), 0);
    assert_int_equal(prx_outfile_open(&file, prx_scratch_path(scratch, "d")), 0);
    assert_true(prx_outfile_commit(&file, false) < 0);
    assert_tree(scratch, "f ");
}

/* What a killed writer leaves is removed; what one still writes is not. */
static void test_sweep(void **state)
{
    struct prx_scratch *scratch = *state;
    const char *path = prx_scratch_path(scratch, "r.json");
    struct prx_outfile file;

    prx_outfile_sweep(prx_scratch_path(scratch, "no/such/folder"));
    prx_scratch_puts(scratch, ".r.json.tmp.12", "left");
    prx_scratch_puts(scratch, ".r.json.tmp.", "not ours");
    prx_scratch_puts(scratch, ".r.json.tmp.1x", "not ours");
    prx_scratch_puts(scratch, ".xr.json.tmp.1", "not of this file");
    prx_scratch_puts(scratch, "r.json.tmp.1", "not hidden");
    assert_int_equal(prx_outfile_open(&file, path), 0);
    prx_outfile_sweep(path);
    assert_int_equal(prx_outfile_commit(&file, true), 0);
    assert_tree(scratch, ".r.json.tmp. .r.json.tmp.1x .xr.json.tmp.1 r.json "
                         "r.json.tmp.1 ");
}

/* Replacing a device by a file would be the end of the device. */
static void test_streams_are_written_to(void **state)
{
    struct prx_scratch *scratch = *state;
    const char *path = prx_scratch_path(scratch, "fifo");
    struct prx_outfile file;
    struct stat st;
    char got[4] = "";

    assert_int_equal(mkfifo(path, 0600), 0);
    int fd = open(path, O_RDWR);
    assert_true(fd >= 0);
    assert_int_equal(prx_file_put(path, "abc", 3), 0);
    assert_int_equal(read(fd, got, 3), 3);
    assert_string_equal(got, "abc");
    assert_int_equal(prx_outfile_open(&file, path), 0);
    prx_outfile_abort(&file);
    assert_int_equal(stat(path, &st), 0);
    assert_true(S_ISFIFO(st.st_mode));
    close(fd);
    unlink(path);
    assert_tree(scratch, "");
}

/* Count good lines; remember the end of the last. */
struct seen {
    int n_lines;
    uint64_t end_bytes;
};

static int see_line(void *ctx, const char *text, uint64_t end_bytes)
{
    struct seen *seen = ctx;
    char want[32];

    snprintf(want, sizeof(want), "line %d", seen->n_lines);
    assert_string_equal(text, want);
    seen->n_lines++;
    seen->end_bytes = end_bytes;
    return 0;
}

static void test_journal_torn(void **state)
{
    struct prx_scratch *scratch = *state;
    const char *path = prx_scratch_path(scratch, ".j");
    struct prx_journal journal;
    struct seen seen = {0};
    struct prx_buf *whole;

    assert_int_equal(prx_journal_open(&journal, path), 0);
    for (int i = 0; i < 3; i++) {
        char line[32];
        snprintf(line, sizeof(line), "line %d", i);
        assert_int_equal(prx_journal_put(&journal, line, i == 2), 0);
    }
    assert_int_equal(prx_journal_read(&journal, see_line, &seen), 0);
    assert_int_equal(seen.n_lines, 3);
    prx_journal_close(&journal, false);

    /* Cut anywhere, or with any one bit turned, lines before the fault stand. */
    assert_int_equal(prx_file_get(path, 1000, &whole), 0);
    size_t n_line = whole->n_bytes / 3;
    assert_int_equal(whole->n_bytes, 3 * n_line);
    for (size_t n = 0; n <= whole->n_bytes; n++) {
        for (int is_turned = 0; is_turned <= (n < whole->n_bytes); is_turned++) {
            whole->bytes[n] ^= is_turned ? 4 : 0;
            path = prx_scratch_put(scratch, ".j", whole->bytes,
                                   is_turned ? whole->n_bytes : n);
            whole->bytes[n] ^= is_turned ? 4 : 0;
            assert_int_equal(prx_journal_open(&journal, path), 0);
            seen = (struct seen){0};
            assert_int_equal(prx_journal_read(&journal, see_line, &seen), 0);
            assert_int_equal(seen.n_lines, n / n_line);
            assert_int_equal(seen.end_bytes, n / n_line * n_line);
            prx_journal_close(&journal, false);
        }
    }
    prx_buf_unref(whole);

    /* What is cut off is written again. */
    assert_int_equal(prx_journal_open(&journal, path), 0);
    assert_int_equal(prx_journal_cut(&journal, n_line), 0);
    assert_int_equal(prx_journal_put(&journal, "line 1", true), 0);
    seen = (struct seen){0};
    assert_int_equal(prx_journal_read(&journal, see_line, &seen), 0);
    assert_int_equal(seen.n_lines, 2);
    prx_journal_close(&journal, true);
    prx_journal_close(&journal, true);
    assert_int_equal(access(path, F_OK), -1);
}

static void test_journal_has_one_holder(void **state)
{
    struct prx_scratch *scratch = *state;
    const char *path = prx_scratch_path(scratch, ".j");
    struct prx_journal mine, other;
    int status;

    assert_int_equal(prx_journal_open(&mine, path), 0);
    assert_int_equal(prx_journal_open(&other, path), PRX_EEXIST);
    assert_non_null(strstr(prx_err_message(), "in use"));
    pid_t child = fork();
    if (child == 0)
        _exit(prx_journal_open(&other, path) == PRX_EEXIST ? 0 : 1);
    assert_int_equal(waitpid(child, &status, 0), child);
    assert_int_equal(status, 0);
    prx_journal_close(&mine, false);

    /* A holder that is killed gives way. */
    int ready[2];
    assert_int_equal(pipe(ready), 0);
    child = fork();
    if (child == 0) {
        if (prx_journal_open(&other, path) == 0 && write(ready[1], "x", 1) == 1)
            pause();
        _exit(1);
    }
    char byte;
    assert_int_equal(read(ready[0], &byte, 1), 1);
    assert_int_equal(prx_journal_open(&mine, path), PRX_EEXIST);
    kill(child, SIGKILL);
    assert_int_equal(waitpid(child, &status, 0), child);
    assert_int_equal(prx_journal_open(&mine, path), 0);
    prx_journal_close(&mine, true);
    close(ready[0]);
    close(ready[1]);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test_setup_teardown(test_commit, open_scratch, close_scratch),
        cmocka_unit_test_setup_teardown(test_abort_leaves_what_was_there, open_scratch,
                                        close_scratch),
        cmocka_unit_test_setup_teardown(test_failures_name_the_file, open_scratch,
                                        close_scratch),
        cmocka_unit_test_setup_teardown(test_streams_are_written_to, open_scratch,
                                        close_scratch),
        cmocka_unit_test_setup_teardown(test_sweep, open_scratch, close_scratch),
        cmocka_unit_test_setup_teardown(test_journal_torn, open_scratch, close_scratch),
        cmocka_unit_test_setup_teardown(test_journal_has_one_holder, open_scratch,
                                        close_scratch),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
