/* SPDX-License-Identifier: Apache-2.0 */
/*
 * conf.h - YAML files read into C structs by a table; unknown keys are errors.
 *
 * A table row names a dotted key ("train.steps"), its type, where it lands in
 * the struct, its default and one line of help.  A file may name a parent
 * ("extends: baseline.yaml", relative to itself); the parent's values come
 * first.  A list or a weight table replaces the parent's as a whole.
 *
 * Every complaint says where:
 *     recipe.yaml:12: train.stpes: unknown key (did you mean train.steps?)
 * The same rows parse "--set train.steps=20", print the resolved file, and
 * print the manual.
 *
 * Reentrant; one struct is one thread's at a time.
 */
#ifndef PRX_LIBDATA_CONF_H
#define PRX_LIBDATA_CONF_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

#include "libdata/buf.h"
#include "libdata/err.h"

#ifdef __cplusplus
extern "C" {
#endif

enum prx_conf_type {
    PRX_CONF_BOOL,    /* bool */
    PRX_CONF_INT,     /* int64_t */
    PRX_CONF_FLOAT,   /* double */
    PRX_CONF_STRING,  /* char *, owned by the struct; NULL = null */
    PRX_CONF_ENUM,    /* int, one of choices */
    PRX_CONF_INTS,    /* struct prx_conf_ints: a short list of integers */
    PRX_CONF_STRINGS, /* struct prx_conf_strings: a list of texts, owned */
    PRX_CONF_WEIGHTS, /* struct prx_conf_weights: {name: number, ...}, numbers >= 0 */
    /* struct prx_conf_phases: weights, or {0: {name: number, ...}, step: {...}, ...} */
    PRX_CONF_PHASES,
};

#define PRX_CONF_LIST_MAX 8

struct prx_conf_ints {
    int n;
    int64_t values[PRX_CONF_LIST_MAX];
};

struct prx_conf_strings {
    size_t n;
    char **values; /* owned, each and all */
};

struct prx_conf_weights {
    int n;
    char *names[PRX_CONF_LIST_MAX]; /* owned, in the file's order */
    double weights[PRX_CONF_LIST_MAX];
};

/* Weights that change: those of the last phase that has begun are in force. */
struct prx_conf_phases {
    int n;
    int64_t from[PRX_CONF_LIST_MAX]; /* rising, the first is 0 */
    struct prx_conf_weights weights[PRX_CONF_LIST_MAX];
};

struct prx_conf_row {
    const char *key; /* "train.steps"; rows of one section stand together */
    enum prx_conf_type type;
    size_t offset;              /* offsetof(struct, member) */
    const char *preset;         /* default, as YAML; NULL = null, 0, false, empty */
    const char *help;           /* one line, for the manual and --help-recipe */
    const char *const *choices; /* PRX_CONF_ENUM: names in value order, then NULL */
    double min, max;            /* inclusive, of numbers; both 0 = none */
};

/** prx_conf_init - set every member to its row's preset; @conf held nothing before. */
PRX_MUST_USE int prx_conf_init(const struct prx_conf_row *rows, size_t n_rows,
                               void *conf);

/**
 * prx_conf_read - read @path over what is in @conf, its parents first.
 *
 * A parent is named by "extends": a path relative to the file that has it, or,
 * without a slash or a dot, a word that @find turns into a path to be freed; NULL
 * for none such.
 * Errors: PRX_ENOENT, PRX_EIO, PRX_EINVAL (not YAML; an unknown, repeated or
 *         ill-typed key; a value out of bounds; parents that form a circle),
 *         PRX_ENOMEM.  @conf may then hold a part of the values.
 */
PRX_MUST_USE int prx_conf_read(const struct prx_conf_row *rows, size_t n_rows,
                               void *conf, const char *path,
                               int (*find)(const char *word, char **out));

/** prx_conf_set - apply "key=value", value in YAML. Errors: PRX_EINVAL, PRX_ENOMEM. */
PRX_MUST_USE int prx_conf_set(const struct prx_conf_row *rows, size_t n_rows,
                              void *conf, const char *assignment);

/** prx_conf_format - append all values as a YAML file that reads back the same. */
PRX_MUST_USE int prx_conf_format(const struct prx_conf_row *rows, size_t n_rows,
                                 const void *conf, struct prx_str *out);

/** prx_conf_format_value - append the value of @row alone, as YAML. */
PRX_MUST_USE int prx_conf_format_value(const struct prx_conf_row *row, const void *conf,
                                       struct prx_str *out);

/** prx_conf_format_mdoc - append the manual's list of keys: type, default, help. */
PRX_MUST_USE int prx_conf_format_mdoc(const struct prx_conf_row *rows, size_t n_rows,
                                      struct prx_str *out);

/** prx_conf_format_help - the same list as plain text. */
PRX_MUST_USE int prx_conf_format_help(const struct prx_conf_row *rows, size_t n_rows,
                                      struct prx_str *out);

/** prx_conf_release - free strings and names; fine on an all-zero @conf, and twice. */
void prx_conf_release(const struct prx_conf_row *rows, size_t n_rows, void *conf);

#ifdef __cplusplus
}
#endif
#endif
