"""The admin API: every role against every route of the document, and what each does to the other."""
import json
import os
import re
import sqlite3

import openai
import pytest
from openapi_spec_validator import validate

from budlib import MODEL, ROOT, Raw, Serve, bud, eventually

ROLES = ["owner", "admin", "developer", "viewer", "billing"]
FILE = """
organisations: [{name: north}, {name: south}]
projects:
  - {name: reading, organisation: north, limits: {requests_per_minute: 1000}}
  - {name: writing, organisation: south}
models:
  - name: tale
    versions: [{name: v1, upstreams: [local], model: %s}]
""" % MODEL


class Admin:
    """One key at the admin port."""

    def __init__(self, server, key):
        self.server, self.key = server, key

    def ask(self, method, path, body=None, headers=(), api=False):
        with Raw(self.server.port if api else self.server.admin_port) as r:
            auth = [f"Authorization: Bearer {self.key}"] if self.key else []
            r.request(method, path, body, [*auth, *headers])
            return r.response(method)

    def get(self, path, status=200):
        r = self.ask("GET", path)
        assert r.status == status, r.body
        return r.json()

    def make_key(self, **body):
        r = self.ask("POST", "/admin/v1/keys", body)
        assert r.status == 201, r.body
        return r.json()

    def known(self, key):
        """The same server by another key, once it is in force."""
        other = Admin(self.server, key)
        assert eventually(lambda: other.ask("GET", "/admin/v1/openapi.json").status != 401)
        return other


@pytest.fixture(scope="module")
def server(tmp_path_factory):
    path = tmp_path_factory.mktemp("admin") / "catalogue.yaml"
    path.write_text(FILE)
    with Serve("--catalogue", str(path)) as s:
        s.catalogue = path
        yield s


@pytest.fixture(scope="module")
def owner(server):
    return Admin(server, server.key)


@pytest.fixture(scope="module")
def document(owner):
    return owner.get("/admin/v1/openapi.json")


@pytest.fixture(scope="module")
def roles(owner):
    """A key of each role; the permissions of each role as the server tells them."""
    made = {role: owner.make_key(name=role, role=role)["key"] for role in ROLES}
    return {role: (owner.known(key), owner.get(f"/admin/v1/roles/{role}")["permissions"])
            for role, key in made.items()}


def allowed(permissions, wanted):
    kind, action = wanted.split(":")
    return any(k in ("*", kind) and a in ("*", action) for k, a in (p.split(":") for p in permissions))


def operations(document):
    for path, methods in document["paths"].items():
        for method, operation in methods.items():
            yield path, method.upper(), operation


# ---- the document ----


def routes_of_the_source():
    """(method, path) of every row of the admin listener in the table of routes."""
    with open(os.path.join(ROOT, "src", "auth", "policy.h"), encoding="utf-8") as f:
        table = f.read().replace("\\\n", " ")
    table = table[table.index("#define POLICY_TABLE"):table.index("struct policy_row")]
    rows = set(re.findall(r'X\(\w+, ADMIN, (\w+), "([^"]+)"', table))
    for path in re.findall(r'POLICY_OBJECTS\(X, \w+, \w+, "([^"]+)"', table):
        rows |= {("GET", path)} | {(m, path + "/{name}") for m in ("GET", "PUT", "DELETE")}
    return rows


def test_the_document_is_valid_and_whole(document):
    validate(document)
    assert document["openapi"].startswith("3.1")
    shown = {(method, path) for path, method, _ in operations(document)}
    assert shown == routes_of_the_source()
    assert len(shown) > 50


def test_every_role_against_every_route(document, roles):
    """What a role's permissions do not name is refused, what they name is not."""
    for path, method, operation in operations(document):
        wanted = operation.get("x-permission")
        url = path.replace("{kind}", "models").replace("{name}", "there-is-none")
        body = {"nonsense": 1} if method in ("PUT", "PATCH") or path.endswith("/keys") and method == "POST" else None
        for role, (admin, permissions) in roles.items():
            may = wanted is None or allowed(permissions, wanted)
            if may and path == "/admin/v1/drain":
                continue  # has a test of its own
            status = admin.ask(method, url, body).status
            assert (status != 403) == may and status not in (401, 405, 500), (role, method, path, status)
        nobody = Admin(roles["owner"][0].server, None).ask(method, url, body).status
        assert (nobody == 401) == (operation.get("security") != []), (method, path, nobody)


def test_every_role_against_the_api(roles):
    for role, (admin, permissions) in roles.items():
        body = {"model": MODEL, "prompt": "Once", "max_tokens": 2}
        ran = admin.ask("POST", "/v1/completions", body, api=True).status
        assert ran == (200 if allowed(permissions, "models:invoke") else 403), role
        seen = admin.ask("GET", "/v1/models", api=True).status
        assert seen == (200 if allowed(permissions, "models:read") else 403), role


def test_unknown_paths_and_methods(owner):
    assert owner.ask("GET", "/admin/v1/nothing").error()["code"] == "not_found"
    r = owner.ask("PATCH", "/admin/v1/projects")
    assert r.status == 405 and r.get("allow") == "GET, HEAD"
    assert owner.ask("PUT", "/admin/v1/projects/x", '{"a":').error()["code"] == "invalid_json"
    assert owner.ask("PUT", "/admin/v1/projects/x", "[1]").status == 400
    assert owner.ask("PUT", "/admin/v1/projects/x", "x" * (1 << 20) + "x").status == 413
    assert owner.ask("GET", "/admin/v1/keys?limit=0").error()["param"] == "limit"
    r = owner.ask("PUT", "/admin/v1/projects/x", {"limits": {"request_per_minute": 1}})
    assert "did you mean requests_per_minute" in r.error()["message"]


# ---- keys ----


def test_a_key_lives_and_ends_within_a_second(owner):
    made = owner.make_key(name="short", scopes=["admin"], role="viewer", limits={"concurrent": 3})
    key = owner.known(made["key"])
    assert key.get("/admin/v1/projects")["object"] == "list"
    shown = owner.get(f"/admin/v1/keys/{made['id']}")
    assert "key" not in shown and shown["limits"] == {"concurrent": 3} and shown["state"] == "valid"
    assert made["key"] not in json.dumps(owner.get("/admin/v1/keys?limit=1000"))
    changed = owner.ask("PATCH", f"/admin/v1/keys/{made['id']}", {"name": "long", "expires_in": 3600}).json()
    assert changed["name"] == "long" and changed["expires"] > 0 and changed["limits"] == {"concurrent": 3}
    new = owner.ask("POST", f"/admin/v1/keys/{made['id']}/rotate", {"overlap": 600})
    assert new.status == 201 and new.json()["key"] != made["key"]
    owner.known(new.json()["key"])
    assert key.ask("GET", "/admin/v1/projects").status == 200  # both are valid now
    assert eventually(lambda: owner.get(f"/admin/v1/keys/{made['id']}")["last_used"]) > 0
    assert owner.ask("DELETE", f"/admin/v1/keys/{made['id']}").json()["state"] == "revoked"
    assert eventually(lambda: key.ask("GET", "/admin/v1/projects").status == 401)
    assert owner.ask("DELETE", f"/admin/v1/keys/{made['id']}").status == 404
    assert owner.ask("POST", f"/admin/v1/keys/{made['id']}/rotate").status == 409


def test_scopes_keep_a_key_from_administration(owner):
    chat = owner.known(owner.make_key(role="owner", scopes=["chat"])["key"])
    assert chat.ask("GET", "/admin/v1/keys").status == 403
    assert chat.ask("GET", "/metrics").status == 403


def test_pages_follow_one_another(owner):
    for i in range(5):
        assert owner.ask("PUT", f"/admin/v1/users/page-{i}", {}).status == 201
    seen, after = [], ""
    while True:
        page = owner.get(f"/admin/v1/users?limit=2&after={after}")
        assert len(page["data"]) <= 2
        seen += [u["name"] for u in page["data"]]
        if not page["has_more"]:
            break
        after = page["last_id"]
    assert [n for n in seen if n.startswith("page-")] == [f"page-{i}" for i in range(5)]
    assert len(seen) == len(set(seen))
    keys, after = [], ""
    while True:
        page = owner.get(f"/admin/v1/keys?limit=3&after={after}")
        keys += [k["id"] for k in page["data"]]
        if not page["has_more"]:
            break
        after = page["last_id"]
    assert keys == [k["id"] for k in owner.get("/admin/v1/keys?limit=1000")["data"]]


# ---- objects ----


def test_no_update_is_lost(owner):
    path = "/admin/v1/projects/shared"
    made = owner.ask("PUT", path, {"models": ["tale"]}, ["If-None-Match: *"])
    assert made.status == 201
    assert owner.ask("PUT", path, {}, ["If-None-Match: *"]).error()["code"] == "precondition_failed"
    tag = owner.ask("GET", path).get("etag")
    assert tag == made.get("etag")
    mine = owner.ask("PUT", path, {"models": ["tale", "x"]}, [f"If-Match: {tag}"])
    assert mine.status == 200
    assert owner.ask("PUT", path, {"models": []}, [f"If-Match: {tag}"]).status == 412
    assert owner.ask("DELETE", path, None, [f"If-Match: {tag}"]).status == 412
    assert owner.get(path)["models"] == ["tale", "x"]
    same = owner.ask("PUT", path, owner.get(path))  # what was shown can be sent back
    assert same.status == 200 and same.get("etag") == mine.get("etag")
    assert owner.ask("DELETE", path, None, [f"If-Match: {mine.get('etag')}"]).json()["deleted"] is True
    owner.get(path, 404)


def test_what_the_file_owns_is_read_only(owner):
    assert owner.get("/admin/v1/projects/reading")["owned_by"] == "file"
    for method in ("PUT", "DELETE"):
        r = owner.ask(method, "/admin/v1/projects/reading", {} if method == "PUT" else None)
        assert r.status == 403 and "catalogue file" in r.error()["message"]
    assert owner.ask("PUT", "/admin/v1/limits/projects/reading", {}).status == 403


def test_models_aliases_prices_and_limits(owner):
    with openai.OpenAI(base_url=owner.server.url + "/v1", api_key=owner.key, max_retries=0) as client:
        assert owner.ask("PUT", "/admin/v1/models/yarn", {"versions": [{"name": "1", "upstreams": ["local"],
                                                                       "model": MODEL}]}).status == 201
        assert owner.ask("PUT", "/admin/v1/aliases/saga", {"model": "yarn"}).status == 201
        assert eventually(lambda: {"yarn", "saga"} <= {m.id for m in client.models.list()})
        assert client.completions.create(model="saga", prompt="Once", max_tokens=2).usage.completion_tokens == 2
        assert owner.ask("PUT", "/admin/v1/aliases/yarn", {"model": "tale"}).status == 409
        assert owner.ask("PUT", "/admin/v1/aliases/epic", {"model": "gone"}).status == 400
        assert owner.ask("DELETE", "/admin/v1/models/yarn").status == 400  # saga stands for it
        assert owner.ask("PUT", "/admin/v1/prices/yarn", {"input": 0.5, "output": 1.5}).status == 200
        assert owner.get("/admin/v1/prices/yarn")["output"] == 1.5
        assert [p["name"] for p in owner.get("/admin/v1/prices")["data"]] == ["yarn"]
        assert owner.ask("PUT", "/admin/v1/prices/yarn", {"inputs": 1}).status == 400
        assert owner.ask("PUT", "/admin/v1/limits/models/yarn", {"requests_per_minute": 1}).status == 200
        assert owner.get("/admin/v1/limits?kind=models")["data"][0]["limits"] == {"requests_per_minute": 1}

        def limited():
            try:
                client.completions.create(model="yarn", prompt="Once", max_tokens=2)
                return False
            except openai.RateLimitError:
                return True
        assert eventually(limited)
        assert owner.ask("DELETE", "/admin/v1/limits/models/yarn").status == 200
        assert owner.ask("DELETE", "/admin/v1/prices/yarn").status == 200
        owner.get("/admin/v1/prices/yarn", 404)
        assert owner.get("/admin/v1/models/yarn")["versions"][0]["model"] == MODEL
        assert owner.ask("DELETE", "/admin/v1/aliases/saga").status == 200
        assert owner.ask("DELETE", "/admin/v1/models/yarn").status == 200


def test_an_upstreams_key_is_never_shown(owner):
    path = "/admin/v1/upstreams/far"
    secret = "sk-far-0123456789"
    r = owner.ask("PUT", path, {"url": "http://127.0.0.1:9", "key": secret})
    assert r.status == 201 and r.json()["has_key"] is True
    same = {"url": "http://127.0.0.1:9", "connections_max": 7}
    assert owner.ask("PUT", path, same).json()["has_key"] is True  # it stays
    # Whoever may write upstreams could else have it sent to a server of his own.
    moved = {"url": "http://127.0.0.1:10"}
    assert owner.ask("PUT", path, moved).status == 400
    assert owner.get(path)["url"] == same["url"]
    assert owner.ask("PUT", path, moved | {"key": secret}).status == 200
    assert owner.ask("PUT", path, moved | {"url": "http://127.0.0.1:9", "key": None}).json().get("has_key") is None
    assert owner.ask("PUT", path, moved | {"key": secret}).json()["has_key"] is True
    for page in (owner.ask("GET", path), owner.ask("GET", "/admin/v1/upstreams")):
        assert secret not in page.body.decode() and b"sealed" not in page.body
    assert owner.ask("PUT", path, {"url": "http://127.0.0.1:9", "key_file": "/etc/passwd"}).status == 400
    assert owner.ask("PUT", path, {"url": "http://127.0.0.1:9", "sealed_key": "00"}).status == 400
    with open(os.path.join(owner.server.home, "meta.db"), "rb") as f:
        assert secret.encode() not in f.read()
    assert "has_key" not in owner.ask("PUT", path, {"url": "http://127.0.0.1:9", "key": None}).json()
    assert owner.ask("DELETE", path).status == 200


def test_usage_and_requests_by_place(owner):
    keys = {p: owner.make_key(role="developer", project=p) for p in ("reading", "writing")}
    body = {"model": "tale", "prompt": "Once", "max_tokens": 3, "ignore_eos": True}
    for project, key in keys.items():
        caller = owner.known(key["key"])
        r = caller.ask("POST", "/v1/completions", body, ["x-request-id: shared-by-both"], api=True)
        assert r.status == 200
    query = "/admin/v1/usage?by=project,model&model=tale"

    def both():
        rows = {u["project"]: u for u in owner.get(query)["data"]}
        return rows if {"reading", "writing"} <= set(rows) else None
    rows = eventually(both)
    assert rows["reading"]["requests"] == 1 and rows["reading"]["output_tokens"] == 3
    north = owner.known(owner.make_key(role="viewer", project="reading")["key"])
    assert [u["project"] for u in north.get("/admin/v1/usage?by=project")["data"]] == ["reading"]
    assert north.ask("GET", "/admin/v1/usage?project=writing").status == 404
    assert owner.ask("GET", "/admin/v1/usage?by=colour").status == 400
    seen = eventually(lambda: north.ask("GET", "/admin/v1/requests/shared-by-both").status == 200)
    assert seen and north.get("/admin/v1/requests/shared-by-both")["usage"]["project"] == "reading"
    assert owner.get("/admin/v1/requests/shared-by-both")["usage"]["project"] == "writing"  # the newest
    owner.get("/admin/v1/requests/there-is-none", 404)


# ---- nobody gives away more than he holds ----


def test_an_admin_makes_no_owner(owner, roles):
    admin = roles["admin"][0]
    mine = admin.make_key(role="developer")
    assert admin.ask("DELETE", f"/admin/v1/keys/{mine['id']}").status == 200
    assert admin.ask("POST", "/admin/v1/keys", {"role": "owner"}).status == 403
    boss = owner.make_key(role="owner")
    for method, end in (("DELETE", ""), ("POST", "/rotate"), ("PATCH", "")):
        assert admin.ask(method, f"/admin/v1/keys/{boss['id']}{end}", {}).status == 403, method
    assert admin.ask("PUT", "/admin/v1/roles/mine", {"permissions": ["*:*"]}).status == 403
    assert admin.ask("PUT", "/admin/v1/users/me", {"roles": ["owner"]}).status == 403
    # An owner's key is narrowed by its user: who may not hold it may not widen it.
    assert owner.ask("PUT", "/admin/v1/users/lee", {"roles": ["viewer"]}).status == 201
    narrowed = owner.make_key(role="owner", user="lee")
    assert admin.ask("PUT", "/admin/v1/users/lee", {"roles": []}).status == 403
    lee = owner.known(narrowed["key"])
    assert lee.ask("GET", "/admin/v1/keys").status == 200
    assert lee.ask("POST", "/admin/v1/keys", {}).status == 403


def test_projects_and_organisations_are_apart(owner):
    one = owner.known(owner.make_key(role="admin", project="reading")["key"])
    other = owner.make_key(role="developer", project="writing")
    mine = one.make_key(role="developer", project="reading")
    assert [k["id"] for k in one.get("/admin/v1/keys")["data"]].count(mine["id"]) == 1
    assert {k["project"] for k in one.get("/admin/v1/keys?limit=1000")["data"]} == {"reading"}
    one.get(f"/admin/v1/keys/{other['id']}", 404)
    assert one.ask("DELETE", f"/admin/v1/keys/{other['id']}").status == 403
    assert one.ask("POST", "/admin/v1/keys", {"project": "writing"}).status == 403
    assert one.ask("POST", "/admin/v1/keys", {}).status == 403
    assert [p["name"] for p in one.get("/admin/v1/projects")["data"]] == ["reading"]
    for path in ("/admin/v1/audit", "/admin/v1/health", "/metrics"):
        assert one.ask("GET", path).status == 403
    assert one.ask("PUT", "/admin/v1/models/mine", {"alias": "tale"}).status == 403
    assert one.ask("PUT", f"/admin/v1/limits/keys/{mine['id']}", {"concurrent": 1}).status == 200
    assert one.ask("DELETE", "/admin/v1/projects/reading").status == 403
    assert owner.ask("PUT", "/admin/v1/projects/solo", {}).status == 201
    held = owner.make_key(role="developer", project="solo")
    assert owner.ask("DELETE", "/admin/v1/projects/solo").status == 409  # its key would lose its limits
    owner.ask("DELETE", f"/admin/v1/keys/{held['id']}")
    assert owner.ask("DELETE", "/admin/v1/projects/solo").status == 200


def test_a_custom_role_is_what_it_names(owner):
    assert owner.ask("PUT", "/admin/v1/roles/ops", {"permissions": ["models/tal*:invoke", "keys:read"]}).status == 201
    ops = owner.known(owner.make_key(role="ops", scopes=[])["key"])
    assert ops.ask("GET", "/admin/v1/keys").status == 200
    assert ops.ask("GET", "/admin/v1/users").status == 403
    body = {"prompt": "Once", "max_tokens": 2}
    assert ops.ask("POST", "/v1/completions", {**body, "model": "tale"}, api=True).status == 200
    assert ops.ask("POST", "/v1/completions", {**body, "model": MODEL}, api=True).status == 404
    assert owner.ask("PUT", "/admin/v1/roles/ops", {"permissions": []}).status == 200
    assert eventually(lambda: ops.ask("GET", "/admin/v1/keys").status == 403)
    assert owner.ask("PUT", "/admin/v1/roles/owner", {"permissions": []}).status == 403


# ---- the log, the commands ----


def test_every_act_is_in_the_log(owner):
    before = owner.get("/admin/v1/audit?limit=1")["data"][0]["seq"]
    owner.ask("PUT", "/admin/v1/users/ann", {})
    owner.ask("PUT", "/admin/v1/users/ann", {"service": True})
    assert owner.ask("PUT", "/admin/v1/users/ann", {"nonsense": 1}).status == 400  # no act, no entry
    assert bud("user", "create", "ben", home=owner.server.home).returncode == 0
    owner.ask("DELETE", "/admin/v1/users/ann")
    entries = [e for e in owner.get("/admin/v1/audit")["data"] if e["seq"] > before][::-1]
    assert [e["what"] for e in entries] == ["user.put", "user.put", "user.put", "user.delete"]
    assert [e["target"] for e in entries] == ["user/ann", "user/ann", "user/ben", "user/ann"]
    assert entries[0]["before"] == "" and entries[0]["after"] == entries[1]["before"]
    assert entries[1]["after"] == entries[3]["before"] and entries[3]["after"] == ""
    assert entries[0]["who"].startswith("key_") and entries[0]["source"] == "127.0.0.1"
    assert entries[2]["who"] == f"local uid {os.getuid()}" and entries[2]["source"] == "cli"
    report = owner.get("/admin/v1/audit/verify")
    assert report["whole"] is True and report["entries"] == entries[-1]["seq"]

    def heads():
        return [e["head"] for e in owner.server.events("audit")]
    assert eventually(lambda: report["head"] in heads())  # the log keeps it too
    assert owner.get("/admin/v1/audit/verify?head=" + heads()[0])["whole"] is True


def test_tampering_is_found(tmp_path):
    home = str(tmp_path)
    for name in ("a", "b", "c"):
        assert bud("user", "create", name, home=home).returncode == 0
    whole = bud("audit", "verify", home=home)
    assert whole.returncode == 0 and "4 entries" in whole.stdout
    with sqlite3.connect(os.path.join(home, "meta.db")) as db:
        db.execute("DELETE FROM audit WHERE seq = 4")
    cut = bud("audit", "verify", home=home)
    assert cut.returncode == 1 and "audit entry 4" in cut.stderr and "cut off" in cut.stderr


def test_commands_ask_the_server(owner, roles):
    env = {"BUD_SERVER": owner.server.admin, "BUD_KEY": owner.key}
    made = json.loads(bud("key", "create", "--name", "far", "--role", "viewer", "--json", env=env).stdout)
    assert owner.get(f"/admin/v1/keys/{made['id']}")["name"] == "far"
    assert made["id"] in bud("key", "ls", env=env).stdout
    assert bud("key", "change", made["id"], "--name", "near", env=env).returncode == 0
    assert json.loads(bud("key", "show", made["id"], env=env).stdout)["name"] == "near"
    assert bud("key", "revoke", made["id"], env=env).returncode == 0
    assert "owner" in bud("role", "ls", env=env).stdout
    assert bud("role", "create", "far", "-p", "keys:read", env=env).returncode == 0
    assert bud("role", "rm", "far", env=env).returncode == 0
    assert "entries, none changed" in bud("audit", "verify", env=env).stdout
    assert f"key/{made['id']}" in bud("audit", "ls", env=env).stdout
    refused = bud("key", "create", env={**env, "BUD_KEY": roles["viewer"][0].key})
    assert refused.returncode == 1 and "keys:write" in refused.stderr
    assert "set BUD_KEY" in bud("key", "ls", env={**env, "BUD_KEY": ""}).stderr


def test_reload_tells_what_is_wrong(owner):
    file = owner.server.catalogue
    file.write_text(FILE + "  - {name: fable, alais: tale}\n")
    r = owner.ask("POST", "/admin/v1/config/reload")
    assert r.status == 400 and "did you mean alias" in r.error()["message"]
    file.write_text(FILE + "  - {name: fable, alias: tale}\n")
    assert owner.ask("POST", "/admin/v1/config/reload").status == 200
    assert owner.get("/admin/v1/aliases/fable")["model"] == "tale"
    assert "catalogue.apply" in [e["what"] for e in owner.get("/admin/v1/audit?limit=3")["data"]]
    file.write_text(FILE)
    assert owner.ask("POST", "/admin/v1/config/reload").status == 200
    owner.get("/admin/v1/aliases/fable", 404)


def test_a_file_that_says_the_same_is_no_change(tmp_path):
    """Applied at each start: an act is noted when something has changed, and a key that is the same has not."""
    file, home = tmp_path / "catalogue.yaml", tmp_path / "home"
    home.mkdir()
    file.write_text('upstreams:\n  - {name: far, url: "http://127.0.0.1:9", key_env: FAR_KEY, kind: openai}\n'
                    "models:\n  - {name: m, versions: [{name: v, upstreams: [far]}]}\n")

    def applied(key):
        with Serve("--catalogue", str(file), role="gateway", home=str(home), env={"FAR_KEY": key}):
            pass
        return bud("audit", "ls", "--json", home=str(home)).stdout.count('"what":"catalogue.apply"')
    assert [applied("sk-one"), applied("sk-one"), applied("sk-two"), applied("sk-two")] == [1, 1, 2, 2]


def test_health_says_how_the_servers_are(owner):
    health = owner.get("/admin/v1/health")
    assert health["ready"] is True and health["draining"] is False
    assert {"name": "local", "ready": True, "breaker": "closed", "outstanding": 0} in health["upstreams"]


def test_many_at_once_make_one_chain(owner):
    """Two programs and the server write together."""
    import threading
    failed = []

    def api(n):
        for i in range(8):
            if owner.ask("PUT", f"/admin/v1/users/t{n}-{i}", {}).status != 201:
                failed.append((n, i))

    def cli(n):
        for i in range(4):
            if bud("user", "create", f"c{n}-{i}", home=owner.server.home).returncode != 0:
                failed.append((n, i))
    threads = [threading.Thread(target=f, args=(n,)) for n in range(3) for f in (api, cli)]
    [t.start() for t in threads]
    [t.join() for t in threads]
    assert not failed
    assert owner.get("/admin/v1/audit/verify")["whole"] is True


def test_drain_ends_the_server():
    with Serve() as s:
        owner = Admin(s, s.key)
        assert owner.ask("POST", "/admin/v1/drain").status == 202
        assert s.wait() == 0
        assert "gateway.drain" in bud("audit", "ls", home=s.home).stdout
