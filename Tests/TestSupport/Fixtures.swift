package import Foundation

/// The files under Tests/Fixtures, found from this source file's own place.
package enum Fixtures {
  /// The root folder of the package.
  package static let packageRoot = URL(fileURLWithPath: #filePath)
    .deletingLastPathComponent()  // TestSupport
    .deletingLastPathComponent()  // Tests
    .deletingLastPathComponent()

  /// The file or folder at `path`, relative to Tests/Fixtures.
  package static func url(_ path: String) -> URL {
    packageRoot.appendingPathComponent("Tests/Fixtures").appendingPathComponent(path)
  }

  /// The same place as a plain path, for interfaces that take one.
  package static func path(_ path: String) -> String {
    url(path).path
  }

  /// The whole content of one file, as bytes.
  package static func bytes(_ path: String) throws -> [UInt8] {
    [UInt8](try Data(contentsOf: url(path)))
  }

  /// The whole content of one file, as UTF-8 text.
  package static func text(_ path: String) throws -> String {
    try String(contentsOf: url(path), encoding: .utf8)
  }

  /// The JSON document in one file.
  package static func json<Value: Decodable>(
    _ type: Value.Type = Value.self, _ path: String
  ) throws -> Value {
    try JSONDecoder().decode(type, from: Data(contentsOf: url(path)))
  }
}

/// A folder of its own for one test, deleted when the last reference goes.
package final class TemporaryFolder: Sendable {
  /// Where the folder is.
  package let url: URL

  /// Creates an empty folder in the system's place for temporary files.
  package init() throws {
    url = FileManager.default.temporaryDirectory
      .appendingPathComponent("step3-test-\(UUID().uuidString)")
    try FileManager.default.createDirectory(at: url, withIntermediateDirectories: true)
  }

  /// Creates a folder that holds a copy of the fixture folder at `path`.
  package convenience init(copying path: String) throws {
    try self.init()
    for name in try FileManager.default.contentsOfDirectory(atPath: Fixtures.path(path)) {
      try FileManager.default.copyItem(
        at: Fixtures.url(path).appendingPathComponent(name), to: url.appendingPathComponent(name))
    }
  }

  /// The file or folder of that name inside.
  package func file(_ name: String) -> URL { url.appendingPathComponent(name) }

  deinit { try? FileManager.default.removeItem(at: url) }
}
