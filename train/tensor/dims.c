/* SPDX-License-Identifier: Apache-2.0 */
/* The matcher behind the contracts of ops. */
#include "train/dims.h"

#include <ctype.h>
#include <stdarg.h>
#include <stdio.h>
#include <string.h>

/* One tensor of a contract: "name? [R O]". */
struct term {
    const char *name;
    int n_name_chars;
    bool optional;
    enum prx_dtype dtype;
    bool narrow; /* may be bf16 as well */
    int n_dims;
    bool flat; /* the first name is R: it stands for all leading dimensions */
    char dims[PRX_DIMS_MAX][3];
};

/* Parse the term at @at; returns what follows it.  Contracts are ours: no mercy. */
static const char *parse_term(const char *at, struct term *out)
{
    *out = (struct term){.dtype = PRX_F32};
    while (*at == ' ' || *at == ',')
        at++;
    out->name = at;
    while (isalnum((unsigned char)*at) || *at == '_')
        at++;
    out->n_name_chars = (int)(at - out->name);
    for (; *at == '?' || *at == '#' || *at == '~'; at++) {
        out->optional |= *at == '?';
        out->narrow |= *at == '~';
        if (*at == '#')
            out->dtype = PRX_I32;
    }
    while (*at == ' ')
        at++;
    PRX_BUG_IF(out->n_name_chars == 0 || *at != '[');
    for (at++; *at != ']';) {
        PRX_BUG_IF(!isalnum((unsigned char)*at) || out->n_dims == PRX_DIMS_MAX);
        char *name = out->dims[out->n_dims++];
        for (int i = 0; isalnum((unsigned char)*at); i++, at++) {
            PRX_BUG_IF(i == 2);
            name[i] = *at;
        }
        while (*at == ' ')
            at++;
    }
    PRX_BUG_IF(out->n_dims == 0);
    out->flat = strcmp(out->dims[0], "R") == 0;
    return at + 1;
}

static int64_t *find(struct prx_dims *dims, const char *name)
{
    for (int i = 0; i < dims->n_names; i++)
        if (strcmp(dims->names[i].name, name) == 0)
            return &dims->names[i].n;
    return NULL;
}

int64_t prx_dims_get(const struct prx_dims *dims, const char *name)
{
    for (int i = 0; i < dims->n_names; i++)
        if (strcmp(dims->names[i].name, name) == 0)
            return dims->names[i].n;
    return 0;
}

void prx_dims_bind(struct prx_dims *dims, const char *name, int64_t n)
{
    int64_t *known = find(dims, name);
    if (!known) {
        PRX_BUG_IF(dims->n_names == PRX_DIM_NAMES_MAX || strlen(name) > 2);
        snprintf(dims->names[dims->n_names].name, 3, "%s", name);
        known = &dims->names[dims->n_names++].n;
    }
    *known = n;
}

static bool bind(struct prx_dims *dims, const char *name, int64_t n)
{
    if (isdigit((unsigned char)name[0]))
        return n == name[0] - '0' && name[1] == '\0';
    const int64_t *known = find(dims, name);
    if (known)
        return *known == n;
    prx_dims_bind(dims, name, n);
    return true;
}

static bool match_term(struct prx_dims *dims, const struct term *term,
                       const struct prx_tensor *tensor)
{
    int n_extra = tensor->n_dims - term->n_dims; /* folded into a leading R */
    bool has_dtype = tensor->dtype == term->dtype ||
                     (term->narrow && tensor->dtype == PRX_BF16);
    if (!has_dtype || (term->flat ? n_extra < 0 : n_extra != 0))
        return false;
    int i_dim = 0;
    for (int i = 0; i < term->n_dims; i++) {
        int64_t n = tensor->dims[i_dim++];
        for (; i == 0 && i_dim <= n_extra; i_dim++)
            n *= tensor->dims[i_dim];
        if (!bind(dims, term->dims[i], n))
            return false;
    }
    return tensor->data || prx_tensor_count(tensor) == 0;
}

int prx_dims_match(struct prx_dims *dims, const char *contract, ...)
{
    const char *at = contract;
    va_list tensors;
    int rc = 0;

    va_start(tensors, contract);
    while (rc == 0 && *at != '\0') {
        struct term term;
        at = parse_term(at, &term);
        const struct prx_tensor *tensor = va_arg(tensors, const struct prx_tensor *);
        if (term.optional && prx_tensor_is_absent(tensor))
            continue;
        if (!tensor) {
            rc = prx_err(PRX_ESHAPE, "want %s: %.*s is absent", contract,
                         term.n_name_chars, term.name);
        } else if (!match_term(dims, &term, tensor)) {
            char shape[128];
            prx_tensor_format_shape(tensor, shape, sizeof(shape));
            rc = prx_err(PRX_ESHAPE, "want %s: %.*s is %s%s", contract,
                         term.n_name_chars, term.name, shape,
                         tensor->data ? "" : " without memory");
        }
    }
    va_end(tensors);
    return rc;
}
