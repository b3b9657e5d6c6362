/* SPDX-License-Identifier: Apache-2.0 */
/* Addresses that belong to somebody's own network, told from all others. */
#include <netinet/in.h>
#include <stdint.h>
#include <string.h>

#include "libdata/fetch/url_internal.h"

struct block {
    uint8_t bytes[16];
    int n_bits;
};

static bool is_in(const uint8_t *address, const struct block *block)
{
    int n_whole = block->n_bits / 8, n_rest = block->n_bits % 8;

    return memcmp(address, block->bytes, (size_t)n_whole) == 0 &&
           (n_rest == 0 ||
            (address[n_whole] ^ block->bytes[n_whole]) >> (8 - n_rest) == 0);
}

/* RFC 6890 and the IANA IPv4 Special-Purpose Address Registry; multicast and above. */
static bool is_public_v4(const uint8_t address[4])
{
    static const struct block blocks[] = {
        {{0}, 8},             /* this network */
        {{10}, 8},            /* private */
        {{100, 64}, 10},      /* shared by a provider's customers */
        {{127}, 8},           /* loopback */
        {{169, 254}, 16},     /* link-local; clouds' metadata */
        {{172, 16}, 12},      /* private */
        {{192, 0, 0}, 24},    /* protocol assignments */
        {{192, 0, 2}, 24},    /* documentation */
        {{192, 168}, 16},     /* private */
        {{198, 18}, 15},      /* benchmarks */
        {{198, 51, 100}, 24}, /* documentation */
        {{203, 0, 113}, 24},  /* documentation */
        {{224}, 3},           /* multicast, reserved, broadcast */
    };

    for (size_t i = 0; i < sizeof(blocks) / sizeof(*blocks); i++)
        if (is_in(address, &blocks[i]))
            return false;
    return true;
}

static bool is_public_v6(const uint8_t address[16])
{
    static const struct block mapped = {{[10] = 0xff, [11] = 0xff}, 96};
    static const struct block nat64 = {{0, 0x64, 0xff, 0x9b}, 96};
    static const struct block six_to_four = {{0x20, 0x02}, 16};
    static const struct block global = {{0x20}, 3}; /* all that is handed out */
    static const struct block others[] = {
        {{0x20, 0x01}, 23},             /* protocol assignments, Teredo */
        {{0x20, 0x01, 0x0d, 0xb8}, 32}, /* documentation */
        {{0x3f, 0xff}, 20},             /* documentation */
    };

    if (is_in(address, &mapped) || is_in(address, &nat64))
        return is_public_v4(address + 12);
    if (is_in(address, &six_to_four))
        return is_public_v4(address + 2);
    for (size_t i = 0; i < sizeof(others) / sizeof(*others); i++)
        if (is_in(address, &others[i]))
            return false;
    return is_in(address, &global);
}

bool prx_address_is_public(const struct sockaddr *address)
{
    /* Copied, for a struct sockaddr may be aligned less than what it stands for. */
    if (address->sa_family == AF_INET) {
        struct sockaddr_in v4;
        uint8_t bytes[4];
        memcpy(&v4, address, sizeof(v4));
        memcpy(bytes, &v4.sin_addr, sizeof(bytes));
        return is_public_v4(bytes);
    }
    if (address->sa_family == AF_INET6) {
        struct sockaddr_in6 v6;
        memcpy(&v6, address, sizeof(v6));
        return is_public_v6(v6.sin6_addr.s6_addr);
    }
    return false;
}
