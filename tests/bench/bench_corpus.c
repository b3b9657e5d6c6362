/* SPDX-License-Identifier: Apache-2.0 */
/*
 * bench_corpus - write a folder of photograph-like JPEGs for the benchmarks.
 *
 *     bench_corpus PHOTOS OUT N
 *
 * N pictures of 768 to 1024 px sides at quality 90, made of the photographs in
 * PHOTOS (decoded, enlarged, with a little grain so that the files are as large
 * as camera pictures of that size, about 110 KB), each with .txt and .json
 * beside it.  Deterministic.
 */
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "libdata/image.h"
#include "libdata/outfile.h"
#include "libdata/rng.h"
#include "libdata/source.h"

/* Luminance noise, +-amplitude, uniform. */
static void add_grain(struct prx_image *image, struct prx_rng *rng, int amplitude)
{
    size_t n_px = (size_t)image->width_px * (size_t)image->height_px;

    for (size_t i = 0; i < n_px; i++) {
        int grain = (int)(prx_rng_u32(rng) % (unsigned)(2 * amplitude + 1)) - amplitude;
        for (size_t c = 0; c < 3; c++) {
            int value = image->pixels[3 * i + c] + grain;
            image->pixels[3 * i + c] = (uint8_t)(value < 0 ? 0 : value > 255 ? 255
                                                                             : value);
        }
    }
}

static int write_sample(const char *out_dir, int i, const struct prx_image *photo,
                        const char *caption)
{
    struct prx_image image = {0};
    struct prx_buf *jpeg = NULL;
    struct prx_rng rng;
    char path[4096];
    char json[256];
    int rc;

    prx_rng_init(&rng, 1, PRX_RNG_TEST, 0, (uint64_t)i);
    int width_px = 768 + (int)prx_rng_below(&rng, 257);
    int height_px = 768 + (int)prx_rng_below(&rng, 257);
    PRX_GO(prx_image_resize(photo, NULL, PRX_BICUBIC, width_px, height_px, &image));
    add_grain(&image, &rng, 4);
    PRX_GO(prx_image_encode(&image, PRX_IMAGE_JPEG, 90, &jpeg));

    int n_base = snprintf(path, sizeof(path) - 8, "%s/%03d/%06d", out_dir, i / 1000, i);
    snprintf(path + n_base, 8, ".jpg");
    PRX_GO(prx_file_put(path, jpeg->bytes, jpeg->n_bytes));
    snprintf(path + n_base, 8, ".txt");
    PRX_GO(prx_file_put(path, caption, strlen(caption)));
    snprintf(path + n_base, 8, ".json");
    int n_json =
        snprintf(json, sizeof(json), "{\"url\": \"https://example.org/%d\"}\n", i);
    PRX_GO(prx_file_put(path, json, (size_t)n_json));
out:
    prx_buf_unref(jpeg);
    prx_image_release(&image);
    return rc;
}

static int run(const char *photos, const char *out_dir, int n_samples)
{
    struct prx_source_opts opts = {0};
    struct prx_source *source = NULL;
    struct prx_sample sample = {0};
    struct prx_image photo = {0};
    int rc = 0;

    for (int i = 0; i < n_samples; i++) {
        if (!source)
            PRX_GO(prx_source_open(&photos, 1, &opts, &source));
        PRX_GO(prx_source_next(source, &sample));
        if (rc == 0) { /* start over with the first photograph */
            prx_source_close(source);
            source = NULL;
            i--;
            continue;
        }
        PRX_GO(prx_sample_load(&sample));
        struct prx_field *field = prx_sample_find_image(&sample);
        if (!field) {
            rc = prx_err(PRX_ENOENT, "%s: no picture", sample.key);
            goto out;
        }
        const struct prx_buf *bytes = field->bytes;
        PRX_GO(prx_image_decode(&photo, NULL, bytes->bytes, bytes->n_bytes, NULL));
        PRX_GO(write_sample(out_dir, i, &photo, "a photograph, with a caption\n"));
    }
out:
    prx_image_release(&photo);
    prx_sample_release(&sample);
    prx_source_close(source);
    return rc;
}

int main(int argc, char **argv)
{
    if (argc != 4) {
        fprintf(stderr, "usage: bench_corpus PHOTOS OUT N\n");
        return 2;
    }
    if (run(argv[1], argv[2], (int)strtol(argv[3], NULL, 10)) < 0) {
        fprintf(stderr, "bench_corpus: %s\n", prx_err_message());
        return 1;
    }
    return 0;
}
