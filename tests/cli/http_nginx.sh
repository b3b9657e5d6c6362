#!/bin/sh
# SPDX-License-Identifier: Apache-2.0
# A real web server on 127.0.0.1: whole and cut transfers, TLS, what is missing.
. tests/lib/tap.sh
unset http_proxy https_proxy HTTP_PROXY HTTPS_PROXY all_proxy ALL_PROXY CURL_CA_BUNDLE \
    SSL_CERT_FILE SSL_CERT_DIR 2> /dev/null

if ! command -v nginx > /dev/null || ! command -v openssl > /dev/null; then
    skip "shards from a real web server" "no nginx, or no openssl"
    exit 0
fi

nginx_pid=
stop_server() {
    [ -z "$nginx_pid" ] || { kill -TERM "$nginx_pid" && wait "$nginx_pid"; } 2> /dev/null
    nginx_pid=
}
trap 'stop_server; finish' EXIT

write_conf() { # PORT: it is plain, the one above is TLS
    [ "$(id -u)" -ne 0 ] || echo 'user root;'
    cat << CONF
daemon off;
pid $T/server/pid;
error_log $T/server/error.log;
worker_processes 1;
events { worker_connections 64; }
http {
    access_log $T/server/access.log;
    client_body_temp_path $T/server/body;
    proxy_temp_path $T/server/proxy;
    fastcgi_temp_path $T/server/fastcgi;
    uwsgi_temp_path $T/server/uwsgi;
    scgi_temp_path $T/server/scgi;
    types { application/x-tar tar; text/html html; }
    root $T/www;
    server {
        listen 127.0.0.1:$1;
        location /slow/ { alias $T/www/; limit_rate 400k; }
        location /away/ { rewrite ^/away/(.*) http://127.0.0.1:$1/\$1 redirect; }
        location /round { return 302 http://127.0.0.1:$1/round; }
        location /shut/ { return 403; }
    }
    server {
        listen 127.0.0.1:$(($1 + 1)) ssl;
        ssl_certificate $T/server/cert.pem;
        ssl_certificate_key $T/server/key.pem;
        location /down/ { return 302 http://127.0.0.1:$1/000000.tar; }
    }
}
CONF
}

# On the port that is set, within five seconds; false where somebody has it.
start_server() {
    nginx -p "$T/server" -c conf -e "$T/server/error.log" 2> server/says &
    nginx_pid=$!
    start_i=0
    while [ $start_i -lt 50 ]; do
        kill -0 "$nginx_pid" 2> /dev/null || return 1
        ! openssl s_client -connect "127.0.0.1:$((port + 1))" < /dev/null \
            > /dev/null 2>&1 || return 0
        sleep 0.1
        start_i=$((start_i + 1))
    done
    return 1
}

mkdir server www
openssl req -x509 -newkey rsa:2048 -nodes -days 2 -subj /CN=localhost \
    -addext 'subjectAltName=IP:127.0.0.1,DNS:localhost' \
    -keyout server/key.pem -out server/cert.pem 2> /dev/null
take_photos 86 photos
prx-shard -q --shard-samples 30 photos -o www/%06d.tar
echo '<html>hello</html>' > www/page.html
prx-shard -q --shard-samples 30 photos -o want/%06d.tar

port=$((20000 + $$ % 20000))
for _ in 1 2 3 4 5; do
    write_conf $port > server/conf
    ! start_server || break
    stop_server
    port=$((port + 101))
done
if [ -z "$nginx_pid" ]; then
    skip "shards from a real web server" "nginx does not start: $(head -n 1 server/says)"
    exit 0
fi
plain=http://127.0.0.1:$port
tls=https://127.0.0.1:$((port + 1))

# The same shards from any source; prints a digest.
copy() { # SOURCE...
    prx-shard -q --shard-samples 30 "$@" -o "copy/%06d.tar" 2> err
    copy_status=$?
    [ $copy_status -eq 0 ] || echo "status $copy_status: $(cat err)"
    cat copy/*.tar 2> /dev/null | sha256sum
    rm -rf copy
}
want=$(cat want/*.tar | sha256sum)

is "shards by an index" "$(copy $plain/index.json)" "$want"
is "by braces" "$(copy "$plain/{000000..000002}.tar")" "$want"
is "with one thread" "$(copy -j1 $plain/index.json)" "$want"
is "after redirections" "$(copy $plain/away/index.json)" "$want"
is "slowly" "$(copy "$plain/slow/{000000..000002}.tar")" "$want"
is "each shard is sent once for each of these" \
    "$(grep -c 'GET /000000.tar HTTP/1.1" 200' server/access.log)" 4

copy "$plain/slow/index.json" > restarted &
copier=$!
i=0
while ! grep -q 'GET /slow/index.json' server/access.log && [ $i -lt 100 ]; do
    sleep 0.1
    i=$((i + 1))
done
sleep 0.4
stop_server
sleep 0.5
ok "the server comes back" start_server
wait "$copier"
is "a restart of the server is not noticed" "$(cat restarted)" "$want"
ok "the rest was asked for by a range" grep -q 'GET /slow/.*" 206' server/access.log

run prx-ls $plain/000009.tar
is "what is missing fails" "$status" 1
says "and is named" err "^prx-ls: error: $plain/000009.tar: the server answers 404"
run prx-ls "$plain/{000000,000009}.tar"
is "before anything is read" "$(wc -c < out)" 0
run prx-ls $plain/shut/x.tar
says "what is forbidden" err 'answers 403'
run prx-ls $plain/round
says "what goes round in circles" err 'Maximum \(10\) redirects'
run prx-ls $plain/page.html
says "a page is no shard" err 'not a tar; the server calls it text/html'
is "and is a reject" "$status" 3

mv www/000001.tar www/moved
run prx-shard -q $plain/index.json -o gone/%06d.tar
is "a shard that an index names and that is missing fails" "$status" 1
says "and is named" err '000001.tar: the server answers 404'
mv www/moved www/000001.tar
run prx-shard -q --resume $plain/index.json -o gone/%06d.tar
is "once it is there, the run goes on" "$status" 0
prx-shard -q $plain/index.json -o whole/%06d.tar
is "and gives the same bytes" "$(cat gone/*.tar | sha256sum)" "$(cat whole/*.tar | sha256sum)"

cp www/000001.tar kept
cp www/000000.tar www/000001.tar
run prx-ls $plain/index.json
says "a shard that is not what its index says" err \
    "000001.tar: ([0-9]* bytes, and its index says|differs from its index)"
is "is a reject" "$status" 3
mv kept www/000001.tar
rm www/000002.tar
is "what is gone from a folder of shards is told before" \
    "$(copy "$plain/{000000..000002}.tar" | grep -c '404')" 1
cp want/000002.tar www

run prx-ls "$tls/000000.tar"
is "a certificate that nobody has signed is refused" "$status" 1
says "and said so" err 'certificate'
export CURL_CA_BUNDLE="$T/server/cert.pem"
is "with it in CURL_CA_BUNDLE all is well" "$(copy "$tls/index.json")" "$want"
unset CURL_CA_BUNDLE
export SSL_CERT_FILE="$T/server/cert.pem"
is "and in SSL_CERT_FILE" "$(copy "$tls/{000000..000002}.tar")" "$want"
run prx-ls "$tls/down/"
is "nothing is sent back to plain http" "$status" 1
says "and that is said" err 'http'
run prx-ls "https://me:secret@127.0.0.1:$((port + 1))/nothing.tar?key=secret"
is "no secret is told" "$(grep -c secret err)" 0

# A run that is stopped in the middle of a transfer.
prx-shard -q "$plain/slow/{000000..000002}.tar" -o stopped.tar 2> err &
tool=$!
sleep 0.5
kill -TERM "$tool"
wait "$tool"
is "a stopped run ends" "$?" 143
ok "and leaves nothing" test ! -e stopped.tar
stop_server
run timeout 60 prx-ls $plain/000000.tar
is "a server that is gone fails" "$status" 1
says "soon, and says so" err "^prx-ls: error: $plain/000000.tar: .*connect"
all_passed
