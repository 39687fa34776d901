"""Images by the `openai` and `anthropic` packages; a model without eyes must say so."""

import base64
import pathlib

import anthropic
import openai

FIXTURES = pathlib.Path(__file__).parent.parent / "Fixtures"
IMAGE = FIXTURES / "tiny" / "vision-f32" / "golden" / "vision" / "image.png"
DATA = base64.b64encode(IMAGE.read_bytes()).decode()
QUESTION = "What is in the picture?"


def test_openai_shows_an_image(url, model):
    client = openai.OpenAI(base_url=f"{url}/v1", api_key="none", max_retries=0, timeout=300)
    picture = {"type": "image_url", "image_url": {"url": f"data:image/png;base64,{DATA}"}}
    content = [picture, {"type": "text", "text": QUESTION}]
    try:
        answer = client.chat.completions.create(
            model=model, messages=[{"role": "user", "content": content}], max_tokens=8,
            temperature=0,
        )  # fmt: skip
    except openai.BadRequestError as error:
        assert "takes no images" in str(error)
        assert error.body["param"] == "messages[0].content[0].image_url.url"
        return
    assert answer.usage.completion_tokens > 0
    assert answer.usage.prompt_tokens_details.model_extra["image_tokens"] > 0
    parts = [
        {"type": "input_image", "image_url": f"data:image/png;base64,{DATA}", "detail": "auto"},
        {"type": "input_text", "text": QUESTION},
    ]
    response = client.responses.create(
        model=model, input=[{"role": "user", "content": parts}], max_output_tokens=16
    )
    assert response.usage.input_tokens == answer.usage.prompt_tokens


def test_anthropic_shows_an_image(url, model):
    client = anthropic.Anthropic(base_url=url, api_key="none", max_retries=0, timeout=300)
    source = {"type": "base64", "media_type": "image/png", "data": DATA}
    content = [{"type": "image", "source": source}, {"type": "text", "text": QUESTION}]
    messages = [{"role": "user", "content": content}]
    try:
        counted = client.messages.count_tokens(model=model, messages=messages)
    except anthropic.BadRequestError as error:
        assert "takes no images" in str(error)
        return
    plain = client.messages.count_tokens(
        model=model, messages=[{"role": "user", "content": QUESTION}]
    )
    assert counted.input_tokens > plain.input_tokens
    message = client.messages.create(model=model, max_tokens=8, messages=messages)
    assert message.usage.input_tokens > 0
