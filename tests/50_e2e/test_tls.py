"""TLS at the front door and on the link to model servers, through the program: certificates of
`bud cert`, the official SDK, Python's own ssl module as judge."""
import os
import signal
import socket
import ssl
import subprocess
import tempfile
import threading

import httpx
import openai
import pytest

from budlib import BUD, MODEL, MODEL_FILE, Serve, bud, eventually


class Folder:
    """Certificates: ca, localhost (server), gateway (client)."""

    def __init__(self, path):
        self.path = str(path)
        assert self.make("localhost", "127.0.0.1") == self.server_pin_now()
        self.client_pin = self.make("gateway", "--client")

    def make(self, *words):
        run = bud("cert", "make", "--dir", self.path, *words)
        assert run.returncode == 0, run.stderr
        return run.stdout.splitlines()[-1].split()[-1]

    def file(self, name):
        return os.path.join(self.path, name)

    @property
    def flags(self):
        return ["--tls-cert", self.file("localhost.pem"), "--tls-key", self.file("localhost.key")]

    def context(self, **more):
        context = ssl.create_default_context(cafile=self.file("ca.pem"))
        if more.get("client"):
            context.load_cert_chain(self.file("gateway.pem"), self.file("gateway.key"))
        return context

    def server_pin_now(self):
        run = bud("cert", "pin", self.file("localhost.pem"))
        assert run.returncode == 0, run.stderr
        return run.stdout.strip()

    def serial(self, port):
        """Of the certificate that a fresh connection is shown."""
        with socket.create_connection(("127.0.0.1", port), 10) as s:
            with self.context().wrap_socket(s, server_hostname="localhost") as t:
                return t.getpeercert()["serialNumber"]


@pytest.fixture(scope="module")
def certs(tmp_path_factory):
    return Folder(tmp_path_factory.mktemp("certs"))


@pytest.fixture(scope="module")
def secure(certs):
    with Serve(*certs.flags, env={"BUD_TLS_LOOK_MS": "50"}) as s:
        yield s


def sdk(server, certs, **more):
    url = f"https://localhost:{server.port}/v1"
    return openai.OpenAI(base_url=url, api_key=server.key, max_retries=0,
                         http_client=httpx.Client(verify=certs.context(**more)))


def ask(client, n=4):
    return client.completions.create(model=MODEL, prompt="Once", max_tokens=n)


def test_the_sdk_speaks_tls(secure, certs):
    assert secure.url.startswith("https://") and secure.admin.startswith("https://")
    with sdk(secure, certs) as client:
        assert ask(client).usage.completion_tokens == 4
        parts = list(client.completions.create(model=MODEL, prompt="Once", max_tokens=40, stream=True))
        assert "".join(p.choices[0].text for p in parts) and parts[-1].choices[0].finish_reason
    page = httpx.get(f"https://localhost:{secure.admin_port}/livez", verify=certs.context())
    assert page.status_code == 200


def test_commands_speak_tls(secure, certs, tmp_path):
    """`--server https://…` and `bud load https://…`: trust by a CA's file, and by a pin on top of it."""
    api, admin = f"https://localhost:{secure.port}", f"https://localhost:{secure.admin_port}"
    ca, pin, env = ["--ca", certs.file("ca.pem")], certs.server_pin_now(), {"BUD_KEY": secure.key}

    def run(*words, **more):
        return bud(*words, env={**env, **more}, home=str(tmp_path))
    asked = sdk(secure, certs).completions.with_raw_response.create(model=MODEL, prompt="Once", max_tokens=3)
    request_id = asked.headers["x-request-id"]
    assert run("key", "ls", "--server", admin, *ca).returncode == 0
    assert run("key", "ls", *ca, "--pin", pin, BUD_SERVER=admin).returncode == 0
    assert eventually(lambda: "request  " + request_id in run("explain", request_id, "--server", admin, *ca).stdout, 30)
    used = run("usage", "--records", "--request-id", request_id, *ca, BUD_SERVER=admin)
    assert request_id in used.stdout and " ok " in used.stdout, used
    assert MODEL in run("usage", "--server", admin, *ca).stdout
    assert '"requests":' in run("usage", "--json", "--server", admin, *ca).stdout
    load = run("load", api, *ca, "--key", secure.key, "-n", "4", "--max-tokens", "2")
    assert load.returncode == 0 and "4 ok, 0 failed" in load.stdout, load.stderr

    other = pin[:9] + ("A" if pin[9] != "A" else "B") + pin[10:]
    for words, said in [(["usage", "--server", admin], "certificate"),
                        (["usage", "--server", admin, *ca, "--pin", other], "pin"),
                        (["usage", "--server", admin, "--ca", "nowhere.pem"], "nowhere.pem"),
                        (["usage", "--server", admin, *ca, "--pin", "x"], "pin"),
                        (["usage", "--server", admin.replace("https", "http"), *ca], "https"),
                        (["load", api, "-n", "1", "--key", secure.key], "untrusted")]:
        refused = run(*words)
        assert refused.returncode == 1 and said in refused.stderr, (words, refused.stderr)
    assert "no request" in run("explain", "none", "--server", admin, *ca).stderr.lower()
    assert "BUD_KEY" in bud("usage", "--server", admin, *ca, home=str(tmp_path)).stderr


def test_only_tls_1_3_and_only_tls(secure, certs):
    context = certs.context()
    with socket.create_connection(("127.0.0.1", secure.port), 10) as s:
        with context.wrap_socket(s, server_hostname="localhost") as t:
            assert t.version() == "TLSv1.3"
    context.maximum_version = ssl.TLSVersion.TLSv1_2
    with socket.create_connection(("127.0.0.1", secure.port), 10) as s, pytest.raises(ssl.SSLError):
        context.wrap_socket(s, server_hostname="localhost")
    plain = httpx.get(f"http://127.0.0.1:{secure.port}/livez")
    assert plain.status_code == 400 and "https://" in plain.text
    with pytest.raises(httpx.ConnectError):
        httpx.get(f"https://localhost:{secure.port}/livez", verify=ssl.create_default_context())
    metrics = httpx.get(f"https://localhost:{secure.admin_port}/metrics", verify=certs.context(),
                        headers={"authorization": f"Bearer {secure.key}"}).text
    for reason in "plain_http", "version", "peer_refused":
        assert f'bud_tls_refused_total{{side="server",reason="{reason}"}} ' in metrics


def test_certificates_change_under_load_without_an_error(secure, certs):
    failures, answers, stop = [], [], threading.Event()

    def work(kept):
        client = sdk(secure, certs)
        while not stop.is_set():
            try:
                answers.append(ask(client, 2).usage.completion_tokens)
            except openai.OpenAIError as e:
                failures.append(repr(e))
            if not kept:
                client.close()
                client = sdk(secure, certs)
        client.close()

    with sdk(secure, certs) as client:
        stream = client.completions.create(model=MODEL, prompt="Once", max_tokens=200, stream=True)
        pieces = [next(stream)]
        threads = [threading.Thread(target=work, args=(kept,)) for kept in (True, False)]
        [t.start() for t in threads]
        try:
            seen = {certs.serial(secure.port)}
            for way in "file", "signal":
                certs.make("localhost", "127.0.0.1")
                if way == "signal":
                    secure.signal(signal.SIGHUP)
                assert eventually(lambda: certs.serial(secure.port) not in seen, 20)
                seen.add(certs.serial(secure.port))
            before = len(answers)
            assert eventually(lambda: len(answers) > before + 4, 20)
        finally:
            stop.set()
            [t.join() for t in threads]
        pieces += list(stream)
    assert not failures and answers and len(seen) == 3
    assert pieces[-1].choices[0].finish_reason


def test_a_broken_certificate_changes_nothing(secure, certs):
    before = certs.serial(secure.port)
    good = open(certs.file("localhost.pem"), "rb").read()
    try:
        with open(certs.file("localhost.pem"), "w", encoding="utf-8") as f:
            f.write("nothing")
        assert eventually(lambda: secure.events("tls-load-fail"), 20)
        assert certs.serial(secure.port) == before
    finally:
        with open(certs.file("localhost.pem"), "wb") as f:
            f.write(good)


def test_clients_with_certificates_only(certs):
    env = {"BUD_TLS_CLIENT_CERTS": "required"}
    with Serve(*certs.flags, "--tls-client-ca", certs.file("ca.pem"), env=env) as s:
        with sdk(s, certs, client=True) as client:
            assert ask(client).usage.completion_tokens == 4
        with sdk(s, certs) as client, pytest.raises(openai.APIConnectionError):
            ask(client)
        # Health and metrics have keys, but no certificates: probes cannot show them.
        admin = httpx.get(f"https://localhost:{s.admin_port}/readyz", verify=certs.context())
        assert admin.status_code == 200


def test_nothing_is_plain_by_accident(certs):
    def refused(*words):
        run = bud(*words, home=tempfile.mkdtemp(prefix="bud-"), timeout=20)
        return run.returncode == 1 and run.stderr
    assert "--tls-cert" in refused("gateway", "--listen", "0.0.0.0:0")
    assert "--tls-cert" in refused("gateway", "--admin-listen", "[::]:0")
    assert "key" in refused("gateway", "--tls-cert", certs.file("localhost.pem"))
    assert "only 'off'" in refused("gateway", "--tls", "on")
    assert "--tls-client-ca" in refused("server", "--model", MODEL_FILE, "--listen", "0.0.0.0:0")
    words = ["server", "--model", MODEL_FILE, "--listen", "0.0.0.0:0", *certs.flags]
    assert "CA" in refused(*words) # a server without one would let anybody in
    with Serve(*certs.flags, "--listen", "0.0.0.0:0", "--admin-listen", "0.0.0.0:0") as s:
        assert httpx.get(f"https://localhost:{s.port}/livez", verify=certs.context()).status_code == 200


def test_a_unix_socket_needs_none(tmp_path):
    path = str(tmp_path / "api.sock")
    with Serve("--listen", f"unix:{path}", wait=False) as s:
        assert eventually(lambda: "is ready." in s.output() and "key" in s.output(), 20)
        assert f"  API      unix:{path}\n" in s.output()
        assert os.stat(path).st_mode & 0o777 == 0o600
        transport = httpx.HTTPTransport(uds=path)
        with httpx.Client(transport=transport) as client:
            assert client.get("http://bud/livez").status_code == 200


def free_port():
    with socket.socket() as s:
        s.bind(("127.0.0.1", 0))
        return s.getsockname()[1]


def test_the_link_to_a_model_server(certs, tmp_path):
    """Gateway and `bud server` on TCP: both show certificates, both hold the other to a pin."""
    port = free_port()
    log = open(tmp_path / "server.log", "wb")
    server = subprocess.Popen([BUD, "server", "--model", f"{MODEL}={MODEL_FILE}", "--listen", f"127.0.0.1:{port}",
                               *certs.flags, "--tls-client-ca", certs.file("ca.pem"),
                               "--tls-client-pin", certs.client_pin],
                              stdout=log, stderr=subprocess.STDOUT, env=dict(os.environ, BUD_HOME=str(tmp_path)))
    catalogue = tmp_path / "catalogue.yaml"
    key = tmp_path / "key"
    key.write_text("sk-bud-" + "a" * 43)

    def write(pin):
        catalogue.write_text(f"""
upstreams:
  - name: far
    url: https://localhost:{port}
    kind: bud
    tls_ca: {certs.file("ca.pem")}
    tls_cert: {certs.file("gateway.pem")}
    tls_key: {certs.file("gateway.key")}
    tls_pins: ["{pin}"]
models:
  - {{name: {MODEL}, versions: [{{name: v1, upstreams: [far]}}]}}
""")

    write(certs.server_pin_now())
    try:
        with httpx.Client(verify=certs.context()) as stranger:
            def says_no():
                try:
                    stranger.get(f"https://localhost:{port}/readyz")
                except httpx.ConnectError:
                    return False # not listening yet
                except httpx.HTTPError:
                    return True
            assert eventually(says_no, 20)
        with Serve("--catalogue", str(catalogue), *certs.flags, role="gateway",
                   env={"BUD_BOOTSTRAP_KEY_FILE": str(key)}, wait=False) as s:
            assert eventually(lambda: "is ready." in s.output(), 20), s.output()
            s.read_addresses()
            s.key = key.read_text()
            with sdk(s, certs) as client:
                assert ask(client).usage.completion_tokens == 4
            write(certs.client_pin) # of nobody who serves
            s.signal(signal.SIGHUP)
            assert eventually(lambda: [e for e in s.events("tls-refused") if e["reason"] == "pin"], 20)
    finally:
        server.terminate()
        server.wait(30)
        log.close()
