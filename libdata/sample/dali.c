/* SPDX-License-Identifier: Apache-2.0 */
/* DALI indexes, written. */
#include "libdata/dali.h"

#include <stdio.h>
#include <string.h>

#include "libdata/outfile.h"

void prx_dali_release(struct prx_dali *dali)
{
    prx_str_release(&dali->lines);
    *dali = (struct prx_dali){0};
}

void prx_dali_reset(struct prx_dali *dali)
{
    prx_str_reset(&dali->lines);
    dali->n_samples = 0;
    dali->is_unfit = false;
}

static bool is_fit(const struct prx_sample *sample)
{
    if (strchr(sample->key, ' '))
        return false;
    for (size_t i = 0; i < sample->n_fields; i++) {
        const char *name = sample->fields[i].name;
        if (*name == '\0' || strchr(name, ' '))
            return false;
    }
    return true;
}

int prx_dali_put(struct prx_dali *dali, const struct prx_sample *sample,
                 const uint64_t *at_bytes)
{
    dali->n_samples++;
    if (dali->is_unfit || !is_fit(sample)) {
        dali->is_unfit = true;
        return 0;
    }
    for (size_t i = 0; i < sample->n_fields; i++) {
        const struct prx_field *field = &sample->fields[i];
        PRX_TRY(prx_str_printf(&dali->lines, "%s%s %llu %llu %s.%s", i ? " " : "",
                               field->name, (unsigned long long)at_bytes[i],
                               (unsigned long long)field->n_bytes, sample->key,
                               field->name));
    }
    return prx_str_puts(&dali->lines, "\n");
}

int prx_dali_path(const char *shard_path, struct prx_str *out)
{
    return prx_str_printf(out, "%.*s.idx", (int)strlen(shard_path) - 4, shard_path);
}

int prx_dali_write(const struct prx_dali *dali, const char *shard_path, bool no_sync)
{
    struct prx_str path = {0};
    struct prx_outfile file = {.fd = -1};
    char head[32];
    int rc = 0;

    PRX_BUG_IF(dali->is_unfit);
    int n_head = snprintf(head, sizeof(head), "v1.2 %llu\n",
                          (unsigned long long)dali->n_samples);
    PRX_GO(prx_dali_path(shard_path, &path));
    PRX_GO(prx_outfile_open(&file, path.bytes));
    PRX_GO(prx_outfile_write(&file, head, (size_t)n_head));
    PRX_GO(prx_outfile_write(&file, dali->lines.bytes, dali->lines.n_bytes));
    PRX_GO(prx_outfile_commit(&file, no_sync));
out:
    prx_outfile_abort(&file);
    prx_str_release(&path);
    return rc;
}
