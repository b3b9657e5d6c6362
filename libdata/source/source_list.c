/* SPDX-License-Identifier: Apache-2.0 */
/*
 * Lists: a row of a JSON Lines, CSV, TSV or Parquet file is a sample.
 *
 * One file after another, one row after another; nothing is held but the row at
 * hand.  A row that cannot be used, and the rest of a list that is damaged, come
 * out as one rejected sample each.
 *
 * Where no column is the key, it is the name of the list without its ending, a slash,
 * and the number of the row from 0, rejected ones counted, in nine digits.  So it
 * does not depend on how the list was named, or on what else is read.
 */
#include <stdlib.h>
#include <string.h>

#include "libdata/hash.h"
#include "libdata/path.h"
#include "libdata/skip.h"
#include "libdata/source/list_internal.h"

struct source_list {
    struct prx_source base;
    struct prx_source_opts opts;
    struct prx_paths paths;
    size_t i_path; /* of the next list to be opened */
    const struct prx_list_format *format;
    struct prx_list *list; /* NULL: none is open */
    const char *path;      /* of the open list */
    uint64_t i_row;        /* in it */
    struct prx_skip skip;  /* of it */
    struct prx_str stem;   /* of its rows' keys */
    struct prx_str folder; /* where its paths begin, with a slash, or "" */
};

static const struct prx_list_format *const formats[] = {
    &prx_list_csv_format,
    &prx_list_jsonl_format,
    &prx_list_parquet_format,
};

#define N_FORMATS (sizeof(formats) / sizeof(*formats))

static const struct prx_list_format *format_of(const char *path)
{
    for (size_t i = 0; i < N_FORMATS; i++)
        if (prx_path_ends_with(path, formats[i]->ends))
            return formats[i];
    return NULL;
}

static const char *base_of(const char *path)
{
    const char *slash = strrchr(path, '/');
    return slash ? slash + 1 : path;
}

static int name_list(struct source_list *lists)
{
    const char *base = base_of(lists->path), *root = lists->opts.lists.image_root;
    size_t n_stem = 0;

    for (const char *const *end = lists->format->ends; *end; end++)
        if (prx_path_ends_with(base, (const char *const[]){*end, NULL}))
            n_stem = strlen(base) - strlen(*end);
    prx_str_reset(&lists->stem);
    PRX_TRY(prx_str_add(&lists->stem, base, n_stem));
    prx_str_reset(&lists->folder);
    if (!root)
        return prx_str_add(&lists->folder, lists->path, (size_t)(base - lists->path));
    return prx_str_printf(&lists->folder, "%s/", root);
}

static void list_close(struct source_list *lists)
{
    if (lists->list)
        lists->format->close(lists->list);
    lists->list = NULL;
}

static bool is_fault_of_data(int rc)
{
    return rc == PRX_ECORRUPT || rc == PRX_EFORMAT;
}

/* Open the next list.  1: it is open; 0: it is useless, as @sample says; < 0. */
static int list_open(struct source_list *lists, struct prx_sample *sample)
{
    char shown[PRX_ERR_TEXT_BYTES / 2];

    lists->path = lists->paths.paths[lists->i_path++];
    lists->format = format_of(lists->path);
    lists->i_row = 0;
    prx_skip_release(&lists->skip);
    if (!lists->opts.with_hidden)
        PRX_TRY(prx_skip_read(&lists->skip, lists->path));
    PRX_TRY(name_list(lists));
    int rc = lists->format->open(lists->path, &lists->opts, &lists->list);
    if (rc == 0)
        return 1;
    if (!is_fault_of_data(rc))
        return rc == PRX_EINVAL ? prx_err_frame(rc, "%s", lists->path) : rc;
    prx_sample_reject(sample, "read", "%s: %s", lists->path, prx_err_message());
    PRX_TRY(prx_sample_set_origin(sample, lists->path));
    return prx_sample_set_key(
        sample, prx_escape(base_of(lists->path), shown, sizeof(shown)));
}

/* @sample gets its key and where it comes from; a fault of the key rejects it. */
static int begin_sample(struct source_list *lists, const struct prx_list_row *row,
                        struct prx_sample *sample)
{
    struct prx_str text = {0};
    char *key = NULL;
    int rc = 0;

    PRX_GO(prx_str_printf(&text, "%s:%s%llu", lists->path,
                          lists->format->is_text ? "" : " row ",
                          (unsigned long long)row->place));
    PRX_GO(prx_sample_set_origin(sample, text.bytes));
    PRX_GO(prx_sample_set_shard(sample, lists->path));
    rc = row->values ? prx_list_row_key(row, &key) : 0;
    if (rc == PRX_ECORRUPT)
        prx_sample_reject(sample, "read", "%s", prx_err_message());
    else if (rc < 0)
        goto out;
    prx_str_reset(&text);
    PRX_GO(prx_str_printf(&text, "%s/%09llu", lists->stem.bytes,
                          (unsigned long long)lists->i_row));
    rc = key ? prx_sample_set_key(sample, key)
             : prx_sample_begin(sample, text.bytes, text.n_bytes, sample->origin);
out:
    prx_str_release(&text);
    free(key);
    return rc;
}

/* As next(), of the open list; 0: it has ended. */
static int next_row(struct source_list *lists, struct prx_sample *sample)
{
    struct prx_list_row row = {0};
    int got = lists->format->next(lists->list, &row), rc = 0;

    if (got == 0)
        goto out;
    if (is_fault_of_data(got))
        prx_sample_reject(sample, "read", "%s", prx_err_message());
    else if (got < 0)
        PRX_GO(prx_err_frame(got, "%s", lists->path));
    PRX_GO(begin_sample(lists, &row, sample));
    lists->i_row++;
    if (!sample->reject_reason && !prx_skip_find(&lists->skip, sample->key))
        PRX_GO(prx_list_row_fill(&row, &lists->opts, lists->folder.bytes, sample));
    rc = 1;
out:
    prx_list_row_release(&row);
    return rc;
}

static int list_next(struct prx_source *source, struct prx_sample *sample)
{
    struct source_list *lists = (struct source_list *)source;

    for (;;) {
        while (!lists->list) {
            if (lists->i_path == lists->paths.n_paths)
                return 0;
            int is_open = list_open(lists, sample);
            if (is_open < 0)
                return is_open;
            if (!is_open)
                return 1;
        }
        int got = next_row(lists, sample);
        if (got < 0)
            return got;
        if (got == 0) {
            list_close(lists);
        } else if (prx_skip_find(&lists->skip, sample->key)) {
            lists->base.n_hidden++;
            prx_sample_reset(sample);
        } else {
            return 1;
        }
    }
}

/* A Parquet file is as large as a tar, and like one known by its size. */
static int list_plan(const struct prx_source *source, struct prx_str *plan)
{
    const struct source_list *lists = (const struct source_list *)source;
    char hash[PRX_HASH_HEX_BYTES];
    struct stat st;

    PRX_TRY(prx_list_opts_plan(&lists->opts.lists, plan));
    for (size_t i = 0; i < lists->paths.n_paths; i++) {
        const char *path = lists->paths.paths[i];
        if (stat(path, &st) < 0)
            return prx_err_sys("%s", path);
        hash[0] = '\0';
        if (format_of(path)->is_text)
            PRX_TRY(prx_hash_file(path, hash));
        PRX_TRY(prx_str_printf(plan, "list %s %lld %s\n", path, (long long)st.st_size,
                               hash));
        PRX_TRY(prx_skip_plan(path, plan));
    }
    return 0;
}

static void lists_close(struct prx_source *source)
{
    struct source_list *lists = (struct source_list *)source;

    list_close(lists);
    prx_skip_release(&lists->skip);
    prx_paths_release(&lists->paths);
    prx_str_release(&lists->stem);
    prx_str_release(&lists->folder);
    free(lists);
}

static bool list_has(const struct prx_source *source, const char *path, bool is_folder)
{
    const struct prx_paths *paths = &((const struct source_list *)source)->paths;
    bool has = false;

    for (size_t i = 0; i < paths->n_paths && !has; i++)
        has = prx_path_has(paths->paths[i], path, is_folder);
    return has;
}

static const struct prx_source_ops list_ops = {list_next, list_plan, NULL, lists_close,
                                               list_has};

/*
 * What makes the words useless is told before any work, by the first list of each
 * format: a column that the user names and that is not there, a format that this
 * build does not read.
 */
static int check_first(const struct source_list *lists,
                       const struct prx_list_format *format)
{
    struct prx_source_opts opts = lists->opts;
    struct prx_list *list;
    size_t i = 0;

    opts.on_notice = NULL; /* it will be opened again */
    while (i < lists->paths.n_paths && format_of(lists->paths.paths[i]) != format)
        i++;
    if (i == lists->paths.n_paths)
        return 0;
    int rc = format->open(lists->paths.paths[i], &opts, &list);
    if (rc == 0)
        format->close(list);
    return rc == PRX_EINVAL ? prx_err_frame(rc, "%s", lists->paths.paths[i]) : 0;
}

static int open_lists(const char *const *paths, size_t n_paths,
                      const struct prx_source_opts *opts, struct prx_source **out)
{
    struct source_list *lists = calloc(1, sizeof(*lists));
    int rc = 0;

    if (!lists)
        return prx_err_nomem("a source of lists");
    lists->base.ops = &list_ops;
    lists->opts = *opts;
    PRX_GO(prx_list_opts_check(&opts->lists));
    for (size_t i = 0; i < n_paths; i++)
        PRX_GO(prx_paths_add(&lists->paths, paths[i]));
    for (size_t i = 0; i < N_FORMATS; i++)
        PRX_GO(check_first(lists, formats[i]));
    *out = &lists->base;
out:
    if (rc < 0)
        lists_close(&lists->base);
    return rc;
}

static bool takes_list(const char *path, const struct stat *st)
{
    return S_ISREG(st->st_mode) && format_of(path) != NULL;
}

const struct prx_source_kind prx_source_list_kind = {
    .takes = takes_list,
    .is_shard = true,
    .open = open_lists,
};
