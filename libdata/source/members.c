/* SPDX-License-Identifier: Apache-2.0 */
/*
 * Archives by libarchive, fed from a stream.
 *
 * Members of a plain file are not read here: whoever works on the sample reads them,
 * and libarchive is made to pass over them.
 *
 * Names are bytes to us.  libarchive converts names of pax headers to the locale's
 * charset; the suite never leaves the C locale, where it hands out the bytes as they
 * are.  Names of zips it would lose there, so those are read in a UTF-8 locale.
 */
#include "libdata/source/members_internal.h"

#include <archive.h>
#include <archive_entry.h>
#include <errno.h>
#include <locale.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#define N_BLOCK_BYTES 512
/* Headers and small members at one gulp, without reading much of large ones. */
#define N_PLAIN_READ_BYTES  ((size_t)4096)
#define N_STREAM_READ_BYTES ((size_t)256 << 10)
/* More of a member than this is not allocated before its bytes are there. */
#define N_TRUSTED_BYTES ((uint64_t)16 << 20)

/* Compressions by the bytes they begin with, '?' being any, as no tar begins. */
static const struct filter {
    const char *name;
    const char *magic;
    int (*support)(struct archive *);
} filters[] = {
    {"gzip", "\x1f\x8b", archive_read_support_filter_gzip},
    {"zstd", "\x28\xb5\x2f\xfd", archive_read_support_filter_zstd},
    {"xz",
     "\xfd"
     "7zXZ",
     archive_read_support_filter_xz},
    {"bzip2", "BZh?1AY&SY", archive_read_support_filter_bzip2},
    {"lz4", "\x04\x22\x4d\x18", archive_read_support_filter_lz4},
};

/* Of a member, and of a zip without any. */
static const char zip_magic[] = "PK\x03\x04", empty_zip_magic[] = "PK\x05\x06";

#define N_MAGIC_MAX 10

enum shard_kind {
    SHARD_TAR,   /* in a stream, or compressed */
    SHARD_PLAIN, /* a tar in a file, as it is */
    SHARD_ZIP,
    SHARD_EMPTY, /* a zip without members, which libarchive does not know */
};

struct prx_members {
    struct prx_stream *stream; /* owned */
    const char *name;
    uint64_t n_member_bytes_max;
    enum shard_kind kind;
    struct archive *archive;
    locale_t locale;     /* to read headers in; (locale_t)0: the thread's */
    int64_t at_bytes;    /* of the stream: the next read begins there */
    size_t n_head_bytes; /* in block, read before libarchive has asked for them */
    uint64_t n_read;     /* all bytes read */
    struct prx_error io; /* a read that failed */
    uint64_t n_members;
    char no_name[32]; /* of a member whose own cannot be read */
    /* The member given out last. */
    bool has_bytes; /* a regular file */
    uint64_t begin_bytes, n_bytes;
    uint64_t end_bytes; /* where the one before the next begins must end */
    uint8_t block[N_STREAM_READ_BYTES];
};

/* --- what libarchive calls -------------------------------------------------- */

static int read_stream(struct prx_members *members, size_t n_max, size_t *n_got)
{
    int rc = members->stream->ops->read(members->stream, members->block, n_max, n_got);

    if (rc < 0) {
        prx_err_save(&members->io);
        return rc;
    }
    members->at_bytes += (int64_t)*n_got;
    members->n_read += *n_got;
    return 0;
}

static la_ssize_t read_block(struct archive *archive, void *ctx, const void **out)
{
    struct prx_members *members = ctx;
    size_t n_got = members->n_head_bytes;
    size_t n_want =
        members->kind == SHARD_PLAIN ? N_PLAIN_READ_BYTES : N_STREAM_READ_BYTES;

    members->n_head_bytes = 0;
    if (n_got == 0 && read_stream(members, n_want, &n_got) < 0) {
        archive_set_error(archive, EIO, "read failed");
        return -1;
    }
    *out = members->block;
    return (la_ssize_t)n_got;
}

/* Where bytes lie to say, one may be sent anywhere: that is no failure to read. */
static bool go_to(struct prx_members *members, int64_t at_bytes)
{
    if (at_bytes < 0 ||
        members->stream->ops->seek(members->stream, (uint64_t)at_bytes) < 0)
        return false;
    members->at_bytes = at_bytes;
    members->n_head_bytes = 0;
    return true;
}

static la_int64_t skip_bytes(struct archive *archive, void *ctx, la_int64_t n_bytes)
{
    struct prx_members *members = ctx;

    (void)archive;
    if (members->kind == SHARD_TAR || n_bytes > INT64_MAX - members->at_bytes ||
        !go_to(members, members->at_bytes + n_bytes))
        return 0;
    return n_bytes;
}

static la_int64_t seek_bytes(struct archive *archive, void *ctx, la_int64_t offset,
                             int whence)
{
    struct prx_members *members = ctx;
    int64_t base = whence == SEEK_CUR   ? members->at_bytes
                   : whence == SEEK_END ? (int64_t)members->stream->n_bytes
                                        : 0;

    if (offset > INT64_MAX - base || !go_to(members, base + offset)) {
        archive_set_error(archive, EINVAL, "an offset beyond the file");
        return ARCHIVE_FATAL;
    }
    return base + offset;
}

/* --- opening ---------------------------------------------------------------- */

/* The first bytes, which libarchive will get first. */
static int read_head(struct prx_members *members)
{
    size_t n_got = 1;

    while (n_got > 0 && members->n_head_bytes < N_MAGIC_MAX) {
        PRX_TRY(members->stream->ops->read(
            members->stream, members->block + members->n_head_bytes,
            N_PLAIN_READ_BYTES - members->n_head_bytes, &n_got));
        members->n_head_bytes += n_got;
    }
    members->at_bytes = (int64_t)members->n_head_bytes;
    members->n_read = members->n_head_bytes;
    return 0;
}

static bool begins_with(const struct prx_members *members, const char *magic)
{
    size_t n_magic = strlen(magic);

    if (members->n_head_bytes < n_magic)
        return false;
    for (size_t i = 0; i < n_magic; i++)
        if (magic[i] != '?' && (uint8_t)magic[i] != members->block[i])
            return false;
    return true;
}

static int lacks(const struct prx_members *members, const char *what)
{
    return prx_err(PRX_EFORMAT, "%s: libarchive reads no %s here", members->name, what);
}

/* ARCHIVE_OK alone is asked for: a weaker answer means an external program. */
static int support_tar(struct prx_members *members)
{
    struct archive *archive = members->archive;

    members->kind = members->stream->ops->seek ? SHARD_PLAIN : SHARD_TAR;
    if (archive_read_support_format_tar(archive) != ARCHIVE_OK ||
        archive_read_set_options(archive, "read_concatenated_archives") != ARCHIVE_OK)
        return lacks(members, "tar");
    for (size_t i = 0; i < sizeof(filters) / sizeof(*filters); i++) {
        const struct filter *filter = &filters[i];
        if (!begins_with(members, filter->magic))
            continue;
        members->kind = SHARD_TAR;
        return filter->support(archive) == ARCHIVE_OK ? 0
                                                      : lacks(members, filter->name);
    }
    return 0;
}

static int support_zip(struct prx_members *members)
{
    members->kind = begins_with(members, empty_zip_magic) ? SHARD_EMPTY : SHARD_ZIP;
    if (!members->stream->ops->seek)
        return prx_err(PRX_ECORRUPT, "%s: a zip, which is only read from a file",
                       members->name);
    if (archive_read_support_format_zip_seekable(members->archive) != ARCHIVE_OK)
        return lacks(members, "zip");
    archive_read_set_seek_callback(members->archive, seek_bytes);
    members->locale = newlocale(LC_CTYPE_MASK, "C.UTF-8", (locale_t)0);
    return 0;
}

int prx_members_open(struct prx_stream *stream, const char *name,
                     uint64_t n_member_bytes_max, struct prx_members **out)
{
    struct prx_members *members = calloc(1, sizeof(*members));
    int rc = 0;

    if (!members) {
        prx_stream_close(stream);
        return prx_err_nomem("a shard");
    }
    members->stream = stream;
    members->name = name;
    members->n_member_bytes_max = n_member_bytes_max;
    members->archive = archive_read_new();
    if (!members->archive) {
        rc = prx_err_nomem("a shard");
        goto out;
    }
    PRX_GO(read_head(members));
    if (begins_with(members, zip_magic) || begins_with(members, empty_zip_magic))
        PRX_GO(support_zip(members));
    else
        PRX_GO(support_tar(members));
    archive_read_set_read_callback(members->archive, read_block);
    archive_read_set_skip_callback(members->archive, skip_bytes);
    archive_read_set_callback_data(members->archive, members);
    /* What open says, the first header says again, and better. */
    archive_read_open1(members->archive);
    *out = members;
    members = NULL;
out:
    prx_members_close(members);
    return rc;
}

void prx_members_close(struct prx_members *members)
{
    if (!members)
        return;
    archive_read_free(members->archive);
    if (members->locale)
        freelocale(members->locale);
    prx_stream_close(members->stream);
    free(members);
}

bool prx_members_is_plain(const struct prx_members *members)
{
    return members->kind == SHARD_PLAIN;
}

/* --- members ---------------------------------------------------------------- */

static uint64_t position(const struct prx_members *members)
{
    return (uint64_t)archive_filter_bytes(members->archive, 0);
}

/* The shard is useless from here on; a read that failed says why best. */
static int torn(struct prx_members *members, uint64_t at_bytes, const char *what)
{
    const struct prx_stream *stream = members->stream;
    const char *type = stream->ops->type ? stream->ops->type(stream) : "";

    if (members->io.code < 0)
        return prx_err_restore(&members->io);
    if (members->n_read == 0)
        return prx_err(PRX_ECORRUPT, "%s: empty, not a tar", members->name);
    if (members->kind == SHARD_ZIP)
        return prx_err(PRX_ECORRUPT, "%s: a damaged zip: %s", members->name, what);
    if (at_bytes == 0)
        return prx_err(PRX_ECORRUPT,
                       *type ? "%s: not a tar; the server calls it %s"
                             : "%s: not a tar",
                       members->name, type);
    return prx_err(PRX_ECORRUPT, "%s: torn at byte %llu: %s", members->name,
                   (unsigned long long)at_bytes, what);
}

static int torn_by_libarchive(struct prx_members *members)
{
    const char *what = archive_error_string(members->archive);

    return torn(members, position(members), what ? what : "damaged");
}

/* NULL, or why the member cannot be a field. */
static const char *find_fault(const struct prx_members *members,
                              struct archive_entry *entry)
{
    if (!archive_entry_pathname(entry))
        return "a name that cannot be read";
    if (archive_entry_hardlink(entry))
        return "a hard link";
    switch (archive_entry_filetype(entry)) {
    case AE_IFREG:
        break;
    case AE_IFLNK:
        return "a symbolic link";
    default:
        return "not a regular file";
    }
    if (archive_entry_sparse_count(entry) > 0)
        return "a sparse file";
    if (archive_entry_is_encrypted(entry))
        return "encrypted";
    if ((uint64_t)archive_entry_size(entry) > members->n_member_bytes_max)
        return "larger than the limit";
    return NULL;
}

/* The member given out last is behind us: is all of it there? */
static int pass_member(struct prx_members *members)
{
    uint64_t n_blocks = (members->n_bytes + N_BLOCK_BYTES - 1) / N_BLOCK_BYTES;

    if (!members->has_bytes)
        return 0;
    members->has_bytes = false;
    if (members->kind == SHARD_PLAIN &&
        members->n_bytes > members->stream->n_bytes - members->begin_bytes)
        return torn(members, members->stream->n_bytes,
                    "the end of the data is missing");
    members->end_bytes = members->begin_bytes + n_blocks * N_BLOCK_BYTES;
    return 0;
}

/*
 * Is there a mark of the end behind the last member of a tar?  Something is; of a plain
 * file it can be seen that it is no header without its member.
 */
static int has_end(struct prx_members *members)
{
    uint64_t at_bytes = members->stream->n_bytes / N_BLOCK_BYTES * N_BLOCK_BYTES;
    const uint8_t *block = members->block;
    size_t n_got;

    if (members->end_bytes == 0)
        return true;
    if (position(members) <= members->end_bytes)
        return false;
    if (members->kind != SHARD_PLAIN || at_bytes < N_BLOCK_BYTES ||
        !go_to(members, (int64_t)(at_bytes - N_BLOCK_BYTES)))
        return true;
    PRX_TRY(read_stream(members, N_BLOCK_BYTES, &n_got));
    /* It was there a moment ago; members tell of what is wrong. */
    return n_got < N_BLOCK_BYTES ||
           (block[0] == 0 && memcmp(block, block + 1, N_BLOCK_BYTES - 1) == 0);
}

/* The archive is at its end: is the stream, and does it end well? */
static int end(struct prx_members *members)
{
    uint64_t at_bytes = position(members);
    size_t n_got = 1;

    if (members->kind == SHARD_PLAIN && at_bytes > members->stream->n_bytes)
        return torn(members, members->stream->n_bytes,
                    "the end of the data is missing");
    if (members->kind != SHARD_ZIP) {
        int has = has_end(members);
        PRX_TRY(has);
        if (!has)
            return torn(members, at_bytes, "no mark of the end");
    }
    if (members->io.code < 0)
        return prx_err_restore(&members->io);
    while (!members->stream->ops->seek && n_got > 0)
        PRX_TRY(read_stream(members, N_STREAM_READ_BYTES, &n_got));
    return 0;
}

static int read_header(struct prx_members *members, struct archive_entry **entry)
{
    locale_t before = members->locale ? uselocale(members->locale) : (locale_t)0;
    int got = archive_read_next_header(members->archive, entry);

    if (before)
        uselocale(before);
    return got;
}

/* Where there is no name, one that tells this member from the others. */
static const char *name_member(struct prx_members *members, struct archive_entry *entry)
{
    const char *name = archive_entry_pathname(entry);

    members->n_members++;
    snprintf(members->no_name, sizeof(members->no_name), "member-%llu",
             (unsigned long long)members->n_members);
    return name ? name : members->no_name;
}

int prx_members_next(struct prx_members *members, struct prx_member *out)
{
    struct archive_entry *entry;

    if (members->kind == SHARD_EMPTY)
        return 0;
    PRX_TRY(pass_member(members));
    do {
        int got = read_header(members, &entry);
        if (got == ARCHIVE_EOF)
            return end(members);
        if (got != ARCHIVE_OK && got != ARCHIVE_WARN)
            return torn_by_libarchive(members);
    } while (archive_entry_filetype(entry) == AE_IFDIR);
    /* A sparse file takes less of the tar than its size. */
    members->has_bytes = archive_entry_filetype(entry) == AE_IFREG &&
                         archive_entry_sparse_count(entry) == 0;
    members->begin_bytes = members->end_bytes = position(members);
    members->n_bytes = (uint64_t)archive_entry_size(entry);
    *out = (struct prx_member){
        .name = name_member(members, entry),
        .fault = find_fault(members, entry),
        .n_bytes = members->n_bytes,
        .begin_bytes = members->begin_bytes,
    };
    return 1;
}

/* Of a zip: the bytes may be unreadable, or not as many as they should be. */
static int judge_data(struct prx_members *members, struct prx_member *member,
                      la_ssize_t got)
{
    const char *what = archive_error_string(members->archive);

    if (members->kind != SHARD_ZIP)
        return torn(members, position(members), "the end of the data is missing");
    if (got == ARCHIVE_FATAL || members->io.code < 0)
        return torn(members, position(members), what ? what : "damaged");
    member->fault = got < 0 && what ? what : "shorter or longer than the zip says";
    return 0;
}

int prx_members_read(struct prx_members *members, struct prx_member *member,
                     struct prx_buf **out)
{
    struct prx_str bytes = {0};
    la_ssize_t n_got = 0;
    char more;
    int rc = 0;

    *out = NULL;
    while (bytes.n_bytes < member->n_bytes) {
        uint64_t n_left = member->n_bytes - bytes.n_bytes;
        size_t n_want = (size_t)(n_left < N_TRUSTED_BYTES ? n_left : N_TRUSTED_BYTES);
        PRX_GO(prx_str_reserve(&bytes, n_want));
        n_got =
            archive_read_data(members->archive, bytes.bytes + bytes.n_bytes, n_want);
        if (n_got <= 0)
            break;
        bytes.n_bytes += (size_t)n_got;
    }
    /* A zip's sum is looked at where a read finds nothing more. */
    if (members->kind == SHARD_ZIP && bytes.n_bytes == member->n_bytes)
        n_got = archive_read_data(members->archive, &more, 1);
    else if (bytes.n_bytes == member->n_bytes)
        n_got = 0;
    if (bytes.n_bytes < member->n_bytes || n_got != 0)
        rc = judge_data(members, member, n_got);
    else
        rc = prx_str_take(&bytes, out);
out:
    prx_str_release(&bytes);
    return rc;
}
