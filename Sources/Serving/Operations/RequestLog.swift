package import JSONScanning

/// What is told of one request when it is over. No text of prompts or answers.
package struct RequestRecord: Sendable {
  package var id: String
  package var client: String
  package var method: String
  package var path: String
  package var status: Int
  package var seconds: Double
  package var promptTokenCount = 0
  package var cachedTokenCount = 0
  package var generatedTokenCount = 0
  package var timeToFirstToken: Double?
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
