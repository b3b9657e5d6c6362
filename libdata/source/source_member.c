/* SPDX-License-Identifier: Apache-2.0 */
/* How files, members of tars and entries of LMDBs become fields of a sample. */
#include <stdlib.h>
#include <string.h>

#include "libdata/source/source_internal.h"

bool prx_name_is_reserved(const char *name)
{
    size_t n_first = strcspn(name, "/");
    return n_first >= 4 && memcmp(name, "__", 2) == 0 &&
           memcmp(name + n_first - 2, "__", 2) == 0;
}

int prx_sample_begin(struct prx_sample *sample, const char *name, size_t n_key,
                     const char *origin)
{
    struct prx_str key = {0};
    char shown[PRX_ERR_TEXT_BYTES / 2];
    int rc = 0;

    PRX_GO(prx_str_add(&key, name, n_key));
    PRX_GO(prx_sample_set_origin(sample, origin));
    rc = prx_key_check(key.bytes);
    if (rc == PRX_EINVAL) {
        prx_sample_reject(sample, "read", "%s", prx_err_message());
        prx_escape(key.bytes, shown, sizeof(shown));
        PRX_GO(prx_sample_set_key(sample, shown));
    } else {
        PRX_GO(prx_sample_set_key(sample, key.bytes));
    }
out:
    prx_str_release(&key);
    return rc;
}

static void lower(char *text)
{
    for (; *text; text++)
        if (*text >= 'A' && *text <= 'Z')
            *text = (char)(*text - 'A' + 'a');
}

int prx_sample_add_file(struct prx_sample *sample, const char *name, size_t n_key,
                        struct prx_buf *bytes, const char *path, uint64_t offset_bytes,
                        uint64_t n_bytes)
{
    char *field = NULL;
    int rc = prx_strdup(name + n_key + 1, &field);

    if (rc < 0)
        goto out;
    lower(field);
    if (prx_field_check(field) < 0) {
        prx_sample_reject(sample, "read", "%s", prx_err_message());
        goto out;
    }
    if (prx_sample_find(sample, field)) {
        prx_sample_reject(sample, "read",
                          "two files for field %s of one sample; the second is %s",
                          field, name);
        goto out;
    }
    if (sample->n_fields == PRX_FIELDS_MAX) {
        prx_sample_reject(sample, "read", "more than %d fields", PRX_FIELDS_MAX);
        goto out;
    }
    if (bytes) {
        rc = prx_sample_put(sample, field, bytes);
        bytes = NULL;
    } else {
        rc = prx_sample_put_path(sample, field, path, offset_bytes, n_bytes);
    }
out:
    prx_buf_unref(bytes);
    free(field);
    return rc;
}
