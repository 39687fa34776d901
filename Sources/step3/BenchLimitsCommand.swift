import CommandLineInterface
import Foundation
import JSONScanning
import Kernels

/// `step3 bench limits`: what this machine can read and compute at most.
struct BenchLimitsCommand: Command {
  static let specification = CommandSpecification(
    "bench limits",
    abstract: "Measure bandwidth, arithmetic peaks and fork/join time.",
    example: "step3 bench limits --json limits.json",
    flags: [
      BenchReport.file,
      .byteCount("memory", default: "512MiB", help: "memory to read, far more than the caches"),
    ])

  static func run(_ arguments: ParsedArguments) throws {
    var report = BenchReport(arguments)
    let all = arguments.threads ?? usableCores().count
    let memory = arguments.optionalByteCount("memory") ?? 512 << 20
    for threads in threadCounts(upTo: all) {
      let team = WorkTeam(workerCount: threads)
      if threads > 1 && threads < all {
        report.add(
          "read", threads: threads,
          MachineLimits.measureRead(team: team, byteCount: memory, repeats: 7), unit: "GB/s")
        continue
      }
      let limits = MachineLimits.measure(team: team, byteCount: memory)
      report.add("read", threads: threads, limits.read, unit: "GB/s")
      for peak in MachineLimits.Peak.allCases {
        if let rate = limits.peaks[peak] {
          report.add(
            "\(peak)", threads: threads, rate, unit: peak == .int8 ? "GOP/s" : "GFLOP/s")
        }
      }
      if threads > 1 {
        report.addForkJoin(MachineLimits.measureForkJoin(team: team), threads: threads)
      }
    }
    try report.finish()
  }

  /// Every number of threads up to 8, then doubled ones, and all.
  private static func threadCounts(upTo all: Int) -> [Int] {
    (1...all).filter { $0 <= 8 || $0 & ($0 - 1) == 0 || $0 == all }
  }
}

/// The rows of a benchmark, printed as they come and kept for the JSON form.
struct BenchReport {
  static let file = Flag.string("json", "FILE", help: "also write the result as JSON")

  private let toStandardOutput: Bool
  private let path: String?
  private var rows: [JSONValue] = []
  private let name: String
  private let coreCount = usableCores().count

  init(_ arguments: ParsedArguments) {
    toStandardOutput = arguments.wantsJSON
    path = arguments.optionalString("json")
    name = arguments.specification.name
  }

  /// A measured rate in units of 10⁹ per second.
  mutating func add(_ what: String, threads: Int, _ rate: MeasuredRate, unit: String) {
    let median = rate.median / 1e9
    let best = rate.best / 1e9
    add(
      text: pad(what, 10) + pad("\(threads) thread\(threads == 1 ? "" : "s")", 12)
        + number(median, 9) + " " + unit + "  (best \(number(best, 0)))",
      row: [
        "name": .string(what), "threads": .integer(threads), "median": .number(median),
        "best": .number(best), "unit": .string(unit),
      ])
  }

  /// The time of a job without work.
  mutating func addForkJoin(_ rate: MeasuredRate, threads: Int) {
    let (median, best) = (1e6 / rate.median, 1e6 / rate.best)
    add(
      text: pad("fork/join", 10) + pad("\(threads) threads", 12)
        + String(repeating: " ", count: 5) + ByteSize.decimal(median, digits: 2)
        + " µs  (best \(ByteSize.decimal(best, digits: 2)))",
      row: [
        "name": "fork_join", "threads": .integer(threads), "median": .number(median),
        "best": .number(best), "unit": "µs",
      ])
  }

  /// One row in both forms; null where there is nothing for the JSON form.
  mutating func add(text: String, row: JSONValue) {
    if row != .null { rows.append(row) }
    if !toStandardOutput { StandardOutput.write(text + "\n") }
  }

  /// Writes what is left to write.
  func finish() throws {
    let document: JSONValue = [
      "benchmark": .string(name), "version": .string(Step3Command.version),
      "cpu": .string(Self.processor), "cores": .integer(coreCount),
      "rows": .array(rows),
    ]
    if toStandardOutput { StandardOutput.write(document.text() + "\n") }
    guard let path else { return }
    guard FileManager.default.createFile(atPath: path, contents: Data(document.text().utf8)) else {
      throw CommandFailure(.failed, code: "cannot_write", "\(path): cannot be written")
    }
  }

  func pad(_ text: String, _ width: Int) -> String {
    text + String(repeating: " ", count: max(1, width - text.count))
  }

  func number(_ value: Double, _ width: Int) -> String {
    let text = ByteSize.decimal(value, digits: 1)
    return String(repeating: " ", count: max(0, width - text.count)) + text
  }

  private static var processor: String {
    let information = (try? String(contentsOfFile: "/proc/cpuinfo", encoding: .utf8)) ?? ""
    let line = information.split(separator: "\n").first { $0.hasPrefix("model name") }
    return line.flatMap { $0.split(separator: ":").last }.map {
      $0.trimmingCharacters(in: .whitespaces)
    } ?? "unknown"
  }
}
