"""Keys, limits, catalogue and fail-over through the program, judged by the official SDK."""
import http.server
import json
import os
import signal
import subprocess
import threading

import openai
import pytest

from budlib import BUD, MODEL, ROOT, Serve, bud, eventually


def key_of(server, *words):
    run = bud("key", "create", "--json", *words, home=server.home)
    assert run.returncode == 0, run.stderr
    return json.loads(run.stdout)


def sdk(server, key):
    return openai.OpenAI(base_url=server.url + "/v1", api_key=key, max_retries=0)


def ask(client, model=MODEL, **more):
    return client.completions.create(model=model, prompt="Once", **{"max_tokens": 4, **more})


def known(server, key):
    """Waits until the running server knows the key."""
    def look():
        try:
            sdk(server, key).models.list()
            return True
        except openai.AuthenticationError:
            return False
        except openai.PermissionDeniedError:
            return True
    assert eventually(look)


CATALOGUE = """
projects:
  - {name: small, models: ["tale*"], limits: {tokens_per_day: 600}}
models:
  - name: tale
    versions: [{name: v1, upstreams: [local], model: %s}]
  - {name: tales, alias: tale}
""" % MODEL


@pytest.fixture(scope="module")
def server(tmp_path_factory):
    path = tmp_path_factory.mktemp("catalogue") / "catalogue.yaml"
    path.write_text(CATALOGUE)
    s = Serve("--catalogue", str(path))
    s.catalogue = path
    yield s
    s.stop()


def test_limits_raise_the_sdks_errors(server):
    key = key_of(server, "--limit", "requests_per_minute=2", "--limit", "tokens_per_minute=5000")
    known(server, key["key"])
    client = sdk(server, key["key"])
    raw = client.completions.with_raw_response.create(model=MODEL, prompt="Once", max_tokens=4)
    assert raw.headers["x-ratelimit-limit-requests"] == "2"
    assert raw.headers["x-ratelimit-remaining-requests"] == "1"
    assert raw.headers["x-ratelimit-reset-requests"].endswith("s")
    # What it used comes back at 83 tokens a second, so a slow machine may see all of them again.
    assert 4900 < int(raw.headers["x-ratelimit-remaining-tokens"]) <= 5000
    ask(client)
    with pytest.raises(openai.RateLimitError) as caught:
        ask(client)
    assert caught.value.code == "rate_limit_exceeded"
    assert 0 < float(caught.value.response.headers["retry-after"]) <= 30


def test_a_prompt_that_no_limit_could_hold_is_400(server):
    """Trying again would not help, so the SDK must not."""
    key = key_of(server, "--limit", "tokens_per_minute=100")
    known(server, key["key"])
    client = sdk(server, key["key"])
    with pytest.raises(openai.BadRequestError) as caught:
        client.completions.create(model=MODEL, prompt="Once upon a time " * 20, max_tokens=4)
    assert caught.value.code == "context_length_exceeded" and "100" in caught.value.message
    ask(client)


def test_a_budget_is_never_passed_by_many_at_once(server):
    key = key_of(server, "--project", "small")
    known(server, key["key"])
    client = sdk(server, key["key"])
    spent, refused = [], []

    def spend():
        for _ in range(6):
            try:
                spent.append(ask(client, model="tales", max_tokens=20).usage.total_tokens)
            except openai.RateLimitError as e:
                refused.append(e.code)
    threads = [threading.Thread(target=spend) for _ in range(16)]
    [t.start() for t in threads]
    [t.join() for t in threads]
    assert "insufficient_quota" in refused
    assert sum(spent) <= 600
    while True:  # what was given back is there to be spent
        try:
            spent.append(ask(client, model="tale", max_tokens=20).usage.total_tokens)
        except openai.RateLimitError:
            break
    assert 500 < sum(spent) <= 600


def test_scopes_and_projects(server):
    chat = key_of(server, "--scope", "chat", "--scope", "model:tale")
    small = key_of(server, "--project", "small")
    known(server, chat["key"])
    known(server, small["key"])
    with pytest.raises(openai.PermissionDeniedError):
        ask(sdk(server, chat["key"]), model="tale")
    assert [m.id for m in sdk(server, small["key"]).models.list()] == ["tale", "tales"]
    with pytest.raises(openai.NotFoundError):
        ask(sdk(server, small["key"]), model=MODEL)


def test_keys_are_rotated_and_revoked(server):
    key = key_of(server, "--name", "to rotate")
    known(server, key["key"])
    run = bud("key", "rotate", key["id"], "--overlap", "1h", "--json", home=server.home)
    new = json.loads(run.stdout)
    known(server, new["key"])
    ask(sdk(server, key["key"]))  # both are valid now
    assert bud("key", "revoke", key["id"], home=server.home).returncode == 0

    def refused():
        try:
            ask(sdk(server, key["key"]))
            return False
        except openai.AuthenticationError:
            return True
    assert eventually(refused)
    ask(sdk(server, new["key"]))
    show = eventually(lambda: json.loads(bud("key", "show", new["id"], home=server.home).stdout)["last_used"])
    assert show > 0
    assert bud("key", "create", "--limit", "requests=1", home=server.home).returncode != 0
    assert bud("key", "create", "--scope", "all", home=server.home).returncode != 0


def test_reload_under_load_and_rollback(server):
    key = key_of(server)
    known(server, key["key"])
    client = sdk(server, key["key"])
    failed, stop = [], threading.Event()

    def load():
        while not stop.is_set():
            try:
                ask(client, model="tale")
            except openai.APIError as e:
                failed.append(e)
    threads = [threading.Thread(target=load) for _ in range(4)]
    [t.start() for t in threads]
    server.catalogue.write_text(CATALOGUE + "  - {name: fable, alias: tale}\n")
    os.kill(server.pid, signal.SIGHUP)
    assert eventually(lambda: "fable" in [m.id for m in client.models.list()])
    server.catalogue.write_text(CATALOGUE + "  - {name: fable, alais: tale}\n")
    os.kill(server.pid, signal.SIGHUP)
    warned = eventually(lambda: server.events("config-warn"))
    assert "did you mean alias" in warned[-1]["error.message"]
    ask(client, model="fable")  # what was in force still is
    stop.set()
    [t.join() for t in threads]
    assert not failed
    server.catalogue.write_text(CATALOGUE)


def test_a_gateway_alone_survives_the_death_of_an_upstream(tmp_path):
    backs = [Serve(), Serve()]
    env = {"ONE": backs[0].key, "TWO": backs[1].key}
    lines = [f'  - {{name: u{i}, url: "{b.url}", key_env: {n}}}' for i, (b, n) in enumerate(zip(backs, env))]
    catalogue = tmp_path / "c.yaml"
    catalogue.write_text("upstreams:\n" + "\n".join(lines) + "\nmodels:\n  - name: story\n    balance: round_robin\n"
                         "    versions: [{name: v1, upstreams: [u0, u1], model: %s}]\n" % MODEL)
    boot = tmp_path / "key"
    boot.write_text(backs[0].key + "\n")
    front = Serve("--catalogue", str(catalogue), env={**env, "BUD_BOOTSTRAP_KEY_FILE": str(boot)}, role="gateway")
    try:
        client = sdk(front, backs[0].key)
        assert [m.id for m in client.models.list()] == ["story"]
        for _ in range(4):
            assert ask(client, model="story").usage.completion_tokens == 4
        text = "".join(c.choices[0].text for c in ask(client, model="story", stream=True))
        assert text
        os.kill(backs[1].pid, signal.SIGKILL)
        for _ in range(12):
            ask(client, model="story")
        stored = open(os.path.join(front.home, "meta.db"), "rb").read()
        assert backs[0].key.encode() not in stored
    finally:
        front.stop()
        [b.stop() for b in backs]


def test_settings_are_checked_and_shown(tmp_path):
    conf = tmp_path / "bud.yaml"
    conf.write_text("listen: 127.0.0.1:9999\ngateway: {wait_ms: 5}\n")
    assert bud("config", "check", "--config", str(conf)).returncode == 0
    diff = bud("config", "diff", "--config", str(conf), env={"BUD_LOG_LEVEL": "warn"}).stdout
    assert diff == 'listen: "127.0.0.1:9999"\nlog_level: "warn"\ngateway:\n  wait_ms: 5\n'
    shown = tmp_path / "shown.yaml"
    shown.write_text(bud("config", "show", "--config", str(conf)).stdout)
    assert bud("config", "diff", "--config", str(shown)).stdout == 'listen: "127.0.0.1:9999"\ngateway:\n  wait_ms: 5\n'
    conf.write_text("lisen: x\n")
    bad = bud("config", "check", "--config", str(conf))
    assert bad.returncode == 1 and "did you mean listen" in bad.stderr
    with open(os.path.join(ROOT, "docs", "configuration.md"), encoding="utf-8") as page:
        assert page.read().endswith(subprocess.run([BUD, "config", "doc"], capture_output=True, text=True).stdout)


@pytest.mark.parametrize("text", ["", "sk-one\nsk-two\n"])
def test_an_upstreams_key_is_one_line(tmp_path, text):
    (tmp_path / "far").write_text(text)
    catalogue = tmp_path / "c.yaml"
    catalogue.write_text(f'upstreams: [{{name: u, url: "http://127.0.0.1:1", key_file: {tmp_path}/far}}]\n')
    run = bud("gateway", "--listen", "127.0.0.1:0", "--admin-listen", "127.0.0.1:0", "--catalogue", str(catalogue),
              home=str(tmp_path / "home"), timeout=20)
    assert run.returncode == 1 and "upstream u" in run.stderr and "one line" in run.stderr


class Recorder(http.server.BaseHTTPRequestHandler):
    """Answers whatever it is asked, and notes whose key came."""
    protocol_version = "HTTP/1.1"

    def do_POST(self):
        self.rfile.read(int(self.headers["content-length"]))
        self.server.keys.append(self.headers["authorization"])
        body = b'{"object":"text_completion"}'
        self.send_response(200)
        self.send_header("content-length", str(len(body)))
        self.end_headers()
        self.wfile.write(body)

    def log_message(self, *_):
        pass


def test_a_moved_upstream_never_gets_the_old_ones_key(tmp_path):
    """A request that began under the old catalogue goes to the new address, with the key of that."""
    backs = [http.server.ThreadingHTTPServer(("127.0.0.1", 0), Recorder) for _ in range(2)]
    for b in backs:
        b.keys = []
        threading.Thread(target=b.serve_forever, daemon=True).start()
    catalogue = tmp_path / "c.yaml"

    def point_at(i):
        catalogue.write_text(f'upstreams: [{{name: u, url: "http://127.0.0.1:{backs[i].server_port}", key_env: KEY{i}}}]\n'
                             "models: [{name: m, versions: [{name: v, upstreams: [u]}]}]\n")
    point_at(0)
    boot = tmp_path / "key"
    boot.write_text("sk-bud-" + "g" * 43 + "\n")
    with Serve("--catalogue", str(catalogue), role="gateway",
               env={"KEY0": "sk-old", "KEY1": "sk-new", "BUD_BOOTSTRAP_KEY_FILE": str(boot)}) as front:
        front.key = "sk-bud-" + "g" * 43
        body = {"model": "m", "prompt": "p"}
        assert front.request("POST", "/v1/completions", body).status == 200
        text = json.dumps(body).encode()
        with front.raw() as slow:
            slow.send(f"POST /v1/completions HTTP/1.1\r\nHost: x\r\nAuthorization: Bearer {front.key}\r\n"
                      f"Content-Length: {len(text)}\r\n\r\n".encode() + text[:5])
            point_at(1)
            os.kill(front.pid, signal.SIGHUP)

            def moved():
                front.request("POST", "/v1/completions", body)
                return backs[1].keys
            assert eventually(moved)
            slow.send(text[5:])
            assert slow.response().status == 200
    assert set(backs[0].keys) == {"Bearer sk-old"} and set(backs[1].keys) == {"Bearer sk-new"}
    for b in backs:
        b.shutdown()
        b.server_close()
