"""The official `openai` package for Node: runs node/client.mjs once and reports each of its tests."""
import os
import re
import shutil
import subprocess

import pytest

from budlib import MODEL, ROOT, Serve, absent, bud

FOLDER = os.path.join(ROOT, "tests", "50_e2e", "node")
with open(os.path.join(FOLDER, "client.mjs"), encoding="utf-8") as source:
    NAMES = re.findall(r'^test\("(.+?)"', source.read(), re.M)


def node_says(url, key, **more):
    """What node said, and the outcome of each test by its name."""
    if not shutil.which("node"):
        absent("node")
    if not os.path.isdir(os.path.join(FOLDER, "node_modules", "openai")):
        absent("the openai package for Node")
    env = dict(os.environ, BUD_URL=url + "/v1", BUD_KEY=key, BUD_MODEL=MODEL, **more)
    run = subprocess.run(["node", "--test-reporter=tap", "client.mjs"], cwd=FOLDER, env=env, capture_output=True,
                         text=True, timeout=80)
    outcomes = re.findall(r"^(not ok|ok) \d+ - (.+)$", run.stdout, re.M)
    return run.stdout + run.stderr, {name: outcome == "ok" for outcome, name in outcomes}


@pytest.fixture(scope="module")
def report(served):
    return node_says(served.url, served.key)


def test_node_over_tls(tmp_path):
    """All of it once more through TLS, the certificate checked by Node."""
    made = bud("cert", "make", "--dir", str(tmp_path), "localhost", "127.0.0.1")
    assert made.returncode == 0, made.stderr
    flags = ["--tls-cert", str(tmp_path / "localhost.pem"), "--tls-key", str(tmp_path / "localhost.key")]
    with Serve(*flags) as s:
        said, outcomes = node_says(f"https://localhost:{s.port}", s.key, NODE_EXTRA_CA_CERTS=str(tmp_path / "ca.pem"))
    assert set(outcomes) >= set(NAMES) and all(outcomes.values()), said[-6000:]


@pytest.mark.parametrize("name", NAMES)
def test_node(report, name):
    said, outcomes = report
    assert outcomes.get(name), said[-6000:]


@pytest.mark.parametrize("request_id", ["node-abort", "node-abort-early"])
def test_an_abort_ends_the_work(report, served, request_id):
    line = served.access(request_id)
    assert line["http.response.status_code"] == 499 and line["gen_ai.usage.output_tokens"] < 800
