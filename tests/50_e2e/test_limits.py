"""The options that bound a model server: refused with their numbers when they cannot be, and doing what
they say when they can; what never fits is 400 at once, what cannot be in time is refused at entry."""
import re
import threading

import openai
import pytest

from budlib import MODEL, SLOW, Serve, bud, eventually

PROMPT = "Once upon a time there was a fox who lived at the edge of a quiet wood, and every evening " * 3


@pytest.mark.parametrize("words, said", [
    (["--tenant-parallel", "9", "--parallel", "4"], ["--tenant-parallel 9", "--parallel 4"]),
    (["--kv-tokens", "128", "--ctx", "256"], ["--kv-tokens 128", "--ctx 256"]),
    (["--step-ms", "5000", "--waiting-seconds", "2"], ["--step-ms 5000", "--waiting-seconds 2"]),
    (["--waiting", "0"], ["--waiting", "65536"]),
    (["--waiting-seconds", "4000"], ["--waiting-seconds", "3600"]),
    (["--step-ms", "0"], ["--step-ms", "10000"]),
    (["--kv-tokens", "63"], ["--kv-tokens", "64"]),
    (["--parallel", "many"], ["--parallel", "many"]),
    (["--prefix-cache", "maybe"], ["--prefix-cache maybe", "on or off"]),
    (["--speculation", "1"], ["--speculation 1", "on or off"]),
    (["--threads", "257"], ["--threads 257", "256"]),
    (["--kv-tokens", "536870913"], ["--kv-tokens", "536870912"]),
    (["--kv-tokens", "536870912"], ["MiB", "memory"]),
    (["--ctx", "1000000"], ["1000000"]),
])
def test_impossible_settings_are_refused_with_the_numbers(tmp_path, words, said):
    run = bud("serve", "--listen", "127.0.0.1:0", "--admin-listen", "127.0.0.1:0", *words, home=str(tmp_path))
    text = run.stdout + run.stderr
    assert run.returncode not in (0, None) and run.returncode > 0, text
    for part in said:
        assert part in text, text


@pytest.fixture(scope="module")
def small():
    """Everything small; one compute thread of the slow backend, so that work lasts."""
    with Serve("--parallel", "4", "--tenant-parallel", "1", "--waiting", "4", "--waiting-seconds", "3000",
               "--step-ms", "20", "--kv-tokens", "512", "--ctx", "256", "--prefix-cache", "off", "--speculation",
               "off", *SLOW) as s:
        yield s


def metric(served, name):
    text = served.link("GET", "/metrics").body.decode()
    found = re.search(rf'^{name}{{model="{MODEL}"[^}}]*}} (\S+)$', text, re.M)
    return float(found.group(1)) if found else 0.0


def ask(served, **more):
    with served.openai() as client:
        return client.completions.create(**{"model": MODEL, "prompt": PROMPT, "temperature": 0, "max_tokens": 2, **more})


def test_nothing_is_kept_or_guessed_when_that_is_off(small):
    for _ in range(2):
        usage = ask(small, prompt=PROMPT + "Again and again and again and again", max_tokens=8).usage
        assert usage.prompt_tokens > 64
        assert usage.prompt_tokens_details is None or usage.prompt_tokens_details.cached_tokens in (None, 0)
    assert metric(small, "bud_prefix_cache_hits_total") == 0
    assert metric(small, "bud_draft_tokens_total") == 0
    assert metric(small, "bud_prompt_tokens_computed_total") >= 2 * usage.prompt_tokens
    assert metric(small, "bud_last_step_timestamp_seconds") > 1.6e9
    assert metric(small, "bud_kv_pages_total") == 512 / 32


def test_prompts_are_kept_when_that_is_on():
    with Serve("--ctx", "256", "--threads", "1") as served:
        first = ask(served).usage
        again = ask(served).usage
        assert again.prompt_tokens_details.cached_tokens == first.prompt_tokens - 1
        assert metric(served, "bud_prefix_cache_hits_total") == first.prompt_tokens - 1


def test_a_full_line_answers_429_and_ends_nobody(small):
    """One runs, three wait (of one tenant three quarters of the line), the others are refused."""
    refused, served, begun = [], [], threading.Event()

    def one(idx):
        try:
            with small.openai() as client:
                events = client.completions.create(model=MODEL, prompt=f"{idx} {PROMPT}", max_tokens=40, stream=True,
                                                   temperature=0, extra_body={"ignore_eos": True})
                n = 0
                for _ in events:
                    begun.set()
                    n += 1
                served.append(n)
        except openai.RateLimitError as e:
            refused.append(e)
    threads = [threading.Thread(target=one, args=(0,))]
    threads[0].start()
    assert begun.wait(30)
    threads += [threading.Thread(target=one, args=(i,)) for i in range(1, 9)]
    for t in threads[1:]:
        t.start()
    for t in threads:
        t.join()
    assert len(served) + len(refused) == 9 and len(refused) >= 1 and len(served) >= 4
    for e in refused:
        assert e.code == "server_busy" and 0 < float(e.response.headers["retry-after"]) <= 60
    assert eventually(lambda: metric(small, "bud_kv_pages_used") == 0)


def test_what_never_fits_is_400(small):
    with pytest.raises(openai.BadRequestError) as caught:
        ask(small, prompt=PROMPT * 5)
    assert caught.value.code == "context_length_exceeded" and "256" in caught.value.message
    body = {"model": MODEL, "prompt": PROMPT, "max_tokens": 4}
    reply = small.link("POST", "/v1/completions", body, ["bud-budget-tokens: 20"])
    assert reply.status == 400 and reply.error()["code"] == "context_length_exceeded"
    assert "20" in reply.error()["message"]
    enough = small.link("POST", "/v1/completions", body, ["bud-budget-tokens: 1000"])
    assert enough.status == 200


def test_deadlines_are_kept(small):
    """What is refused for a predicted time is tested under a fake clock (test_sched_load, test_embed_queue)."""
    body = {"model": MODEL, "prompt": PROMPT + " to the end", "max_tokens": 100, "ignore_eos": True}
    late = small.link("POST", "/v1/completions", body, ["bud-deadline-ms: 0"])
    assert late.status == 504 and late.error()["code"] == "timeout"
    # Refused at entry for its prediction; 504 where the time was over before that, or the work was begun.
    near = small.link("POST", "/v1/completions", body, ["bud-deadline-ms: 2"])
    assert (near.status, near.error()["code"]) in ((429, "server_busy"), (504, "timeout"))
    far = small.link("POST", "/v1/completions", {**body, "max_tokens": 1}, ["bud-deadline-ms: 60000"])
    assert far.status == 200
