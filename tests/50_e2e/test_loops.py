"""A front door on three loops: what one knows the others know too. Connections are spread by the kernel, by their
ports: of sixteen, some are on each loop."""
import os
import signal
import socket
import threading

import openai
import pytest

from budlib import MODEL, Serve, eventually
from test_tls import Folder, ask, sdk

LOOPS = "gateway: {loops: 3}\n"
FRESH = 16


@pytest.fixture(scope="module")
def certs(tmp_path_factory):
    return Folder(tmp_path_factory.mktemp("certs"))


@pytest.fixture(scope="module")
def conf(tmp_path_factory):
    path = tmp_path_factory.mktemp("conf") / "bud.yaml"
    path.write_text(LOOPS)
    return str(path)


@pytest.fixture(scope="module")
def many(certs, conf):
    with Serve("--config", conf, *certs.flags) as s:
        yield s


def threads(pid):
    names = []
    for task in os.listdir(f"/proc/{pid}/task"):
        with open(f"/proc/{pid}/task/{task}/comm", encoding="utf-8") as f:
            names.append(f.read().strip())
    return names


def test_every_loop_answers_the_sdk(many, certs):
    assert {"gateway-1", "gateway-2"} <= set(threads(many.pid))
    for _ in range(FRESH):
        with sdk(many, certs) as client:
            assert ask(client, 2).usage.completion_tokens == 2
            parts = list(client.completions.create(model=MODEL, prompt="Once", max_tokens=3, stream=True))
            assert parts[-1].choices[0].finish_reason


def resumes(many, certs, context, session):
    """Whether a fresh connection takes up the session; and the one that it was given."""
    with socket.create_connection(("127.0.0.1", many.port), 20) as s:
        with context.wrap_socket(s, server_hostname="localhost", session=session) as t:
            t.sendall(b"GET /livez HTTP/1.1\r\nhost: localhost\r\nconnection: close\r\n\r\n")
            while t.recv(4096):
                pass
            return t.session_reused, t.session


def test_a_ticket_is_good_at_every_loop(many, certs):
    context = certs.context()
    _, session = resumes(many, certs, context, None)
    for _ in range(FRESH):
        reused, session = resumes(many, certs, context, session)
        assert reused


def test_certificates_change_on_every_loop(many, certs):
    failures, answers, stop = [], [], threading.Event()

    def work():
        while not stop.is_set():
            with sdk(many, certs) as client:
                try:
                    answers.append(ask(client, 2).usage.completion_tokens)
                except openai.OpenAIError as e:
                    failures.append(repr(e))

    before = certs.serial(many.port)
    load = [threading.Thread(target=work) for _ in range(2)]
    [t.start() for t in load]
    try:
        certs.make("localhost", "127.0.0.1")
        many.signal(signal.SIGHUP)
        assert eventually(lambda: all(certs.serial(many.port) != before for _ in range(FRESH)), 20)
        due = len(answers) + 4
        assert eventually(lambda: len(answers) >= due, 20)
    finally:
        stop.set()
        [t.join() for t in load]
    assert not failures


def test_a_second_process_is_refused(many, conf, tmp_path):
    other = Serve("--config", conf, "--listen", f"127.0.0.1:{many.port}", "--tls", "off", home=str(tmp_path),
                  role="gateway", wait=False)
    try:
        assert other.wait() == 1
        assert "in use" in other.output()
    finally:
        other.stop()


def test_a_unix_socket_is_shared(conf, tmp_path):
    path = str(tmp_path / "api.sock")
    with Serve("--config", conf, "--listen", f"unix:{path}", wait=False) as s:
        assert eventually(lambda: "is ready." in s.output(), 60)
        for _ in range(FRESH):
            with socket.socket(socket.AF_UNIX) as c:
                c.settimeout(20)
                c.connect(path)
                c.sendall(b"GET /livez HTTP/1.1\r\nhost: x\r\nconnection: close\r\n\r\n")
                assert c.recv(4096).startswith(b"HTTP/1.1 200")
    assert not os.path.exists(path)


def test_all_loops_drain(conf):
    with Serve("--config", conf) as s:
        clients = [s.openai() for _ in range(6)]
        streams = [c.completions.create(model=MODEL, prompt="Once", max_tokens=64, stream=True) for c in clients]
        begun = [next(x) for x in streams]
        s.signal(signal.SIGTERM)
        for x in streams:
            assert list(x)[-1].choices[0].finish_reason
        assert s.wait() == 0 and len(begun) == 6
