"""llama-cpp-python's server as a real second engine behind the gateway, beside one of ours, judged by the official
SDK. `make test-peers`: it is built from PyPI, which takes minutes, so this is no part of `make test`."""
import os
import socket
import subprocess

import openai
import pytest

from budlib import MODEL, MODEL_FILE, ROOT, Serve, eventually

PEER = os.path.join(ROOT, "build", "peers", "llama", "bin", "python")
KEY = "sk-bud-" + "p" * 43


def free_port():
    with socket.socket() as s:
        s.bind(("127.0.0.1", 0))
        return s.getsockname()[1]


@pytest.fixture(scope="module")
def peer(tmp_path_factory):
    port = free_port()
    log = tmp_path_factory.mktemp("peer") / "log"
    with open(log, "wb") as out:
        child = subprocess.Popen([PEER, "-m", "llama_cpp.server", "--model", MODEL_FILE, "--model_alias", "peer-model",
                                  "--host", "127.0.0.1", "--port", str(port), "--n_ctx", "512", "--n_threads", "1",
                                  "--api_key", "peer-secret"], stdout=out, stderr=out, stdin=subprocess.DEVNULL)

    def answers():
        try:
            socket.create_connection(("127.0.0.1", port), 1).close()
            return True
        except OSError:
            return child.poll() is not None
    try:
        assert eventually(answers, 60, 0.1) and child.poll() is None, log.read_text()
        yield f"http://127.0.0.1:{port}"
    finally:
        child.terminate()
        child.wait()


@pytest.fixture(scope="module")
def front(peer, tmp_path_factory):
    folder = tmp_path_factory.mktemp("front")
    (folder / "key").write_text(KEY + "\n")
    catalogue = folder / "catalogue.yaml"
    with Serve() as ours:
        catalogue.write_text(f"""
upstreams:
  - {{name: peer, url: "{peer}", kind: openai, key_env: PEER_KEY}}
  - {{name: ours, url: "{ours.url}", kind: bud, key_env: OUR_KEY}}
models:
  - {{name: theirs, versions: [{{name: v1, upstreams: [peer], model: peer-model}}]}}
  - {{name: ours, versions: [{{name: v1, upstreams: [ours], model: {MODEL}}}]}}
""")
        s = Serve("--catalogue", str(catalogue), role="gateway",
                  env={"PEER_KEY": "peer-secret", "OUR_KEY": ours.key, "BUD_BOOTSTRAP_KEY_FILE": str(folder / "key")})
        s.key = KEY
        yield s
        s.stop()


@pytest.fixture(scope="module")
def sdk(front):
    with front.openai() as c:
        yield c


def test_models_are_the_catalogues(sdk):
    assert sorted(m.id for m in sdk.models.list()) == ["ours", "theirs"]


@pytest.mark.parametrize("model", ["theirs", "ours"])
def test_completions(sdk, model):
    r = sdk.completions.create(model=model, prompt="Once upon a time", max_tokens=8, temperature=0)
    assert r.choices[0].text and r.usage.completion_tokens == 8


@pytest.mark.parametrize("usage", [False, True])
@pytest.mark.parametrize("model", ["theirs", "ours"])
def test_streams(sdk, model, usage):
    """The usage that the gateway asks a foreign server for is told to those only who asked."""
    more = {"stream_options": {"include_usage": True}} if usage else {}
    chunks = list(sdk.completions.create(model=model, prompt="Once upon a time", max_tokens=8, temperature=0,
                                         stream=True, **more))
    assert "".join(c.choices[0].text for c in chunks if c.choices)
    if not usage:
        assert all(c.usage is None for c in chunks)


@pytest.mark.parametrize("model", ["theirs", "ours"])
def test_chat(sdk, model):
    messages = [{"role": "user", "content": "Tell me a story."}]
    r = sdk.chat.completions.create(model=model, messages=messages, max_tokens=6)
    assert r.choices[0].message.content is not None and r.usage.total_tokens > 0
    chunks = list(sdk.chat.completions.create(model=model, messages=messages, max_tokens=6, stream=True))
    assert chunks[-1].choices[0].finish_reason in ("length", "stop")


def test_both_engines_write_the_same_text(sdk):
    text = {m: sdk.completions.create(model=m, prompt="Once upon a time there was", max_tokens=16, temperature=0)
            .choices[0].text for m in ("theirs", "ours")}
    assert text["theirs"].strip() == text["ours"].strip()


def test_its_errors_are_the_sdks(sdk):
    with pytest.raises(openai.BadRequestError):
        sdk.completions.create(model="theirs", prompt="word " * 2000, max_tokens=4)
    with pytest.raises(openai.NotFoundError):
        sdk.completions.create(model="peer-model", prompt="x", max_tokens=1)


def test_neither_sees_the_other_key(front, sdk):
    sdk.completions.create(model="theirs", prompt="x", max_tokens=1)
    assert "peer-secret" not in front.output() and KEY not in front.output()
