/* SPDX-License-Identifier: Apache-2.0 */
/*
 * conf_internal.h - what the parts of the YAML reader share.
 *
 * conf.c knows rows, conf_value.c turns one YAML node into one member,
 * conf_read.c walks documents, conf_format.c prints.
 */
#ifndef PRX_CONF_INTERNAL_H
#define PRX_CONF_INTERNAL_H

#include <yaml.h>

#include "libdata/conf.h"

/* Longest dotted key, with its NUL. */
#define CONF_KEY_BYTES 128

/* A table and the struct it fills. */
struct conf_target {
    const struct prx_conf_row *rows;
    size_t n_rows;
    void *conf;
    int (*find)(const char *word, char **out); /* of prx_conf_read(), or NULL */
};

/* What complaints begin with: "NAME:LINE: ", or "NAME: " for line 0. */
struct conf_place {
    const char *name;
    size_t line;
};

int prx_conf_err(const struct conf_place *place, const char *fmt, ...) PRX_PRINTF(2, 3);

/* The row of @key, or NULL. */
const struct prx_conf_row *prx_conf_find(const struct conf_target *target,
                                         const char *key);

/* Whether some row lies below the section @key. */
bool prx_conf_has_section(const struct conf_target *target, const char *key);

/* PRX_EINVAL: unknown key, naming the nearest known one. */
int prx_conf_err_unknown(const struct conf_target *target,
                         const struct conf_place *place, const char *key);

/* Give back what the member of @row owns, and zero it. */
void prx_conf_reset(const struct prx_conf_row *row, void *conf);

/* Assign @node (NULL: null) of @doc, replacing the member of @row. */
PRX_MUST_USE int prx_conf_put(const struct prx_conf_row *row, void *conf,
                              const struct conf_place *place, yaml_document_t *doc,
                              const yaml_node_t *node);

/* Assign @text, a YAML value of its own. */
PRX_MUST_USE int prx_conf_put_text(const struct prx_conf_row *row, void *conf,
                                   const struct conf_place *place, const char *text);

#endif
