"""`litellm` by three of its roads, and the error classes it tells by their text."""

import litellm
import pytest

HELLO = [{"role": "user", "content": "Say hello."}]


@pytest.mark.parametrize("provider", ["openai", "hosted_vllm"])
def test_chat(url, model, provider):
    arguments = dict(
        model=f"{provider}/{model}",
        api_base=f"{url}/v1",
        api_key="none",
        messages=HELLO,
        max_tokens=16,
        temperature=0,
    )
    whole = litellm.completion(**arguments)
    chunks = list(
        litellm.completion(**arguments, stream=True, stream_options={"include_usage": True})
    )
    rebuilt = litellm.stream_chunk_builder(chunks, messages=HELLO)
    assert (rebuilt.choices[0].message.content or "") == (whole.choices[0].message.content or "")
    assert rebuilt.usage.completion_tokens == whole.usage.completion_tokens


def test_anthropic_road(url, model):
    answer = litellm.completion(
        model=f"anthropic/{model}", api_base=url, api_key="none", messages=HELLO, max_tokens=16
    )
    assert answer.usage.completion_tokens > 0


def test_context_window_error(url, model):
    with pytest.raises(litellm.ContextWindowExceededError):
        litellm.completion(
            model=f"openai/{model}",
            api_base=f"{url}/v1",
            api_key="none",
            messages=HELLO,
            max_tokens=10_000_000,
        )
