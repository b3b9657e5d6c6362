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

void prx_dali_begin(struct prx_dali *dali)
{
    dali->n_samples++;
    dali->is_begun = false;
}

int prx_dali_member(struct prx_dali *dali, const char *key, const char *field,
                    uint64_t at_bytes, uint64_t n_bytes)
{
    bool is_first = !dali->is_begun;

    dali->is_begun = true;
    dali->is_unfit |= *field == '\0' || strchr(field, ' ') || strchr(key, ' ');
    if (dali->is_unfit)
        return 0;
    return prx_str_printf(&dali->lines, "%s%s %llu %llu %s.%s", is_first ? "" : " ",
                          field, (unsigned long long)at_bytes,
                          (unsigned long long)n_bytes, key, field);
}

int prx_dali_end(struct prx_dali *dali)
{
    return dali->is_unfit ? 0 : prx_str_puts(&dali->lines, "\n");
}

int prx_dali_put(struct prx_dali *dali, const struct prx_sample *sample,
                 const uint64_t *at_bytes)
{
    prx_dali_begin(dali);
    for (size_t i = 0; i < sample->n_fields; i++)
        PRX_TRY(prx_dali_member(dali, sample->key, sample->fields[i].name, at_bytes[i],
                                sample->fields[i].n_bytes));
    return prx_dali_end(dali);
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
