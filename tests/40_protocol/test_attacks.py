"""The corpus of HTTP/1 attacks (http1_attacks.py) against the front door, hostile bodies and paths: each refused
with its status, nothing behind it answered, counted, and without memory growing."""
import json
import re

import pytest

from budlib import MODEL, Raw, eventually
from http1_attacks import ATTACKS, CHUNKS, GET

# Follows each attack and must never be answered.
BEHIND = b"GET /livez HTTP/1.1\r\nHost: x\r\n\r\n"


def refused(served, reason):
    """How often that was the reason."""
    page = served.request("GET", "/metrics", admin=True).body.decode()
    found = re.search(rf'^bud_http_refused_total{{reason="{reason}"}} (\d+)$', page, re.M)
    return int(found.group(1)) if found else 0


def test_every_attack_is_refused_and_counted(served):
    before = {reason: refused(served, reason) for reason in {row[2] for row in ATTACKS}}
    wrong = []
    for name, status, _, data in ATTACKS:
        with served.raw() as raw:
            try:
                raw.send(data + BEHIND)
            except OSError:
                pass  # refused before it was all sent
            r = raw.response()
            r.error()
            if (r.status, r.get("connection"), raw.rest()) != (status, "close", b""):
                wrong.append(f"{name}: {r.status}, due {status}")
    assert not wrong, wrong
    for reason, n in before.items():
        assert refused(served, reason) - n == sum(row[2] == reason for row in ATTACKS), reason


def test_attacks_in_small_pieces_are_the_same(served):
    """What a reader decides must not depend on how the bytes came."""
    for name, status, _, data in ATTACKS:
        if len(data) > 1000:
            continue
        with served.raw() as raw:
            try:
                for at in range(0, len(data), 7):
                    raw.send(data[at:at + 7])
                raw.send(BEHIND)
            except OSError:
                pass
            assert raw.response().status == status, name
            assert raw.rest() == b"", name


def test_every_broken_chunk_is_refused_and_counted(served):
    before = refused(served, "malformed_body")
    for name, data in CHUNKS:
        with served.raw() as raw:
            raw.send(f"POST /v1/completions HTTP/1.1\r\nHost: x\r\nAuthorization: Bearer {served.key}\r\n"
                     "Transfer-Encoding: chunked\r\n\r\n")
            try:
                raw.send(data + BEHIND)
            except OSError:
                pass
            assert raw.response().status == 400, name
            assert raw.rest() == b"", name
    assert refused(served, "malformed_body") - before == len(CHUNKS)


# ---- bodies ----

FINE = b'{"model":"%s","prompt":"Once","max_tokens":1}' % MODEL.encode()


@pytest.mark.parametrize("body", [
    b"", b"{", b"[]", b"null", b'"text"', b"\xff\xfe{\x00}\x00", b"\xef\xbb\xbf" + FINE,
    FINE + b"x", FINE + FINE, FINE[:-1] + b",}", FINE[:-1], b"\0" + FINE,
    FINE.replace(b"Once", b"On\xffce"), FINE.replace(b"Once", b"\xc0\xaf"), FINE.replace(b"Once", b"\xed\xa0\x80"),
    FINE.replace(b"Once", b"\xf4\x90\x80\x80"), FINE.replace(b"Once", b"\xe2\x82"), FINE.replace(b"Once", b"\\ud800"),
    FINE.replace(b"Once", b"\\udc00\\ud800"), FINE.replace(b"Once", b"\\x41"), FINE.replace(b"Once", b"a\nb"),
    FINE[:-1] + b',"model":"other"}', FINE[:-1] + b',"max_tokens":2}', FINE[:-1] + b',"mod\\u0065l":"other"}',
    FINE.replace(b'"Once"', b"[" * 100000), FINE.replace(b'"Once"', b"[" * 65 + b"]" * 65),
    FINE.replace(b'"Once"', b'{"a":' * 5000 + b"1" + b"}" * 5000),
    FINE.replace(b":1}", b":1e400}"), FINE.replace(b":1}", b":-1}"), FINE.replace(b":1}", b":01}"),
    FINE.replace(b":1}", b":" + b"9" * 5000 + b"}"), FINE.replace(b":1}", b":NaN}"),
], ids=lambda b: repr(b[:40]))
def test_bodies_that_are_refused(served, body):
    with served.raw() as raw:
        raw.request("POST", "/v1/completions", body, [f"Authorization: Bearer {served.key}"])
        r = raw.response()
        assert r.status == 400, r.body
        r.error()
        raw.request("GET", "/livez")
        assert raw.response().status == 200, "the connection is as good as before"


def test_bodies_that_are_too_large(served):
    before = refused(served, "body_too_large")
    with served.raw() as raw:
        raw.send(f"POST /v1/completions HTTP/1.1\r\nHost: x\r\nAuthorization: Bearer {served.key}\r\n"
                 f"Content-Length: {1 << 40}\r\n\r\n")
        assert raw.response().status == 413 and raw.is_closed()
    assert refused(served, "body_too_large") == before + 1
    with served.raw() as raw:
        raw.send(f"POST /v1/completions HTTP/1.1\r\nHost: x\r\nContent-Length: {1 << 40}\r\n\r\n")
        assert raw.response().status == 401 and raw.is_closed(), "without a key not a byte of it is taken"


# ---- paths ----


@pytest.mark.parametrize("path", [
    "/v1/%6dodels", "/v1/%256dodels", "/%76%31/models", "/v1%2fmodels", "/v1%252fmodels", "//v1/models", "/v1//models",
    "/v1/./models", "/v1/x/../models", "/v1/x/%2e%2e/models", "/v1/x/%252e%252e/models", "/v1/models%00", "/v1/models;a=b",
    "/v1/models%20", "/v1/models%0d%0aX:%20y", "/V1/models", "/v1\\models", "/v1/models/..%2f..%2flivez",
    f"/v1/models/%25{ord(MODEL[0]):x}{MODEL[1:]}", f"/v1/models/{MODEL}%00", f"/v1/models/{MODEL}%2500",
    f"/v1/models/x%2f..%2f{MODEL}", "/v1/models/%c0%ae%c0%ae", "/v1/models/%u002e",
])
def test_paths_mean_one_thing(served, path):
    """Encoded once more, or not tidy: no other path's resource, and no other's permission."""
    r = served.request("GET", path)
    assert r.status == 404, (path, r.status)
    r.error()


# ---- memory ----


def resident_mb(pid):
    with open(f"/proc/{pid}/status", encoding="utf-8") as f:
        return int(re.search(r"VmRSS:\s+(\d+) kB", f.read()).group(1)) / 1024


def test_unfinished_requests_hold_little(served):
    """Three hundred heads and three hundred bodies that never end."""
    head = GET + b"x: " + b"a" * 31000
    body = (f"POST /v1/completions HTTP/1.1\r\nHost: x\r\nAuthorization: Bearer {served.key}\r\n"
            "Content-Length: 30000000\r\n\r\n").encode() + b" " * 60000
    before = resident_mb(served.pid)
    held = []
    try:
        for data in [head] * 300 + [body] * 300:
            held.append(Raw(served.port))
            held[-1].send(data)
        assert served.request("GET", "/livez").status == 200
        assert resident_mb(served.pid) - before < 600 * 0.2
    finally:
        for raw in held:
            raw.close()


def test_the_server_is_well_after_all_that(served):
    assert served.request("GET", "/readyz", key=None).status == 200
    body = {"model": MODEL, "prompt": "Once", "max_tokens": 2}
    assert served.request("POST", "/v1/completions", json.dumps(body)).status == 200
    assert eventually(lambda: served.child() is not None)
    assert served.events("child-exit") == [] and served.events("request-fail") == []
