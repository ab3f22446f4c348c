"""The model server dies, the program is stopped and started again: what clients see."""
import json
import os
import re
import resource
import signal
import subprocess
import tempfile
import threading
import time

import openai
import pytest

from budlib import BUD, MODEL, MODEL_FILE, SLOW, Raw, Serve, bud, eventually, sse_events

LONG = {"model": MODEL, "prompt": "Once upon a time", "temperature": 0, "max_tokens": 300, "ignore_eos": True}


class Watch(threading.Thread):
    """Asks the front door for its health without a pause; nothing but 200 is right."""

    def __init__(self, port):
        super().__init__()
        self.port, self.wrong, self.n, self.over = port, [], 0, threading.Event()

    def run(self):
        while not self.over.wait(0.02):
            try:
                with Raw(self.port, timeout=2) as raw:
                    raw.request("GET", "/livez")
                    if raw.response().status != 200:
                        self.wrong.append("status")
            except (OSError, AssertionError) as e:
                self.wrong.append(repr(e))
            self.n += 1

    def __enter__(self):
        self.start()
        return self

    def __exit__(self, *exc):
        self.over.set()
        self.join()


class Stream(threading.Thread):
    """A streamed completion; `begun` once its first event is here."""

    def __init__(self, served, **change):
        super().__init__()
        self.served, self.body = served, {**LONG, "stream": True, **change}
        self.begun = threading.Event()
        self.data, self.error, self.status = b"", None, 0

    def run(self):
        try:
            with self.served.raw(timeout=60) as raw:
                raw.request("POST", "/v1/completions", self.body, [f"Authorization: Bearer {self.served.key}"])
                head = raw.head()
                self.status = int(head.split()[1])
                while True:
                    piece = raw.chunk()
                    if not piece:
                        return
                    self.data += piece
                    self.begun.set()
        except (OSError, AssertionError) as e:
            self.error = repr(e)
        finally:
            self.begun.set()

    def events(self):
        assert self.error is None, f"the stream was cut: {self.error}"
        return sse_events(self.data)


class Call(threading.Thread):
    """A completion that is not streamed."""

    def __init__(self, served, **change):
        super().__init__()
        self.served, self.body, self.response = served, {**LONG, "max_tokens": 4, **change}, None

    def run(self):
        self.response = self.served.request("POST", "/v1/completions", self.body)


def kill_child(s):
    pid = s.child()
    assert pid is not None
    os.kill(pid, signal.SIGKILL)
    return pid


def is_ready(s):
    return s.request("GET", "/readyz", key=None).status == 200


# ---- the model server is killed ----


def test_kill_9_under_load():
    """Two places in the batch: two streams are live, two more and four calls are in line behind
    them. The live ones end with an error event, the others are answered by the next child."""
    with Serve(*SLOW, "--parallel", "2") as s:
        live = [Stream(s) for _ in range(2)]
        for t in live:
            t.start()
        assert all(t.begun.wait(10) for t in live)
        waiting = [Stream(s, max_tokens=3) for _ in range(2)] + [Call(s) for _ in range(4)]
        for t in waiting:
            t.start()
        time.sleep(0.3)
        with Watch(s.port) as watch:
            start = time.monotonic()
            before = kill_child(s)
            late = Call(s)  # comes while there is no model server
            late.start()
            assert eventually(lambda: not is_ready(s), 1) or s.child() not in (None, before)
            assert eventually(lambda: is_ready(s) and s.child() not in (None, before), 5)
            back_s = time.monotonic() - start
            for t in [*live, *waiting, late]:
                t.join(60)
                assert not t.is_alive()
        assert back_s < 2.5, f"back after {back_s:.1f} s"
        assert watch.wrong == [] and watch.n > 10
        for t in live:
            events = t.events()
            assert "[DONE]" not in events, "a broken answer must not look complete"
            error = json.loads(events[-1])["error"]
            assert set(error) == {"message", "type", "param", "code"} and error["message"]
        for t in waiting[:2]:
            assert t.status == 200 and t.events()[-1] == "[DONE]"
        for t in [*waiting[2:], late]:
            assert t.response.status == 200 and t.response.json()["usage"]["completion_tokens"] == 4
        assert s.events("child-exit")[0]["signal"] == 9


def test_the_sdk_raises_when_a_live_stream_breaks():
    with Serve(*SLOW) as s, s.openai() as c:
        stream = c.completions.create(model=MODEL, prompt="Once", max_tokens=300, stream=True,
                                      extra_body={"ignore_eos": True})
        next(stream)
        kill_child(s)
        with pytest.raises(openai.APIError) as caught:
            for _ in stream:
                pass
        assert not isinstance(caught.value, openai.APIConnectionError), "an error event, no cut connection"
        assert c.completions.create(model=MODEL, prompt="Once", max_tokens=2).usage.completion_tokens == 2


def test_kill_9_again_and_again():
    with Serve() as s, Watch(s.port) as watch:
        for _ in range(3):
            before = kill_child(s)
            assert s.request("POST", "/v1/completions", {**LONG, "max_tokens": 2}).status == 200
            assert s.child() not in (None, before)
        assert watch.wrong == []
        page = s.request("GET", "/metrics", admin=True).body.decode()
        assert re.search(r"^bud_server_restarts_total 3$", page, re.M)


def test_readyz_tells_the_truth():
    with Serve() as s:
        os.kill(s.child(), signal.SIGSTOP)  # dead to the world, but the socket is still there
        try:
            assert is_ready(s), "one missed probe is not yet a death"
        finally:
            kill_child(s)
        assert eventually(lambda: not is_ready(s), 1, 0.005)
        assert eventually(lambda: is_ready(s), 5)


def test_the_child_ends_with_its_parent():
    s = Serve()
    try:
        child = s.child()
        s.process.kill()
        s.process.wait()
        assert eventually(lambda: not os.path.exists(f"/proc/{child}"), 5)
    finally:
        s.stop()


# ---- stopping ----


def test_sigterm_lets_live_streams_finish():
    with Serve(*SLOW) as s:
        stream = Stream(s, max_tokens=60)
        stream.start()
        assert stream.begun.wait(10)
        s.signal(signal.SIGTERM)
        assert s.wait(30) == 0
        stream.join(5)
        events = stream.events()
        assert events[-1] == "[DONE]" and len(events) > 20
        with pytest.raises(ConnectionRefusedError):
            s.raw()
        assert eventually(lambda: s.child() is None, 2)


def test_a_second_sigterm_ends_at_once():
    with Serve(*SLOW) as s:
        stream = Stream(s, max_tokens=900)
        stream.start()
        assert stream.begun.wait(10)
        s.signal(signal.SIGTERM)
        time.sleep(0.2)
        assert s.process.poll() is None, "it waits for the stream"
        start = time.monotonic()
        s.signal(signal.SIGTERM)
        assert s.wait(10) == 0
        assert time.monotonic() - start < 3
        stream.join(5)
        assert b"[DONE]" not in stream.data


@pytest.mark.parametrize("signum", [signal.SIGTERM, signal.SIGINT])
def test_an_idle_program_stops_at_once(signum):
    with Serve() as s:
        child, start = s.child(), time.monotonic()
        s.signal(signum)
        assert s.wait(10) == 0
        assert time.monotonic() - start < 3
        assert not os.path.exists(f"/proc/{child}")
        assert [n for n in os.listdir(s.home) if n.endswith(".sock")] == []


# ---- keys ----


def test_keys_stay_over_a_restart(tmp_path):
    with Serve(home=str(tmp_path)) as first:
        key = first.key
        assert re.fullmatch(r"sk-bud-[A-Za-z0-9_-]{43}", key)
        assert first.output().count(key) == 1
    with Serve(home=str(tmp_path)) as second:
        assert second.key is None and "sk-bud-" not in second.output()
        second.key = key
        assert second.request("GET", "/v1/models").status == 200
    for folder, _, names in os.walk(tmp_path):
        for name in names:
            path = os.path.join(folder, name)
            with open(path, "rb") as f:
                assert key.encode() not in f.read(), f"{name} holds the key itself"
            assert os.stat(path).st_mode & 0o077 == 0, f"{name} can be read by others"


def test_bootstrap_key_file(tmp_path):
    key = "sk-bud-" + "k" * 43
    path = tmp_path / "first"
    path.write_text(key + "\n")
    with Serve(env={"BUD_BOOTSTRAP_KEY_FILE": str(path)}) as s:
        assert s.key is None and key not in s.output()
        s.key = key
        assert s.request("GET", "/v1/models").status == 200


@pytest.mark.parametrize("content", [None, "", "short", "two words of text that are no key at all, surely not"])
def test_bad_bootstrap_key_file(tmp_path, content):
    path = tmp_path / "first"
    if content is not None:
        path.write_text(content)
    run = bud("serve", "--listen", "127.0.0.1:0", "--admin-listen", "127.0.0.1:0", home=str(tmp_path / "home"),
              env={"BUD_BOOTSTRAP_KEY_FILE": str(path)}, timeout=20)
    assert run.returncode == 1 and run.stderr.startswith("bud serve: ") and run.stderr.count("\n") == 1


def test_two_on_one_home(tmp_path):
    with Serve(home=str(tmp_path)) as first, Serve(home=str(tmp_path)) as second:
        assert first.key and second.key is None
        second.key = first.key
        for s in (first, second):
            assert s.request("POST", "/v1/completions", {**LONG, "max_tokens": 2}).status == 200
        kill_child(first)
        assert second.request("POST", "/v1/completions", {**LONG, "max_tokens": 2}).status == 200
        assert first.request("POST", "/v1/completions", {**LONG, "max_tokens": 2}).status == 200


def test_several_starting_together_make_one_key(tmp_path):
    several = [Serve(home=str(tmp_path), wait=False) for _ in range(4)]
    try:
        for s in several:
            s.wait_ready()
        keys = [s.key for s in several if s.key]
        assert len(keys) == 1
        for s in several:
            s.key = keys[0]
            assert s.request("GET", "/v1/models").status == 200
    finally:
        for s in several:
            s.stop()


# ---- starts that must fail, with words ----


def refused_start(tmp_path, *words, **how):
    start = time.monotonic()
    run = subprocess.run([BUD, "serve", "--listen", "127.0.0.1:0", "--admin-listen", "127.0.0.1:0", *words],
                         capture_output=True, text=True, env=dict(os.environ, BUD_HOME=str(tmp_path / "home")),
                         timeout=30, stdin=subprocess.DEVNULL, **how)
    assert run.returncode == 1, run
    assert time.monotonic() - start < 10
    assert "is ready." not in run.stdout and "sk-bud-" not in run.stdout, "no key is used up by a start that fails"
    assert "crash" not in run.stderr and "assertion" not in run.stderr
    return run.stderr


def test_a_broken_model_file(tmp_path):
    with open(MODEL_FILE, "rb") as f:
        data = f.read()
    broken = tmp_path / "broken.gguf"
    for content in (b"", b"not a model", data[:1000], data[:-100], b"GGUF" + b"\xff" * 100):
        broken.write_bytes(content)
        said = refused_start(tmp_path, "--model", str(broken))
        assert "broken.gguf" in said, said


def test_the_key_is_shown_after_a_failed_first_start(tmp_path):
    """A start that failed used no key up: the next one shows one that works."""
    refused_start(tmp_path, "--model", "/dev/null")
    with Serve(home=str(tmp_path / "home")) as s:
        assert s.key and s.request("GET", "/v1/models").status == 200


def test_absent_model(tmp_path):
    assert "nope.gguf" in refused_start(tmp_path, "--model", "nope.gguf")
    assert "nope" in refused_start(tmp_path, "--model", "nope")


def test_port_in_use(tmp_path):
    with Serve() as s:
        said = refused_start(tmp_path, "--listen", f"127.0.0.1:{s.port}")
        assert str(s.port) in said and "in use" in said
        said = refused_start(tmp_path, "--admin-listen", f"127.0.0.1:{s.port}")
        assert str(s.port) in said and "in use" in said


def test_home_that_cannot_be(tmp_path):
    (tmp_path / "home").write_text("a file")
    assert str(tmp_path / "home") in refused_start(tmp_path)


def test_a_limit_on_file_sizes_is_said(tmp_path):
    said = refused_start(tmp_path, preexec_fn=lambda: resource.setrlimit(resource.RLIMIT_FSIZE, (1 << 20, 1 << 20)))
    assert "usage journal: cannot make room" in said


@pytest.mark.parametrize("option", ["--listen", "--admin-listen"])
def test_plain_http_for_others_needs_a_word(tmp_path, option):
    said = refused_start(tmp_path, option, "0.0.0.0:0")
    assert option in said and "--tls off" in said


def test_plain_http_for_others_with_that_word():
    with tempfile.TemporaryDirectory() as home:
        with Serve("--tls", "off", "--listen", "0.0.0.0:0", home=home) as s:
            s.url = s.url.replace("0.0.0.0", "127.0.0.1")
            assert s.request("GET", "/v1/models").status == 200


def test_two_models_and_given_names():
    with Serve("--model", f"tale={MODEL_FILE}", "--model", MODEL) as s:
        assert [m["id"] for m in s.request("GET", "/v1/models").json()["data"]] == ["tale", MODEL]
        for name in ("tale", MODEL):
            assert s.request("POST", "/v1/completions", {**LONG, "model": name, "max_tokens": 2}).status == 200


def test_two_models_of_one_name(tmp_path):
    assert MODEL in refused_start(tmp_path, "--model", MODEL, "--model", MODEL_FILE)


# ---- more than the line holds ----


@pytest.fixture(scope="module")
def full():
    """A server whose line is full, held by streams; and the answer to one request more."""
    with Serve(*SLOW, "--parallel", "1") as s:
        held = [Stream(s, prompt=["x"] * 128, max_tokens=500) for _ in range(4)]
        for t in held:
            t.start()
        assert eventually(lambda: any(t.status not in (0, 200) for t in held), 20)
        r = s.request("POST", "/v1/completions", {**LONG, "prompt": ["x"] * 128, "max_tokens": 1})
        yield r
        s.signal(signal.SIGTERM)
        s.signal(signal.SIGTERM)
        for t in held:
            t.join(10)


def test_a_full_line_refuses(full):
    assert full.status in (429, 503), full.head
    assert full.error()["code"]


def test_a_full_line_says_when_to_come_again(full):
    assert full.get("x-should-retry") == "true" and 0 < int(full.get("retry-after")) <= 120
