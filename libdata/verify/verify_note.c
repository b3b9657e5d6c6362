/* SPDX-License-Identifier: Apache-2.0 */
/* Findings, kept until it is their turn. */
#include <stdarg.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "libdata/verify/verify_internal.h"

static void note_release(struct verify_note *note)
{
    free(note->file);
    free(note->key);
    free(note->what);
}

void prx_verify_notes_release(struct verify_notes *all)
{
    for (size_t i = 0; i < all->n_notes; i++)
        note_release(&all->notes[i]);
    free(all->notes);
    *all = (struct verify_notes){0};
}

int prx_verify_note(struct verify_notes *all, const char *check, const char *file,
                    const char *key, const char *fmt, ...)
{
    struct verify_note note = {.check = check};
    char what[PRX_ERR_TEXT_BYTES];
    va_list args;
    int rc = 0;

    va_start(args, fmt);
    vsnprintf(what, sizeof(what), fmt, args);
    va_end(args);
    if (all->n_notes == all->cap_notes) {
        size_t cap = all->cap_notes ? all->cap_notes * 2 : 8;
        struct verify_note *grown = realloc(all->notes, cap * sizeof(*grown));
        if (!grown)
            return prx_err_nomem("a finding");
        all->notes = grown;
        all->cap_notes = cap;
    }
    PRX_GO(prx_strdup(file, &note.file));
    if (key)
        PRX_GO(prx_strdup(key, &note.key));
    PRX_GO(prx_strdup(what, &note.what));
    all->notes[all->n_notes++] = note;
    return 0;
out:
    note_release(&note);
    return rc;
}

const char *prx_verify_what(const char *message, const char *file)
{
    size_t n_file = strlen(file);

    if (strncmp(message, file, n_file) == 0 && strncmp(message + n_file, ": ", 2) == 0)
        return message + n_file + 2;
    return message;
}
