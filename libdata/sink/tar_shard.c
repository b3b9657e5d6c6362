/* SPDX-License-Identifier: Apache-2.0 */
/*
 * One tar while it is written.
 *
 * A sample is written by one writev: its headers from scratch memory, the bytes
 * of its fields from where they are.  What was written is only read again when
 * samples move into the next shard, which happens once in a run at most.
 */
#include "libdata/sink/tar_shard_internal.h"

#include <errno.h>
#include <fcntl.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

#include "libdata/dali.h"

#define N_COPY_BYTES ((size_t)1 << 20)

static const char zeros[PRX_TAR_END_BYTES];

/* --- a sample as blocks ------------------------------------------------------- */

void prx_tar_blocks_release(struct prx_tar_blocks *blocks)
{
    free(blocks->parts);
    prx_str_release(&blocks->headers);
    prx_str_release(&blocks->name);
    *blocks = (struct prx_tar_blocks){0};
}

/* @rows with room for @n_wanted, in *@out; @rows itself where they fit already. */
static int grow_rows(void *rows, size_t n_wanted, size_t *cap_rows, size_t n_row_bytes,
                     void **out)
{
    *out = rows;
    if (n_wanted <= *cap_rows)
        return 0;
    size_t cap = 2 * *cap_rows > n_wanted ? 2 * *cap_rows : n_wanted;
    void *grown = realloc(rows, cap * n_row_bytes);
    if (!grown)
        return prx_err_nomem("a shard");
    *cap_rows = cap;
    *out = grown;
    return 0;
}

static int reserve_parts(struct prx_tar_blocks *blocks, size_t n_parts)
{
    void *grown;

    PRX_TRY(grow_rows(blocks->parts, n_parts, &blocks->cap_parts,
                      sizeof(*blocks->parts), &grown));
    blocks->parts = grown;
    return 0;
}

/* Headers may move in memory until all are made, so their addresses come last. */
int prx_tar_blocks_set(struct prx_tar_blocks *blocks, const struct prx_sample *sample)
{
    struct prx_str *headers = &blocks->headers;

    prx_str_reset(headers);
    blocks->n_bytes = 0;
    blocks->n_parts = 3 * sample->n_fields;
    PRX_TRY(reserve_parts(blocks, blocks->n_parts));
    for (size_t i = 0; i < sample->n_fields; i++) {
        const struct prx_field *field = &sample->fields[i];
        struct iovec *parts = &blocks->parts[3 * i];
        size_t n_pad = -(size_t)field->n_bytes % PRX_TAR_BLOCK_BYTES;
        size_t n_before = headers->n_bytes;
        prx_str_reset(&blocks->name);
        PRX_TRY(prx_str_printf(&blocks->name, "%s.%s", sample->key, field->name));
        PRX_TRY(prx_tar_header(headers, blocks->name.bytes, field->n_bytes));
        parts[0].iov_len = headers->n_bytes - n_before;
        parts[1] = (struct iovec){field->bytes->bytes, (size_t)field->n_bytes};
        parts[2] = (struct iovec){(void *)(uintptr_t)zeros, n_pad};
        blocks->n_bytes += parts[0].iov_len + field->n_bytes + n_pad;
    }
    char *header = headers->bytes;
    for (size_t i = 0; i < sample->n_fields; i++) {
        blocks->parts[3 * i].iov_base = header;
        header += blocks->parts[3 * i].iov_len;
    }
    return 0;
}

/* --- filling a shard ---------------------------------------------------------- */

int prx_tar_shard_init(struct prx_tar_shard *shard)
{
    *shard = (struct prx_tar_shard){.file.fd = -1};
    return prx_hasher_new(&shard->hasher);
}

void prx_tar_shard_release(struct prx_tar_shard *shard)
{
    prx_tar_shard_abort(shard);
    prx_hasher_free(shard->hasher);
    prx_str_release(&shard->name);
    prx_str_release(&shard->last_key);
    prx_str_release(&shard->names);
    free(shard->places);
    free(shard->members);
    *shard = (struct prx_tar_shard){.file.fd = -1};
}

void prx_tar_shard_abort(struct prx_tar_shard *shard)
{
    prx_outfile_abort(&shard->file);
    shard->is_begun = false;
}

static int open_file(struct prx_tar_shard *shard, const char *folder)
{
    struct prx_str path = {0};
    int rc = prx_str_printf(&path, "%s%s", folder, shard->name.bytes);

    if (rc == 0)
        rc = prx_outfile_open(&shard->file, path.bytes);
    prx_str_release(&path);
    return rc;
}

int prx_tar_shard_begin(struct prx_tar_shard *shard, const char *folder)
{
    shard->is_begun = true;
    shard->entry.name = shard->name.bytes;
    shard->n_places = shard->n_members = 0;
    prx_str_reset(&shard->names);
    prx_str_reset(&shard->last_key);
    prx_hasher_reset(shard->hasher);
    return shard->is_stdout ? 0 : open_file(shard, folder);
}

/* Hash and write @parts; the hash sees them first, as writing changes them. */
static int write_parts(struct prx_tar_shard *shard, struct iovec *parts, size_t n_parts)
{
    for (size_t i = 0; i < n_parts; i++)
        shard->entry.n_bytes += parts[i].iov_len;
    if (shard->is_stdout)
        return prx_writev_all(STDOUT_FILENO, "standard output", parts, (int)n_parts);
    for (size_t i = 0; i < n_parts; i++)
        prx_hasher_add(shard->hasher, parts[i].iov_base, parts[i].iov_len);
    return prx_outfile_writev(&shard->file, parts, (int)n_parts);
}

/* Room to record @n_places samples more, and @n_members fields. */
static int reserve_record(struct prx_tar_shard *shard, size_t n_places,
                          size_t n_members)
{
    void *grown;

    PRX_TRY(grow_rows(shard->places, shard->n_places + n_places, &shard->cap_places,
                      sizeof(*shard->places), &grown));
    shard->places = grown;
    PRX_TRY(grow_rows(shard->members, shard->n_members + n_members,
                      &shard->cap_members, sizeof(*shard->members), &grown));
    shard->members = grown;
    return 0;
}

static int put_name(struct prx_tar_shard *shard, const char *name)
{
    return prx_str_add(&shard->names, name, strlen(name) + 1);
}

static int record(struct prx_tar_shard *shard, const struct prx_sample *sample,
                  const struct prx_tar_blocks *blocks)
{
    uint64_t at_bytes = shard->entry.n_bytes;

    PRX_TRY(reserve_record(shard, 1, sample->n_fields));
    shard->places[shard->n_places++] = (struct prx_tar_place){
        .at_bytes = at_bytes,
        .serial = sample->serial,
        .i_member = shard->n_members,
        .i_name = shard->names.n_bytes,
    };
    PRX_TRY(put_name(shard, sample->key));
    for (size_t i = 0; i < sample->n_fields; i++) {
        const struct iovec *parts = &blocks->parts[3 * i];
        PRX_TRY(put_name(shard, sample->fields[i].name));
        at_bytes += parts[0].iov_len;
        shard->members[shard->n_members++] = (struct prx_tar_member){
            .at_bytes = at_bytes,
            .n_bytes = parts[1].iov_len,
        };
        at_bytes += parts[1].iov_len + parts[2].iov_len;
    }
    return 0;
}

int prx_tar_shard_put(struct prx_tar_shard *shard, const struct prx_sample *sample,
                      struct prx_tar_blocks *blocks, bool no_sync)
{
    if (shard->is_recorded)
        PRX_TRY(record(shard, sample, blocks));
    PRX_TRY(write_parts(shard, blocks->parts, blocks->n_parts));
    if (!shard->is_stdout && !no_sync)
        prx_outfile_push(&shard->file);
    prx_str_reset(&shard->last_key);
    PRX_TRY(prx_str_puts(&shard->last_key, sample->key));
    shard->entry.n_samples++;
    shard->entry.next_serial = sample->serial + 1;
    return 0;
}

/* --- giving samples to the next shard ------------------------------------------ */

/* What was written of a shard, to be read again. */
struct written {
    int fd;
    char *path; /* final name, for messages */
    uint64_t n_bytes;
    char xxh128[PRX_HASH_HEX_BYTES];
    struct prx_hasher *hasher; /* of what is read; from the beginning to the end */
    struct prx_buf *buf;
};

static int open_written(struct written *written, const struct prx_tar_shard *shard)
{
    written->fd = open(shard->file.temp_path, O_RDONLY | O_NOFOLLOW | O_CLOEXEC);
    if (written->fd < 0)
        return prx_err_sys("%s", shard->file.path);
    written->n_bytes = shard->entry.n_bytes;
    prx_hasher_hex(shard->hasher, written->xxh128);
    PRX_TRY(prx_strdup(shard->file.path, &written->path));
    PRX_TRY(prx_hasher_new(&written->hasher));
    return prx_buf_new(N_COPY_BYTES, &written->buf);
}

static void close_written(struct written *written)
{
    if (written->fd >= 0)
        close(written->fd);
    free(written->path);
    prx_hasher_free(written->hasher);
    prx_buf_unref(written->buf);
}

/* Bytes @at_bytes to @end_bytes go to @shard: into its hash, and its file if asked. */
static int take_bytes(struct prx_tar_shard *shard, struct written *from,
                      uint64_t at_bytes, uint64_t end_bytes, bool is_written)
{
    while (at_bytes < end_bytes) {
        uint64_t n_left = end_bytes - at_bytes;
        size_t n_wanted = n_left < N_COPY_BYTES ? (size_t)n_left : N_COPY_BYTES;
        ssize_t n_got = pread(from->fd, from->buf->bytes, n_wanted, (off_t)at_bytes);
        if (n_got < 0 && errno == EINTR)
            continue;
        if (n_got < 0)
            return prx_err_sys("%s", from->path);
        if (n_got == 0)
            break;
        struct iovec part = {from->buf->bytes, (size_t)n_got};
        prx_hasher_add(from->hasher, part.iov_base, part.iov_len);
        if (is_written)
            PRX_TRY(write_parts(shard, &part, 1));
        else
            prx_hasher_add(shard->hasher, part.iov_base, part.iov_len);
        at_bytes += (uint64_t)n_got;
    }
    return 0;
}

/* A disk that failed to take what was written may have told nobody yet. */
static int check_written(const struct written *written)
{
    char hash[PRX_HASH_HEX_BYTES];

    prx_hasher_hex(written->hasher, hash);
    return strcmp(hash, written->xxh128) == 0
               ? 0
               : prx_err(PRX_EIO, "%s: does not read back as it was written",
                         written->path);
}

/*
 * @next anew: what lies behind @cut_bytes of @shard, then its own.  It takes its
 * temporary name again; what had that name is read from the open file.
 */
static int move_bytes(struct prx_tar_shard *shard, uint64_t cut_bytes,
                      struct prx_tar_shard *next)
{
    struct written first = {.fd = -1}, second = {.fd = -1};
    int rc = 0;

    PRX_GO(open_written(&first, shard));
    PRX_GO(open_written(&second, next));
    if (unlink(next->file.temp_path) < 0) {
        rc = prx_err_sys("%s", second.path);
        goto out;
    }
    prx_outfile_abort(&next->file);
    PRX_GO(prx_outfile_open(&next->file, second.path));
    next->entry.n_bytes = 0;
    prx_hasher_reset(next->hasher);
    prx_hasher_reset(shard->hasher);

    PRX_GO(take_bytes(shard, &first, 0, cut_bytes, false));
    PRX_GO(take_bytes(next, &first, cut_bytes, first.n_bytes, true));
    PRX_GO(check_written(&first));
    PRX_GO(take_bytes(next, &second, 0, second.n_bytes, true));
    PRX_GO(check_written(&second));
    PRX_GO(prx_outfile_cut(&shard->file, cut_bytes));
    shard->entry.n_bytes = cut_bytes;
out:
    close_written(&first);
    close_written(&second);
    return rc;
}

/* Names of moved samples before those of the samples of @next. */
static int move_names(struct prx_tar_shard *shard, size_t i_name,
                      struct prx_tar_shard *next)
{
    struct prx_str names = {0};
    int rc = 0;

    PRX_GO(prx_str_add(&names, shard->names.bytes + i_name,
                       shard->names.n_bytes - i_name));
    PRX_GO(prx_str_add(&names, next->names.bytes, next->names.n_bytes));
    prx_str_release(&next->names);
    next->names = names;
    shard->names.n_bytes = i_name;
    return 0;
out:
    prx_str_release(&names);
    return rc;
}

/* Places of moved samples before those of @next, which move back by as much. */
static int move_places(struct prx_tar_shard *shard, size_t n_kept,
                       struct prx_tar_shard *next)
{
    const struct prx_tar_place cut = shard->places[n_kept];
    size_t n_places = shard->n_places - n_kept;
    size_t n_members = shard->n_members - cut.i_member;
    size_t n_name_bytes = shard->names.n_bytes - cut.i_name;
    uint64_t n_bytes = shard->entry.n_bytes - cut.at_bytes;

    PRX_TRY(reserve_record(next, n_places, n_members));
    PRX_TRY(move_names(shard, cut.i_name, next));
    for (size_t i = 0; i < next->n_places; i++) {
        next->places[i].at_bytes += n_bytes;
        next->places[i].i_member += n_members;
        next->places[i].i_name += n_name_bytes;
    }
    for (size_t i = 0; i < next->n_members; i++)
        next->members[i].at_bytes += n_bytes;
    memmove(next->places + n_places, next->places, next->n_places * sizeof(cut));
    memmove(next->members + n_members, next->members,
            next->n_members * sizeof(*next->members));
    for (size_t i = 0; i < n_places; i++) {
        next->places[i] = shard->places[n_kept + i];
        next->places[i].at_bytes -= cut.at_bytes;
        next->places[i].i_member -= cut.i_member;
        next->places[i].i_name -= cut.i_name;
    }
    for (size_t i = 0; i < n_members; i++) {
        next->members[i] = shard->members[cut.i_member + i];
        next->members[i].at_bytes -= cut.at_bytes;
    }
    next->n_places += n_places;
    next->n_members += n_members;
    shard->n_places = n_kept;
    shard->n_members = cut.i_member;
    return 0;
}

int prx_tar_shard_give(struct prx_tar_shard *shard, size_t n_kept,
                       struct prx_tar_shard *next)
{
    const struct prx_tar_place cut = shard->places[n_kept];
    size_t n_moved = shard->n_places - n_kept;
    /* Every serial in a shard is a sample's or a reject's. */
    uint64_t n_kept_rejected = cut.serial - shard->entry.first_serial - n_kept;
    uint64_t n_moved_rejected = shard->entry.n_rejected - n_kept_rejected;

    PRX_TRY(move_places(shard, n_kept, next));
    PRX_TRY(move_bytes(shard, cut.at_bytes, next));
    shard->entry.next_serial = next->entry.first_serial = cut.serial;
    shard->entry.n_samples -= n_moved;
    next->entry.n_samples += n_moved;
    shard->entry.n_rejected -= n_moved_rejected;
    next->entry.n_rejected += n_moved_rejected;
    return 0;
}

/* --- naming it ------------------------------------------------------------------ */

static int gather_dali(const struct prx_tar_shard *shard, struct prx_dali *dali)
{
    for (size_t i = 0; i < shard->n_places && !dali->is_unfit; i++) {
        const struct prx_tar_place *place = &shard->places[i];
        size_t end = i + 1 < shard->n_places ? place[1].i_member : shard->n_members;
        const char *key = shard->names.bytes + place->i_name;
        const char *field = key + strlen(key) + 1;
        prx_dali_begin(dali);
        for (size_t k = place->i_member; k < end; k++) {
            const struct prx_tar_member *member = &shard->members[k];
            PRX_TRY(prx_dali_member(dali, key, field, member->at_bytes,
                                    member->n_bytes));
            field += strlen(field) + 1;
        }
        PRX_TRY(prx_dali_end(dali));
    }
    return 0;
}

static int commit_dali(const struct prx_tar_shard *shard, const char *folder,
                       bool no_sync)
{
    struct prx_dali dali = {0};
    struct prx_str path = {0};
    int rc = 0;

    PRX_GO(gather_dali(shard, &dali));
    if (dali.is_unfit)
        goto out;
    PRX_GO(prx_str_printf(&path, "%s%s", folder, shard->name.bytes));
    rc = prx_dali_write(&dali, path.bytes, no_sync);
out:
    prx_str_release(&path);
    prx_dali_release(&dali);
    return rc;
}

int prx_tar_shard_commit(struct prx_tar_shard *shard, const char *folder, bool has_dali,
                         bool no_sync)
{
    struct iovec end = {(void *)(uintptr_t)zeros, PRX_TAR_END_BYTES};

    PRX_TRY(write_parts(shard, &end, 1));
    shard->is_begun = false;
    if (shard->is_stdout)
        return 0;
    prx_hasher_hex(shard->hasher, shard->entry.xxh128);
    if (has_dali)
        PRX_TRY(commit_dali(shard, folder, no_sync));
    return prx_outfile_commit(&shard->file, no_sync);
}
