/* SPDX-License-Identifier: Apache-2.0 */
/* Lists in Parquet, where the build has Apache Arrow to read it. */
#include <stdlib.h>

#include "libdata/source/list_internal.h"
#include "libdata/source/parquet_internal.h"

static const char *const ends[] = {".parquet", NULL};

#ifdef PRX_HAVE_PARQUET

struct list_parquet {
    const struct prx_parquet_ops *ops;
    struct prx_parquet *file;
    struct prx_list_columns columns;
};

static void parquet_close(struct prx_list *list)
{
    struct list_parquet *parquet = (struct list_parquet *)list;

    if (parquet->file)
        parquet->ops->close(parquet->file);
    free(parquet);
}

static int tell_dropped(const struct prx_source_opts *opts, const char *path,
                        const struct prx_str *dropped)
{
    struct prx_str text = {0};
    char shown[PRX_ERR_TEXT_BYTES / 2];
    int rc = 0;

    if (dropped->n_bytes == 0 || !opts->on_notice)
        return 0;
    PRX_GO(prx_str_printf(&text, "%s: columns that are neither text nor numbers are not"
                                 " read: %s",
                          path, prx_escape(dropped->bytes, shown, sizeof(shown))));
    opts->on_notice(text.bytes);
out:
    prx_str_release(&text);
    return rc;
}

static int parquet_open(const char *path, const struct prx_source_opts *opts,
                        struct prx_list **out)
{
    struct list_parquet *parquet = calloc(1, sizeof(*parquet));
    struct prx_str dropped = {0};
    int rc = 0;

    if (!parquet)
        return prx_err_nomem("a list");
    PRX_GO(prx_parquet_load(&parquet->ops));
    PRX_GO(parquet->ops->open(path, &parquet->file));
    const json_t *names = parquet->ops->columns(parquet->file);
    PRX_GO(prx_list_columns_check(&opts->lists, names));
    prx_list_columns_find(&parquet->columns, &opts->lists, names);
    PRX_GO(parquet->ops->choose(parquet->file, parquet->columns.image, &dropped));
    PRX_GO(tell_dropped(opts, path, &dropped));
    *out = (struct prx_list *)parquet;
out:
    prx_str_release(&dropped);
    if (rc < 0)
        parquet_close((struct prx_list *)parquet);
    return rc;
}

static int parquet_next(struct prx_list *list, struct prx_list_row *row)
{
    struct list_parquet *parquet = (struct list_parquet *)list;

    row->columns = parquet->columns;
    return parquet->ops->next(parquet->file, &row->values, &row->image, &row->place);
}

#else

static int parquet_open(const char *path, const struct prx_source_opts *opts,
                        struct prx_list **out)
{
    (void)path;
    (void)opts;
    (void)out;
    return prx_err(PRX_EINVAL,
                   "this build reads no Parquet: install Arrow's C++ library, or"
                   " `pip install pyarrow`, and run `make PYTHON=python3`");
}

/* Nothing is ever open. */
static int parquet_next(struct prx_list *list, struct prx_list_row *row)
{
    (void)list;
    (void)row;
    return 0;
}

static void parquet_close(struct prx_list *list)
{
    (void)list;
}

#endif

const struct prx_list_format prx_list_parquet_format = {
    .ends = ends,
    .open = parquet_open,
    .next = parquet_next,
    .close = parquet_close,
};
