import Inference
import JSONScanning

/// The request of `POST /v1/chat/completions`.
struct ChatCompletionsRequest: Sendable {
  var modelName: String
  var chat: ChatRequest

  init(_ fields: FieldReader, model: ServedModel, context: APIContext) throws(APIError) {
    let settings = context.settings
    modelName = try context.resolve(model: try fields.string("model"))
    let messages = try ChatMessages.normalised(
      try fields.requiredArray("messages"), path: "messages")
    let count = try Self.logprobCount(fields, limit: settings.limits.logprobCount)
    var options = try GenerationOptions(
      fields, logprobCount: count, model: model, settings: settings)
    options.maximumTokens = try Self.maximumTokens(fields)
    options.thinkingTokenBudget = try GenerationOptions.thinkingBudget(fields)
    let tools = try fields.has("tools") ? ChatTools.read(fields) : Self.retiredFunctions(fields)
    chat = ChatRequest(input: ChatTemplateInput(messages: messages), options: options)
    chat.tools = tools
    chat.toolChoice = try ChatTools.choice(fields, tools: tools)
    chat.allowsParallelCalls = try fields.boolean("parallel_tool_calls") ?? true
    chat.constraint = try ConstraintSpecification.read(fields)
    chat.reasoning.isIncluded = try fields.boolean("include_reasoning") ?? true
    chat.reasoning.isSeparate = try fields.boolean("separate_reasoning") ?? true
    chat.reasoning.isStreamed = try fields.boolean("stream_reasoning") ?? true
    chat.addsSpecialTokens = try fields.boolean("add_special_tokens") ?? false
    try Self.readTemplate(fields, limits: settings.limits, into: &chat)
  }

  private static func maximumTokens(_ fields: FieldReader) throws(APIError) -> Int? {
    let new = try fields.integer("max_completion_tokens", in: 1...Int.max)
    let old = try fields.integer("max_tokens", in: 1...Int.max)
    return new ?? old
  }

  private static func logprobCount(
    _ fields: FieldReader, limit: Int
  ) throws(APIError) -> Int? {
    let wants = try fields.boolean("logprobs") ?? false
    let top = try fields.integer("top_logprobs", in: -1...limit)
    if let top, top != 0, !wants {
      throw .badField(path: fields.path("top_logprobs"), reason: "needs `logprobs` to be true.")
    }
    return wants ? top ?? 0 : nil
  }

  /// The form before `tools`: `functions` and `function_call`.
  private static func retiredFunctions(_ fields: FieldReader) throws(APIError) -> [ChatTool] {
    guard let array = try fields.array("functions") else { return [] }
    var tools: [ChatTool] = []
    for (index, element) in array.enumerated() {
      let function = try FieldReader(element, path: "\(fields.path("functions"))[\(index)]")
      tools.append(try ChatTools.read(function: function, schemaKey: "parameters"))
    }
    return try ChatTools.checked(tools, path: fields.path("functions"))
  }

  private static func readTemplate(
    _ fields: FieldReader, limits: RequestLimits, into chat: inout ChatRequest
  ) throws(APIError) {
    let continues = try fields.boolean("continue_final_message") ?? false
    let adds = try fields.boolean("add_generation_prompt")
    if continues && adds == true {
      throw .badField(
        path: fields.path("continue_final_message"),
        reason: "and `add_generation_prompt` exclude each other.")
    }
    chat.input.continuesFinalMessage = continues
    chat.input.addsGenerationPrompt = continues ? false : adds ?? true
    if try fields.boolean("echo") == true, continues {
      chat.echo = chat.input.messages.last?["content"]?.string ?? ""
    }
    if let template = try fields.string("chat_template") {
      guard limits.trustsTemplates else {
        throw .badField(
          path: fields.path("chat_template"),
          reason: "is only taken by a server started with --trust-request-chat-template.")
      }
      chat.input.template = template
    }
    if let variables = try fields.fields("chat_template_kwargs") {
      chat.input.variables = variables.object
    }
    if let documents = try fields.array("documents") {
      chat.input.variables["documents"] = .array(documents)
    }
    if let effort = try fields.choice(
      "reasoning_effort", of: ["none", "minimal", "low", "medium", "high", "xhigh", "max"])
    {
      chat.input.setEffort(effort)
    }
  }
}

extension ChatTemplateInput {
  /// Hands the wished effort to the template; `none` is no thinking at all.
  mutating func setEffort(_ effort: String) {
    variables["reasoning_effort"] = .string(effort)
    if effort == "none" { setThinking(false) }
  }

  /// Turns thinking on or off by the names that templates use.
  mutating func setThinking(_ isOn: Bool) {
    for name in ["enable_thinking", "thinking"] where variables[name] == nil {
      variables[name] = .boolean(isOn)
    }
  }
}
