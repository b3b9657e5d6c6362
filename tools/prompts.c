/* SPDX-License-Identifier: Apache-2.0 */
/* Prompts and the pictures that belong to them. */
#include "tools/prompts.h"

#include <jansson.h>
#include <math.h>
#include <stdlib.h>
#include <string.h>

#include "libdata/log.h"
#include "libdata/outfile.h"
#include "libdata/source.h"
#include "tools/tool.h"
#include "tools/tool_signal.h"

#define N_FILE_BYTES_MAX ((uint64_t)64 << 20)

void prompts_release(struct prompts *prompts)
{
    for (size_t i = 0; i < prompts->n; i++) {
        free(prompts->list[i].text);
        free(prompts->list[i].key);
        prx_image_release(&prompts->list[i].reference);
    }
    free(prompts->list);
    *prompts = (struct prompts){0};
}

int prompts_add(struct prompts *prompts, const char *key, const char *text)
{
    if (prompts->n == prompts->cap) {
        size_t cap = prompts->cap ? 2 * prompts->cap : 16;
        struct prompt *list = realloc(prompts->list, cap * sizeof(*list));
        if (!list)
            return prx_err_nomem("prompts");
        prompts->list = list;
        prompts->cap = cap;
    }
    struct prompt *prompt = &prompts->list[prompts->n];
    *prompt = (struct prompt){0};
    PRX_TRY(prx_strdup(text, &prompt->text));
    prompts->n++;
    return key ? prx_strdup(key, &prompt->key) : 0;
}

static int add_json(struct prompts *prompts, const char *line)
{
    json_error_t fault;
    json_t *object = json_loads(line, 0, &fault);
    const char *text = json_string_value(json_object_get(object, "prompt"));
    int rc;

    if (!object)
        rc = prx_err(PRX_ECORRUPT, "%s", fault.text);
    else if (!text)
        rc = prx_err(PRX_ECORRUPT, "an object without a text \"prompt\"");
    else
        rc = prompts_add(prompts, json_string_value(json_object_get(object, "key")),
                         text);
    json_decref(object);
    return rc;
}

/* @line ends in a NUL, and is changed. */
static int add_line(struct prompts *prompts, char *line)
{
    line[strcspn(line, "\r")] = '\0';
    if (line[strspn(line, " \t")] == '\0')
        return 0;
    if (*line == '{')
        return add_json(prompts, line);
    char *tab = strchr(line, '\t');
    if (!tab)
        return prompts_add(prompts, NULL, line);
    *tab = '\0';
    return prompts_add(prompts, line, tab + 1);
}

int prompts_read(struct prompts *prompts, const char *path)
{
    struct prx_buf *buf = NULL;
    size_t n_lines = 0;
    int rc = 0;

    PRX_TRY(prx_file_get(path, N_FILE_BYTES_MAX, &buf));
    char *line = (char *)buf->bytes, *end = line + buf->n_bytes;
    if (memchr(line, '\0', buf->n_bytes))
        rc = prx_err(PRX_ECORRUPT, "%s: not a text file", path);
    while (rc == 0 && line < end) {
        char *newline = memchr(line, '\n', (size_t)(end - line));
        char *next = newline ? newline : end;
        *next = '\0';
        n_lines++;
        rc = add_line(prompts, line);
        if (rc < 0)
            prx_err_frame(rc, "%s: line %zu", path, n_lines);
        line = next + 1;
    }
    prx_buf_unref(buf);
    return rc;
}

/* The largest centred part of @image that has the aspect wanted, resized. */
static int fit(const struct prx_image *image, int width_px, int height_px,
               struct prx_image *out)
{
    struct prx_resizer *resizer;
    const double aspect = (double)width_px / height_px;
    double width = fmin(image->width_px, image->height_px * aspect);
    double height = fmin(image->height_px, image->width_px / aspect);
    const double box[4] = {
        (image->width_px - width) / 2,
        (image->height_px - height) / 2,
        (image->width_px + width) / 2,
        (image->height_px + height) / 2,
    };

    PRX_TRY(prx_resizer_new(&resizer));
    int rc = prx_resizer_apply(resizer, image, box, PRX_LANCZOS, width_px, height_px,
                               out);
    prx_resizer_free(resizer);
    return rc;
}

static int take_picture(struct prx_sample *sample, int width_px, int height_px,
                        struct prx_image *out)
{
    struct prx_image image = {0};
    int rc = 0;

    PRX_TRY(prx_sample_load(sample));
    const struct prx_field *field = prx_sample_find_image(sample);
    if (!field)
        return prx_err(PRX_ENOENT, "no image (jpg, jpeg, png or webp)");
    const struct prx_buf *bytes = field->bytes;
    PRX_GO(prx_image_decode(&image, NULL, bytes->bytes, bytes->n_bytes, NULL));
    rc = fit(&image, width_px, height_px, out);
out:
    prx_image_release(&image);
    return rc;
}

static int take_references(struct prompts *prompts, struct prx_source *source,
                           struct prx_sample *sample, int width_px, int height_px)
{
    int got;

    while ((got = prx_source_next(source, sample)) == 1) {
        if (tool_signal())
            return prx_err(PRX_ECANCELED, "interrupted");
        for (size_t i = 0; i < prompts->n && !sample->reject_reason; i++) {
            struct prompt *prompt = &prompts->list[i];
            if (!prompt->key || prompt->reference.pixels ||
                strcmp(prompt->key, sample->key) != 0)
                continue;
            int rc = take_picture(sample, width_px, height_px, &prompt->reference);
            if (rc < 0)
                return prx_err_frame(rc, "%s", sample->key);
        }
    }
    return got;
}

int prompts_find_references(struct prompts *prompts, const char *word, int width_px,
                            int height_px)
{
    const struct prx_source_opts opts = {.may_run = true};
    struct prx_source *source = NULL;
    struct prx_sample sample = {0};

    PRX_TRY(prx_source_open(&word, 1, &opts, &source));
    int rc = take_references(prompts, source, &sample, width_px, height_px);
    prx_sample_release(&sample);
    prx_source_close(source);
    for (size_t i = 0; rc == 0 && i < prompts->n; i++) {
        const struct prompt *prompt = &prompts->list[i];
        if (prompt->key && !prompt->reference.pixels)
            prx_log_warning("%s: no picture of key '%s'", word, prompt->key);
    }
    return rc;
}
