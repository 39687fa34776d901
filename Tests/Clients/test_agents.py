"""Agent and structured-output packages, each doing what its users do with it.

The model is small and talks nonsense: what is tested is the protocol, so outputs are held to their
form and the loops are cut short.
"""

import asyncio
from typing import Literal

import pytest
from pydantic import BaseModel, Field

HELLO = "Say hello."
BUDGET = {"thinking_token_budget": 8}


class Weather(BaseModel):
    """The weather in a city."""

    city: Literal["Paris", "Rome"]
    degrees: int = Field(ge=-50, le=50)


class TestLangChain:
    @pytest.fixture
    def chat(self, url, model):
        from langchain_openai import ChatOpenAI

        return ChatOpenAI(
            model=model,
            base_url=f"{url}/v1",
            api_key="none",
            temperature=0,
            max_tokens=200,
            max_retries=0,
            stream_usage=True,
            extra_body=BUDGET,
        )

    def test_answer_and_stream_are_the_same(self, chat):
        short = chat.model_copy(update={"max_tokens": 24})
        whole = short.invoke(HELLO)
        assert whole.usage_metadata["output_tokens"] > 0
        text, usage = "", None
        for chunk in short.stream(HELLO):
            text += chunk.content
            usage = chunk.usage_metadata or usage
        assert text == whole.content
        assert usage["output_tokens"] == whole.usage_metadata["output_tokens"]

    @pytest.mark.parametrize("method", ["json_schema", "function_calling"])
    def test_structured_output(self, chat, method):
        answer = chat.with_structured_output(Weather, method=method).invoke("Weather in Rome?")
        assert isinstance(answer, Weather)

    def test_tool_and_its_result(self, chat):
        from langchain_core.messages import HumanMessage, ToolMessage
        from langchain_core.tools import tool

        @tool
        def weather(city: Literal["Paris", "Rome"]) -> str:
            """Tells the weather in a city."""
            return f"Sunny in {city}."

        asked = HumanMessage("Weather in Paris?")
        message = chat.bind_tools([weather], tool_choice="weather").invoke([asked])
        call = message.tool_calls[0]
        assert call["name"] == "weather" and call["args"]["city"] in ("Paris", "Rome")
        result = ToolMessage(weather.invoke(call["args"]), tool_call_id=call["id"])
        short = chat.model_copy(update={"max_tokens": 16})
        answer = short.bind_tools([weather]).invoke([asked, message, result])
        assert answer.usage_metadata["input_tokens"] > message.usage_metadata["input_tokens"]

    def test_streamed_tool_call(self, chat):
        from langchain_core.tools import tool

        @tool
        def weather(city: Literal["Paris", "Rome"]) -> str:
            """Tells the weather in a city."""
            return city

        total = None
        for chunk in chat.bind_tools([weather], tool_choice="required").stream(HELLO):
            total = chunk if total is None else total + chunk
        assert total.tool_calls and total.tool_calls[0]["args"]["city"] in ("Paris", "Rome")

    def test_legacy_completions(self, url, model):
        from langchain_openai import OpenAI

        complete = OpenAI(
            model=model, base_url=f"{url}/v1", api_key="none", temperature=0, max_tokens=12
        )
        whole = complete.invoke("1 2 3 4")
        assert whole and "".join(complete.stream("1 2 3 4")) == whole
        assert len(complete.generate(["1 2", "a b"]).generations) == 2

    def test_responses_api(self, url, model):
        from langchain_openai import ChatOpenAI

        chat = ChatOpenAI(
            model=model,
            base_url=f"{url}/v1",
            api_key="none",
            use_responses_api=True,
            max_tokens=24,
            temperature=0,
        )
        whole = chat.invoke(HELLO)
        assert whole.usage_metadata["output_tokens"] > 0
        assert [chunk for chunk in chat.stream(HELLO)]


class TestInstructor:
    @pytest.mark.parametrize("mode", ["TOOLS", "TOOLS_STRICT", "JSON_SCHEMA"])
    def test_modes(self, url, model, mode):
        import instructor
        from openai import OpenAI

        client = instructor.from_openai(
            OpenAI(base_url=f"{url}/v1", api_key="none"), mode=instructor.Mode[mode]
        )
        weather = client.chat.completions.create(
            model=model,
            response_model=Weather,
            max_retries=0,
            max_tokens=300,
            temperature=0,
            messages=[{"role": "user", "content": "Weather in Rome?"}],
            extra_body=BUDGET,
        )
        assert isinstance(weather, Weather)

    def test_partial_stream(self, url, model):
        import instructor
        from openai import OpenAI

        client = instructor.from_openai(
            OpenAI(base_url=f"{url}/v1", api_key="none"), mode=instructor.Mode.TOOLS
        )
        last = None
        for partial in client.chat.completions.create_partial(
            model=model,
            response_model=Weather,
            max_retries=0,
            max_tokens=300,
            temperature=0,
            messages=[{"role": "user", "content": "Weather in Rome?"}],
            extra_body=BUDGET,
        ):
            last = partial
        assert last.city in ("Paris", "Rome")


class TestPydanticAI:
    def agent(self, url, model, **more):
        from pydantic_ai import Agent
        from pydantic_ai.models.openai import OpenAIChatModel
        from pydantic_ai.providers.openai import OpenAIProvider

        provider = OpenAIProvider(base_url=f"{url}/v1", api_key="none")
        settings = {"max_tokens": 300, "temperature": 0, "extra_body": BUDGET}
        return Agent(OpenAIChatModel(model, provider=provider), model_settings=settings, **more)

    def test_text_and_usage(self, url, model):
        result = self.agent(url, model, output_type=str).run_sync(
            HELLO, model_settings={"max_tokens": 48, "extra_body": BUDGET}
        )
        assert result.usage.output_tokens > 0

    def test_output_by_tool(self, url, model):
        result = self.agent(url, model, output_type=Weather).run_sync("Weather in Rome?")
        assert isinstance(result.output, Weather)

    def test_native_output(self, url, model):
        from pydantic_ai import NativeOutput

        result = self.agent(url, model, output_type=NativeOutput(Weather)).run_sync("Weather?")
        assert isinstance(result.output, Weather)

    def test_stream(self, url, model):
        async def run():
            agent = self.agent(url, model, output_type=Weather)
            async with agent.run_stream("Weather in Rome?") as stream:
                return await stream.get_output()

        assert isinstance(asyncio.run(run()), Weather)


class TestOpenAIAgents:
    def setup_method(self):
        import agents

        agents.set_tracing_disabled(True)

    def models(self, url, model):
        from agents import OpenAIChatCompletionsModel, OpenAIResponsesModel
        from openai import AsyncOpenAI

        client = AsyncOpenAI(base_url=f"{url}/v1", api_key="none", max_retries=0)
        return {
            "chat": OpenAIChatCompletionsModel(model=model, openai_client=client),
            "responses": OpenAIResponsesModel(model=model, openai_client=client),
        }

    @pytest.mark.parametrize("kind", ["chat", "responses"])
    def test_agent_calls_its_tool_and_goes_on(self, url, model, kind):
        from agents import Agent, ModelSettings, Runner, function_tool

        called = []

        @function_tool
        def weather(city: Literal["Paris", "Rome"]) -> str:
            """Tells the weather in a city."""
            called.append(city)
            return f"Sunny in {city}."

        settings = ModelSettings(
            tool_choice="required",
            max_tokens=250,
            temperature=0,
            parallel_tool_calls=False,
            extra_body=BUDGET,
        )
        agent = Agent(
            name="Weatherman",
            instructions="Use the tool.",
            tools=[weather],
            model=self.models(url, model)[kind],
            model_settings=settings,
        )
        result = asyncio.run(Runner.run(agent, "Weather in Rome?", max_turns=3))
        assert called and called[0] in ("Paris", "Rome")
        assert result.raw_responses[0].usage.output_tokens > 0

    @pytest.mark.parametrize("kind", ["chat", "responses"])
    def test_streamed_run(self, url, model, kind):
        from agents import Agent, ModelSettings, Runner

        agent = Agent(
            name="Talker",
            model=self.models(url, model)[kind],
            model_settings=ModelSettings(max_tokens=48, temperature=0, extra_body=BUDGET),
        )

        async def run():
            result = Runner.run_streamed(agent, HELLO)
            return [event async for event in result.stream_events()]

        assert len(asyncio.run(run())) > 1

    @pytest.mark.parametrize("kind", ["chat", "responses"])
    def test_structured_output(self, url, model, kind):
        from agents import Agent, ModelSettings, Runner

        agent = Agent(
            name="Reporter",
            output_type=Weather,
            model=self.models(url, model)[kind],
            model_settings=ModelSettings(max_tokens=250, temperature=0, extra_body=BUDGET),
        )
        result = asyncio.run(Runner.run(agent, "Weather in Rome?"))
        assert isinstance(result.final_output, Weather)
