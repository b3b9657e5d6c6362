/* SPDX-License-Identifier: Apache-2.0 */
/* prx-ls - list the samples of any source: keys, fields, sizes. */
#include <inttypes.h>
#include <stdlib.h>
#include <string.h>

#include "libdata/skip.h"
#include "tools/tool.h"

static struct {
    bool is_long;
    bool is_json;
    bool is_hidden;
} cfg;

/* clang-format off */
static const struct opt_row rows[] = {
    {0, "Listing", OPT_GROUP, NULL, NULL, NULL, 0, 0},
    {'l', "long", OPT_FLAG, &cfg.is_long, NULL,
     "add the picture's size in pixels and all bytes of the sample", 0, 0},
    {0, "json", OPT_FLAG, &cfg.is_json, NULL,
     "print one JSON object a line", 0, 0},
    {0, "hidden", OPT_FLAG, &cfg.is_hidden, NULL,
     "list only what skip lists hide, with the reason", 0, 0},
};
/* clang-format on */

static int run(const char **operands, size_t n_operands);

static const struct tool tool = {
    .name = "prx-ls",
    .usage = {
        .synopsis = "[options] SRC ...",
        .summary = "List the samples of a folder, of tar shards or of standard input.",
        .examples = "  prx-ls photos\n"
                    "  prx-ls -l 'shards/*.tar'\n",
    },
    .rows = rows,
    .n_rows = sizeof(rows) / sizeof(rows[0]),
    .groups = TOOL_SOURCE | TOOL_LISTING,
    .run = run,
};

static void print_line(const struct prx_sample *sample,
                       const struct prx_picture_size *size)
{
    char escaped[4 * PRX_KEY_BYTES_MAX]; /* keys come from outside: no control codes */

    if (cfg.is_long) {
        if (size->width_px > 0)
            printf("%5dx%-5d", size->width_px, size->height_px);
        else
            printf("%5s %-5s", "", "-");
        printf(" %10" PRIu64 "  ", prx_sample_bytes(sample));
    }
    printf("%s", prx_escape(sample->key, escaped, sizeof(escaped)));
    for (size_t i = 0; i < sample->n_fields; i++) {
        const struct prx_field *field = &sample->fields[i];
        printf("%c%s:%" PRIu64, i == 0 ? '\t' : ' ',
               prx_escape(field->name, escaped, sizeof(escaped)), field->n_bytes);
    }
    putchar('\n');
}

static int print_json(const struct prx_sample *sample,
                      const struct prx_picture_size *size)
{
    json_t *fields = json_object();
    json_t *line = json_pack("{s:o, s:O}", "key", tool_json_text(sample->key), "fields",
                             fields);
    int rc = line ? 0 : -1;

    for (size_t i = 0; i < sample->n_fields; i++) {
        const struct prx_field *field = &sample->fields[i];
        json_t *name = tool_json_text(field->name);
        rc |= json_object_set_new(fields, json_string_value(name),
                                  json_integer((json_int_t)field->n_bytes));
        json_decref(name);
    }
    if (size->width_px > 0) {
        rc |= json_object_set_new(line, "width", json_integer(size->width_px));
        rc |= json_object_set_new(line, "height", json_integer(size->height_px));
    }
    if (rc == 0)
        json_dumpf(line, stdout, JSON_COMPACT);
    else
        rc = prx_err_nomem("a line");
    putchar('\n');
    json_decref(fields);
    json_decref(line);
    return rc;
}

static int list_sample(struct prx_sample *sample)
{
    struct prx_picture_size size = {0};

    if (cfg.is_long)
        PRX_TRY(tool_picture_size(sample, &size));
    if (cfg.is_json)
        PRX_TRY(print_json(sample, &size));
    else
        print_line(sample, &size);
    return ferror(stdout) ? prx_err_sys("standard output") : 0;
}

static int print_hidden(const char *key, const char *reason)
{
    char escaped[4 * PRX_KEY_BYTES_MAX];

    if (!cfg.is_json) {
        printf("%s\t", prx_escape(key, escaped, sizeof(escaped)));
        printf("%s\n", prx_escape(reason, escaped, sizeof(escaped)));
        return 0;
    }
    json_t *line = json_pack("{s:o, s:o}", "key", tool_json_text(key), "reason",
                             tool_json_text(reason));
    if (!line)
        return prx_err_nomem("a line");
    json_dumpf(line, stdout, JSON_COMPACT);
    putchar('\n');
    json_decref(line);
    return 0;
}

/* The list of one shard at a time: samples come shard by shard. */
static int list_hidden(const char **operands, size_t n_operands)
{
    struct prx_source *source = NULL;
    struct prx_sample sample = {0};
    struct prx_skip skip = {0};
    char *shard = NULL;
    int rc;

    PRX_GO(tool_source_open_all(operands, n_operands, &source));
    while ((rc = prx_source_next(source, &sample)) > 0) {
        if (!shard || strcmp(shard, prx_sample_shard(&sample)) != 0) {
            free(shard);
            shard = NULL;
            prx_skip_release(&skip);
            PRX_GO(prx_strdup(prx_sample_shard(&sample), &shard));
            PRX_GO(prx_skip_read(&skip, shard));
        }
        const char *reason = prx_skip_find(&skip, sample.key);
        if (reason)
            PRX_GO(print_hidden(sample.key, reason));
        if (ferror(stdout))
            PRX_GO(prx_err_sys("standard output"));
    }
out:
    free(shard);
    prx_skip_release(&skip);
    prx_sample_release(&sample);
    prx_source_close(source);
    return rc;
}

static int run(const char **operands, size_t n_operands)
{
    struct prx_source *source = NULL;
    struct prx_sample sample = {0};
    uint64_t n_rejected = 0;
    int rc;

    if (cfg.is_hidden)
        return list_hidden(operands, n_operands);
    PRX_GO(tool_source_open(operands, n_operands, &source));
    while ((rc = prx_source_next(source, &sample)) > 0) {
        if (!sample.reject_reason)
            PRX_GO(list_sample(&sample));
        if (sample.reject_reason)
            tool_warn_reject(&sample, n_rejected++);
    }
    if (rc >= 0)
        rc = n_rejected > 0 ? TOOL_REJECTS : 0;
out:
    prx_sample_release(&sample);
    prx_source_close(source);
    return rc;
}

int main(int argc, char **argv)
{
    return tool_main(&tool, argc, argv);
}
