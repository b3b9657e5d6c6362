/* SPDX-License-Identifier: Apache-2.0 */
/* The row table: defaults, look-up with a guess at what was meant, release. */
#include "libdata/base/conf_internal.h"

#include <stdio.h>
#include <stdlib.h>
#include <string.h>

int prx_conf_err(const struct conf_place *place, const char *fmt, ...)
{
    char text[PRX_ERR_TEXT_BYTES];
    va_list args;

    va_start(args, fmt);
    vsnprintf(text, sizeof(text), fmt, args);
    va_end(args);
    if (place->line > 0)
        return prx_err(PRX_EINVAL, "%s:%zu: %s", place->name, place->line, text);
    return prx_err(PRX_EINVAL, "%s: %s", place->name, text);
}

const struct prx_conf_row *prx_conf_find(const struct conf_target *target,
                                         const char *key)
{
    for (size_t i = 0; i < target->n_rows; i++)
        if (strcmp(target->rows[i].key, key) == 0)
            return &target->rows[i];
    return NULL;
}

bool prx_conf_has_section(const struct conf_target *target, const char *key)
{
    size_t n_bytes = strlen(key);

    for (size_t i = 0; i < target->n_rows; i++)
        if (strncmp(target->rows[i].key, key, n_bytes) == 0 &&
            target->rows[i].key[n_bytes] == '.')
            return true;
    return false;
}

/*
 * Letters to insert, drop, change or swap with a neighbour to make @b from @a
 * (optimal string alignment); both shorter than CONF_KEY_BYTES.
 */
static size_t edit_distance(const char *a, const char *b)
{
    size_t rows[3][CONF_KEY_BYTES];
    size_t *before = rows[0], *above = rows[1], *row = rows[2];
    size_t n_a = strlen(a), n_b = strlen(b);

    for (size_t j = 0; j <= n_b; j++)
        row[j] = j;
    for (size_t i = 1; i <= n_a; i++) {
        size_t *spare = before;
        before = above;
        above = row;
        row = spare;
        row[0] = i;
        for (size_t j = 1; j <= n_b; j++) {
            size_t cost = above[j - 1] + (a[i - 1] != b[j - 1]);
            if (above[j] + 1 < cost)
                cost = above[j] + 1;
            if (row[j - 1] + 1 < cost)
                cost = row[j - 1] + 1;
            if (i > 1 && j > 1 && a[i - 1] == b[j - 2] && a[i - 2] == b[j - 1] &&
                before[j - 2] + 1 < cost)
                cost = before[j - 2] + 1;
            row[j] = cost;
        }
    }
    return row[n_b];
}

/* How far @key is from @known; a known key named without its section is near. */
static size_t key_distance(const char *key, const char *known)
{
    const char *last = strrchr(known, '.');
    const char *own = strrchr(key, '.');

    if (last && strcmp(last + 1, own ? own + 1 : key) == 0)
        return 1;
    return edit_distance(key, known);
}

int prx_conf_err_unknown(const struct conf_target *target,
                         const struct conf_place *place, const char *key)
{
    char guess[CONF_KEY_BYTES] = "";
    /* Further than three letters, or another word altogether, is no guess. */
    size_t nearest = strlen(key) < 4 ? strlen(key) : 4;

    for (size_t i = 0; i < target->n_rows; i++) {
        /* The row's own key, then the sections it lies in. */
        char known[CONF_KEY_BYTES];
        snprintf(known, sizeof(known), "%s", target->rows[i].key);
        do {
            size_t distance = key_distance(key, known);
            if (distance < nearest) {
                nearest = distance;
                memcpy(guess, known, sizeof(guess));
            }
            char *dot = strrchr(known, '.');
            *(dot ? dot : known) = '\0';
        } while (known[0] != '\0');
    }
    if (guess[0] == '\0')
        return prx_conf_err(place, "%s: unknown key", key);
    return prx_conf_err(place, "%s: unknown key (did you mean %s?)", key, guess);
}

void prx_conf_reset(const struct prx_conf_row *row, void *conf)
{
    void *member = (char *)conf + row->offset;

    switch (row->type) {
    case PRX_CONF_BOOL:
        *(bool *)member = false;
        break;
    case PRX_CONF_INT:
        *(int64_t *)member = 0;
        break;
    case PRX_CONF_FLOAT:
        *(double *)member = 0;
        break;
    case PRX_CONF_STRING:
        free(*(char **)member);
        *(char **)member = NULL;
        break;
    case PRX_CONF_ENUM:
        *(int *)member = 0;
        break;
    case PRX_CONF_INTS:
        *(struct prx_conf_ints *)member = (struct prx_conf_ints){0};
        break;
    case PRX_CONF_STRINGS: {
        struct prx_conf_strings *strings = member;
        for (size_t i = 0; i < strings->n; i++)
            free(strings->values[i]);
        free(strings->values);
        *strings = (struct prx_conf_strings){0};
        break;
    }
    case PRX_CONF_WEIGHTS: {
        struct prx_conf_weights *weights = member;
        for (int i = 0; i < weights->n; i++)
            free(weights->names[i]);
        *weights = (struct prx_conf_weights){0};
        break;
    }
    case PRX_CONF_PHASES: {
        struct prx_conf_phases *phases = member;
        const struct prx_conf_row weights = {.type = PRX_CONF_WEIGHTS};
        for (int i = 0; i < phases->n; i++)
            prx_conf_reset(&weights, &phases->weights[i]);
        *phases = (struct prx_conf_phases){0};
        break;
    }
    }
}

int prx_conf_init(const struct prx_conf_row *rows, size_t n_rows, void *conf)
{
    const struct conf_place place = {.name = "default"};

    /* Members hold nothing yet: owners must not be followed by a reset. */
    for (size_t i = 0; i < n_rows; i++) {
        void *member = (char *)conf + rows[i].offset;
        if (rows[i].type == PRX_CONF_STRING)
            *(char **)member = NULL;
        else if (rows[i].type == PRX_CONF_STRINGS)
            *(struct prx_conf_strings *)member = (struct prx_conf_strings){0};
        else if (rows[i].type == PRX_CONF_WEIGHTS)
            *(struct prx_conf_weights *)member = (struct prx_conf_weights){0};
        else if (rows[i].type == PRX_CONF_PHASES)
            *(struct prx_conf_phases *)member = (struct prx_conf_phases){0};
        prx_conf_reset(&rows[i], conf);
    }
    for (size_t i = 0; i < n_rows; i++)
        if (rows[i].preset)
            PRX_TRY(prx_conf_put_text(&rows[i], conf, &place, rows[i].preset));
    return 0;
}

void prx_conf_release(const struct prx_conf_row *rows, size_t n_rows, void *conf)
{
    for (size_t i = 0; i < n_rows; i++)
        prx_conf_reset(&rows[i], conf);
}
