import JSONScanning
import Synchronization

/// Tells the log, once per name, of request fields that this server does not know.
///
/// They are ignored, as clients expect: OpenAI adds some every month. What is known is what
/// `/openapi.json` describes, and what is ignored on purpose.
final class UnknownFields: Sendable {
  /// Fields without a meaning here that clients send as a matter of course.
  private static let ignored: Set<String> = [
    "user", "metadata", "store", "service_tier", "safety_identifier", "prompt_cache_key",
    "prompt_cache_options", "prompt_cache_retention", "verbosity", "moderation", "prediction",
    "include", "cache_control", "spaces_between_special_tokens", "stream_interval",
  ]
  private static let nameLimit = 200

  private let known: [String: Set<String>]
  private let told = Mutex<Set<String>>([])
  private let tell: @Sendable (String) -> Void

  /// Takes the known names from the API's description.
  init(_ document: JSONValue, tell: @escaping @Sendable (String) -> Void) {
    var known: [String: Set<String>] = [:]
    let schemas = document["components"]?["schemas"]
    for path in document["paths"]?.object?.members ?? [] {
      let content = path.value["post"]?["requestBody"]?["content"]
      let reference = content?["application/json"]?["schema"]?["$ref"]?.string ?? ""
      guard let name = reference.split(separator: "/").last else { continue }
      let properties = schemas?[String(name)]?["properties"]?.object?.members ?? []
      known[path.key] = Set(properties.map(\.key))
    }
    self.known = known
    self.tell = tell
  }

  /// Looks through the fields of a request to `route`.
  func check(_ fields: FieldReader, _ route: Route) {
    guard let known = known[route.rawValue] else { return }
    for member in fields.object.members
    where !known.contains(member.key) && !Self.ignored.contains(member.key) {
      let name = JSONValue.string(String(member.key.prefix(60))).text(.compact)
      let isNew = told.withLock { told in
        told.count < Self.nameLimit && told.insert("\(route.rawValue) \(name)").inserted
      }
      if isNew { tell("\(route.rawValue): the field \(name) is not known here and was ignored") }
    }
  }
}
