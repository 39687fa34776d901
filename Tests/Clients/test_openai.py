"""The `openai` package against every route it knows."""

import json
import threading

import openai
import pytest
import requests

TOOL = {
    "type": "function",
    "function": {
        "name": "get_weather",
        "description": "Tells the weather.",
        "parameters": {
            "type": "object",
            "properties": {
                "city": {"type": "string", "enum": ["Paris", "Rome"]},
                "days": {"type": "integer"},
            },
            "required": ["city", "days"],
            "additionalProperties": False,
        },
    },
}
HELLO = [{"role": "user", "content": "Say hello."}]


@pytest.fixture(scope="session")
def client(url: str) -> openai.OpenAI:
    return openai.OpenAI(base_url=f"{url}/v1", api_key="none", max_retries=0, timeout=300)


def test_models(client, model):
    assert model in [each.id for each in client.models.list()]
    assert client.models.retrieve(model).id == model
    with pytest.raises(openai.NotFoundError):
        client.models.retrieve("no/such/model")


def test_chat_equals_its_stream(client, model):
    arguments = dict(
        model=model, messages=HELLO, max_tokens=24, temperature=0, logprobs=True, top_logprobs=2
    )
    whole = client.chat.completions.create(**arguments)
    choice = whole.choices[0]
    assert choice.finish_reason in ("stop", "length")
    assert len(choice.logprobs.content) == whole.usage.completion_tokens
    text, reasoning, entries, usage = "", "", [], None
    for chunk in client.chat.completions.create(
        **arguments, stream=True, stream_options={"include_usage": True}
    ):
        if chunk.usage:
            usage = chunk.usage
        for each in chunk.choices:
            text += each.delta.content or ""
            reasoning += getattr(each.delta, "reasoning_content", None) or ""
            entries += each.logprobs.content if each.logprobs else []
    assert text == (choice.message.content or "")
    assert reasoning == (getattr(choice.message, "reasoning_content", None) or "")
    assert [e.logprob for e in entries] == [e.logprob for e in choice.logprobs.content]
    assert usage.completion_tokens == whole.usage.completion_tokens


def test_same_seed_same_text_in_a_crowd(client, model):
    def ask(results, index):
        answer = client.chat.completions.create(
            model=model, messages=HELLO, max_tokens=16, temperature=1, seed=7
        )
        results[index] = (
            answer.choices[0].message.content,
            getattr(answer.choices[0].message, "reasoning_content", None),
        )

    results = {}
    threads = [threading.Thread(target=ask, args=(results, i)) for i in range(6)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    ask(results, "alone")
    assert len(results) == 7 and len(set(results.values())) == 1


def test_several_choices(client, model):
    answer = client.chat.completions.create(model=model, messages=HELLO, max_tokens=8, n=3, seed=1)
    assert [choice.index for choice in answer.choices] == [0, 1, 2]


def test_forced_tool(client, model):
    for choice in ("required", {"type": "function", "function": {"name": "get_weather"}}):
        answer = client.chat.completions.create(
            model=model,
            messages=HELLO,
            tools=[TOOL],
            tool_choice=choice,
            max_tokens=400,
            parallel_tool_calls=False,
            extra_body={"thinking_token_budget": 8},
        )
        call = answer.choices[0].message.tool_calls[0]
        arguments = json.loads(call.function.arguments)
        assert call.function.name == "get_weather"
        assert arguments["city"] in ("Paris", "Rome") and isinstance(arguments["days"], int)


def test_json_schema(client, model):
    schema = {
        "type": "object",
        "properties": {
            "colour": {"enum": ["red", "blue"]},
            "count": {"type": "integer", "minimum": 0, "maximum": 9},
        },
        "required": ["colour", "count"],
        "additionalProperties": False,
    }
    answer = client.chat.completions.create(
        model=model,
        messages=HELLO,
        max_tokens=200,
        extra_body={"thinking_token_budget": 8},
        response_format={
            "type": "json_schema",
            "json_schema": {"name": "x", "schema": schema, "strict": True},
        },
    )
    value = json.loads(answer.choices[0].message.content)
    assert value["colour"] in ("red", "blue") and 0 <= value["count"] <= 9
    with pytest.raises(openai.BadRequestError):
        client.chat.completions.create(
            model=model,
            messages=HELLO,
            response_format={
                "type": "json_schema",
                "json_schema": {"name": "x", "schema": {"type": "nonsense"}},
            },
        )


def test_completions_score_what_they_echo(client, model):
    url = str(client.base_url).removesuffix("/v1/")
    tokens = requests.post(
        f"{url}/tokenize", json={"prompt": "The sky is blue."}, timeout=60
    ).json()["tokens"]
    answer = client.completions.create(
        model=model,
        prompt=[tokens, tokens],
        max_tokens=1,
        logprobs=1,
        echo=True,
        temperature=0,
        seed=1234,
    )
    assert len(answer.choices) == 2
    first, second = (choice.logprobs for choice in answer.choices)
    assert first.token_logprobs[0] is None and first.top_logprobs[0] is None
    assert len(first.tokens) == len(tokens) + 1
    assert first.token_logprobs == second.token_logprobs
    for logprob, top in zip(first.token_logprobs[1:], first.top_logprobs[1:]):
        assert logprob in top.values() and max(top.values()) >= logprob


def test_completions_stop_and_stream(client, model):
    whole = client.completions.create(model=model, prompt="1 2 3 4", max_tokens=12, temperature=0)
    text = "".join(
        chunk.choices[0].text
        for chunk in client.completions.create(
            model=model, prompt="1 2 3 4", max_tokens=12, temperature=0, stream=True
        )
    )
    assert text == whole.choices[0].text
    if len(text) > 4:
        cut = client.completions.create(
            model=model, prompt="1 2 3 4", max_tokens=12, temperature=0, stop=[text[3]]
        )
        assert cut.choices[0].text == text[: text.index(text[3])]
        assert cut.choices[0].finish_reason == "stop"


def test_responses(client, model):
    first = client.responses.create(model=model, input="Say hello.", max_output_tokens=24)
    assert first.status in ("completed", "incomplete")
    assert client.responses.retrieve(first.id).id == first.id
    second = client.responses.create(
        model=model, input="And again.", previous_response_id=first.id, max_output_tokens=8
    )
    assert second.usage.input_tokens > first.usage.input_tokens
    types, numbers = [], []
    for event in client.responses.create(
        model=model, input="Say hello.", max_output_tokens=24, stream=True
    ):
        types.append(event.type)
        numbers.append(event.sequence_number)
    assert types[0] == "response.created"
    assert types[-1] in ("response.completed", "response.incomplete")
    assert numbers == list(range(len(numbers)))


@pytest.mark.parametrize(
    "change, parameter",
    [
        ({"temperature": 5}, "temperature"),
        ({"messages": [{"role": "wizard", "content": "x"}]}, "messages[0].role"),
        ({"top_logprobs": 3}, "top_logprobs"),
        ({"n": 0}, "n"),
    ],
)
def test_errors_name_the_parameter(client, model, change, parameter):
    with pytest.raises(openai.BadRequestError) as caught:
        client.chat.completions.create(**({"model": model, "messages": HELLO} | change))
    assert caught.value.param == parameter


def test_too_long_says_so(client, model):
    with pytest.raises(openai.BadRequestError, match="maximum context length is"):
        client.chat.completions.create(model=model, messages=HELLO, max_tokens=10_000_000)
