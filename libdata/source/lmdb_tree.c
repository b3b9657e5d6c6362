/* SPDX-License-Identifier: Apache-2.0 */
/*
 * A walk over the main database of an LMDB file, a B+tree of pages.
 *
 *     page   = head, node offsets u16[n], free space, nodes
 *     branch = node: number of a page one level down, and the first name in it
 *     leaf   = node: name, value; or name, number of the pages that hold the value
 *
 * A page is believed when its head has its own number and the kind its level wants,
 * when every node lies in it, and when names ascend: also from leaf to leaf, so no
 * leaf is read twice whatever the branches say.
 *
 * What cannot be believed is left out: the walk tells the fault once and goes on
 * with the next page that can.
 */
#include "libdata/source/lmdb_tree_internal.h"

#include <errno.h>
#include <fcntl.h>
#include <inttypes.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>
#include <unistd.h>

#define MAGIC            0xbeefc0deu
#define VERSION          1
#define NO_PAGE          SIZE_MAX
#define N_PAGE_BYTES_MIN 256
#define N_PAGE_BYTES_MAX 32768
/* Of a map that liblmdb is to make of the file: far less than addresses reach. */
#define N_MAP_BYTES_MAX ((uint64_t)1 << 46)

enum { PAGE_BRANCH = 0x01,
       PAGE_LEAF = 0x02,
       PAGE_META = 0x08,
       PAGE_KINDS = 0x6f };

enum { NODE_BIG = 0x01, /* the value has pages of its own */
       NODE_DATABASE = 0x02 };

struct page_head {
    size_t number;
    uint16_t pad;
    uint16_t flags;
    uint16_t lower_bytes; /* end of the offsets */
    uint16_t upper_bytes; /* begin of the nodes */
};

struct database {
    uint32_t n_page_bytes; /* in the first of the two */
    uint16_t flags;
    uint16_t depth;
    size_t n_branches, n_leaves, n_overflows, n_entries, root;
};

struct meta {
    uint32_t magic;
    uint32_t version;
    size_t address, n_map_bytes;
    struct database databases[2]; /* free pages; the main one */
    size_t last_page;
    size_t txn_id;
};

struct node {
    uint32_t low;    /* size of the value, or low half of a page number */
    uint16_t flags;  /* or of a page number, what does not fit in low */
    uint16_t n_name; /* bytes of the name, which follows */
};

/* 1, or 0 where the file ends before. */
static int read_at(const struct prx_lmdb_tree *tree, void *out, size_t n_bytes,
                   uint64_t at_bytes)
{
    size_t n_done = 0;

    while (n_done < n_bytes) {
        ssize_t n_got = pread(tree->fd, (char *)out + n_done, n_bytes - n_done,
                              (off_t)(at_bytes + n_done));
        if (n_got < 0 && errno == EINTR)
            continue;
        if (n_got < 0)
            return prx_err_sys("%s", tree->path);
        if (n_got == 0)
            return 0;
        n_done += (size_t)n_got;
    }
    return 1;
}

static int read_meta(const struct prx_lmdb_tree *tree, uint64_t at_bytes,
                     struct meta *out)
{
    struct {
        struct page_head head;
        struct meta meta;
    } page;

    int got = read_at(tree, &page, sizeof(page), at_bytes);
    if (got < 0)
        return got;
    if (got == 0)
        return prx_err(PRX_ECORRUPT, "%s: ends within its heads", tree->path);
    *out = page.meta;
    if (!(page.head.flags & PAGE_META) || out->magic != MAGIC)
        return prx_err(PRX_ECORRUPT, "%s: not an LMDB file", tree->path);
    if (out->version != VERSION)
        return prx_err(PRX_EFORMAT, "%s: LMDB data version %" PRIu32 ", not %d",
                       tree->path, out->version, VERSION);
    uint32_t n_page_bytes = out->databases[0].n_page_bytes;
    if (n_page_bytes < N_PAGE_BYTES_MIN || n_page_bytes > N_PAGE_BYTES_MAX ||
        (n_page_bytes & (n_page_bytes - 1)) != 0)
        return prx_err(PRX_ECORRUPT, "%s: pages of %" PRIu32 " bytes", tree->path,
                       n_page_bytes);
    if (out->last_page >= N_MAP_BYTES_MAX / n_page_bytes)
        return prx_err(PRX_ECORRUPT, "%s: a last page %zu", tree->path, out->last_page);
    return 0;
}

int prx_lmdb_tree_open(struct prx_lmdb_tree *tree, const char *path)
{
    struct meta metas[2];
    struct stat st;
    int rc = 0;

    *tree = (struct prx_lmdb_tree){.fd = -1, .i_level = -1};
    PRX_GO(prx_strdup(path, &tree->path));
    tree->fd = open(path, O_RDONLY | O_CLOEXEC);
    if (tree->fd < 0 || fstat(tree->fd, &st) < 0) {
        rc = prx_err_sys("%s", path);
        goto out;
    }
    PRX_GO(read_meta(tree, 0, &metas[0]));
    tree->n_page_bytes = metas[0].databases[0].n_page_bytes;
    PRX_GO(read_meta(tree, tree->n_page_bytes, &metas[1]));
    if (metas[1].databases[0].n_page_bytes != tree->n_page_bytes)
        rc = prx_err(PRX_ECORRUPT, "%s: its two heads disagree", path);
    /* liblmdb maps both heads, whatever else it maps. */
    else if ((uint64_t)st.st_size < 2 * (uint64_t)tree->n_page_bytes)
        rc = prx_err(PRX_ECORRUPT, "%s: ends within its heads", path);
out:
    if (rc < 0)
        prx_lmdb_tree_close(tree);
    return rc;
}

void prx_lmdb_tree_close(struct prx_lmdb_tree *tree)
{
    if (tree->fd >= 0)
        close(tree->fd);
    free(tree->path);
    free(tree->pages);
    prx_str_release(&tree->last_name);
    *tree = (struct prx_lmdb_tree){.fd = -1, .i_level = -1};
}

int prx_lmdb_tree_begin(struct prx_lmdb_tree *tree, uint64_t txn_id)
{
    struct meta meta;
    struct stat st;

    /* Transactions write the two heads in turn. */
    PRX_TRY(read_meta(tree, txn_id % 2 * tree->n_page_bytes, &meta));
    if (meta.txn_id != txn_id)
        return 0;
    const struct database *main = &meta.databases[1];
    if (main->flags != 0)
        return prx_err(PRX_EFORMAT,
                       "%s: its main database is not in byte order of names, or has "
                       "several values under one",
                       tree->path);
    if (fstat(tree->fd, &st) < 0)
        return prx_err_sys("%s", tree->path);
    tree->n_file_bytes = (uint64_t)st.st_size;
    tree->n_pages_max = tree->n_file_bytes / tree->n_page_bytes + PRX_LMDB_DEPTH_MAX;
    tree->txn_id = txn_id;
    tree->n_entries = main->n_entries;
    tree->root = main->root;
    tree->depth = main->depth;
    if (main->root == NO_PAGE) {
        tree->is_begun = true;
        return 1;
    }
    if (main->depth < 1 || main->depth > PRX_LMDB_DEPTH_MAX)
        return prx_err(PRX_ECORRUPT, "%s: a tree of %u levels", tree->path,
                       (unsigned)main->depth);
    tree->pages = malloc((size_t)main->depth * tree->n_page_bytes);
    return tree->pages ? 1 : prx_err_nomem("pages of an LMDB");
}

static bool is_leaf_level(const struct prx_lmdb_tree *tree, int i_level)
{
    return i_level == tree->depth - 1;
}

static const uint8_t *page_of(const struct prx_lmdb_tree *tree, int i_level)
{
    return tree->pages + (size_t)i_level * tree->n_page_bytes;
}

static size_t node_offset(const uint8_t *page, size_t i)
{
    uint16_t offset;

    memcpy(&offset, page + sizeof(struct page_head) + i * sizeof(offset),
           sizeof(offset));
    return offset;
}

static const char *get_node(const uint8_t *page, size_t i, struct node *out)
{
    const uint8_t *at = page + node_offset(page, i);

    memcpy(out, at, sizeof(*out));
    return (const char *)at + sizeof(*out);
}

static int compare_names(const char *a, size_t n_a, const char *b, size_t n_b)
{
    int order = memcmp(a, b, n_a < n_b ? n_a : n_b);

    return order ? order : (n_a > n_b) - (n_a < n_b);
}

/* NULL, or why node @i of the page is not one. */
static const char *find_node_fault(const struct prx_lmdb_tree *tree,
                                   const uint8_t *page, size_t i, size_t upper_bytes,
                                   bool is_leaf)
{
    size_t at_bytes = node_offset(page, i);
    struct node node;

    if (at_bytes < upper_bytes || at_bytes > tree->n_page_bytes - sizeof(node))
        return "a node lies outside of it";
    get_node(page, i, &node);
    size_t n_left = tree->n_page_bytes - at_bytes - sizeof(node);
    uint64_t n_wanted = node.n_name;
    if (is_leaf)
        n_wanted += node.flags & NODE_BIG ? sizeof(size_t) : node.low;
    if (n_wanted > n_left)
        return "a node leads out of it";
    if (is_leaf && (node.flags & ~(NODE_BIG | NODE_DATABASE)) != 0)
        return "a node is of no known kind";
    return NULL;
}

/* NULL, or why the page that has been read as number @number cannot be believed. */
static const char *find_page_fault(const struct prx_lmdb_tree *tree,
                                   const uint8_t *page, uint64_t number, bool is_leaf,
                                   size_t *n_nodes)
{
    const char *last = tree->last_name.bytes;
    size_t n_last = tree->last_name.n_bytes;
    struct page_head head;
    struct node node;

    memcpy(&head, page, sizeof(head));
    if (head.number != number)
        return "it has another number";
    if ((head.flags & PAGE_KINDS) != (is_leaf ? PAGE_LEAF : PAGE_BRANCH))
        return is_leaf ? "it is not a leaf" : "it is not a branch";
    if (head.lower_bytes <= sizeof(head) || head.lower_bytes % 2 != 0 ||
        head.lower_bytes > head.upper_bytes || head.upper_bytes > tree->n_page_bytes)
        return "its bounds are wrong";
    *n_nodes = (head.lower_bytes - sizeof(head)) / sizeof(uint16_t);
    for (size_t i = 0; i < *n_nodes; i++) {
        const char *fault = find_node_fault(tree, page, i, head.upper_bytes, is_leaf);
        if (fault)
            return fault;
        const char *name = get_node(page, i, &node);
        if (is_leaf && last && compare_names(last, n_last, name, node.n_name) >= 0)
            return "its names are out of order";
        last = is_leaf ? name : NULL;
        n_last = node.n_name;
    }
    return NULL;
}

/* Go down to page @number at @i_level.  1: done; 0: it is at fault, as told. */
static int descend(struct prx_lmdb_tree *tree, int i_level, uint64_t number)
{
    uint8_t *page = tree->pages + (size_t)i_level * tree->n_page_bytes;
    bool is_leaf = is_leaf_level(tree, i_level);
    const char *fault = NULL;
    size_t n_nodes = 0;
    int got = 0;

    if (number < tree->n_file_bytes / tree->n_page_bytes) {
        tree->n_pages_read++;
        got = read_at(tree, page, tree->n_page_bytes, number * tree->n_page_bytes);
    }
    if (got < 0)
        return got;
    if (got == 0)
        fault = "it is behind the end of the file";
    else
        fault = find_page_fault(tree, page, number, is_leaf, &n_nodes);
    if (fault) {
        snprintf(tree->fault, sizeof(tree->fault), "page %" PRIu64 ": %s", number,
                 fault);
        return 0;
    }
    if (is_leaf) {
        struct node node;
        const char *name = get_node(page, n_nodes - 1, &node);
        prx_str_reset(&tree->last_name);
        PRX_TRY(prx_str_add(&tree->last_name, name, node.n_name));
    }
    tree->i_level = i_level;
    tree->levels[i_level] = (struct prx_lmdb_level){.n_nodes = n_nodes};
    return 1;
}

/* Where the value of @node lies; a fault where that is not in the file. */
static void find_value(struct prx_lmdb_tree *tree, const struct node *node,
                       const char *inlined, struct prx_lmdb_entry *entry)
{
    const uint8_t *leaf = page_of(tree, tree->i_level);
    uint64_t n_page_bytes = tree->n_page_bytes;
    struct page_head head;
    size_t number;

    entry->n_bytes = node->low;
    if (!(node->flags & NODE_BIG)) {
        memcpy(&head, leaf, sizeof(head));
        entry->offset_bytes =
            head.number * n_page_bytes + (uint64_t)((const uint8_t *)inlined - leaf);
        return;
    }
    memcpy(&number, inlined, sizeof(number));
    if (number >= 2 && number < tree->n_file_bytes / n_page_bytes) {
        entry->offset_bytes = number * n_page_bytes + sizeof(head);
        if (entry->n_bytes <= tree->n_file_bytes - entry->offset_bytes)
            return;
    }
    snprintf(tree->fault, sizeof(tree->fault),
             "%" PRIu64 " bytes at page %zu: behind the end of the file",
             entry->n_bytes, number);
    entry->fault = tree->fault;
}

static void take_entry(struct prx_lmdb_tree *tree, size_t i,
                       struct prx_lmdb_entry *entry)
{
    struct node node;
    const char *name = get_node(page_of(tree, tree->i_level), i, &node);

    tree->n_entries_seen++;
    tree->is_torn = false;
    *entry = (struct prx_lmdb_entry){
        .name = name,
        .n_name = node.n_name,
        .is_database = node.flags & NODE_DATABASE,
    };
    find_value(tree, &node, name + node.n_name, entry);
}

/* The number of the page that node @i of a branch leads to. */
static uint64_t child_of(const uint8_t *page, size_t i)
{
    struct node node;

    get_node(page, i, &node);
    return node.low | (sizeof(size_t) > 4 ? (uint64_t)node.flags << 32 : 0);
}

/* All has been walked: was it all there? */
static int end_walk(struct prx_lmdb_tree *tree, struct prx_lmdb_entry *entry)
{
    if (tree->was_torn || tree->n_entries_seen == tree->n_entries)
        return 0;
    snprintf(tree->fault, sizeof(tree->fault),
             "%" PRIu64 " entries, where its head says %" PRIu64, tree->n_entries_seen,
             tree->n_entries);
    tree->was_torn = true;
    *entry = (struct prx_lmdb_entry){.fault = tree->fault};
    return 1;
}

int prx_lmdb_tree_next(struct prx_lmdb_tree *tree, struct prx_lmdb_entry *entry)
{
    while (!tree->is_begun || tree->i_level >= 0) {
        uint64_t number = tree->root;
        if (tree->is_begun) {
            struct prx_lmdb_level *level = &tree->levels[tree->i_level];
            if (level->i_next == level->n_nodes) {
                tree->i_level--;
                continue;
            }
            size_t i = level->i_next++;
            if (is_leaf_level(tree, tree->i_level)) {
                take_entry(tree, i, entry);
                return 1;
            }
            number = child_of(page_of(tree, tree->i_level), i);
        }
        tree->is_begun = true;
        /* Who reads more pages than there are goes in circles, from fault to fault. */
        if (tree->n_pages_read == tree->n_pages_max) {
            tree->i_level = -1;
            break;
        }
        int got = descend(tree, tree->i_level + 1, number);
        if (got < 0)
            return got;
        if (got == 0 && !tree->is_torn) {
            tree->is_torn = tree->was_torn = true;
            *entry = (struct prx_lmdb_entry){.fault = tree->fault};
            return 1;
        }
    }
    return end_walk(tree, entry);
}
