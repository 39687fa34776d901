"""The `llm` command with the server as one of its models."""

import json
import os
import subprocess
import sys

import pytest


@pytest.fixture
def llm(tmp_path, url, model):
    (tmp_path / "extra-openai-models.yaml").write_text(
        f"- model_id: here\n  model_name: {model}\n  api_base: {url}/v1\n"
        "  supports_schema: true\n  supports_tools: true\n"
        f"- model_id: plain\n  model_name: {model}\n  api_base: {url}/v1\n  completion: true\n"
    )

    def run(*words):
        result = subprocess.run(
            [sys.executable, "-m", "llm", *words],
            env=os.environ | {"LLM_USER_PATH": str(tmp_path)},
            capture_output=True,
            text=True,
            timeout=300,
        )
        assert result.returncode == 0, result.stderr
        return result.stdout

    return run


def test_prompt_stream_and_log(llm):
    options = ("-o", "max_tokens", "64", "-o", "temperature", "0")
    streamed = llm("prompt", "-m", "here", "Say hello.", *options)
    whole = llm("prompt", "-m", "here", "--no-stream", "Say hello.", *options)
    assert streamed == whole
    assert len(json.loads(llm("logs", "--json"))) == 2


def test_schema_and_legacy_completions(llm):
    schema = {"type": "object", "properties": {"colour": {"enum": ["red", "blue"]}}}
    llm("prompt", "-m", "here", "--schema", json.dumps(schema), "A?", "-o", "max_tokens", "32")
    assert llm("prompt", "-m", "plain", "1 2 3", "-o", "max_tokens", "8").strip()
