/* SPDX-License-Identifier: Apache-2.0 */
/*
 * The option table over getopt_long(3): rows in, values and complaints out.
 *
 * getopt_long() is told of a row by its number, LONG_BASE + 2 * row, with one
 * more for the negated name of a flag.  Operands come back in their place
 * (optstring "-"), so POSIXLY_CORRECT changes nothing and argv keeps its order.
 */
#include "tools/opt.h"

#include <errno.h>
#include <getopt.h>
#include <stdlib.h>
#include <string.h>

enum {
    LONG_BASE = 256,
    OPERAND = 1,
};

struct opt_parser {
    const struct opt_row *rows;
    size_t n_rows;
    char letters[2 * OPT_ROWS_MAX + 3];
    char negations[OPT_ROWS_MAX][OPT_NAME_BYTES_MAX + 3];
    struct option longs[2 * OPT_ROWS_MAX + 1];
};

static bool takes_value(const struct opt_row *row)
{
    return row->type >= OPT_INT && row->type <= OPT_CHOICE;
}

static void parser_init(struct opt_parser *parser, const struct opt_row *rows,
                        size_t n_rows)
{
    struct option *next = parser->longs;
    char *letter = parser->letters;

    PRX_BUG_IF(n_rows > OPT_ROWS_MAX);
    parser->rows = rows;
    parser->n_rows = n_rows;
    *letter++ = '-';
    *letter++ = ':';
    for (size_t i = 0; i < n_rows; i++) {
        const struct opt_row *row = &rows[i];
        int has_arg = takes_value(row) ? required_argument : no_argument;
        int code = LONG_BASE + 2 * (int)i;

        if (row->type == OPT_GROUP)
            continue;
        PRX_BUG_IF(strlen(row->name) > OPT_NAME_BYTES_MAX);
        *next++ = (struct option){row->name, has_arg, NULL, code};
        if (row->type == OPT_FLAG) {
            snprintf(parser->negations[i], sizeof(parser->negations[i]), "no-%s",
                     row->name);
            *next++ = (struct option){parser->negations[i], has_arg, NULL, code + 1};
        }
        if (row->letter) {
            *letter++ = (char)row->letter;
            if (takes_value(row))
                *letter++ = ':';
        }
    }
    *letter = '\0';
    *next = (struct option){0};
}

static int parser_next(const struct opt_parser *parser, int argc, char **argv)
{
    return getopt_long(argc, argv, parser->letters, parser->longs, NULL);
}

/* The row behind a code of getopt_long(), or NULL where there is none. */
static const struct opt_row *find_row(const struct opt_parser *parser, int code)
{
    if (code >= LONG_BASE)
        return &parser->rows[(code - LONG_BASE) / 2];
    for (size_t i = 0; i < parser->n_rows; i++) {
        const struct opt_row *row = &parser->rows[i];
        if (row->type != OPT_GROUP && row->letter && row->letter == code)
            return row;
    }
    return NULL;
}

static int check_bounds(const struct opt_row *row, double number)
{
    if (row->min == 0 && row->max == 0)
        return 0;
    if (number < row->min)
        return prx_err(PRX_EINVAL, "--%s: %g is less than %g", row->name, number,
                       row->min);
    if (number > row->max)
        return prx_err(PRX_EINVAL, "--%s: %g is more than %g", row->name, number,
                       row->max);
    return 0;
}

static int not_a_number(const struct opt_row *row, const char *text)
{
    return prx_err(PRX_EINVAL, "--%s: %s is not a number", row->name, text);
}

/* strtoll() and its kin skip blanks and, unsigned, take a minus; we do not. */
static bool begins_a_number(const char *text, bool may_be_negative)
{
    if (*text == '-' && may_be_negative)
        text++;
    return *text >= '0' && *text <= '9';
}

static int set_int(const struct opt_row *row, const char *text)
{
    char *end;

    errno = 0;
    long long number = strtoll(text, &end, 10);
    if (!begins_a_number(text, true) || *end || errno)
        return not_a_number(row, text);
    PRX_TRY(check_bounds(row, (double)number));
    *(int64_t *)row->value = number;
    return 0;
}

static int set_bytes(const struct opt_row *row, const char *text)
{
    static const char units[] = "KMGT";
    char *end;

    errno = 0;
    unsigned long long number = strtoull(text, &end, 10);
    if (!begins_a_number(text, false) || errno)
        return not_a_number(row, text);
    if (*end) {
        const char *unit = strchr(units, *end & ~0x20);
        if (!unit || !*unit || end[1])
            return not_a_number(row, text);
        int shift = 10 * (int)(unit - units + 1);
        if (number > (UINT64_MAX >> shift))
            return prx_err(PRX_EINVAL, "--%s: %s is too much", row->name, text);
        number <<= shift;
    }
    PRX_TRY(check_bounds(row, (double)number));
    *(uint64_t *)row->value = number;
    return 0;
}

static int set_float(const struct opt_row *row, const char *text)
{
    bool is_negative = text[0] == '-';
    char *end;

    double number = strtod(text, &end);
    if (!(begins_a_number(text, true) || text[is_negative] == '.') || end == text ||
        *end || number - number != 0)
        return not_a_number(row, text);
    PRX_TRY(check_bounds(row, number));
    *(double *)row->value = number;
    return 0;
}

/* The @index-th of "a|b|c", its length in @n_bytes; NULL behind the last. */
static const char *choice_at(const char *choices, int index, size_t *n_bytes)
{
    for (; index > 0; index--) {
        choices = strchr(choices, '|');
        if (!choices)
            return NULL;
        choices++;
    }
    *n_bytes = strcspn(choices, "|");
    return choices;
}

static int set_choice(const struct opt_row *row, const char *text)
{
    const char *choice;
    size_t n_bytes;

    for (int i = 0; (choice = choice_at(row->arg, i, &n_bytes)); i++) {
        if (n_bytes == strlen(text) && memcmp(choice, text, n_bytes) == 0) {
            *(int *)row->value = i;
            return 0;
        }
    }
    return prx_err(PRX_EINVAL, "--%s: %s is none of %s", row->name, text, row->arg);
}

static int add_string(const struct opt_row *row, const char *text)
{
    struct opt_strings *strings = row->value;
    const char **values = realloc(strings->values,
                                  (strings->n + 1) * sizeof(*values));
    if (!values)
        return prx_err_nomem("options");
    strings->values = values;
    strings->values[strings->n++] = text;
    return 0;
}

static int set_value(const struct opt_row *row, bool is_negated, const char *text)
{
    switch (row->type) {
    case OPT_FLAG:
    case OPT_STOP:
        *(bool *)row->value = !is_negated;
        return 0;
    case OPT_COUNT:
        ++*(int64_t *)row->value;
        return 0;
    case OPT_INT:
        return set_int(row, text);
    case OPT_BYTES:
        return set_bytes(row, text);
    case OPT_FLOAT:
        return set_float(row, text);
    case OPT_STRING:
        *(const char **)row->value = text;
        return 0;
    case OPT_STRINGS:
        return add_string(row, text);
    case OPT_CHOICE:
        return set_choice(row, text);
    case OPT_GROUP:
        break;
    }
    PRX_BUG_IF(row->type == OPT_GROUP);
    return 0;
}

/* What getopt_long() has just refused; it leaves the code, or 0, in optopt. */
static int complain(const struct opt_parser *parser, int code, const char *word)
{
    const struct opt_row *row = find_row(parser, optopt);

    if (row && code == ':')
        return prx_err(PRX_EINVAL, "--%s: needs a value", row->name);
    if (row)
        return prx_err(PRX_EINVAL, "--%s: takes no value", row->name);
    if (optopt)
        return prx_err(PRX_EINVAL, "-%c: no such option", optopt);
    return prx_err(PRX_EINVAL, "%s: no such option, or short for several", word);
}

static bool stops(struct opt_parser *parser, int argc, char **argv)
{
    int code;

    optind = 0; /* glibc and musl: begin again */
    opterr = 0;
    while ((code = parser_next(parser, argc, argv)) != -1) {
        const struct opt_row *row = find_row(parser, code);
        if (row && row->type == OPT_STOP) {
            *(bool *)row->value = true;
            return true;
        }
    }
    return false;
}

int opt_parse(int argc, char **argv, const struct opt_row *rows, size_t n_rows,
              const char ***operands, size_t *n_operands)
{
    struct opt_parser parser;
    int code, rc = 0;

    *operands = NULL;
    *n_operands = 0;
    parser_init(&parser, rows, n_rows);
    if (stops(&parser, argc, argv))
        return 1;

    const char **words = calloc((size_t)argc + 1, sizeof(*words));
    size_t n_words = 0;
    if (!words)
        return prx_err_nomem("options");
    optind = 0;
    while ((code = parser_next(&parser, argc, argv)) != -1) {
        if (code == OPERAND)
            words[n_words++] = optarg;
        else if (code == '?' || code == ':')
            PRX_GO(complain(&parser, code, argv[optind - 1]));
        else
            PRX_GO(set_value(find_row(&parser, code),
                             code >= LONG_BASE && code % 2 != LONG_BASE % 2, optarg));
    }
    while (optind < argc)
        words[n_words++] = argv[optind++];
    *operands = words;
    *n_operands = n_words;
    return 0;
out:
    free(words);
    return rc;
}

void opt_release(const struct opt_row *rows, size_t n_rows)
{
    for (size_t i = 0; i < n_rows; i++) {
        if (rows[i].type == OPT_STRINGS) {
            struct opt_strings *strings = rows[i].value;
            free(strings->values);
            *strings = (struct opt_strings){0};
        }
    }
}

/* The value as it would be typed; false where a row has none, or none yet. */
static bool format_value(const struct opt_row *row, char *text, size_t n_text)
{
    const char *word;
    uint64_t number;
    size_t n_bytes;
    int shift = 0;

    switch (row->type) {
    case OPT_INT:
        snprintf(text, n_text, "%lld", (long long)*(int64_t *)row->value);
        return true;
    case OPT_BYTES:
        number = *(uint64_t *)row->value;
        while (number > 0 && number % 1024 == 0 && shift < 4) {
            number /= 1024;
            shift++;
        }
        snprintf(text, n_text, "%llu%.*s", (unsigned long long)number, shift > 0,
                 &" KMGT"[shift]);
        return true;
    case OPT_FLOAT:
        snprintf(text, n_text, "%.10g", *(double *)row->value);
        return true;
    case OPT_STRING:
        word = *(const char **)row->value;
        snprintf(text, n_text, "%s", word ? word : "");
        return word != NULL;
    case OPT_CHOICE:
        word = choice_at(row->arg, *(int *)row->value, &n_bytes);
        PRX_BUG_IF(!word);
        snprintf(text, n_text, "%.*s", (int)n_bytes, word);
        return true;
    default:
        return false;
    }
}

int opt_format(const struct opt_row *rows, size_t n_rows, struct prx_str *out)
{
    char text[128];

    for (size_t i = 0; i < n_rows; i++) {
        const struct opt_row *row = &rows[i];
        if (row->type == OPT_FLAG) {
            PRX_TRY(prx_str_printf(out, "%s=%d\n", row->name, *(bool *)row->value));
        } else if (row->type == OPT_STRING) {
            const char *word = *(const char **)row->value;
            PRX_TRY(prx_str_printf(out, "%s=%s\n", row->name, word ? word : ""));
        } else if (row->type == OPT_STRINGS) {
            const struct opt_strings *strings = row->value;
            for (size_t j = 0; j < strings->n; j++)
                PRX_TRY(prx_str_printf(out, "%s=%s\n", row->name, strings->values[j]));
        } else if (format_value(row, text, sizeof(text))) {
            PRX_TRY(prx_str_printf(out, "%s=%s\n", row->name, text));
        }
    }
    return 0;
}

enum {
    HELP_COLUMN = 28,
    HELP_WIDTH = 79,
};

/* Words of @text, folded; the cursor stands in @column. */
static void print_folded(FILE *out, int column, const char *text)
{
    while (*text) {
        int n_word = (int)strcspn(text, " ");
        if (column + 1 + n_word > HELP_WIDTH) {
            fprintf(out, "\n%*s", HELP_COLUMN, "");
            column = HELP_COLUMN;
        } else if (column > HELP_COLUMN) {
            fputc(' ', out);
            column++;
        }
        fprintf(out, "%.*s", n_word, text);
        column += n_word;
        text += n_word;
        text += strspn(text, " ");
    }
    fputc('\n', out);
}

/* Zero, and what could not be typed, mean that there is none. */
static bool has_default(const struct opt_row *row)
{
    int64_t number;

    switch (row->type) {
    case OPT_INT:
        number = *(int64_t *)row->value;
        return number != 0 && (row->max == 0 || (double)number >= row->min);
    case OPT_BYTES:
        return *(uint64_t *)row->value != 0;
    case OPT_FLOAT:
        return *(double *)row->value != 0;
    default:
        return row->type == OPT_STRING || row->type == OPT_CHOICE;
    }
}

static void print_row(FILE *out, const struct opt_row *row)
{
    bool is_on = row->type == OPT_FLAG && *(bool *)row->value;
    char value[128], text[512];
    int column = 0;

    if (row->letter && !is_on)
        column = fprintf(out, "  -%c, ", row->letter);
    else
        column = fprintf(out, "      ");
    column += fprintf(out, "--%s%s", is_on ? "no-" : "", row->name);
    if (row->arg)
        column += fprintf(out, " %s", row->arg);
    if (column + 2 > HELP_COLUMN) {
        fputc('\n', out);
        column = 0;
    }
    fprintf(out, "%*s", HELP_COLUMN - column, "");
    if (has_default(row) && format_value(row, value, sizeof(value)))
        snprintf(text, sizeof(text), "%s (default %s)", row->help, value);
    else
        snprintf(text, sizeof(text), "%s", row->help);
    print_folded(out, HELP_COLUMN, text);
}

void opt_help(FILE *out, const char *program, const struct opt_usage *usage,
              const struct opt_row *rows, size_t n_rows)
{
    fprintf(out, "usage: %s %s\n%s\n", program, usage->synopsis, usage->summary);
    for (size_t i = 0; i < n_rows; i++) {
        if (rows[i].type == OPT_GROUP)
            fprintf(out, "\n%s:\n", rows[i].name);
        else
            print_row(out, &rows[i]);
    }
    if (usage->examples)
        fprintf(out, "\nExamples:\n%s", usage->examples);
    size_t n_examples = usage->examples ? strlen(usage->examples) : 0;
    if (n_examples > 0 && usage->examples[n_examples - 1] != '\n')
        fputc('\n', out);
    fprintf(out, "\nThe whole story: man %s\n", program);
}
