"""The official `openai` Python package: plain completions."""
import openai
import pytest

from budlib import MODEL, token_ids

PROMPT = "Once upon a time there was a little"


def complete(client, **kwargs):
    given = {"model": MODEL, "prompt": PROMPT, "temperature": 0, "max_tokens": 16}
    return client.completions.create(**{**given, **kwargs})


def test_completion(client):
    reply = complete(client)
    assert reply.object == "text_completion" and reply.id.startswith("cmpl-") and reply.model == MODEL
    choice = reply.choices[0]
    assert (choice.index, choice.finish_reason, choice.logprobs) == (0, "length", None)
    assert choice.text.strip()
    assert reply.usage.prompt_tokens == len(token_ids(PROMPT)) and reply.usage.completion_tokens == 16


def test_default_of_max_tokens_is_16(client):
    reply = client.completions.create(model=MODEL, prompt=PROMPT, extra_body={"ignore_eos": True})
    assert reply.usage.completion_tokens == 16


def test_prompts_in_every_form(client):
    one = complete(client).choices[0].text
    ids = token_ids(PROMPT)
    assert complete(client, prompt=[PROMPT]).choices[0].text == one
    assert complete(client, prompt=ids).choices[0].text == one
    assert complete(client, prompt=[ids]).choices[0].text == one
    many = complete(client, prompt=[PROMPT, "The dog", PROMPT])
    assert [c.index for c in many.choices] == [0, 1, 2]
    assert many.choices[0].text == one and many.choices[1].text != one
    assert many.usage.completion_tokens == 48


def test_several_prompts_with_n(client):
    reply = complete(client, prompt=[PROMPT, "The dog"], n=2, temperature=1, seed=1)
    assert [c.index for c in reply.choices] == [0, 1, 2, 3]


def test_echo(client):
    plain = complete(client).choices[0].text
    assert complete(client, echo=True).choices[0].text == PROMPT + plain
    streamed = "".join(c.choices[0].text for c in complete(client, echo=True, stream=True))
    assert streamed == PROMPT + plain


def test_n_and_seed(client):
    def texts():
        return [c.text for c in complete(client, n=3, temperature=1.2, seed=11).choices]
    first = texts()
    assert len(set(first)) > 1 and texts() == first


def test_best_of(client):
    assert len(complete(client, n=2, best_of=2).choices) == 2


def test_logprobs(client):
    choice = complete(client, logprobs=3).choices[0]
    lp = choice.logprobs
    assert len(lp.tokens) == len(lp.token_logprobs) == len(lp.top_logprobs) == len(lp.text_offset) == 16
    assert "".join(lp.tokens) == choice.text
    offset = 0
    for token, logprob, top, at in zip(lp.tokens, lp.token_logprobs, lp.top_logprobs, lp.text_offset):
        assert at == offset and logprob <= 0 and len(top) == 3
        assert max(top, key=top.get) == token
        offset += len(token)


def test_logprobs_of_the_prompt_are_refused(client):
    with pytest.raises(openai.BadRequestError) as caught:
        complete(client, echo=True, logprobs=1)
    assert (caught.value.code, caught.value.param) == ("unsupported_parameter", "echo")


def test_a_token_has_the_logprob_of_the_distribution(client):
    """What is said of one token as the first to come agrees with what is said of it further on."""
    lp = complete(client, max_tokens=2, logprobs=5).choices[0].logprobs
    after = complete(client, prompt=PROMPT + lp.tokens[0], max_tokens=1, logprobs=5).choices[0].logprobs
    assert after.tokens == lp.tokens[1:]
    assert after.token_logprobs[0] == pytest.approx(lp.token_logprobs[1], abs=0.02)


def test_stream(client):
    chunks = list(complete(client, stream=True, stream_options={"include_usage": True}))
    assert len({(c.id, c.created, c.model, c.object) for c in chunks}) == 1
    assert chunks[0].object == "text_completion"
    assert "".join(c.choices[0].text for c in chunks[:-1]) == complete(client).choices[0].text
    assert [c.choices[0].finish_reason for c in chunks[:-1]][-1] == "length"
    assert chunks[-1].choices == [] and chunks[-1].usage.completion_tokens == 16


def test_stop_in_the_middle(client):
    text = complete(client).choices[0].text
    stop = text[5:9]
    reply = complete(client, stop=stop)
    assert reply.choices[0].text == text[:text.find(stop)] and reply.choices[0].finish_reason == "stop"


@pytest.mark.parametrize("prompt", ["naïve café — “quoted” 🐈", "日本語のテキスト", "a\tb\n\nc"])
def test_unicode_prompts(client, prompt):
    reply = complete(client, prompt=prompt, echo=True)
    assert reply.choices[0].text.startswith(prompt)
