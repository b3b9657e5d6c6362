/* SPDX-License-Identifier: Apache-2.0 */
/*
 * http_server.h - a server on 127.0.0.1 that answers as badly as it is told to.
 *
 * HTTP/1.1 on a port the system picks, a thread a connection, one answer each.
 * Nothing here fails but by aborting.
 */
#ifndef PRX_TESTS_LIB_HTTP_SERVER_H
#define PRX_TESTS_LIB_HTTP_SERVER_H

#include <stdatomic.h>
#include <stdbool.h>
#include <stddef.h>

/* What is at one path, and what is wrong with it.  Zero: it is fine. */
struct http_page {
    const char *path; /* "/x.tar" */
    const char *bytes;
    size_t n_bytes;
    const char *type;      /* Content-Type */
    const char *etag;      /* with its quotes */
    const char *modified;  /* Last-Modified */
    const char *encoding;  /* Content-Encoding */
    const char *location;  /* redirect there */
    const char *range_lie; /* Content-Range of a 206 */

    bool ignores_ranges;
    bool has_no_length; /* the end of the connection is the end of the body */
    bool is_chunked;
    size_t n_length_more; /* Content-Length says so much more than is sent */

    int n_refusals; /* so many first requests are answered by */
    int refusal;    /* this status */
    const char *retry_after;

    int n_cuts;   /* so many first bodies are cut off */
    size_t n_cut; /* after so many bytes */

    int n_stalls;   /* so many first bodies, after n_cut bytes, stop coming */
    int n_drips_ms; /* bodies come n_drip bytes, or one, at a time, so far apart */
    size_t n_drip;

    const char *etag_later; /* of all but the first answer with a body */
    const char *bytes_later;
    size_t n_bytes_later;

    /* What was asked, to be read when the client is done. */
    atomic_int n_requests;
    atomic_int n_range_requests;
    atomic_int n_bodies; /* private */
};

struct http_server;

/**
 * http_server_open - serve @pages, which stay the caller's, until it is closed.
 *
 * From then on this process uses no proxy.
 */
struct http_server *http_server_open(struct http_page *pages, size_t n_pages);
int http_server_port(const struct http_server *server);

/** http_server_url - the URL of @path, of the caller, to be freed. */
char *http_server_url(const struct http_server *server, const char *path);

/** http_server_close - hang up on everybody. */
void http_server_close(struct http_server *server);

#endif
