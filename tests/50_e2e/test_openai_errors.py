"""The official `openai` Python package: every refusal arrives as its typed class, with the shape,
the code and the path that a program can act on."""
import re

import openai
import pytest

from budlib import MODEL

ASK = [{"role": "user", "content": "Hello"}]


def refused(kind, call, **kwargs):
    with pytest.raises(kind) as caught:
        call(**kwargs)
    e = caught.value
    assert type(e) is kind
    assert set(e.body) == {"message", "type", "param", "code"} and e.body["message"]
    assert e.request_id
    return e


def chat_refused(client, kind=openai.BadRequestError, **kwargs):
    return refused(kind, client.chat.completions.create, **{"model": MODEL, "messages": ASK, **kwargs})


@pytest.mark.parametrize("key", ["sk-bud-" + "A" * 43, "nonsense", "sk-" + "x" * 300])
def test_wrong_key(served, key):
    with served.openai(api_key=key) as c:
        e = refused(openai.AuthenticationError, c.models.list)
        assert (e.status_code, e.code, e.type) == (401, "invalid_api_key", "authentication_error")
        assert key not in e.message
        chat_refused(c, openai.AuthenticationError)


def test_unknown_model(client):
    for call in (lambda: client.models.retrieve("nope"),
                 lambda: client.chat.completions.create(model="nope", messages=ASK),
                 lambda: client.chat.completions.create(model="nope", messages=ASK, stream=True),
                 lambda: client.completions.create(model="nope", prompt="x")):
        e = refused(openai.NotFoundError, call)
        assert (e.code, e.param) == ("model_not_found", "model") and "nope" in e.message


def test_unknown_route(client):
    e = refused(openai.NotFoundError, client.moderations.create, input="x")
    assert e.code == "not_found" and "/v1/moderations" in e.message


def test_unknown_member(client):
    e = chat_refused(client, extra_body={"temprature": 1})
    assert (e.status_code, e.code, e.param) == (400, "unknown_parameter", "temprature")
    nested = chat_refused(client, messages=[{"role": "user", "content": "x", "colour": "red"}])
    assert (nested.code, nested.param) == ("unknown_parameter", "messages[0].colour")


@pytest.mark.parametrize("param, body", [
    ("temperature", {"temperature": "hot"}),
    ("temperature", {"temperature": 2.5}),
    ("top_p", {"top_p": -1}),
    ("n", {"n": 0}),
    ("n", {"n": 1.5}),
    ("stream", {"stream": "yes"}),
    ("stop[1]", {"stop": ["a", 5]}),
    ("stop", {"stop": ["a"] * 100}),
    ("seed", {"seed": "x"}),
    ("logit_bias.abc", {"logit_bias": {"abc": 1}}),
    ("logit_bias", {"logit_bias": {"99999999": 1}}),
    ("stop_token_ids[0]", {"stop_token_ids": [-1]}),
    ("max_completion_tokens", {"max_completion_tokens": 0}),
    ("max_completion_tokens", {"max_tokens": 5, "max_completion_tokens": 6}),
    ("top_logprobs", {"top_logprobs": 3}),
    ("stream_options", {"stream_options": {"include_usage": True}}),
    ("messages", {"messages": []}),
    ("messages[0].role", {"messages": [{"role": "wizard", "content": "x"}]}),
    ("messages[1].content", {"messages": [*ASK, {"role": "user", "content": 7}]}),
    ("messages[0].content[1].text", {"messages": [{"role": "user", "content": [
        {"type": "text", "text": "a"}, {"type": "text", "text": None}]}]}),
    ("messages[0].content", {"messages": [{"role": "user"}]}),
])
def test_wrong_values_name_their_path(client, param, body):
    e = chat_refused(client, extra_body=body)
    assert (e.status_code, e.param) == (400, param)


def test_missing_members(served):
    for body, param in (({"messages": ASK}, "model"), ({"model": MODEL}, "messages")):
        error = served.request("POST", "/v1/chat/completions", body).error()
        assert (error["code"], error["param"]) == ("missing_required_parameter", param)


TOOL = {"type": "function", "function": {"name": "f", "parameters": {"type": "object"}}}


@pytest.mark.parametrize("param, body", [
    ("tools", {"tools": [TOOL]}),
    ("tool_choice", {"tool_choice": "auto"}),
    ("response_format", {"response_format": {"type": "json_object"}}),
    ("modalities", {"modalities": ["text", "audio"]}),
    ("audio", {"audio": {"voice": "alloy", "format": "wav"}}),
    ("functions", {"functions": [{"name": "f"}]}),
    ("web_search_options", {"web_search_options": {}}),
    ("guided_json", {"guided_json": {}}),
])
def test_known_but_not_served(client, param, body):
    e = chat_refused(client, extra_body=body)
    assert (e.status_code, e.code, e.param) == (400, "unsupported_parameter", param)


def test_not_served_at_their_defaults_is_fine(client):
    body = {"tools": [], "tool_choice": "none", "response_format": {"type": "text"}, "modalities": ["text"]}
    assert client.chat.completions.create(model=MODEL, messages=ASK, max_tokens=1, extra_body=body).choices


def both_counts(message, at_least):
    """The limit, and what was asked for."""
    numbers = [int(n) for n in re.findall(r"\d+", message)]
    return len(numbers) >= 2 and max(numbers) >= at_least


def test_context_length(client):
    long = [{"role": "user", "content": "cat " * 3000}]
    for stream in (False, True):
        e = chat_refused(client, messages=long, stream=stream)
        assert e.code == "context_length_exceeded" and both_counts(e.message, 3000)
    limit = client.models.retrieve(MODEL).max_model_len
    assert str(limit) in e.message
    e = refused(openai.BadRequestError, client.completions.create, model=MODEL, prompt="cat " * 3000)
    assert e.code == "context_length_exceeded" and both_counts(e.message, 3000)
    e = chat_refused(client, max_completion_tokens=limit)
    assert e.code == "context_length_exceeded" and both_counts(e.message, limit)


def test_context_length_names_the_prompt(client):
    e = refused(openai.BadRequestError, client.completions.create, model=MODEL, prompt="cat " * 3000)
    assert e.param == "prompt"


def test_tokens_outside_the_vocabulary(client):
    e = refused(openai.BadRequestError, client.completions.create, model=MODEL, prompt=[1, 99_999_999])
    assert e.param == "prompt" and "99999999" in e.message


def test_empty_prompts(client):
    """An empty prompt is either refused with its path, or begins with the model's own BOS."""
    try:
        assert client.completions.create(model=MODEL, prompt="", max_tokens=2).usage.prompt_tokens >= 1
    except openai.BadRequestError as e:
        assert e.param == "prompt"
    e = refused(openai.BadRequestError, client.completions.create, model=MODEL, prompt=[])
    assert e.param == "prompt"


@pytest.mark.parametrize("body, at", [
    ('{"model": "m", "messages": [}', "column 29"),
    ('{"model": "m",\n "messages": nope}', "line 2"),
    ('{"model": "m"', "column 14"),
    ("", ""),
    ("[1, 2]", ""),
    ('"text"', ""),
    ('{"model": "m", "model": "n", "messages": []}', "model"),
    ('{"model": "\\ud800", "messages": []}', ""),
])
def test_malformed_json(served, body, at):
    r = served.request("POST", "/v1/chat/completions", body)
    error = r.error()
    assert r.status == 400 and error["type"] == "invalid_request_error"
    assert at in error["message"], error["message"]


def test_bytes_that_are_not_utf8(served):
    body = b'{"model": "' + MODEL.encode() + b'", "messages": [{"role": "user", "content": "\xff\xfe"}]}'
    assert served.request("POST", "/v1/chat/completions", body).status == 400


def test_deep_nesting(served):
    r = served.request("POST", "/v1/chat/completions", "[" * 200_000)
    assert r.status == 400 and r.error()["code"] == "invalid_json"


def test_method_not_allowed(served):
    for method, path in (("GET", "/v1/chat/completions"), ("DELETE", "/v1/models"), ("PUT", "/v1/completions")):
        r = served.request(method, path)
        assert (r.status, r.error()["code"]) == (405, "method_not_allowed")


def test_body_over_the_limit(served):
    """Refused by its announced length, before it is sent; the SDK sees the status."""
    with served.raw() as raw:
        raw.send("POST /v1/chat/completions HTTP/1.1\r\nHost: x\r\n"
                 f"Authorization: Bearer {served.key}\r\nContent-Length: {64 << 20}\r\n\r\n")
        r = raw.response()
        assert (r.status, r.error()["code"]) == (413, "request_too_large")
        assert raw.is_closed()
    with served.openai() as c:
        e = chat_refused(c, openai.APIStatusError, messages=[{"role": "user", "content": "x" * (34 << 20)}])
        assert (e.status_code, e.code) == (413, "request_too_large")


def test_refusals_leave_the_server_well(client):
    assert client.chat.completions.create(model=MODEL, messages=ASK, max_tokens=1).choices
