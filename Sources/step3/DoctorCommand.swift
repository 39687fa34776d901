import CommandLineInterface
import JSONScanning
import Kernels

/// `step3 doctor`: looks at the machine and says what to change.
struct DoctorCommand: Command {
  static let specification = CommandSpecification(
    "doctor", abstract: "Look at this machine and say what to change.",
    example: "step3 doctor",
    discussion: "Ends with exit code 7 when something keeps the engine from working well at all.")

  static func run(_ arguments: ParsedArguments) throws {
    let findings = MachineFacts().findings + [kernels(arguments.kernels)]
    if arguments.wantsJSON {
      let rows = findings.map { finding -> JSONValue in
        [
          "name": .string(finding.name), "verdict": .string(finding.verdict.rawValue),
          "value": .string(finding.value),
          "advice": finding.advice.map { .string($0) } ?? .null,
        ]
      }
      let document: JSONValue = [
        "version": .string(Step3Command.version), "findings": .array(rows),
      ]
      StandardOutput.write(document.text() + "\n")
    } else {
      StandardOutput.write(findings.map(line).joined())
    }
    let problems = findings.filter { $0.verdict == .problem }.map(\.name)
    guard problems.isEmpty else {
      throw CommandFailure(
        .selfCheck, code: "unfit_machine",
        "to be changed first: \(problems.joined(separator: ", "))")
    }
  }

  private static func line(_ finding: MachineFinding) -> String {
    let mark =
      switch finding.verdict {
      case .good: "ok  "
      case .warning: "note"
      case .problem: "bad "
      }
    let name = finding.name + String(repeating: " ", count: max(1, 20 - finding.name.count))
    let advice = finding.advice.map { "                          → \($0)\n" } ?? ""
    return "\(mark)  \(name)\(finding.value)\n\(advice)"
  }

  /// The kernels that `choice` leads to, with the worker threads that are used without --threads.
  private static func kernels(_ choice: String) -> MachineFinding {
    do {
      let kernels = try KernelSet.select(KernelChoice(rawValue: choice) ?? .auto)
      return MachineFinding("kernels", "\(kernels.name), \(usableCores().count) threads")
    } catch {
      return MachineFinding(
        "kernels", .problem, "--kernels \(choice)", advice: "\(error); use --kernels auto")
    }
  }
}
