"""`bud load` against `bud serve` and against a server made here that answers as it is told."""
import http.server
import json
import os
import signal
import socket
import subprocess
import threading
import time

import pytest

from budlib import BUD, MODEL, Serve, bud, eventually

TIMES = {"n", "mean", "p50", "p90", "p99", "max"}


def load(url, *words, env=None, timeout=80):
    return bud("load", url, *words, env={"OPENAI_API_KEY": "", **(env or {})}, timeout=timeout)


def report(url, *words, **kwargs):
    run = load(url, *words, "--json", **kwargs)
    assert run.returncode == 0, run.stderr
    assert run.stderr == ""
    return json.loads(run.stdout)


def refused(url, *words, **kwargs):
    run = load(url, *words, **kwargs)
    assert run.returncode == 1 and run.stdout == "", (run.returncode, run.stdout, run.stderr)
    assert run.stderr.startswith("bud load: ") and run.stderr.count("\n") == 1, run.stderr
    return run.stderr


# ---- against our own server ----


def check_times(t, least=0.0):
    """Quantiles in order. Two tokens that one read brings are no time apart, so a gap may be nothing."""
    assert set(t) == TIMES
    if t["n"] > 0:
        assert least <= t["p50"] <= t["p90"] <= t["p99"] <= t["max"] and t["mean"] <= t["max"]


def test_closed_loop(served):
    d = report(served.url, "-k", served.key, "-c", "4", "-n", "12", "-w", "20", "--max-tokens", "8")
    assert d["model"] == MODEL and d["loop"] == "closed" and d["clients"] == 4 and d["api"] == "chat"
    assert d["ok"] == 12 and d["failed"] == 0 and d["errors"] == [] and not d["interrupted"]
    assert d["tokens_told"] and d["prompt_tokens"] >= 12 * 20 and 12 <= d["completion_tokens"] <= 12 * 8
    assert d["ttft_ms"]["n"] == d["latency_ms"]["n"] == 12 and d["gap_ms"]["n"] <= 12 * 7
    for name in ("gap_ms", "generator_late_ms"):
        check_times(d[name])
    for name in ("ttft_ms", "latency_ms"):
        check_times(d[name], least=0.001)
    assert d["ttft_ms"]["max"] <= d["latency_ms"]["max"] <= d["wall_s"] * 1000
    assert abs(d["tokens_per_s"] * d["wall_s"] - d["completion_tokens"]) < 0.01
    assert 0 < d["generator_cores"] < 1


def test_open_loop(served):
    start = time.monotonic()
    d = report(served.url, "-k", served.key, "--rate", "10", "-n", "15", "-w", "5", "--max-tokens", "2", "--seed", "4")
    wall_s = time.monotonic() - start
    assert d["loop"] == "open" and d["rate"] == 10 and "clients" not in d
    assert d["ok"] == 15 and 0.3 < d["wall_s"] <= wall_s


def test_completions_and_whole_answers(served):
    d = report(served.url + "/v1", "-k", served.key, "--api", "completions", "--no-stream", "-n", "3", "-m", MODEL,
               "--max-tokens", "4", "--temp", "0")
    assert d["api"] == "completions" and d["ok"] == 3 and d["completion_tokens"] <= 12
    assert d["ttft_ms"]["n"] == d["gap_ms"]["n"] == 0 and d["latency_ms"]["n"] == 3


def test_same_seed_same_prompts(served):
    def tokens(*words):
        return report(served.url, "-k", served.key, "-n", "3", "-w", "30", "--max-tokens", "1", *words)["prompt_tokens"]
    assert tokens() == tokens()
    assert tokens("--prefix-words", "50") > tokens() + 3 * 50


def test_seconds_end_it(served):
    d = report(served.url, "-k", served.key, "--seconds", "1", "-c", "2", "--max-tokens", "4", "-w", "5")
    assert d["ok"] > 2 and d["failed"] == 0 and 0.9 < d["wall_s"] < 10


def test_table(served):
    run = load(served.url, "-n", "2", "--max-tokens", "40", env={"OPENAI_API_KEY": served.key})
    assert run.returncode == 0, run.stderr
    lines = run.stdout.splitlines()
    assert MODEL in lines[0] and "closed loop of 1 clients" in lines[0]
    assert "2 ok, 0 failed" in lines[1]
    assert [line.split()[0] for line in lines[3:]] == ["ms", "first", "between", "whole", "the"]


def test_over_a_unix_socket(tmp_path):
    path = f"unix:{tmp_path}/s.sock"
    log = open(tmp_path / "log", "wb")
    process = subprocess.Popen([BUD, "server", "--model", MODEL, "--listen", path], stdout=log,
                               stderr=subprocess.STDOUT, env=dict(os.environ, BUD_HOME=str(tmp_path)))
    try:
        assert eventually(lambda: b"process-ready" in (tmp_path / "log").read_bytes(), 10)
        assert report(path, "-n", "2", "--max-tokens", "2")["ok"] == 2
    finally:
        process.send_signal(signal.SIGTERM)
        process.wait(20)
        log.close()


def test_ctrl_c_reports_what_was(served):
    process = subprocess.Popen([BUD, "load", served.url, "-k", served.key, "-n", "100000", "-w", "5", "--max-tokens", "4",
                                "--json"], stdout=subprocess.PIPE, stderr=subprocess.PIPE)
    time.sleep(1)
    process.send_signal(signal.SIGINT)
    out, err = process.communicate(timeout=20)
    assert process.returncode == 0 and err == b""
    d = json.loads(out)
    assert d["interrupted"] and d["ok"] > 0 and d["failed"] == 0


def test_wrong_key_and_model(served):
    assert "401" in refused(served.url, "-k", "sk-bud-wrong")
    assert "401" in refused(served.url)
    assert "404" in refused(served.url, "-k", served.key, "-m", "nope")
    assert "context" in refused(served.url, "-k", served.key, "-w", "5000")


# ---- against what may come ----


class Fake:
    """Answers POSTs with `reply(handler, number)`; GET /v1/models names one model."""

    def __init__(self, reply):
        fake = self
        self.n, self.lock, self.bodies = 0, threading.Lock(), []

        class Handler(http.server.BaseHTTPRequestHandler):
            protocol_version = "HTTP/1.1"

            def log_message(self, *args):
                pass

            def say(self, status, body, kind="application/json"):
                self.send_response(status)
                self.send_header("Content-Type", kind)
                self.send_header("Content-Length", str(len(body)))
                self.end_headers()
                self.wfile.write(body)

            def do_GET(self):
                self.say(200, b'{"data":[{"id":"fake"}]}')

            def do_POST(self):
                body = json.loads(self.rfile.read(int(self.headers["Content-Length"])))
                with fake.lock:
                    fake.n += 1
                    number = fake.n
                    fake.bodies.append(body)
                reply(self, number)

        self.server = http.server.ThreadingHTTPServer(("127.0.0.1", 0), Handler)
        self.url = f"http://127.0.0.1:{self.server.server_address[1]}"
        self.thread = threading.Thread(target=self.server.serve_forever, daemon=True)

    def __enter__(self):
        self.thread.start()
        return self

    def __exit__(self, *exc):
        self.server.shutdown()
        self.server.server_close()


def stream(*events):
    return "".join(f"data: {e}\n\n" for e in events).encode()


def piece(text):
    return json.dumps({"choices": [{"delta": {"content": text}}]})


def test_counts_pieces_where_no_usage_is_told():
    body = stream(piece(""), piece("a"), piece("b"), "[DONE]")
    with Fake(lambda h, n: h.say(200, body, "text/event-stream; charset=utf-8")) as f:
        d = report(f.url, "-n", "3")
        assert d["ok"] == 3 and not d["tokens_told"] and d["completion_tokens"] == 6 and d["gap_ms"]["n"] == 3
        assert [b["seed"] for b in f.bodies] == [1, 2, 3]
        assert all(b["stream_options"] == {"include_usage": True} and b["model"] == "fake" for b in f.bodies)


def test_times_are_the_servers():
    def reply(h, _):
        h.send_response(200)
        h.send_header("Content-Type", "text/event-stream")
        h.send_header("Connection", "close")
        h.end_headers()
        for text in ("a", "b"):
            time.sleep(0.3)
            h.wfile.write(stream(piece(text)))
        h.wfile.write(stream("[DONE]"))
        h.close_connection = True
    with Fake(reply) as f:
        d = report(f.url, "-n", "2")
    for name in ("ttft_ms", "gap_ms"):
        assert 295 < d[name]["p50"] < 600, d


def test_embeddings():
    body = json.dumps({"data": [], "usage": {"prompt_tokens": 9, "total_tokens": 9}}).encode()
    with Fake(lambda h, n: h.say(200, body)) as f:
        d = report(f.url, "--api", "embeddings", "--inputs", "5", "-n", "4", "-w", "3")
        assert d["texts"] == 20 and d["prompt_tokens"] == 36 and d["ok"] == 4
        texts = [t for b in f.bodies for t in b["input"]]
        assert len(texts) == len(set(texts)) == 20 and all(len(t.split()) == 3 for t in texts)


def test_errors_are_told_apart():
    def reply(h, n):
        if n % 4 == 0:
            h.say(429, b'{"error":{"message":"too many"}}')
        elif n % 4 == 1:
            h.say(200, stream(piece("x"), '{"error":{"message":"it broke"}}'), "text/event-stream")
        elif n % 4 == 2:
            h.say(200, stream(piece("x")), "text/event-stream")
        else:
            h.say(200, stream(piece("x"), "[DONE]"), "text/event-stream")
    with Fake(reply) as f:
        d = report(f.url, "-n", "12")
    assert d["ok"] == 3 and d["failed"] == 9
    assert {e["what"]: e["n"] for e in d["errors"]} == {
        "429 Too Many Requests: too many": 3, "it broke": 3, "the stream ended without [DONE]": 3}


@pytest.mark.parametrize("body, kind", [
    (b"not json", "application/json"), (b"[]", "application/json"), (b"", "application/json"),
    (stream("{"), "text/event-stream"), (stream('"x"'), "text/event-stream"), (b"", "text/event-stream")])
def test_gives_up_on_nonsense(body, kind):
    with Fake(lambda h, n: h.say(200, body, kind)) as f:
        assert "no request was answered" in refused(f.url, "-n", "1000")
        assert f.n == 32


def test_a_server_that_falls_silent():
    with Fake(lambda h, n: time.sleep(4)) as f:
        start = time.monotonic()
        assert "no request was answered: the upstream" in refused(f.url, "-n", "1", "--timeout", "1")
        assert f.n == 1 and time.monotonic() - start < 3


def test_nobody_listens():
    with socket.socket() as s:
        s.bind(("127.0.0.1", 0))
        url = f"http://127.0.0.1:{s.getsockname()[1]}"
        assert "cannot be reached" in refused(url)
        assert "cannot be reached" in refused(url, "-m", "x")
    assert "reached" in refused("unix:/tmp/bud-no-such.sock")


@pytest.mark.parametrize("url, said", [
    ("localhost:8080", "http://HOST:PORT"), ("https://", "host"), ("http://", "host"), ("", "http://"),
    ("http://h:99999", "port"), ("http://u@h", "host"), ("http://h/v1?a", "path"), ("unix:", "socket"),
    ("http://no.such.host.invalid", "no.such.host.invalid")])
def test_bad_urls(url, said):
    assert said in refused(url)


@pytest.mark.parametrize("words, said", [
    (["--clients", "0"], "--clients 0"), (["--clients", "5000"], "1024"), (["--rate", "0"], "--rate 0"),
    (["--rate", "1", "--clients", "2"], "exclude"), (["--api", "images"], "embeddings"), (["-n", "0"], "--requests"),
    (["--words", "0"], "empty"), (["--inputs", "3"], "--api embeddings"), (["--max-tokens", "0"], "--max-tokens"),
    (["--temp", "3"], "--temp"), (["--timeout", "soon"], "--timeout"), (["--key", "k" * 1001], "1000 bytes"),
    (["--model", "m" * 300], "--model")])
def test_bad_options(words, said):
    assert said in refused("http://127.0.0.1:1", *words)


def test_a_key_that_may_not_be_sent():
    assert "header" in refused("http://127.0.0.1:1", "-k", "a\nb")
