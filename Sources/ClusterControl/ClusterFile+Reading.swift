import Foundation
package import JSONScanning
import Kernels

// The file's form:
//
//     {
//       "key_file": "cluster.key",
//       "exchange": "exact",
//       "micro_batches": 2,
//       "nodes": [
//         {"id": "a0", "role": "attention", "host": "host-a", "port": 8001},
//         {"id": "f0", "role": "ffn", "host": "host-b", "port": 7001, "experts": "0-23"},
//         {"id": "f1", "role": "ffn", "host": "host-c", "port": 7001, "experts": "24-47"}
//       ]
//     }

extension ClusterFile {
  /// Reads and checks a file; what depends on the model is checked by `check(expertCount:)`.
  package init(path: String) throws(ClusterFileError) {
    guard let data = FileManager.default.contents(atPath: path) else {
      throw .unreadable(path: path)
    }
    let json: JSONValue
    do { json = try JSONValue(parsing: [UInt8](data)) } catch {
      throw .notJSON(path: path, reason: "\(error)")
    }
    try self.init(json, path: path)
  }

  /// Reads and checks a document; `path` is for messages and the base of a relative `key_file`.
  package init(_ json: JSONValue, path: String) throws(ClusterFileError) {
    let root = try Section(
      json, path: path, place: "the cluster",
      keys: [
        "nodes", "key", "key_file", "exchange", "kernels", "micro_batches", "dense",
        "shared_expert", "data_ports", "timeouts_ms",
      ])
    var nodes: [ClusterNode] = []
    for (index, element) in try root.array("nodes").enumerated() {
      nodes.append(try Self.node(element, path: path, index: index))
    }
    self.init(path: path, nodes: nodes, key: try Self.key(root))
    exchange = try root.choice("exchange") ?? .exact
    try readKernels(root)
    denseNodes = try Self.spread("dense", root, self)
    sharedNodes = try Self.spread("shared_expert", root, self)
    if let value = root.value("micro_batches"), value.string != "auto" {
      guard let count = value.integer, (1...8).contains(count) else {
        throw root.failure("micro_batches", "must be \"auto\" or a whole number from 1 to 8")
      }
      microBatchCount = count
    }
    if let text = try root.string("data_ports") {
      guard let range = Self.range(text), range.lowerBound >= 1024, range.upperBound <= 65_535
      else { throw root.failure("data_ports", "must be a range such as \"20000-20100\"") }
      dataPorts = range
    }
    if let value = root.value("timeouts_ms") { timeouts = try ClusterTimeouts(value, path: path) }
    try checkNodes()
  }

  private mutating func readKernels(_ root: Section) throws(ClusterFileError) {
    let mixed = "mixed"
    let choice = try root.choice(
      "kernels", among: KernelChoice.allCases.map(\.rawValue) + [mixed])
    mixesKernels = choice == mixed
    kernels = choice.flatMap(KernelChoice.init).flatMap { $0 == .auto ? nil : $0 }
    if mixesKernels && exchange == .exact {
      throw root.failure(
        "kernels", "cannot be \"mixed\" with the exact exchange: kernels differ in their last bits")
    }
  }

  private static func key(_ root: Section) throws(ClusterFileError) -> [UInt8] {
    let inline = try root.string("key")
    let file = try root.string("key_file")
    var text: String
    switch (inline, file) {
    case (let inline?, nil): text = inline
    case (nil, let file?):
      let base = URL(fileURLWithPath: root.path).deletingLastPathComponent().path
      let place = file.hasPrefix("/") ? file : base + "/" + file
      guard let data = FileManager.default.contents(atPath: place) else {
        throw root.failure("key_file", "cannot be read: \(place)")
      }
      text = String(decoding: data, as: UTF8.self)
    case (nil, nil): throw root.failure("key_file", "is missing; give \"key_file\" or \"key\"")
    case (_?, _?): throw root.failure("key_file", "and \"key\" exclude each other")
    }
    text = text.trimmingCharacters(in: .whitespacesAndNewlines)
    let key = Array(text.utf8)
    guard key.count >= 16 else { throw .weakKey(path: root.path, byteCount: key.count) }
    return key
  }

  private static func node(
    _ value: JSONValue, path: String, index: Int
  ) throws(ClusterFileError) -> ClusterNode {
    let name = value["id"]?.string.map { "node \"\($0)\"" } ?? "node \(index)"
    let section = try Section(
      value, path: path, place: name,
      keys: ["id", "role", "host", "port", "devices", "experts", "slice", "cores"])
    let id = try section.required(try section.string("id"), "id")
    let letters = Set("abcdefghijklmnopqrstuvwxyzABCDEFGHIJKLMNOPQRSTUVWXYZ0123456789-_.")
    guard (1...63).contains(id.count), id.allSatisfy(letters.contains) else {
      throw section.failure("id", "must be 1 to 63 letters, digits, '-', '_' or '.'")
    }
    let role: NodeRole = try section.required(try section.choice("role"), "role")
    var node = ClusterNode(
      id: id, role: role, host: try section.required(try section.string("host"), "host"),
      port: try section.required(try section.integer("port", in: 1...65_535), "port"))
    guard !node.host.isEmpty, !node.host.contains(" ") else {
      throw section.failure("host", "must be an address or a host name")
    }
    node.devices = try section.strings("devices")
    for key in ["experts", "slice"] where role != .ffn && section.value(key) != nil {
      throw section.failure(key, "is only for ffn nodes")
    }
    if let text = try section.string("experts"), text != "all" {
      guard let ranges = ranges(text) else {
        throw section.failure("experts", "must be \"all\" or ranges such as \"0-11,24-35\"")
      }
      node.experts = ranges
    }
    if let text = try section.string("slice") {
      let parts = text.split(separator: "/", omittingEmptySubsequences: false).map { Int($0) }
      guard parts.count == 2, let index = parts[0], let count = parts[1], count > 0,
        [1, 2, 4].contains(count), (0..<count).contains(index)
      else {
        throw section.failure("slice", "must be \"I/N\" with N 1, 2 or 4 and I below N")
      }
      node.slice = count == 1 ? nil : NodeSlice(index: index, count: count)
    }
    for element in try section.optionalArray("cores") {
      guard let core = element.integer, (0..<4096).contains(core) else {
        throw section.failure("cores", "must hold processor numbers")
      }
      node.cores.append(core)
    }
    return node
  }

  /// The nodes that something is spread over: 1, 2 or 4 of them, all ffn.
  private static func spread(
    _ key: String, _ root: Section, _ file: ClusterFile
  ) throws(ClusterFileError) -> [String]? {
    guard root.value(key) != nil else { return nil }
    let ids = try root.strings(key)
    for id in ids { _ = try file.node(id, .ffn) }
    guard [1, 2, 4].contains(ids.count), Set(ids).count == ids.count else {
      throw root.failure(key, "must name 1, 2 or 4 different ffn nodes")
    }
    return ids
  }

  /// `A-B` or `A`.
  private static func range(_ text: some StringProtocol) -> ClosedRange<Int>? {
    let parts = text.split(separator: "-", omittingEmptySubsequences: false).map { Int($0) }
    guard (1...2).contains(parts.count), let low = parts[0], let high = parts[parts.count - 1],
      low >= 0, low <= high
    else { return nil }
    return low...high
  }

  /// Ranges joined by commas, ascending and apart; neighbours are joined.
  private static func ranges(_ text: String) -> [ClosedRange<Int>]? {
    var ranges: [ClosedRange<Int>] = []
    for piece in text.split(separator: ",", omittingEmptySubsequences: false) {
      guard let next = range(piece.drop { $0 == " " }) else { return nil }
      guard let last = ranges.last else {
        ranges.append(next)
        continue
      }
      guard next.lowerBound > last.upperBound else { return nil }
      if next.lowerBound == last.upperBound + 1 {
        ranges[ranges.count - 1] = last.lowerBound...next.upperBound
      } else {
        ranges.append(next)
      }
    }
    return ranges
  }
}

extension ClusterTimeouts {
  fileprivate init(_ value: JSONValue, path: String) throws(ClusterFileError) {
    self.init()
    let section = try Section(
      value, path: path, place: "\"timeouts_ms\"",
      keys: ["heartbeat", "suspect", "dead", "handshake", "exchange", "hold"])
    func read(_ key: String, _ standard: Duration) throws(ClusterFileError) -> Duration {
      try section.integer(key, in: 0...3_600_000).map { .milliseconds($0) } ?? standard
    }
    heartbeat = try read("heartbeat", heartbeat)
    suspect = try read("suspect", suspect)
    dead = try read("dead", dead)
    handshake = try read("handshake", handshake)
    exchange = try read("exchange", exchange)
    hold = try read("hold", hold)
    guard heartbeat > .zero, heartbeat < suspect, suspect < dead else {
      throw section.failure("heartbeat", "must be below \"suspect\", and that below \"dead\"")
    }
    guard handshake > .zero, exchange > .zero else {
      throw section.failure("handshake", "and \"exchange\" must be above 0")
    }
  }
}

/// One object of the file, read strictly.
struct Section {
  let path: String
  let place: String
  private let object: JSONObject

  init(
    _ value: JSONValue, path: String, place: String, keys: [String]
  ) throws(ClusterFileError) {
    guard let object = value.object else {
      throw .badValue(path: path, place: place, key: place, fact: "must be an object")
    }
    for key in object.keys where !keys.contains(key) {
      throw .unknownKey(
        path: path, place: place, key: key, nearest: nearestName(to: key, among: keys))
    }
    self.path = path
    self.place = place
    self.object = object
  }

  func failure(_ key: String, _ fact: String) -> ClusterFileError {
    .badValue(path: path, place: place, key: key, fact: fact)
  }

  func value(_ key: String) -> JSONValue? { object[key] }

  func required<Value>(_ value: Value?, _ key: String) throws(ClusterFileError) -> Value {
    guard let value else { throw failure(key, "is missing") }
    return value
  }

  func string(_ key: String) throws(ClusterFileError) -> String? {
    guard let value = object[key] else { return nil }
    guard let text = value.string else { throw failure(key, "must be a string") }
    return text
  }

  func integer(_ key: String, in range: ClosedRange<Int>) throws(ClusterFileError) -> Int? {
    guard let value = object[key] else { return nil }
    guard let number = value.integer, range.contains(number) else {
      throw failure(
        key, "must be a whole number from \(range.lowerBound) to \(range.upperBound)")
    }
    return number
  }

  func choice<Choice: RawRepresentable<String> & CaseIterable>(
    _ key: String
  ) throws(ClusterFileError) -> Choice? {
    try choice(key, among: Choice.allCases.map(\.rawValue)).flatMap(Choice.init)
  }

  func choice(_ key: String, among all: [String]) throws(ClusterFileError) -> String? {
    guard let text = try string(key) else { return nil }
    if all.contains(text) { return text }
    let hint = nearestName(to: text, among: all).map { "; did you mean \"\($0)\"?" } ?? ""
    throw failure(key, "must be one of \(all.joined(separator: ", "))\(hint)")
  }

  func array(_ key: String) throws(ClusterFileError) -> [JSONValue] {
    guard object[key] != nil else { throw failure(key, "is missing") }
    return try optionalArray(key)
  }

  func optionalArray(_ key: String) throws(ClusterFileError) -> [JSONValue] {
    guard let value = object[key] else { return [] }
    guard let array = value.array else { throw failure(key, "must be an array") }
    return array
  }

  func strings(_ key: String) throws(ClusterFileError) -> [String] {
    var texts: [String] = []
    for element in try optionalArray(key) {
      guard let text = element.string, !text.isEmpty else {
        throw failure(key, "must hold strings")
      }
      texts.append(text)
    }
    return texts
  }
}
