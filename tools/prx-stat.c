/* SPDX-License-Identifier: Apache-2.0 */
/* prx-stat - summarise any source: counts, sizes, shapes, lengths of captions. */
#include <inttypes.h>
#include <string.h>

#include "tools/tool.h"
#include "tools/tool_columns.h"

static struct {
    bool is_json;
    bool histograms;
} cfg = {.histograms = true};

/* clang-format off */
static const struct opt_row rows[] = {
    {0, "Summary", OPT_GROUP, NULL, NULL, NULL, 0, 0},
    {0, "json", OPT_FLAG, &cfg.is_json, NULL,
     "print one JSON object", 0, 0},
    {0, "histograms", OPT_FLAG, &cfg.histograms, NULL,
     "leave the histograms out", 0, 0},
};
/* clang-format on */

static int run(const char **operands, size_t n_operands);

static const struct tool tool = {
    .name = "prx-stat",
    .usage = {
        .synopsis = "[options] SRC ...",
        .summary = "Summarise the samples of a folder, of tar shards or of standard"
                   " input.",
        .examples = "  prx-stat photos\n"
                    "  prx-stat --json 'shards/*.tar'\n",
    },
    .rows = rows,
    .n_rows = sizeof(rows) / sizeof(rows[0]),
    .groups = TOOL_SOURCE | TOOL_LISTING,
    .run = run,
};

/* Of which the length is counted. */
#define CAPTION_BYTES_MAX (1 << 20)

struct summary {
    uint64_t n_samples;
    uint64_t n_rejected;
    uint64_t n_bytes;
    struct columns fields;   /* bytes, by name of field */
    struct columns measures; /* of pictures and captions */
};

/* Words are what blanks part; characters are code points. */
static int add_caption(struct columns *columns, const char *name, const char *text,
                       size_t n_bytes)
{
    char label[COLUMN_NAME_BYTES];
    uint64_t n_words = 0, n_characters = 0;
    bool in_word = false;

    for (size_t i = 0; i < n_bytes; i++) {
        bool is_blank = memchr(" \t\r\n\f\v", text[i], 6) != NULL;
        n_words += !is_blank && !in_word;
        n_characters += ((unsigned char)text[i] & 0xc0) != 0x80;
        in_word = !is_blank;
    }
    snprintf(label, sizeof(label), "%s words", name);
    PRX_TRY(columns_add(columns, label, 1, n_words));
    snprintf(label, sizeof(label), "%s characters", name);
    return columns_add(columns, label, 1, n_characters);
}

static int measure_picture(struct summary *summary, struct prx_sample *sample)
{
    struct prx_picture_size size;

    PRX_TRY(tool_picture_size(sample, &size));
    if (size.width_px == 0)
        return 0;
    uint64_t width_px = (uint64_t)size.width_px, height_px = (uint64_t)size.height_px;
    PRX_TRY(columns_add(&summary->measures, "width px", 1, width_px));
    PRX_TRY(columns_add(&summary->measures, "height px", 1, height_px));
    return columns_add(&summary->measures, "aspect", 1000,
                       (2000 * width_px + height_px) / (2 * height_px));
}

static int measure_captions(struct summary *summary, struct prx_sample *sample)
{
    const struct prx_field *txt = prx_sample_find(sample, "txt");
    struct prx_buf *head;
    const char *name;
    json_t *meta, *text;

    if (txt) {
        PRX_TRY(prx_field_head(txt, CAPTION_BYTES_MAX, &head));
        int rc = add_caption(&summary->measures, "txt", (const char *)head->bytes,
                             head->n_bytes);
        prx_buf_unref(head);
        PRX_TRY(rc);
    }
    PRX_TRY(prx_sample_meta(sample, &meta));
    json_object_foreach(json_object_get(meta, "captions"), name, text)
    {
        char label[COLUMN_NAME_BYTES];
        snprintf(label, sizeof(label), "captions.%s", name);
        if (json_is_string(text))
            PRX_TRY(add_caption(&summary->measures, label, json_string_value(text),
                                json_string_length(text)));
    }
    return 0;
}

static int measure(struct summary *summary, struct prx_sample *sample)
{
    for (size_t i = 0; i < sample->n_fields; i++)
        PRX_TRY(columns_add(&summary->fields, sample->fields[i].name, 1,
                            sample->fields[i].n_bytes));
    uint64_t n_bytes = prx_sample_bytes(sample);
    summary->n_bytes += n_bytes;
    PRX_TRY(columns_add(&summary->measures, "sample bytes", 1, n_bytes));
    PRX_TRY(measure_picture(summary, sample));
    int rc = measure_captions(summary, sample);
    if (rc < 0 && rc != PRX_ENOMEM) {
        prx_sample_reject(sample, "captions", "%s", prx_err_message());
        rc = 0;
    }
    return rc;
}

static void print_text(const struct summary *summary)
{
    printf("samples  %" PRIu64 "\n", summary->n_samples);
    printf("rejected %" PRIu64 "\n", summary->n_rejected);
    printf("bytes    %" PRIu64 "\n", summary->n_bytes);
    columns_print(&summary->fields, "bytes of");
    columns_print(&summary->measures, "sizes and lengths");
    if (cfg.histograms)
        columns_print_histograms(&summary->measures);
}

static int print_json(const struct summary *summary)
{
    bool more = cfg.histograms;
    json_t *object = json_pack("{s:I, s:I, s:I, s:o, s:o}",
                               "samples", (json_int_t)summary->n_samples,
                               "rejected", (json_int_t)summary->n_rejected,
                               "bytes", (json_int_t)summary->n_bytes,
                               "fields", columns_json(&summary->fields, more),
                               "measures", columns_json(&summary->measures, more));
    if (!object)
        return prx_err_nomem("the summary");
    json_dumpf(object, stdout, JSON_INDENT(2) | JSON_REAL_PRECISION(10));
    putchar('\n');
    json_decref(object);
    return 0;
}

static int summarise(struct prx_source *source, struct summary *summary)
{
    struct prx_sample sample = {0};
    int rc;

    while ((rc = prx_source_next(source, &sample)) > 0) {
        if (!sample.reject_reason) {
            summary->n_samples++;
            PRX_GO(measure(summary, &sample));
        }
        if (sample.reject_reason)
            tool_warn_reject(&sample, summary->n_rejected++);
    }
out:
    prx_sample_release(&sample);
    return rc;
}

static int run(const char **operands, size_t n_operands)
{
    struct prx_source *source = NULL;
    struct summary summary = {0};
    int rc;

    PRX_GO(tool_source_open(operands, n_operands, &source));
    PRX_GO(summarise(source, &summary));
    if (cfg.is_json)
        PRX_GO(print_json(&summary));
    else
        print_text(&summary);
    rc = summary.n_rejected > 0 ? TOOL_REJECTS : 0;
out:
    columns_release(&summary.fields);
    columns_release(&summary.measures);
    prx_source_close(source);
    return rc;
}

int main(int argc, char **argv)
{
    return tool_main(&tool, argc, argv);
}
