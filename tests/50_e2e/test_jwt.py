"""JSON Web Tokens instead of keys: signed by openssl here, and by a real OpenID provider."""
import base64
import json
import os
import shutil
import socket
import subprocess
import time
import urllib.parse
import urllib.request

import openai
import pytest

from budlib import MODEL, ROOT, Serve, absent, bud, eventually

NODE = os.path.join(ROOT, "tests", "50_e2e", "node")
CATALOGUE = """
projects:
  - {name: small, limits: {tokens_per_day: 200}}
users:
  - {name: ada, limits: {requests_per_minute: 2}}
"""
SETTINGS = """
catalogue: %(folder)s/catalogue.yaml
auth:
  jwt:
    - name: corp
      issuer: https://corp.example
      audiences: [bud]
      algorithms: [RS256]
      key_files: [%(folder)s/public.pem]
      project_claim: bud.project
      role: developer
      roles_claim: roles
    - name: guests
      issuer: https://guests.example
      audiences: [bud]
      algorithms: [RS256]
      key_files: [%(folder)s/public.pem]
      role: developer
      limits: {requests_per_minute: 2}
"""


def b64(data):
    return base64.urlsafe_b64encode(data).rstrip(b"=").decode()


class Issuer:
    """Keys and a server that takes their tokens."""

    def __init__(self, folder):
        self.key = str(folder / "private.pem")
        run = ["openssl", "genpkey", "-quiet", "-algorithm", "RSA", "-out", self.key]
        run = run if subprocess.run(run, capture_output=True).returncode == 0 else [w for w in run if w != "-quiet"]
        subprocess.run(run, check=True, capture_output=True)
        subprocess.run(["openssl", "pkey", "-in", self.key, "-pubout", "-out", str(folder / "public.pem")], check=True)
        (folder / "catalogue.yaml").write_text(CATALOGUE)
        (folder / "bud.yaml").write_text(SETTINGS % {"folder": folder})
        self.server = Serve("--config", str(folder / "bud.yaml"))

    def token(self, alg="RS256", **claims):
        given = {"iss": "https://corp.example", "aud": "bud", "sub": "eve", "exp": int(time.time()) + 600, **claims}
        signed = b64(json.dumps({"alg": alg}).encode()) + "." + b64(json.dumps(given).encode())
        sig = subprocess.run(["openssl", "dgst", "-sha256", "-sign", self.key], input=signed.encode(), check=True,
                             capture_output=True).stdout
        return signed + "." + b64(sig)

    def client(self, **claims):
        return self.server.openai(api_key=self.token(**claims))


@pytest.fixture(scope="module")
def issuer(tmp_path_factory):
    if not shutil.which("openssl"):
        absent("openssl")
    i = Issuer(tmp_path_factory.mktemp("jwt"))
    yield i
    i.server.stop()


def ask(client, **more):
    return client.completions.create(model=MODEL, prompt="Once", **{"max_tokens": 4, **more})


def test_a_token_is_as_good_as_a_key(issuer):
    client = issuer.client()
    assert ask(client).usage.completion_tokens == 4
    assert MODEL in [m.id for m in client.models.list()]
    assert "".join(c.choices[0].text for c in ask(client, stream=True))
    raw = client.completions.with_raw_response.create(model=MODEL, prompt="Once", max_tokens=1)
    line = issuer.server.access(raw.headers["x-request-id"])
    assert line["organization.id"].startswith("jwt_") and "eve" not in line.values()


@pytest.mark.parametrize("claims, said", [
    ({"exp": 1000}, "expired"), ({"aud": "other"}, "somebody else"), ({"iss": "https://evil.example"}, "issuer"),
    ({"alg": "none"}, "algorithm"), ({"alg": "HS256"}, "algorithm"), ({"alg": "ES256"}, "algorithm"),
    ({"nbf": 99999999999}, "not valid yet")])
def test_a_bad_token_is_refused(issuer, claims, said):
    with pytest.raises(openai.AuthenticationError, match=said) as caught:
        ask(issuer.client(**claims))
    assert caught.value.status_code == 401


def test_a_changed_token_is_refused(issuer):
    head, claims, sig = issuer.token().split(".")
    other = b64(json.dumps({"iss": "https://corp.example", "aud": "bud", "sub": "root", "exp": 9999999999}).encode())
    for token in (f"{head}.{other}.{sig}", f"{head}.{claims}.", f"{head}.{claims}", "nonsense", "a.b.c"):
        with pytest.raises(openai.AuthenticationError):
            ask(issuer.server.openai(api_key=token))


def test_keys_go_on_working_and_large_bodies_come_through(issuer):
    ask(issuer.server.openai())
    with pytest.raises(openai.AuthenticationError):
        ask(issuer.server.openai(api_key="sk-bud-" + "A" * 43))
    # The first use of a token: the body waits until it is known whose it is.
    with pytest.raises(openai.BadRequestError):
        issuer.client(sub="large").completions.create(model=MODEL, prompt="x " * 300000, max_tokens=1)


def test_tokens_at_the_admin_port(issuer):
    """The roles of the claims decide there as on the API's port; what is of the whole installation is for nobody
    who belongs to a project."""
    def ask_admin(method, path, body=None, **claims):
        return issuer.server.request(method, path, body, [f"Authorization: Bearer {issuer.token(**claims)}"], key=False,
                                     admin=True)
    owner = {"sub": "olga", "roles": ["owner"]}
    assert ask_admin("GET", "/admin/v1/keys", sub="dev").status == 403
    assert ask_admin("GET", "/metrics", sub="dev").status == 403
    assert ask_admin("GET", "/metrics", **owner).status == 200
    assert ask_admin("GET", "/metrics", sub="vera", roles=["viewer"]).status == 200
    assert ask_admin("GET", "/metrics", **owner, bud={"project": "small"}).status == 403
    assert ask_admin("GET", "/metrics", **owner, exp=1000).status == 401
    assert ask_admin("GET", "/admin/v1/keys", **owner, bud={"project": "nowhere"}).status == 403
    made = ask_admin("POST", "/admin/v1/keys", {"name": "by a token"}, **owner)
    assert made.status == 201
    acts = ask_admin("GET", "/admin/v1/audit?limit=1", **owner).json()["data"]
    assert acts[0]["what"] == "key.create" and acts[0]["who"].startswith("jwt_")


def test_limits_of_user_and_project_hold(issuer):
    client = issuer.client(sub="ada")
    ask(client)
    ask(client)
    with pytest.raises(openai.RateLimitError, match="user"):
        ask(issuer.client(sub="ada", jti="another token of hers"))
    ask(issuer.client(sub="bob"))
    spent = []
    with pytest.raises(openai.RateLimitError) as caught:
        while True:
            spent.append(ask(issuer.client(sub="carl", bud={"project": "small"}), max_tokens=20).usage.total_tokens)
    assert caught.value.code == "insufficient_quota" and 100 < sum(spent) <= 200
    with pytest.raises(openai.PermissionDeniedError, match="nowhere"):
        ask(issuer.client(bud={"project": "nowhere"}))


def test_each_subject_of_an_issuer_has_its_limits(issuer):
    guest = {"iss": "https://guests.example"}
    ask(issuer.client(sub="gil", **guest))
    ask(issuer.client(sub="gil", jti="another token of his", **guest))
    with pytest.raises(openai.RateLimitError, match="limit of the token"):
        ask(issuer.client(sub="gil", **guest))
    ask(issuer.client(sub="gus", **guest))
    ask(issuer.client(sub="gil"))  # the same name at another issuer is somebody else


def test_settings_without_audience_are_refused(tmp_path):
    path = tmp_path / "bud.yaml"
    path.write_text("auth: {jwt: [{name: x, issuer: y, algorithms: [RS256], key_files: [k]}]}")
    run = bud("config", "check", "--config", str(path))
    assert run.returncode != 0 and "audiences" in run.stderr


@pytest.fixture
def provider():
    if not shutil.which("node"):
        absent("node")
    if not os.path.isdir(os.path.join(NODE, "node_modules", "oidc-provider")):
        absent("the oidc-provider package for Node")
    with socket.socket() as s:
        s.bind(("127.0.0.1", 0))
        port = s.getsockname()[1]
    process = subprocess.Popen(["node", "idp.mjs", str(port)], cwd=NODE, stdout=subprocess.PIPE,
                               stderr=subprocess.PIPE, text=True)
    line = process.stdout.readline()
    while line and line.strip() != "ready":
        line = process.stdout.readline()
    assert line, process.stderr.read()
    yield f"http://127.0.0.1:{port}"
    process.terminate()
    process.wait()


def test_a_real_providers_tokens_are_taken(provider, tmp_path):
    with urllib.request.urlopen(provider + "/.well-known/openid-configuration") as r:
        found = json.load(r)
    path = tmp_path / "bud.yaml"
    path.write_text(json.dumps({"auth": {"jwt": [{
        "name": "oidc", "issuer": found["issuer"], "audiences": ["bud"], "algorithms": ["ES256"],
        "jwks_url": found["jwks_uri"], "scopes_claim": "scope", "role": "developer"}]}}))
    form = urllib.parse.urlencode({"grant_type": "client_credentials", "scope": "chat", "resource": "urn:bud"})
    basic = base64.b64encode(b"robot:" + b"s" * 32).decode()
    with urllib.request.urlopen(urllib.request.Request(found["token_endpoint"], form.encode(),
                                                       {"authorization": "Basic " + basic})) as r:
        token = json.load(r)["access_token"]
    with Serve("--config", str(path)) as server:
        client = server.openai(api_key=token)
        chat = client.chat.completions.create(model=MODEL, messages=[{"role": "user", "content": "Once"}], max_tokens=2)
        assert chat.usage.completion_tokens == 2
        with pytest.raises(openai.PermissionDeniedError):  # its scope is chat alone
            ask(client)
        assert eventually(lambda: server.events("jwks"))
        with pytest.raises(openai.AuthenticationError):
            ask(server.openai(api_key=token[:-4] + "AAAA"))
