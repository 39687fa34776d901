import JSONScanning

/// The description of the API at `/openapi.json`: a resource, completed by what only the running
/// server knows.
enum OpenAPIDocument {
  /// Answers that any operation may give besides its own.
  private static let commonAnswers = [
    "400": "BadRequest", "401": "Unauthorized", "404": "NotFound", "405": "MethodNotAllowed",
    "408": "Timeout", "409": "Conflict", "413": "TooLarge", "415": "NotJSON",
    "417": "ExpectationFailed", "431": "HeadTooLarge", "500": "Internal", "501": "NotImplemented",
    "503": "Unavailable", "505": "VersionNotSupported",
  ]

  static func json(_ resource: [UInt8], version: String, needsKey: Bool) -> JSONValue {
    guard
      let document = try? JSONValue(parsing: resource),
      var root = document.object
    else { return [:] }
    var info = root["info"]?.object ?? JSONObject()
    info["version"] = .string(version)
    root["info"] = .object(info)
    if needsKey { root["security"] = [["bearer": []], ["apiKey": []]] }
    var paths = JSONObject()
    for path in root["paths"]?.object?.members ?? [] {
      var item = JSONObject()
      for operation in path.value.object?.members ?? [] {
        item[operation.key] = completed(operation.value, isAnthropic: path.key.contains("messages"))
      }
      paths[path.key] = .object(item)
    }
    root["paths"] = .object(paths)
    return .object(root)
  }

  private static func completed(_ operation: JSONValue, isAnthropic: Bool) -> JSONValue {
    guard var object = operation.object, object["responses"] != nil else { return operation }
    var responses = object["responses"]?.object ?? JSONObject()
    let schema = isAnthropic ? "AnthropicError" : "Error"
    for (status, name) in commonAnswers.sorted(by: { $0.key < $1.key })
    where responses[status] == nil {
      responses[status] = [
        "description": .string(name),
        "content": [
          "application/json": ["schema": ["$ref": .string("#/components/schemas/\(schema)")]]
        ],
      ]
    }
    object["responses"] = .object(responses)
    return .object(object)
  }
}
