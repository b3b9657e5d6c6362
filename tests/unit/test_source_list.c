/* SPDX-License-Identifier: Apache-2.0 */
/* Lists in JSON Lines, CSV and TSV: rows, columns, paths, faults. */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

#include <cmocka.h>

#include "libdata/source.h"
#include "tests/lib/scratch.h"

#define N_OF(array) (sizeof(array) / sizeof((array)[0]))
#define JPEG        "\xff\xd8\xff"
#define PNG         "\x89PNG\r\n\x1a\n"

static int open_scratch(void **state)
{
    static struct prx_scratch scratch;
    prx_scratch_open(&scratch);
    *state = &scratch;
    return 0;
}

static int close_scratch(void **state)
{
    prx_scratch_close(*state);
    return 0;
}

static void add(struct prx_str *out, const char *text)
{
    assert_int_equal(prx_str_puts(out, text), 0);
}

/* "key field=bytes ...\n" of a sample, NUL as @; "key! reason\n" of a rejected one. */
static void describe(struct prx_str *out, struct prx_sample *sample)
{
    add(out, sample->key);
    if (sample->reject_reason) {
        add(out, "! ");
        add(out, sample->reject_reason);
    }
    for (size_t i = 0; i < sample->n_fields && !sample->reject_reason; i++) {
        const struct prx_field *field = &sample->fields[i];
        add(out, " ");
        add(out, field->name);
        if (!field->bytes || strcmp(field->name, "jpg") == 0)
            continue;
        add(out, "=");
        /* Less the newline of metadata. */
        size_t n_bytes = field->n_bytes - (strcmp(field->name, "json") == 0);
        assert_int_equal(prx_str_add(out, field->bytes->bytes, n_bytes), 0);
        char *end = out->bytes + out->n_bytes;
        for (char *p = end - n_bytes; p < end; p++)
            *p = *p ? *p : '@';
    }
    add(out, "\n");
}

/* All samples of the list @path; the caller frees it. */
static char *read_list(const char *path, const struct prx_source_opts *opts)
{
    struct prx_source *source;
    struct prx_sample sample = {0};
    struct prx_str out = {0};
    uint64_t n_samples = 0;
    int got;

    add(&out, "");
    assert_int_equal(prx_source_open(&path, 1, opts, &source), 0);
    while ((got = prx_source_next(source, &sample)) == 1) {
        assert_int_equal(sample.serial, n_samples++);
        assert_non_null(sample.origin);
        describe(&out, &sample);
    }
    assert_int_equal(got, 0);
    assert_int_equal(prx_source_next(source, &sample), 0);
    prx_sample_release(&sample);
    prx_source_close(source);
    return out.bytes;
}

static void expect(const char *path, const struct prx_source_opts *opts,
                   const char *want)
{
    char *got = read_list(path, opts);
    assert_string_equal(got, want);
    free(got);
}

static void test_csv(void **state)
{
    static const struct {
        const char *name, *text, *want;
    } rows[] = {
        {"a.csv", "caption,n\nx,1\ny,2\n",
         "a/000000000 json={\"n\":1} txt=x\na/000000001 json={\"n\":2} txt=y\n"},
        {"crlf.csv", "caption,n\r\nx,1\r\n", "crlf/000000000 json={\"n\":1} txt=x\n"},
        {"no-end.csv", "caption\nx", "no-end/000000000 txt=x\n"},
        {"mark.csv", "\xef\xbb\xbf\"key\",text\nk,t\n", "k txt=t\n"},
        {"quotes.csv", "key,text\nk,\"a,\"\"b\"\"\nc\"\nl,d \"e\"\n",
         "k txt=a,\"b\"\nc\nl txt=d \"e\"\n"},
        {"cr.csv", "key,text\nk,\"a\r\n\"\r\nl,a\rb\r\n", "k txt=a\r\n\nl txt=a\rb\n"},
        {"blank.csv", "\n\r\nkey,text\n\nk,t\n\r\n\n", "k txt=t\n"},
        {"null.csv", "key,text,n,m\nk,,,\"\"\n", "k\n"},
        {"tab.tsv", "key\ttext\nk\ta,\"b\"\nl\t\"c\td\"\n",
         "k txt=a,\"b\"\nl txt=c\td\n"},
        {"nameless.csv", ",key,text,\n0,k,t,x\n", "k txt=t\n"},
        {"none.csv", "key,text\n", ""},
        {"numbers.csv",
         "key,a,b,c,d,e,f,g\nk,-12,0.5,00123,1e3,0x10,NaN,99999999999999999999\n",
         "k json={\"a\":-12,\"b\":0.5,\"c\":\"00123\",\"d\":1000.0,\"e\":\"0x10\","
         "\"f\":\"NaN\",\"g\":\"99999999999999999999\"}\n"},
        {"texts.csv", "key,text\n7,8\n", "7 txt=8\n"},
        {"case.csv", "TEXT,WIDTH\nt,5\n", "case/000000000 json={\"WIDTH\":5} txt=t\n"},
        {"dots.in.name.csv", "text\nt\n", "dots.in.name/000000000 txt=t\n"},
    };
    struct prx_scratch *scratch = *state;

    for (size_t i = 0; i < N_OF(rows); i++)
        expect(prx_scratch_puts(scratch, rows[i].name, rows[i].text), NULL,
               rows[i].want);
}

static void test_csv_faults(void **state)
{
    static const struct {
        const char *text, *want;
    } rows[] = {
        {"", "f.csv! @: empty: the first line must name the columns\n"},
        {"\n\n", "f.csv! @: empty: the first line must name the columns\n"},
        {"a,b,a\n1,2,3\n", "f.csv! @: two columns are named a\n"},
        {"a,\xff\n1,2\n", "f.csv! @: the names of the columns are not UTF-8\n"},
        {"\xff\xfe\"a\n", "f.csv! @: the names of the columns are not UTF-8\n"},
        {"a,\"b\n1,2\n",
         "f.csv! @: line 1: a quote that begins here is never closed\n"},
        {"key,text\nk,t,u\nl\nm,t\n",
         "f/000000000! 3 values for 2 columns\nf/000000001! 1 values for 2 columns\n"
         "m txt=t\n"},
        {"key,text\nk,\"t\"u\nm,t\n",
         "f/000000000! text behind a closing quote\nm txt=t\n"},
        {"key,text\nk,\xc3(\nm,t\n", "k! column text: not UTF-8\nm txt=t\n"},
        {"key,text\nm,t\nk,\"t\nl,u\n",
         "m txt=t\nf/000000001! a quote that begins here is never closed\n"},
        {"key,text\n,t\n../x,t\na.b,t\n\"a\nb\",t\na/b.x/c,t\n",
         "f/000000000! column key: no key\n"
         "f/000000001! column key: key \"../x\" has a component ..\n"
         "f/000000002! column key: key \"a.b\" has a dot, where readers of files would"
         " end it\n"
         "f/000000003! column key: key \"a\\x0ab\" has a control character\n"
         "a/b.x/c txt=t\n"},
    };
    struct prx_scratch *scratch = *state;

    for (size_t i = 0; i < N_OF(rows); i++) {
        const char *path = prx_scratch_puts(scratch, "f.csv", rows[i].text);
        struct prx_str want = {0};
        for (const char *p = rows[i].want; *p; p++)
            if (*p == '@')
                add(&want, path);
            else
                assert_int_equal(prx_str_add(&want, p, 1), 0);
        expect(path, NULL, want.bytes);
        prx_str_release(&want);
    }
    static const char nul[] = "key,text\nk,a\0b\nm,t\n";
    expect(prx_scratch_put(scratch, "f.csv", nul, sizeof(nul) - 1), NULL,
           "f/000000000! a NUL byte\nm txt=t\n");
}

/* Values and rows without end; what comes behind them is read. */
static void test_limits(void **state)
{
    static const struct {
        const char *name, *head, *tail, *want;
        size_t n_filler_bytes;
        char filler;
    } rows[] = {
        {"v.csv", "key,text\nk,\"", "\"\nm,t\n",
         "v/000000000! a value of more than 16 MiB\nm txt=t\n", ((size_t)16 << 20) + 1,
         '\n'},
        {"r.csv", "key,text\nk", "\nm,t\n",
         "r/000000000! more than 10000 values\nm txt=t\n", 20000, ','},
        {"l.jsonl", "{\"key\":\"k\",\"text\":\"", "\"}\n{\"key\":\"m\"}\n",
         "l/000000000! a line of more than 67108864 bytes\nm\n", (size_t)64 << 20, 'x'},
    };
    struct prx_scratch *scratch = *state;

    for (size_t i = 0; i < N_OF(rows); i++) {
        struct prx_str text = {0};
        add(&text, rows[i].head);
        assert_int_equal(prx_str_reserve(&text, rows[i].n_filler_bytes), 0);
        memset(text.bytes + text.n_bytes, rows[i].filler, rows[i].n_filler_bytes);
        text.n_bytes += rows[i].n_filler_bytes;
        add(&text, rows[i].tail);
        expect(prx_scratch_put(scratch, rows[i].name, text.bytes, text.n_bytes), NULL,
               rows[i].want);
        prx_str_release(&text);
    }
}

static void test_jsonl(void **state)
{
    static const char text[] =
        "\xef\xbb\xbf{\"key\": \"a\", \"caption\": \"x\", \"n\": 1.5, \"no\": null}\r\n"
        "\n  \n"
        "{\"key\": 7, \"tags\": [1, {\"b\": true}], \"id\": \"007\"}\n"
        "{\"text\": \"y\\u0000z\", \"captions\": {\"long\": \"l\"}}\n"
        "nonsense\n"
        "[1]\n"
        "{\"key\": {}}\n"
        "{\"key\": \"b\\u0000c\"}\n"
        "{\"key\": \"d\", \"caption\": 5}\n"
        "{\"key\": \"e\", \"image\": [1]}\n"
        "{\"key\": \"f\", \"n\": 99999999999999999999}\n"
        "{\"key\": \"g\"}";
    static const char want[] =
        "a json={\"n\":1.5} txt=x\n"
        "7 json={\"id\":\"007\",\"tags\":[1,{\"b\":true}]}\n"
        "x/000000002 json={\"captions\":{\"long\":\"l\"}} txt=y@z\n"
        "x/000000003! column 8: '[' or '{' expected near 'nonsense'\n"
        "x/000000004! not a JSON object\n"
        "x/000000005! column key: no key\n"
        "x/000000006! column key: no key\n"
        "d! column caption: a caption that is not text\n"
        "e! column image: neither a path nor a picture\n"
        "x/000000009! column 38: too big integer near '99999999999999999999'\n"
        "g\n";
    struct prx_scratch *scratch = *state;

    expect(prx_scratch_puts(scratch, "x.jsonl", text), NULL, want);
    expect(prx_scratch_puts(scratch, "x.ndjson", text), NULL, want);
}

/* Where a sample comes from is the file and the line on which its row begins. */
static void test_places(void **state)
{
    struct prx_scratch *scratch = *state;
    const char *path =
        prx_scratch_puts(scratch, "p.csv", "key,text\n\na,\"x\ny\nz\"\nb,t,u\nc,t\n");
    const char *const places[] = {":3", ":6", ":7"};
    struct prx_source *source;
    struct prx_sample sample = {0};

    assert_int_equal(prx_source_open(&path, 1, NULL, &source), 0);
    for (size_t i = 0; i < N_OF(places); i++) {
        assert_int_equal(prx_source_next(source, &sample), 1);
        assert_int_equal(sample.reject_reason != NULL, i == 1);
        assert_string_equal(sample.origin + strlen(path), places[i]);
    }
    assert_int_equal(prx_source_next(source, &sample), 0);
    prx_sample_release(&sample);
    prx_source_close(source);
}

static void test_columns(void **state)
{
    static const char *const long_too[] = {"prompt", "long=llava"};
    static const char *const twice[] = {"short=prompt", "long=prompt", "txt=llava"};
    static const char *const none[] = {"long=none"};
    static const char *const no_column[] = {"long="}, *const no_name[] = {"=x"};
    static const struct {
        struct prx_list_opts opts;
        const char *want; /* or why it is refused */
        int rc;
    } rows[] = {
        {{0}, "k json={\"id\":\"id/a.jpg\",\"llava\":\"l\"} txt=p\n", 0},
        {{.key_column = "id"},
         "id/a json={\"key\":\"k\",\"llava\":\"l\"} txt=p\n",
         0},
        {{.caption_columns = long_too, .n_caption_columns = 2},
         "k json={\"captions\":{\"long\":\"l\"},\"id\":\"id/a.jpg\"} txt=p\n",
         0},
        {{.caption_columns = twice, .n_caption_columns = 3},
         "k json={\"captions\":{\"long\":\"p\",\"short\":\"p\"},\"id\":\"id/a.jpg\"}"
         " txt=l\n",
         0},
        {{.key_column = "none"}, "no column none, but key, id, prompt", PRX_EINVAL},
        {{.image_column = "none"}, "there is no column none, but key, id", PRX_EINVAL},
        {{.caption_columns = none, .n_caption_columns = 1},
         "no column none",
         PRX_EINVAL},
        {{.key_column = ""}, "a key column without a name", PRX_EINVAL},
        {{.image_root = ""}, "a folder of pictures without a name", PRX_EINVAL},
        {{.caption_columns = no_column, .n_caption_columns = 1},
         "caption column \"long=\": not [NAME=]COLUMN",
         PRX_EINVAL},
        {{.caption_columns = no_name, .n_caption_columns = 1},
         "caption column \"=x\": not [NAME=]COLUMN",
         PRX_EINVAL},
    };
    struct prx_scratch *scratch = *state;
    const char *path = prx_scratch_puts(scratch, "c.csv",
                                        "key,id,prompt,llava\nk,id/a.jpg,p,l\n");

    for (size_t i = 0; i < N_OF(rows); i++) {
        struct prx_source_opts opts = {.lists = rows[i].opts};
        struct prx_source *source;
        if (rows[i].rc == 0) {
            expect(path, &opts, rows[i].want);
            continue;
        }
        assert_int_equal(prx_source_open(&path, 1, &opts, &source), PRX_EINVAL);
        assert_non_null(strstr(prx_err_message(), rows[i].want));
    }

    /* Names of columns are data, and do not reach a terminal as they are. */
    struct prx_source_opts odd = {.lists = {.key_column = "none"}};
    struct prx_source *source;
    path = prx_scratch_puts(scratch, "o.csv", "a\033[31m\nx\n");
    assert_int_equal(prx_source_open(&path, 1, &odd, &source), PRX_EINVAL);
    assert_non_null(strstr(prx_err_message(), "no column none, but a\\x1b[31m"));

    /* Captions of a row join those that it has as an object. */
    static const char *const joined[] = {"short=s"};
    struct prx_source_opts opts = {
        .lists = {.caption_columns = joined, .n_caption_columns = 1}};
    expect(prx_scratch_puts(scratch, "j.jsonl",
                            "{\"s\":\"t\",\"captions\":{\"long\":\"l\"}}\n"
                            "{\"s\":\"t\",\"captions\":\"l\"}\n{\"captions\":\"l\"}\n"),
           &opts,
           "j/000000000 json={\"captions\":{\"long\":\"l\",\"short\":\"t\"}}\n"
           "j/000000001! column captions: not an object of captions\n"
           "j/000000002 json={\"captions\":\"l\"}\n");
}

/* The list lies in lists/; pictures in lists/, in lists/sub/ and beside it. */
static const char *put_paths(struct prx_scratch *scratch)
{
    struct prx_str text = {0};

    prx_scratch_puts(scratch, "lists/a.jpg", JPEG);
    prx_scratch_puts(scratch, "lists/sub/b.PNG", PNG);
    prx_scratch_puts(scratch, "lists/sub/odd", JPEG);
    prx_scratch_puts(scratch, "lists/sub/text", "no picture");
    prx_scratch_puts(scratch, "out/a.jpg", JPEG);
    assert_int_equal(symlink("out/a.jpg",
                             prx_scratch_path(scratch, "lists/gone.jpg")),
                     0);
    assert_int_equal(prx_str_printf(&text,
                                    "key,image\n0,a.jpg\n1,sub/b.PNG\n2,sub/odd\n"
                                    "3,sub/text\n4,gone.jpg\n5,sub\n6,../out/a.jpg\n"
                                    "7,sub/../a.jpg\n8,%s/out/a.jpg\n"
                                    "9,https://h/x.jpg\n10,\n11,..a\n",
                                    scratch->root),
                     0);
    const char *path = prx_scratch_puts(scratch, "lists/p.csv", text.bytes);
    prx_str_release(&text);
    return path;
}

/* How the list's rows come out: "0 1 !2 ...", a mark for each that is rejected. */
static void expect_verdicts(const char *path, const struct prx_list_opts *lists,
                            const char *want)
{
    const struct prx_source_opts opts = {.lists = *lists};
    struct prx_source *source;
    struct prx_sample sample = {0};
    struct prx_str got = {0};

    assert_int_equal(prx_source_open(&path, 1, &opts, &source), 0);
    while (prx_source_next(source, &sample) == 1) {
        struct prx_field *image = prx_sample_find_image(&sample);
        assert_int_equal(prx_str_printf(&got, " %s%s%s%s", sample.key,
                                        sample.reject_reason ? "!" : "",
                                        image ? "." : "", image ? image->name : ""),
                         0);
        if (!sample.reject_reason)
            assert_int_equal(prx_sample_load(&sample), 0);
    }
    assert_string_equal(got.bytes, want);
    prx_str_release(&got);
    prx_sample_release(&sample);
    prx_source_close(source);
}

static void test_paths(void **state)
{
    struct prx_scratch *scratch = *state;
    const char *path = put_paths(scratch);

    expect_verdicts(path, &(struct prx_list_opts){0},
                    " 0.jpg 1.png 2.jpg 3! 4! 5! 6! 7! 8! 9! 10 11!");
    expect_verdicts(path, &(struct prx_list_opts){.any_path = true},
                    " 0.jpg 1.png 2.jpg 3! 4! 5! 6.jpg 7.jpg 8.jpg 9! 10 11!");
    expect_verdicts(path, &(struct prx_list_opts){.keep_urls = true},
                    " 0.jpg 1.png 2.jpg 3! 4! 5! 6! 7! 8! 9 10 11!");
    struct prx_list_opts lists = {.image_root = prx_scratch_path(scratch, "out")};
    expect_verdicts(path, &lists, " 0.jpg 1! 2! 3! 4! 5! 6! 7! 8! 9! 10 11!");
    lists = (struct prx_list_opts){.image_column = ""};
    expect_verdicts(path, &lists, " 0 1 2 3 4 5 6 7 8 9 10 11");

    struct prx_source_opts opts = {.lists = {.keep_urls = true}};
    expect(prx_scratch_puts(scratch, "u.jsonl",
                            "{\"image_url\":\"https://h/x\",\"text\":\"t\"}\n"),
           &opts, "u/000000000 json={\"url\":\"https://h/x\"} txt=t\n");
    opts = (struct prx_source_opts){0};
    expect(prx_scratch_puts(scratch, "u.jsonl", "{\"URL\":\"s3://b/x\"}\n"), &opts,
           "u/000000000! s3://b/x: the image is a URL; prx-fetch downloads it\n");
    expect(prx_scratch_puts(scratch, "lists/u.jsonl", "{\"path\":\"../x\"}\n"), &opts,
           "u/000000000! ../x: leads out of the folder of pictures; --any-path allows"
           " it\n");
    opts.n_member_bytes_max = 2;
    prx_scratch_puts(scratch, "big.jpg", JPEG);
    path = prx_scratch_puts(scratch, "b.csv", "image\nbig.jpg\n");
    char *got = read_list(path, &opts);
    assert_non_null(strstr(got, "larger than the limit"));
    free(got);
}

/* A file name makes a good key; keys of the list's own rows are hidden by them. */
static void test_keys_and_skips(void **state)
{
    struct prx_scratch *scratch = *state;
    const struct prx_source_opts opts = {.lists = {.key_column = "path"}};

    prx_scratch_puts(scratch, "x/a.jpg", JPEG);
    prx_scratch_puts(scratch, "x/b.JPEG", JPEG);
    const char *path =
        prx_scratch_puts(scratch, "k.csv", "path\nx/a.jpg\nx/b.JPEG\nx/gone.jpg\n");
    prx_scratch_puts(scratch, "k.csv.skip", "x/a\tan old one\nx/gone\tlost\n");
    expect(path, &opts, "x/b jpeg\n");
    prx_scratch_puts(scratch, "k.csv.skip", "k/000000000\tx\nk/000000002\tx\n");
    expect(path, NULL, "k/000000001 jpeg\n");

    struct prx_source *source;
    struct prx_sample sample = {0};
    assert_int_equal(prx_source_open(&path, 1, NULL, &source), 0);
    while (prx_source_next(source, &sample) == 1)
        continue;
    assert_int_equal(prx_source_hidden(source), 2);
    prx_sample_release(&sample);
    prx_source_close(source);
}

static char *plan_of(const char *path, const struct prx_list_opts *lists)
{
    const struct prx_source_opts opts = {.lists = *lists};
    struct prx_source *source;
    struct prx_str plan = {0};

    assert_int_equal(prx_source_open(&path, 1, &opts, &source), 0);
    assert_int_equal(prx_source_plan(source, &plan), 0);
    prx_source_close(source);
    return plan.bytes;
}

static void test_plan(void **state)
{
    struct prx_scratch *scratch = *state;
    const char *path = prx_scratch_puts(scratch, "p.csv", "key,text\nk,t\n");
    char *plans[8];
    size_t n_plans = 0;

    plans[n_plans++] = plan_of(path, &(struct prx_list_opts){0});
    plans[n_plans++] = plan_of(path, &(struct prx_list_opts){.key_column = "key"});
    plans[n_plans++] = plan_of(path, &(struct prx_list_opts){.image_column = ""});
    plans[n_plans++] = plan_of(path, &(struct prx_list_opts){.image_root = "."});
    plans[n_plans++] = plan_of(path, &(struct prx_list_opts){.any_path = true});
    prx_scratch_puts(scratch, "p.csv.skip", "k\tx\n");
    plans[n_plans++] = plan_of(path, &(struct prx_list_opts){0});
    prx_scratch_puts(scratch, "p.csv", "key,text\nk,u\n"); /* of the same size */
    plans[n_plans++] = plan_of(path, &(struct prx_list_opts){0});
    for (size_t i = 0; i < n_plans; i++)
        for (size_t k = 0; k < i; k++)
            assert_string_not_equal(plans[i], plans[k]);
    for (size_t i = 0; i < n_plans; i++)
        free(plans[i]);
}

/* Several lists: whole ones for each rank where there are enough, rows otherwise. */
static void test_ranks(void **state)
{
    struct prx_scratch *scratch = *state;

    prx_scratch_puts(scratch, "r0.csv", "key\na\nb\n");
    prx_scratch_puts(scratch, "r1.csv", "key\nc\nd\n");
    prx_scratch_puts(scratch, "r2.csv", "key\ne\nf\n");
    const char *path = prx_scratch_path(scratch, "r{0..2}.csv");
    struct prx_source_opts opts = {.rank = 1, .world = 2};
    expect(path, NULL, "a\nb\nc\nd\ne\nf\n");
    expect(path, &opts, "c\nd\n");
    opts = (struct prx_source_opts){.rank = 1, .world = 4};
    expect(path, &opts, "b\nf\n");

    struct prx_source *source;
    assert_int_equal(prx_source_open(&path, 1, NULL, &source), 0);
    assert_true(prx_source_has(source, prx_scratch_path(scratch, "r1.csv")));
    assert_true(prx_source_has(source, scratch->root));
    assert_false(prx_source_has(source, prx_scratch_puts(scratch, "r3.csv", "")));
    prx_source_close(source);
}

int main(void)
{
#define TEST(name) cmocka_unit_test_setup_teardown(name, open_scratch, close_scratch)
    const struct CMUnitTest tests[] = {
        TEST(test_csv),
        TEST(test_csv_faults),
        TEST(test_limits),
        TEST(test_jsonl),
        TEST(test_places),
        TEST(test_columns),
        TEST(test_paths),
        TEST(test_keys_and_skips),
        TEST(test_plan),
        TEST(test_ranks),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
