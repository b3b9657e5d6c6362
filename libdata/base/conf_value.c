/* SPDX-License-Identifier: Apache-2.0 */
/*
 * One YAML node into one member of a struct.
 *
 * A new value is built aside and replaces the old one only when it is whole, so
 * a refused value leaves the member as it was.
 */
#include "libdata/base/conf_internal.h"

#include <errno.h>
#include <math.h>
#include <stdlib.h>
#include <string.h>

/* The text of a scalar, or NULL: another kind of node, or a NUL inside. */
static const char *scalar_text(const yaml_node_t *node)
{
    if (node->type != YAML_SCALAR_NODE ||
        strlen((const char *)node->data.scalar.value) != node->data.scalar.length)
        return NULL;
    return (const char *)node->data.scalar.value;
}

static bool is_null(const yaml_node_t *node)
{
    const char *text = node ? scalar_text(node) : "";

    if (!text || (node && node->data.scalar.style != YAML_PLAIN_SCALAR_STYLE))
        return false;
    return text[0] == '\0' || strcmp(text, "~") == 0 || strcmp(text, "null") == 0;
}

static int parse_bool(const struct prx_conf_row *row, const struct conf_place *place,
                      const yaml_node_t *node, bool *out)
{
    const char *text = scalar_text(node);

    if (text && (strcmp(text, "true") == 0 || strcmp(text, "false") == 0)) {
        *out = text[0] == 't';
        return 0;
    }
    return prx_conf_err(place, "%s: expected true or false", row->key);
}

/* Bounds apply to both kinds of number; @text is for the message. */
static int check_bounds(const struct prx_conf_row *row, const struct conf_place *place,
                        double value, const char *text)
{
    if ((row->min == 0 && row->max == 0) || (value >= row->min && value <= row->max))
        return 0;
    return prx_conf_err(place, "%s: %s is not in %g .. %g", row->key, text, row->min,
                        row->max);
}

static int parse_int(const struct prx_conf_row *row, const struct conf_place *place,
                     const yaml_node_t *node, int64_t *out)
{
    const char *text = scalar_text(node);
    char *end = NULL;

    errno = 0;
    long long value = text ? strtoll(text, &end, 10) : 0;
    if (!text || end == text || *end || strspn(text, "+-0123456789") != strlen(text))
        return prx_conf_err(place, "%s: expected an integer", row->key);
    if (errno == ERANGE)
        return prx_conf_err(place, "%s: %s does not fit 64 bits", row->key, text);
    PRX_TRY(check_bounds(row, place, (double)value, text));
    *out = value;
    return 0;
}

static int parse_float(const struct prx_conf_row *row, const struct conf_place *place,
                       const yaml_node_t *node, double *out)
{
    const char *text = scalar_text(node);
    char *end = NULL;

    double value = text ? strtod(text, &end) : 0;
    /* strtod() also knows hexadecimal, infinities and NaN; a recipe does not. */
    if (!text || end == text || *end || !isfinite(value) ||
        strspn(text, "+-.0123456789eE") != strlen(text))
        return prx_conf_err(place, "%s: expected a number", row->key);
    PRX_TRY(check_bounds(row, place, value, text));
    *out = value;
    return 0;
}

static int parse_enum(const struct prx_conf_row *row, const struct conf_place *place,
                      const yaml_node_t *node, int *out)
{
    const char *text = scalar_text(node);
    struct prx_str names = {0};

    for (int i = 0; text && row->choices[i]; i++) {
        if (strcmp(text, row->choices[i]) == 0) {
            *out = i;
            return 0;
        }
    }
    int rc = 0;
    for (int i = 0; rc == 0 && row->choices[i]; i++)
        rc = prx_str_printf(&names, "%s%s", i > 0 ? ", " : "", row->choices[i]);
    if (rc == 0)
        rc = prx_conf_err(place, "%s: expected one of %s", row->key, names.bytes);
    prx_str_release(&names);
    return rc;
}

static int parse_ints(const struct prx_conf_row *row, const struct conf_place *place,
                      yaml_document_t *doc, const yaml_node_t *node,
                      struct prx_conf_ints *out)
{
    struct prx_conf_ints ints = {0};

    if (node->type != YAML_SEQUENCE_NODE)
        return prx_conf_err(place, "%s: expected a list of integers", row->key);
    for (const yaml_node_item_t *at = node->data.sequence.items.start;
         at < node->data.sequence.items.top; at++) {
        if (ints.n == PRX_CONF_LIST_MAX)
            return prx_conf_err(place, "%s: more than %d values", row->key,
                                PRX_CONF_LIST_MAX);
        PRX_TRY(parse_int(row, place, yaml_document_get_node(doc, *at),
                          &ints.values[ints.n]));
        ints.n++;
    }
    *out = ints;
    return 0;
}

static int parse_strings(const struct prx_conf_row *row, const struct conf_place *place,
                         yaml_document_t *doc, const yaml_node_t *node,
                         struct prx_conf_strings *out)
{
    const struct prx_conf_row own = {.type = PRX_CONF_STRINGS};
    struct prx_conf_strings strings = {0};
    int rc = 0;

    if (node->type != YAML_SEQUENCE_NODE)
        return prx_conf_err(place, "%s: expected a list of texts", row->key);
    const yaml_node_item_t *at = node->data.sequence.items.start;
    size_t n = (size_t)(node->data.sequence.items.top - at);
    strings.values = calloc(n + 1, sizeof(*strings.values));
    if (!strings.values)
        return prx_err_nomem("a list of texts");
    for (; strings.n < n; strings.n++, at++) {
        const yaml_node_t *item = yaml_document_get_node(doc, *at);
        const char *text = is_null(item) ? NULL : scalar_text(item);
        if (!text)
            PRX_GO(prx_conf_err(place, "%s: expected a list of texts", row->key));
        PRX_GO(prx_strdup(text, &strings.values[strings.n]));
    }
    prx_conf_reset(&own, out);
    *out = strings;
    return 0;

out:
    prx_conf_reset(&own, &strings);
    return rc;
}

static bool has_name(const struct prx_conf_weights *weights, const char *name)
{
    for (int i = 0; i < weights->n; i++)
        if (strcmp(weights->names[i], name) == 0)
            return true;
    return false;
}

static int add_weight(const struct prx_conf_row *row, const struct conf_place *place,
                      const yaml_node_t *key, const yaml_node_t *value,
                      struct prx_conf_weights *weights)
{
    const char *name = scalar_text(key);

    if (!name || name[0] == '\0')
        return prx_conf_err(place, "%s: expected {name: weight, ...}", row->key);
    if (has_name(weights, name))
        return prx_conf_err(place, "%s: %s is given twice", row->key, name);
    if (weights->n == PRX_CONF_LIST_MAX)
        return prx_conf_err(place, "%s: more than %d names", row->key,
                            PRX_CONF_LIST_MAX);
    PRX_TRY(parse_float(row, place, value, &weights->weights[weights->n]));
    if (weights->weights[weights->n] < 0)
        return prx_conf_err(place, "%s: the weight of %s is negative", row->key, name);
    PRX_TRY(prx_strdup(name, &weights->names[weights->n]));
    weights->n++;
    return 0;
}

static int parse_weights(const struct prx_conf_row *row, const struct conf_place *place,
                         yaml_document_t *doc, const yaml_node_t *node,
                         struct prx_conf_weights *out)
{
    const struct prx_conf_row own = {.type = PRX_CONF_WEIGHTS};
    struct prx_conf_weights weights = {0};
    int rc = 0;

    if (node->type != YAML_MAPPING_NODE)
        return prx_conf_err(place, "%s: expected {name: weight, ...}", row->key);
    for (const yaml_node_pair_t *at = node->data.mapping.pairs.start;
         at < node->data.mapping.pairs.top; at++)
        PRX_GO(add_weight(row, place, yaml_document_get_node(doc, at->key),
                          yaml_document_get_node(doc, at->value), &weights));
    prx_conf_reset(&own, out);
    *out = weights;
    return 0;

out:
    prx_conf_reset(&own, &weights);
    return rc;
}

/* The step at which a phase begins, behind @before. */
static int parse_step(const struct prx_conf_row *row, const struct conf_place *place,
                      const yaml_node_t *node, int64_t before, int64_t *out)
{
    const char *text = scalar_text(node);
    char *end;

    errno = 0;
    *out = text ? strtoll(text, &end, 10) : -1;
    if (!text || end == text || *end != '\0' || errno != 0 || *out <= before)
        return prx_conf_err(place, "%s: expected {0: {name: weight, ...}, STEP: {...}},"
                                   " by rising steps",
                            row->key);
    return 0;
}

static int add_phase(const struct prx_conf_row *row, const struct conf_place *place,
                     yaml_document_t *doc, const yaml_node_pair_t *at,
                     struct prx_conf_phases *phases)
{
    int64_t before = phases->n > 0 ? phases->from[phases->n - 1] : -1;

    if (phases->n == PRX_CONF_LIST_MAX)
        return prx_conf_err(place, "%s: more than %d steps", row->key,
                            PRX_CONF_LIST_MAX);
    PRX_TRY(parse_step(row, place, yaml_document_get_node(doc, at->key), before,
                       &phases->from[phases->n]));
    if (phases->n == 0 && phases->from[0] != 0)
        return prx_conf_err(place, "%s: the first step must be 0", row->key);
    PRX_TRY(parse_weights(row, place, doc, yaml_document_get_node(doc, at->value),
                          &phases->weights[phases->n]));
    phases->n++;
    return 0;
}

/* Weights alone are those of a single phase. */
static int parse_phases(const struct prx_conf_row *row, const struct conf_place *place,
                        yaml_document_t *doc, const yaml_node_t *node,
                        struct prx_conf_phases *out)
{
    const struct prx_conf_row own = {.type = PRX_CONF_PHASES};
    struct prx_conf_phases phases = {0};
    const yaml_node_pair_t *at = NULL, *end = NULL;
    int rc = 0;

    if (node->type == YAML_MAPPING_NODE) {
        at = node->data.mapping.pairs.start;
        end = node->data.mapping.pairs.top;
    }
    if (at == end ||
        yaml_document_get_node(doc, at->value)->type != YAML_MAPPING_NODE) {
        PRX_GO(parse_weights(row, place, doc, node, &phases.weights[0]));
        phases.n = 1;
    } else {
        for (; at < end; at++)
            PRX_GO(add_phase(row, place, doc, at, &phases));
    }
    prx_conf_reset(&own, out);
    *out = phases;
    return 0;

out:
    prx_conf_reset(&own, &phases);
    return rc;
}

static int parse_string(const struct prx_conf_row *row, const struct conf_place *place,
                        const yaml_node_t *node, char **out)
{
    const char *text = scalar_text(node);
    char *copy;

    if (!text)
        return prx_conf_err(place, "%s: expected text", row->key);
    PRX_TRY(prx_strdup(text, &copy));
    free(*out);
    *out = copy;
    return 0;
}

int prx_conf_put(const struct prx_conf_row *row, void *conf,
                 const struct conf_place *place, yaml_document_t *doc,
                 const yaml_node_t *node)
{
    void *member = (char *)conf + row->offset;

    if (is_null(node)) {
        if (row->type != PRX_CONF_STRING && row->type != PRX_CONF_INTS &&
            row->type != PRX_CONF_STRINGS)
            return prx_conf_err(place, "%s: a value is missing", row->key);
        prx_conf_reset(row, conf);
        return 0;
    }
    switch (row->type) {
    case PRX_CONF_BOOL:
        return parse_bool(row, place, node, member);
    case PRX_CONF_INT:
        return parse_int(row, place, node, member);
    case PRX_CONF_FLOAT:
        return parse_float(row, place, node, member);
    case PRX_CONF_STRING:
        return parse_string(row, place, node, member);
    case PRX_CONF_ENUM:
        return parse_enum(row, place, node, member);
    case PRX_CONF_INTS:
        return parse_ints(row, place, doc, node, member);
    case PRX_CONF_STRINGS:
        return parse_strings(row, place, doc, node, member);
    case PRX_CONF_WEIGHTS:
        return parse_weights(row, place, doc, node, member);
    case PRX_CONF_PHASES:
        return parse_phases(row, place, doc, node, member);
    }
    PRX_BUG_IF(true);
    return PRX_EINVAL;
}
