"""The `anthropic` package."""

import anthropic
import pytest

TOOL = {
    "name": "get_weather",
    "description": "Tells the weather.",
    "input_schema": {
        "type": "object",
        "properties": {"city": {"type": "string"}},
        "required": ["city"],
    },
}
HELLO = [{"role": "user", "content": "Say hello."}]


@pytest.fixture(scope="session")
def client(url: str) -> anthropic.Anthropic:
    return anthropic.Anthropic(base_url=url, api_key="none", max_retries=0, timeout=300)


def test_message_and_count(client, model):
    message = client.messages.create(model=model, max_tokens=24, messages=HELLO, system="Be brief.")
    assert message.role == "assistant" and message.stop_reason in ("end_turn", "max_tokens")
    counted = client.messages.count_tokens(model=model, messages=HELLO, system="Be brief.")
    assert counted.input_tokens == message.usage.input_tokens


def test_stream_builds_the_same_message(client, model):
    arguments = dict(model=model, max_tokens=24, messages=HELLO, extra_body={"temperature": 0})
    whole = client.messages.create(**arguments)
    with client.messages.stream(**arguments) as stream:
        for _ in stream:
            pass
        final = stream.get_final_message()
    assert [block.type for block in final.content] == [block.type for block in whole.content]
    assert [getattr(block, "text", None) for block in final.content] == [
        getattr(block, "text", None) for block in whole.content
    ]
    assert final.usage.output_tokens == whole.usage.output_tokens


def test_forced_tool_and_its_result(client, model):
    message = client.messages.create(
        model=model,
        max_tokens=400,
        messages=HELLO,
        tools=[TOOL],
        tool_choice={"type": "tool", "name": "get_weather"},
        thinking={"type": "enabled", "budget_tokens": 1024},
    )
    call = next(block for block in message.content if block.type == "tool_use")
    assert message.stop_reason in ("tool_use", "max_tokens")
    answer = client.messages.create(
        model=model,
        max_tokens=8,
        tools=[TOOL],
        messages=HELLO
        + [
            {
                "role": "assistant",
                "content": [block.model_dump(exclude_none=True) for block in message.content],
            },
            {
                "role": "user",
                "content": [{"type": "tool_result", "tool_use_id": call.id, "content": "Sunny."}],
            },
        ],
    )
    assert answer.usage.input_tokens > message.usage.input_tokens


def test_errors(client, model):
    with pytest.raises(anthropic.NotFoundError):
        client.messages.create(model="no-such-model", max_tokens=8, messages=HELLO)
    with pytest.raises(anthropic.BadRequestError):
        client.messages.create(
            model=model, max_tokens=8, messages=[{"role": "wizard", "content": "x"}]
        )
