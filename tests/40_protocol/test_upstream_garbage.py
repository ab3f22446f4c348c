"""An upstream that answers some requests with garbage and others well, on the same kept connections: its garbage is
an error to who asked, and never reaches anybody else."""
import json
import re
import socket
import threading

import pytest

from budlib import Serve

KEY = "sk-bud-" + "g" * 43
HEAD = b"HTTP/1.1 200 OK\r\ncontent-type: application/json\r\n"
SSE = b"HTTP/1.1 200 OK\r\ncontent-type: text/event-stream\r\ntransfer-encoding: chunked\r\n\r\n"
BODY = b'{"id":"garbage","usage":{"prompt_tokens":1,"completion_tokens":1}}'


def whole(body):
    return HEAD + b"content-length: %d\r\n\r\n" % len(body) + body


def chunk(text):
    return b"%x\r\n%s\r\n" % (len(text), text)


EVENT = chunk(b'data: {"choices":[{"text":"x"}]}\n\n')
DONE = chunk(b"data: [DONE]\n\n") + b"0\r\n\r\n"
# What the upstream sends, and whether the connection is left open behind it.
GARBAGE = {
    "nothing": b"",
    "noise": b"\x00\xff" * 500,
    "tls": b"\x15\x03\x03\x00\x02\x02\x28",
    "no-status": b"HTTP/1.1\r\n\r\n",
    "status-of-four-digits": b"HTTP/1.1 2000 OK\r\ncontent-length: 0\r\n\r\n",
    "status-99": b"HTTP/1.1 099 X\r\ncontent-length: 0\r\n\r\n",
    "status-signed": b"HTTP/1.1 +20 X\r\ncontent-length: 0\r\n\r\n",
    "version-2": b"HTTP/2 200\r\n\r\n",
    "half-head": HEAD,
    "head-of-200000-bytes": HEAD + b"x: " + b"a" * 200000,
    "fields-20000": HEAD + b"x: y\r\n" * 20000,
    "obs-fold": HEAD + b" folded\r\ncontent-length: 2\r\n\r\n{}",
    "bare-lf": b"HTTP/1.1 200 OK\ncontent-length: 2\n\n{}",
    "nul-in-field": HEAD + b"x: a\x00b\r\ncontent-length: 2\r\n\r\n{}",
    "cl-and-te": HEAD + b"content-length: 2\r\ntransfer-encoding: chunked\r\n\r\n0\r\n\r\n",
    "cl-twice": HEAD + b"content-length: 2\r\ncontent-length: 3\r\n\r\n{}x",
    "cl-signed": HEAD + b"content-length: +2\r\n\r\n{}",
    "te-unknown": HEAD + b"transfer-encoding: gzip, chunked\r\n\r\n0\r\n\r\n",
    "cl-too-long": HEAD + b"content-length: 500\r\n\r\n{}",
    "cl-endless": HEAD + b"content-length: 99999999999999999999\r\n\r\n{}",
    "bad-chunk-size": HEAD + b"transfer-encoding: chunked\r\n\r\nzz\r\n{}\r\n",
    "bad-chunk-end": HEAD + b"transfer-encoding: chunked\r\n\r\n2\r\n{}XX0\r\n\r\n",
    "interim-flood": b"HTTP/1.1 100 Continue\r\n\r\n" * 1000,
    "switching": b"HTTP/1.1 101 Switching Protocols\r\n\r\n",
    "not-json": whole(b"<html>hello</html>"),
    "json-of-another-kind": whole(b"[1]"),
    "json-cut": whole(b'{"object":'),
    "json-deep": whole(b"[" * 100000),
    "json-not-utf-8": whole(b'{"a":"\xff"}'),
    "extra-behind": whole(BODY) + whole(b'{"id":"stolen"}'),
    "extra-noise-behind": whole(BODY) + b"\x00garbage\r\n\r\n",
    "extra-head-behind": whole(BODY) + b"HTTP/1.1 200 OK\r\ncontent-length: 50\r\n\r\n",
    "events-cut": SSE + EVENT,
    "events-bad-chunk": SSE + EVENT + b"-5\r\n",
    "events-then-noise": SSE + EVENT + b"\xff\xfe\r\n",
    "events-without-end": SSE + EVENT + b"0\r\n\r\n",
    "event-of-noise": SSE + chunk(b"data: \xff\xfe{{{\x00\n\n") + DONE,
    "extra-behind-events": SSE + EVENT + DONE + SSE + EVENT + DONE,
}


class Upstream:
    """A thread for each connection. The request's "user" says what to answer: a name in GARBAGE, or an id that a
    good answer carries back."""

    def __init__(self):
        self.listener = socket.create_server(("127.0.0.1", 0))
        self.url = f"http://127.0.0.1:{self.listener.getsockname()[1]}"
        threading.Thread(target=self.accept, daemon=True).start()

    def accept(self):
        while True:
            try:
                sock, _ = self.listener.accept()
            except OSError:
                return
            threading.Thread(target=self.serve, args=(sock,), daemon=True).start()

    def serve(self, sock):
        data = b""
        with sock:
            try:
                while True:
                    while b"\r\n\r\n" not in data:
                        piece = sock.recv(65536)
                        if not piece:
                            return
                        data += piece
                    head, data = data.split(b"\r\n\r\n", 1)
                    length = re.search(rb"content-length: (\d+)", head)
                    n = int(length.group(1)) if length else 0
                    while len(data) < n:
                        data += sock.recv(65536)
                    body, data = data[:n], data[n:]
                    if not self.answer(sock, json.loads(body) if body else {}):
                        return
            except OSError:
                pass  # the gateway had enough

    def answer(self, sock, request):
        user = request.get("user", "none")
        if user in GARBAGE:
            sock.sendall(GARBAGE[user])
            return user.startswith("extra")
        if request.get("stream"):
            sock.sendall(SSE + chunk(b'data: {"choices":[{"text":"%s"}]}\n\n' % user.encode()) + DONE)
        else:
            body = json.dumps({"id": user, "usage": {"prompt_tokens": 1, "completion_tokens": 1}}).encode()
            sock.sendall(whole(body))
        return True


@pytest.fixture(scope="module")
def front(tmp_path_factory):
    folder = tmp_path_factory.mktemp("garbage")
    upstream = Upstream()
    (folder / "key").write_text(KEY + "\n")
    catalogue = folder / "catalogue.yaml"
    catalogue.write_text(f'upstreams:\n  - {{name: u, url: "{upstream.url}", connections_max: 4}}\n'
                         "models:\n  - {name: m, versions: [{name: v, upstreams: [u]}]}\n")
    settings = folder / "bud.yaml"
    settings.write_text("gateway: {loops: 1}\n")  # each loop has a breaker of its own: with one its state is known
    s = Serve("--config", str(settings), "--catalogue", str(catalogue), role="gateway",
              env={"BUD_BOOTSTRAP_KEY_FILE": str(folder / "key")})
    s.key = KEY
    for i in range(10):  # more that go well than fail, from the start: else the breaker opens, as it should
        good(s, f"before-{i}")
    yield s
    s.stop()
    upstream.listener.close()


def ask(front, user, stream=False):
    body = {"model": "m", "prompt": "p", "user": user, **({"stream": True} if stream else {})}
    return front.request("POST", "/v1/completions", body)


def good(front, user):
    """Whether the answers are its own, whole and streamed."""
    plain, streamed = ask(front, user), ask(front, user, stream=True)
    assert plain.status == 200 and plain.json()["id"] == user, plain.body
    assert streamed.status == 200 and streamed.body.count(b"data: ") == 2, streamed.body
    assert b'"text":"%s"' % user.encode() in streamed.body and streamed.body.endswith(b"data: [DONE]\n\n")


@pytest.mark.parametrize("name", GARBAGE)
def test_garbage_is_an_error_to_who_asked(front, name):
    r = ask(front, name, stream="event" in name)
    if name.startswith("extra"):
        assert r.status == 200 and b"stolen" not in r.body and b"\x00" not in r.body
    elif r.status == 200:  # a stream had begun: its last event is the error
        assert name.startswith("event") and (b'data: {"error":' in r.body or r.body.endswith(b"data: [DONE]\n\n"))
    else:
        assert r.status in (502, 503), (name, r.status, r.body)
        r.error()
    for i in range(2):  # for the same reason
        good(front, f"after-{name}-{i}")


def test_garbage_beside_good_answers(front):
    """Everything at once over four connections."""
    wrong, over = [], threading.Event()

    def well(i):
        n = 0
        while not over.is_set() or n == 0:
            try:
                good(front, f"well-{i}-{n}")
            except AssertionError as e:
                wrong.append(repr(e))
            n += 1

    threads = [threading.Thread(target=well, args=(i,)) for i in range(3)]
    for t in threads:
        t.start()
    for name in list(GARBAGE)[::3]:
        ask(front, name, stream="event" in name)
    over.set()
    for t in threads:
        t.join()
    assert not wrong, wrong[:3]
