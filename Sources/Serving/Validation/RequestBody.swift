import JSONScanning

extension HTTPRequest {
  /// The body as the fields of one JSON object.
  ///
  /// Strict: invalid UTF-8, lone surrogates, numbers past the range of a double and nesting past
  /// 512 levels are refused; of duplicate keys the last counts, as clients' JSON libraries do.
  func fields() throws(APIError) -> FieldReader {
    if let type = header("content-type"), !Self.isJSON(type) {
      throw .notJSON(contentType: String(type.prefix(100)))
    }
    if let coding = header("content-encoding"), coding.lowercased() != "identity", !coding.isEmpty {
      throw .encodedBody(coding: String(coding.prefix(100)))
    }
    let value: JSONValue
    do throws(JSONError) {
      value = try JSONValue(parsing: body, duplicateKeys: .keepLast, depthLimit: 512)
    } catch {
      throw .badBody(reason: body.isEmpty ? "The body is empty." : "\(error).")
    }
    guard let object = value.object else {
      throw .badBody(reason: "The body must be a JSON object, not \(value.kindPhrase).")
    }
    return FieldReader(object)
  }

  private static func isJSON(_ contentType: String) -> Bool {
    let type = contentType.prefix { $0 != ";" }.lowercased().filter { $0 != " " }
    return type.isEmpty || type == "application/json" || type.hasSuffix("+json")
      || type == "text/json"
  }
}
