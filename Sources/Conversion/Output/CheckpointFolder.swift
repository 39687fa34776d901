import Foundation
import JSONScanning

/// The folder a conversion writes: made beside its final place and moved there complete.
///
/// `conversion.json` inside says what made it, so that the same conversion is not done twice and
/// nothing but our own work is ever replaced. A folder `NAME.partial` is work under way, or left by
/// a process that died.
struct CheckpointFolder {
  static let recordName = "conversion.json"
  private static let ownerName = "owner"

  let final: String
  let partial: String

  init(_ path: String) {
    let trimmed = path.count > 1 && path.hasSuffix("/") ? String(path.dropLast()) : path
    final = trimmed
    partial = trimmed + ".partial"
  }

  /// Whether the final folder is complete and was made with just this `record`.
  func isComplete(_ record: JSONValue) -> Bool {
    guard let found = Self.record(in: final), let files = found["files"]?.array else {
      return false
    }
    guard found["inputs"] == record["inputs"], found["options"] == record["options"],
      found["converter"] == record["converter"]
    else { return false }
    return files.allSatisfy { file in
      guard let name = file["name"]?.string, let size = file["bytes"]?.integer else {
        return false
      }
      return Self.size(of: final + "/" + name) == size
    }
  }

  /// Refuses a place that holds something else, and makes the empty folder to work in.
  func begin() throws(ConversionError) {
    let manager = FileManager.default
    if let content = try? manager.contentsOfDirectory(atPath: final) {
      if !content.isEmpty, Self.record(in: final) == nil { throw .folderInUse(path: final) }
    } else if manager.fileExists(atPath: final) {
      throw .folderInUse(path: final)
    }
    if manager.fileExists(atPath: partial) {
      // Ours if it names its process; in use if that process still runs.
      let owner = try? String(contentsOfFile: partial + "/" + Self.ownerName, encoding: .utf8)
      guard let owner else { throw .folderInUse(path: partial) }
      let isRunning = manager.fileExists(atPath: "/proc/\(owner)")
      if isRunning, owner != "\(ProcessInfo.processInfo.processIdentifier)" {
        throw .folderInUse(path: partial)
      }
      try perform(partial) { try manager.removeItem(atPath: partial) }
    }
    try perform(partial) {
      try manager.createDirectory(atPath: partial, withIntermediateDirectories: true)
    }
    try write("\(ProcessInfo.processInfo.processIdentifier)", to: Self.ownerName)
  }

  /// Writes a small file into the folder under way.
  func write(_ text: String, to name: String) throws(ConversionError) {
    try perform(partial + "/" + name) {
      try Data(text.utf8).write(to: URL(fileURLWithPath: partial + "/" + name))
    }
  }

  /// Copies a file into the folder under way.
  func copy(_ path: String, to name: String) throws(ConversionError) {
    try perform(partial + "/" + name) {
      try FileManager.default.copyItem(atPath: path, toPath: partial + "/" + name)
    }
  }

  /// Adds the list of files to `record`, writes it, and moves the folder to its final place.
  func finish(_ record: JSONValue) throws(ConversionError) {
    let manager = FileManager.default
    try perform(partial) { try manager.removeItem(atPath: partial + "/" + Self.ownerName) }
    var names: [String] = []
    try perform(partial) { names = try manager.contentsOfDirectory(atPath: partial).sorted() }
    let files = names.map { name -> JSONValue in
      ["name": .string(name), "bytes": .integer(Self.size(of: partial + "/" + name) ?? 0)]
    }
    var complete = record.object ?? JSONObject()
    complete["files"] = .array(files)
    var format = JSONFormat()
    format.indent = 2
    try write(JSONValue.object(complete).text(format) + "\n", to: Self.recordName)

    let replaced = final + ".replaced"
    if manager.fileExists(atPath: replaced), Self.record(in: replaced) == nil {
      throw .folderInUse(path: replaced)
    }
    try perform(final) {
      if manager.fileExists(atPath: replaced) { try manager.removeItem(atPath: replaced) }
      if manager.fileExists(atPath: final) {
        try manager.moveItem(atPath: final, toPath: replaced)
      }
      try manager.moveItem(atPath: partial, toPath: final)
      if manager.fileExists(atPath: replaced) { try manager.removeItem(atPath: replaced) }
    }
  }

  /// Removes the folder under way after a failure.
  func abandon() {
    try? FileManager.default.removeItem(atPath: partial)
  }

  private func perform(_ path: String, _ body: () throws -> Void) throws(ConversionError) {
    do { try body() } catch {
      throw .cannotWrite(path: path, reason: error.localizedDescription)
    }
  }

  private static func record(in folder: String) -> JSONValue? {
    guard let data = FileManager.default.contents(atPath: folder + "/" + recordName) else {
      return nil
    }
    return try? JSONValue(parsing: [UInt8](data))
  }

  static func size(of path: String) -> Int? {
    (try? FileManager.default.attributesOfItem(atPath: path))?[.size] as? Int
  }
}
