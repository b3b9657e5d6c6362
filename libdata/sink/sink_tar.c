/* SPDX-License-Identifier: Apache-2.0 */
/*
 * Tar shards, one tar, or a tar on standard output.
 *
 * A shard ends before the sample that would make it larger than the limit.  The
 * last one might then hold next to nothing; so a full shard is held back, without
 * its name, until the one behind it is full too.  Where the input ends first, and
 * the last shard is less than half full, the two share their samples evenly.  So
 * where shards are cut depends on the samples alone, and no name ever stands for
 * two different shards.
 *
 * When a shard is given out, its DALI index and then the shard itself are synced
 * and renamed, then the journal is told.  So the journal never names what does
 * not stand; a kill in between costs the work of two shards at most.
 */
#include <errno.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>
#include <unistd.h>

#include "libdata/sink/tar_shard_internal.h"

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

    struct prx_tar_shard shards[2];
    struct prx_tar_shard *filling; /* one of them, begun with its first sample */
    struct prx_tar_shard *held;    /* the other: full, or not begun */
    uint64_t n_shards_begun;
    struct prx_tar_blocks blocks; /* of one sample */
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

static int begin_shard(struct sink_tar *tar)
{
    struct prx_tar_shard *shard = tar->filling;

    if (!tar->is_stdout) {
        PRX_TRY(pattern_format(&tar->pattern, tar->n_shards_begun, &shard->name));
        PRX_TRY(prx_ledger_begin(&tar->ledger, shard->name.bytes));
    }
    tar->n_shards_begun++;
    return prx_tar_shard_begin(shard, tar->pattern.folder);
}

static int give_out(struct sink_tar *tar, struct prx_tar_shard *shard)
{
    tar->ledger.has_outputs = true;
    PRX_TRY(prx_tar_shard_commit(shard, tar->pattern.folder, !tar->no_dali_index,
                                 tar->no_sync));
    return tar->is_stdout ? 0 : prx_ledger_put(&tar->ledger, &shard->entry);
}

/* Hold back the shard that is full; input before @next_serial is settled in it. */
static int hold_shard(struct sink_tar *tar, uint64_t next_serial)
{
    struct prx_tar_shard *full = tar->filling;

    if (tar->held->is_begun)
        PRX_TRY(give_out(tar, tar->held));
    full->entry.next_serial = next_serial;
    tar->filling = tar->held;
    tar->held = full;
    tar->filling->entry = (struct prx_shard){
        .first_serial = next_serial,
        .next_serial = next_serial,
    };
    return 0;
}

/* May a shard be so large? */
static bool is_within(const struct sink_tar *tar, uint64_t n_bytes, uint64_t n_samples)
{
    return n_bytes + PRX_TAR_END_BYTES <= tar->n_shard_bytes_max &&
           (!tar->n_shard_samples_max || n_samples <= tar->n_shard_samples_max);
}

/* Its share of what it may be, by the limit that it is nearer to. */
static double fullness(const struct sink_tar *tar, uint64_t n_bytes, uint64_t n_samples)
{
    double of_bytes =
        (double)(n_bytes + PRX_TAR_END_BYTES) / (double)tar->n_shard_bytes_max;
    double of_samples = tar->n_shard_samples_max
                            ? (double)n_samples / (double)tar->n_shard_samples_max
                            : 0;
    return of_bytes > of_samples ? of_bytes : of_samples;
}

/* How many samples the held shard keeps, so that the emptier one is fullest. */
static size_t choose_cut(const struct sink_tar *tar)
{
    const struct prx_tar_shard *held = tar->held;
    uint64_t n_bytes = held->entry.n_bytes + tar->filling->entry.n_bytes;
    uint64_t n_samples = held->entry.n_samples + tar->filling->entry.n_samples;
    size_t n_kept = held->n_places;
    double most = 0;

    for (size_t n = held->n_places; n > 0; n--) {
        uint64_t n_first_bytes =
            n < held->n_places ? held->places[n].at_bytes : held->entry.n_bytes;
        if (!is_within(tar, n_bytes - n_first_bytes, n_samples - n))
            break;
        double first = fullness(tar, n_first_bytes, n);
        double second = fullness(tar, n_bytes - n_first_bytes, n_samples - n);
        double least = first < second ? first : second;
        if (least > most) {
            most = least;
            n_kept = n;
        }
    }
    return n_kept;
}

/* The last two shards share their samples, unless the last is half full. */
static int balance(struct sink_tar *tar)
{
    struct prx_tar_shard *held = tar->held, *last = tar->filling;

    if (fullness(tar, last->entry.n_bytes, last->entry.n_samples) >= 0.5)
        return 0;
    /* No reader could tell one key twice in a row; names begin with the first. */
    if (strcmp(held->last_key.bytes, last->names.bytes) == 0)
        return 0;
    size_t n_kept = choose_cut(tar);
    return n_kept < held->n_places ? prx_tar_shard_give(held, n_kept, last) : 0;
}

static bool is_full(const struct sink_tar *tar, uint64_t n_more_bytes)
{
    const struct prx_tar_shard *shard = tar->filling;

    return tar->pattern.is_numbered && shard->is_begun &&
           !is_within(tar, shard->entry.n_bytes + n_more_bytes,
                      shard->entry.n_samples + 1);
}

static int reject(struct sink_tar *tar, const struct prx_sample *sample)
{
    tar->filling->entry.n_rejected++;
    tar->filling->entry.next_serial = sample->serial + 1;
    return tar->is_stdout ? 0 : prx_ledger_reject(&tar->ledger, sample);
}

static int tar_put(struct prx_sink *sink, struct prx_sample *sample)
{
    struct sink_tar *tar = (struct sink_tar *)sink;

    if (tar->ledger.is_finished)
        return prx_err(PRX_EEXIST, "%s: complete already, but more input has come",
                       tar->ledger.index_path);
    if (sample->reject_reason)
        return reject(tar, sample);
    PRX_TRY(prx_tar_blocks_set(&tar->blocks, sample));
    if (is_full(tar, tar->blocks.n_bytes))
        PRX_TRY(hold_shard(tar, sample->serial));
    if (!tar->filling->is_begun) {
        PRX_TRY(begin_shard(tar));
    } else if (strcmp(tar->filling->last_key.bytes, sample->key) == 0) {
        prx_sample_reject(sample, "write", "same key as the sample before it");
        return reject(tar, sample);
    }
    return prx_tar_shard_put(tar->filling, sample, &tar->blocks, tar->no_sync);
}

static int tar_finish(struct prx_sink *sink, json_t *extra,
                      struct prx_sink_totals *totals)
{
    struct sink_tar *tar = (struct sink_tar *)sink;
    const struct prx_shard *last = &tar->filling->entry;

    /* One tar is always there, even with nothing in it. */
    if (!tar->filling->is_begun && !tar->ledger.is_finished &&
        tar->n_shards_begun == 0 && !tar->pattern.is_numbered)
        PRX_TRY(begin_shard(tar));
    if (tar->held->is_begun) {
        PRX_TRY(balance(tar));
        PRX_TRY(give_out(tar, tar->held));
    }
    if (tar->filling->is_begun)
        PRX_TRY(give_out(tar, tar->filling));
    else if (!tar->ledger.is_finished) /* Rejects alone belong to no shard. */
        tar->ledger.index.n_rejected += last->n_rejected;
    if (!tar->is_stdout)
        return prx_ledger_finish(&tar->ledger, extra, totals);
    *totals = (struct prx_sink_totals){last->n_samples, last->n_bytes, 1,
                                       last->n_rejected};
    return 0;
}

static void tar_abort(struct prx_sink *sink)
{
    struct sink_tar *tar = (struct sink_tar *)sink;

    prx_tar_shard_abort(tar->held);
    prx_tar_shard_abort(tar->filling);
}

static void tar_release(struct prx_sink *sink)
{
    struct sink_tar *tar = (struct sink_tar *)sink;

    prx_tar_shard_release(&tar->shards[0]);
    prx_tar_shard_release(&tar->shards[1]);
    prx_tar_blocks_release(&tar->blocks);
    if (!tar->is_stdout)
        prx_ledger_release(&tar->ledger);
    pattern_release(&tar->pattern);
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
    ledger->has_outputs = true;
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
    PRX_GO(prx_str_printf(&layout, "tar 2 %s %d %s bytes %llu samples %llu dali %d",
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
    tar->n_shards_begun = tar->ledger.index.n_shards;
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

static int init_shards(struct sink_tar *tar)
{
    for (size_t i = 0; i < 2; i++) {
        struct prx_tar_shard *shard = &tar->shards[i];
        PRX_TRY(prx_tar_shard_init(shard));
        shard->is_stdout = tar->is_stdout;
        /* Only a numbered shard gives samples to the next one. */
        shard->is_recorded =
            !tar->is_stdout && (tar->pattern.is_numbered || !tar->no_dali_index);
    }
    tar->filling->entry.first_serial = tar->ledger.n_done_serials;
    tar->filling->entry.next_serial = tar->ledger.n_done_serials;
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
    tar->filling = &tar->shards[0];
    tar->held = &tar->shards[1];
    tar->n_shard_bytes_max =
        opts->n_shard_bytes_max ? opts->n_shard_bytes_max : PRX_SHARD_BYTES_MAX;
    tar->n_shard_samples_max = opts->n_shard_samples_max;
    tar->no_sync = opts->no_sync;
    tar->no_dali_index = opts->no_dali_index;
    if (strcmp(word, "-") == 0) {
        PRX_GO(open_stdout(tar, opts));
    } else {
        PRX_GO(pattern_parse(&tar->pattern, word));
        PRX_GO(open_ledger(tar, opts));
    }
    PRX_GO(init_shards(tar));
    *n_done_serials = tar->ledger.n_done_serials;
    *out = &tar->base;
out:
    if (rc < 0)
        tar_release(&tar->base);
    return rc;
}
