import Foundation
import ImageProcessing
import Inference
import Sampling
import Step3Model
import Tensors
import TestSupport
import Testing
import Tokenization

/// Reads the images of a tiny checkpoint as the server does.
private func reader(_ folder: ModelFolder) throws -> ImageReader {
  let tokenizer = try Tokenizer(directory: folder.path)
  return try #require(try ImageReader(folder) { tokenizer.id(of: $0).map(Int.init) })
}

private func options(chunk: Int = 512, threads: Int = 2) -> EngineOptions {
  var options = EngineOptions()
  options.threads = threads
  options.batchedTokenLimit = chunk
  options.sequenceLimit = 1
  return options
}

/// A noisy picture of any size as a bitmap file.
private func bitmap(width: Int, height: Int, seed: UInt32) -> [UInt8] {
  let rowBytes = (3 * width + 3) / 4 * 4
  func little(_ value: Int, _ count: Int) -> [UInt8] {
    (0..<count).map { UInt8(truncatingIfNeeded: value >> (8 * $0)) }
  }
  var bytes = Array("BM".utf8) + little(54 + rowBytes * height, 4) + little(0, 4) + little(54, 4)
  bytes += little(40, 4) + little(width, 4) + little(height, 4) + little(1, 2) + little(24, 2)
  bytes += little(0, 4) + little(rowBytes * height, 4) + little(2835, 4) + little(2835, 4)
  bytes += little(0, 8)
  var state = seed
  for _ in 0..<rowBytes * height {
    state = state &* 1_664_525 &+ 1_013_904_223
    bytes.append(UInt8(truncatingIfNeeded: state >> 24))
  }
  return bytes
}

/// The events of a request, up to its end.
private func tokens(_ engine: Engine, _ request: GenerationRequest) async throws
  -> (ids: [Int], cached: Int)
{
  let (events, continuation) = AsyncStream.makeStream(of: GenerationEvent.self)
  try engine.submit(request) { event in
    continuation.yield(event)
    if case .finished = event { continuation.finish() }
  }
  var ids: [Int] = []
  var cached = 0
  for await event in events {
    switch event {
    case .promptProcessed(let report): cached = report.cachedTokenCount
    case .token(let token): ids.append(token.id)
    case .finished(let end):
      if case .failed(let failure) = end.reason { throw failure }
    }
  }
  return (ids, cached)
}

@Suite struct ImageTests {
  @Test("logits of a prompt with an image are those of the reference", arguments: TinyImages.names)
  func logits(name: String) throws {
    let images = try TinyImages(name)
    let folder = try ModelFolder(path: images.directory)
    let reader = try reader(folder)
    let file = [UInt8](try Data(contentsOf: URL(fileURLWithPath: images.png)))
    let (prompt, placed) = try reader.expand(images.ids("png.ids"), [try reader.read(file)])
    let expected = try images.logits("png.logits")
    var first: [[Float]]?
    for (chunk, threads) in [(512, 2), (7, 1)] {
      var session = try ScoringSession(
        folder, options: options(chunk: chunk, threads: threads), contextLength: prompt.count)
      var rows: [[Float]] = []
      try session.feed(
        prompt, images: placed, logitsOf: prompt.count - expected.count..<prompt.count
      ) { _, logits in
        rows.append(logits.indices.map { logits[$0] })
      }
      #expect(rows.count == expected.count)
      for (row, reference) in zip(rows, expected) {
        let comparison = ValueComparison(row, reference)
        #expect(
          name.hasSuffix("-f32")
            ? comparison.relativeDifference < 1e-4 : comparison.cosine > 0.999, "\(comparison)")
      }
      // Chunks that cut through the image give the same bits.
      #expect(first == nil || first == rows)
      first = rows
    }
  }

  @Test("images of equal size under equal text do not share what is cached")
  func prefixes() async throws {
    let images = try TinyImages("vision-f32")
    let folder = try ModelFolder(path: images.directory)
    let reader = try reader(folder)
    var options = options(chunk: 16)
    options.sequenceLimit = 4
    options.blockSize = 16
    let files = (0..<2).map { bitmap(width: 729, height: 729, seed: $0 + 7) }
    let ids = try images.ids("png.ids")
    func request(_ id: String, _ file: Int) throws -> GenerationRequest {
      let (prompt, placed) = try reader.expand(ids, [try reader.read(files[file])])
      return GenerationRequest(
        id: id, prompt: prompt, sampling: try SamplingParameters(temperature: 0), seed: 1,
        maximumTokens: 6, ignoreEndOfSequence: true, images: placed)
    }
    // Each alone, on an engine of its own, is what it must be.
    var expected: [[Int]] = []
    for file in 0..<2 {
      let engine = Engine(folder, options: options)
      try engine.waitUntilLoaded()
      expected.append(try await tokens(engine, try request("alone", file)).ids)
      engine.stop()
    }
    let engine = Engine(folder, options: options)
    try engine.waitUntilLoaded()
    async let one = tokens(engine, try request("a", 0))
    async let two = tokens(engine, try request("b", 1))
    #expect(try await [one.ids, two.ids] == expected)
    let again = try await tokens(engine, try request("c", 1))
    #expect(again.ids == expected[1])
    // Four crops and the whole: the image's blocks are found again, by its content.
    #expect(again.cached >= 16)
    engine.stop()
  }

  @Test("a request that is cancelled while its images are encoded ends")
  func cancellation() async throws {
    let images = try TinyImages("vision-f32")
    let folder = try ModelFolder(path: images.directory)
    let reader = try reader(folder)
    let engine = Engine(folder, options: options(chunk: 2))
    try engine.waitUntilLoaded()
    let image = try reader.read(bitmap(width: 1600, height: 1600, seed: 3))
    let (prompt, placed) = try reader.expand(images.ids("png.ids"), [image])
    let request = GenerationRequest(
      id: "long", prompt: prompt, sampling: try SamplingParameters(temperature: 0), seed: 1,
      maximumTokens: 4, images: placed)
    let (events, continuation) = AsyncStream.makeStream(of: GenerationEvent.self)
    try engine.submit(request) { event in
      continuation.yield(event)
      if case .finished = event { continuation.finish() }
    }
    engine.cancel("long")
    var last: GenerationEvent?
    for await event in events { last = event }
    guard case .finished(let end)? = last else {
      Issue.record("no end")
      return
    }
    #expect(end.reason == .aborted)
    engine.stop()
  }

  @Test("placeholders and images are matched one to one")
  func placeholders() throws {
    let images = try TinyImages("vision-f32")
    let folder = try ModelFolder(path: images.directory)
    let reader = try reader(folder)
    let ids = try images.ids("png.ids")
    #expect(throws: ImagePromptError.placeholderCount(found: 1, images: 0)) {
      try reader.expand(ids, [])
    }
    let file = [UInt8](try Data(contentsOf: URL(fileURLWithPath: images.png)))
    let image = try reader.read(file)
    #expect(throws: ImagePromptError.placeholderCount(found: 1, images: 2)) {
      try reader.expand(ids, [image, image])
    }
    let (prompt, placed) = try reader.expand(ids, [image])
    #expect(prompt.count == ids.count - 1 + image.prepared.tokenCount)
    #expect(placed[0].positions == 4..<4 + image.prepared.tokenCount)
    #expect(throws: ImagePromptError.missingToken(spelling: "<im_end>")) {
      try ImageTokens(imageTokenID: 5) { $0 == "<im_end>" ? nil : 5 }
    }
    let text = try ModelFolder(path: Fixtures.path("tiny/moe-f32"))
    #expect(try ImageReader(text) { _ in nil } == nil)
  }
}
