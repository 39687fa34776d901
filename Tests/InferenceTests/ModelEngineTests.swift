import Foundation
import Inference
import Kernels
import Sampling
import TestSupport
import Testing

/// The whole engine on real (tiny, random) checkpoints.
@Suite struct ModelEngineTests {
  private func engine(
    _ name: String, sequences: Int = 16, chunk: Int = 64, threads: Int = 2, blocks: Int = 200,
    sharesPrefixes: Bool = true
  ) throws -> Engine {
    var options = EngineOptions()
    options.threads = threads
    options.sequenceLimit = sequences
    options.batchedTokenLimit = chunk
    options.blockSize = 16
    options.cacheBlockCount = blocks
    options.sharesPrefixes = sharesPrefixes
    let engine = Engine(
      try ModelFolder(path: Fixtures.path("tiny/" + name)), options: options)
    try engine.waitUntilLoaded()
    return engine
  }

  private func request(_ index: Int) throws -> GenerationRequest {
    GenerationRequest(
      id: "r\(index)", prompt: (0..<10 + index * 5).map { ($0 * 37 + 11) % 250 + index % 2 },
      sampling: try SamplingParameters(
        temperature: index % 3 == 0 ? 0 : 1, topP: index % 4 == 0 ? 0.9 : 1, logprobs: 2),
      seed: UInt64(index), choiceCount: index % 4 == 3 ? 3 : 1, maximumTokens: 12 + index,
      ignoreEndOfSequence: true, promptLogprobCount: index % 5 == 0 ? 1 : nil)
  }

  @Test(
    "alone, in a crowd, in chunks, on other threads, preempted or cached: the same bits",
    arguments: ["moe-bf16", "moe-fp8", "dense-f32"])
  func invariance(name: String) throws {
    let requests = try (0..<12).map { try request($0) }
    let reference = try engine(name, sequences: 3, chunk: 256, threads: 1, sharesPrefixes: false)
    let alone = try requests.map { request in
      let recorder = try reference.record(request)
      _ = recorder.wait()
      return recorder
    }
    let engines = [
      try engine(name), try engine(name, sequences: 4, chunk: 9, threads: 1),
      try engine(name, blocks: 16),
    ]
    for engine in engines {
      for _ in 0..<2 {
        let crowd = try requests.map { try engine.record($0) }
        for (request, pair) in zip(requests, zip(crowd, alone)) {
          for choice in 0..<request.choiceCount {
            #expect(pair.0.tokens(choice: choice) == pair.1.tokens(choice: choice))
          }
          #expect(pair.0.prompt?.logprobs == pair.1.prompt?.logprobs)
        }
      }
    }
    #expect(engines[0].load.prefixCacheHitTokenCount > 0)
    #expect(engines[2].load.preemptionCount > 0)
  }

  @Test("prompt logprobs are those of the scoring session") func scoring() throws {
    var folderOptions = EngineOptions()
    folderOptions.threads = 2
    let ids = (0..<60).map { ($0 * 37 + 11) % 250 }
    let folder = try ModelFolder(path: Fixtures.path("tiny/moe-bf16"))
    var session = try ScoringSession(folder, options: folderOptions, contextLength: 128)
    let engine = Engine(folder, options: folderOptions)
    try engine.waitUntilLoaded()
    var sampler = Sampler(vocabularyCount: try #require(engine.model).vocabularySize)
    var expected: [TokenLogprobs?] = [nil]
    try session.feed(ids, logitsOf: 0..<ids.count - 1) { index, row in
      expected.append(
        try? sampler.logprobs(row, of: ids[index + 1], topCount: 3, position: index + 1))
    }
    let recorder = try engine.record(
      GenerationRequest(
        id: "score", prompt: ids, sampling: SamplingParameters(), seed: 0, maximumTokens: 0,
        promptLogprobCount: 3))
    #expect(recorder.prompt?.logprobs == expected)
  }

  @Test("the fingerprint is the checkpoint's own") func fingerprint() throws {
    let first = try ModelFolder(path: Fixtures.path("tiny/moe-bf16")).fingerprint
    #expect(first.utf8.count == 16)
    #expect(try ModelFolder(path: Fixtures.path("tiny/moe-bf16")).fingerprint == first)
    #expect(try ModelFolder(path: Fixtures.path("tiny/moe-fp8")).fingerprint != first)
    // One bit of one weight makes another model.
    let folder = try TemporaryFolder(copying: "tiny/moe-bf16")
    #expect(try ModelFolder(path: folder.url.path).fingerprint == first)
    let shard = folder.file("model-00002-of-00003.safetensors")
    var bytes = [UInt8](try Data(contentsOf: shard))
    bytes[bytes.count - 33] ^= 1
    try Data(bytes).write(to: shard)
    #expect(try ModelFolder(path: folder.url.path).fingerprint != first)
  }

  @Test("a context that the model does not have stops the engine with the error that says why")
  func loadFailure() throws {
    var options = EngineOptions()
    options.contextLength = 1 << 20
    let engine = Engine(
      try ModelFolder(path: Fixtures.path("tiny/moe-bf16")), options: options)
    #expect(throws: InferenceError.self) { try engine.waitUntilLoaded() }
    guard case .stopped(let reason) = engine.state else {
      Issue.record("the engine runs")
      return
    }
    #expect(reason.contains("1048576"))
  }
}
