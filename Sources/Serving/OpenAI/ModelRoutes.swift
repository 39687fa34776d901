import Inference
import JSONScanning

/// `GET /v1/models` and `GET /v1/models/{model}`.
enum ModelRoutes {
  static func list(_ context: APIContext) -> HTTPResponse {
    let models = context.settings.modelNames.map { describe($0, context) }
    return HTTPResponse(
      contentType: "application/json",
      body: JSONValue.object(JSONObject([("object", "list"), ("data", .array(models))])).bytes)
  }

  static func retrieve(_ name: String, _ context: APIContext) throws(APIError) -> HTTPResponse {
    guard context.settings.modelNames.contains(name) else { throw .unknownModel(name: name) }
    return HTTPResponse(contentType: "application/json", body: describe(name, context).bytes)
  }

  private static func describe(_ name: String, _ context: APIContext) -> JSONValue {
    .object(
      JSONObject([
        ("id", .string(name)), ("object", "model"), ("created", .integer(context.startedAt)),
        ("owned_by", "step3"), ("root", .string(context.settings.modelNames.first ?? name)),
        ("parent", .null),
        ("max_model_len", context.engine.model.map { .integer($0.contextLength) } ?? .null),
        ("permission", []),
        ("takes_images", context.engine.model.map { _ in takesImages(context) }),
        ("default_sampling", defaults(context.settings.defaults)),
      ]))
  }

  private static func takesImages(_ context: APIContext) -> JSONValue {
    .boolean((try? context.servedModel())?.images != nil)
  }

  /// What is used where a request says nothing.
  private static func defaults(_ defaults: SamplingDefaults) -> JSONValue {
    [
      "temperature": .number(defaults.temperature), "top_p": .number(defaults.topP),
      "top_k": .integer(defaults.topK ?? 0), "min_p": .number(defaults.minP),
      "repetition_penalty": .number(defaults.repetitionPenalty),
    ]
  }
}
