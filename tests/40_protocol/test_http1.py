"""Raw HTTP/1.1 against the front door: heads, bodies, connections, and what must be refused."""
import json
import time

import pytest

from budlib import MODEL, Raw, eventually

GET = "GET /v1/models HTTP/1.1\r\nHost: x\r\n"


def auth(served):
    return f"Authorization: Bearer {served.key}\r\n"


def complete_body(**kwargs):
    return {"model": MODEL, "prompt": "Once upon a time", "max_tokens": 2, "temperature": 0, **kwargs}


# ---- heads of answers ----


def test_head_of_an_answer(served):
    r = served.request("POST", "/v1/completions", complete_body())
    assert r.status_line == "HTTP/1.1 200 OK"
    assert r.get("content-type") == "application/json"
    assert r.get("x-request-id").startswith("req_")
    assert r.get("openai-version") == "2020-10-01"
    assert r.get("openai-processing-ms").isdigit()
    assert r.get("date").endswith(" GMT")
    assert int(r.get("content-length")) == len(r.body)
    stages = dict(s.split(";dur=") for s in r.get("server-timing").split(", "))
    assert set(stages) >= {"auth", "parse", "route", "proxy"} and all(float(v) >= 0 for v in stages.values())
    assert not any(name.startswith("bud-") for name, _ in r.fields), "the link's fields are not the client's"


def test_head_of_a_refusal(served):
    r = served.request("GET", "/v1/models", key=None)
    assert r.status == 401 and r.get("www-authenticate").startswith("Bearer")
    assert r.get("x-should-retry") == "false" and r.get("x-request-id") and r.get("retry-after") is None
    assert r.error()["code"] == "invalid_api_key"
    assert served.request("GET", "/v1/models", headers=["Authorization: Basic abc"], key=None).status == 401
    assert served.request("GET", "/v1/models", headers=[f"Authorization: bearer {served.key}"], key=None).status == 200


def test_wrong_method_names_the_right_ones(served):
    r = served.request("DELETE", "/v1/chat/completions")
    assert (r.status, r.get("allow")) == (405, "POST")
    r = served.request("POST", "/v1/models", {})
    assert (r.status, r.get("allow")) == (405, "GET, HEAD")
    assert r.get("x-request-id")


UNKNOWN = ("/", "/v1", "/v1/", "/v2/models", "/v1/v1/models", "/v1/models/../models", "/v1/chat/completions/")


def test_unknown_paths(served):
    for path in UNKNOWN:
        r = served.request("GET", path)
        assert r.status == 404, path
        r.error()


def test_unknown_paths_have_a_request_id(served):
    assert all(served.request("GET", path).get("x-request-id") for path in UNKNOWN)


def test_request_ids(served):
    for name in ("x-client-request-id", "x-request-id", "X-Request-ID"):
        r = served.request("GET", "/v1/models", headers=[f"{name}: given_1-A"])
        assert r.get("x-request-id") == "given_1-A"
    for bad in ('a"b', "a b", "<x>", "é", "x" * 65):
        r = served.request("GET", "/v1/models", headers=["x-request-id: " + bad])
        assert r.get("x-request-id").startswith("req_")


def test_link_fields_of_a_client_are_dropped(served):
    r = served.request("POST", "/v1/completions", complete_body(),
                       ["bud-request-id: forged", "bud-tenant: forged", "bud-budget-tokens: 1", "bud-deadline-ms: 1"])
    assert r.status == 200 and r.json()["usage"]["completion_tokens"] == 2
    assert "forged" not in served.output()


def test_head_method(served):
    whole = served.request("GET", "/v1/models")
    with served.raw() as raw:
        raw.request("HEAD", "/v1/models", headers=[f"Authorization: Bearer {served.key}"])
        r = raw.response("HEAD")
        assert r.status == 200 and int(r.get("content-length")) == len(whole.body)
        raw.request("GET", "/livez")
        assert raw.response().status == 200, "no body came behind the answer to HEAD"


# ---- paths ----


@pytest.mark.parametrize("prefix", ["/v1", ""])
def test_both_base_paths(served, prefix):
    assert served.request("GET", prefix + "/models").status == 200
    assert served.request("GET", f"{prefix}/models/{MODEL}").json()["id"] == MODEL
    assert served.request("GET", prefix + "/models/nope").error()["code"] == "model_not_found"
    assert served.request("POST", prefix + "/completions", complete_body()).status == 200
    body = {"model": MODEL, "messages": [{"role": "user", "content": "Hello"}], "max_tokens": 1}
    assert served.request("POST", prefix + "/chat/completions", body).status == 200


def test_escapes_and_queries(served):
    assert served.request("GET", f"/v1/models/{MODEL.replace('-', '%2D')}").json()["id"] == MODEL
    assert served.request("GET", "/v1/models?limit=1").status == 200


def test_an_escape_that_is_none(served):
    assert served.request("GET", "/v1/models/%zz").status in (400, 404)


# ---- bodies ----


def test_chunked_body_byte_by_byte(served):
    body = json.dumps(complete_body()).encode()
    with served.raw() as raw:
        raw.send("POST /v1/completions HTTP/1.1\r\nHost: x\r\n" + auth(served) + "Transfer-Encoding: chunked\r\n\r\n")
        for i in range(len(body)):
            raw.send(b"1\r\n" + body[i:i + 1] + b"\r\n")
        raw.send("0\r\n\r\n")
        assert raw.response().status == 200


def test_trickled_head_and_body(served):
    body = json.dumps(complete_body())
    text = (f"POST /v1/completions HTTP/1.1\r\nHost: x\r\n{auth(served)}Content-Length: {len(body)}\r\n\r\n{body}")
    with served.raw() as raw:
        for c in text:
            raw.send(c)
        assert raw.response().status == 200


def test_no_content_type_is_needed(served):
    with served.raw() as raw:
        body = json.dumps(complete_body())
        raw.send(f"POST /v1/completions HTTP/1.1\r\nHost: x\r\n{auth(served)}Content-Length: {len(body)}\r\n"
                 f"Content-Type: application/x-www-form-urlencoded\r\n\r\n{body}")
        assert raw.response().status == 200


def test_expect_continue(served):
    body = json.dumps(complete_body())
    head = "POST /v1/completions HTTP/1.1\r\nHost: x\r\nExpect: 100-continue\r\n"
    with served.raw() as raw:
        raw.send(head + auth(served) + f"Content-Length: {len(body)}\r\n\r\n")
        assert raw.head() == b"HTTP/1.1 100 Continue"
        raw.send(body)
        assert raw.response().status == 200
    with served.raw() as raw:
        raw.send(head + f"Content-Length: {len(body)}\r\n\r\n")
        assert raw.response().status == 401, "no key: refused before the body is asked for"
    with served.raw() as raw:
        raw.send(head + auth(served) + f"Content-Length: {1 << 40}\r\n\r\n")
        assert raw.response().status == 413


def test_chunked_body_over_the_limit(served):
    with served.raw() as raw:
        raw.send("POST /v1/completions HTTP/1.1\r\nHost: x\r\n" + auth(served) + "Transfer-Encoding: chunked\r\n\r\n")
        piece = b"100000\r\n" + b" " * (1 << 20) + b"\r\n"
        try:
            for _ in range(40):
                raw.send(piece)
        except OSError:
            pass  # refused before it was all sent
        assert raw.response().status == 413


# ---- connections ----


def test_keep_alive(served):
    with served.raw() as raw:
        for _ in range(50):
            raw.request("GET", "/v1/models", headers=[f"Authorization: Bearer {served.key}"])
            assert raw.response().status == 200
        raw.request("GET", "/v1/models", headers=[f"Authorization: Bearer {served.key}", "Connection: close"])
        assert raw.response().get("connection") == "close" and raw.is_closed()


def test_refusals_keep_the_connection(served):
    with served.raw() as raw:
        for path, status in (("/v1/nope", 404), ("/v1/models", 401), ("/livez", 200)):
            raw.request("GET", path)
            assert raw.response().status == status


def test_pipelining(served):
    body = json.dumps(complete_body())
    post = f"POST /v1/completions HTTP/1.1\r\nHost: x\r\n{auth(served)}Content-Length: {len(body)}\r\n\r\n{body}"
    with served.raw() as raw:
        raw.send(GET + auth(served) + "\r\n" + post + GET + "\r\n" + post + GET + auth(served) + "\r\n")
        answers = [raw.response() for _ in range(5)]
        assert [a.status for a in answers] == [200, 200, 401, 200, 200]
        assert [a.json().get("object") for a in answers] == ["list", "text_completion", None, "text_completion",
                                                              "list"]


def test_http_1_0(served):
    with served.raw() as raw:
        raw.send("GET /v1/models HTTP/1.0\r\n" + auth(served) + "\r\n")
        r = raw.response()
        assert r.status == 200 and r.get("transfer-encoding") is None and raw.is_closed()
    with served.raw() as raw:
        body = json.dumps(complete_body(stream=True))
        raw.send(f"POST /v1/completions HTTP/1.0\r\n{auth(served)}Content-Length: {len(body)}\r\n\r\n{body}")
        r = raw.response()
        assert r.get("transfer-encoding") is None and r.body.endswith(b"data: [DONE]\n\n")


def test_absolute_form(served):
    with served.raw() as raw:
        raw.send(f"GET http://bud.test/v1/models HTTP/1.1\r\nHost: bud.test\r\n{auth(served)}\r\n")
        assert raw.response().status == 200


def test_half_closed_client_is_gone(served):
    """Our own clients keep both halves open; one that ends its side has hung up, and its work stops."""
    import socket
    with served.raw() as raw:
        raw.request("POST", "/v1/completions", complete_body(stream=True, max_tokens=900, ignore_eos=True),
                    [f"Authorization: Bearer {served.key}", "x-request-id: half-closed"])
        raw.head()
        raw.chunk()
        raw.sock.shutdown(socket.SHUT_WR)
        assert b"[DONE]" not in raw.rest()
    assert served.access("half-closed")["http.response.status_code"] == 499


def test_client_gone_before_its_body_is_whole(served):
    for _ in range(20):
        raw = served.raw()
        raw.send("POST /v1/completions HTTP/1.1\r\nHost: x\r\n" + auth(served) + "Content-Length: 500\r\n\r\n{")
        raw.close()
    assert served.request("GET", "/v1/models").status == 200


def test_slow_reader_blocks_nobody(served):
    """One client takes more megabytes than sockets buffer at a byte a second; others are served as if it were not there."""
    with served.raw(receive_bytes=4096) as slow:
        slow.request("POST", "/v1/completions",
                     complete_body(stream=True, n=14, max_tokens=900, ignore_eos=True, logprobs=5, temperature=1),
                     [f"Authorization: Bearer {served.key}", "x-request-id: slow-reader"])
        slow.head()
        worst = 0.0
        for _ in range(4):
            assert slow.sock.recv(1)
            start = time.monotonic()
            assert served.request("POST", "/v1/completions", complete_body()).status == 200
            assert served.request("GET", "/v1/models").status == 200
            worst = max(worst, time.monotonic() - start)
            time.sleep(1)
        assert worst < 3, f"{worst:.1f} s for two tokens beside a slow reader"
    assert served.access("slow-reader")["http.response.status_code"] == 499


def test_many_idle_connections(served):
    idle = [Raw(served.port) for _ in range(300)]
    try:
        for raw in idle[:100]:
            raw.send("POST /v1/comp")
        start = time.monotonic()
        assert served.request("GET", "/v1/models").status == 200
        assert time.monotonic() - start < 1
    finally:
        for raw in idle:
            raw.close()


# ---- limits of heads ----


@pytest.mark.parametrize("head, statuses", [
    (GET + "x: " + "a" * 70_000 + "\r\n\r\n", {431}),
    (GET + "".join(f"x-{i}: y\r\n" for i in range(2000)) + "\r\n", {431}),
    ("GET /v1/" + "a" * 70_000 + " HTTP/1.1\r\nHost: x\r\n\r\n", {414, 431}),
    (GET + "x" * 70_000 + ": y\r\n\r\n", {431}),
])
def test_huge_heads(served, head, statuses):
    with served.raw() as raw:
        raw.send(head)
        r = raw.response()
        assert r.status in statuses and r.get("connection") == "close"
        r.error()
        assert raw.is_closed()


def test_long_but_fair_head(served):
    r = served.request("GET", "/v1/models", headers=["x-long: " + "a" * 8000, *(f"x-{i}: y" for i in range(40))])
    assert r.status == 200


def test_slow_head_is_given_up(served):
    with served.raw(timeout=15) as raw:
        raw.send("GET /v1/models HT")
        r = raw.response()
        assert r.status == 408 and raw.is_closed()


def test_the_server_is_well_after_all_that(served):
    assert served.request("GET", "/readyz", key=None).status == 200
    assert served.request("POST", "/v1/completions", complete_body()).status == 200
    assert eventually(lambda: served.child() is not None)
    assert served.events("child-exit") == [] and served.events("request-fail") == []
