/* SPDX-License-Identifier: Apache-2.0 */
/* Lists in JSON Lines (jsonlines.org): an object a line. */
#include <stdlib.h>
#include <string.h>

#include "libdata/source/list_internal.h"

struct list_jsonl {
    struct prx_list_text text;
    const struct prx_list_opts *opts;
    struct prx_str line;
    bool is_torn;
};

static void jsonl_close(struct prx_list *list)
{
    struct list_jsonl *jsonl = (struct list_jsonl *)list;

    prx_list_text_close(&jsonl->text);
    prx_str_release(&jsonl->line);
    free(jsonl);
}

static int jsonl_open(const char *path, const struct prx_source_opts *opts,
                      struct prx_list **out)
{
    struct list_jsonl *jsonl = calloc(1, sizeof(*jsonl));

    if (!jsonl)
        return prx_err_nomem("a list");
    jsonl->opts = &opts->lists;
    int rc = prx_list_text_open(&jsonl->text, path);
    if (rc < 0)
        jsonl_close((struct prx_list *)jsonl);
    else
        *out = (struct prx_list *)jsonl;
    return rc;
}

/* One line without its end.  1, 0 at the end, PRX_ECORRUPT: too long, or torn. */
static int read_line(struct list_jsonl *jsonl)
{
    struct prx_list_text *text = &jsonl->text;
    bool is_too_long = false, is_begun = false, is_ended = false;
    int got = 1;

    prx_str_reset(&jsonl->line);
    while (!is_ended && (got = prx_list_text_more(text)) == 1) {
        size_t n_bytes = (size_t)(text->end - text->next);
        const char *newline = memchr(text->next, '\n', n_bytes);
        if (newline)
            n_bytes = (size_t)(newline - text->next);
        is_too_long |= n_bytes > PRX_LIST_ROW_BYTES_MAX - jsonl->line.n_bytes;
        if (!is_too_long)
            PRX_TRY(prx_str_add(&jsonl->line, text->next, n_bytes));
        is_begun = true;
        is_ended = newline != NULL;
        text->next += n_bytes + is_ended;
        text->line += is_ended;
    }
    if (got < 0)
        return got;
    if (is_too_long)
        return prx_err(PRX_ECORRUPT, "a line of more than %zu bytes",
                       PRX_LIST_ROW_BYTES_MAX);
    return is_begun;
}

static int parse_line(const struct prx_str *line, json_t **out)
{
    json_error_t fault;
    json_t *values = json_loadb(line->bytes, line->n_bytes, JSON_ALLOW_NUL, &fault);

    if (!values && json_error_code(&fault) == json_error_out_of_memory)
        return prx_err_nomem("a row");
    if (!values)
        return prx_err(PRX_ECORRUPT, "column %d: %s", fault.column, fault.text);
    if (!json_is_object(values)) {
        json_decref(values);
        return prx_err(PRX_ECORRUPT, "not a JSON object");
    }
    *out = values;
    return 0;
}

static bool is_blank(const struct prx_str *line)
{
    return strspn(line->bytes, " \t\r") == line->n_bytes;
}

static int jsonl_next(struct prx_list *list, struct prx_list_row *row)
{
    struct list_jsonl *jsonl = (struct list_jsonl *)list;
    int got;

    if (jsonl->is_torn)
        return 0;
    do {
        row->place = jsonl->text.line;
        got = read_line(jsonl);
        /* A tear ends the list; a line that is only too long does not. */
        jsonl->is_torn = got < 0 && row->place == jsonl->text.line;
        if (got <= 0)
            return got;
    } while (is_blank(&jsonl->line));
    PRX_TRY(parse_line(&jsonl->line, &row->values));
    prx_list_columns_find(&row->columns, jsonl->opts, row->values);
    return 1;
}

static const char *const ends[] = {".jsonl", ".jsonl.gz", ".jsonl.zst",
                                   ".ndjson", ".ndjson.gz", ".ndjson.zst",
                                   NULL};

const struct prx_list_format prx_list_jsonl_format = {
    .ends = ends,
    .is_text = true,
    .open = jsonl_open,
    .next = jsonl_next,
    .close = jsonl_close,
};
