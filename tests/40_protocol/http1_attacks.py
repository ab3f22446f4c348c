"""Requests that two readers might understand differently, or that ask for more than anybody should: the corpus
of test_attacks.py. A row: name, status, reason in bud_http_refused_total, bytes. Nothing behind the bytes may
be answered, and the connection ends.

Sources: RFC 9112 §2.2, §5, §6, §7, §11.2; RFC 9110 §5, §7.2, §8.6; the classes of Kettle's "HTTP Desync
Attacks" and of http-garden; each written anew here."""
POST = b"POST /v1/completions HTTP/1.1\r\nHost: x\r\n"
GET = b"GET /v1/models HTTP/1.1\r\nHost: x\r\n"
HEAD, LARGE = "malformed_head", "head_too_large"
TE = b"Transfer-Encoding: chunked\r\n"
LAST = b"0\r\n\r\n"


def length(value):
    return POST + b"Content-Length: " + value + b"\r\n\r\n"


def coding(line):
    return POST + line + b"\r\n\r\n" + LAST


FRAMING = [
    ("cl-te", POST + b"Content-Length: 5\r\n" + TE + b"\r\n" + LAST),
    ("te-cl", POST + TE + b"Content-Length: 5\r\n\r\n" + LAST),
    ("te-cl-zero", POST + TE + b"Content-Length: 0\r\n\r\n" + LAST),
    ("cl-twice", POST + b"Content-Length: 0\r\nContent-Length: 5\r\n\r\n"),
    ("cl-twice-same", POST + b"Content-Length: 0\r\nContent-Length: 0\r\n\r\n"),
    ("cl-twice-other-case", POST + b"Content-Length: 0\r\ncontent-length: 5\r\n\r\n"),
    ("cl-list", length(b"0, 0")),
    ("cl-plus", length(b"+0")),
    ("cl-minus", length(b"-1")),
    ("cl-minus-zero", length(b"-0")),
    ("cl-hex", length(b"0x0")),
    ("cl-octal", length(b"0o0")),
    ("cl-underscore", length(b"1_0")),
    ("cl-point", length(b"0.0")),
    ("cl-exponent", length(b"0e0")),
    ("cl-inner-space", length(b"1 0")),
    ("cl-empty", length(b"")),
    ("cl-letters", length(b"abc")),
    ("cl-quoted", length(b'"0"')),
    ("cl-vertical-tab", length(b"\x0b0")),
    ("cl-64-bits", length(b"18446744073709551616")),
    ("cl-wraps-to-zero", length(b"340282366920938463463374607431768211456")),
    ("te-list", coding(b"Transfer-Encoding: chunked, identity")),
    ("te-gzip-chunked", coding(b"Transfer-Encoding: gzip, chunked")),
    ("te-chunked-twice-in-one", coding(b"Transfer-Encoding: chunked, chunked")),
    ("te-twice", coding(b"Transfer-Encoding: chunked\r\nTransfer-Encoding: chunked")),
    ("te-identity-then-chunked", coding(b"Transfer-Encoding: identity\r\nTransfer-Encoding: chunked")),
    ("te-prefix", coding(b"Transfer-Encoding: xchunked")),
    ("te-suffix", coding(b"Transfer-Encoding: chunkedx")),
    ("te-quoted", coding(b'Transfer-Encoding: "chunked"')),
    ("te-parameter", coding(b"Transfer-Encoding: chunked;q=1")),
    ("te-empty", coding(b"Transfer-Encoding:")),
    ("te-trailing-comma", coding(b"Transfer-Encoding: chunked,")),
    ("te-space-before-colon", coding(b"Transfer-Encoding : chunked")),
    ("te-tab-before-colon", coding(b"Transfer-Encoding\t: chunked")),
    ("te-vertical-tab", coding(b"Transfer-Encoding:\x0bchunked")),
    ("te-form-feed", coding(b"Transfer-Encoding: chunked\x0c")),
    ("te-nul", coding(b"Transfer-Encoding: chunked\x00")),
    ("te-leading-space", POST + b" " + TE + b"\r\n" + LAST),
    ("te-folded", coding(b"Transfer-Encoding:\r\n chunked")),
    ("te-folded-tab", coding(b"Transfer-Encoding:\r\n\tchunked")),
    ("te-bare-lf-before", POST + b"X: y\nTransfer-Encoding: chunked\r\n\r\n" + LAST),
    ("te-bare-cr-before", POST + b"X: y\rTransfer-Encoding: chunked\r\n\r\n" + LAST),
    ("te-in-http-1.0", b"POST /v1/completions HTTP/1.0\r\nHost: x\r\n" + TE + b"\r\n" + LAST),
]
LINES = [
    ("obs-fold", GET + b"X: a\r\n b\r\n\r\n"),
    ("obs-fold-tab", GET + b"X: a\r\n\tb\r\n\r\n"),
    ("fold-of-the-first", b"GET /v1/models HTTP/1.1\r\n Host: x\r\n\r\n"),
    ("bare-lf-in-head", GET + b"X: a\nY: b\r\n\r\n"),
    ("bare-lf-everywhere", b"GET /v1/models HTTP/1.1\nHost: x\n\n"),
    ("bare-lf-at-the-end", GET + b"\n"),
    ("bare-cr", GET + b"X: a\rb\r\n\r\n"),
    ("cr-cr-lf", GET + b"X: a\r\r\n\r\n"),
    ("nul-in-value", GET + b"X: a\0b\r\n\r\n"),
    ("nul-in-name", GET + b"X\0: a\r\n\r\n"),
    ("control-in-value", GET + b"X: a\x01b\r\n\r\n"),
    ("delete-in-value", GET + b"X: a\x7fb\r\n\r\n"),
    ("name-empty", GET + b": empty\r\n\r\n"),
    ("name-with-space", GET + b"X Y: z\r\n\r\n"),
    ("name-space-before-colon", GET + b"X : z\r\n\r\n"),
    ("name-not-ascii", GET + b"X\xe9: z\r\n\r\n"),
    ("name-in-brackets", GET + b"X(Y): z\r\n\r\n"),
    ("no-colon", GET + b"X\r\n\r\n"),
]
TARGETS = [
    ("no-host", b"GET /v1/models HTTP/1.1\r\n\r\n"),
    ("host-twice", b"GET /v1/models HTTP/1.1\r\nHost: x\r\nHost: y\r\n\r\n"),
    ("host-twice-same", b"GET /v1/models HTTP/1.1\r\nHost: x\r\nhost: x\r\n\r\n"),
    ("host-with-path", b"GET /v1/models HTTP/1.1\r\nHost: x/y\r\n\r\n"),
    ("host-with-user", b"GET /v1/models HTTP/1.1\r\nHost: u@x\r\n\r\n"),
    ("host-with-space", b"GET /v1/models HTTP/1.1\r\nHost: x y\r\n\r\n"),
    ("host-list", b"GET /v1/models HTTP/1.1\r\nHost: x, y\r\n\r\n"),
    ("absolute-other-host", b"GET http://a/v1/models HTTP/1.1\r\nHost: b\r\n\r\n"),
    ("absolute-user", b"GET http://u@a/v1/models HTTP/1.1\r\nHost: a\r\n\r\n"),
    ("absolute-empty", b"GET http:///v1/models HTTP/1.1\r\nHost: a\r\n\r\n"),
    ("absolute-other-scheme", b"GET ftp://a/v1/models HTTP/1.1\r\nHost: a\r\n\r\n"),
    ("target-fragment", b"GET /v1/models#x HTTP/1.1\r\nHost: x\r\n\r\n"),
    ("target-not-ascii", b"GET /v1/mod\xc3\xa9ls HTTP/1.1\r\nHost: x\r\n\r\n"),
    ("target-relative", b"GET v1/models HTTP/1.1\r\nHost: x\r\n\r\n"),
    ("target-star", b"GET * HTTP/1.1\r\nHost: x\r\n\r\n"),
    ("two-spaces", b"GET  /v1/models HTTP/1.1\r\nHost: x\r\n\r\n"),
    ("two-spaces-behind", b"GET /v1/models  HTTP/1.1\r\nHost: x\r\n\r\n"),
    ("space-in-target", b"GET /v1/mo dels HTTP/1.1\r\nHost: x\r\n\r\n"),
    ("tab-for-space", b"GET\t/v1/models HTTP/1.1\r\nHost: x\r\n\r\n"),
    ("space-at-the-end", b"GET /v1/models HTTP/1.1 \r\nHost: x\r\n\r\n"),
    ("no-version", b"GET /v1/models\r\nHost: x\r\n\r\n"),
    ("version-lower-case", b"GET /v1/models http/1.1\r\nHost: x\r\n\r\n"),
    ("version-long", b"GET /v1/models HTTP/1.10\r\nHost: x\r\n\r\n"),
    ("method-lower-case", b"get /v1/models HTTP/1.1\r\nHost: x\r\n\r\n"),
    ("tls-hello", b"\x16\x03\x01\x02\x00\x01\x00\x01\xfc\x03\x03"),
    ("two-empty-lines-before", b"\r\n\r\n" + GET + b"\r\n"),
]
OTHER = [
    ("version-3", 505, HEAD, b"GET /v1/models HTTP/3.0\r\nHost: x\r\n\r\n"),
    ("version-0.9", 505, HEAD, b"GET /v1/models HTTP/0.9\r\nHost: x\r\n\r\n"),
    ("http-2-preface", 505, HEAD, b"PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n"),
    ("method-connect", 501, HEAD, b"CONNECT x:80 HTTP/1.1\r\nHost: x\r\n\r\n"),
    ("method-trace", 501, HEAD, b"TRACE /v1/models HTTP/1.1\r\nHost: x\r\n\r\n"),
    ("method-unknown", 501, HEAD, b"BREW /v1/models HTTP/1.1\r\nHost: x\r\n\r\n"),
    ("value-of-70000-bytes", 431, LARGE, GET + b"x: " + b"a" * 70000 + b"\r\n\r\n"),
    ("name-of-70000-bytes", 431, LARGE, GET + b"x" * 70000 + b": y\r\n\r\n"),
    ("fields-5000", 431, LARGE, GET + b"".join(b"x-%d: y\r\n" % i for i in range(5000)) + b"\r\n"),
    ("fields-tiny-300", 431, LARGE, GET + b"a:\r\n" * 300 + b"\r\n"),
    ("endless-head", 431, LARGE, GET + b"x: y\r\n" * 10000),
    ("target-of-70000-bytes", 414, LARGE, b"GET /v1/" + b"a" * 70000 + b" HTTP/1.1\r\nHost: x\r\n\r\n"),
    ("endless-target", 414, LARGE, b"GET /" + b"a" * 70000),
    ("expectation-unknown", 417, HEAD, GET + b"Expect: 200-ok\r\n\r\n"),
]
ATTACKS = [(name, 400, HEAD, data) for name, data in FRAMING + LINES + TARGETS] + OTHER

# Bodies whose framing breaks once the head was fine: name, bytes behind a chunked POST with a good key.
CHUNKS = [
    ("letters", b"zz\r\n"),
    ("minus", b"-1\r\n"),
    ("plus", b"+5\r\nhello\r\n" + LAST),
    ("0x", b"0x5\r\nhello\r\n" + LAST),
    ("space-before", b" 5\r\nhello\r\n" + LAST),
    ("space-behind", b"5 \r\nhello\r\n" + LAST),
    ("tab-behind", b"5\t\r\nhello\r\n" + LAST),
    ("no-size", b"\r\nhello\r\n" + LAST),
    ("bare-lf", b"5\nhello\n0\n\n"),
    ("bare-lf-behind-data", b"5\r\nhello\n" + LAST),
    ("bare-lf-at-the-end", b"5\r\nhello\r\n0\r\n\n"),
    ("longer-than-said", b"5\r\nhelloX\r\n" + LAST),
    ("17-digits", b"fffffffffffffffff\r\n"),
    ("wraps-to-5", b"10000000000000005\r\nhello\r\n" + LAST),
    ("extension-of-20000-bytes", b"5;" + b"a" * 20000 + b"\r\nhello\r\n"),
    ("extension-control", b"5;a\x01\r\nhello\r\n" + LAST),
    ("extension-bare-cr", b"5;a\rb\r\nhello\r\n" + LAST),
    ("trailer-no-colon", b"0\r\nX y\r\n\r\n"),
    ("trailer-folded", b"0\r\nX: y\r\n z\r\n\r\n"),
    ("trailer-endless", b"0\r\n" + b"x: y\r\n" * 10000),
]
