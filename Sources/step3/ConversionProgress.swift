import CommandLineInterface

/// Starts a progress report with the first piece, when the total is known.
final class ConversionProgress {
  private let label: String
  private let log: Log
  private var reporter: ProgressReporter?

  init(_ label: String, log: Log) {
    self.label = label
    self.log = log
  }

  func advance(by piece: Int, of total: Int) {
    let current = reporter ?? ProgressReporter(label, byteCount: total, log: log)
    reporter = current
    current.advance(by: piece)
  }

  func finish() { reporter?.finish() }
}
