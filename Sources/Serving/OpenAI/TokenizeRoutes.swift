import Inference
import JSONScanning

/// `/tokenize`, `/detokenize` and `/tokenizer_info`, in vLLM's shapes.
enum TokenizeRoutes {
  static func tokenize(
    _ exchange: HTTPExchange, _ context: APIContext
  ) async throws(APIError) -> RequestSummary {
    let model = try context.servedModel()
    let fields = try context.fields(exchange, .tokenize)
    _ = try context.resolve(model: try fields.string("model"))
    let tokens: [Int]
    if fields.has("messages") {
      let messages = try ChatMessages.normalised(
        try fields.requiredArray("messages"), path: "messages")
      var input = ChatTemplateInput(messages: messages)
      let tools = try ChatTools.read(fields)
      input.tools = tools.isEmpty ? nil : tools.map(\.json)
      input.continuesFinalMessage = try fields.boolean("continue_final_message") ?? false
      input.addsGenerationPrompt =
        try fields.boolean("add_generation_prompt") ?? !input.continuesFinalMessage
      if let variables = try fields.fields("chat_template_kwargs") {
        input.variables = variables.object
      }
      tokens = try await input.prompt(
        model: model, context: context,
        addsSpecialTokens: try fields.boolean("add_special_tokens") ?? false
      ).tokens
    } else {
      tokens = try model.text.encode(
        try fields.requiredString("prompt"),
        addsSpecialTokens: try fields.boolean("add_special_tokens") ?? true)
    }
    let wantsStrings = try fields.boolean("return_token_strs") ?? false
    respond(
      exchange,
      [
        "count": .integer(tokens.count), "max_model_len": .integer(model.facts.contextLength),
        "tokens": .array(tokens.map { .integer($0) }),
        "token_strs": wantsStrings ? .array(tokens.map { .string(model.text.text(of: $0)) }) : nil,
      ])
    return RequestSummary()
  }

  static func detokenize(
    _ exchange: HTTPExchange, _ context: APIContext
  ) throws(APIError) -> RequestSummary {
    let model = try context.servedModel()
    let fields = try context.fields(exchange, .detokenize)
    _ = try context.resolve(model: try fields.string("model"))
    let tokens = try FieldReader.tokenIDs(
      try fields.requiredArray("tokens"), path: "tokens",
      vocabularySize: model.facts.vocabularySize)
    respond(exchange, ["prompt": .string(model.text.text(of: tokens, skipsSpecial: false))])
    return RequestSummary()
  }

  static func information(
    _ exchange: HTTPExchange, _ context: APIContext
  ) throws(APIError) -> RequestSummary {
    let model = try context.servedModel()
    respond(exchange, model.text.information)
    return RequestSummary()
  }

  private static func respond(_ exchange: HTTPExchange, _ json: JSONValue) {
    exchange.respond(HTTPResponse(contentType: "application/json", body: json.bytes))
  }
}
