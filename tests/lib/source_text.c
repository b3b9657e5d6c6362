/* SPDX-License-Identifier: Apache-2.0 */
/* Sources, written out. */
#include "tests/lib/source_text.h"

#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "libdata/buf.h"

static void need(int ok)
{
    if (!ok) {
        fprintf(stderr, "source_text: %s\n", prx_err_message());
        abort();
    }
}

static const char *without(const char *text, const char *cut)
{
    const char *at = cut ? strstr(text, cut) : NULL;

    return at ? at + strlen(cut) : text;
}

static void add_sample(struct prx_str *out, struct prx_sample *sample, const char *cut)
{
    if (sample->reject_reason) {
        need(prx_str_printf(out, "%s! %s\n", without(sample->key, cut),
                            without(sample->reject_reason, cut)) == 0);
        return;
    }
    need(prx_key_check(sample->key) == 0);
    need(prx_sample_load(sample) == 0);
    need(prx_str_printf(out, "%s:", sample->key) == 0);
    for (size_t i = 0; i < sample->n_fields; i++) {
        const struct prx_field *field = &sample->fields[i];
        need(prx_field_check(field->name) == 0);
        need(prx_str_printf(out, " %s=%.*s", field->name, (int)field->n_bytes,
                            (const char *)field->bytes->bytes) == 0);
    }
    need(prx_str_puts(out, "\n") == 0);
}

char *source_text(const char *word, const struct prx_source_opts *opts, const char *cut)
{
    struct prx_source *source;
    struct prx_sample sample = {0};
    struct prx_str out = {0};
    uint64_t serial = 0;

    need(prx_str_puts(&out, "") == 0);
    int got = prx_source_open(&word, 1, opts, &source);
    if (got == 0) {
        while ((got = prx_source_next(source, &sample)) == 1) {
            need(sample.serial == serial++);
            need(sample.origin != NULL);
            add_sample(&out, &sample, cut);
        }
        prx_source_close(source);
    }
    if (got < 0)
        need(prx_str_printf(&out, "FAILED %d: %s\n", got,
                            without(prx_err_message(), cut)) == 0);
    prx_sample_release(&sample);
    return out.bytes;
}
