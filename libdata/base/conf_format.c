/* SPDX-License-Identifier: Apache-2.0 */
/* Values back to YAML, and the row table as a manual. */
#include "libdata/base/conf_internal.h"

#include <ctype.h>
#include <inttypes.h>
#include <math.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

/* Whether @text, unquoted, reads back as this very text. */
static bool is_plain(const char *text)
{
    static const char *const words[] = {"null", "true", "false", "yes",
                                        "no", "on", "off"};

    if (!isalpha((unsigned char)text[0]) && text[0] != '/')
        return false;
    for (const char *at = text; *at; at++)
        if (!isalnum((unsigned char)*at) && !strchr("_-./", *at))
            return false;
    for (size_t i = 0; i < sizeof(words) / sizeof(words[0]); i++)
        if (strcmp(text, words[i]) == 0)
            return false;
    return true;
}

/*
 * The character at @at and its length, where YAML takes it, unescaped, for a line
 * break or not at all: controls, U+2028 and U+2029, marks of byte order.  Else 0.
 */
static unsigned special_char(const char *at, size_t *n_bytes)
{
    const unsigned char *c = (const unsigned char *)at;

    *n_bytes = c[0] < 0x80 ? 1 : c[0] < 0xe0 ? 2
                                             : 3;
    if (c[0] < 0x20 || c[0] == 0x7f)
        return c[0];
    if (c[0] == 0xc2 && c[1] >= 0x80 && c[1] < 0xa0)
        return c[1];
    if (c[0] == 0xe2 && c[1] == 0x80 && (c[2] | 1) == 0xa9)
        return 0x2000u + (c[2] & 0x3fu);
    if (c[0] == 0xef && c[1] == 0xbb && c[2] == 0xbf)
        return 0xfeff;
    if (c[0] == 0xef && c[1] == 0xbf && c[2] >= 0xbe)
        return 0xffc0u + (c[2] & 0x3fu);
    return 0;
}

static int format_text(const char *text, struct prx_str *out)
{
    size_t n_bytes;

    if (!text)
        return prx_str_puts(out, "null");
    if (is_plain(text))
        return prx_str_puts(out, text);
    PRX_TRY(prx_str_puts(out, "\""));
    for (const char *at = text; *at; at += n_bytes) {
        unsigned special = special_char(at, &n_bytes);
        if (special)
            PRX_TRY(prx_str_printf(out, special < 0x100 ? "\\x%02x" : "\\u%04x",
                                   special));
        else if (*at == '"' || *at == '\\')
            PRX_TRY(prx_str_printf(out, "\\%c", *at));
        else
            PRX_TRY(prx_str_add(out, at, n_bytes = 1));
    }
    return prx_str_puts(out, "\"");
}

/* The shortest decimal that reads back as @value. */
static int format_float(double value, struct prx_str *out)
{
    char text[40];

    if (value == rint(value) && fabs(value) < 1e15)
        return prx_str_printf(out, "%.0f", value);
    for (int n_digits = 1; n_digits <= 17; n_digits++) {
        snprintf(text, sizeof(text), "%.*g", n_digits, value);
        if (strtod(text, NULL) == value)
            break;
    }
    return prx_str_puts(out, text);
}

static int format_ints(const struct prx_conf_ints *ints, struct prx_str *out)
{
    PRX_TRY(prx_str_puts(out, "["));
    for (int i = 0; i < ints->n; i++)
        PRX_TRY(prx_str_printf(out, "%s%" PRId64, i > 0 ? ", " : "", ints->values[i]));
    return prx_str_puts(out, "]");
}

static int format_strings(const struct prx_conf_strings *strings, struct prx_str *out)
{
    PRX_TRY(prx_str_puts(out, "["));
    for (size_t i = 0; i < strings->n; i++) {
        PRX_TRY(prx_str_puts(out, i > 0 ? ", " : ""));
        PRX_TRY(format_text(strings->values[i], out));
    }
    return prx_str_puts(out, "]");
}

static int format_weights(const struct prx_conf_weights *weights, struct prx_str *out)
{
    PRX_TRY(prx_str_puts(out, "{"));
    for (int i = 0; i < weights->n; i++) {
        PRX_TRY(prx_str_puts(out, i > 0 ? ", " : ""));
        PRX_TRY(format_text(weights->names[i], out));
        PRX_TRY(prx_str_puts(out, ": "));
        PRX_TRY(format_float(weights->weights[i], out));
    }
    return prx_str_puts(out, "}");
}

static int format_phases(const struct prx_conf_phases *phases, struct prx_str *out)
{
    if (phases->n == 1)
        return format_weights(&phases->weights[0], out);
    PRX_TRY(prx_str_puts(out, "{"));
    for (int i = 0; i < phases->n; i++) {
        PRX_TRY(prx_str_printf(out, "%s%" PRId64 ": ", i > 0 ? ", " : "",
                               phases->from[i]));
        PRX_TRY(format_weights(&phases->weights[i], out));
    }
    return prx_str_puts(out, "}");
}

int prx_conf_format_value(const struct prx_conf_row *row, const void *conf,
                          struct prx_str *out)
{
    const void *member = (const char *)conf + row->offset;

    switch (row->type) {
    case PRX_CONF_BOOL:
        return prx_str_puts(out, *(const bool *)member ? "true" : "false");
    case PRX_CONF_INT:
        return prx_str_printf(out, "%" PRId64, *(const int64_t *)member);
    case PRX_CONF_FLOAT:
        return format_float(*(const double *)member, out);
    case PRX_CONF_STRING:
        return format_text(*(char *const *)member, out);
    case PRX_CONF_ENUM:
        return prx_str_puts(out, row->choices[*(const int *)member]);
    case PRX_CONF_INTS:
        return format_ints(member, out);
    case PRX_CONF_STRINGS:
        return format_strings(member, out);
    case PRX_CONF_WEIGHTS:
        return format_weights(member, out);
    case PRX_CONF_PHASES:
        return format_phases(member, out);
    }
    PRX_BUG_IF(true);
    return PRX_EINVAL;
}

/* Bytes of @key that name sections: up to and with its last dot. */
static size_t section_bytes(const char *key)
{
    const char *dot = strrchr(key, '.');

    return dot ? (size_t)(dot - key) + 1 : 0;
}

/* Headings of the sections of @key that the row before, @last, was not in. */
static int format_sections(const char *last, const char *key, struct prx_str *out)
{
    size_t i_begin = 0;
    int depth = 0;

    for (size_t i = 0; i < section_bytes(key); i++) {
        if (key[i] != '.')
            continue;
        if (strncmp(last, key, i + 1) != 0)
            PRX_TRY(prx_str_printf(out, "%*s%.*s:\n", 2 * depth, "", (int)(i - i_begin),
                                   key + i_begin));
        i_begin = i + 1;
        depth++;
    }
    return 0;
}

static int depth_of(const char *key)
{
    int depth = 0;

    for (; *key; key++)
        depth += *key == '.';
    return depth;
}

int prx_conf_format(const struct prx_conf_row *rows, size_t n_rows, const void *conf,
                    struct prx_str *out)
{
    for (size_t i = 0; i < n_rows; i++) {
        const char *key = rows[i].key;
        PRX_TRY(format_sections(i > 0 ? rows[i - 1].key : "", key, out));
        PRX_TRY(prx_str_printf(out, "%*s%s: ", 2 * depth_of(key), "",
                               key + section_bytes(key)));
        PRX_TRY(prx_conf_format_value(&rows[i], conf, out));
        PRX_TRY(prx_str_puts(out, "\n"));
    }
    return 0;
}

static int format_kind(const struct prx_conf_row *row, struct prx_str *out)
{
    static const char *const names[] = {
        [PRX_CONF_BOOL] = "true or false",
        [PRX_CONF_INT] = "integer",
        [PRX_CONF_FLOAT] = "number",
        [PRX_CONF_STRING] = "text",
        [PRX_CONF_INTS] = "list of integers",
        [PRX_CONF_STRINGS] = "list of texts",
        [PRX_CONF_WEIGHTS] = "{name: weight, ...}",
        [PRX_CONF_PHASES] = "{name: weight, ...}, or {0: {...}, step: {...}, ...}",
    };

    if (row->type == PRX_CONF_ENUM) {
        for (int i = 0; row->choices[i]; i++)
            PRX_TRY(prx_str_printf(out, "%s%s", i > 0 ? " | " : "", row->choices[i]));
        return 0;
    }
    PRX_TRY(prx_str_puts(out, names[row->type]));
    if (row->min == 0 && row->max == 0)
        return 0;
    PRX_TRY(prx_str_puts(out, ", "));
    PRX_TRY(format_float(row->min, out));
    PRX_TRY(prx_str_puts(out, " .. "));
    return format_float(row->max, out);
}

static const char *preset_of(const struct prx_conf_row *row)
{
    return row->preset ? row->preset : "null";
}

int prx_conf_format_mdoc(const struct prx_conf_row *rows, size_t n_rows,
                         struct prx_str *out)
{
    for (size_t i = 0; i < n_rows; i++) {
        PRX_TRY(prx_str_printf(out, ".It Cm %s\n%s.\n.br\n", rows[i].key,
                               rows[i].help));
        PRX_TRY(format_kind(&rows[i], out));
        PRX_TRY(prx_str_printf(out, "; default\n.Li %s\n", preset_of(&rows[i])));
    }
    return 0;
}

int prx_conf_format_help(const struct prx_conf_row *rows, size_t n_rows,
                         struct prx_str *out)
{
    for (size_t i = 0; i < n_rows; i++) {
        PRX_TRY(prx_str_printf(out, "%s: %s\n    %s (", rows[i].key,
                               preset_of(&rows[i]), rows[i].help));
        PRX_TRY(format_kind(&rows[i], out));
        PRX_TRY(prx_str_puts(out, ")\n"));
    }
    return 0;
}
