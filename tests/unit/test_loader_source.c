/* SPDX-License-Identifier: Apache-2.0 */
/* loader.h: what cannot be trained on, damage, and the sources samples come from. */
#include "libdata/loader.h"

#include <fcntl.h>
#include <math.h>
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

#include <cmocka.h>

#include "libdata/outfile.h"
#include "tests/lib/loader_set.h"

#define N_OF(array) (sizeof(array) / sizeof((array)[0]))

static struct prx_loader_batch next(struct set_fixture *fixture)
{
    struct prx_loader_batch batch;
    int rc = prx_loader_next(fixture->loader, &batch);
    if (rc < 0)
        print_message("%s\n", prx_err_message());
    assert_int_equal(rc, 0);
    return batch;
}

static void record(struct set_fixture *fixture, size_t n_batches,
                   struct prx_loader_draw *out)
{
    for (size_t k = 0; k < n_batches; k++) {
        struct prx_loader_batch batch = next(fixture);
        memcpy(out + k * fixture->opts.n_batch, batch.draws,
               fixture->opts.n_batch * sizeof(*out));
    }
}

static void test_refusals(void **state)
{
    static const struct {
        unsigned wrong;
        int code;
        const char *message; /* a part of it */
    } cases[] = {
        {SET_NO_LATENT, PRX_EINVAL, "k0003: no latent.npy"},
        {SET_NO_LONG, PRX_EINVAL, "k0003: no long.text.npy"},
        {SET_STALE, PRX_EINVAL,
         "k0003: latent.npy is stale: made by fingerprint old, the recipe's encoder has"
         " vae"},
        {SET_FOUR_CHANNELS, PRX_EINVAL,
         "k0003: latent.npy has 4 channels, the model 2"},
    };
    (void)state;

    for (size_t c = 0; c < N_OF(cases); c++) {
        const unsigned wrong[6] = {0, 0, 0, cases[c].wrong};
        const struct set set = {6, 1, set_shapes, wrong};
        struct set_fixture fixture;
        set_fixture_write(&fixture, &set);
        assert_int_equal(set_fixture_open(&fixture), cases[c].code);
        if (!strstr(prx_err_message(), cases[c].message))
            print_message("%s\n", prx_err_message());
        assert_non_null(strstr(prx_err_message(), cases[c].message));
        set_fixture_close(&fixture);
    }
}

static void test_wide_text(void **state)
{
    const unsigned wrong[6] = {0, 0, 0, SET_WIDE_TEXT};
    const struct set set = {6, 1, set_shapes, wrong};
    struct prx_loader_batch batch;
    struct set_fixture fixture;
    int rc = 0;
    (void)state;

    set_fixture_write(&fixture, &set);
    assert_int_equal(set_fixture_open(&fixture), 0);
    for (int k = 0; k < 3 && rc == 0; k++)
        rc = prx_loader_next(fixture.loader, &batch);
    assert_int_equal(rc, PRX_ESHAPE);
    assert_non_null(
        strstr(prx_err_message(), "k0003: long.text.npy: states of width 5"));
    /* A failed loader stays failed, and does not hang. */
    assert_int_equal(prx_loader_next(fixture.loader, &batch), PRX_ESHAPE);
    set_fixture_close(&fixture);
}

static void count_reject(void *ctx, const struct prx_sample *sample)
{
    int *n = ctx;
    assert_non_null(sample->reject_reason);
    (*n)++;
}

/* Damage that a header shows is rejected in listing, other damage when its turn comes.
 */
static void test_damage(void **state)
{
    const unsigned wrong[10] = {0, SET_BAD_LATENT, 0, SET_NAN_LATENT,
                                0, SET_SHORT_LATENT, 0, SET_NAN_TEXT};
    const struct set set = {10, 1, set_shapes, wrong};
    struct prx_loader_summary summary;
    struct set_fixture fixture;
    int n_rejects = 0;
    int64_t n_replaced = 0;
    (void)state;

    set_fixture_write(&fixture, &set);
    fixture.opts.on_reject = count_reject;
    fixture.opts.ctx = &n_rejects;
    fixture.opts.n_batch = 8;
    assert_int_equal(set_fixture_open(&fixture), 0);
    prx_loader_summary(fixture.loader, &summary);
    assert_int_equal(summary.n_samples, 8);
    assert_int_equal(summary.n_rejected, 2);
    assert_int_equal(n_rejects, 2);
    for (int epoch = 0; epoch < 3; epoch++) {
        struct prx_loader_batch batch = next(&fixture);
        n_replaced += batch.n_replaced;
        assert_non_null(strstr(batch.replaced_reason, "a value is not finite"));
        for (int64_t i = 0; i < 8 * SET_CHANNELS * 16; i++)
            assert_true(isfinite(batch.latent[i]));
        /* The index is 0 2 3 4 6 7 8 9: place 2 is taken by sample 4, 5 by 8. */
        for (int64_t i = 0; i < 8; i++) {
            float value = batch.latent[i * SET_CHANNELS * 16];
            if (batch.draws[i].sample == 2)
                assert_true(value == 4);
            if (batch.draws[i].sample == 5)
                assert_true(value == 8);
        }
    }
    assert_int_equal(n_replaced, 6);
    set_fixture_close(&fixture);
}

static void test_all_damaged(void **state)
{
    unsigned wrong[20];
    const struct set set = {20, 1, set_shapes, wrong};
    struct prx_loader_batch batch;
    struct set_fixture fixture;
    (void)state;

    for (size_t i = 0; i < 20; i++)
        wrong[i] = SET_NAN_LATENT;
    set_fixture_write(&fixture, &set);
    assert_int_equal(set_fixture_open(&fixture), 0);
    assert_int_equal(prx_loader_next(fixture.loader, &batch), PRX_ECORRUPT);
    assert_non_null(strstr(prx_err_message(), "damaged samples in a row"));
    set_fixture_close(&fixture);

    for (size_t i = 0; i < 20; i++)
        wrong[i] = SET_BAD_LATENT;
    set_fixture_write(&fixture, &set);
    assert_int_equal(set_fixture_open(&fixture), PRX_ENOENT);
    assert_string_equal(prx_err_message(), "no samples to train on (20 rejected)");
    set_fixture_close(&fixture);
}

static void test_file_goes(void **state)
{
    const struct set set = {6, 1, set_shapes, NULL};
    struct prx_loader_batch batch;
    struct set_fixture fixture;
    (void)state;

    set_fixture_write(&fixture, &set);
    assert_int_equal(set_fixture_open(&fixture), 0);
    assert_int_equal(unlink(prx_scratch_path(&fixture.scratch, "set/000000.tar")), 0);
    assert_int_equal(prx_loader_next(fixture.loader, &batch), PRX_ENOENT);
    set_fixture_close(&fixture);
}

static int stop_at_three(void *ctx, uint64_t n_samples)
{
    (void)ctx;
    return n_samples == 3;
}

static void test_stop(void **state)
{
    const struct set set = {6, 1, set_shapes, NULL};
    struct set_fixture fixture;
    (void)state;

    set_fixture_write(&fixture, &set);
    fixture.opts.on_sample = stop_at_three;
    assert_int_equal(set_fixture_open(&fixture), PRX_ECANCELED);
    set_fixture_close(&fixture);
}

/* --- sources -------------------------------------------------------------------- */

/* Run @opts over the file @path as standard input. */
static int open_stdin(const char *path, const struct prx_loader_opts *opts,
                      struct prx_loader **out)
{
    int saved = dup(STDIN_FILENO), fd = open(path, O_RDONLY);

    assert_true(saved >= 0 && fd >= 0);
    assert_int_equal(dup2(fd, STDIN_FILENO), STDIN_FILENO);
    close(fd);
    int rc = prx_set_open("-", opts, out);
    dup2(saved, STDIN_FILENO);
    close(saved);
    return rc;
}

static void test_spool(void **state)
{
    const struct set set = {23, 3, set_shapes, NULL};
    struct prx_loader_draw direct[4 * 12], spooled[4 * 12];
    struct prx_loader_summary at_rest, streamed;
    struct set_fixture fixture;
    (void)state;

    set_fixture_write(&fixture, &set);
    prx_set_write(prx_scratch_path(&fixture.scratch, "one.tar"), &set);
    assert_int_equal(set_fixture_open(&fixture), 0);
    prx_loader_summary(fixture.loader, &at_rest);
    record(&fixture, 12, direct);
    prx_loader_close(fixture.loader);
    fixture.loader = NULL;

    /* Without a folder to spool to, a stream is refused. */
    const char *tar = prx_scratch_path(&fixture.scratch, "one.tar");
    assert_int_equal(open_stdin(tar, &fixture.opts, &fixture.loader), PRX_EINVAL);

    char *spool = NULL;
    assert_int_equal(prx_strdup(prx_scratch_path(&fixture.scratch, "spool"), &spool),
                     0);
    fixture.opts.spool_dir = spool;
    tar = prx_scratch_path(&fixture.scratch, "one.tar");
    assert_int_equal(open_stdin(tar, &fixture.opts, &fixture.loader), 0);
    prx_loader_summary(fixture.loader, &streamed);
    assert_true(streamed.is_spooled && !at_rest.is_spooled);
    assert_string_equal(streamed.fingerprint, at_rest.fingerprint);
    record(&fixture, 12, spooled);
    assert_memory_equal(direct, spooled, sizeof(direct));
    prx_loader_close(fixture.loader);
    fixture.loader = NULL;

    /* A spool that is there is not overwritten unasked. */
    tar = prx_scratch_path(&fixture.scratch, "one.tar");
    assert_int_equal(open_stdin(tar, &fixture.opts, &fixture.loader), PRX_EEXIST);
    fixture.opts.spool_overwrite = true;
    tar = prx_scratch_path(&fixture.scratch, "one.tar");
    assert_int_equal(open_stdin(tar, &fixture.opts, &fixture.loader), 0);
    free(spool);
    set_fixture_close(&fixture);
}

/* A stream that ends early is the death of what feeds it, not a smaller set. */
static void test_torn_stream(void **state)
{
    const struct set set = {9, 1, set_shapes, NULL};
    struct set_fixture fixture;
    struct prx_buf *bytes;
    (void)state;

    set_fixture_write(&fixture, &set);
    prx_set_write(prx_scratch_path(&fixture.scratch, "one.tar"), &set);
    assert_int_equal(
        prx_file_get(prx_scratch_path(&fixture.scratch, "one.tar"), 1 << 24, &bytes),
        0);
    const size_t cuts[] = {
        0, 100, 512, 3000, bytes->n_bytes / 2, bytes->n_bytes - 1024};
    for (size_t i = 0; i < N_OF(cuts); i++) {
        char spool[64], *dir;
        snprintf(spool, sizeof(spool), "spool%zu", i);
        assert_int_equal(prx_strdup(prx_scratch_path(&fixture.scratch, spool), &dir),
                         0);
        fixture.opts.spool_dir = dir;
        const char *cut =
            prx_scratch_put(&fixture.scratch, "cut.tar", bytes->bytes, cuts[i]);
        int rc = open_stdin(cut, &fixture.opts, &fixture.loader);
        assert_int_equal(rc, PRX_ECORRUPT);
        assert_non_null(strstr(prx_err_message(), "standard input"));
        /* Nothing stands under a final name. */
        free(dir);
        char index[96];
        snprintf(index, sizeof(index), "spool%zu/index.json", i);
        assert_int_not_equal(access(prx_scratch_path(&fixture.scratch, index), F_OK),
                             0);
    }
    prx_buf_unref(bytes);
    set_fixture_close(&fixture);
}

static void test_folder(void **state)
{
    const struct set set = {13, 1, set_shapes, NULL};
    struct prx_loader_draw from_tar[4 * 9], from_folder[4 * 9];
    struct set_fixture fixture;
    (void)state;

    set_fixture_write(&fixture, &set);
    prx_set_write(prx_scratch_path(&fixture.scratch, "files/"), &set);
    assert_int_equal(set_fixture_open(&fixture), 0);
    record(&fixture, 9, from_tar);
    prx_loader_close(fixture.loader);
    assert_int_equal(prx_set_open(prx_scratch_path(&fixture.scratch, "files"),
                                  &fixture.opts, &fixture.loader),
                     0);
    record(&fixture, 9, from_folder);
    assert_memory_equal(from_tar, from_folder, sizeof(from_tar));
    set_fixture_close(&fixture);
}

/* What one process has spooled, another reads: also where only a part was a stream. */
static void open_loader(struct set_fixture *fixture, struct prx_source *source)
{
    const struct prx_loader_set set = {source, 1};
    assert_int_equal(prx_loader_open(&set, 1, &fixture->opts, &fixture->loader), 0);
}

static void test_spooled_by_another(void **state)
{
    const struct set set = {23, 3, set_shapes, NULL};
    struct prx_loader_draw first[4 * 12], other[4 * 12];
    struct prx_loader_summary summaries[2];
    struct set_fixture fixture;
    (void)state;

    set_fixture_write(&fixture, &set);
    prx_set_write(prx_scratch_path(&fixture.scratch, "one.tar"), &set);
    char *spool, *tar;
    assert_int_equal(prx_strdup(prx_scratch_path(&fixture.scratch, "spool"), &spool),
                     0);
    assert_int_equal(prx_strdup(prx_scratch_path(&fixture.scratch, "one.tar"), &tar),
                     0);
    fixture.opts.spool_dir = spool;
    for (size_t n_at_rest = 0; n_at_rest < 2; n_at_rest++) {
        const char *words[] = {"-", tar};
        struct prx_source *source;
        int saved = dup(STDIN_FILENO), fd = open(tar, O_RDONLY);
        assert_true(saved >= 0 && fd >= 0);
        assert_int_equal(dup2(fd, STDIN_FILENO), STDIN_FILENO);
        close(fd);
        fixture.opts.is_spooled = false;
        assert_int_equal(prx_source_open(words, 1 + n_at_rest, NULL, &source), 0);
        open_loader(&fixture, source);
        prx_source_close(source);
        dup2(saved, STDIN_FILENO);
        close(saved);
        prx_loader_summary(fixture.loader, &summaries[0]);
        record(&fixture, 12, first);
        prx_loader_close(fixture.loader);

        fixture.opts.is_spooled = true;
        source = NULL;
        if (n_at_rest > 0)
            assert_int_equal(prx_source_open(words + 1, 1, NULL, &source), 0);
        open_loader(&fixture, source);
        prx_source_close(source);
        prx_loader_summary(fixture.loader, &summaries[1]);
        assert_int_equal(summaries[1].n_samples, 23 * (1 + n_at_rest));
        assert_string_equal(summaries[1].fingerprint, summaries[0].fingerprint);
        assert_true(summaries[1].is_spooled);
        record(&fixture, 12, other);
        assert_memory_equal(first, other, sizeof(first));
        prx_loader_close(fixture.loader);
        fixture.loader = NULL;
        fixture.opts.spool_overwrite = true;
    }
    free(spool);
    free(tar);
    set_fixture_close(&fixture);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_refusals),
        cmocka_unit_test(test_wide_text),
        cmocka_unit_test(test_damage),
        cmocka_unit_test(test_all_damaged),
        cmocka_unit_test(test_file_goes),
        cmocka_unit_test(test_stop),
        cmocka_unit_test(test_spool),
        cmocka_unit_test(test_spooled_by_another),
        cmocka_unit_test(test_torn_stream),
        cmocka_unit_test(test_folder),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
