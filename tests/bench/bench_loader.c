/* SPDX-License-Identifier: Apache-2.0 */
/*
 * bench_loader KIND SRC [THREADS] [BATCH] [SECONDS] - how fast batches come.
 *
 *     images    pictures to [B, 3, 256, 256] float32, centre crop, mirrored at random
 *     bytes     the same to [B, 256, 256, 3] bytes
 *     latents   latent.npy of 16 channels to float32
 *     decode    no loader: libjpeg-turbo alone, in as many threads, out of memory
 *     epoch     latents, one shuffled epoch through a window of 64 Ki samples
 *
 * Prints samples and MB (as stored) a second, seconds to open, peak memory.
 */
#include <pthread.h>
#include <stdatomic.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/resource.h>

#include <jpeglib.h>

#include "libdata/loader.h"
#include "libdata/progress.h"

#define SIZE_PX 256

struct bench {
    const char *kind;
    const char *word;
    int n_threads;
    size_t n_batch;
    double n_seconds;
};

static bool is_kind(const struct bench *bench, const char *kind)
{
    return strcmp(bench->kind, kind) == 0;
}

static double seconds_since(int64_t start_ns)
{
    return (double)(prx_now_ns() - start_ns) / 1e9;
}

static void print(double n_samples, double n_bytes, double elapsed_s, double open_s)
{
    struct rusage usage;

    getrusage(RUSAGE_SELF, &usage);
    printf("%.0f %.0f %.2f %.1f\n", n_samples / elapsed_s, n_bytes / elapsed_s / 1e6,
           open_s, (double)usage.ru_maxrss / 1024);
}

/* --- the loader ------------------------------------------------------------------- */

static int run_loader(const struct bench *bench, struct prx_source *source,
                      const struct prx_loader_opts *opts)
{
    const struct prx_loader_set set = {source, 1};
    struct prx_loader_summary summary;
    struct prx_loader *loader = NULL;
    struct prx_loader_batch batch;
    uint64_t n_samples = 0;
    int rc = 0;

    int64_t start_ns = prx_now_ns();
    PRX_GO(prx_loader_open(&set, 1, opts, &loader));
    double open_s = seconds_since(start_ns);
    prx_loader_summary(loader, &summary);
    start_ns = prx_now_ns();
    while (is_kind(bench, "epoch") ? n_samples < summary.n_samples
                                   : seconds_since(start_ns) < bench->n_seconds) {
        PRX_GO(prx_loader_next(loader, &batch));
        n_samples += (uint64_t)batch.n_samples;
    }
    double n_bytes = (double)summary.n_bytes / (double)summary.n_samples;
    print((double)n_samples, (double)n_samples * n_bytes, seconds_since(start_ns),
          open_s);
out:
    prx_loader_close(loader);
    return rc;
}

static int run(const struct bench *bench)
{
    struct prx_loader_opts opts = {
        .n_batch = bench->n_batch,
        .seed = 1,
        .shuffle = true,
        .n_threads = bench->n_threads,
        .n_prefetch_bytes = (uint64_t)64 << 20,
    };
    struct prx_source *source;

    if (is_kind(bench, "images") || is_kind(bench, "bytes"))
        opts.image = (struct prx_loader_image_opts){
            .form = is_kind(bench, "images") ? PRX_LOADER_IMAGE_F32
                                             : PRX_LOADER_IMAGE_U8,
            .fit = {.size_px = SIZE_PX, .crop = PRX_CROP_CENTER},
            .flip = 0.5,
        };
    else
        opts.latent_channels = 16;
    if (is_kind(bench, "epoch"))
        opts.n_window_samples = 65536;
    PRX_TRY(prx_source_open(&bench->word, 1, NULL, &source));
    int rc = run_loader(bench, source, &opts);
    prx_source_close(source);
    return rc;
}

/* --- libjpeg-turbo alone --------------------------------------------------------- */

struct pile {
    struct prx_buf **pictures;
    size_t n_pictures;
    atomic_size_t i_next;
    double n_seconds;
    int64_t start_ns;
};

static int take_pictures(const struct bench *bench, struct pile *pile)
{
    struct prx_source *source;
    struct prx_sample sample = {0};
    int got;

    PRX_TRY(prx_source_open(&bench->word, 1, NULL, &source));
    while ((got = prx_source_next(source, &sample)) == 1) {
        struct prx_field *field = prx_sample_find_image(&sample);
        if (!field || (got = prx_sample_load(&sample)) < 0)
            continue;
        pile->pictures = realloc(pile->pictures,
                                 (pile->n_pictures + 1) * sizeof(*pile->pictures));
        PRX_BUG_IF(!pile->pictures);
        pile->pictures[pile->n_pictures++] = prx_buf_ref(field->bytes);
    }
    prx_sample_release(&sample);
    prx_source_close(source);
    return got;
}

static void decode(const struct prx_buf *bytes, struct prx_str *pixels)
{
    struct jpeg_decompress_struct jpeg;
    struct jpeg_error_mgr errors;

    jpeg.err = jpeg_std_error(&errors);
    jpeg_create_decompress(&jpeg);
    jpeg_mem_src(&jpeg, bytes->bytes, bytes->n_bytes);
    jpeg_read_header(&jpeg, TRUE);
    jpeg.out_color_space = JCS_RGB;
    jpeg_start_decompress(&jpeg);
    size_t n_row = (size_t)jpeg.output_width * 3;
    prx_str_reset(pixels);
    PRX_BUG_IF(prx_str_reserve(pixels, n_row * jpeg.output_height) < 0);
    while (jpeg.output_scanline < jpeg.output_height) {
        JSAMPROW row = (JSAMPROW)(pixels->bytes + n_row * jpeg.output_scanline);
        jpeg_read_scanlines(&jpeg, &row, 1);
    }
    jpeg_finish_decompress(&jpeg);
    jpeg_destroy_decompress(&jpeg);
}

static void *decode_pile(void *ctx)
{
    struct pile *pile = ctx;
    struct prx_str pixels = {0};

    while (seconds_since(pile->start_ns) < pile->n_seconds)
        decode(pile->pictures[atomic_fetch_add(&pile->i_next, 1) % pile->n_pictures],
               &pixels);
    prx_str_release(&pixels);
    return NULL;
}

static int run_decode(const struct bench *bench)
{
    struct pile pile = {.n_seconds = bench->n_seconds};
    pthread_t threads[64];
    double n_bytes = 0;

    PRX_TRY(take_pictures(bench, &pile));
    for (size_t i = 0; i < pile.n_pictures; i++)
        n_bytes += (double)pile.pictures[i]->n_bytes / (double)pile.n_pictures;
    pile.start_ns = prx_now_ns();
    for (int i = 0; i < bench->n_threads; i++)
        PRX_BUG_IF(pthread_create(&threads[i], NULL, decode_pile, &pile) != 0);
    for (int i = 0; i < bench->n_threads; i++)
        pthread_join(threads[i], NULL);
    double n_done = (double)atomic_load(&pile.i_next);
    print(n_done, n_done * n_bytes, seconds_since(pile.start_ns), 0);
    return 0;
}

int main(int argc, char **argv)
{
    if (argc < 3) {
        fprintf(stderr, "usage: bench_loader KIND SRC [THREADS] [BATCH] [SECONDS]\n");
        return 2;
    }
    const struct bench bench = {
        .kind = argv[1],
        .word = argv[2],
        .n_threads = argc > 3 ? (int)strtol(argv[3], NULL, 10) : 2,
        .n_batch = argc > 4 ? (size_t)strtol(argv[4], NULL, 10) : 64,
        .n_seconds = argc > 5 ? strtod(argv[5], NULL) : 3,
    };
    PRX_BUG_IF(bench.n_threads < 1 || bench.n_threads > 64);
    int rc = is_kind(&bench, "decode") ? run_decode(&bench) : run(&bench);
    if (rc < 0) {
        fprintf(stderr, "bench_loader: %s\n", prx_err_message());
        return 1;
    }
    return 0;
}
