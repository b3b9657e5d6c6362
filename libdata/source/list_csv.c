/* SPDX-License-Identifier: Apache-2.0 */
/*
 * Lists in CSV as RFC 4180 has it, and TSV: the same with tabs.
 *
 * The first row names the columns.  A value in quotes may hold anything, quotes
 * doubled; elsewhere a quote stands for itself.  Rows end with LF or CRLF; rows
 * without a byte are passed over.  A row with a fault is read to its end, so that
 * the next one begins where it should.
 *
 * A parser of its own, as libcsv counts no lines, has no limit on a value and cannot
 * stop behind a row.
 */
#include <stdlib.h>
#include <string.h>

#include "libdata/source/list_internal.h"

#define N_VALUES_MAX 10000 /* of a row */

struct list_csv {
    struct prx_list_text text;
    char delimiter;
    json_t *header; /* an object: its members are the columns that have a name */
    struct prx_list_columns columns;
    const char **names; /* of all columns, borrowed from header; NULL: no name */
    size_t n_names;

    struct prx_str bytes; /* of the row that is read: its values, a NUL behind each */
    size_t *starts;       /* of the values, in bytes */
    size_t n_values, cap_values;
    bool is_quoted;    /* the value that is read */
    const char *fault; /* of the row, or NULL; then nothing more of it is kept */
    bool is_torn;
};

static void csv_close(struct prx_list *list)
{
    struct list_csv *csv = (struct list_csv *)list;

    prx_list_text_close(&csv->text);
    json_decref(csv->header);
    free(csv->names);
    prx_str_release(&csv->bytes);
    free(csv->starts);
    free(csv);
}

static int begin_value(struct list_csv *csv)
{
    csv->is_quoted = false;
    if (csv->n_values == N_VALUES_MAX && !csv->fault)
        csv->fault = "more than 10000 values";
    if (csv->fault)
        return 0;
    if (csv->n_values == csv->cap_values) {
        size_t cap = csv->cap_values ? csv->cap_values * 2 : 16;
        size_t *grown = realloc(csv->starts, cap * sizeof(*grown));
        if (!grown)
            return prx_err_nomem("a row");
        csv->starts = grown;
        csv->cap_values = cap;
    }
    csv->starts[csv->n_values++] = csv->bytes.n_bytes;
    return 0;
}

static int add_bytes(struct list_csv *csv, const char *bytes, size_t n_bytes)
{
    if (csv->fault)
        return 0;
    size_t n_value = csv->bytes.n_bytes - csv->starts[csv->n_values - 1];
    if (n_bytes > PRX_LIST_VALUE_BYTES_MAX - n_value)
        csv->fault = "a value of more than 16 MiB";
    else if (csv->bytes.n_bytes + n_bytes > PRX_LIST_ROW_BYTES_MAX)
        csv->fault = "a row of more than 64 MiB";
    else if (memchr(bytes, '\0', n_bytes))
        csv->fault = "a NUL byte";
    else
        return prx_str_add(&csv->bytes, bytes, n_bytes);
    return 0;
}

static int end_value(struct list_csv *csv)
{
    return csv->fault ? 0 : prx_str_add(&csv->bytes, "", 1);
}

/* A row has come to its LF, which may be that of a CRLF. */
static int end_line(struct list_csv *csv)
{
    struct prx_str *bytes = &csv->bytes;

    csv->text.line++;
    if (!csv->fault && !csv->is_quoted &&
        bytes->n_bytes > csv->starts[csv->n_values - 1] &&
        bytes->bytes[bytes->n_bytes - 1] == '\r')
        bytes->n_bytes--;
    return end_value(csv);
}

/* What the bytes at hand hold of a value in quotes; true where the quotes end. */
static int read_quoted(struct list_csv *csv)
{
    struct prx_list_text *text = &csv->text;
    const char *quote = memchr(text->next, '"', (size_t)(text->end - text->next));
    const char *end = quote ? quote : text->end;

    for (const char *p = text->next; (p = memchr(p, '\n', (size_t)(end - p))); p++)
        text->line++;
    PRX_TRY(add_bytes(csv, text->next, (size_t)(end - text->next)));
    text->next = end + (quote != NULL);
    return quote != NULL;
}

static int read_plain(struct list_csv *csv)
{
    struct prx_list_text *text = &csv->text;
    const char *end = text->next;

    while (end < text->end && *end != '\n' && *end != csv->delimiter)
        end++;
    PRX_TRY(add_bytes(csv, text->next, (size_t)(end - text->next)));
    text->next = end;
    return 0;
}

/* The values up to the end of the row.  1, 0 at the end of the list, or a tear. */
static int read_values(struct list_csv *csv)
{
    enum { AT_START,
           IN_PLAIN,
           IN_QUOTES,
           BEHIND_QUOTE } state = AT_START;
    struct prx_list_text *text = &csv->text;
    bool is_begun = false;
    int got;

    prx_str_reset(&csv->bytes);
    csv->n_values = 0;
    csv->fault = NULL;
    PRX_TRY(begin_value(csv));
    while ((got = prx_list_text_more(text)) == 1) {
        const char c = *text->next;
        is_begun = true;
        if (state == IN_QUOTES) {
            got = read_quoted(csv);
            if (got < 0)
                return got;
            state = got ? BEHIND_QUOTE : IN_QUOTES;
        } else if (c == '"' && state != IN_PLAIN) {
            /* The second of two stands for one. */
            if (state == BEHIND_QUOTE)
                PRX_TRY(add_bytes(csv, text->next, 1));
            text->next++;
            csv->is_quoted = true;
            state = IN_QUOTES;
        } else if (c == csv->delimiter) {
            PRX_TRY(end_value(csv));
            PRX_TRY(begin_value(csv));
            text->next++;
            state = AT_START;
        } else if (c == '\n') {
            text->next++;
            PRX_TRY(end_line(csv));
            return 1;
        } else if (state == BEHIND_QUOTE) {
            if (c != '\r' && !csv->fault)
                csv->fault = "text behind a closing quote";
            text->next++;
        } else {
            PRX_TRY(read_plain(csv));
            state = IN_PLAIN;
        }
    }
    if (got < 0 || !is_begun)
        return got;
    if (state == IN_QUOTES && !csv->fault)
        csv->fault = "a quote that begins here is never closed";
    PRX_TRY(end_value(csv));
    return 1;
}

/* As next(): the values of the next row that has any. */
static int read_row(struct list_csv *csv, uint64_t *line)
{
    bool is_blank;

    if (csv->is_torn)
        return 0;
    do {
        *line = csv->text.line;
        int got = read_values(csv);
        csv->is_torn = got < 0;
        if (got <= 0)
            return got;
        is_blank = csv->n_values == 1 && csv->bytes.n_bytes == 1 && !csv->is_quoted;
    } while (is_blank && !csv->fault);
    return csv->fault ? prx_err(PRX_ECORRUPT, "%s", csv->fault) : 1;
}

static const char *value_of(const struct list_csv *csv, size_t i)
{
    return csv->bytes.bytes + csv->starts[i];
}

static int add_column(struct list_csv *csv, const char *name)
{
    if (!prx_text_is_utf8(name))
        return prx_err(PRX_ECORRUPT, "the names of the columns are not UTF-8");
    if (json_object_get(csv->header, name))
        return prx_err(PRX_ECORRUPT, "two columns are named %s", name);
    /* Spreadsheets have columns without a name: of row numbers, or left empty. */
    if (*name && json_object_set_new_nocheck(csv->header, name, json_null()) < 0)
        return prx_err_nomem("the names of columns");
    const char *kept = json_object_iter_key(json_object_iter_at(csv->header, name));
    csv->names[csv->n_names++] = *name ? kept : NULL;
    return 0;
}

static int read_header(struct list_csv *csv)
{
    uint64_t line;
    int got = read_row(csv, &line);

    if (got == 0)
        return prx_err(PRX_ECORRUPT, "empty: the first line must name the columns");
    if (got < 0)
        return prx_err_frame(got, "line %llu", (unsigned long long)line);
    csv->header = json_object();
    csv->names = calloc(csv->n_values, sizeof(*csv->names));
    if (!csv->header || !csv->names)
        return prx_err_nomem("the names of columns");
    for (size_t i = 0; i < csv->n_values; i++)
        PRX_TRY(add_column(csv, value_of(csv, i)));
    return 0;
}

static int csv_open(const char *path, const struct prx_source_opts *opts,
                    struct prx_list **out)
{
    static const char *const tsv_ends[] = {".tsv", ".tsv.gz", ".tsv.zst", NULL};
    struct list_csv *csv = calloc(1, sizeof(*csv));
    int rc = 0;

    if (!csv)
        return prx_err_nomem("a list");
    csv->delimiter = prx_path_ends_with(path, tsv_ends) ? '\t' : ',';
    PRX_GO(prx_list_text_open(&csv->text, path));
    PRX_GO(read_header(csv));
    PRX_GO(prx_list_columns_check(&opts->lists, csv->header));
    prx_list_columns_find(&csv->columns, &opts->lists, csv->header);
    *out = (struct prx_list *)csv;
out:
    if (rc < 0)
        csv_close((struct prx_list *)csv);
    return rc;
}

static int csv_next(struct prx_list *list, struct prx_list_row *row)
{
    struct list_csv *csv = (struct list_csv *)list;
    int got = read_row(csv, &row->place);

    if (got <= 0)
        return got;
    if (csv->n_values != csv->n_names)
        return prx_err(PRX_ECORRUPT, "%zu values for %zu columns", csv->n_values,
                       csv->n_names);
    row->values = json_object();
    if (!row->values)
        return prx_err_nomem("a row");
    row->is_untyped = true;
    row->columns = csv->columns;
    for (size_t i = 0; i < csv->n_names; i++) {
        const char *text = value_of(csv, i);
        if (!csv->names[i] || !*text)
            continue;
        if (!prx_text_is_utf8(text))
            return prx_err(PRX_ECORRUPT, "column %s: not UTF-8", csv->names[i]);
        if (json_object_set_new_nocheck(row->values, csv->names[i],
                                        json_string_nocheck(text)) < 0)
            return prx_err_nomem("a row");
    }
    return 1;
}

static const char *const ends[] = {".csv", ".csv.gz", ".csv.zst",
                                   ".tsv", ".tsv.gz", ".tsv.zst", NULL};

const struct prx_list_format prx_list_csv_format = {
    .ends = ends,
    .is_text = true,
    .open = csv_open,
    .next = csv_next,
    .close = csv_close,
};
