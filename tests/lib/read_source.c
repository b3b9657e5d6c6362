/* SPDX-License-Identifier: Apache-2.0 */
/* Sources, written down. */
#include "tests/lib/read_source.h"

#include <string.h>

static void put_reject(struct prx_str *out, const struct prx_scratch *scratch,
                       const struct prx_sample *sample)
{
    const char *reason = sample->reject_reason;
    const char *root = strstr(reason, scratch->root);

    PRX_BUG_IF(prx_str_printf(out, "! %s\n",
                              root ? root + strlen(scratch->root) + 1 : reason) < 0);
}

static void put_fields(struct prx_str *out, struct prx_sample *sample)
{
    PRX_BUG_IF(prx_key_check(sample->key) < 0);
    PRX_BUG_IF(prx_sample_load(sample) < 0);
    PRX_BUG_IF(prx_str_puts(out, ":") < 0);
    for (size_t i = 0; i < sample->n_fields; i++) {
        const struct prx_field *field = &sample->fields[i];
        PRX_BUG_IF(prx_field_check(field->name) < 0);
        PRX_BUG_IF(prx_str_printf(out, " %s=", field->name) < 0);
        PRX_BUG_IF(prx_str_add(out, field->bytes->bytes, field->bytes->n_bytes) < 0);
    }
    PRX_BUG_IF(prx_str_puts(out, "\n") < 0);
}

char *prx_read_source(struct prx_scratch *scratch, const char *word,
                      const struct prx_source_opts *opts)
{
    struct prx_source *source;
    struct prx_sample sample = {0};
    struct prx_str out = {0};
    uint64_t serial = 0;
    int got;

    PRX_BUG_IF(prx_source_open(&word, 1, opts, &source) < 0);
    PRX_BUG_IF(prx_str_puts(&out, "") < 0);
    while ((got = prx_source_next(source, &sample)) == 1) {
        PRX_BUG_IF(sample.serial != serial++ || !sample.origin);
        PRX_BUG_IF(prx_str_puts(&out, sample.key) < 0);
        if (sample.reject_reason)
            put_reject(&out, scratch, &sample);
        else
            put_fields(&out, &sample);
    }
    PRX_BUG_IF(got != 0);
    prx_sample_release(&sample);
    prx_source_close(source);
    return out.bytes;
}
