/* SPDX-License-Identifier: Apache-2.0 */
/*
 * Brace expansion and globs.
 *
 * The first brace pair that means something is replaced by each of its
 * alternatives in turn, and the whole is looked at again from there: nesting
 * and several pairs in a word then need no rules of their own.
 */
#include "libdata/path.h"

#include <glob.h>
#include <stdint.h>
#include <stdlib.h>
#include <string.h>

#include "libdata/buf.h"

#define N_DEPTH_MAX 64

void prx_paths_release(struct prx_paths *paths)
{
    for (size_t i = 0; i < paths->n_paths; i++)
        free(paths->paths[i]);
    free(paths->paths);
    *paths = (struct prx_paths){0};
}

int prx_paths_add(struct prx_paths *paths, const char *path)
{
    if (paths->n_paths == paths->cap_paths) {
        size_t cap = paths->cap_paths ? paths->cap_paths * 2 : 16;
        char **grown = realloc(paths->paths, cap * sizeof(*grown));
        if (!grown)
            return prx_err_nomem("a list of files");
        paths->paths = grown;
        paths->cap_paths = cap;
    }
    PRX_TRY(prx_strdup(path, &paths->paths[paths->n_paths]));
    paths->n_paths++;
    return 0;
}

struct expansion {
    const char *word; /* as the user wrote it, for messages */
    size_t n_max;
    size_t n_given;
    struct prx_paths *out;
};

/* One end of a range: an integer of at most 18 digits, or one letter. */
struct range_end {
    int64_t value;
    int n_chars;
    bool is_letter;
    bool is_padded;
};

static bool parse_end(const char *text, size_t n_text, struct range_end *end)
{
    size_t i = 0;
    bool is_negative = false;

    *end = (struct range_end){.n_chars = (int)n_text};
    if (n_text == 1 &&
        ((*text >= 'a' && *text <= 'z') || (*text >= 'A' && *text <= 'Z'))) {
        end->is_letter = true;
        end->value = *text;
        return true;
    }
    if (n_text > 0 && (*text == '-' || *text == '+')) {
        is_negative = *text == '-';
        i++;
    }
    if (i == n_text || n_text - i > 18)
        return false;
    end->is_padded = text[i] == '0' && n_text - i > 1;
    for (; i < n_text; i++) {
        if (text[i] < '0' || text[i] > '9')
            return false;
        end->value = end->value * 10 + (text[i] - '0');
    }
    if (is_negative)
        end->value = -end->value;
    return true;
}

static const char *find_dots(const char *text, const char *stop)
{
    for (; text + 1 < stop; text++)
        if (text[0] == '.' && text[1] == '.')
            return text;
    return NULL;
}

struct range {
    struct range_end first, last;
    int64_t step; /* > 0 */
};

/* Is [text, stop) "x..y" or "x..y..step"? */
static bool parse_range(const char *text, const char *stop, struct range *range)
{
    struct range_end step = {.value = 1};
    const char *dots = find_dots(text, stop);

    if (!dots || !parse_end(text, (size_t)(dots - text), &range->first))
        return false;
    text = dots + 2;
    dots = find_dots(text, stop);
    if (!parse_end(text, (size_t)((dots ? dots : stop) - text), &range->last) ||
        range->first.is_letter != range->last.is_letter)
        return false;
    if (dots &&
        (!parse_end(dots + 2, (size_t)(stop - dots - 2), &step) || step.is_letter))
        return false;
    range->step = step.value < 0 ? -step.value : step.value;
    if (range->step == 0)
        range->step = 1;
    return true;
}

/* The brace that closes the one at @open, or NULL; *has_comma at its own level. */
static const char *find_close(const char *open, bool *has_comma)
{
    int depth = 0;

    *has_comma = false;
    for (const char *p = open; *p; p++) {
        if (*p == '{')
            depth++;
        else if (*p == '}' && --depth == 0)
            return p;
        else if (*p == ',' && depth == 1)
            *has_comma = true;
    }
    return NULL;
}

static int expand(struct expansion *all, const char *made, size_t n_made,
                  const char *text, int depth);

/* Go on with @made + @middle + @rest, of which @made is spelled out already. */
static int expand_with(struct expansion *all, const char *made, size_t n_made,
                       const char *middle, size_t n_middle, const char *rest, int depth)
{
    struct prx_str word = {0};
    int rc = 0;

    PRX_GO(prx_str_add(&word, made, n_made));
    PRX_GO(prx_str_add(&word, middle, n_middle));
    PRX_GO(prx_str_puts(&word, rest));
    PRX_GO(expand(all, word.bytes, n_made, word.bytes + n_made, depth + 1));
out:
    prx_str_release(&word);
    return rc;
}

static int too_many(const struct expansion *all)
{
    return prx_err(PRX_EINVAL, "%s: more than %zu files", all->word, all->n_max);
}

static int expand_range(struct expansion *all, const char *made, size_t n_made,
                        const struct range *range, const char *rest, int depth)
{
    int64_t first = range->first.value, last = range->last.value;
    uint64_t span = first < last ? (uint64_t)(last - first) : (uint64_t)(first - last);
    uint64_t n_steps = span / (uint64_t)range->step;
    bool is_padded = range->first.is_padded || range->last.is_padded;
    int width = range->first.n_chars > range->last.n_chars ? range->first.n_chars
                                                           : range->last.n_chars;
    struct prx_str middle = {0};
    int rc = 0;

    if (n_steps >= all->n_max)
        return too_many(all);
    for (uint64_t i = 0; i <= n_steps; i++) {
        int64_t moved = (int64_t)i * range->step;
        int64_t value = first < last ? first + moved : first - moved;
        prx_str_reset(&middle);
        if (range->first.is_letter)
            PRX_GO(prx_str_printf(&middle, "%c", (char)value));
        else
            PRX_GO(prx_str_printf(&middle, "%0*lld", is_padded ? width : 1,
                                  (long long)value));
        PRX_GO(
            expand_with(all, made, n_made, middle.bytes, middle.n_bytes, rest, depth));
    }
out:
    prx_str_release(&middle);
    return rc;
}

static int expand_list(struct expansion *all, const char *made, size_t n_made,
                       const char *open, const char *close, int depth)
{
    int level = 0;
    const char *begin = open + 1;

    for (const char *p = begin; p <= close; p++) {
        if (p == close || (*p == ',' && level == 0)) {
            PRX_TRY(expand_with(all, made, n_made, begin, (size_t)(p - begin),
                                close + 1, depth));
            begin = p + 1;
        } else if (*p == '{') {
            level++;
        } else if (*p == '}') {
            level--;
        }
    }
    return 0;
}

/* @text follows on @made in memory: [made, n_made) is final, @text is not yet. */
static int expand(struct expansion *all, const char *made, size_t n_made,
                  const char *text, int depth)
{
    if (depth > N_DEPTH_MAX)
        return prx_err(PRX_EINVAL, "%s: too many braces", all->word);
    for (const char *p = text; (p = strchr(p, '{')); p++) {
        bool has_comma;
        struct range range;
        const char *close = find_close(p, &has_comma);
        size_t n_upto = n_made + (size_t)(p - text);
        if (close && has_comma)
            return expand_list(all, made, n_upto, p, close, depth);
        if (close && parse_range(p + 1, close, &range))
            return expand_range(all, made, n_upto, &range, close + 1, depth);
    }
    if (all->n_given++ == all->n_max)
        return too_many(all);
    return prx_paths_add(all->out, made);
}

int prx_brace_expand(const char *word, size_t n_max, struct prx_paths *out)
{
    struct expansion all = {.word = word, .n_max = n_max, .out = out};
    return expand(&all, word, 0, word, 0);
}

bool prx_glob_is(const char *word)
{
    return strpbrk(word, "*?[") != NULL;
}

static int compare_paths(const void *a, const void *b)
{
    return strcmp(*(char *const *)a, *(char *const *)b);
}

int prx_glob_expand(const char *pattern, struct prx_paths *out)
{
    glob_t found = {0};
    int rc = 0;

    switch (glob(pattern, GLOB_NOSORT, NULL, &found)) {
    case 0:
        break;
    case GLOB_NOMATCH:
        rc = prx_err(PRX_ENOENT, "%s: no file matches", pattern);
        goto out;
    case GLOB_NOSPACE:
        rc = prx_err_nomem("a list of files");
        goto out;
    default:
        rc = prx_err_sys("%s", pattern);
        goto out;
    }
    qsort(found.gl_pathv, found.gl_pathc, sizeof(*found.gl_pathv), compare_paths);
    for (size_t i = 0; i < found.gl_pathc; i++)
        PRX_GO(prx_paths_add(out, found.gl_pathv[i]));
out:
    globfree(&found);
    return rc;
}
