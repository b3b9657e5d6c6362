/* SPDX-License-Identifier: Apache-2.0 */
/*
 * "DIR/": every field a plain file, DIR/KEY.FIELD.
 *
 * A file is written under one temporary name in DIR, synced, and renamed into
 * place.  Each N_SAMPLES_A_MARK samples the journal is told how far the work is;
 * a resumed run may find files of later samples, which it writes again.  Beyond
 * those a file that is there already is two samples with one name.
 */
#include <errno.h>
#include <fcntl.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

#include "libdata/outfile.h"
#include "libdata/sink/sink_internal.h"

#define N_SAMPLES_A_MARK 256

struct sink_dir {
    struct prx_sink base;
    char *root; /* with a slash behind */
    bool is_overwritten;
    bool no_sync;
    struct prx_ledger ledger;
    struct prx_shard mark;       /* what the next mark will say */
    uint64_t n_replaced_serials; /* serials below it may have files already */
    struct prx_str path;
    struct prx_str temp; /* named as that of the index is: left over, it is found */
};

/* Nothing hidden is an output: not the journal, not temporary files. */
static bool is_output(const void *ctx, const char *name)
{
    (void)ctx;
    return *name != '.';
}

/* Give the written temporary file its name; a new folder is made when missing. */
static int name_file(struct sink_dir *dir, bool is_replacing)
{
    const char *path = dir->path.bytes;

    if (!is_replacing && access(path, F_OK) == 0)
        return prx_err(PRX_EEXIST, "%s: is there already: two samples of one name?",
                       path);
    if (rename(dir->temp.bytes, path) == 0)
        return 0;
    if (errno == ENOENT) {
        struct prx_str folder = {0};
        int rc = prx_str_add(&folder, path, (size_t)(strrchr(path, '/') - path));
        if (rc == 0)
            rc = prx_mkdirs(folder.bytes);
        prx_str_release(&folder);
        PRX_TRY(rc);
        if (rename(dir->temp.bytes, path) == 0)
            return 0;
    }
    return prx_err_sys("%s", path);
}

static int write_file(struct sink_dir *dir, const struct prx_buf *bytes,
                      bool is_replacing)
{
    const char *path = dir->path.bytes;
    int rc = 0;
    int fd = open(dir->temp.bytes,
                  O_WRONLY | O_CREAT | O_TRUNC | O_NOFOLLOW | O_CLOEXEC, 0666);

    if (fd < 0)
        return prx_err_sys("%s", path);
    rc = prx_write_all(fd, path, bytes->bytes, bytes->n_bytes);
    if (rc == 0 && !dir->no_sync)
        rc = prx_fd_sync(fd, path);
    if (rc == 0)
        rc = prx_fd_close(fd, path);
    else
        close(fd);
    if (rc == 0)
        rc = name_file(dir, is_replacing);
    if (rc < 0) {
        unlink(dir->temp.bytes);
        return rc;
    }
    return dir->no_sync ? 0 : prx_sync_dir(path);
}

/* The mark counts samples that are whole, and their bytes. */
static int write_fields(struct sink_dir *dir, const struct prx_sample *sample)
{
    bool is_replacing = dir->is_overwritten || sample->serial < dir->n_replaced_serials;
    uint64_t n_bytes = 0;

    dir->ledger.has_outputs = true;
    for (size_t i = 0; i < sample->n_fields; i++) {
        const struct prx_field *field = &sample->fields[i];
        prx_str_reset(&dir->path);
        PRX_TRY(prx_str_printf(&dir->path, "%s%s.%s", dir->root, sample->key,
                               field->name));
        PRX_TRY(write_file(dir, field->bytes, is_replacing));
        n_bytes += field->n_bytes;
    }
    dir->mark.n_bytes += n_bytes;
    return 0;
}

/* Once, whether or not it succeeds: what failed may stand in the journal. */
static int set_mark(struct sink_dir *dir)
{
    struct prx_shard mark = dir->mark;

    dir->mark = (struct prx_shard){
        .name = mark.name,
        .first_serial = mark.next_serial,
        .next_serial = mark.next_serial,
    };
    return prx_ledger_put(&dir->ledger, &mark);
}

static int dir_put(struct prx_sink *sink, struct prx_sample *sample)
{
    struct sink_dir *dir = (struct sink_dir *)sink;

    if (dir->ledger.is_finished)
        return prx_err(PRX_EEXIST, "%s: complete already, but more input has come",
                       dir->ledger.index_path);
    if (sample->reject_reason) {
        PRX_TRY(prx_ledger_reject(&dir->ledger, sample));
        dir->mark.n_rejected++;
    } else {
        PRX_TRY(write_fields(dir, sample));
        dir->mark.n_samples++;
    }
    dir->mark.next_serial = sample->serial + 1;
    if (dir->mark.next_serial - dir->mark.first_serial >= N_SAMPLES_A_MARK)
        return set_mark(dir);
    return 0;
}

static int dir_finish(struct prx_sink *sink, json_t *extra,
                      struct prx_sink_totals *totals)
{
    struct sink_dir *dir = (struct sink_dir *)sink;

    if (dir->mark.next_serial > dir->mark.first_serial)
        PRX_TRY(set_mark(dir));
    return prx_ledger_finish(&dir->ledger, extra, totals);
}

/* Samples since the last mark are settled too: all their files stand. */
static void dir_abort(struct prx_sink *sink)
{
    struct sink_dir *dir = (struct sink_dir *)sink;

    if (dir->mark.next_serial > dir->mark.first_serial && set_mark(dir) < 0)
        prx_err_clear();
}

static void dir_release(struct prx_sink *sink)
{
    struct sink_dir *dir = (struct sink_dir *)sink;

    prx_ledger_release(&dir->ledger);
    prx_str_release(&dir->path);
    prx_str_release(&dir->temp);
    free(dir->root);
    free(dir);
}

static struct prx_ledger *dir_ledger(const struct prx_sink *sink)
{
    return &((struct sink_dir *)(uintptr_t)sink)->ledger;
}

static const struct prx_sink_ops dir_ops = {dir_put, dir_finish, dir_release, dir_abort,
                                            dir_ledger, NULL};

int prx_sink_dir_open(const char *word, const struct prx_sink_opts *opts,
                      uint64_t *n_done_serials, struct prx_sink **out)
{
    static char no_name[] = "";
    struct sink_dir *dir = calloc(1, sizeof(*dir));
    struct prx_ledger_place place = {
        .folder = word,
        .prefix = "",
        .layout = "files 1",
        .kind = PRX_INDEX_FOLDER,
        .is_output = is_output,
        .is_shared = true,
    };
    int rc = 0;

    if (!dir)
        return prx_err_nomem("a sink");
    dir->base.ops = &dir_ops;
    dir->no_sync = opts->no_sync;
    dir->is_overwritten = opts->exists == PRX_SINK_OVERWRITE;
    if (opts->source && prx_source_has(opts->source, word)) {
        rc = prx_err(PRX_EEXIST, "%s: is read here, so nothing is written there", word);
        goto out;
    }
    PRX_GO(prx_strdup(word, &dir->root));
    PRX_GO(prx_str_printf(&dir->temp, "%s.index.json.tmp.%ld", word, (long)getpid()));
    PRX_GO(prx_ledger_open(&dir->ledger, &place, opts));
    dir->mark.name = no_name;
    dir->mark.first_serial = dir->mark.next_serial = dir->ledger.n_done_serials;
    if (opts->exists == PRX_SINK_RESUME)
        dir->n_replaced_serials = dir->ledger.n_done_serials + N_SAMPLES_A_MARK;
    *n_done_serials = dir->ledger.n_done_serials;
    *out = &dir->base;
out:
    if (rc < 0)
        dir_release(&dir->base);
    return rc;
}
