package import Foundation

/// What a finished command left behind.
package struct CommandResult: Sendable {
  /// The exit code; 128 + N when signal N ended the process.
  package let exitCode: Int32
  /// Everything written to standard output.
  package let output: String
  /// Everything written to standard error.
  package let errors: String

  /// Standard output as one JSON document.
  package func json<Value: Decodable>(_ type: Value.Type = Value.self) throws -> Value {
    try JSONDecoder().decode(type, from: Data(output.utf8))
  }
}

/// Why a test could not run the binary; never the binary's own doing.
package enum Step3ProcessError: Error, CustomStringConvertible {
  case notBuilt(path: String)
  case stillRunning(arguments: [String], output: String, errors: String)

  package var description: String {
    switch self {
    case .notBuilt(let path):
      "\(path) is missing: run `swift build` first, in the tests' configuration"
    case .stillRunning(let arguments, let output, let errors):
      "step3 \(arguments.joined(separator: " ")) did not end; it wrote:\n\(output)\n\(errors)"
    }
  }
}

/// The built `step3` binary, run as a process as a user would.
///
/// Output goes through files, so that no amount of it can block the process.
package final class Step3Process: @unchecked Sendable {
  // Unchecked because Foundation's Process is not Sendable; it is set up before it is shared, and
  // afterwards only asked whether it runs.
  private let process = Process()
  private let folder: TemporaryFolder
  private let arguments: [String]

  /// Where the programs of this build are: the release build's, or the debug build's for tests that
  /// are built so.
  package static var buildFolder: URL {
    #if DEBUG
      Fixtures.packageRoot.appendingPathComponent(".build/debug")
    #else
      Fixtures.packageRoot.appendingPathComponent(".build/release")
    #endif
  }

  /// The binary, or the one that `STEP3_TEST_BINARY` names, such as one built with a sanitizer.
  package static var executable: URL {
    ProcessInfo.processInfo.environment["STEP3_TEST_BINARY"].map { URL(fileURLWithPath: $0) }
      ?? buildFolder.appendingPathComponent("step3")
  }

  /// Starts the binary with these arguments.
  ///
  /// - Parameters:
  ///   - input: what standard input holds; nothing by default.
  ///   - environment: added to a minimal environment, so that no setting of the caller leaks in.
  package init(
    _ arguments: [String], input: String = "", environment: [String: String] = [:]
  ) throws {
    guard FileManager.default.isExecutableFile(atPath: Self.executable.path) else {
      throw Step3ProcessError.notBuilt(path: Self.executable.path)
    }
    self.arguments = arguments
    folder = try TemporaryFolder()
    for name in ["output", "errors"] { try Data().write(to: folder.file(name)) }
    try Data(input.utf8).write(to: folder.file("input"))
    let inherited = ProcessInfo.processInfo.environment
    let kept = ["PATH", "HOME", "LD_LIBRARY_PATH", "TMPDIR", "ASAN_OPTIONS", "TSAN_OPTIONS"]
    process.executableURL = Self.executable
    process.arguments = arguments
    process.environment = inherited.filter { kept.contains($0.key) }
      .merging(environment) { _, added in added }
    process.currentDirectoryURL = folder.url
    process.standardInput = try FileHandle(forReadingFrom: folder.file("input"))
    process.standardOutput = try FileHandle(forWritingTo: folder.file("output"))
    process.standardError = try FileHandle(forWritingTo: folder.file("errors"))
    try process.run()
  }

  /// Standard output so far.
  package var output: String { text("output") }

  /// Standard error so far.
  package var errors: String { text("errors") }

  /// The process's number.
  package var identifier: Int32 { process.processIdentifier }

  /// Whether the process has not ended.
  package var isRunning: Bool { process.isRunning }

  /// Sends a signal by number.
  package func send(signal: Int32) {
    if process.isRunning { kill(process.processIdentifier, signal) }
  }

  /// Waits until `condition` holds or the process has ended.
  package func wait(
    upTo limit: Duration = .seconds(60), until condition: (Step3Process) -> Bool
  ) async throws {
    let start = ContinuousClock.now
    while process.isRunning, !condition(self) {
      guard ContinuousClock.now - start < limit else {
        process.terminate()
        throw Step3ProcessError.stillRunning(
          arguments: arguments, output: output, errors: errors)
      }
      try await Task.sleep(for: .milliseconds(2))
    }
  }

  /// Waits for the end.
  package func result(within limit: Duration = .seconds(120)) async throws -> CommandResult {
    try await wait(upTo: limit) { _ in false }
    let status = process.terminationStatus
    return CommandResult(
      exitCode: process.terminationReason == .uncaughtSignal ? 128 + status : status,
      output: output, errors: errors)
  }

  /// Runs the binary to its end.
  package static func run(
    _ arguments: [String], input: String = "", environment: [String: String] = [:]
  ) async throws -> CommandResult {
    try await Step3Process(arguments, input: input, environment: environment).result()
  }

  private func text(_ name: String) -> String {
    String(decoding: (try? Data(contentsOf: folder.file(name))) ?? Data(), as: UTF8.self)
  }
}
