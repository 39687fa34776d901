package import JSONScanning

/// What is told of one request when it is over. No text of prompts or answers.
package struct RequestRecord: Sendable {
  /// The request's id.
  package var id: String
  /// The client's address.
  package var client: String
  /// GET, POST, …
  package var method: String
  /// The path, without the query.
  package var path: String
  /// The status sent; 499 when the client left first.
  package var status: Int
  /// From the request's arrival to its end.
  package var seconds: Double
  /// Tokens of all prompts.
  package var promptTokenCount = 0
  /// Of these, tokens found in the prefix cache.
  package var cachedTokenCount = 0
  /// Tokens of all choices.
  package var generatedTokenCount = 0
  /// Seconds to the first token, nil when none came.
  package var timeToFirstToken: Double?
  /// How the last choice ended.
  package var finish: String?

  /// One line for people.
  package var text: String {
    var line = "\(id) \(method) \(path) \(status)"
    if promptTokenCount > 0 {
      line += " prompt=\(promptTokenCount)(\(cachedTokenCount) cached) out=\(generatedTokenCount)"
    }
    if let first = timeToFirstToken { line += " ttft=\(Self.milliseconds(first))ms" }
    if let first = timeToFirstToken, generatedTokenCount > 1 {
      let each = (seconds - first) / Double(generatedTokenCount - 1)
      line += " tpot=\(Self.milliseconds(each))ms"
    }
    if let finish { line += " finish=\(finish)" }
    return line + " total=\(Self.milliseconds(seconds))ms client=\(client)"
  }

  /// One JSON object.
  package var json: JSONValue {
    .object(
      JSONObject([
        ("id", .string(id)), ("client", .string(client)), ("method", .string(method)),
        ("path", .string(path)), ("status", .integer(status)), ("seconds", .number(seconds)),
        ("prompt_tokens", .integer(promptTokenCount)),
        ("cached_tokens", .integer(cachedTokenCount)),
        ("completion_tokens", .integer(generatedTokenCount)),
        ("time_to_first_token", timeToFirstToken.map { .number($0) }),
        ("finish", finish.map { .string($0) }),
      ]))
  }

  private static func milliseconds(_ seconds: Double) -> String {
    let tenths = Int((seconds * 10_000).rounded())
    return "\(tenths / 10).\(tenths % 10)"
  }
}
