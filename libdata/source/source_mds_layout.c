/* SPDX-License-Identifier: Apache-2.0 */
/* Which column of an MDS shard is what to us. */
#include <stdlib.h>
#include <string.h>

#include "libdata/source/source_mds_internal.h"

#define N_OF(array) (sizeof(array) / sizeof((array)[0]))

/* What encodings can be, whatever the column's name. */
static const struct {
    const char *encoding;
    enum mds_role role, exact_role;
} kinds[] = {
    {"bytes", MDS_PICTURE, MDS_RAW},
    {"jpeg", MDS_PICTURE, MDS_RAW},
    {"png", MDS_PICTURE, MDS_RAW},
    {"str", MDS_TEXT, MDS_RAW},
    {"json", MDS_JSON, MDS_RAW},
    {"ndarray", MDS_ARRAY, MDS_ARRAY},
    {"bf16", MDS_ARRAY, MDS_ARRAY},
    {"pil", MDS_PIXELS, MDS_REFUSED},
    {"int", MDS_NUMBER, MDS_REFUSED},
    {"int8", MDS_NUMBER, MDS_REFUSED},
    {"int16", MDS_NUMBER, MDS_REFUSED},
    {"int32", MDS_NUMBER, MDS_REFUSED},
    {"int64", MDS_NUMBER, MDS_REFUSED},
    {"uint8", MDS_NUMBER, MDS_REFUSED},
    {"uint16", MDS_NUMBER, MDS_REFUSED},
    {"uint32", MDS_NUMBER, MDS_REFUSED},
    {"uint64", MDS_NUMBER, MDS_REFUSED},
    {"float16", MDS_NUMBER, MDS_REFUSED},
    {"float32", MDS_NUMBER, MDS_REFUSED},
    {"float64", MDS_NUMBER, MDS_REFUSED},
    {"str_int", MDS_NUMBER, MDS_REFUSED},
    {"str_float", MDS_NUMBER, MDS_REFUSED},
    {"str_decimal", MDS_NUMBER, MDS_REFUSED},
};

static enum mds_role role_of(const struct prx_mds_column *column, bool is_exact)
{
    size_t i = 0;

    while (i < N_OF(kinds) && !prx_mds_encoding_is(column->encoding, kinds[i].encoding))
        i++;
    if (i == N_OF(kinds))
        return MDS_REFUSED;
    if (is_exact)
        return kinds[i].exact_role;
    if (kinds[i].role == MDS_TEXT && strncmp(column->name, "caption_", 8) == 0 &&
        column->name[8])
        return MDS_CAPTION;
    if (kinds[i].role == MDS_JSON && strcmp(column->name, "json") == 0)
        return MDS_META;
    return kinds[i].role;
}

/* The first of @names, a NULL-ended list, that is a column of text has @role. */
static void give_role(struct mds_layout *layout, const char *const *names,
                      enum mds_role role)
{
    for (; *names; names++) {
        const struct prx_mds_column *column =
            prx_mds_columns_find(&layout->columns, *names);
        if (column && prx_mds_encoding_is(column->encoding, "str")) {
            layout->roles[column - layout->columns.columns] = role;
            return;
        }
    }
}

int mds_layout_new(struct prx_mds_columns *columns, struct mds_layout **out)
{
    static const char *const keys[] = {PRX_MDS_KEY, "key", NULL};
    static const char *const captions[] = {PRX_MDS_CAPTION, "prompt", "text", "txt",
                                           NULL};
    struct mds_layout *layout = calloc(1, sizeof(*layout));
    enum mds_role *roles = calloc(columns->n_columns + 1, sizeof(*roles));

    if (!layout || !roles) {
        free(layout);
        free(roles);
        return prx_err_nomem("columns");
    }
    layout->columns = *columns;
    layout->roles = roles;
    *columns = (struct prx_mds_columns){0};
    layout->is_exact = prx_mds_columns_find(&layout->columns, PRX_MDS_FIELDS) != NULL;
    for (size_t i = 0; i < layout->columns.n_columns; i++) {
        const struct prx_mds_column *column = &layout->columns.columns[i];
        roles[i] = role_of(column, layout->is_exact);
        layout->n_sized += column->n_bytes == 0;
    }
    give_role(layout, keys, MDS_KEY);
    if (!layout->is_exact)
        give_role(layout, captions, MDS_TXT);
    *out = layout;
    return 0;
}

void mds_layout_free(struct mds_layout *layout)
{
    if (!layout)
        return;
    prx_mds_columns_release(&layout->columns);
    free(layout->roles);
    free(layout);
}

int mds_layout_check(const struct mds_layout *layout)
{
    for (size_t i = 0; i < layout->columns.n_columns; i++) {
        const struct prx_mds_column *column = &layout->columns.columns[i];
        if (layout->roles[i] != MDS_REFUSED)
            continue;
        if (prx_mds_encoding_is(column->encoding, "pkl"))
            return prx_err(PRX_EFORMAT, "column %s is pickled, which is never read",
                           column->name);
        return prx_err(PRX_EFORMAT, "column %s is of encoding %s, which is not read",
                       column->name, column->encoding);
    }
    return 0;
}
