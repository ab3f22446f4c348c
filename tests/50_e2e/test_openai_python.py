"""The official `openai` Python package, unmodified: models, chat, streaming, sampling."""
import math
import threading

import openai
import pytest

from budlib import MODEL, SLOW, Serve, token_ids

ASK = [{"role": "user", "content": "Write a story about a cat who finds a key."}]


def chat(client, **kwargs):
    given = {"model": MODEL, "messages": ASK, "temperature": 0, "max_completion_tokens": 24}
    return client.chat.completions.create(**{**given, **kwargs})


def text_of(reply):
    return reply.choices[0].message.content


# ---- models ----


def test_models(client):
    listed = client.models.list()
    assert [m.id for m in listed] == [MODEL]
    model = listed.data[0]
    assert (model.object, type(model.created), bool(model.owned_by)) == ("model", int, True)
    assert client.models.retrieve(MODEL) == model


# ---- chat ----


def test_chat(client):
    reply = chat(client)
    assert reply.object == "chat.completion" and reply.id.startswith("chatcmpl-")
    assert reply.model == MODEL and reply.created > 1_600_000_000
    choice = reply.choices[0]
    assert choice.index == 0 and choice.message.role == "assistant"
    assert choice.message.content.strip() and choice.message.refusal is None
    assert choice.finish_reason == "length" and choice.logprobs is None
    usage = reply.usage
    assert usage.completion_tokens == 24 and usage.prompt_tokens > len(ASK[0]["content"].split())
    assert usage.total_tokens == usage.prompt_tokens + usage.completion_tokens
    assert usage.prompt_tokens_details.cached_tokens == 0
    assert usage.completion_tokens_details.reasoning_tokens == 0


def test_request_ids(client):
    assert chat(client, max_completion_tokens=1)._request_id.startswith("req_")
    own = chat(client, max_completion_tokens=1, extra_headers={"X-Client-Request-Id": "mine-42"})
    assert own._request_id == "mine-42"


def test_headers_through_raw_response(client):
    raw = client.chat.completions.with_raw_response.create(model=MODEL, messages=ASK, max_tokens=1)
    assert raw.parse().choices[0].finish_reason == "length"
    assert raw.headers["openai-version"] == "2020-10-01"
    assert int(raw.headers["openai-processing-ms"]) >= 0
    assert "proxy;dur=" in raw.headers["server-timing"]


def test_roles_and_content_parts(client):
    messages = [
        {"role": "system", "content": "You tell stories."},
        {"role": "user", "content": [{"type": "text", "text": "Hello"}, {"type": "text", "text": "there."}]},
        {"role": "assistant", "content": "Hello!"},
        {"role": "user", "content": "Write a story about a dog."},
    ]
    reply = chat(client, messages=messages)
    assert reply.usage.prompt_tokens > chat(client, messages=messages[-1:]).usage.prompt_tokens
    assert text_of(reply).strip()


def test_ends_by_itself(client):
    reply = chat(client, max_completion_tokens=None, messages=[{"role": "user", "content": "Hello"}])
    assert reply.choices[0].finish_reason == "stop"
    assert "<" not in text_of(reply), "control tokens are not text"


@pytest.mark.parametrize("name", ["max_tokens", "max_completion_tokens"])
def test_token_limit(client, name):
    reply = client.chat.completions.create(model=MODEL, messages=ASK, **{name: 5})
    assert (reply.usage.completion_tokens, reply.choices[0].finish_reason) == (5, "length")


# ---- streams ----


def test_stream(client):
    chunks = list(chat(client, stream=True))
    assert len({(c.id, c.created, c.model, c.object) for c in chunks}) == 1
    assert chunks[0].object == "chat.completion.chunk" and chunks[0].id.startswith("chatcmpl-")
    assert chunks[0].choices[0].delta.role == "assistant"
    assert all(c.choices[0].delta.role is None for c in chunks[1:])
    finishes = [c.choices[0].finish_reason for c in chunks]
    assert finishes[-1] == "length" and set(finishes[:-1]) <= {None}
    assert all(c.usage is None for c in chunks)
    text = "".join(c.choices[0].delta.content or "" for c in chunks)
    assert text == text_of(chat(client))


def test_stream_usage(client):
    chunks = list(chat(client, stream=True, stream_options={"include_usage": True}))
    assert all("usage" in c.model_fields_set and c.usage is None for c in chunks[:-1])
    assert chunks[-1].choices == [] and chunks[-1].id == chunks[0].id
    assert chunks[-1].usage == chat(client).usage


def test_stream_of_two(client):
    chunks = list(chat(client, stream=True, n=2, temperature=1, seed=3))
    texts, roles, finishes = ["", ""], [0, 0], [0, 0]
    for c in chunks:
        choice = c.choices[0]
        texts[choice.index] += choice.delta.content or ""
        roles[choice.index] += choice.delta.role == "assistant"
        finishes[choice.index] += choice.finish_reason is not None
    assert roles == [1, 1] and finishes == [1, 1]
    whole = chat(client, n=2, temperature=1, seed=3)
    assert texts == [c.message.content for c in whole.choices]
    assert whole.usage.completion_tokens == 48


def test_stream_helper(client):
    """The SDK's own accumulator, which is strict about the order of chunks."""
    hello = [{"role": "user", "content": "Hello"}]
    with client.chat.completions.stream(model=MODEL, messages=hello, temperature=0) as stream:
        kinds = [event.type for event in stream]
        final = stream.get_final_completion()
    assert "content.delta" in kinds and "content.done" in kinds
    assert final.choices[0].message.content == text_of(chat(client, messages=hello, max_completion_tokens=None))


def test_async_together(served):
    import asyncio

    async def ask(c, i):
        reply = await c.chat.completions.create(
            model=MODEL, messages=[{"role": "user", "content": f"Write a story about {i} cats."}], max_tokens=8)
        return reply.usage.completion_tokens

    async def all_of_them():
        async with openai.AsyncOpenAI(base_url=served.url + "/v1", api_key=served.key, max_retries=0) as c:
            return await asyncio.gather(*(ask(c, i) for i in range(24)))

    assert asyncio.run(all_of_them()) == [8] * 24


def test_cancelled_stream_frees_the_server():
    """One place in the batch, held by a long answer; hanging up gives it to the next at once."""
    with Serve(*SLOW, "--parallel", "1") as s, s.openai() as c:
        body = {"ignore_eos": True}
        stream = chat(c, stream=True, max_completion_tokens=900, extra_body=body)
        request_id = stream.response.headers["x-request-id"]
        next(stream), next(stream)
        got, done = [], threading.Event()

        def second():
            got.append(chat(c, max_completion_tokens=2))
            done.set()

        waiter = threading.Thread(target=second)
        waiter.start()
        assert not done.wait(0.3), "the place is taken"
        stream.close()
        assert done.wait(5), "the place was not given up"
        waiter.join()
        assert got[0].usage.completion_tokens == 2
        line = s.access(request_id)
        assert line["http.response.status_code"] == 499
        assert line["gen_ai.usage.output_tokens"] < 450, "the work went on for nobody"


def test_a_timeout_of_the_client_ends_the_work():
    with Serve(*SLOW) as s, s.openai(timeout=0.5) as c:
        with pytest.raises(openai.APITimeoutError):
            chat(c, max_completion_tokens=900, extra_body={"ignore_eos": True},
                 extra_headers={"X-Client-Request-Id": "timed-out"})
        line = s.access("timed-out")
        assert line["http.response.status_code"] == 499 and line["gen_ai.usage.output_tokens"] < 450


def test_a_refusal_is_not_retried(served):
    """The SDK retries by itself where a retry may help; a wrong request comes once."""
    with served.openai(max_retries=2) as c:
        with pytest.raises(openai.BadRequestError):
            chat(c, temperature=9, extra_headers={"X-Client-Request-Id": "refused-once"})
    served.access("refused-once")


def test_answers_together_are_answers_alone(served):
    import asyncio

    asks = [[{"role": "user", "content": f"Write a story about a {who}."}] for who in
            ("dog", "cat", "queen", "robot", "very old and very wise dragon who lives on a hill", "fox", "mouse", "bear")]

    async def together():
        async with openai.AsyncOpenAI(base_url=served.url + "/v1", api_key=served.key, max_retries=0) as c:
            calls = [c.chat.completions.create(model=MODEL, messages=m, temperature=0, max_tokens=24) for m in asks]
            return [text_of(reply) for reply in await asyncio.gather(*calls)]

    with served.openai() as c:
        assert asyncio.run(together()) == [text_of(chat(c, messages=m)) for m in asks]


# ---- sampling ----


def test_temperature_zero_repeats(client):
    assert text_of(chat(client, seed=1)) == text_of(chat(client, seed=2))


def test_seed(client):
    def once(seed):
        return text_of(chat(client, temperature=1.2, seed=seed))
    assert once(7) == once(7)
    assert len({once(seed) for seed in range(4)}) > 1


def test_no_seed_varies(client):
    assert len({text_of(chat(client, temperature=1.5)) for _ in range(4)}) > 1


def test_n(client):
    reply = chat(client, n=2, temperature=1.2, seed=5)
    assert [c.index for c in reply.choices] == [0, 1]
    texts = [c.message.content for c in reply.choices]
    assert texts[0] != texts[1]
    assert texts == [c.message.content for c in chat(client, n=2, temperature=1.2, seed=5).choices]


def test_top_p_of_nearly_nothing_is_greedy(client):
    assert text_of(chat(client, temperature=1.5, top_p=0.0001)) == text_of(chat(client))


def test_logit_bias(client):
    token = token_ids(" dragon", special=False)[0]
    reply = chat(client, logit_bias={str(token): 100}, max_completion_tokens=3)
    once = text_of(chat(client, logit_bias={str(token): 100}, max_completion_tokens=1))
    assert text_of(reply).strip() == (once * 3).strip()


def test_penalties(client):
    token = token_ids(" dragon", special=False)[0]
    bias = {str(token): 12}
    plain = text_of(chat(client, logit_bias=bias))
    assert text_of(chat(client, logit_bias=bias, frequency_penalty=2, presence_penalty=2)) != plain


# ---- stop strings ----


def test_stop_strings_across_tokens(client):
    reply = chat(client, logprobs=True)
    tokens = [t.token for t in reply.choices[0].logprobs.content]
    text = text_of(reply)
    tried = 0
    for left, right in zip(tokens[2:], tokens[3:]):
        stop = left[-2:] + right[:2]
        cut = text.find(stop)
        if len(stop) < 4 or cut <= 0:
            continue
        ended = chat(client, stop=stop)
        assert text_of(ended) == text[:cut] and ended.choices[0].finish_reason == "stop"
        streamed = "".join(c.choices[0].delta.content or "" for c in chat(client, stop=[stop], stream=True))
        assert streamed == text[:cut]
        tried += 1
        if tried == 3:
            break
    assert tried > 0, f"no stop string to try in {tokens}"


def test_stop_string_that_never_comes(client):
    reply = chat(client, stop=["zzz", "qqq", "xxx", "0123"])
    assert reply.choices[0].finish_reason == "length" and text_of(reply) == text_of(chat(client))


# ---- log-probabilities ----


def check_logprobs(content, n_top):
    for t in content:
        assert t.logprob <= 0 and len(t.top_logprobs) == n_top
        values = [a.logprob for a in t.top_logprobs]
        assert values == sorted(values, reverse=True)
        assert sum(math.exp(v) for v in values) <= 1.0001
        assert t.top_logprobs[0].token == t.token and t.top_logprobs[0].logprob == t.logprob, "greedy"


def test_logprobs(client):
    choice = chat(client, logprobs=True, top_logprobs=4).choices[0]
    content = choice.logprobs.content
    assert len(content) == 24
    check_logprobs(content, 4)
    assert b"".join(bytes(t.bytes) for t in content).decode() == choice.message.content
    assert choice.logprobs.refusal is None


def test_logprobs_without_alternatives(client):
    content = chat(client, logprobs=True).choices[0].logprobs.content
    assert len(content) == 24 and all(t.top_logprobs == [] for t in content)


def test_stream_logprobs(client):
    streamed = []
    for c in chat(client, stream=True, logprobs=True, top_logprobs=2):
        if c.choices[0].logprobs:
            streamed += c.choices[0].logprobs.content
    whole = chat(client, logprobs=True, top_logprobs=2).choices[0].logprobs.content
    assert [t.token for t in streamed] == [t.token for t in whole]
    check_logprobs(streamed, 2)


# ---- extensions ----


@pytest.mark.parametrize("extra", [{"top_k": 1}, {"min_p": 1.0}])
def test_greedy_by_extension(client, extra):
    assert text_of(chat(client, temperature=1.5, extra_body=extra)) == text_of(chat(client))


def test_top_k_minus_one_is_off(client):
    off = text_of(chat(client, temperature=1.2, seed=4, extra_body={"top_k": -1}))
    assert off == text_of(chat(client, temperature=1.2, seed=4))


def test_repetition_penalty(client):
    ask = {"logit_bias": {str(token_ids(" dragon", special=False)[0]): 12}}
    assert text_of(chat(client, **ask, extra_body={"repetition_penalty": 5.0})) != text_of(chat(client, **ask))


def test_ignore_eos(client):
    hello = [{"role": "user", "content": "Hello"}]
    natural = chat(client, messages=hello, max_completion_tokens=None)
    n = natural.usage.completion_tokens + 10
    reply = chat(client, messages=hello, max_completion_tokens=n, extra_body={"ignore_eos": True})
    assert (reply.usage.completion_tokens, reply.choices[0].finish_reason) == (n, "length")


def test_min_tokens(client):
    hello = [{"role": "user", "content": "Hello"}]
    natural = chat(client, messages=hello, max_completion_tokens=None)
    n = natural.usage.completion_tokens + 10
    reply = chat(client, messages=hello, max_completion_tokens=n + 5, extra_body={"min_tokens": n})
    assert reply.usage.completion_tokens >= n


def test_stop_token_ids(client):
    token = token_ids(" dragon", special=False)[0]
    ask = {"logit_bias": {str(token): 100}, "max_completion_tokens": 4}
    reply = chat(client, **ask, extra_body={"stop_token_ids": [token]})
    assert (text_of(reply), reply.choices[0].finish_reason) == ("", "stop")


def test_chat_template_kwargs(client):
    body = {"chat_template_kwargs": {"enable_thinking": False, "depth": 3}}
    assert text_of(chat(client, extra_body=body)) == text_of(chat(client))


def test_members_without_effect(client):
    reply = chat(client, user="ada", metadata={"team": "a"}, store=False, service_tier="auto",
                 safety_identifier="s", prompt_cache_key="p")
    assert text_of(reply) == text_of(chat(client))
