/* SPDX-License-Identifier: Apache-2.0 */
/* URLs as text, and which addresses are somebody's own. */
#include <arpa/inet.h>
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>

#include <cmocka.h>

#include "libdata/fetch/url_internal.h"
#include "libdata/url.h"

#define N_OF(array) (sizeof(array) / sizeof((array)[0]))

static void test_addresses(void **state)
{
    static const struct {
        const char *text;
        bool is_public;
    } rows[] = {
        {"8.8.8.8", true},
        {"1.1.1.1", true},
        {"172.15.0.1", true},
        {"172.32.0.1", true},
        {"100.63.0.1", true},
        {"100.128.0.1", true},
        {"192.169.0.1", true},
        {"223.255.255.255", true},
        {"198.17.255.255", true},
        {"198.20.0.0", true},
        {"0.0.0.0", false},
        {"10.255.0.1", false},
        {"100.64.0.1", false},
        {"100.127.255.255", false},
        {"127.0.0.53", false},
        {"169.254.169.254", false},
        {"172.16.0.1", false},
        {"172.31.255.255", false},
        {"192.0.0.1", false},
        {"192.168.1.1", false},
        {"198.18.0.1", false},
        {"198.19.255.255", false},
        {"224.0.0.1", false},
        {"240.0.0.1", false},
        {"255.255.255.255", false},
        {"2606:4700::1111", true},
        {"2a00::1", true},
        {"2001:4860::8888", true},
        {"64:ff9b::808:808", true},
        {"2002:808:808::1", true},
        {"::ffff:8.8.8.8", true},
        {"::", false},
        {"::1", false},
        {"::ffff:10.0.0.1", false},
        {"::10.0.0.1", false},
        {"64:ff9b::a00:1", false},
        {"2002:a00:1::1", false},
        {"fe80::1", false},
        {"fec0::1", false},
        {"fd00::1", false},
        {"ff02::1", false},
        {"2001::1", false},
        {"2001:db8::1", false},
        {"3fff::1", false},
        {"4000::1", false},
        {"100::1", false},
    };
    struct sockaddr_in v4 = {.sin_family = AF_INET};
    struct sockaddr_in6 v6 = {.sin6_family = AF_INET6};
    struct sockaddr local = {.sa_family = AF_UNIX};

    (void)state;
    assert_false(prx_address_is_public(&local));
    for (size_t i = 0; i < N_OF(rows); i++) {
        bool is_public;
        if (inet_pton(AF_INET, rows[i].text, &v4.sin_addr) == 1) {
            is_public = prx_address_is_public((struct sockaddr *)&v4);
        } else {
            assert_int_equal(inet_pton(AF_INET6, rows[i].text, &v6.sin6_addr), 1);
            is_public = prx_address_is_public((struct sockaddr *)&v6);
        }
        if (is_public != rows[i].is_public)
            fail_msg("%s", rows[i].text);
    }
}

static void test_text(void **state)
{
    static const struct {
        const char *url, *want;
    } shown[] = {
        {"https://h/a/b.tar", "https://h/a/b.tar"},
        {"https://me:pw@h:80/a?t=1#f", "https://h:80/a"},
        {"http://me:p@w@h/a@b", "http://h/a@b"},
        {"http://h?me@x", "http://h"},
        {"HTTP://h/\x01", "HTTP://h/\\x01"},
    };
    static const struct {
        const char *base, *name, *want;
    } joined[] = {
        {"https://h/a/index.json", "0.tar", "https://h/a/0.tar"},
        {"https://h/a/index.json", "b/0.tar", "https://h/a/b/0.tar"},
        {"https://h/a/", "0.tar", "https://h/a/0.tar"},
        {"https://h", "0.tar", "https://h/0.tar"},
        {"https://h/index.json", "0 %#?.tar", "https://h/0%20%25%23%3F.tar"},
        {"https://h/a/i.json?t=/1#x/y", "0.tar", "https://h/a/0.tar?t=/1"},
        {"https://h?t=1", "0.tar", "https://h/0.tar?t=1"},
        {"https://h/i.json", "\xc3\xa9.tar", "https://h/%C3%A9.tar"},
    };
    char out[128];

    (void)state;
    for (size_t i = 0; i < N_OF(shown); i++)
        assert_string_equal(prx_url_show(shown[i].url, out, sizeof(out)),
                            shown[i].want);
    for (size_t i = 0; i < N_OF(joined); i++) {
        struct prx_str url = {0};
        assert_int_equal(prx_url_join(joined[i].base, joined[i].name, &url), 0);
        assert_string_equal(url.bytes, joined[i].want);
        prx_str_release(&url);
    }
    assert_true(prx_url_is("http://h"));
    assert_true(prx_url_is("HTTPS://h/x"));
    assert_false(prx_url_is("https:///x"));
    assert_false(prx_url_is("ftp://h/x"));
    assert_true(prx_url_path_ends_with("https://h/index.json?x", ".json"));
    assert_false(prx_url_path_ends_with("https://h/index.tar?x.json", ".json"));
    struct prx_url *url;
    assert_int_equal(prx_url_open("file:///etc/passwd", NULL, NULL, &url), PRX_EINVAL);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_addresses),
        cmocka_unit_test(test_text),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
