#!/bin/busybox sh
# The page: the web server runs this for / because there is no index.html.
printf 'Content-Type: text/html; charset=utf-8\r\n\r\n'
printf '<!doctype html>\n<title>hello</title>\n<h1>%s</h1>\n' "${GREETING:-Hello}"
printf '<p>Built once, tested, and released by digest.</p>\n'
