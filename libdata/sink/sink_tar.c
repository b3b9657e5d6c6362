/* SPDX-License-Identifier: Apache-2.0 */
/*
 * Tar shards, one tar, or a tar on standard output.
 *
 * A sample is written by one writev: its headers from scratch memory, the bytes
 * of its fields from where they are.  A shard ends before the sample that would
 * make it larger than the limit, so where shards are cut depends on the samples
 * alone.  Behind a shard's last sample stand the two zero blocks that end a tar,
 * and nothing else.
 *
 * When a shard is whole, its DALI index and then the shard itself are synced
 * and renamed, then the journal is told.  So the journal never names what does
 * not stand; a kill in between costs one shard's work.
 */
#include <errno.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>
#include <unistd.h>

#include "libdata/hash.h"
#include "libdata/outfile.h"
#include "libdata/sink/sink_internal.h"

#define N_BLOCK_BYTES 512
#define N_END_BYTES   (2 * N_BLOCK_BYTES)

static const char zeros[N_END_BYTES];

/* "out/%06d.tar": folder "out/", head "", n_digits 6, tail ".tar". */
struct pattern {
    char *folder;
    char *head;
    char *tail;
    bool is_numbered; /* else head alone is the name */
    int n_digits;     /* at least so many, zeros before; 0: as many as it takes */
};

struct sink_tar {
    struct prx_sink base;
    bool is_stdout;
    struct pattern pattern;
    uint64_t n_shard_bytes_max;
    uint64_t n_shard_samples_max;
    bool no_sync;
    bool no_dali_index;
    struct prx_ledger ledger;

    struct prx_shard shard; /* being written; its name is shard_name */
    struct prx_str shard_name;
    bool is_open;
    struct prx_outfile file;
    struct prx_hasher *hasher;
    struct prx_str dali; /* lines of the .idx */
    bool is_dali_fit;    /* no name has a space in it */
    struct prx_str last_key;
    uint64_t n_shards_done;

    struct prx_str headers; /* of one sample */
    struct prx_str name;
    struct iovec *parts;
    size_t cap_parts;
};

static void pattern_release(struct pattern *pattern)
{
    free(pattern->folder);
    free(pattern->head);
    free(pattern->tail);
}

static int copy_text(const char *text, size_t n_text, char **out)
{
    *out = strndup(text, n_text);
    return *out ? 0 : prx_err_nomem("a name");
}

/* The word is the user's, and is never handed to printf. */
static int pattern_parse(struct pattern *pattern, const char *word)
{
    const char *slash = strrchr(word, '/');
    const char *base = slash ? slash + 1 : word;
    const char *percent = strchr(base, '%');

    if (strchr(word, '%') != percent || *base == '.')
        return prx_err(PRX_EINVAL, "%s: want a number or a name before .tar", word);
    PRX_TRY(copy_text(word, (size_t)(base - word), &pattern->folder));
    if (!percent) {
        PRX_TRY(copy_text(base, strlen(base), &pattern->head));
        return copy_text("", 0, &pattern->tail);
    }
    const char *p = percent + 1;
    if (p[0] == '0' && p[1] >= '1' && p[1] <= '9') {
        pattern->n_digits = p[1] - '0';
        p += 2;
    }
    if (*p != 'd' || strchr(p, '%'))
        return prx_err(PRX_EINVAL,
                       "%s: want one %%d, or one like %%06d, and no other %%", word);
    pattern->is_numbered = true;
    PRX_TRY(copy_text(base, (size_t)(percent - base), &pattern->head));
    return copy_text(p + 1, strlen(p + 1), &pattern->tail);
}

static int pattern_format(const struct pattern *pattern, uint64_t i_shard,
                          struct prx_str *name)
{
    prx_str_reset(name);
    if (!pattern->is_numbered)
        return prx_str_puts(name, pattern->head);
    return prx_str_printf(name, "%s%0*llu%s", pattern->head,
                          pattern->n_digits ? pattern->n_digits : 1,
                          (unsigned long long)i_shard, pattern->tail);
}

/* Is @name one that pattern_format() could make, or the .idx beside it? */
static bool pattern_is_output(const void *ctx, const char *name)
{
    const struct pattern *pattern = ctx;
    const char *tail = pattern->is_numbered ? pattern->tail : ".tar";
    size_t n_name = strlen(name), n_stem = strlen(tail) - 4;
    size_t n_head = strlen(pattern->head) - (pattern->is_numbered ? 0 : 4);
    size_t n_digits = 0;

    if (strncmp(name, pattern->head, n_head) != 0)
        return false;
    if (pattern->is_numbered) {
        n_digits = strspn(name + n_head, "0123456789");
        if (n_digits == 0 || n_digits < (size_t)pattern->n_digits)
            return false;
    }
    const char *rest = name + n_head + n_digits;
    if ((size_t)(name + n_name - rest) != n_stem + 4 ||
        strncmp(rest, tail, n_stem) != 0)
        return false;
    return strcmp(rest + n_stem, ".tar") == 0 || strcmp(rest + n_stem, ".idx") == 0;
}

static int shard_begin(struct sink_tar *tar)
{
    struct prx_str path = {0};
    int rc = 0;

    tar->is_open = true;
    tar->is_dali_fit = !tar->is_stdout && !tar->no_dali_index;
    prx_str_reset(&tar->dali);
    prx_str_reset(&tar->last_key);
    if (tar->is_stdout)
        return 0;
    prx_hasher_reset(tar->hasher);
    PRX_GO(pattern_format(&tar->pattern, tar->n_shards_done, &tar->shard_name));
    tar->shard.name = tar->shard_name.bytes;
    PRX_GO(prx_ledger_begin(&tar->ledger, tar->shard.name));
    PRX_GO(prx_str_printf(&path, "%s%s", tar->pattern.folder, tar->shard.name));
    PRX_GO(prx_outfile_open(&tar->file, path.bytes));
out:
    prx_str_release(&path);
    return rc;
}

/* Hash and write @parts; the hash sees them first, as writing changes them. */
static int write_parts(struct sink_tar *tar, int n_parts)
{
    for (int i = 0; i < n_parts; i++)
        tar->shard.n_bytes += tar->parts[i].iov_len;
    if (tar->is_stdout)
        return prx_writev_all(STDOUT_FILENO, "standard output", tar->parts, n_parts);
    for (int i = 0; i < n_parts; i++)
        prx_hasher_add(tar->hasher, tar->parts[i].iov_base, tar->parts[i].iov_len);
    return prx_outfile_writev(&tar->file, tar->parts, n_parts);
}

static int commit_dali(struct sink_tar *tar)
{
    struct prx_str path = {0};
    struct prx_outfile file = {.fd = -1};
    char head[32];
    int rc = 0;

    size_t n_stem = strlen(tar->shard.name) - 4;
    int n_head = snprintf(head, sizeof(head), "v1.2 %llu\n",
                          (unsigned long long)tar->shard.n_samples);
    PRX_GO(prx_str_printf(&path, "%s%.*s.idx", tar->pattern.folder, (int)n_stem,
                          tar->shard.name));
    PRX_GO(prx_outfile_open(&file, path.bytes));
    PRX_GO(prx_outfile_write(&file, head, (size_t)n_head));
    PRX_GO(prx_outfile_write(&file, tar->dali.bytes, tar->dali.n_bytes));
    PRX_GO(prx_outfile_commit(&file, tar->no_sync));
out:
    prx_outfile_abort(&file);
    prx_str_release(&path);
    return rc;
}

static int write_end(struct sink_tar *tar)
{
    tar->parts[0] = (struct iovec){(void *)(uintptr_t)zeros, N_END_BYTES};
    return write_parts(tar, 1);
}

/* Complete the open shard; input samples before @next_serial are settled. */
static int shard_commit(struct sink_tar *tar, uint64_t next_serial)
{
    tar->shard.next_serial = next_serial;
    PRX_TRY(write_end(tar));
    prx_hasher_hex(tar->hasher, tar->shard.xxh128);
    if (tar->is_dali_fit)
        PRX_TRY(commit_dali(tar));
    PRX_TRY(prx_outfile_commit(&tar->file, tar->no_sync));
    PRX_TRY(prx_ledger_put(&tar->ledger, &tar->shard));
    tar->is_open = false;
    tar->n_shards_done++;
    tar->shard = (struct prx_shard){
        .first_serial = next_serial,
        .next_serial = next_serial,
    };
    return 0;
}

static int reserve_parts(struct sink_tar *tar, size_t n_parts)
{
    if (n_parts <= tar->cap_parts)
        return 0;
    struct iovec *grown = realloc(tar->parts, n_parts * sizeof(*grown));
    if (!grown)
        return prx_err_nomem("a sample");
    tar->parts = grown;
    tar->cap_parts = n_parts;
    return 0;
}

/*
 * Lay out @sample in parts: header, bytes, padding a field.  Headers may move in
 * memory until all are made, so their addresses come last.
 */
static int lay_out(struct sink_tar *tar, const struct prx_sample *sample,
                   uint64_t *n_bytes)
{
    struct prx_str *headers = &tar->headers;

    prx_str_reset(headers);
    *n_bytes = 0;
    PRX_TRY(reserve_parts(tar, 3 * sample->n_fields));
    for (size_t i = 0; i < sample->n_fields; i++) {
        const struct prx_field *field = &sample->fields[i];
        size_t n_pad = -(size_t)field->n_bytes % N_BLOCK_BYTES;
        size_t n_before = headers->n_bytes;
        prx_str_reset(&tar->name);
        PRX_TRY(prx_str_printf(&tar->name, "%s.%s", sample->key, field->name));
        PRX_TRY(prx_tar_header(headers, tar->name.bytes, field->n_bytes));
        tar->parts[3 * i].iov_len = headers->n_bytes - n_before;
        tar->parts[3 * i + 1] =
            (struct iovec){field->bytes->bytes, (size_t)field->n_bytes};
        tar->parts[3 * i + 2] = (struct iovec){(void *)(uintptr_t)zeros, n_pad};
        *n_bytes += headers->n_bytes - n_before + field->n_bytes + n_pad;
    }
    char *header = headers->bytes;
    for (size_t i = 0; i < sample->n_fields; i++) {
        tar->parts[3 * i].iov_base = header;
        header += tar->parts[3 * i].iov_len;
    }
    return 0;
}

/* "ext offset size name" of each field, a line a sample (DALI wds2idx, v1.2). */
static int add_dali_line(struct sink_tar *tar, const struct prx_sample *sample)
{
    uint64_t at_bytes = tar->shard.n_bytes;

    if (!tar->is_dali_fit || strpbrk(sample->key, " ")) {
        tar->is_dali_fit = false;
        return 0;
    }
    for (size_t i = 0; i < sample->n_fields; i++) {
        const struct prx_field *field = &sample->fields[i];
        if (field->name[0] == '\0' || strchr(field->name, ' ')) {
            tar->is_dali_fit = false;
            return 0;
        }
        at_bytes += tar->parts[3 * i].iov_len;
        PRX_TRY(prx_str_printf(&tar->dali, "%s%s %llu %llu %s.%s", i ? " " : "",
                               field->name, (unsigned long long)at_bytes,
                               (unsigned long long)field->n_bytes, sample->key,
                               field->name));
        at_bytes += tar->parts[3 * i + 1].iov_len + tar->parts[3 * i + 2].iov_len;
    }
    return prx_str_puts(&tar->dali, "\n");
}

static bool is_full(const struct sink_tar *tar, uint64_t n_more_bytes)
{
    const struct prx_shard *shard = &tar->shard;

    if (!tar->pattern.is_numbered || !tar->is_open || shard->n_samples == 0)
        return false;
    return (tar->n_shard_samples_max && shard->n_samples >= tar->n_shard_samples_max) ||
           shard->n_bytes + n_more_bytes + N_END_BYTES > tar->n_shard_bytes_max;
}

static int reject(struct sink_tar *tar, const struct prx_sample *sample)
{
    tar->shard.n_rejected++;
    tar->shard.next_serial = sample->serial + 1;
    return tar->is_stdout ? 0 : prx_ledger_reject(&tar->ledger, sample);
}

static int tar_put(struct prx_sink *sink, struct prx_sample *sample)
{
    struct sink_tar *tar = (struct sink_tar *)sink;
    uint64_t n_bytes;

    if (tar->ledger.is_finished)
        return prx_err(PRX_EEXIST, "%s: complete already, but more input has come",
                       tar->ledger.index_path);
    if (sample->reject_reason)
        return reject(tar, sample);
    PRX_TRY(lay_out(tar, sample, &n_bytes));
    if (is_full(tar, n_bytes)) {
        struct iovec first = tar->parts[0];
        PRX_TRY(shard_commit(tar, sample->serial));
        tar->parts[0] = first;
    }
    if (tar->is_open && tar->last_key.bytes &&
        strcmp(tar->last_key.bytes, sample->key) == 0) {
        prx_sample_reject(sample, "write", "same key as the sample before it");
        return reject(tar, sample);
    }
    if (!tar->is_open)
        PRX_TRY(shard_begin(tar));
    PRX_TRY(add_dali_line(tar, sample));
    PRX_TRY(write_parts(tar, (int)(3 * sample->n_fields)));
    if (!tar->is_stdout && !tar->no_sync)
        prx_outfile_push(&tar->file);
    prx_str_reset(&tar->last_key);
    PRX_TRY(prx_str_puts(&tar->last_key, sample->key));
    tar->shard.n_samples++;
    tar->shard.next_serial = sample->serial + 1;
    return 0;
}

static int tar_finish(struct prx_sink *sink, json_t *extra,
                      struct prx_sink_totals *totals)
{
    struct sink_tar *tar = (struct sink_tar *)sink;

    /* One tar is always there, even with nothing in it. */
    if (!tar->is_open && !tar->ledger.is_finished && tar->n_shards_done == 0 &&
        !tar->pattern.is_numbered)
        PRX_TRY(shard_begin(tar));
    if (tar->is_stdout) {
        PRX_TRY(write_end(tar));
        *totals = (struct prx_sink_totals){tar->shard.n_samples, tar->shard.n_bytes, 1,
                                           tar->shard.n_rejected};
        return 0;
    }
    if (tar->is_open)
        PRX_TRY(shard_commit(tar, tar->shard.next_serial));
    /* Rejects behind the last sample belong to no shard. */
    if (!tar->ledger.is_finished)
        tar->ledger.index.n_rejected += tar->shard.n_rejected;
    return prx_ledger_finish(&tar->ledger, extra, totals);
}

static void tar_abort(struct prx_sink *sink)
{
    prx_outfile_abort(&((struct sink_tar *)sink)->file);
}

static void tar_release(struct prx_sink *sink)
{
    struct sink_tar *tar = (struct sink_tar *)sink;

    prx_outfile_abort(&tar->file);
    if (!tar->is_stdout)
        prx_ledger_release(&tar->ledger);
    prx_hasher_free(tar->hasher);
    pattern_release(&tar->pattern);
    prx_str_release(&tar->dali);
    prx_str_release(&tar->last_key);
    prx_str_release(&tar->headers);
    prx_str_release(&tar->name);
    prx_str_release(&tar->shard_name);
    free(tar->parts);
    free(tar);
}

static struct prx_ledger *tar_ledger(const struct prx_sink *sink)
{
    return &((struct sink_tar *)(uintptr_t)sink)->ledger;
}

/* Move @path to @to; moved by an earlier run, it stands there. */
static int move_file(const char *path, const char *to)
{
    struct stat st;

    if (rename(path, to) == 0 || (errno == ENOENT && stat(to, &st) == 0))
        return 0;
    return prx_err_sys("%s", path);
}

static int tar_adopt(struct prx_sink *sink, const char *path,
                     const struct prx_shard *shard)
{
    struct sink_tar *tar = (struct sink_tar *)sink;
    struct prx_ledger *ledger = &tar->ledger;
    struct prx_shard adopted = *shard;
    struct prx_str name = {0}, from = {0}, to = {0};
    int rc = 0;

    if (!path) {
        ledger->index.n_rejected += shard->n_rejected;
        return 0;
    }
    adopted.first_serial = ledger->index.n_shards;
    adopted.next_serial = adopted.first_serial + 1;
    PRX_GO(pattern_format(&tar->pattern, adopted.first_serial, &name));
    adopted.name = name.bytes;
    PRX_GO(prx_ledger_begin(ledger, name.bytes));
    PRX_GO(prx_str_puts(&from, path));
    PRX_GO(prx_str_printf(&to, "%s%s", tar->pattern.folder, name.bytes));
    /* Of the two the shard is last: where it stands, the other one does. */
    memcpy(from.bytes + from.n_bytes - 4, ".idx", 4);
    memcpy(to.bytes + to.n_bytes - 4, ".idx", 4);
    rc = move_file(from.bytes, to.bytes);
    if (rc < 0 && rc != PRX_ENOENT) /* a name with a space: it never had one */
        goto out;
    memcpy(to.bytes + to.n_bytes - 4, ".tar", 4);
    PRX_GO(move_file(path, to.bytes));
    PRX_GO(prx_ledger_put(ledger, &adopted));
out:
    prx_str_release(&name);
    prx_str_release(&from);
    prx_str_release(&to);
    return rc;
}

static const struct prx_sink_ops tar_ops = {tar_put, tar_finish, tar_release, tar_abort,
                                            tar_ledger, tar_adopt};

/* "x.tar" keeps its index and journal apart from those of its neighbours. */
static int open_ledger(struct sink_tar *tar, const struct prx_sink_opts *opts)
{
    const struct pattern *pattern = &tar->pattern;
    struct prx_str prefix = {0}, layout = {0};
    int rc = 0;

    PRX_GO(prx_str_puts(&prefix, ""));
    if (!pattern->is_numbered)
        PRX_GO(prx_str_printf(&prefix, "%.*s.", (int)strlen(pattern->head) - 4,
                              pattern->head));
    PRX_GO(prx_str_printf(&layout, "tar 1 %s %d %s bytes %llu samples %llu dali %d",
                          pattern->head, pattern->is_numbered ? pattern->n_digits : -1,
                          pattern->tail, (unsigned long long)tar->n_shard_bytes_max,
                          (unsigned long long)tar->n_shard_samples_max,
                          !tar->no_dali_index));
    struct prx_ledger_place place = {
        .folder = pattern->folder,
        .prefix = prefix.bytes,
        .layout = layout.bytes,
        .kind = PRX_INDEX_WIDS,
        .is_output = pattern_is_output,
        .ctx = pattern,
    };
    PRX_GO(prx_ledger_open(&tar->ledger, &place, opts));
    tar->n_shards_done = tar->ledger.index.n_shards;
    tar->shard.first_serial = tar->shard.next_serial = tar->ledger.n_done_serials;
out:
    prx_str_release(&prefix);
    prx_str_release(&layout);
    return rc;
}

static int open_stdout(struct sink_tar *tar, const struct prx_sink_opts *opts)
{
    tar->is_stdout = true;
    if (opts->exists == PRX_SINK_RESUME)
        return prx_err(PRX_EINVAL, "standard output cannot be resumed");
    if (isatty(STDOUT_FILENO))
        return prx_err(PRX_EINVAL,
                       "standard output is a terminal: a tar does not go there");
    return 0;
}

int prx_sink_tar_open(const char *word, const struct prx_sink_opts *opts,
                      uint64_t *n_done_serials, struct prx_sink **out)
{
    struct sink_tar *tar = calloc(1, sizeof(*tar));
    int rc = 0;

    if (!tar)
        return prx_err_nomem("a sink");
    tar->base.ops = &tar_ops;
    tar->file.fd = -1;
    tar->n_shard_bytes_max =
        opts->n_shard_bytes_max ? opts->n_shard_bytes_max : PRX_SHARD_BYTES_MAX;
    tar->n_shard_samples_max = opts->n_shard_samples_max;
    tar->no_sync = opts->no_sync;
    tar->no_dali_index = opts->no_dali_index;
    PRX_GO(reserve_parts(tar, 12));
    PRX_GO(prx_hasher_new(&tar->hasher));
    if (strcmp(word, "-") == 0) {
        PRX_GO(open_stdout(tar, opts));
    } else {
        PRX_GO(pattern_parse(&tar->pattern, word));
        PRX_GO(open_ledger(tar, opts));
    }
    *n_done_serials = tar->ledger.n_done_serials;
    *out = &tar->base;
out:
    if (rc < 0)
        tar_release(&tar->base);
    return rc;
}
