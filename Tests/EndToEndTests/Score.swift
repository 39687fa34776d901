import Foundation
import TestSupport

/// The JSON document of `step3 score`.
struct Score: Decodable {
  struct Alternative: Decodable {
    let id: Int
    let logprob: Double?
  }

  let tokens: Int
  let logprobs: [Double?]
  let top: [[Alternative]?]?
  let greedy: Int
}

/// One call of `step3 score` on a tiny checkpoint, and the logits it wrote.
func scoredLogits(
  _ checkpoint: TinyCheckpoint, kernels: String, threads: Int = 2, chunk: Int? = nil
) async throws -> [Float] {
  let folder = try TemporaryFolder()
  let ids = checkpoint.ids.map(String.init).joined(separator: ",")
  var arguments = [
    "score", "--model", checkpoint.directory, "--ids", ids, "--kernels", kernels,
    "--threads", String(threads), "--logits-out", folder.file("logits.safetensors").path,
    "--format", "json",
  ]
  if let chunk { arguments += ["--chunk", String(chunk)] }
  let result = try await Step3Process.run(arguments)
  guard result.exitCode == 0 else { throw CommandFailed(result: result) }
  return try floats("logits", in: folder)
}

/// A command that had to succeed and did not.
struct CommandFailed: Error, CustomStringConvertible {
  let result: CommandResult

  var description: String { "exit code \(result.exitCode): \(result.errors)" }
}
