/* SPDX-License-Identifier: Apache-2.0 */
/*
 * Tar shards: one member after another, gathered into samples by key.
 *
 * libarchive undoes the compression and reads the headers.  Members of a plain
 * file are not read here: a field says where its bytes are, the reader seeks
 * over them, and whoever works on the sample reads them.  Members of a
 * compressed file or of a pipe are read at once.
 *
 * A shard is believed up to its first fault.  The sample that was being gathered
 * when the shard tore may lack members, so it is rejected, with shard and byte;
 * so is the last sample of a shard that just stops, without the two zero blocks
 * that end a tar.  Several tars in one file, end to end, are read as one.
 *
 * Names are bytes to us.  libarchive converts names of pax headers to the
 * locale's charset; the suite never leaves the C locale, where it hands out the
 * bytes as they are.
 */
#include <archive.h>
#include <archive_entry.h>
#include <errno.h>
#include <fcntl.h>
#include <poll.h>
#include <stdatomic.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>
#include <unistd.h>

#include "libdata/path.h"
#include "libdata/skip.h"
#include "libdata/source/source_internal.h"

#define N_BLOCK_BYTES 512
/* Headers and small members at one gulp, without reading much of large ones. */
#define N_SEEKING_READ_BYTES 4096
#define N_STREAM_READ_BYTES  (256 * 1024)
/* More of a member than this is not allocated before its bytes are there. */
#define N_TRUSTED_BYTES ((uint64_t)16 << 20)

struct shard {
    const char *path;
    int fd; /* -1: none is open */
    struct archive *archive;
    bool is_seekable;    /* a regular file: size and position are known */
    bool is_plain;       /* seekable and not compressed: members are not read */
    uint64_t n_bytes;    /* of the file, if seekable */
    uint64_t n_read;     /* bytes taken from the file, or passed over */
    uint64_t end_bytes;  /* where the last member ends, in the plain tar */
    struct prx_error io; /* a read that failed: a failure of the source */
};

struct source_tar {
    struct prx_source base;
    struct prx_paths paths;
    uint64_t *file_bytes; /* of each path, for the plan */
    uint64_t n_member_bytes_max;
    bool with_hidden;
    size_t i_path;
    struct shard shard;
    struct prx_skip skip;     /* of the shard that is open */
    struct prx_sample sample; /* being gathered; key NULL: none */
    struct prx_sample torn;   /* tells of a tear, and comes behind sample; likewise */
    atomic_bool is_canceled;
    uint8_t block[N_STREAM_READ_BYTES];
};

static struct source_tar *tar_of(struct prx_source *source)
{
    return (struct source_tar *)source;
}

/* Wait for a pipe in short turns, so that a canceled run need not wait for it. */
static int wait_readable(struct source_tar *tar)
{
    struct pollfd ready = {.fd = tar->shard.fd, .events = POLLIN};

    while (poll(&ready, 1, 100) <= 0)
        if (atomic_load(&tar->is_canceled))
            return prx_err(PRX_ECANCELED, "%s: canceled", tar->shard.path);
    return 0;
}

static la_ssize_t read_block(struct archive *archive, void *ctx, const void **out)
{
    struct source_tar *tar = ctx;
    struct shard *shard = &tar->shard;
    size_t n_want = shard->is_plain ? N_SEEKING_READ_BYTES : sizeof(tar->block);
    ssize_t n_got;
    int rc = 0;

    if (!shard->is_seekable && (rc = wait_readable(tar)) < 0)
        goto out;
    do
        n_got = read(shard->fd, tar->block, n_want);
    while (n_got < 0 && errno == EINTR);
    if (n_got < 0)
        rc = prx_err_sys("%s", shard->path);
out:
    if (rc < 0) {
        prx_err_save(&shard->io);
        archive_set_error(archive, EIO, "read failed");
        return -1;
    }
    shard->n_read += (uint64_t)n_got;
    *out = tar->block;
    return n_got;
}

static la_int64_t skip_bytes(struct archive *archive, void *ctx, la_int64_t n_bytes)
{
    struct shard *shard = &((struct source_tar *)ctx)->shard;

    (void)archive;
    if (!shard->is_plain || lseek(shard->fd, (off_t)n_bytes, SEEK_CUR) < 0)
        return 0;
    shard->n_read += (uint64_t)n_bytes;
    return n_bytes;
}

static void shard_close(struct shard *shard)
{
    archive_read_free(shard->archive);
    if (shard->fd > STDIN_FILENO)
        close(shard->fd);
    *shard = (struct shard){.fd = -1};
}

/* gzip and zstd begin with bytes that no member's name does. */
static bool is_compressed(int fd)
{
    static const unsigned char gzip[] = {0x1f, 0x8b}, zstd[] = {0x28, 0xb5, 0x2f, 0xfd};
    unsigned char head[4] = {0};

    return pread(fd, head, sizeof(head), 0) > 0 &&
           (memcmp(head, gzip, sizeof(gzip)) == 0 ||
            memcmp(head, zstd, sizeof(zstd)) == 0);
}

/* ARCHIVE_OK alone is asked for: a weaker answer means an external program. */
static int archive_open(struct source_tar *tar)
{
    struct archive *archive = archive_read_new();

    tar->shard.archive = archive;
    if (!archive)
        return prx_err_nomem("a tar reader");
    if (archive_read_support_format_tar(archive) != ARCHIVE_OK ||
        archive_read_set_options(archive, "read_concatenated_archives") != ARCHIVE_OK)
        return prx_err(PRX_EFORMAT, "%s: libarchive reads no tar", tar->shard.path);
    if (archive_read_support_filter_gzip(archive) != ARCHIVE_OK ||
        archive_read_support_filter_zstd(archive) != ARCHIVE_OK)
        return prx_err(PRX_EFORMAT, "%s: libarchive lacks gzip or zstd",
                       tar->shard.path);
    /* What open says, the first header says again, and better. */
    archive_read_open2(archive, tar, NULL, read_block, skip_bytes, NULL);
    return 0;
}

static int shard_open(struct source_tar *tar, const char *path)
{
    struct shard *shard = &tar->shard;
    bool is_stdin = strcmp(path, "-") == 0;
    struct stat st;

    *shard = (struct shard){.path = is_stdin ? "standard input" : path};
    prx_skip_release(&tar->skip);
    if (!is_stdin && !tar->with_hidden)
        PRX_TRY(prx_skip_read(&tar->skip, path));
    shard->fd = is_stdin ? STDIN_FILENO : open(path, O_RDONLY | O_CLOEXEC);
    if (shard->fd < 0 || fstat(shard->fd, &st) < 0)
        return prx_err_sys("%s", shard->path);
    /* Standard input may be a file that somebody has read a part of. */
    if (S_ISREG(st.st_mode) && !is_stdin) {
        shard->is_seekable = true;
        shard->n_bytes = (uint64_t)st.st_size;
        shard->is_plain = !is_compressed(shard->fd);
    }
    return archive_open(tar);
}

static uint64_t position(const struct shard *shard)
{
    return (uint64_t)archive_filter_bytes(shard->archive, 0);
}

/*
 * The shard is useless from here on: reject the sample being gathered, or, where
 * there is none or it is rejected already, one named after the shard's file; and close
 * it.  A sample's key has no dot where that name has one, so that a skip list can name
 * either.
 */
static int shard_tear(struct source_tar *tar, uint64_t at_bytes, const char *what)
{
    struct shard *shard = &tar->shard;
    struct prx_sample *sample = &tar->sample;
    char shown[PRX_ERR_TEXT_BYTES / 2];

    if (shard->io.code < 0)
        return prx_err_restore(&shard->io);
    if (!sample->key || sample->reject_reason) {
        sample = &tar->torn;
        const char *slash = strrchr(shard->path, '/');
        PRX_TRY(prx_sample_set_origin(sample, shard->path));
        prx_escape(slash ? slash + 1 : shard->path, shown, sizeof(shown));
        PRX_TRY(prx_sample_set_key(sample, shown));
    }
    if (shard->n_read == 0)
        prx_sample_reject(sample, "read", "%s: empty, not a tar", shard->path);
    else if (at_bytes == 0)
        prx_sample_reject(sample, "read", "%s: not a tar", shard->path);
    else
        prx_sample_reject(sample, "read", "%s: torn at byte %llu: %s",
                          shard->path, (unsigned long long)at_bytes, what);
    shard_close(shard);
    return 0;
}

/* Names that WebDataset keeps for itself: __x__ or anything below it. */
static bool is_reserved(const char *name)
{
    size_t n_first = strcspn(name, "/");
    return n_first >= 4 && memcmp(name, "__", 2) == 0 &&
           memcmp(name + n_first - 2, "__", 2) == 0;
}

/* The member's bytes, which are not there to seek to; 0 and NULL: torn. */
static int read_member(struct source_tar *tar, uint64_t n_bytes, struct prx_buf **out)
{
    struct prx_str bytes = {0};
    int rc = 0;

    *out = NULL;
    while (bytes.n_bytes < n_bytes) {
        uint64_t n_left = n_bytes - bytes.n_bytes;
        size_t n_want = (size_t)(n_left < N_TRUSTED_BYTES ? n_left : N_TRUSTED_BYTES);
        PRX_GO(prx_str_reserve(&bytes, n_want));
        la_ssize_t n_got =
            archive_read_data(tar->shard.archive, bytes.bytes + bytes.n_bytes, n_want);
        if (n_got <= 0)
            goto out;
        bytes.n_bytes += (size_t)n_got;
    }
    PRX_GO(prx_str_take(&bytes, out));
out:
    prx_str_release(&bytes);
    return rc;
}

/* NULL, or why the member cannot be a field. */
static const char *find_member_fault(struct archive_entry *member, uint64_t n_bytes,
                                     uint64_t n_bytes_max)
{
    if (archive_entry_hardlink(member))
        return "a hard link";
    switch (archive_entry_filetype(member)) {
    case AE_IFREG:
        break;
    case AE_IFLNK:
        return "a symbolic link";
    default:
        return "not a regular file";
    }
    if (archive_entry_sparse_count(member) > 0)
        return "a sparse file";
    if (n_bytes > n_bytes_max)
        return "larger than the limit";
    return NULL;
}

/* Add the regular member @name to the sample being gathered. */
static int gather(struct source_tar *tar, const char *name, size_t n_key,
                  uint64_t n_bytes)
{
    struct shard *shard = &tar->shard;
    struct prx_buf *bytes = NULL;

    /* What is rejected is not read: it is as large as somebody likes. */
    if (tar->sample.reject_reason)
        return 0;
    if (n_bytes > tar->n_member_bytes_max - prx_sample_bytes(&tar->sample)) {
        prx_sample_reject(&tar->sample, "read", "%s: member %s: larger than the limit"
                                                " with those before it",
                          shard->path, name);
        return 0;
    }
    if (!shard->is_plain) {
        PRX_TRY(read_member(tar, n_bytes, &bytes));
        if (!bytes)
            return shard_tear(tar, position(shard), "the end of the data is missing");
    }
    return prx_sample_add_file(&tar->sample, name, n_key, bytes, shard->path,
                               shard->end_bytes, n_bytes);
}

/* 1: @done is a whole sample; 0: go on. */
static int take_member(struct source_tar *tar, struct archive_entry *member,
                       struct prx_sample *done)
{
    struct shard *shard = &tar->shard;
    const char *name = archive_entry_pathname(member);
    uint64_t n_bytes = (uint64_t)archive_entry_size(member);
    uint64_t begin_bytes = position(shard);
    int is_done = 0;

    if (!name || archive_entry_filetype(member) == AE_IFDIR)
        return 0;
    while (strncmp(name, "./", 2) == 0)
        name += 2;
    size_t n_key = prx_key_split(name);
    const char *fault = find_member_fault(member, n_bytes, tar->n_member_bytes_max);
    bool is_ignored = is_reserved(name) || (n_key == 0 && !fault);
    if (n_key == 0)
        n_key = strlen(name);

    if (!is_ignored) {
        struct prx_sample next = {0};
        int rc = prx_sample_begin(&next, name, n_key, shard->path);
        if (rc == 0 && tar->sample.key && strcmp(tar->sample.key, next.key) == 0) {
            prx_sample_release(&next);
        } else if (rc == 0) {
            is_done = tar->sample.key != NULL;
            prx_sample_move(done, &tar->sample);
            prx_sample_move(&tar->sample, &next);
        } else {
            prx_sample_release(&next);
            return rc;
        }
    }
    if (fault && !is_ignored)
        prx_sample_reject(&tar->sample, "read", "%s: member %s: %s", shard->path, name,
                          fault);
    shard->end_bytes = begin_bytes;
    /* A sparse file takes less of the tar than its size. */
    if (archive_entry_filetype(member) != AE_IFREG ||
        archive_entry_sparse_count(member) > 0)
        return is_done;
    if (shard->is_plain && n_bytes > shard->n_bytes - begin_bytes)
        PRX_TRY(shard_tear(tar, shard->n_bytes, "the end of the data is missing"));
    else if (!is_ignored && !fault)
        PRX_TRY(gather(tar, name, n_key, n_bytes));
    shard->end_bytes =
        begin_bytes + (n_bytes + N_BLOCK_BYTES - 1) / N_BLOCK_BYTES * N_BLOCK_BYTES;
    return is_done;
}

/*
 * Is there a mark of the end behind the last member?  Something is; of a plain file
 * it can be seen that it is no header without its member.
 */
static bool has_end(const struct shard *shard)
{
    char block[N_BLOCK_BYTES];
    uint64_t at_bytes = shard->n_bytes / N_BLOCK_BYTES * N_BLOCK_BYTES;

    if (shard->end_bytes == 0)
        return true;
    if (position(shard) <= shard->end_bytes)
        return false;
    if (!shard->is_plain || at_bytes < N_BLOCK_BYTES)
        return true;
    if (pread(shard->fd, block, sizeof(block), (off_t)(at_bytes - N_BLOCK_BYTES)) !=
        (ssize_t)sizeof(block))
        return true; /* it was there a moment ago; members tell of what is wrong */
    return block[0] == 0 && memcmp(block, block + 1, sizeof(block) - 1) == 0;
}

/* Read on in the open shard.  1: @done is a whole sample; 0: the shard's end. */
static int shard_next(struct source_tar *tar, struct prx_sample *done)
{
    struct shard *shard = &tar->shard;
    struct archive_entry *member;

    while (shard->archive) {
        int got = archive_read_next_header(shard->archive, &member);
        if (got == ARCHIVE_OK || got == ARCHIVE_WARN) {
            int rc = take_member(tar, member, done);
            if (rc != 0)
                return rc;
        } else if (got != ARCHIVE_EOF) {
            const char *what = archive_error_string(shard->archive);
            PRX_TRY(shard_tear(tar, position(shard), what ? what : "damaged"));
        } else if (shard->is_plain && position(shard) > shard->n_bytes) {
            PRX_TRY(shard_tear(tar, shard->n_bytes, "the end of the data is missing"));
        } else if (!has_end(shard)) {
            PRX_TRY(shard_tear(tar, position(shard), "no mark of the end"));
        } else {
            shard_close(shard);
        }
    }
    struct prx_sample *left = tar->sample.key ? &tar->sample : &tar->torn;
    if (!left->key)
        return 0;
    prx_sample_move(done, left);
    return 1;
}

static int tar_next(struct prx_source *source, struct prx_sample *sample)
{
    struct source_tar *tar = tar_of(source);

    for (;;) {
        int got = shard_next(tar, sample);
        if (got < 0)
            return got;
        if (got > 0 && !prx_skip_find(&tar->skip, sample->key))
            return got;
        if (got > 0) {
            tar->base.n_hidden++;
            prx_sample_reset(sample);
            continue;
        }
        if (tar->i_path == tar->paths.n_paths)
            return 0;
        PRX_TRY(shard_open(tar, tar->paths.paths[tar->i_path++]));
    }
}

static int tar_plan(const struct prx_source *source, struct prx_str *plan)
{
    const struct source_tar *tar = (const struct source_tar *)source;

    for (size_t i = 0; i < tar->paths.n_paths; i++) {
        PRX_TRY(prx_str_printf(plan, "tar %s %llu\n", tar->paths.paths[i],
                               (unsigned long long)tar->file_bytes[i]));
        PRX_TRY(prx_skip_plan(tar->paths.paths[i], plan));
    }
    return 0;
}

static void tar_cancel(struct prx_source *source)
{
    atomic_store(&tar_of(source)->is_canceled, true);
}

static void tar_close(struct prx_source *source)
{
    struct source_tar *tar = tar_of(source);

    shard_close(&tar->shard);
    prx_skip_release(&tar->skip);
    prx_sample_release(&tar->sample);
    prx_sample_release(&tar->torn);
    prx_paths_release(&tar->paths);
    free(tar->file_bytes);
    free(tar);
}

static bool tar_has(const struct prx_source *source, const char *path, bool is_folder)
{
    const struct source_tar *tar = (const struct source_tar *)source;
    bool has = false;

    for (size_t i = 0; i < tar->paths.n_paths && !has; i++) {
        char *shard = realpath(tar->paths.paths[i], NULL);
        has = shard &&
              (is_folder ? prx_path_is_below(shard, path) : strcmp(shard, path) == 0);
        free(shard);
    }
    return has;
}

static const struct prx_source_ops tar_ops = {tar_next, tar_plan, tar_cancel, tar_close,
                                              tar_has};

static int open_tars(const char *const *paths, size_t n_paths,
                     const struct prx_source_opts *opts, struct prx_source **out)
{
    struct source_tar *tar = calloc(1, sizeof(*tar));
    struct stat st;
    int rc = 0;

    if (!tar)
        return prx_err_nomem("a tar source");
    tar->base.ops = &tar_ops;
    tar->shard.fd = -1;
    tar->n_member_bytes_max =
        opts->n_member_bytes_max ? opts->n_member_bytes_max : PRX_MEMBER_BYTES_MAX;
    tar->with_hidden = opts->with_hidden;
    tar->file_bytes = calloc(n_paths + 1, sizeof(*tar->file_bytes));
    if (!tar->file_bytes) {
        rc = prx_err_nomem("a tar source");
        goto out;
    }
    for (size_t i = 0; i < n_paths; i++) {
        PRX_GO(prx_paths_add(&tar->paths, paths[i]));
        if (strcmp(paths[i], "-") == 0)
            continue;
        if (stat(paths[i], &st) < 0) {
            rc = prx_err_sys("%s", paths[i]);
            goto out;
        }
        tar->file_bytes[i] = S_ISREG(st.st_mode) ? (uint64_t)st.st_size : 0;
    }
    *out = &tar->base;
out:
    if (rc < 0)
        tar_close(&tar->base);
    return rc;
}

bool prx_source_is_shard(const char *path)
{
    static const char *const ends[] = {".tar", ".tar.gz", ".tgz", ".tar.zst", ".tzst",
                                       NULL};
    return prx_path_ends_with(path, ends);
}

static bool takes_tar(const char *path, const struct stat *st)
{
    return S_ISREG(st->st_mode) && prx_source_is_shard(path);
}

const struct prx_source_kind prx_source_tar_kind = {
    .takes = takes_tar,
    .is_shard = true,
    .open = open_tars,
};

const struct prx_source_kind prx_source_stream_kind = {
    .open = open_tars,
};
