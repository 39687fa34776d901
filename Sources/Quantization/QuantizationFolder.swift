import Foundation
import JSONScanning
import Kernels
import Tensors

/// The folder a quantisation writes: made beside its final place, in `DIR.partial`, and moved there
/// complete.
///
/// `quantization.json` inside says what made it from what, what was measured, and the checksum of
/// every finished shard. A run that finds its own record goes on from there.
final class QuantizationFolder {
  static let recordName = "quantization.json"

  let final: String
  let partial: String
  private let source: CheckpointFiles
  private var record: JSONObject
  private let identity: (options: JSONValue, inputs: JSONValue)

  init(_ path: String, source: CheckpointFiles, options: QuantizationOptions) {
    final = path.count > 1 && path.hasSuffix("/") ? String(path.dropLast()) : path
    partial = final + ".partial"
    self.source = source
    identity = (options.json, Self.inputs(source))
    record = JSONObject()
    record["format"] = .integer(1)
    record["options"] = identity.options
    record["inputs"] = identity.inputs
    let complete = Self.read(final + "/" + Self.recordName)
    let own = [complete, Self.read(partial + "/" + Self.recordName)].first { isOwn($0) }
    if let found = own??.object { record = found }
  }

  /// Whether the final folder holds the result of just this quantisation.
  var isComplete: Bool {
    guard let found = Self.read(final + "/" + Self.recordName), isOwn(found),
      let shards = found["shards"]?.object
    else { return false }
    return shards.members.allSatisfy { shard in
      Self.size(final + "/" + shard.key) == shard.value["bytes"]?.integer
    }
  }

  /// How far rounding each kind or tensor alone moves the predictions, as far as it was measured.
  var measured: [String: Double] {
    let members = record["measured"]?.object?.members ?? []
    return Dictionary(
      uniqueKeysWithValues: members.compactMap { member in
        member.value.number.map { (member.key, $0) }
      })
  }

  /// What was chosen to be stored more finely, once that is known.
  var choice: SensitivityChoice? {
    guard let noted = record["choice"], let divergence = noted["divergence"]?.number,
      let names = noted["sensitive"]?.array
    else { return nil }
    return SensitivityChoice(sensitive: names.compactMap(\.string), divergence: divergence)
  }

  /// What rounding lost, by tensor, in all finished shards.
  var losses: [String: RoundingLoss] {
    var all: [String: RoundingLoss] = [:]
    for shard in record["shards"]?.object?.members ?? [] {
      all.merge(Self.losses(shard.value)) { $1 }
    }
    return all
  }

  /// Makes the folder to work in, or takes up one that an interrupted run left.
  func begin() throws(QuantizationError) {
    let manager = FileManager.default
    if let content = try? manager.contentsOfDirectory(atPath: final), !content.isEmpty {
      throw .folderInUse(path: final)
    } else if manager.fileExists(atPath: final), !isEmptyFolder(final) {
      throw .folderInUse(path: final)
    }
    if manager.fileExists(atPath: partial), !isEmptyFolder(partial) {
      guard isOwn(Self.read(partial + "/" + Self.recordName)) else {
        throw .folderInUse(path: partial)
      }
    }
    try perform(partial) {
      try manager.createDirectory(atPath: partial, withIntermediateDirectories: true)
    }
    try save()
  }

  /// Refuses to begin what the disk cannot hold.
  func checkSpace(_ needed: Int) throws(QuantizationError) {
    let attributes = try? FileManager.default.attributesOfFileSystem(forPath: partial)
    guard let free = (attributes?[.systemFreeSize] as? NSNumber)?.intValue else { return }
    let done = (try? FileManager.default.contentsOfDirectory(atPath: partial))?.reduce(0) {
      $0 + (Self.size(partial + "/" + $1) ?? 0)
    }
    let left = needed - (done ?? 0) + (1 << 20)
    if left > free { throw .notEnoughSpace(path: partial, needed: left, free: free) }
  }

  /// Notes what was measured so far.
  func note(measured: [String: Double]) throws(QuantizationError) {
    var object = JSONObject()
    for name in measured.keys.sorted() { object[name] = measured[name].map { .number($0) } }
    record["measured"] = .object(object)
    try save()
  }

  /// Notes what was chosen.
  func note(_ choice: SensitivityChoice) throws(QuantizationError) {
    record["choice"] = [
      "sensitive": .array(choice.sensitive.map { .string($0) }),
      "divergence": .number(choice.divergence),
    ]
    try save()
  }

  /// Notes a finished shard with its checksum.
  func note(shard name: String, losses: [String: RoundingLoss]) throws(QuantizationError) {
    var list = JSONObject()
    for tensor in losses.keys.sorted() {
      guard let loss = losses[tensor] else { continue }
      list[tensor] = [.number(loss.error), .number(loss.norm)]
    }
    let path = partial + "/" + name
    var shards = record["shards"]?.object ?? JSONObject()
    shards[name] = [
      "bytes": .integer(Self.size(path) ?? 0), "checksum": .string(try Self.checksum(path)),
      "losses": .object(list),
    ]
    record["shards"] = .object(shards)
    try save()
  }

  /// The losses of a shard that an earlier run finished and whose bytes are still those; else nil.
  func finishedShard(
    _ name: String, _ plan: QuantizationPlan, _ index: Int
  ) -> [String: RoundingLoss]? {
    let path = partial + "/" + name
    guard let noted = record["shards"]?[name], noted["bytes"]?.integer == Self.size(path),
      let found = try? Self.checksum(path), noted["checksum"]?.string == found
    else { return nil }
    return Self.losses(noted)
  }

  /// Writes the index, the configuration, the model card and all other files of the source, and
  /// moves the folder to its final place.
  func finish(
    _ plan: QuantizationPlan, losses: [String: RoundingLoss]
  ) throws(QuantizationError) {
    if plan.shards.count > 1 { try write(index(plan), to: "model.safetensors.index.json") }
    let configuration = try QuantizedConfiguration(source: source.directory)
    try write(configuration.text(plan, record["options"] ?? .null), to: "config.json")
    try write(
      configuration.card(plan, record["options"] ?? .null, source: source), to: "README.md")
    try copyOthers()
    let manager = FileManager.default
    try perform(final) {
      if manager.fileExists(atPath: final) { try manager.removeItem(atPath: final) }
      try manager.moveItem(atPath: partial, toPath: final)
    }
  }

  private func copyOthers() throws(QuantizationError) {
    let manager = FileManager.default
    let own = Set(["config.json", "README.md", Self.recordName, "model.safetensors.index.json"])
    for name in ((try? manager.contentsOfDirectory(atPath: source.directory)) ?? []).sorted() {
      let path = source.directory + "/" + name
      let resolved = URL(fileURLWithPath: path).resolvingSymlinksInPath().path
      let type = (try? manager.attributesOfItem(atPath: resolved))?[.type] as? FileAttributeType
      guard type == .typeRegular, !own.contains(name), !name.hasSuffix(".safetensors"),
        !name.hasSuffix(".partial")
      else { continue }
      try perform(partial + "/" + name) {
        let target = partial + "/" + name
        if manager.fileExists(atPath: target) { try manager.removeItem(atPath: target) }
        try manager.copyItem(atPath: resolved, toPath: target)
      }
    }
  }

  private func index(_ plan: QuantizationPlan) -> String {
    var map = JSONObject()
    for (index, shard) in plan.shards.enumerated() {
      for declaration in shard.flatMap({ plan.declarations(of: $0) }) {
        map[declaration.name] = .string(plan.fileName(index))
      }
    }
    let json: JSONValue = [
      "metadata": ["total_size": .integer(plan.byteCount)], "weight_map": .object(map),
    ]
    return json.text(QuantizedConfiguration.indented) + "\n"
  }

  private func save() throws(QuantizationError) {
    try write(
      JSONValue.object(record).text(QuantizedConfiguration.indented) + "\n", to: Self.recordName)
  }

  private func write(_ text: String, to name: String) throws(QuantizationError) {
    let path = partial + "/" + name
    try perform(path) {
      try Data(text.utf8).write(to: URL(fileURLWithPath: path), options: .atomic)
    }
  }

  private func perform(_ path: String, _ body: () throws -> Void) throws(QuantizationError) {
    do { try body() } catch {
      throw .cannotWrite(path: path, reason: error.localizedDescription)
    }
  }

  private func isOwn(_ found: JSONValue?) -> Bool {
    found?["options"] == identity.options && found?["inputs"] == identity.inputs
  }

  private func isEmptyFolder(_ path: String) -> Bool {
    (try? FileManager.default.contentsOfDirectory(atPath: path))?.isEmpty == true
  }

  private static func losses(_ shard: JSONValue) -> [String: RoundingLoss] {
    var losses: [String: RoundingLoss] = [:]
    for member in shard["losses"]?.object?.members ?? [] {
      var loss = RoundingLoss()
      loss.error = member.value.array?.first?.number ?? 0
      loss.norm = member.value.array?.last?.number ?? 0
      losses[member.key] = loss
    }
    return losses
  }

  /// The files that the result is made from: names, sizes and times of change.
  private static func inputs(_ source: CheckpointFiles) -> JSONValue {
    let paths = source.files.map(\.path) + [source.directory + "/config.json"]
    return .array(
      paths.map { path in
        let resolved = URL(fileURLWithPath: path).resolvingSymlinksInPath().path
        let attributes = try? FileManager.default.attributesOfItem(atPath: resolved)
        let changed = (attributes?[.modificationDate] as? Date)?.timeIntervalSince1970 ?? 0
        return [
          "file": .string(String(path.split(separator: "/").last ?? "")),
          "bytes": .integer((attributes?[.size] as? NSNumber)?.intValue ?? 0),
          "changed": .integer(Int(changed)),
        ]
      })
  }

  /// A checksum over all bytes, against torn or damaged files, not against malice.
  private static func checksum(_ path: String) throws(QuantizationError) -> String {
    let file: MappedFile
    do { file = try MappedFile(path: path) } catch { throw .checkpoint(.file(error)) }
    return String(file.contents.checksum, radix: 16)
  }

  private static func read(_ path: String) -> JSONValue? {
    guard let data = FileManager.default.contents(atPath: path) else { return nil }
    return try? JSONValue(parsing: [UInt8](data))
  }

  private static func size(_ path: String) -> Int? {
    (try? FileManager.default.attributesOfItem(atPath: path))?[.size] as? Int
  }
}
