/* SPDX-License-Identifier: Apache-2.0 */
/*
 * "lmdb:PATH": an LMDB environment, an entry a field, named KEY.FIELD.
 *
 * Samples go into one write transaction until they are N_BATCH_SAMPLES or
 * N_BATCH_BYTES, which is then committed: its data synced, its head left to the next
 * sync (MDB_NOMETASYNC), so that a crash of the system costs the last batch and
 * never the whole.  A batch is kept in memory until it is committed: where the map
 * is full it is given up, the map doubled, and the batch put again.
 *
 * How far the work is stands in the environment itself, under the name
 * PRX_LMDB_PROGRESS, written by the transaction that writes the samples, so the two
 * cannot disagree.  The journal is told before, with the rejects; of its marks those
 * beyond it are not believed.  The last transaction removes it: an environment that
 * has entries but not this one is complete.
 *
 *     begin ─▶ put … put ─▶ mark in journal ─▶ commit, with progress ┐
 *                ▲                                                   │
 *                └───────────────────────────────────────────────────┘
 *     finish ─▶ mark in journal ─▶ commit, without ─▶ sync ─▶ index.json
 *
 * Never MDB_WRITEMAP: it writes by storing to memory, where a full disk is SIGBUS;
 * by pwrite(2) it is ENOSPC, an error that leaves what is committed as it was.
 *
 * A write transaction belongs to the thread that began it: all calls of one sink,
 * from its first sample on, come from one thread.
 */
#include <errno.h>
#include <inttypes.h>
#include <lmdb.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>
#include <sys/vfs.h>
#include <unistd.h>

#include "libdata/lmdb_internal.h"
#include "libdata/log.h"
#include "libdata/sink/sink_internal.h"

#define N_BATCH_BYTES   ((uint64_t)8 << 20)
#define N_BATCH_SAMPLES 256
#define N_ROOM_BYTES    ((uint64_t)256 << 20) /* of the map, beyond the file */
#define N_STEP_BYTES    ((uint64_t)64 << 10)  /* maps are a multiple of this */

/* An entry of the batch. */
struct put {
    size_t name_place; /* in names */
    size_t n_name;
    struct prx_buf *bytes;
};

struct sink_lmdb {
    struct prx_sink base;
    char *folder; /* with a slash behind */
    char *data_path;
    uint64_t n_room_bytes;
    bool no_sync;
    struct prx_ledger ledger;
    struct prx_lmdb_remains remains;
    bool has_remains;      /* read, when the journal first asked */
    struct prx_shard mark; /* what the next mark will say */

    MDB_env *env; /* NULL before the first sample */
    MDB_txn *txn;
    MDB_dbi dbi;
    uint64_t n_map_bytes;

    struct put *puts; /* the batch */
    size_t n_puts, cap_puts;
    struct prx_str names;
    uint64_t n_batch_bytes;
    struct prx_str prefix; /* scratch */
};

static int fail(const struct sink_lmdb *lmdb, int code)
{
    return prx_err_lmdb(code, lmdb->data_path);
}

static int holds(const void *ctx, const struct prx_shard *mark)
{
    struct sink_lmdb *lmdb = (struct sink_lmdb *)(uintptr_t)ctx;

    if (!lmdb->has_remains)
        PRX_TRY(prx_lmdb_remains_read(lmdb->folder, lmdb->data_path, &lmdb->remains));
    lmdb->has_remains = true;
    return lmdb->remains.is_complete ||
           mark->next_serial <= lmdb->remains.n_progress;
}

static bool is_output(const void *ctx, const char *name)
{
    (void)ctx;
    return strcmp(name, PRX_LMDB_DATA) == 0;
}

/* --- the environment --------------------------------------------------------- */

/* LMDB's file is mapped, and its locks are in a mapped file: both want one machine. */
static void warn_of_network(const struct sink_lmdb *lmdb)
{
    static const struct {
        unsigned long type;
        const char *name;
    } rows[] = {
        {0x6969, "NFS"},
        {0x517b, "SMB"},
        {0xfe534d42, "SMB"},
        {0xff534d42, "CIFS"},
        {0x01021997, "9P"},
        {0x65735546, "FUSE"},
        {0x00c36400, "Ceph"},
        {0x5346414f, "AFS"},
        {0x0bd00bd0, "Lustre"},
        {0x47504653, "GPFS"},
    };
    struct statfs fs;

    if (statfs(lmdb->folder, &fs) < 0)
        return;
    for (size_t i = 0; i < sizeof(rows) / sizeof(*rows); i++)
        if (rows[i].type == ((unsigned long)fs.f_type & 0xffffffff))
            prx_log_warning("%s: on %s; LMDB is safe only on a file system of one "
                            "machine: let nobody else open it while it is written",
                            lmdb->data_path, rows[i].name);
}

static int set_map(struct sink_lmdb *lmdb, uint64_t n_bytes)
{
    lmdb->n_map_bytes = (n_bytes + N_STEP_BYTES - 1) / N_STEP_BYTES * N_STEP_BYTES;
    return mdb_env_set_mapsize(lmdb->env, (size_t)lmdb->n_map_bytes);
}

/* Give up the transaction, not the batch, and make the map larger. */
static int grow(struct sink_lmdb *lmdb)
{
    if (lmdb->txn)
        mdb_txn_abort(lmdb->txn);
    lmdb->txn = NULL;
    int code = set_map(lmdb, 2 * lmdb->n_map_bytes);
    return code ? fail(lmdb, code) : 0;
}

static int env_open(struct sink_lmdb *lmdb)
{
    unsigned flags = lmdb->no_sync ? MDB_NOSYNC : MDB_NOMETASYNC;
    struct stat st;
    uint64_t n_bytes = stat(lmdb->data_path, &st) == 0 ? (uint64_t)st.st_size : 0;

    int code = mdb_env_create(&lmdb->env);
    if (code == 0)
        code = set_map(lmdb, n_bytes + lmdb->n_room_bytes);
    if (code == 0)
        code = mdb_env_open(lmdb->env, lmdb->folder, flags, 0666);
    return code ? fail(lmdb, code) : 0;
}

static int begin(struct sink_lmdb *lmdb)
{
    if (lmdb->env)
        return 0;
    warn_of_network(lmdb);
    PRX_TRY(prx_ledger_begin(&lmdb->ledger, PRX_LMDB_DATA));
    lmdb->ledger.has_outputs = true;
    return env_open(lmdb);
}

static void env_close(struct sink_lmdb *lmdb)
{
    if (lmdb->txn)
        mdb_txn_abort(lmdb->txn);
    if (lmdb->env)
        mdb_env_close(lmdb->env);
    lmdb->txn = NULL;
    lmdb->env = NULL;
}

/* A lock file without its data is nobody's: who still has it open reads a file that
 * has gone. */
static int remove_files(const struct sink_lmdb *lmdb)
{
    struct prx_str lock = {0};
    int rc = prx_str_printf(&lock, "%s" PRX_LMDB_LOCK, lmdb->folder);

    if (rc == 0 && unlink(lmdb->data_path) < 0 && errno != ENOENT)
        rc = prx_err_sys("%s", lmdb->data_path);
    if (rc == 0 && unlink(lock.bytes) < 0 && errno != ENOENT)
        rc = prx_err_sys("%s", lock.bytes);
    prx_str_release(&lock);
    return rc;
}

/* --- batches ----------------------------------------------------------------- */

static MDB_val name_of(const struct sink_lmdb *lmdb, const struct put *put)
{
    return (MDB_val){put->n_name, lmdb->names.bytes + put->name_place};
}

/* The open transaction, or a new one. */
static int need_txn(struct sink_lmdb *lmdb)
{
    if (lmdb->txn)
        return 0;
    int code = mdb_txn_begin(lmdb->env, NULL, 0, &lmdb->txn);
    if (code != 0)
        lmdb->txn = NULL;
    return code ? code : mdb_dbi_open(lmdb->txn, NULL, 0, &lmdb->dbi);
}

/* Put what the transaction lacks of the batch: all from @i_first on, or just all. */
static int write_batch(struct sink_lmdb *lmdb, size_t i_first)
{
    static uint8_t nothing[1];

    for (;;) {
        size_t i = lmdb->txn ? i_first : 0;
        int code = need_txn(lmdb);
        for (; code == 0 && i < lmdb->n_puts; i++) {
            const struct prx_buf *bytes = lmdb->puts[i].bytes;
            MDB_val name = name_of(lmdb, &lmdb->puts[i]);
            MDB_val value = {bytes->n_bytes, bytes->n_bytes ? bytes->bytes : nothing};
            code = mdb_put(lmdb->txn, lmdb->dbi, &name, &value, MDB_NOOVERWRITE);
        }
        if (code != MDB_MAP_FULL)
            return code ? fail(lmdb, code) : 0;
        PRX_TRY(grow(lmdb));
    }
}

static void drop_batch(struct sink_lmdb *lmdb)
{
    for (size_t i = 0; i < lmdb->n_puts; i++)
        prx_buf_unref(lmdb->puts[i].bytes);
    lmdb->n_puts = 0;
    lmdb->n_batch_bytes = 0;
    prx_str_reset(&lmdb->names);
}

static int write_progress(struct sink_lmdb *lmdb, bool is_last)
{
    MDB_val name = {strlen(PRX_LMDB_PROGRESS), (void *)(uintptr_t)PRX_LMDB_PROGRESS};
    MDB_val value = {sizeof(lmdb->mark.next_serial), &lmdb->mark.next_serial};

    if (!is_last)
        return mdb_put(lmdb->txn, lmdb->dbi, &name, &value, 0);
    int code = mdb_del(lmdb->txn, lmdb->dbi, &name, NULL);
    return code == MDB_NOTFOUND ? 0 : code;
}

/* What liblmdb calls EIO is also a write that a full disk has cut short. */
static int fail_to_commit(const struct sink_lmdb *lmdb, int code)
{
    struct statfs fs;

    if (code == EIO && statfs(lmdb->folder, &fs) == 0 &&
        (uint64_t)fs.f_bavail * (uint64_t)fs.f_bsize < lmdb->n_batch_bytes)
        code = ENOSPC;
    return fail(lmdb, code);
}

/* Commit the batch, and how far the work then is; @is_last: it is complete. */
static int commit(struct sink_lmdb *lmdb, bool is_last)
{
    int code;

    if (lmdb->mark.next_serial > lmdb->mark.first_serial)
        PRX_TRY(prx_ledger_put(&lmdb->ledger, &lmdb->mark));
    for (;;) {
        PRX_TRY(write_batch(lmdb, lmdb->n_puts));
        code = write_progress(lmdb, is_last);
        if (code == 0) {
            code = mdb_txn_commit(lmdb->txn);
            lmdb->txn = NULL;
        }
        if (code != MDB_MAP_FULL)
            break;
        PRX_TRY(grow(lmdb));
    }
    if (code != 0)
        return fail_to_commit(lmdb, code);
    drop_batch(lmdb);
    lmdb->mark = (struct prx_shard){
        .name = lmdb->mark.name,
        .first_serial = lmdb->mark.next_serial,
        .next_serial = lmdb->mark.next_serial,
    };
    return 0;
}

/* --- samples ----------------------------------------------------------------- */

/*
 * Does a sample of @key have fields here?  "a.k/b.jpg" begins with "a." too, but is
 * not of sample "a": such folders are stepped over.
 */
static int find_sample(struct sink_lmdb *lmdb, const char *key, bool *is_there)
{
    struct prx_str *seek = &lmdb->prefix;
    size_t n_prefix = strlen(key) + 1;
    MDB_cursor *cursor;
    int rc = 0;

    *is_there = false;
    prx_str_reset(seek);
    PRX_TRY(prx_str_printf(seek, "%s.", key));
    int code = mdb_cursor_open(lmdb->txn, lmdb->dbi, &cursor);
    if (code != 0)
        return fail(lmdb, code);
    for (;;) {
        MDB_val name = {seek->n_bytes, seek->bytes};
        code = mdb_cursor_get(cursor, &name, NULL, MDB_SET_RANGE);
        const char *found = name.mv_data;
        if (code != 0 || name.mv_size < n_prefix ||
            memcmp(found, key, n_prefix - 1) != 0 || found[n_prefix - 1] != '.')
            break;
        const char *slash = memchr(found + n_prefix, '/', name.mv_size - n_prefix);
        *is_there = !slash;
        if (*is_there)
            break;
        /* The least name behind all that begin as this one does up to its slash. */
        size_t n_folder = (size_t)(slash - found);
        prx_str_reset(seek);
        PRX_GO(prx_str_add(seek, found, n_folder));
        PRX_GO(prx_str_puts(seek, "0"));
    }
    if (code != 0 && code != MDB_NOTFOUND)
        rc = fail(lmdb, code);
out:
    mdb_cursor_close(cursor);
    return rc;
}

/* Reject @sample where LMDB cannot hold it: all of it, before any of it is put. */
static int judge(struct sink_lmdb *lmdb, struct prx_sample *sample)
{
    size_t n_name_max = (size_t)mdb_env_get_maxkeysize(lmdb->env);
    size_t n_key = strlen(sample->key);
    bool is_there;

    for (size_t i = 0; i < sample->n_fields; i++) {
        const struct prx_field *field = &sample->fields[i];
        size_t n_name = n_key + 1 + strlen(field->name);
        if (n_name > n_name_max)
            prx_sample_reject(sample, "write",
                              "a name of %zu bytes, and LMDB takes %zu", n_name,
                              n_name_max);
        else if (field->n_bytes > UINT32_MAX)
            prx_sample_reject(sample, "write",
                              "field %s of %" PRIu64 " bytes, and LMDB takes %" PRIu32,
                              field->name, field->n_bytes, UINT32_MAX);
    }
    if (sample->reject_reason)
        return 0;
    PRX_TRY(write_batch(lmdb, lmdb->n_puts));
    PRX_TRY(find_sample(lmdb, sample->key, &is_there));
    if (is_there)
        prx_sample_reject(sample, "write", "a sample of the same key is there already");
    return 0;
}

static int keep(struct sink_lmdb *lmdb, const char *key, const struct prx_field *field)
{
    if (lmdb->n_puts == lmdb->cap_puts) {
        size_t cap = lmdb->cap_puts ? lmdb->cap_puts * 2 : 1024;
        struct put *grown = realloc(lmdb->puts, cap * sizeof(*grown));
        if (!grown)
            return prx_err_nomem("a batch of samples");
        lmdb->puts = grown;
        lmdb->cap_puts = cap;
    }
    size_t place = lmdb->names.n_bytes;
    PRX_TRY(prx_str_printf(&lmdb->names, "%s.%s", key, field->name));
    lmdb->puts[lmdb->n_puts++] = (struct put){
        .name_place = place,
        .n_name = lmdb->names.n_bytes - place,
        .bytes = prx_buf_ref(field->bytes),
    };
    lmdb->n_batch_bytes += field->n_bytes;
    return 0;
}

static int put_sample(struct sink_lmdb *lmdb, const struct prx_sample *sample)
{
    size_t i_first = lmdb->n_puts;

    for (size_t i = 0; i < sample->n_fields; i++)
        PRX_TRY(keep(lmdb, sample->key, &sample->fields[i]));
    return write_batch(lmdb, i_first);
}

static int lmdb_put(struct prx_sink *sink, struct prx_sample *sample)
{
    struct sink_lmdb *lmdb = (struct sink_lmdb *)sink;
    struct prx_shard *mark = &lmdb->mark;

    if (lmdb->ledger.is_finished)
        return prx_err(PRX_EEXIST, "%s: complete already, but more input has come",
                       lmdb->ledger.index_path);
    PRX_TRY(begin(lmdb));
    if (!sample->reject_reason)
        PRX_TRY(judge(lmdb, sample));
    if (sample->reject_reason) {
        PRX_TRY(prx_ledger_reject(&lmdb->ledger, sample));
        mark->n_rejected++;
    } else {
        PRX_TRY(put_sample(lmdb, sample));
        mark->n_samples++;
    }
    mark->next_serial = sample->serial + 1;
    if (mark->next_serial - mark->first_serial >= N_BATCH_SAMPLES ||
        lmdb->n_batch_bytes >= N_BATCH_BYTES)
        return commit(lmdb, false);
    return 0;
}

/* All is in the environment: what the marks have counted is now one shard's. */
static int sum_up(struct sink_lmdb *lmdb)
{
    static char name[] = PRX_LMDB_DATA;
    struct prx_index *index = &lmdb->ledger.index;
    struct prx_shard all = {
        .name = name,
        .n_samples = index->n_samples,
        .n_rejected = index->n_rejected,
    };
    struct stat st;

    if (stat(lmdb->data_path, &st) < 0)
        return prx_err_sys("%s", lmdb->data_path);
    all.n_bytes = (uint64_t)st.st_size;
    prx_index_cut(index, 0);
    return prx_index_add(index, &all);
}

static int lmdb_finish(struct prx_sink *sink, json_t *extra,
                       struct prx_sink_totals *totals)
{
    struct sink_lmdb *lmdb = (struct sink_lmdb *)sink;

    if (!lmdb->ledger.is_finished) {
        PRX_TRY(begin(lmdb));
        PRX_TRY(commit(lmdb, true));
        int code = mdb_env_sync(lmdb->env, 1);
        if (code != 0)
            return fail(lmdb, code);
        env_close(lmdb);
        PRX_TRY(sum_up(lmdb));
    }
    return prx_ledger_finish(&lmdb->ledger, extra, totals);
}

/* The batch is dropped.  Where nothing was ever committed nothing is left behind. */
static void lmdb_abort(struct prx_sink *sink)
{
    struct sink_lmdb *lmdb = (struct sink_lmdb *)sink;
    bool is_begun = lmdb->env != NULL;
    struct prx_error error;

    env_close(lmdb);
    if (!is_begun || lmdb->ledger.index.n_shards > 0)
        return;
    prx_err_save(&error); /* why it is aborted is what is told */
    if (remove_files(lmdb) == 0)
        lmdb->ledger.has_outputs = false;
    prx_err_clear();
    if (error.code < 0)
        prx_err_restore(&error);
}

static void lmdb_release(struct prx_sink *sink)
{
    struct sink_lmdb *lmdb = (struct sink_lmdb *)sink;

    env_close(lmdb);
    drop_batch(lmdb);
    prx_ledger_release(&lmdb->ledger);
    prx_str_release(&lmdb->names);
    prx_str_release(&lmdb->prefix);
    free(lmdb->puts);
    free(lmdb->folder);
    free(lmdb->data_path);
    free(lmdb);
}

static struct prx_ledger *lmdb_ledger(const struct prx_sink *sink)
{
    return &((struct sink_lmdb *)(uintptr_t)sink)->ledger;
}

static const struct prx_sink_ops lmdb_ops = {lmdb_put, lmdb_finish, lmdb_release,
                                             lmdb_abort, lmdb_ledger, NULL};

static int set_paths(struct sink_lmdb *lmdb, const char *path)
{
    struct prx_str text = {0};
    int rc = 0;

    if (*path == '\0')
        return prx_err(PRX_EINVAL, PRX_LMDB_SCHEME ": want a folder behind it");
    PRX_GO(prx_str_puts(&text, path));
    if (text.bytes[text.n_bytes - 1] != '/')
        PRX_GO(prx_str_puts(&text, "/"));
    PRX_GO(prx_strdup(text.bytes, &lmdb->folder));
    PRX_GO(prx_str_puts(&text, PRX_LMDB_DATA));
    PRX_GO(prx_strdup(text.bytes, &lmdb->data_path));
out:
    prx_str_release(&text);
    return rc;
}

int prx_sink_lmdb_open_room(const char *word, const struct prx_sink_opts *opts,
                            uint64_t n_room_bytes, uint64_t *n_done_serials,
                            struct prx_sink **out)
{
    static char no_name[] = "";
    struct sink_lmdb *lmdb = calloc(1, sizeof(*lmdb));
    int rc = 0;

    if (!lmdb)
        return prx_err_nomem("a sink");
    lmdb->base.ops = &lmdb_ops;
    lmdb->no_sync = opts->no_sync;
    lmdb->n_room_bytes = n_room_bytes;
    PRX_GO(set_paths(lmdb, word + strlen(PRX_LMDB_SCHEME)));
    struct prx_ledger_place place = {
        .folder = lmdb->folder,
        .prefix = "",
        .layout = "lmdb 1",
        .kind = PRX_INDEX_LMDB,
        .is_output = is_output,
        .ctx = lmdb,
        .holds = holds,
    };
    PRX_GO(prx_ledger_open(&lmdb->ledger, &place, opts));
    if (lmdb->ledger.n_done_serials == 0 && !lmdb->ledger.is_finished)
        PRX_GO(remove_files(lmdb));
    lmdb->mark.name = no_name;
    lmdb->mark.first_serial = lmdb->mark.next_serial = lmdb->ledger.n_done_serials;
    *n_done_serials = lmdb->ledger.n_done_serials;
    *out = &lmdb->base;
out:
    if (rc < 0)
        lmdb_release(&lmdb->base);
    return rc;
}

int prx_sink_lmdb_open(const char *word, const struct prx_sink_opts *opts,
                       uint64_t *n_done_serials, struct prx_sink **out)
{
    return prx_sink_lmdb_open_room(word, opts, N_ROOM_BYTES, n_done_serials, out);
}
