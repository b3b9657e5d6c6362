/* SPDX-License-Identifier: Apache-2.0 */
/*
 * An LMDB environment: an entry a field, named KEY.FIELD, in byte order of names.
 *
 * liblmdb holds a read transaction while the source is open, so that writers leave
 * the pages of its state alone; the entries themselves are read by lmdb_tree.c.  A
 * field says where its bytes lie in data.mdb, and whoever works on the sample reads
 * them there: such places are good while the source is open.  Where the lock file
 * cannot be written (a read-only file system, somebody else's folder) there is no
 * such protection, and nobody should write meanwhile.
 *
 * The entries of a sample have the prefix "KEY." in common, which others may have
 * too: folders may have dots, so "a.jpg" and "a.txt" can have "a.k/b.jpg" between
 * them.  But of any two prefixes one holds the other, or they are apart; so samples
 * that are being gathered form a stack, and one is whole at the first name that does
 * not begin with its prefix.
 *
 * Where pages are lost, every sample is rejected that may have had a field there:
 * those being gathered, and those whose range had begun before the first name
 * behind the gap.
 */
#include <errno.h>
#include <inttypes.h>
#include <lmdb.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

#include "libdata/index.h"
#include "libdata/lmdb_internal.h"
#include "libdata/skip.h"
#include "libdata/source/lmdb_tree_internal.h"
#include "libdata/source/source_internal.h"

#define N_PIN_TRIES 100 /* against a writer that commits faster than we look */

struct gathered {
    struct prx_str prefix; /* "KEY.", as it is in the file */
    struct prx_sample sample;
};

struct source_lmdb {
    struct prx_source base;
    char *path;      /* of the environment, as the user named it */
    char *data_path; /* of its file */
    bool is_file;    /* it is one file, not a folder (MDB_NOSUBDIR) */
    uint64_t n_member_bytes_max;
    struct prx_skip skip;
    MDB_env *env;
    MDB_txn *pin;
    struct prx_lmdb_tree tree;
    char *damage; /* of the file as a whole: one reject is all it yields */

    struct prx_lmdb_entry entry; /* looked at, not yet taken */
    bool has_entry;
    struct gathered *stack;
    size_t n_stack, cap_stack;
    struct prx_str name;
    struct prx_str gap;     /* the fault at the last gap; empty: there was none */
    struct prx_str gap_end; /* first name behind it; empty: none has come yet */
};

static struct source_lmdb *lmdb_of(struct prx_source *source)
{
    return (struct source_lmdb *)source;
}

/* --- opening ---------------------------------------------------------------- */

static int set_text(struct prx_str *str, const char *text, size_t n_text)
{
    prx_str_reset(str);
    return prx_str_add(str, text, n_text);
}

/* @path may be the folder, its data.mdb, or a file that is an environment. */
static int set_paths(struct source_lmdb *lmdb, const char *path)
{
    static const char *const data[] = {"/" PRX_LMDB_DATA, NULL};
    struct prx_str text = {0};
    struct stat st;
    int rc = 0;

    if (stat(path, &st) < 0)
        return prx_err_sys("%s", path);
    if (S_ISDIR(st.st_mode)) {
        PRX_GO(prx_str_puts(&text, path));
        while (text.n_bytes > 1 && text.bytes[text.n_bytes - 1] == '/')
            text.bytes[--text.n_bytes] = '\0';
    } else if (strcmp(path, PRX_LMDB_DATA) == 0) {
        PRX_GO(prx_str_puts(&text, "."));
    } else if (prx_path_ends_with(path, data)) {
        PRX_GO(prx_str_add(&text, path, strlen(path) - strlen(data[0])));
    } else {
        lmdb->is_file = true;
        PRX_GO(prx_str_puts(&text, path));
    }
    PRX_GO(prx_strdup(text.bytes, &lmdb->path));
    if (!lmdb->is_file)
        PRX_GO(prx_str_puts(&text, data[0]));
    PRX_GO(prx_strdup(text.bytes, &lmdb->data_path));
out:
    prx_str_release(&text);
    return rc;
}

static void env_close(struct source_lmdb *lmdb)
{
    if (lmdb->pin)
        mdb_txn_abort(lmdb->pin);
    if (lmdb->env)
        mdb_env_close(lmdb->env);
    lmdb->pin = NULL;
    lmdb->env = NULL;
}

static int env_open(struct source_lmdb *lmdb, unsigned flags)
{
    struct stat st;

    int code = stat(lmdb->data_path, &st) < 0 ? errno : mdb_env_create(&lmdb->env);
    /* Nothing is read through its map: it need not be as large as its head says. */
    if (code == 0)
        code = mdb_env_set_mapsize(lmdb->env, (size_t)st.st_size);
    if (code == 0)
        code = mdb_env_open(lmdb->env, lmdb->path, flags, 0666);
    if (code != 0)
        env_close(lmdb);
    return code;
}

/* One try to hold the newest state; 0 in *@is_held: it has been written over. */
static int pin(struct source_lmdb *lmdb, bool *is_held)
{
    *is_held = false;
    int code = mdb_txn_begin(lmdb->env, NULL, MDB_RDONLY, &lmdb->pin);
    if (code == MDB_MAP_RESIZED) {
        struct stat st;
        code = stat(lmdb->data_path, &st) < 0
                   ? errno
                   : mdb_env_set_mapsize(lmdb->env, (size_t)st.st_size);
        return code ? prx_err_lmdb(code, lmdb->path) : 0;
    }
    if (code != 0)
        return prx_err_lmdb(code, lmdb->path);
    int got = prx_lmdb_tree_begin(&lmdb->tree, mdb_txn_id(lmdb->pin));
    *is_held = got == 1;
    if (got == 0) {
        mdb_txn_abort(lmdb->pin);
        lmdb->pin = NULL;
    }
    return got < 0 ? got : 0;
}

static int open_env(struct source_lmdb *lmdb)
{
    unsigned flags = MDB_RDONLY | MDB_NOTLS | (lmdb->is_file ? MDB_NOSUBDIR : 0);
    bool is_held = false;

    PRX_TRY(prx_lmdb_tree_open(&lmdb->tree, lmdb->data_path));
    int code = env_open(lmdb, flags);
    if (code == EACCES || code == EPERM || code == EROFS)
        code = env_open(lmdb, flags | MDB_NOLOCK);
    if (code != 0)
        return prx_err_lmdb(code, lmdb->path);
    for (int i = 0; i < N_PIN_TRIES && !is_held; i++)
        PRX_TRY(pin(lmdb, &is_held));
    if (!is_held)
        return prx_err(PRX_EIO, "%s: changes too fast to be read", lmdb->path);
    return 0;
}

/* How many samples an index of ours beside the data tells of; 0: nobody knows. */
static uint64_t read_total(const struct source_lmdb *lmdb)
{
    struct prx_index index = {0};
    struct prx_str path = {0};
    uint64_t n_samples = 0;

    if (!lmdb->is_file && prx_str_printf(&path, "%s/index.json", lmdb->path) == 0 &&
        prx_index_read(path.bytes, &index) == 0 && index.n_shards == 1 &&
        strcmp(index.shards[0].name, PRX_LMDB_DATA) == 0)
        n_samples = index.n_samples;
    prx_err_clear();
    prx_index_release(&index);
    prx_str_release(&path);
    return n_samples;
}

/* --- samples ---------------------------------------------------------------- */

static bool begins_with(const char *name, size_t n_name, const struct prx_str *prefix)
{
    return n_name >= prefix->n_bytes &&
           memcmp(name, prefix->bytes, prefix->n_bytes) == 0;
}

static int push(struct source_lmdb *lmdb, struct gathered **out)
{
    if (lmdb->n_stack == lmdb->cap_stack) {
        size_t cap = lmdb->cap_stack ? lmdb->cap_stack * 2 : 4;
        struct gathered *grown = realloc(lmdb->stack, cap * sizeof(*grown));
        if (!grown)
            return prx_err_nomem("samples of an LMDB");
        lmdb->stack = grown;
        lmdb->cap_stack = cap;
    }
    *out = &lmdb->stack[lmdb->n_stack++];
    **out = (struct gathered){0};
    return 0;
}

static void pop(struct source_lmdb *lmdb, struct prx_sample *sample)
{
    struct gathered *top = &lmdb->stack[--lmdb->n_stack];

    prx_sample_move(sample, &top->sample);
    prx_str_release(&top->prefix);
}

/* Could the sample with @prefix have had a field where pages are lost? */
static bool is_doubtful(const struct source_lmdb *lmdb, const struct prx_str *prefix)
{
    const struct prx_str *end = &lmdb->gap_end;
    size_t n_common = prefix->n_bytes < end->n_bytes ? prefix->n_bytes : end->n_bytes;

    return lmdb->gap.n_bytes > 0 && memcmp(prefix->bytes, end->bytes, n_common) <= 0;
}

static void doubt(const struct source_lmdb *lmdb, struct prx_sample *sample)
{
    prx_sample_reject(sample, "read", "%s; fields may be missing", lmdb->gap.bytes);
}

/* Begin the sample whose prefix is the first @n_prefix bytes of name. */
static int begin_sample(struct source_lmdb *lmdb, size_t n_prefix)
{
    struct gathered *top = NULL;

    PRX_TRY(push(lmdb, &top));
    PRX_TRY(prx_str_add(&top->prefix, lmdb->name.bytes, n_prefix));
    PRX_TRY(prx_sample_begin(&top->sample, lmdb->name.bytes, n_prefix - 1, lmdb->path));
    if (is_doubtful(lmdb, &top->prefix))
        doubt(lmdb, &top->sample);
    return 0;
}

/* The entry that is looked at, its name copied, joins its sample. */
static int gather(struct source_lmdb *lmdb, size_t n_prefix)
{
    const struct prx_lmdb_entry *entry = &lmdb->entry;
    const char *name = lmdb->name.bytes;

    if (lmdb->n_stack == 0 || lmdb->stack[lmdb->n_stack - 1].prefix.n_bytes != n_prefix)
        PRX_TRY(begin_sample(lmdb, n_prefix));
    struct prx_sample *sample = &lmdb->stack[lmdb->n_stack - 1].sample;
    if (entry->fault)
        prx_sample_reject(sample, "read", "%s: entry %s: %s", lmdb->data_path, name,
                          entry->fault);
    else if (entry->n_bytes > lmdb->n_member_bytes_max)
        prx_sample_reject(sample, "read", "%s: entry %s: larger than the limit",
                          lmdb->data_path, name);
    else
        return prx_sample_add_file(sample, name, n_prefix - 1, NULL, lmdb->data_path,
                                   entry->offset_bytes, entry->n_bytes);
    return 0;
}

/* A sample that stands for what is no sample: named @name, rejected for @reason. */
static int stand_for(const struct source_lmdb *lmdb, struct prx_sample *sample,
                     const char *name, const char *reason)
{
    char shown[PRX_ERR_TEXT_BYTES / 2];

    PRX_TRY(prx_sample_set_origin(sample, lmdb->path));
    PRX_TRY(prx_sample_set_key(sample, prx_escape(name, shown, sizeof(shown))));
    prx_sample_reject(sample, "read", "%s", reason);
    return 1;
}

/* Pages are lost: @sample says so, and those that are being gathered. */
static int take_gap(struct source_lmdb *lmdb, struct prx_sample *sample)
{
    prx_str_reset(&lmdb->gap);
    prx_str_reset(&lmdb->gap_end);
    PRX_TRY(prx_str_printf(&lmdb->gap, "%s: %s", lmdb->data_path, lmdb->entry.fault));
    for (size_t i = 0; i < lmdb->n_stack; i++)
        doubt(lmdb, &lmdb->stack[i].sample);
    return stand_for(lmdb, sample, lmdb->path, lmdb->gap.bytes);
}

/* A database within the environment is not read, and is not passed over unseen. */
static int refuse_database(struct source_lmdb *lmdb, struct prx_sample *sample)
{
    struct prx_str reason = {0};

    int rc = prx_str_printf(&reason, "%s: %s: a database within it, which is not read",
                            lmdb->data_path, lmdb->name.bytes);
    if (rc == 0)
        rc = stand_for(lmdb, sample, lmdb->name.bytes, reason.bytes);
    prx_str_release(&reason);
    return rc;
}

/* 1: @sample stands for the entry; 0: go on. */
static int take_entry(struct source_lmdb *lmdb, struct prx_sample *sample)
{
    const struct prx_lmdb_entry *entry = &lmdb->entry;

    if (!entry->name)
        return take_gap(lmdb, sample);
    PRX_TRY(set_text(&lmdb->name, entry->name, entry->n_name));
    if (lmdb->gap.n_bytes > 0 && lmdb->gap_end.n_bytes == 0)
        PRX_TRY(set_text(&lmdb->gap_end, entry->name, entry->n_name));
    /* A name with a NUL in it is none. */
    if (memchr(entry->name, '\0', entry->n_name))
        return 0;
    if (entry->is_database)
        return refuse_database(lmdb, sample);
    size_t n_key = prx_key_split(lmdb->name.bytes);
    if (n_key == 0 || prx_name_is_reserved(lmdb->name.bytes))
        return 0;
    return gather(lmdb, n_key + 1);
}

/* Is the sample on top of the stack whole, now that the next entry is known? */
static bool is_whole(const struct source_lmdb *lmdb)
{
    const struct prx_lmdb_entry *entry = &lmdb->entry;

    if (lmdb->n_stack == 0 || !lmdb->has_entry)
        return lmdb->n_stack > 0;
    return entry->name &&
           !begins_with(entry->name, entry->n_name,
                        &lmdb->stack[lmdb->n_stack - 1].prefix);
}

static int lmdb_next(struct prx_source *source, struct prx_sample *sample)
{
    struct source_lmdb *lmdb = lmdb_of(source);
    int got = 0;

    if (lmdb->damage) {
        got = stand_for(lmdb, sample, lmdb->path, lmdb->damage);
        free(lmdb->damage);
        lmdb->damage = NULL;
        return got;
    }
    while (lmdb->tree.fd >= 0) {
        if (!lmdb->has_entry) {
            got = prx_lmdb_tree_next(&lmdb->tree, &lmdb->entry);
            if (got < 0)
                return got;
            lmdb->has_entry = got == 1;
        }
        if (is_whole(lmdb)) {
            pop(lmdb, sample);
            if (!prx_skip_find(&lmdb->skip, sample->key))
                return 1;
            lmdb->base.n_hidden++;
            prx_sample_reset(sample);
            continue;
        }
        if (!lmdb->has_entry)
            return 0;
        lmdb->has_entry = false;
        got = take_entry(lmdb, sample);
        if (got != 0)
            return got;
    }
    return 0;
}

/* --- the rest of a source --------------------------------------------------- */

static int lmdb_plan(const struct prx_source *source, struct prx_str *plan)
{
    const struct source_lmdb *lmdb = (const struct source_lmdb *)source;

    PRX_TRY(prx_str_printf(
        plan, "lmdb %s %" PRIu64 " entries, transaction %" PRIu64 ", %" PRIu64 "\n",
        lmdb->path, lmdb->tree.n_entries, lmdb->tree.txn_id, lmdb->tree.n_file_bytes));
    return prx_skip_plan(lmdb->path, plan);
}

static void lmdb_close(struct prx_source *source)
{
    struct source_lmdb *lmdb = lmdb_of(source);
    struct prx_sample dropped = {0};

    env_close(lmdb);
    prx_lmdb_tree_close(&lmdb->tree);
    while (lmdb->n_stack > 0)
        pop(lmdb, &dropped);
    prx_sample_release(&dropped);
    prx_skip_release(&lmdb->skip);
    prx_str_release(&lmdb->name);
    prx_str_release(&lmdb->gap);
    prx_str_release(&lmdb->gap_end);
    free(lmdb->stack);
    free(lmdb->damage);
    free(lmdb->data_path);
    free(lmdb->path);
    free(lmdb);
}

static bool lmdb_has(const struct prx_source *source, const char *path, bool is_folder)
{
    char *data = realpath(((const struct source_lmdb *)source)->data_path, NULL);
    bool has =
        data && (is_folder ? prx_path_is_below(data, path) : strcmp(data, path) == 0);

    free(data);
    return has;
}

static const struct prx_source_ops lmdb_ops = {lmdb_next, lmdb_plan, NULL, lmdb_close,
                                               lmdb_has};

static int open_lmdb(const char *const *paths, size_t n_paths,
                     const struct prx_source_opts *opts, struct prx_source **out)
{
    struct source_lmdb *lmdb = calloc(1, sizeof(*lmdb));
    int rc = 0;

    (void)n_paths; /* one: not a shard */
    if (!lmdb)
        return prx_err_nomem("an LMDB source");
    lmdb->base.ops = &lmdb_ops;
    lmdb->tree.fd = -1;
    lmdb->n_member_bytes_max =
        opts->n_member_bytes_max ? opts->n_member_bytes_max : PRX_MEMBER_BYTES_MAX;
    PRX_GO(set_paths(lmdb, paths[0]));
    if (!opts->with_hidden)
        PRX_GO(prx_skip_read(&lmdb->skip, lmdb->path));
    rc = open_env(lmdb);
    if (rc == PRX_ECORRUPT || rc == PRX_EFORMAT) {
        /* Of the data, not of the run: others may be read with it. */
        env_close(lmdb);
        prx_lmdb_tree_close(&lmdb->tree);
        rc = prx_strdup(prx_err_message(), &lmdb->damage);
    }
    if (rc < 0)
        goto out;
    lmdb->base.n_total = read_total(lmdb);
    lmdb->base.has_total = lmdb->base.n_total > 0;
    *out = &lmdb->base;
out:
    if (rc < 0)
        lmdb_close(&lmdb->base);
    return rc;
}

static bool takes_lmdb(const char *path, const struct stat *st)
{
    static const char *const data[] = {"/" PRX_LMDB_DATA, NULL};
    struct prx_str inside = {0};

    if (S_ISREG(st->st_mode))
        return strcmp(path, PRX_LMDB_DATA) == 0 || prx_path_ends_with(path, data);
    bool takes = S_ISDIR(st->st_mode) &&
                 prx_str_printf(&inside, "%s%s", path, data[0]) == 0 &&
                 access(inside.bytes, F_OK) == 0;
    prx_str_release(&inside);
    return takes;
}

/* With its scheme a word may name a file of any name, and what is no LMDB is said. */
static int add_lmdb(struct prx_inputs *inputs, const char *word,
                    const struct prx_source_opts *opts)
{
    struct prx_paths found = {0};
    struct stat st;
    int rc = 0;

    (void)opts;
    PRX_GO(prx_source_spell(word + strlen(PRX_LMDB_SCHEME), &found));
    for (size_t i = 0; i < found.n_paths; i++) {
        const char *path = found.paths[i];
        if (stat(path, &st) < 0) {
            rc = prx_err_sys("%s", path);
            goto out;
        }
        if (!S_ISREG(st.st_mode) && !takes_lmdb(path, &st)) {
            rc = prx_err(PRX_ENOENT, "%s: not an LMDB: there is no " PRX_LMDB_DATA,
                         path);
            goto out;
        }
        PRX_GO(prx_inputs_add(inputs, &prx_source_lmdb_kind, path, 0));
    }
out:
    prx_paths_release(&found);
    return rc;
}

const struct prx_source_kind prx_source_lmdb_kind = {
    .takes = takes_lmdb,
    .scheme = PRX_LMDB_SCHEME,
    .add = add_lmdb,
    .open = open_lmdb,
};
