/* SPDX-License-Identifier: Apache-2.0 */
/* What listing tools ask of a sample: its picture's size, its names as JSON. */
#include "libdata/picture.h"
#include "tools/tool.h"

int tool_picture_size(struct prx_sample *sample, struct prx_picture_size *size)
{
    int rc = prx_picture_size(sample, size);

    if (rc == 0 || rc == PRX_ENOMEM)
        return rc;
    prx_sample_reject(sample, "header", "%s", prx_err_message());
    return 0;
}

json_t *tool_json_text(const char *text)
{
    return prx_json_text(text);
}
