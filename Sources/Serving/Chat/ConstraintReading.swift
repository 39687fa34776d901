import JSONScanning

extension ConstraintSpecification {
  /// Reads `response_format` and `structured_outputs`; at most one of them may constrain.
  static func read(_ fields: FieldReader) throws(APIError) -> ConstraintSpecification? {
    let format = try responseFormat(fields)
    let structured = try structuredOutputs(fields)
    if format != nil && structured != nil {
      throw .badField(
        path: fields.path("structured_outputs"), reason: "and `response_format` exclude each other."
      )
    }
    return format ?? structured
  }

  private static func responseFormat(
    _ fields: FieldReader
  ) throws(APIError) -> ConstraintSpecification? {
    guard let format = try fields.fields("response_format") else { return nil }
    switch try format.requiredString("type") {
    case "text": return nil
    case "json_object":
      // llama.cpp's form carries a schema here.
      if let schema = format.value("schema") { return try schemaOf(schema, format.path("schema")) }
      return .jsonObject
    case "json_schema":
      let inner = try format.requiredFields("json_schema")
      return try schemaOf(try inner.required("schema"), inner.path("schema"))
    case "regex": return .regex(try format.requiredString("pattern"))
    case "grammar": return .grammar(try format.requiredString("grammar"))
    case "structural_tag":
      throw .notImplemented(
        path: format.path("type"), reason: "cannot be structural_tag here; use json_schema.")
    default:
      throw .badField(
        path: format.path("type"), reason: "must be text, json_object or json_schema.")
    }
  }

  private static func schemaOf(
    _ schema: JSONValue, _ path: String
  ) throws(APIError) -> ConstraintSpecification {
    guard schema.object != nil || schema.boolean != nil else {
      throw .badField(path: path, reason: "must be a JSON schema, not \(schema.kindPhrase).")
    }
    return .jsonSchema(schema)
  }

  private static func structuredOutputs(
    _ fields: FieldReader
  ) throws(APIError) -> ConstraintSpecification? {
    guard let outputs = try fields.fields("structured_outputs") else { return nil }
    var found: [ConstraintSpecification] = []
    if let json = outputs.value("json") {
      if let text = json.string {
        do throws(JSONError) {
          found.append(.jsonSchema(try JSONValue(parsing: text, duplicateKeys: .keepLast)))
        } catch {
          throw .badField(path: outputs.path("json"), reason: "is not JSON: \(error).")
        }
      } else {
        found.append(try schemaOf(json, outputs.path("json")))
      }
    }
    if let regex = try outputs.string("regex") { found.append(.regex(regex)) }
    if let choice = try outputs.strings("choice") {
      guard !choice.isEmpty else {
        throw .badField(path: outputs.path("choice"), reason: "must hold at least one choice.")
      }
      found.append(.choice(choice))
    }
    if let grammar = try outputs.string("grammar") { found.append(.grammar(grammar)) }
    if try outputs.boolean("json_object") == true { found.append(.jsonObject) }
    if outputs.has("structural_tag") {
      throw .notImplemented(
        path: outputs.path("structural_tag"), reason: "is not offered; use `json`.")
    }
    guard found.count <= 1 else {
      throw .badField(
        path: outputs.path, reason: "must hold one of json, regex, choice, grammar, json_object.")
    }
    return found.first
  }
}
