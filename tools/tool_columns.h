/* SPDX-License-Identifier: Apache-2.0 */
/*
 * tool_columns.h - named columns of numbers, summed up as text or JSON.
 *
 * Names may come from data: they are escaped, and there is a limit to how many
 * are told apart.  {0} is an empty set; columns stand in the order of first use.
 */
#ifndef PRX_TOOLS_TOOL_COLUMNS_H
#define PRX_TOOLS_TOOL_COLUMNS_H

#include <jansson.h>
#include <stdbool.h>
#include <stdint.h>

#include "libdata/err.h"
#include "libdata/stats.h"

enum {
    COLUMNS_MAX = 64, /* more names than this are counted as "others" */
    COLUMN_NAME_BYTES = 80,
};

struct column {
    char name[COLUMN_NAME_BYTES];
    uint64_t unit; /* counted for each one that is shown: 1000 for thousandths */
    struct prx_histogram histogram;
};

struct columns {
    struct column *all[COLUMNS_MAX]; /* owned */
    int n;
};

/** columns_add - count @value, in 1/@unit, in the column @name. */
PRX_MUST_USE int columns_add(struct columns *columns, const char *name, uint64_t unit,
                             uint64_t value);

/** columns_print - a table on standard output, one line a column. */
void columns_print(const struct columns *columns, const char *title);

/** columns_print_histograms - one bar chart a column on standard output. */
void columns_print_histograms(const struct columns *columns);

/** columns_json - {name: {samples, mean, min, ..., histogram}}, new, or NULL. */
json_t *columns_json(const struct columns *columns, bool with_histograms);

void columns_release(struct columns *columns);

#endif
