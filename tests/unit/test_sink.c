/* SPDX-License-Identifier: Apache-2.0 */
/* Sinks: the bytes of shards, where they are cut, names, plain files, pipes. */
#include "libdata/sink.h"

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

#include "libdata/index.h"
#include "libdata/outfile.h"
#include "libdata/source.h"
#include "tests/lib/made.h"
#include "tests/lib/scratch.h"

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

static void expect_names(const char *path, const char *want)
{
    char *got = prx_scratch_names(path);
    assert_string_equal(got, want);
    free(got);
}

static void test_shards(void **state)
{
    struct prx_scratch *scratch = *state;
    /* A sample is 2 headers, 1024 bytes of jpg and 512 of txt: 2560, but the first. */
    struct prx_sink_opts opts = {.n_shard_bytes_max = 3 * 2560 + 1024,
                                 .no_sync = true,
                                 .plan = "p",
                                 .tool = "test 1"};
    struct prx_sink_totals totals;
    struct prx_index index = {0};
    struct stat st;

    const char *word = prx_scratch_path(scratch, "out/s-%04d.tar");
    assert_int_equal(prx_made_write(word, &opts, 9, &totals), 0);
    assert_int_equal(totals.n_samples, 8);
    assert_int_equal(totals.n_rejected, 1);
    assert_int_equal(totals.n_shards, 3);
    expect_names(prx_scratch_path(scratch, "out"),
                 "index.json s-0000.idx s-0000.tar s-0001.idx s-0001.tar s-0002.idx "
                 "s-0002.tar ");
    assert_int_equal(
        prx_index_read(prx_scratch_path(scratch, "out/index.json"), &index), 0);
    uint64_t n_bytes = 0;
    for (size_t i = 0; i < 3; i++) {
        char hash[PRX_HASH_HEX_BYTES], name[64];
        snprintf(name, sizeof(name), "out/s-%04zu.tar", i);
        assert_int_equal(prx_hash_file(prx_scratch_path(scratch, name), hash), 0);
        assert_int_equal(stat(prx_scratch_path(scratch, name), &st), 0);
        assert_string_equal(index.shards[i].xxh128, hash);
        assert_int_equal(index.shards[i].n_bytes, st.st_size);
        assert_true((uint64_t)st.st_size <= opts.n_shard_bytes_max);
        n_bytes += (uint64_t)st.st_size;
    }
    assert_int_equal(totals.n_bytes, n_bytes);
    assert_int_equal(index.shards[0].n_samples, 3);
    assert_int_equal(index.n_rejected, 1);
    prx_index_release(&index);

    /* What the DALI index points at is what the sample holds. */
    struct prx_buf *idx, *tar;
    unsigned long long at, n_jpg, at_txt, n_txt;
    assert_int_equal(
        prx_file_get(prx_scratch_path(scratch, "out/s-0001.idx"), 4096, &idx), 0);
    assert_int_equal(
        prx_file_get(prx_scratch_path(scratch, "out/s-0001.tar"), 1 << 20, &tar), 0);
    assert_int_equal(sscanf((char *)idx->bytes,
                            "v1.2 3\njpg %llu %llu k003.jpg txt %llu %llu k003.txt\n",
                            &at, &n_jpg, &at_txt, &n_txt),
                     4);
    assert_int_equal(n_jpg, 700);
    assert_int_equal(n_txt, 3);
    assert_memory_equal(tar->bytes + at - 512, "k003.jpg", 9);
    assert_memory_equal(tar->bytes + at_txt - 512, "k003.txt", 9);
    assert_int_equal(tar->bytes[at], 'j');
    assert_int_equal(tar->bytes[at_txt], 't');
    prx_buf_unref(idx);
    prx_buf_unref(tar);
}

static void test_header_bytes(void **state)
{
    /* Every byte of a header, as POSIX has it. */
    struct prx_scratch *scratch = *state;
    struct prx_sink_opts opts = {.no_sync = true};
    struct prx_buf *tar;

    const char *word = prx_scratch_path(scratch, "one.tar");
    assert_int_equal(prx_made_write(word, &opts, 1, NULL), 0);
    assert_int_equal(prx_file_get(word, 1 << 20, &tar), 0);
    assert_int_equal(tar->n_bytes, 512 + 1024 + 512 + 1024);
    uint8_t want[512] = {0};
    memcpy(want, "k000.jpg", 8);
    memcpy(want + 100, "0000444\0000000000\0000000000\00000000001274\00000000000000",
           48);
    want[156] = '0';
    memcpy(want + 257, "ustar\00000", 8);
    memcpy(want + 329, "0000000\0000000000", 15);
    unsigned sum = 0;
    for (size_t i = 0; i < 512; i++)
        sum += i >= 148 && i < 156 ? ' ' : want[i];
    snprintf((char *)want + 148, 8, "%06o", sum);
    want[155] = ' ';
    assert_memory_equal(tar->bytes, want, 512);
    for (size_t i = tar->n_bytes - 1024; i < tar->n_bytes; i++)
        assert_int_equal(tar->bytes[i], 0);
    prx_buf_unref(tar);
    expect_names(scratch->root, "one.idx one.index.json one.tar ");
}

/* Names up to what ustar holds, and beyond, read back as they were. */
static void test_long_names(void **state)
{
    struct prx_scratch *scratch = *state;
    struct prx_sink_opts opts = {.no_sync = true};
    static const size_t lengths[] = {1, 95, 96, 97, 150,
                                     155, 156, 250, 251, 252,
                                     255, 256, 257, 900, PRX_KEY_BYTES_MAX};

    for (int has_slashes = 0; has_slashes <= 1; has_slashes++) {
        const char *word = prx_scratch_path(scratch, has_slashes ? "s.tar" : "n.tar");
        struct prx_sample sample = {0};
        struct prx_source *source;
        struct prx_sink *sink;
        uint64_t n_done;
        char key[PRX_KEY_BYTES_MAX + 1];

        assert_int_equal(prx_sink_open(word, &opts, &n_done, &sink), 0);
        for (size_t i = 0; i < N_OF(lengths); i++) {
            for (size_t k = 0; k < lengths[i]; k++)
                key[k] = has_slashes && k % 50 == 49 && k + 1 < lengths[i] ? '/' : 'n';
            key[lengths[i]] = '\0';
            prx_sample_reset(&sample);
            sample.serial = i;
            assert_int_equal(prx_sample_set_key(&sample, key), 0);
            prx_made_field(&sample, "jpg", i);
            assert_int_equal(prx_sink_put(sink, &sample), 0);
        }
        assert_int_equal(prx_sink_finish(sink, NULL, NULL), 0);
        assert_int_equal(prx_source_open(&word, 1, NULL, &source), 0);
        for (size_t i = 0; i < N_OF(lengths); i++) {
            assert_int_equal(prx_source_next(source, &sample), 1);
            assert_null(sample.reject_reason);
            assert_int_equal(strlen(sample.key), lengths[i]);
            assert_int_equal(sample.fields[0].n_bytes, i);
        }
        assert_int_equal(prx_source_next(source, &sample), 0);
        prx_source_close(source);
        prx_sample_release(&sample);
    }
}

static void test_words(void **state)
{
    static const struct {
        const char *word;
        int want;
    } rows[] = {
        {"out/%d.tar", 0},
        {"out/a-%06d-b.tar", 0},
        {"out/%9d.tar", PRX_EINVAL},
        {"out/%s.tar", PRX_EINVAL},
        {"out/%n.tar", PRX_EINVAL},
        {"out/%%.tar", PRX_EINVAL},
        {"out/%d%d.tar", PRX_EINVAL},
        {"o%dt/x.tar", PRX_EINVAL},
        {"out/%06d%s.tar", PRX_EINVAL},
        {"out/%06.tar", PRX_EINVAL},
        {"out/%00d.tar", PRX_EINVAL},
        {"out/.tar", PRX_EINVAL},
        {"out/x.zip", PRX_EINVAL},
        {"lmdb:x", 0},
        {"lmdb:", PRX_EINVAL},
        {"s3://b/%d.tar", PRX_EINVAL},
        {"", PRX_EINVAL},
        {"null:", 0},
    };
    struct prx_scratch *scratch = *state;
    struct prx_sink *sink;
    uint64_t n_done;

    assert_int_equal(chdir(scratch->root), 0);
    for (size_t i = 0; i < N_OF(rows); i++) {
        int rc = prx_sink_open(rows[i].word, NULL, &n_done, &sink);
        if (rc != rows[i].want)
            fail_msg("%s: %d", rows[i].word, rc);
        if (rc == 0)
            prx_sink_abort(sink);
    }
    assert_int_equal(prx_mkdirs("folder"), 0);
    assert_int_equal(prx_sink_open("folder", NULL, &n_done, &sink), PRX_EINVAL);
    assert_non_null(strstr(prx_err_message(), "folder/%06d.tar"));
    expect_names(scratch->root, "");
    assert_int_equal(chdir("/"), 0);
}

static void test_odd_samples(void **state)
{
    struct prx_scratch *scratch = *state;
    struct prx_sink_opts opts = {.no_sync = true};
    struct prx_sample sample = {0};
    struct prx_sink_totals totals;
    struct prx_sink *sink;
    uint64_t n_done;

    assert_int_equal(
        prx_sink_open(prx_scratch_path(scratch, "o/%d.tar"), &opts, &n_done, &sink), 0);
    prx_made_sample(&sample, 0);
    assert_int_equal(prx_sink_put(sink, &sample), 0);
    sample.serial = 1;
    assert_int_equal(prx_sink_put(sink, &sample), 0);
    assert_string_equal(sample.reject_reason, "same key as the sample before it");
    prx_made_sample(&sample, 2);
    prx_sample_drop(&sample, "jpg");
    prx_sample_drop(&sample, "txt");
    assert_int_equal(prx_sink_put(sink, &sample), 0);
    assert_string_equal(sample.reject_stage, "write");
    prx_made_sample(&sample, 3);
    assert_int_equal(prx_sample_set_key(&sample, "../../etc/x"), 0);
    assert_int_equal(prx_sink_put(sink, &sample), PRX_EINVAL);
    prx_made_sample(&sample, 3);
    assert_int_equal(prx_sample_set_key(&sample, "with space"), 0);
    assert_int_equal(prx_sink_put(sink, &sample), 0);
    assert_int_equal(prx_sink_finish(sink, NULL, &totals), 0);
    assert_int_equal(totals.n_samples, 2);
    assert_int_equal(totals.n_rejected, 2);
    /* No .idx: its format has no way to write the name. */
    expect_names(prx_scratch_path(scratch, "o"), "0.tar index.json ");
    prx_sample_release(&sample);
}

static void test_folder_of_files(void **state)
{
    struct prx_scratch *scratch = *state;
    struct prx_sink_opts opts = {.no_sync = true, .plan = "p"};
    const char *word = prx_scratch_path(scratch, "out/");
    struct prx_sample sample = {0};
    struct prx_sink *sink;
    uint64_t n_done;

    assert_int_equal(prx_sink_open(word, &opts, &n_done, &sink), 0);
    prx_made_sample(&sample, 0);
    assert_int_equal(prx_sample_set_key(&sample, "a/b/c"), 0);
    assert_int_equal(prx_sink_put(sink, &sample), 0);
    sample.serial = 1;
    assert_int_equal(prx_sink_put(sink, &sample), PRX_EEXIST);
    assert_int_equal(prx_sample_set_key(&sample, "a/../../b"), 0);
    assert_int_equal(prx_sink_put(sink, &sample), PRX_EINVAL);
    assert_int_equal(prx_sink_finish(sink, NULL, NULL), 0);
    expect_names(scratch->root, "out/a/b/c.jpg out/a/b/c.txt out/index.json ");
    word = prx_scratch_path(scratch, "out/");
    assert_int_equal(prx_sink_open(word, &opts, &n_done, &sink), PRX_EEXIST);
    opts.exists = PRX_SINK_OVERWRITE;
    assert_int_equal(prx_sink_open(word, &opts, &n_done, &sink), 0);
    prx_made_sample(&sample, 0);
    assert_int_equal(prx_sample_set_key(&sample, "a/b/c"), 0);
    assert_int_equal(prx_sink_put(sink, &sample), 0);
    assert_int_equal(prx_sink_finish(sink, NULL, NULL), 0);
    prx_sample_release(&sample);
}

/* Run prx_made_write() on "-" in a child whose standard output is @fd; its rc. */
static int write_stdout(int fd, enum prx_sink_exists exists, const char *want_message)
{
    int status;

    pid_t child = fork();
    assert_true(child >= 0);
    if (child == 0) {
        struct prx_sink_opts opts = {.exists = exists};
        signal(SIGPIPE, SIG_IGN);
        dup2(fd, STDOUT_FILENO);
        int rc = prx_made_write("-", &opts, 100, NULL);
        if (want_message && !strstr(prx_err_message(), want_message))
            _exit(99);
        _exit(-rc);
    }
    assert_int_equal(waitpid(child, &status, 0), child);
    assert_true(WIFEXITED(status));
    return -WEXITSTATUS(status);
}

static void test_stdout(void **state)
{
    struct prx_scratch *scratch = *state;
    struct prx_sink_opts opts = {.no_sync = true};
    int ends[2];

    int fd = open("/dev/full", O_WRONLY);
    assert_int_equal(write_stdout(fd, PRX_SINK_REFUSE, "standard output: No space"),
                     PRX_EIO);
    close(fd);
    assert_int_equal(pipe(ends), 0);
    close(ends[0]);
    assert_int_equal(write_stdout(ends[1], PRX_SINK_REFUSE, NULL), PRX_EPIPE);
    close(ends[1]);
    fd = open(prx_scratch_path(scratch, "piped.tar"), O_CREAT | O_WRONLY, 0600);
    assert_int_equal(write_stdout(fd, PRX_SINK_REFUSE, NULL), 0);
    assert_int_equal(write_stdout(fd, PRX_SINK_RESUME, "cannot be resumed"),
                     PRX_EINVAL);
    close(fd);
    assert_int_equal(
        prx_made_write(prx_scratch_path(scratch, "x.tar"), &opts, 100, NULL), 0);
    char piped[PRX_HASH_HEX_BYTES], filed[PRX_HASH_HEX_BYTES];
    assert_int_equal(prx_hash_file(prx_scratch_path(scratch, "piped.tar"), piped), 0);
    assert_int_equal(prx_hash_file(prx_scratch_path(scratch, "x.tar"), filed), 0);
    assert_string_equal(piped, filed);
}

int main(void)
{
#define TEST(name) cmocka_unit_test_setup_teardown(name, open_scratch, close_scratch)
    const struct CMUnitTest tests[] = {
        TEST(test_shards),
        TEST(test_header_bytes),
        TEST(test_long_names),
        TEST(test_words),
        TEST(test_odd_samples),
        TEST(test_folder_of_files),
        TEST(test_stdout),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
