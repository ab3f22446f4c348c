"""One usage record per request: what it holds, and that none is lost or doubled when the gateway is
killed under load. The model server is a fake here: it streams slowly, with the link's counts."""
import http.server
import json
import os
import random
import re
import signal
import threading
import time

import pytest

from budlib import MODEL, Raw, Serve, bud, eventually

PROMPT_TOKENS = 7


class Upstream(http.server.ThreadingHTTPServer):
    """Streams `max_tokens` events, a few milliseconds apart. `seen` has each request's id and how
    many events were sent for it; `counts` off makes it a stranger that never tells usage."""
    daemon_threads = True
    request_queue_size = 128

    def __init__(self, counts=True):
        super().__init__(("127.0.0.1", 0), Handler)
        self.counts, self.seen, self.lock = counts, {}, threading.Lock()
        self.url = f"http://127.0.0.1:{self.server_address[1]}"
        threading.Thread(target=self.serve_forever, daemon=True).start()

    def handle_error(self, request, client_address):
        pass  # killed gateways leave connections


class Handler(http.server.BaseHTTPRequestHandler):
    protocol_version = "HTTP/1.1"

    def log_message(self, *args):
        pass

    def do_GET(self):
        self.whole({"object": "list", "data": []})

    def whole(self, body):
        data = json.dumps(body).encode()
        self.send_response(200)
        self.send_header("content-type", "application/json")
        self.send_header("content-length", str(len(data)))
        self.end_headers()
        self.wfile.write(data)

    def do_POST(self):
        body = json.loads(self.rfile.read(int(self.headers["content-length"])))
        up, rid, n = self.server, self.headers.get("bud-request-id", "?"), body["max_tokens"]
        with up.lock:
            up.seen[rid] = 0
        if not body.get("stream"):
            usage = {"prompt_tokens": PROMPT_TOKENS, "completion_tokens": n,
                     "prompt_tokens_details": {"cached_tokens": 3}}
            self.whole({"choices": [{"text": "x" * n}], **({"usage": usage} if up.counts else {})})
            return
        self.send_response(200)
        self.send_header("content-type", "text/event-stream")
        self.send_header("transfer-encoding", "chunked")
        self.end_headers()
        for i in range(1, n + 1):
            with up.lock:
                up.seen[rid] = i
            count = f": n={PROMPT_TOKENS}+{i}\n\n" if up.counts else ""
            self.chunk('data: {"choices":[{"text":"x"}]}\n\n' + count)
            time.sleep(0.004)
        self.chunk("data: [DONE]\n\n")
        self.wfile.write(b"0\r\n\r\n")

    def chunk(self, text):
        self.wfile.write(f"{len(text):x}\r\n{text}\r\n".encode())
        self.wfile.flush()


CATALOGUE = """
projects: [{name: lab}]
upstreams: [{name: far, url: "%s", kind: %s, health_path: /v1/models}]
models:
  - {name: slow, price: {input: 2, cached_input: 1, output: 5}, versions: [{name: v1, upstreams: [far]}]}
"""


def start(tmp_path, upstream, kind, home=None, config=""):
    catalogue = tmp_path / "catalogue.yaml"
    catalogue.write_text(CATALOGUE % (upstream.url, kind))
    settings = tmp_path / "bud.yaml"
    settings.write_text(config)
    key = tmp_path / "key"
    if not key.exists():
        key.write_text("sk-bud-" + "A" * 43 + "\n")
    front = Serve("--catalogue", str(catalogue), "--config", str(settings), home=home, role="gateway",
                  env={"BUD_BOOTSTRAP_KEY_FILE": str(key)})
    front.key = key.read_text().strip()
    assert eventually(lambda: front.request("GET", "/readyz", key=None).status == 200)
    return front


def usage(home, *words):
    run = bud("usage", "--json", *words, home=home)
    assert run.returncode == 0, run.stderr
    return json.loads(run.stdout)["data"]


def post(front, stream, n, request_id):
    return front.request("POST", "/v1/completions", {"model": "slow", "prompt": "hello", "max_tokens": n,
                                                     "stream": stream}, [f"x-request-id: {request_id}"])


def test_records_hold_what_was_used_and_paid(tmp_path):
    up = Upstream()
    with start(tmp_path, up, "bud") as front:
        assert post(front, False, 5, "one").status == 200
        reply = post(front, True, 4, "two")
        text = reply.body.decode()
        assert text.endswith("data: [DONE]\n\n")
        timing = re.findall(r"^: server-timing (.*)$", text, re.M)
        assert len(timing) == 1
        names = [part.split(";")[0] for part in timing[0].split(", ")]
        assert names == ["auth", "parse", "answer", "limit", "route", "proxy", "total"]
        assert front.request("POST", "/v1/completions", {"model": "no"}, key=None).status == 401
        rows = eventually(lambda: (lambda r: r if len(r) == 2 else None)(usage(front.home, "--records")))
        one, two = sorted(rows, key=lambda r: r["request_id"])
        assert one["request_id"] == "one" and two["request_id"] == "two"
        assert (one["prompt_tokens"], one["cached_tokens"], one["output_tokens"]) == (7, 3, 5)
        assert one["cost_nano"] == 4 * 2000 + 3 * 1000 + 5 * 5000 and one["cost"] == 0.000036
        assert (two["prompt_tokens"], two["output_tokens"], two["status"]) == (7, 4, "ok")
        assert one["upstream"] == "far" and one["version"] == "v1" and one["route"] == "completions"
        assert not one["estimated"] and one["http_status"] == 200
        by = usage(front.home, "--by", "model,day", "--key", one["key"])
        assert len(by) == 1 and by[0]["model"] == "slow" and by[0]["requests"] == 2
        assert by[0]["day"] == time.strftime("%Y-%m-%d", time.gmtime(one["started_ms"] / 1000))
        assert by[0]["cost_nano"] == one["cost_nano"] + two["cost_nano"]
        assert usage(front.home, "--model", "other") == []
        table = bud("usage", "--by", "model", home=front.home).stdout.splitlines()
        assert table[0].split()[:2] == ["MODEL", "REQUESTS"] and table[1].split()[:2] == ["slow", "2"]
        assert bud("usage", "--by", "colour", home=front.home).returncode != 0
        access = front.access("one")
        assert access["cost_nano"] == one["cost_nano"]
    assert os.listdir(tmp_path) and not [f for f in os.listdir(tmp_path) if f.endswith(".log")]
    up.shutdown()


def test_a_day_goes_on_after_a_start(tmp_path):
    up = Upstream()
    front = start(tmp_path, up, "bud")
    home, front.own_home = front.home, False
    key = json.loads(bud("key", "create", "--json", "--limit", "tokens_per_day=300", home=home).stdout)["key"]
    owner, front.key = front.key, key
    assert eventually(lambda: post(front, False, 200, "spend").status == 200)
    assert eventually(lambda: post(front, False, 200, "more").status == 429)  # what is left is given first
    front.stop()
    front = start(tmp_path, up, "bud", home=home)
    front.key, front.own_home = key, True
    assert post(front, False, 200, "again").json()["error"]["code"] == "insufficient_quota"
    front.key = owner
    assert post(front, False, 5, "other").status == 200
    front.stop()
    up.shutdown()


def test_explain_says_why(tmp_path):
    up = Upstream()
    with start(tmp_path, up, "bud") as front:
        limited = json.loads(bud("key", "create", "--json", "--limit", "requests_per_minute=1",
                                 home=front.home).stdout)
        assert post(front, True, 3, "fine").status == 200
        owner, front.key = front.key, limited["key"]
        assert eventually(lambda: post(front, False, 2, "first").status == 200)
        assert post(front, False, 2, "refused").status == 429
        front.key = owner
        assert post(front, False, 2, "unknown@v9").status == 200  # not a well-formed id: another is made
        assert front.request("POST", "/v1/completions", {"model": "slow@v9", "prompt": "x"},
                             ["x-request-id: absent"]).status == 404

        def why(request_id):
            run = bud("explain", request_id, "--json", home=front.home)
            return json.loads(run.stdout) if run.returncode == 0 else None
        fine = eventually(lambda: why("fine"))
        assert fine["model"] == {"asked": "slow", "used": "slow", "version": "v1", "why": "the only version"}
        assert fine["server"]["name"] == "far" and fine["server"]["well"] == 1
        assert [t["http_status"] for t in fine["server"]["tried"]] == [200]
        assert fine["usage"]["output_tokens"] == 3 and fine["ms"]["total"] >= fine["ms"]["first_event"] > 0
        refused = eventually(lambda: why("refused"))
        assert refused["http_status"] == 429 and refused["error"] == "rate_limit_exceeded"
        assert refused["limits"]["refused"]["by"] == "key:" + limited["id"]
        assert refused["limits"]["refused"]["limit"] == "requests_per_minute"
        assert refused["server"]["tried"] == []
        assert eventually(lambda: why("absent"))["http_status"] == 404
        assert why("unknown@v9") is None
        text = bud("explain", "refused", home=front.home).stdout
        assert "refused by key:" in text and "requests_per_minute is 1, left 0" in text
    up.shutdown()


def test_strangers_that_tell_no_usage_are_estimated(tmp_path):
    up = Upstream(counts=False)
    with start(tmp_path, up, "openai") as front:
        assert post(front, True, 6, "stream").status == 200
        assert post(front, False, 40, "whole").status == 200
        rows = eventually(lambda: (lambda r: r if len(r) == 2 else None)(usage(front.home, "--records")))
        stream, whole = sorted(rows, key=lambda r: r["request_id"])
        assert stream["estimated"] and stream["output_tokens"] == 6 and stream["prompt_tokens"] > 0
        assert whole["estimated"] and whole["output_tokens"] > 10
        assert usage(front.home)[0]["estimated"] == 2
    up.shutdown()


class Client(threading.Thread):
    """Asks until it is told to stop; notes what it saw of each answer."""

    def __init__(self, front, name, stop):
        super().__init__(daemon=True)
        self.front, self.label, self.stopped = front, name, stop
        self.seen, self.done = {}, set()

    def run(self):
        rng = random.Random(self.label)
        n = 0
        while not self.stopped.is_set():
            n += 1
            rid = f"{self.label}-{n}"
            try:
                self.ask(rid, rng.random() < 0.7, rng.randint(1, 40))
            except (OSError, AssertionError):
                return  # the gateway is gone

    def ask(self, rid, stream, n):
        with Raw(self.front.port) as raw:
            raw.request("POST", "/v1/completions", {"model": "slow", "prompt": "x", "max_tokens": n, "stream": stream},
                        [f"Authorization: Bearer {self.front.key}", f"x-request-id: {rid}"])
            self.seen[rid] = 0
            if stream:
                raw.head()
            else:
                assert raw.response("POST").status == 200
            while stream:
                piece = raw.chunk()
                self.seen[rid] += piece.count(b'"text"')
                if not piece or b"[DONE]" in piece:
                    break
            self.done.add(rid)


@pytest.mark.timeout(180)
def test_a_killed_gateway_loses_and_doubles_no_record(tmp_path):
    loops = "gateway: {loops: 3}\n"
    up = Upstream()
    front = start(tmp_path, up, "bud", config=loops)
    home, seen, done = front.home, {}, set()
    front.own_home = False
    try:
        for turn in range(3):
            stop = threading.Event()
            clients = [Client(front, f"c{turn}-{i}", stop) for i in range(12)]
            [c.start() for c in clients]
            assert eventually(lambda: sum(len(c.done) for c in clients) >= 60, 60)
            os.kill(front.pid, signal.SIGKILL)
            front.wait()
            stop.set()
            [c.join(30) for c in clients]
            for c in clients:
                seen.update(c.seen)
                done |= c.done
            front.stop()
            if turn == 1:
                continue_with = usage(home, "--records")  # settled without a start
                assert len(continue_with) >= len(done)
            front = start(tmp_path, up, "bud", home=home, config=loops)
            front.own_home = False
        front.stop()
        rows = {}
        for row in usage(home, "--records", "--limit", "10000"):
            assert row["request_id"] not in rows, "doubled"
            rows[row["request_id"]] = row
        assert set(up.seen) <= set(rows), "lost"
        assert done <= set(rows)
        interrupted = [r for r in rows.values() if r["status"] == "interrupted"]
        assert interrupted, "nothing was under way when it was killed"
        for rid in done:
            assert rows[rid]["status"] == "ok"
        for row in interrupted:
            rid = row["request_id"]
            assert seen[rid] - 1 <= row["output_tokens"] <= max(up.seen.get(rid, 0), 40)
            if row["output_tokens"]:
                assert row["prompt_tokens"] == PROMPT_TOKENS
            assert row["cost_nano"] == row["prompt_tokens"] * 2000 + row["output_tokens"] * 5000
        left = [f for f in os.listdir(os.path.join(home, "usage")) if f != "lock"]
        assert left == []
    finally:
        if front.process.poll() is None:
            front.process.kill()
        import shutil
        shutil.rmtree(home, ignore_errors=True)
        up.shutdown()
