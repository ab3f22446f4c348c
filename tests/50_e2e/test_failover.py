"""Servers die, restart and stop behind a gateway under load: what clients see. No request that has not begun to
stream may fail."""
import os
import re
import signal
import threading

import openai
import pytest

from budlib import MODEL, SLOW, Serve, eventually

CATALOGUE = """
upstreams:
%s
models:
  - name: story
    balance: round_robin
    versions: [{name: v1, upstreams: [%s], model: %s, hedge_ms: %d}]
"""


class Front:
    """A gateway before `backs`; its key is the first one's."""

    def __init__(self, folder, backs, conf="", hedge_ms=0):
        self.boot = folder / "key"
        self.boot.write_text(backs[0].key + "\n")
        lines = [f'  - {{name: u{i}, url: "{b.url}", key_env: KEY{i}, kind: bud}}' for i, b in enumerate(backs)]
        catalogue = folder / "catalogue.yaml"
        catalogue.write_text(CATALOGUE % ("\n".join(lines), ", ".join(f"u{i}" for i in range(len(backs))), MODEL, hedge_ms))
        settings = folder / "bud.yaml"
        settings.write_text(f"catalogue: {catalogue}\n{conf}")
        env = {f"KEY{i}": b.key for i, b in enumerate(backs)}
        self.serve = Serve("--config", str(settings), role="gateway", env={**env, "BUD_BOOTSTRAP_KEY_FILE": str(self.boot)})
        self.serve.key = backs[0].key

    def client(self, **more):
        return openai.OpenAI(base_url=self.serve.url + "/v1", api_key=self.serve.key, max_retries=0, timeout=80, **more)

    def metric(self, name):
        page = self.serve.request("GET", "/metrics", admin=True).body.decode()
        found = re.search(rf"^{re.escape(name)} (\d+)$", page, re.M)
        return int(found.group(1)) if found else 0

    def __enter__(self):
        return self

    def __exit__(self, *exc):
        self.serve.stop()


class Load(threading.Thread):
    """Asks again and again, whole and streamed in turn, until it is told to stop."""

    def __init__(self, front):
        super().__init__()
        self.client, self.over = front.client(), threading.Event()
        self.n_answered, self.cut, self.failed = 0, 0, []

    def one(self, stream):
        begun = False
        try:
            answer = self.client.completions.create(model="story", prompt="Once", max_tokens=8, stream=stream,
                                                    extra_body={"ignore_eos": True})
            if stream:
                for _ in answer:
                    begun = True
            self.n_answered += 1
        except openai.APIConnectionError as e:
            self.failed.append(f"the connection broke: {e!r}")  # never: an error is an answer or an event
        except openai.APIError as e:
            if begun:
                self.cut += 1
            else:
                self.failed.append(repr(e))

    def run(self):
        stream = False
        while not self.over.is_set():
            self.one(stream)
            stream = not stream


class Loads:
    def __init__(self, front, n):
        self.all = [Load(front) for _ in range(n)]

    def answered(self):
        return sum(t.n_answered for t in self.all)

    def more(self, n):
        """Waits for so many answers more."""
        due = self.answered() + n
        assert eventually(lambda: self.answered() >= due, 60), [t.failed for t in self.all]

    def __enter__(self):
        for t in self.all:
            t.start()
        return self

    def __exit__(self, *exc):
        for t in self.all:
            t.over.set()
        for t in self.all:
            t.join()


@pytest.fixture
def backs():
    both = [Serve(), Serve()]
    yield both
    for b in both:
        if b.process.poll() is None:
            os.kill(b.pid, signal.SIGCONT)
        b.stop()


def test_kill_9_with_a_second_server(tmp_path, backs):
    with Front(tmp_path, backs, "gateway: {loops: 3}\n") as front:
        with Loads(front, 6) as loads:
            loads.more(12)
            os.kill(backs[1].pid, signal.SIGKILL)
            loads.more(40)
        assert [t.failed for t in loads.all] == [[]] * 6
        assert sum(t.cut for t in loads.all) <= 6, "at most what was streaming"


def test_kill_9_while_the_only_server_restarts(tmp_path):
    home = tmp_path / "home"
    home.mkdir()
    first = Serve(home=str(home))
    port, key = first.port, first.key
    with Front(tmp_path, [first]) as front:
        with Loads(front, 6) as loads:
            loads.more(12)
            os.kill(first.pid, signal.SIGKILL)
            first.process.wait()
            again = Serve("--listen", f"127.0.0.1:{port}", home=str(home))
            try:
                again.key = key
                loads.more(24)
            finally:
                for t in loads.all:
                    t.over.set()
                for t in loads.all:
                    t.join()
                again.stop()
                first.stop()
        assert [t.failed for t in loads.all] == [[]] * 6
        assert front.metric("bud_upstream_retries_total") > 0


@pytest.mark.parametrize("stream", [True, False])
def test_a_slow_server_has_another_one_asked(tmp_path, backs, stream):
    """One is stopped and takes requests all the same; whoever is sent there has the other's answer, long before
    health checks or deadlines would say anything."""
    with Front(tmp_path, backs, hedge_ms=50) as front:
        client = front.client()
        os.kill(backs[0].pid, signal.SIGSTOP)
        try:
            for _ in range(6):
                answer = client.completions.create(model="story", prompt="Once", max_tokens=4, stream=stream,
                                                   extra_body={"ignore_eos": True})
                text = "".join(e.choices[0].text for e in answer if e.choices) if stream else answer.choices[0].text
                assert text
        finally:
            os.kill(backs[0].pid, signal.SIGCONT)
        assert front.metric('bud_hedges_total{won="second"}') >= 1
        assert front.metric('bud_hedges_total{won="none"}') == 0


class Reader(threading.Thread):
    """Takes a stream's events as they come. `n_events` of them came so far; the last one tells the `usage`."""

    def __init__(self, stream):
        super().__init__()
        self.stream, self.n_events, self.usage = stream, 0, None

    def run(self):
        for event in self.stream:
            self.n_events += 1
            self.usage = event.usage


def test_a_server_that_hangs_is_passed_over(tmp_path):
    """Stopped in the middle of a stream: the next requests go to the other one; set going again, the stream ends
    as if nothing had been. The streams are long, so that the one is not over before its server stops; the other
    one is awaited, so that its server owes nothing when the next requests choose."""
    n_tokens = 400
    both = [Serve(*SLOW), Serve(*SLOW)]
    try:
        with Front(tmp_path, both) as front:
            client = front.client()
            readers = [Reader(client.completions.create(model="story", prompt="Once", max_tokens=n_tokens, stream=True,
                                                        stream_options={"include_usage": True},
                                                        extra_body={"ignore_eos": True})) for _ in both]
            for r in readers:
                r.start()
            assert eventually(lambda: all(r.n_events > 0 for r in readers), 30), "one on each"
            os.kill(both[1].pid, signal.SIGSTOP)

            def suspected():
                return [e for e in front.serve.events("upstream-suspect") if e["upstream"] == "u1"]
            assert eventually(suspected, 30)
            assert 1500 <= suspected()[0]["silent_ms"]
            assert eventually(lambda: not all(r.is_alive() for r in readers), 60)
            for _ in range(3):
                client.completions.create(model="story", prompt="Once", max_tokens=1)
            assert front.metric("bud_upstream_suspects_total") >= 1
            assert any(r.is_alive() for r in readers), "the stopped server's stream waits for it"
            os.kill(both[1].pid, signal.SIGCONT)
            for r in readers:
                r.join()
                assert r.usage.completion_tokens == n_tokens
            assert eventually(lambda: front.serve.events("upstream-well"))
    finally:
        for b in both:
            os.kill(b.pid, signal.SIGCONT)
            b.stop()


def test_the_head_waits_and_a_later_failure_is_an_event(tmp_path):
    """No head goes out while the answer may still be any; once silence has sent it, an error is the last event."""
    back = Serve(*SLOW)
    child = back.child()
    try:
        with Front(tmp_path, [back], "gateway: {ping_ms: 300, wait_ms: 3000}\n") as front:
            os.kill(child, signal.SIGSTOP)
            with front.serve.raw(timeout=60) as raw:
                raw.request("POST", "/v1/completions", {"model": "story", "prompt": "Once", "stream": True},
                            [f"Authorization: Bearer {front.serve.key}"])
                assert raw.head().startswith(b"HTTP/1.1 200")
                assert raw.chunk().startswith(b":"), "a comment"
                os.kill(back.pid, signal.SIGKILL)
                data = b""
                while True:
                    piece = raw.chunk()
                    if not piece:
                        break
                    data += piece
                assert b'data: {"error":' in data and b"[DONE]" not in data
    finally:
        os.kill(child, signal.SIGKILL)  # stopped, it does not see that its parent is gone
        back.stop()


def test_drain_lets_streams_end(tmp_path):
    back = Serve(*SLOW)
    try:
        with Front(tmp_path, [back]) as front:
            stream = front.client().completions.create(model="story", prompt="Once", max_tokens=30, stream=True,
                                                       extra_body={"ignore_eos": True})
            next(stream)
            front.serve.signal(signal.SIGTERM)
            assert sum(1 for _ in stream) >= 28
            assert front.serve.wait(30) == 0
            with pytest.raises(ConnectionRefusedError):
                front.serve.raw()
    finally:
        back.stop()
