/* SPDX-License-Identifier: Apache-2.0 */
/*
 * What the columns of a list mean: as the user says, or else by their names.
 *
 * The names are those of published data sets, whose case varies (LAION's are
 * URL and TEXT).
 */
#include <string.h>
#include <strings.h>

#include "libdata/source/list_internal.h"

/* The first that is there is taken. */
static const char *const key_names[] = {"key", "__key__", NULL};
static const char *const image_names[] = {
    "image", "jpg", "jpeg", "png", "webp", "image_path",
    "path", "file_name", "filename", "filepath", "url", "image_url",
    NULL};
static const char *const caption_names[] = {"caption", "text", "txt", "prompt", NULL};

static const char *find_member(const json_t *names, const char *wanted)
{
    const char *name;
    json_t *value;

    json_object_foreach((json_t *)names, name, value)
    {
        if (strcasecmp(name, wanted) == 0)
            return name;
    }
    return NULL;
}

static const char *find_first(const json_t *names, const char *const *wanted)
{
    const char *found = NULL;

    for (size_t i = 0; wanted[i] && !found; i++)
        found = find_member(names, wanted[i]);
    return found;
}

void prx_list_columns_find(struct prx_list_columns *columns,
                           const struct prx_list_opts *opts, const json_t *names)
{
    *columns = (struct prx_list_columns){
        .key = opts->key_column,
        .image = opts->image_column,
    };
    if (!columns->key)
        columns->key = find_first(names, key_names);
    if (!columns->image)
        columns->image = find_first(names, image_names);
    else if (!*columns->image)
        columns->image = NULL;
    if (opts->n_caption_columns == 0)
        columns->caption = find_first(names, caption_names);
}

const char *prx_list_caption_split(const char *word, size_t *n_name)
{
    const char *equals = strchr(word, '=');

    *n_name = equals ? (size_t)(equals - word) : 0;
    return equals ? equals + 1 : word;
}

static int check_there(const json_t *names, const char *wanted)
{
    struct prx_str there = {0};
    char shown[PRX_ERR_TEXT_BYTES / 2];
    const char *name;
    json_t *value;
    int rc = 0;

    if (!wanted || !*wanted || json_object_get(names, wanted))
        return 0;
    json_object_foreach((json_t *)names, name, value)
    {
        PRX_GO(prx_str_printf(&there, "%s%s", there.n_bytes ? ", " : "", name));
    }
    rc = prx_err(PRX_EINVAL, "there is no column %s, but %s", wanted,
                 there.n_bytes ? prx_escape(there.bytes, shown, sizeof(shown))
                               : "none at all");
out:
    prx_str_release(&there);
    return rc;
}

int prx_list_columns_check(const struct prx_list_opts *opts, const json_t *names)
{
    size_t n_name;

    PRX_TRY(check_there(names, opts->key_column));
    PRX_TRY(check_there(names, opts->image_column));
    for (size_t i = 0; i < opts->n_caption_columns; i++)
        PRX_TRY(check_there(
            names, prx_list_caption_split(opts->caption_columns[i], &n_name)));
    return 0;
}

int prx_list_opts_check(const struct prx_list_opts *opts)
{
    if (opts->key_column && !*opts->key_column)
        return prx_err(PRX_EINVAL, "a key column without a name");
    if (opts->image_root && !*opts->image_root)
        return prx_err(PRX_EINVAL, "a folder of pictures without a name");
    for (size_t i = 0; i < opts->n_caption_columns; i++) {
        const char *word = opts->caption_columns[i];
        size_t n_name;
        const char *column = prx_list_caption_split(word, &n_name);
        if (!*column || *word == '=')
            return prx_err(PRX_EINVAL, "caption column \"%s\": not [NAME=]COLUMN",
                           word);
    }
    return 0;
}

int prx_list_opts_plan(const struct prx_list_opts *opts, struct prx_str *plan)
{
    PRX_TRY(prx_str_printf(plan, "lists key=%s image=%s%s root=%s any=%d urls=%d",
                           opts->key_column ? opts->key_column : "?",
                           opts->image_column ? "=" : "?",
                           opts->image_column ? opts->image_column : "",
                           opts->image_root ? opts->image_root : "?", opts->any_path,
                           opts->keep_urls));
    for (size_t i = 0; i < opts->n_caption_columns; i++)
        PRX_TRY(prx_str_printf(plan, " caption=%s", opts->caption_columns[i]));
    return prx_str_puts(plan, "\n");
}
