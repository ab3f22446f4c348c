"""Health endpoints on both ports, and the metrics page on the admin port."""
import pytest
from prometheus_client.parser import text_string_to_metric_families

from budlib import MODEL


@pytest.mark.parametrize("admin", [False, True])
@pytest.mark.parametrize("path", ["/livez", "/readyz", "/health"])
def test_health_is_open(served, path, admin):
    r = served.request("GET", path, key=None, admin=admin)
    assert (r.status, r.json()["status"]) == (200, "ok")
    assert served.request("POST", path, {}, key=None, admin=admin).status == 405


def test_metrics_need_the_key(served):
    assert served.request("GET", "/metrics", key=None, admin=True).status == 401
    wrong = ["Authorization: Bearer sk-bud-" + "A" * 43]
    r = served.request("GET", "/metrics", headers=wrong, key=None, admin=True)
    assert r.status == 401 and r.error()["code"] == "invalid_api_key"
    assert served.request("GET", "/metrics", admin=True).status == 200


def test_metrics_are_not_on_the_front_door(served):
    assert served.request("GET", "/metrics").status == 404


def test_api_is_not_on_the_admin_port(served):
    for path in ("/v1/models", "/v1/chat/completions"):
        assert served.request("GET", path, admin=True).status == 404


def samples(served):
    r = served.request("GET", "/metrics", admin=True)
    assert r.get("content-type") == "text/plain; version=0.0.4; charset=utf-8"
    out = {}
    for family in text_string_to_metric_families(r.body.decode()):
        assert family.documentation, family.name
        assert family.type in ("counter", "gauge", "histogram"), family.name
        for s in family.samples:
            key = (s.name, tuple(sorted(s.labels.items())))
            assert key not in out, f"{key} twice"
            out[key] = s.value
    return out


def value(page, name, **labels):
    return page.get((name, tuple(sorted(labels.items()))), 0)


def test_metrics_count(served):
    before = samples(served)
    body = {"model": MODEL, "prompt": "Once upon a time", "max_tokens": 7, "ignore_eos": True}
    usage = served.request("POST", "/v1/completions", body).json()["usage"]
    assert served.request("POST", "/v1/completions", {**body, "stream": True}).status == 200
    assert served.request("GET", "/v1/models", key=None).status == 401
    after = samples(served)

    def grown(name, **labels):
        return value(after, name, **labels) - value(before, name, **labels)

    assert grown("http_requests_total", status="200") == 2
    assert grown("http_requests_total", status="401") == 1
    assert grown("http_request_duration_seconds_count") == 3
    assert grown("http_request_duration_seconds_bucket", le="+Inf") == 3
    assert grown("model_requests_total", model=MODEL) == 2
    assert grown("tokens_generated_total", model=MODEL) == 14
    assert grown("bud_prompt_tokens_total", model=MODEL) == 2 * usage["prompt_tokens"]
    assert grown("bud_time_to_first_token_seconds_count", model=MODEL) >= 1
    assert grown("bud_auth_failures_total") == 1
    assert value(after, "process_resident_memory_bytes") > 1 << 20
    assert any(name == "bud_build_info" for name, _ in after)


def test_no_secret_and_no_text_in_log_or_metrics(served):
    secret = "xyzzy-marker"
    body = {"model": MODEL, "prompt": secret, "max_tokens": 3, "user": secret}
    reply = served.request("POST", "/v1/completions", body).json()["choices"][0]["text"]
    served.request("GET", "/v1/models", headers=["Authorization: Bearer sk-bud-wrong-" + secret], key=None)
    page = served.request("GET", "/metrics", admin=True).body.decode()
    log = "\n".join(line for line in served.output().splitlines() if line.startswith("{"))
    assert secret not in page and secret not in log
    assert served.key not in page and served.key not in log
    assert len(reply.strip()) < 4 or reply not in log
