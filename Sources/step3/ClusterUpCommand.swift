import ClusterControl
import CommandLineInterface
import Foundation
import Inference
import Kernels
import ModelConfiguration
import Synchronization

/// `step3 cluster up`: every process of a small cluster on this machine.
struct ClusterUpCommand: Command {
  static let specification = CommandSpecification(
    "cluster up", abstract: "Run all processes of a cluster file on this machine.",
    example: "step3 cluster up --model DIR --cluster cluster.json", takesModel: true,
    flags: [
      .string("cluster", "FILE", required: true, help: "the cluster file"),
      .number(
        "shutdown-timeout", in: 0...86_400, default: 30, help: "seconds to drain for"),
      .toggle("restart", default: true, help: "start a process again that has died"),
    ],
    discussion: """
      For trying a cluster out. Lines of the processes are prefixed with the node's id. Ctrl-C
      drains all of them, gateway first; a second one stops at once.
      """)

  static func run(_ arguments: ParsedArguments) async throws {
    let log = arguments.log
    let file = try ClusterFile(path: arguments.string("cluster"))
    let folder = try ModelFolder(path: arguments.model)
    let text = folder.configuration.text
    _ = try file.layout(
      expertCount: text.isMixtureLayer.contains(true) ? text.expertCount : 0)
    let program = URL(fileURLWithPath: "/proc/self/exe").resolvingSymlinksInPath()
    let stop = StopSignal()
    let watch = SignalWatch { code in stop.fire(code) }
    let order: [NodeRole] = [.ffn, .attention, .gateway]
    let cores = spread(ProcessorAffinity.usableCores, over: file)
    let children = order.flatMap { file.nodes($0) }.map { node in
      ClusterChild(
        node: node, program: program,
        arguments: childArguments(node, arguments, cores[node.id] ?? []),
        restarts: arguments.isOn("restart"), log: log)
    }
    for child in children { try child.start() }
    let fronts = file.nodes(.gateway).isEmpty ? file.nodes(.attention) : file.nodes(.gateway)
    for front in fronts { log.info("\(front.id) will answer at http://\(front.address)/v1") }

    let code = await stop.wait()
    log.info("draining all processes; a second signal stops at once")
    let end = ContinuousClock.now + .seconds(arguments.number("shutdown-timeout"))
    for role in order.reversed() {
      let members = children.filter { $0.node.role == role }
      for child in members { child.finish() }
      while members.contains(where: \.isRunning), ContinuousClock.now < end {
        try? await Task.sleep(for: .milliseconds(20))
      }
    }
    for child in children { child.kill() }
    _ = watch.received
    throw StoppedBySignal(code)
  }

  /// Gives every process that computes processors of its own, where there are enough.
  private static func spread(_ cores: [Int], over file: ClusterFile) -> [String: [Int]] {
    let nodes = file.nodes(.attention) + file.nodes(.ffn)
    guard nodes.allSatisfy({ $0.cores.isEmpty }), nodes.count <= cores.count else { return [:] }
    var result: [String: [Int]] = [:]
    for (index, node) in nodes.enumerated() {
      let range = index * cores.count / nodes.count..<(index + 1) * cores.count / nodes.count
      result[node.id] = Array(cores[range])
    }
    return result
  }

  private static func childArguments(
    _ node: ClusterNode, _ arguments: ParsedArguments, _ cores: [Int]
  ) -> [String] {
    let cluster = ["--cluster", arguments.string("cluster"), "--model", arguments.model]
    var common = cluster + ["--id", node.id, "--log-level", arguments.string("log-level")]
    if arguments.kernels != "auto" { common += ["--kernels", arguments.kernels] }
    if let threads = arguments.threads { common += ["--threads", "\(threads)"] }
    if node.role != .gateway, !cores.isEmpty {
      common += ["--cores", cores.map(String.init).joined(separator: ",")]
    }
    return switch node.role {
    case .ffn: ["ffn"] + common
    case .attention: ["attention"] + common
    case .gateway: ["serve"] + common
    }
  }
}

/// One process of the cluster, started again when it dies.
private final class ClusterChild: Sendable {
  private struct State {
    var process: Process?
    var isEnding = false
    var startedAt = ContinuousClock.now
    var pause = Duration.milliseconds(100)
  }

  let node: ClusterNode
  private let program: URL
  private let arguments: [String]
  private let restarts: Bool
  private let log: Log
  private let state = Mutex(State())

  init(node: ClusterNode, program: URL, arguments: [String], restarts: Bool, log: Log) {
    self.node = node
    self.program = program
    self.arguments = arguments
    self.restarts = restarts
    self.log = log
  }

  var isRunning: Bool { state.withLock { $0.process?.isRunning ?? false } }

  func start() throws {
    let process = Process()
    process.executableURL = program
    process.arguments = arguments
    process.standardInput = FileHandle.nullDevice
    let pipe = Pipe()
    process.standardOutput = pipe
    process.standardError = pipe
    let name = node.id
    let rest = Mutex<[UInt8]>([])
    pipe.fileHandleForReading.readabilityHandler = { handle in
      let data = handle.availableData
      if data.isEmpty { handle.readabilityHandler = nil }
      let lines: [String] = rest.withLock { rest in
        rest += data
        guard let last = rest.lastIndex(of: 0x0A) else { return [] }
        let whole = rest[..<last].split(separator: 0x0A, omittingEmptySubsequences: false)
        let texts = whole.map { String(decoding: $0, as: UTF8.self) }
        rest.removeSubrange(...last)
        return texts
      }
      for line in lines { StandardError.write("[\(name)] \(line)\n") }
    }
    process.terminationHandler = { [self] process in didEnd(process) }
    try process.run()
    state.withLock { state in
      state.process = process
      state.startedAt = .now
    }
  }

  private func didEnd(_ process: Process) {
    let pause: Duration? = state.withLock { state in
      if state.isEnding || !restarts { return nil }
      // A process that lived for a while starts again at once.
      let lived = ContinuousClock.now - state.startedAt
      state.pause = lived > .seconds(10) ? .milliseconds(100) : min(state.pause * 2, .seconds(5))
      return state.pause
    }
    let status = process.terminationStatus
    let how = process.terminationReason == .uncaughtSignal ? "signal" : "exit code"
    guard let pause else { return }
    log.warning("\(node.id) has died (\(how) \(status)); it starts again")
    Task { [self] in
      try? await Task.sleep(for: pause)
      guard !state.withLock({ $0.isEnding }) else { return }
      do { try start() } catch { log.error("\(node.id) cannot be started: \(error)") }
    }
  }

  /// Asks the process to drain and end.
  func finish() {
    state.withLock { state in
      state.isEnding = true
      if let process = state.process, process.isRunning { process.terminate() }
    }
  }

  /// Ends the process if it is still there.
  func kill() {
    state.withLock { state in
      state.isEnding = true
      if let process = state.process, process.isRunning {
        _ = Foundation.kill(process.processIdentifier, SIGKILL)
      }
    }
  }
}
