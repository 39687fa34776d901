extension ChatTemplate {
  /// The template for a Step3 checkpoint that ships none: `step3DefaultSource`.
  package static func step3Default() throws(TemplateError) -> ChatTemplate {
    try ChatTemplate(source: step3DefaultSource, origin: .step3Default)
  }

  /// Tokens that `step3DefaultSource` writes and a tokenizer must have as single tokens.
  package static let step3DefaultTokens = ["<|BOT|>", "<|EOT|>", "<think>"]

  /// Step3's turns as far as they are known, the rest as its sibling models have it.
  ///
  /// Known: the beginning-of-sequence token, then all system texts without any marker, then the
  /// tools as JSON within a fixed text, `tool_description` messages as they are, and that a turn
  /// begins with `<|BOT|>`. Assumed, since the published template could not be read to its end:
  /// a turn is `<|BOT|>role\ncontent<|EOT|>`, tool calls stand after the content in the form that
  /// the model itself writes, and the answer is asked for by `<|BOT|>assistant\n<think>\n`. A
  /// `chat_template.jinja` beside the weights takes precedence.
  package static let step3DefaultSource = #"""
    {%- macro render_content(content) -%}
    {%- if content is string -%}
    {{- content -}}
    {%- elif content is mapping -%}
    {{- content['value'] if 'value' in content else content['text'] -}}
    {%- elif content is iterable -%}
    {%- for item in content -%}
    {%- if item is string -%}
    {{- item -}}
    {%- elif item['type'] == 'text' -%}
    {{- item['value'] if 'value' in item else item['text'] -}}
    {%- elif item['type'] in ['image', 'image_url'] -%}
    {{- '<im_patch>' -}}
    {%- else -%}
    {{- raise_exception('content of type ' ~ item['type'] ~ ' is not supported') -}}
    {%- endif -%}
    {%- endfor -%}
    {%- endif -%}
    {%- endmacro -%}
    {%- macro render_calls(calls) -%}
    {{- '<｜tool_calls_begin｜>\n' -}}
    {%- for call in calls -%}
    {%- set function = call['function'] if 'function' in call else call -%}
    {{- '<｜tool_call_begin｜>function<｜tool_sep｜><steptml:invoke name="' ~ function['name'] ~ \#
    '">\n' -}}
    {%- if function['arguments'] is mapping -%}
    {%- for name, value in function['arguments'].items() -%}
    {{- '<steptml:parameter name="' ~ name ~ '">' -}}
    {{- value if value is string else value | tojson(ensure_ascii=False) -}}
    {{- '</steptml:parameter>\n' -}}
    {%- endfor -%}
    {%- elif function['arguments'] -%}
    {{- function['arguments'] ~ '\n' -}}
    {%- endif -%}
    {{- '</steptml:invoke><｜tool_call_end｜>\n' -}}
    {%- endfor -%}
    {{- '<｜tool_calls_end｜>' -}}
    {%- endmacro -%}
    {%- if not add_generation_prompt is defined -%}
    {%- set add_generation_prompt = false -%}
    {%- endif -%}
    {{- bos_token -}}
    {%- for message in messages -%}
    {%- if message['role'] == 'system' -%}
    {{- render_content(message['content']) -}}
    {%- endif -%}
    {%- endfor -%}
    {%- if tools -%}
    {{- '# Tools \nYou may call one or more tools to assist with the user query. You are \#
    provided with tool schemas within <tools></tools> XML tags: <tools>' -}}
    {%- for tool in tools -%}
    {{- tool | tojson(ensure_ascii=False) ~ '\n' -}}
    {%- endfor -%}
    {{- '</tools> When making tool calls, use XML format to invoke tools and pass parameters: \#
    <｜tool_calls_begin｜>\n<｜tool_call_begin｜>\nfunction<｜tool_sep｜><steptml:invoke \#
    name="tool_name0"><steptml:parameter name="parameter_name0">[parameter \#
    value]</steptml:parameter>...</steptml:invoke><｜tool_call_end｜>\n<｜tool_call_begin｜>\nfuncti\#
    on<｜tool_sep｜><steptml:invoke name="tool_name1"><steptml:parameter \#
    name="parameter_name1">[parameter \#
    value]</steptml:parameter>...</steptml:invoke><｜tool_call_end｜>\n<｜tool_calls_end｜>\nNote: \#
    * You can invoke one or more tools in parallel. * Each tool call must be complete and \#
    self-contained within a single <steptml:toolcall></steptml:toolcall> block. ' -}}
    {%- endif -%}
    {%- for message in messages -%}
    {%- if message['role'] == 'tool_description' -%}
    {{- render_content(message['content']) -}}
    {%- elif message['role'] != 'system' -%}
    {{- '<|BOT|>' ~ message['role'] ~ '\n' -}}
    {{- render_content(message['content']) -}}
    {%- if message['tool_calls'] -%}
    {{- render_calls(message['tool_calls']) -}}
    {%- endif -%}
    {{- '<|EOT|>' -}}
    {%- endif -%}
    {%- endfor -%}
    {%- if add_generation_prompt -%}
    {{- '<|BOT|>assistant\n<think>\n' -}}
    {%- endif -%}

    """#
}
