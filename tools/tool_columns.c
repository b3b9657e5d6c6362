/* SPDX-License-Identifier: Apache-2.0 */
/* Columns of numbers: counted by name, shown as a table, bars or JSON. */
#include "tools/tool_columns.h"

#include <inttypes.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "libdata/sample.h"

static const struct {
    const char *name;
    double share;
} quantiles[] = {
    {"min", 0},
    {"p5", .05},
    {"p25", .25},
    {"p50", .5},
    {"p75", .75},
    {"p95", .95},
    {"max", 1},
};

#define N_QUANTILES (sizeof(quantiles) / sizeof(quantiles[0]))

static struct column *find(const struct columns *columns, const char *name)
{
    for (int i = 0; i < columns->n; i++)
        if (strcmp(columns->all[i]->name, name) == 0)
            return columns->all[i];
    return NULL;
}

int columns_add(struct columns *columns, const char *name, uint64_t unit,
                uint64_t value)
{
    char escaped[COLUMN_NAME_BYTES];
    struct column *column = find(columns, prx_escape(name, escaped, sizeof(escaped)));

    if (!column && columns->n >= COLUMNS_MAX - 1) {
        snprintf(escaped, sizeof(escaped), "others");
        column = find(columns, escaped);
    }
    if (!column) {
        column = calloc(1, sizeof(*column));
        if (!column)
            return prx_err_nomem("a column");
        snprintf(column->name, sizeof(column->name), "%s", escaped);
        column->unit = unit;
        columns->all[columns->n++] = column;
    }
    prx_histogram_add(&column->histogram, value);
    return 0;
}

void columns_release(struct columns *columns)
{
    for (int i = 0; i < columns->n; i++)
        free(columns->all[i]);
    *columns = (struct columns){0};
}

static void print_number(const struct column *column, double value)
{
    printf(" %9.*f", column->unit > 1 ? 3 : 0, value / (double)column->unit);
}

void columns_print(const struct columns *columns, const char *title)
{
    if (columns->n == 0)
        return;
    printf("\n%-28s %9s", title, "samples");
    for (size_t j = 0; j < N_QUANTILES; j++)
        printf(" %9s", quantiles[j].name);
    printf(" %9s\n", "mean");
    for (int i = 0; i < columns->n; i++) {
        const struct column *column = columns->all[i];
        printf("%-28s %9" PRIu64, column->name, column->histogram.n);
        for (size_t j = 0; j < N_QUANTILES; j++)
            print_number(column, (double)prx_histogram_quantile(&column->histogram,
                                                                quantiles[j].share));
        print_number(column, prx_histogram_mean(&column->histogram));
        putchar('\n');
    }
}

static void print_bins(const struct column *column)
{
    static const char bar[] = "################################################";
    struct prx_bins bins;
    uint64_t n_most = 1;

    prx_histogram_bins(&column->histogram, &bins);
    for (int i = 0; i < bins.n; i++)
        n_most = bins.counts[i] > n_most ? bins.counts[i] : n_most;
    printf("\n%s\n", column->name);
    for (int i = 0; i < bins.n; i++) {
        double share = (double)bins.counts[i] / (double)n_most;
        print_number(column, (double)bins.from[i]);
        printf(" |%-*.*s %" PRIu64 "\n", (int)sizeof(bar) - 1,
               (int)(share * (double)(sizeof(bar) - 1) + 0.5), bar, bins.counts[i]);
    }
}

void columns_print_histograms(const struct columns *columns)
{
    for (int i = 0; i < columns->n; i++)
        print_bins(columns->all[i]);
}

static json_t *column_json(const struct column *column, bool with_histogram)
{
    const struct prx_histogram *histogram = &column->histogram;
    double unit = (double)column->unit;
    json_t *object = json_pack("{s:I, s:f}",
                               "samples", (json_int_t)histogram->n,
                               "mean", prx_histogram_mean(histogram) / unit);
    struct prx_bins bins;

    for (size_t i = 0; i < N_QUANTILES; i++) {
        double value = (double)prx_histogram_quantile(histogram, quantiles[i].share);
        json_object_set_new(object, quantiles[i].name, json_real(value / unit));
    }
    if (with_histogram) {
        json_t *list = json_array();
        prx_histogram_bins(histogram, &bins);
        for (int i = 0; i < bins.n; i++)
            json_array_append_new(list, json_pack("[f, I]", (double)bins.from[i] / unit,
                                                  (json_int_t)bins.counts[i]));
        json_object_set_new(object, "histogram", list);
    }
    return object;
}

json_t *columns_json(const struct columns *columns, bool with_histograms)
{
    json_t *object = json_object();

    for (int i = 0; i < columns->n; i++)
        json_object_set_new(object, columns->all[i]->name,
                            column_json(columns->all[i], with_histograms));
    return object;
}
