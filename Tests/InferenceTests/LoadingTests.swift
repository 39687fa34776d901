import Foundation
import Inference
import Kernels
import Step3Model
import Tensors
import TestSupport
import Testing

@Suite struct LoadingTests {
  private let ids = (0..<40).map { ($0 * 37 + 11) % 256 }

  @Test("experts that are streamed give the same bits", arguments: ["moe-bf16", "moe-fp8"])
  func streaming(name: String) throws {
    var options = EngineOptions()
    let all = try logits(of: name, ids: ids, options: options, chunks: [7, 1, 1])
    options.streamsExperts = true
    #expect(try logits(of: name, ids: ids, options: options, chunks: [7, 1, 1]) == all)
  }

  @Test("locked weights give the same bits, or the limit is named")
  func locking() throws {
    var options = EngineOptions()
    let plain = try logits(of: "moe-bf16", ids: ids, options: options)
    options.locksWeights = true
    do {
      #expect(try logits(of: "moe-bf16", ids: ids, options: options) == plain)
    } catch let error as InferenceError {
      guard case .weights(.file(.cannotLock)) = error else { throw error }
      #expect("\(error)".contains("--lock-memory"))
    }
  }

  @Test("replaced weights move predictions until they are restored, and the file stays")
  func calibration() throws {
    let source = try TemporaryFolder(copying: "tiny/moe-f32")
    let before = try Data(contentsOf: source.file("model.safetensors"))
    let runs = try CalibrationRuns(
      path: source.url.path, windows: [ids], options: EngineOptions())
    let name = "model.layers.1.self_attn.v_proj.weight"
    let tensor = try runs.files.tensor(name)
    let recorder = InputRecorder([tensor])
    try runs.record(recorder)
    #expect(recorder.take(tensor) != nil)
    let own = tensor.bytes.bytes()
    try runs.replace(name, matrix: 0, with: [UInt8](repeating: 0, count: own.count))
    #expect(try runs.divergence() > 1e-6)
    // Tensors beside it may share its pages: they keep what stands in their place.
    let beside = runs.files.names.filter { $0 != name }
    for other in beside {
      let size = try runs.files.tensor(other).bytes.byteCount
      try runs.replace(other, matrix: 0, with: [UInt8](repeating: 1, count: size))
    }
    runs.restore(name)
    #expect(tensor.bytes.bytes() == own)
    for other in beside {
      #expect(try runs.files.tensor(other).bytes.bytes().allSatisfy { $0 == 1 })
      runs.restore(other)
    }
    #expect(try abs(runs.divergence()) < 1e-5)
    #expect(try Data(contentsOf: source.file("model.safetensors")) == before)
  }
}
