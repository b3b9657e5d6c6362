/* SPDX-License-Identifier: Apache-2.0 */
/* Pictures that were made, as samples and on a sheet. */
#include "tools/sample_out.h"

#include <inttypes.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

#include "libdata/outfile.h"
#include "tools/tool.h"

#define GRID_QUALITY 95

static int find_grid_format(const char *path, enum prx_image_format *out)
{
    static const enum prx_image_format formats[] = {PRX_IMAGE_PNG, PRX_IMAGE_JPEG,
                                                    PRX_IMAGE_WEBP};
    const char *dot = strrchr(path, '.');
    for (size_t i = 0; dot && i < sizeof(formats) / sizeof(formats[0]); i++) {
        *out = formats[i];
        if (strcmp(dot + 1, prx_image_format_name(*out)) == 0)
            return 0;
    }
    return tool_usage("--grid: %s ends neither in .png nor .jpg nor .webp", path);
}

int sample_out_check(struct sample_out *out)
{
    if (!out->dest && !out->grid_path)
        return tool_usage("name an output: -o or --grid");
    if (out->has_references && !out->grid_path)
        return tool_usage("--reference: needs --grid");
    if (out->dest && strcmp(out->dest, "-") == 0 && isatty(STDOUT_FILENO))
        return tool_usage("-o: a tar is not written to a terminal; name a file");
    if (!out->grid_path)
        return 0;
    if (!out->overwrite && access(out->grid_path, F_OK) == 0)
        return prx_err(PRX_EEXIST, "%s: is there already; --overwrite replaces it",
                       out->grid_path);
    return find_grid_format(out->grid_path, &out->grid_format);
}

/* A word that is no tar means a folder: "cups" is "cups/". */
static int open_sink(const struct sample_out *out, struct prx_sink **sink)
{
    const char *word = out->dest, *dot = strrchr(word, '.');
    const struct prx_sink_opts opts = {
        .exists = out->overwrite ? PRX_SINK_OVERWRITE : PRX_SINK_REFUSE,
        .plan = out->tool_name,
        .tool = out->tool_name,
    };
    struct prx_str folder = {0};
    bool is_tar = strcmp(word, "-") == 0 || (dot && strcmp(dot, ".tar") == 0);
    uint64_t n_done;
    int rc = 0;

    if (!is_tar && !strchr(word, ':') && word[strlen(word) - 1] != '/') {
        PRX_GO(prx_str_printf(&folder, "%s/", word));
        word = folder.bytes;
    }
    rc = prx_sink_open(word, &opts, &n_done, sink);
out:
    prx_str_release(&folder);
    return rc;
}

/* A sheet of all prompts, with photographs that are there first. */
static int open_sheet(struct sample_out *out)
{
    const size_t n = out->prompts->n;

    out->labels = calloc(n, sizeof(*out->labels));
    out->references = out->has_references ? calloc(n, sizeof(*out->references)) : NULL;
    if (!out->labels || (out->has_references && !out->references))
        return prx_err_nomem("a sheet");
    for (size_t i = 0; i < n; i++) {
        const struct prompt *prompt = &out->prompts->list[i];
        out->labels[i] = prompt->text;
        if (out->references && prompt->reference.pixels)
            out->references[i] = &prompt->reference;
    }
    out->sheet = (struct prx_sheet){
        .labels = out->labels,
        .references = out->references,
        .title = out->has_references
                     ? "first the photograph, then what the model made of the words"
                     : NULL,
        .n_prompts = n,
        .n_images = out->n_images,
        .n_columns = out->n_grid_columns,
    };
    return prx_sheet_init(&out->sheet);
}

int sample_out_open(struct sample_out *out)
{
    if (out->grid_path)
        PRX_TRY(open_sheet(out));
    return out->dest ? open_sink(out, &out->sink) : 0;
}

static int put_text(struct prx_sample *sample, const char *name, const char *text)
{
    struct prx_buf *buf;
    PRX_TRY(prx_buf_dup(text, strlen(text), &buf));
    return prx_sample_put(sample, name, buf);
}

static int put_meta(const struct sample_out *out, const struct prx_generate_job *job,
                    struct prx_sample *sample)
{
    const struct prx_generate_opts *opts = out->opts;
    const struct prompt *prompt = &out->prompts->list[job->i_prompt];
    json_t *meta;

    PRX_TRY(prx_sample_meta(sample, &meta));
    json_t *made = json_pack("{s:I, s:I, s:I, s:I, s:f, s:f, s:s*}",
                             "step", (json_int_t)out->gen->info.step,
                             "seed", (json_int_t)opts->seed,
                             "image", (json_int_t)job->i_image,
                             "steps", (json_int_t)opts->sampler.n_steps,
                             "guidance", opts->sampler.guidance_scale,
                             "shift", opts->sampler.shift,
                             "prompt_key", prompt->key);
    if (json_object_set_new(meta, "sampled", made) < 0 ||
        json_object_set_new(meta, "width", json_integer(opts->width_px)) < 0 ||
        json_object_set_new(meta, "height", json_integer(opts->height_px)) < 0)
        return prx_err_nomem("metadata");
    sample->meta_changed = true;
    PRX_TRY(prx_sample_finish(sample));
    return put_text(sample, "txt", prompt->text);
}

static int put_sample(struct sample_out *out, const struct prx_generate_job *job,
                      const struct prx_image *image)
{
    uint64_t number = job->i_prompt * out->n_images + job->i_image;
    struct prx_sample sample = {.serial = number};
    struct prx_buf *buf;
    char key[24];
    int rc = 0;

    snprintf(key, sizeof(key), "%04" PRIu64, number);
    PRX_GO(prx_sample_set_key(&sample, key));
    PRX_GO(prx_image_encode(image, out->format, out->quality, &buf));
    PRX_GO(prx_sample_put(&sample, prx_image_format_name(out->format), buf));
    PRX_GO(put_meta(out, job, &sample));
    rc = prx_sink_put(out->sink, &sample);
out:
    prx_sample_release(&sample);
    return rc;
}

int sample_out_put(struct sample_out *out, const struct prx_generate_job *job,
                   struct prx_image *image)
{
    if (out->sink)
        PRX_TRY(put_sample(out, job, image));
    if (out->grid_path)
        prx_sheet_put(&out->sheet, job, image);
    return 0;
}

static int write_sheet(const struct sample_out *out)
{
    struct prx_image sheet = {0};
    struct prx_buf *buf = NULL;
    int rc = 0;

    PRX_GO(prx_sheet_draw(&out->sheet, &sheet));
    PRX_GO(prx_image_encode(&sheet, out->grid_format, GRID_QUALITY, &buf));
    rc = prx_file_put(out->grid_path, buf->bytes, buf->n_bytes);
out:
    prx_buf_unref(buf);
    prx_image_release(&sheet);
    return rc;
}

int sample_out_finish(struct sample_out *out)
{
    struct prx_sink *sink = out->sink;

    if (out->grid_path)
        PRX_TRY(write_sheet(out));
    out->sink = NULL;
    return sink ? prx_sink_finish(sink, NULL, NULL) : 0;
}

void sample_out_release(struct sample_out *out)
{
    if (out->sink)
        prx_sink_abort(out->sink);
    out->sink = NULL;
    prx_sheet_release(&out->sheet);
    free(out->labels);
    free(out->references);
    out->labels = NULL;
    out->references = NULL;
}
