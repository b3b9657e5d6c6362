/* SPDX-License-Identifier: Apache-2.0 */
/*
 * YAML documents over the row table: files with parents, and single assignments.
 *
 * The walk descends only where some row lies below, so its depth is bounded by
 * the table, whatever aliases a hostile file ties into a knot.
 */
#include "libdata/base/conf_internal.h"

#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>

#include "libdata/outfile.h"

#define CONF_FILE_BYTES_MAX (1u << 20)
#define CONF_PARENTS_MAX    16

/* The files being read, from the innermost parent outwards. */
struct chain {
    const char *path;
    dev_t device;
    ino_t inode;
    int depth;
    const struct chain *child;
};

/* @place.line 0: the text is no file, so lines mean nothing to who wrote it. */
static int load_document(struct conf_place place, const void *bytes, size_t n_bytes,
                         yaml_document_t *doc)
{
    bool has_lines = place.line > 0;
    yaml_document_t second = {0};
    yaml_parser_t parser;
    int rc = 0;

    if (!yaml_parser_initialize(&parser))
        return prx_err_nomem("a YAML parser");
    yaml_parser_set_input_string(&parser, bytes, n_bytes);
    bool ok = yaml_parser_load(&parser, doc);
    /* A file is one document; what follows a "---" would be lost silently. */
    bool is_single = !ok || !yaml_document_get_root_node(doc) ||
                     (yaml_parser_load(&parser, &second) &&
                      !yaml_document_get_root_node(&second));
    if (parser.error == YAML_MEMORY_ERROR) {
        rc = prx_err_nomem("a YAML document");
    } else if (parser.error != YAML_NO_ERROR) {
        place.line = has_lines ? parser.problem_mark.line + 1 : 0;
        rc = prx_conf_err(&place, "%s", parser.problem ? parser.problem : "not YAML");
    } else if (!is_single) {
        place.line = has_lines ? second.start_mark.line + 1 : 0;
        rc = prx_conf_err(&place, "a second document begins here");
    }
    yaml_document_delete(&second);
    if (rc < 0 && ok)
        yaml_document_delete(doc);
    yaml_parser_delete(&parser);
    return rc;
}

int prx_conf_put_text(const struct prx_conf_row *row, void *conf,
                      const struct conf_place *place, const char *text)
{
    yaml_document_t doc = {0};

    PRX_TRY(load_document(*place, text, strlen(text), &doc));
    int rc = prx_conf_put(row, conf, place, &doc, yaml_document_get_root_node(&doc));
    yaml_document_delete(&doc);
    return rc;
}

/* "section.key" of @node into @key. */
static int join_key(const struct conf_place *place, const char *section,
                    const yaml_node_t *node, char key[CONF_KEY_BYTES])
{
    if (node->type != YAML_SCALAR_NODE)
        return prx_conf_err(place, "a key must be a word");
    int n = snprintf(key, CONF_KEY_BYTES, "%s%s%s", section, section[0] ? "." : "",
                     (const char *)node->data.scalar.value);
    if (n >= CONF_KEY_BYTES)
        return prx_conf_err(place, "%.40s...: unknown key", key);
    return 0;
}

static bool is_repeated(yaml_document_t *doc, const yaml_node_t *mapping,
                        const yaml_node_pair_t *pair)
{
    const yaml_node_t *key = yaml_document_get_node(doc, pair->key);
    const yaml_node_pair_t *first = mapping->data.mapping.pairs.start;

    for (const yaml_node_pair_t *at = first; at < pair; at++) {
        const yaml_node_t *other = yaml_document_get_node(doc, at->key);
        if (other->type == YAML_SCALAR_NODE &&
            strcmp((const char *)other->data.scalar.value,
                   (const char *)key->data.scalar.value) == 0)
            return true;
    }
    return false;
}

static int walk(const struct conf_target *target, const char *name, const char *section,
                yaml_document_t *doc, const yaml_node_t *mapping)
{
    for (const yaml_node_pair_t *at = mapping->data.mapping.pairs.start;
         at < mapping->data.mapping.pairs.top; at++) {
        const yaml_node_t *key_node = yaml_document_get_node(doc, at->key);
        const yaml_node_t *value = yaml_document_get_node(doc, at->value);
        const struct conf_place place = {name, key_node->start_mark.line + 1};
        char key[CONF_KEY_BYTES];

        PRX_TRY(join_key(&place, section, key_node, key));
        if (is_repeated(doc, mapping, at))
            return prx_conf_err(&place, "%s: is given twice", key);
        if (strcmp(key, "extends") == 0)
            continue;
        const struct prx_conf_row *row = prx_conf_find(target, key);
        if (row) {
            PRX_TRY(prx_conf_put(row, target->conf, &place, doc, value));
        } else if (!prx_conf_has_section(target, key)) {
            return prx_conf_err_unknown(target, &place, key);
        } else if (value->type == YAML_MAPPING_NODE) {
            PRX_TRY(walk(target, name, key, doc, value));
        } else if (value->type != YAML_SCALAR_NODE || value->data.scalar.length > 0) {
            return prx_conf_err(&place, "%s: is a section; expected keys below", key);
        }
    }
    return 0;
}

static int read_file(const struct conf_target *target, const char *path,
                     const struct chain *child);

/* Read the file that @value of @path's "extends" names. */
static int read_parent(const struct conf_target *target, const struct chain *self,
                       const struct conf_place *place, const yaml_node_t *value)
{
    struct prx_str path = {0};
    char *found = NULL;
    int rc = 0;

    if (value->type != YAML_SCALAR_NODE || value->data.scalar.length == 0)
        return prx_conf_err(place, "extends: expected the name of a file");
    const char *word = (const char *)value->data.scalar.value;
    const char *slash = strrchr(self->path, '/');
    if (target->find && !strpbrk(word, "/."))
        PRX_GO(target->find(word, &found));
    else if (word[0] != '/' && slash)
        PRX_GO(prx_str_add(&path, self->path, (size_t)(slash - self->path) + 1));
    PRX_GO(prx_str_puts(&path, found ? found : word));
    rc = read_file(target, path.bytes, self);
out:
    /* Who is asked for a file that is not there wants to know by whom. */
    if (rc == PRX_ENOENT)
        rc = prx_err_frame(rc, "%s:%zu: extends", place->name, place->line);
    free(found);
    prx_str_release(&path);
    return rc;
}

static int read_parents(const struct conf_target *target, const struct chain *self,
                        yaml_document_t *doc, const yaml_node_t *root)
{
    for (const yaml_node_pair_t *at = root->data.mapping.pairs.start;
         at < root->data.mapping.pairs.top; at++) {
        const yaml_node_t *key = yaml_document_get_node(doc, at->key);
        const struct conf_place place = {self->path, key->start_mark.line + 1};
        if (key->type == YAML_SCALAR_NODE &&
            strcmp((const char *)key->data.scalar.value, "extends") == 0)
            return read_parent(target, self, &place,
                               yaml_document_get_node(doc, at->value));
    }
    return 0;
}

static int check_chain(const struct chain *self)
{
    for (const struct chain *at = self->child; at; at = at->child)
        if (at->device == self->device && at->inode == self->inode)
            return prx_err(PRX_EINVAL, "%s: extends %s, which leads back to %s",
                           self->child->path, self->path, at->path);
    if (self->depth > CONF_PARENTS_MAX)
        return prx_err(PRX_EINVAL, "%s: more than %d files extend one another",
                       self->path, CONF_PARENTS_MAX);
    return 0;
}

static int read_file(const struct conf_target *target, const char *path,
                     const struct chain *child)
{
    struct chain self = {
        .path = path,
        .depth = child ? child->depth + 1 : 0,
        .child = child,
    };
    struct prx_buf *bytes = NULL;
    yaml_document_t doc = {0};
    bool is_loaded = false;
    struct stat status;
    int rc = 0;

    if (stat(path, &status) != 0)
        return prx_err_sys("%s", path);
    self.device = status.st_dev;
    self.inode = status.st_ino;
    PRX_GO(check_chain(&self));
    PRX_GO(prx_file_get(path, CONF_FILE_BYTES_MAX, &bytes));
    PRX_GO(load_document((struct conf_place){path, 1}, bytes->bytes, bytes->n_bytes,
                         &doc));
    is_loaded = true;

    const yaml_node_t *root = yaml_document_get_root_node(&doc);
    if (!root)
        goto out;
    if (root->type != YAML_MAPPING_NODE) {
        struct conf_place place = {path, root->start_mark.line + 1};
        rc = prx_conf_err(&place, "expected sections of keys");
        goto out;
    }
    PRX_GO(read_parents(target, &self, &doc, root));
    rc = walk(target, path, "", &doc, root);
out:
    if (is_loaded)
        yaml_document_delete(&doc);
    prx_buf_unref(bytes);
    return rc;
}

int prx_conf_read(const struct prx_conf_row *rows, size_t n_rows, void *conf,
                  const char *path, int (*find)(const char *word, char **out))
{
    const struct conf_target target = {rows, n_rows, conf, find};

    return read_file(&target, path, NULL);
}

int prx_conf_set(const struct prx_conf_row *rows, size_t n_rows, void *conf,
                 const char *assignment)
{
    const struct conf_target target = {rows, n_rows, conf, NULL};
    const struct conf_place place = {.name = "--set"};
    const char *equals = strchr(assignment, '=');
    char key[CONF_KEY_BYTES];

    if (!equals)
        return prx_conf_err(&place, "%s: expected KEY=VALUE", assignment);
    int n = snprintf(key, sizeof(key), "%.*s", (int)(equals - assignment), assignment);
    if (n >= CONF_KEY_BYTES)
        return prx_conf_err(&place, "%.40s...: unknown key", key);
    const struct prx_conf_row *row = prx_conf_find(&target, key);
    if (!row && prx_conf_has_section(&target, key))
        return prx_conf_err(&place, "%s: is a section; name a key below it", key);
    if (!row)
        return prx_conf_err_unknown(&target, &place, key);
    return prx_conf_put_text(row, conf, &place, equals + 1);
}
