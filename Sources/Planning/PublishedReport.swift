import CostModel
import JSONScanning

/// What the Step-3 report prints, for comparison.
package struct PublishedReport: Sendable {
  /// One measured system of Table 8.
  package struct Throughput: Sendable {
    /// As the report names it.
    package let system: String
    package let context: Int
    package let deviceCount: Int
    package let tokensPerSecond: Double
  }

  /// One measured attention layer of Table 9.
  package struct AttentionTime: Sendable {
    /// mfa, mla or gqa.
    package let family: String
    package let hardware: String
    package let context: Int
    package let microseconds: Double
  }

  private let tables: [String: [String: [Double]]]
  /// Table 8.
  package let throughputs: [Throughput]
  /// Table 9.
  package let attentionTimes: [AttentionTime]

  static func builtIn() throws(CostModelError) -> PublishedReport {
    try PublishedReport(document: JSONValue(document: PackageResources.report_json, file: file))
  }

  private static let file = "report.json"

  private init(document: JSONValue) throws(CostModelError) {
    var tables: [String: [String: [Double]]] = [:]
    for member in document.object?.members ?? [] {
      guard let rows = member.value.object else { continue }
      for row in rows.members {
        tables[member.key, default: [:]][row.key] = (row.value.array ?? []).compactMap(\.number)
      }
    }
    self.tables = tables
    var throughputs: [Throughput] = []
    for value in document["table8"]?.array ?? [] {
      let node = try DocumentNode(
        value, file: Self.file, place: "table8",
        allowed: ["system", "context", "devices", "tokensPerSecond"])
      throughputs.append(
        Throughput(
          system: try node.string("system"), context: try node.count("context"),
          deviceCount: try node.count("devices"),
          tokensPerSecond: try node.positiveNumber("tokensPerSecond")))
    }
    self.throughputs = throughputs
    var times: [AttentionTime] = []
    for value in document["table9"]?.array ?? [] {
      let node = try DocumentNode(
        value, file: Self.file, place: "table9",
        allowed: ["family", "hardware", "context", "microseconds"])
      times.append(
        AttentionTime(
          family: try node.string("family"), hardware: try node.string("hardware"),
          context: try node.count("context"), microseconds: try node.positiveNumber("microseconds"))
      )
    }
    attentionTimes = times
  }

  /// The printed numbers of one row.
  package func values(_ table: String, _ row: String) -> [Double] { tables[table]?[row] ?? [] }
}
