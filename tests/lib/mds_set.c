/* SPDX-License-Identifier: Apache-2.0 */
/* MDS shards made byte by byte. */
#include "tests/lib/mds_set.h"

#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include <jansson.h>

static void need(int rc)
{
    if (rc < 0) {
        fprintf(stderr, "mds_set: %s\n", prx_err_message());
        abort();
    }
}

static void add_u32(struct prx_str *out, uint64_t value)
{
    uint32_t stored = (uint32_t)value;
    need(prx_str_add(out, &stored, 4));
}

/* The next "NAME=ENCODING[:SIZE]" of *@at; false at the end. */
static bool next_column(const char **at, char name[64], char encoding[64], int *n_bytes)
{
    int n_read = 0;

    *n_bytes = 0;
    if (sscanf(*at, " %63[^=]=%63[^@ ]%n", name, encoding, &n_read) < 2)
        return false;
    *at += n_read;
    if (**at == '@')
        *n_bytes = (int)strtol(*at + 1, (char **)(uintptr_t)at, 10);
    return true;
}

void prx_mds_set_add(struct prx_mds_set *set, const struct prx_mds_value *values)
{
    struct prx_str *sample = &set->samples[set->n_samples++], body = {0};
    const char *at = set->columns;
    char name[64], encoding[64];
    int n_fixed;

    for (size_t i = 0; next_column(&at, name, encoding, &n_fixed); i++) {
        size_t n_bytes =
            values[i].n_bytes ? values[i].n_bytes : strlen(values[i].bytes);
        if (n_fixed == 0)
            add_u32(sample, n_bytes);
        need(prx_str_add(&body, values[i].bytes, n_bytes));
    }
    need(prx_str_add(sample, body.bytes, body.n_bytes));
    prx_str_release(&body);
}

static json_t *describe(const struct prx_mds_set *set)
{
    json_t *names = json_array(), *encodings = json_array(), *sizes = json_array();
    const char *at = set->columns;
    char name[64], encoding[64];
    int n_bytes;

    while (next_column(&at, name, encoding, &n_bytes)) {
        json_array_append_new(names, json_string(name));
        json_array_append_new(encodings, json_string(encoding));
        json_array_append_new(sizes, n_bytes ? json_integer(n_bytes) : json_null());
    }
    return json_pack("{so so so ss? s[] ss si}", "column_encodings", encodings,
                     "column_names", names, "column_sizes", sizes, "compression",
                     set->compression, "hashes", "format", "mds", "version", 2);
}

void prx_mds_set_build(struct prx_mds_set *set)
{
    json_t *config = describe(set);
    char *text = json_dumps(config, JSON_SORT_KEYS);
    size_t at_bytes = 4 + 4 * (set->n_samples + 1) + strlen(text);

    prx_str_reset(&set->shard);
    set->at_samples = at_bytes;
    add_u32(&set->shard, set->n_samples);
    for (size_t i = 0; i <= set->n_samples; i++) {
        add_u32(&set->shard, at_bytes);
        at_bytes += i < set->n_samples ? set->samples[i].n_bytes : 0;
    }
    need(prx_str_puts(&set->shard, text));
    for (size_t i = 0; i < set->n_samples; i++)
        need(prx_str_add(&set->shard, set->samples[i].bytes, set->samples[i].n_bytes));
    free(text);
    json_decref(config);
}

const char *prx_mds_set_write(struct prx_mds_set *set, struct prx_scratch *scratch,
                              const char *folder)
{
    const char *basename = set->basename ? set->basename : "shard.00000.mds";
    json_t *shard = describe(set);
    char path[256], zip_name[256];

    snprintf(zip_name, sizeof(zip_name), "%s.%s", basename,
             set->compression ? set->compression : "");
    json_t *more = json_pack(
        "{s{ss sI s{}} sI}", "raw_data", "basename", basename, "bytes",
        (json_int_t)(set->index_bytes ? set->index_bytes : set->shard.n_bytes),
        "hashes", "samples",
        (json_int_t)(set->index_samples ? set->index_samples : set->n_samples));
    json_object_set_new(more, "zip_data",
                        set->compression ? json_pack("{ss si s{}}", "basename",
                                                     zip_name, "bytes", 1, "hashes")
                                         : json_null());
    json_object_update(shard, more);
    json_t *root = json_pack("{s[o] si}", "shards", shard, "version", 2);
    char *text = json_dumps(root, JSON_SORT_KEYS);
    snprintf(path, sizeof(path), "%s/index.json", folder);
    prx_scratch_puts(scratch, path, text);
    snprintf(path, sizeof(path), "%s/%s", folder, basename);
    if (!set->compression)
        prx_scratch_put(scratch, path, set->shard.bytes, set->shard.n_bytes);
    json_decref(more);
    json_decref(root);
    free(text);
    return prx_scratch_path(scratch, folder);
}

void prx_mds_set_release(struct prx_mds_set *set)
{
    for (size_t i = 0; i < set->n_samples; i++)
        prx_str_release(&set->samples[i]);
    prx_str_release(&set->shard);
}
