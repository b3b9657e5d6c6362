/* SPDX-License-Identifier: Apache-2.0 */
/*
 * Which encoders have made the arrays of a data set: one for each part, or else it
 * cannot be trained on.
 */
#include <stdlib.h>
#include <string.h>

#include "libdata/verify/verify_internal.h"

#define PRINTS_MAX 256 /* told apart; a sound data set has a handful */

struct print {
    char *part, *fingerprint;
    uint64_t n_samples;
    char *file, *key; /* of the first of them */
};

struct verify_prints {
    struct print prints[PRINTS_MAX];
    size_t n_prints;
    bool is_cut;                     /* there were more */
    const struct prx_sample *sample; /* being looked at */
};

int prx_verify_prints_new(struct verify_prints **out)
{
    *out = calloc(1, sizeof(**out));
    return *out ? 0 : prx_err_nomem("fingerprints");
}

static void print_release(struct print *print)
{
    free(print->part);
    free(print->fingerprint);
    free(print->file);
    free(print->key);
}

void prx_verify_prints_free(struct verify_prints *prints)
{
    if (!prints)
        return;
    for (size_t i = 0; i < prints->n_prints; i++)
        print_release(&prints->prints[i]);
    free(prints);
}

static bool ends_with(const char *text, const char *end)
{
    size_t n_text = strlen(text), n_end = strlen(end);
    return n_text > n_end && strcmp(text + n_text - n_end, end) == 0;
}

int prx_verify_each_print(const struct prx_sample *sample,
                          int (*fn)(void *ctx, const char *part, const json_t *record,
                                    const char *fingerprint),
                          void *ctx)
{
    const json_t *encode = json_object_get(sample->meta, "encode");

    for (size_t i = 0; i < sample->n_fields; i++) {
        const char *part = sample->fields[i].name;
        if (strcmp(part, "latent.npy") != 0 && !ends_with(part, ".text.npy") &&
            !ends_with(part, ".feat.npy"))
            continue;
        const json_t *record = json_object_get(encode, part);
        const char *fingerprint =
            json_string_value(json_object_get(record, "fingerprint"));
        int rc = fn(ctx, part, record, fingerprint);
        PRX_TRY(rc);
    }
    return 0;
}

static int add_print(void *ctx, const char *part, const json_t *record,
                     const char *fingerprint)
{
    struct verify_prints *prints = ctx;
    struct print *print = prints->prints;
    int rc = 0;

    (void)record;
    if (!fingerprint)
        return 0;
    for (size_t i = 0; i < prints->n_prints; i++, print++) {
        if (strcmp(print->part, part) == 0 &&
            strcmp(print->fingerprint, fingerprint) == 0) {
            print->n_samples++;
            return 0;
        }
    }
    prints->is_cut = prints->n_prints == PRINTS_MAX;
    if (prints->is_cut)
        return 0;
    *print = (struct print){.n_samples = 1};
    PRX_GO(prx_strdup(part, &print->part));
    PRX_GO(prx_strdup(fingerprint, &print->fingerprint));
    PRX_GO(prx_strdup(prints->sample->origin, &print->file));
    PRX_GO(prx_strdup(prints->sample->key, &print->key));
    prints->n_prints++;
    return 0;
out:
    print_release(print);
    return rc;
}

int prx_verify_prints_add(struct verify_prints *prints, const struct prx_sample *sample)
{
    prints->sample = sample;
    return prx_verify_each_print(sample, add_print, prints);
}

/* Of the part of @print, the one that most samples have; of equals the first. */
static const struct print *find_usual(const struct verify_prints *prints,
                                      const struct print *print)
{
    const struct print *usual = NULL;

    for (size_t i = 0; i < prints->n_prints; i++) {
        const struct print *other = &prints->prints[i];
        if (strcmp(other->part, print->part) == 0 &&
            (!usual || other->n_samples > usual->n_samples))
            usual = other;
    }
    return usual;
}

int prx_verify_prints_notes(const struct verify_prints *prints,
                            struct verify_notes *notes)
{
    for (size_t i = 0; i < prints->n_prints; i++) {
        const struct print *print = &prints->prints[i];
        const struct print *usual = find_usual(prints, print);
        if (usual == print)
            continue;
        PRX_TRY(prx_verify_note(
            notes, "fingerprint", print->file, print->key,
            "%s: the first of %llu samples with fingerprint %.80s, where %llu have"
            " %.80s",
            print->part, (unsigned long long)print->n_samples, print->fingerprint,
            (unsigned long long)usual->n_samples, usual->fingerprint));
    }
    if (prints->is_cut)
        return prx_verify_note(notes, "fingerprint", prints->prints[0].file, NULL,
                               "more than %d fingerprints in this data set",
                               PRINTS_MAX);
    return 0;
}

json_t *prx_verify_prints_json(const struct verify_prints *prints)
{
    json_t *all = json_object();

    for (size_t i = 0; all && i < prints->n_prints; i++) {
        const struct print *print = &prints->prints[i];
        json_t *part = json_object_get(all, print->part);
        if (!part) {
            part = json_object();
            json_object_set_new(all, print->part, part);
        }
        json_object_set_new(part, print->fingerprint,
                            json_integer((json_int_t)print->n_samples));
    }
    return all;
}
