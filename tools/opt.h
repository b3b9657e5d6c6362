/* SPDX-License-Identifier: Apache-2.0 */
/*
 * opt.h - one table a tool: parsing, --help, defaults and the manual's check.
 *
 * A row is an option; groups of rows that all tools share are in tool.c.
 * Letters mean the same everywhere.  Numbers of bytes take K, M, G, T (binary).
 * What a value holds before opt_parse() is its default, and --help shows it.
 */
#ifndef PRX_TOOLS_OPT_H
#define PRX_TOOLS_OPT_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>
#include <stdio.h>

#include "libdata/buf.h"
#include "libdata/err.h"

enum opt_type {
    OPT_FLAG,    /* bool; --no-NAME clears it; one that begins true is listed so */
    OPT_INT,     /* int64_t */
    OPT_BYTES,   /* uint64_t, with K M G T */
    OPT_FLOAT,   /* double */
    OPT_STRING,  /* const char *, points into argv */
    OPT_STRINGS, /* struct opt_strings: may be given several times */
    OPT_CHOICE,  /* int: position in choices ("a|b|c") */
    OPT_COUNT,   /* int64_t, one more each time */
    OPT_STOP,    /* bool; parsing ends: --help, --version */
    OPT_GROUP,   /* a heading for --help; only name is used */
};

struct opt_strings {
    const char **values; /* owned, freed by opt_release() */
    size_t n;
};

struct opt_row {
    int letter;       /* 0 = none */
    const char *name; /* long name */
    enum opt_type type;
    void *value;
    const char *arg;  /* "PATH", "N"; choices "a|b|c" for OPT_CHOICE; NULL for flags */
    const char *help; /* one sentence without full stop */
    double min, max;  /* inclusive bounds of numbers; both 0 = none */
};

struct opt_usage {
    const char *synopsis; /* "[options] SRC ...", as the manual has it */
    const char *summary;  /* one sentence, for --help */
    const char *examples; /* lines, or NULL */
};

#define OPT_ROWS_MAX       96
#define OPT_NAME_BYTES_MAX 32

/**
 * opt_parse - fill the rows' values from argv.
 *
 * Options and operands may be mixed; "--" ends options; "-" is an operand.
 * A row of OPT_STOP wins over everything else on the line, complaints too; the
 * other values then still are the defaults.
 * @operands: pointers into argv, in order (array owned by the caller, freed with free).
 * Returns 1 where an OPT_STOP option was met, 0 to go on, PRX_ENOMEM, or
 * PRX_EINVAL with a message for a usage error.
 */
PRX_MUST_USE int opt_parse(int argc, char **argv, const struct opt_row *rows,
                           size_t n_rows, const char ***operands, size_t *n_operands);

/** opt_release - free what opt_parse() allocated for OPT_STRINGS. */
void opt_release(const struct opt_row *rows, size_t n_rows);

/** opt_help - print usage, summary, the rows with their defaults, and examples. */
void opt_help(FILE *out, const char *program, const struct opt_usage *usage,
              const struct opt_row *rows, size_t n_rows);

/** opt_format - append "name=value\n" for every row that has a value. */
PRX_MUST_USE int opt_format(const struct opt_row *rows, size_t n_rows,
                            struct prx_str *out);

#endif
