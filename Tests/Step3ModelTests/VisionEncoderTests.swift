import Foundation
import JSONScanning
import Kernels
import ModelConfiguration
import Step3Model
import Tensors
import TestSupport
import Testing

private func encoder(
  _ images: TinyImages, _ kernels: KernelSet, _ activation: ActivationType, threads: Int = 2
) throws -> VisionEncoder {
  let path = images.directory + "/config.json"
  let bytes = [UInt8](try Data(contentsOf: URL(fileURLWithPath: path)))
  var loader = VisionLoader(
    files: try CheckpointFiles(directory: images.directory),
    configuration: try Step3Configuration(json: JSONValue(parsing: bytes), path: path))
  let encoder = try loader.load(
    activation: activation, compute: Compute(kernels: kernels, threadCount: threads))
  #expect(loader.unusedNames.isEmpty)
  return try #require(encoder)
}

private func views(_ images: TinyImages, _ kind: String) throws -> [PixelView] {
  try images.views(kind).map { PixelView(side: $0.side, pixels: $0.pixels) }
}

private func encode(
  _ views: [PixelView], _ work: inout VisionWork, budget: Int = .max
) -> [[Float]] {
  work.begin(views)
  while true {
    if let features = work.advance(budget: budget) {
      return features.map { $0.values.array(0..<$0.values.count) }
    }
  }
}

private func encode(
  _ views: [PixelView], _ encoder: VisionEncoder, budget: Int = .max
) -> [[Float]] {
  var work = VisionWork(encoder: encoder)
  return encode(views, &work, budget: budget)
}

@Suite struct VisionEncoderTests {
  @Test("features are those of the reference", arguments: TinyImages.names)
  func reference(name: String) throws {
    let images = try TinyImages(name)
    for kernels in KernelSet.available {
      for activation in ActivationType.allCases {
        let encoder = try encoder(images, kernels, activation)
        let isExact = name.hasSuffix("-f32") && activation == .float32
        for kind in images.kinds {
          let found = encode(try views(images, kind), encoder)
          let expected = try images.features(kind)
          #expect(found.count == expected.count)
          for (one, other) in zip(found, expected) {
            let comparison = ValueComparison(one, other)
            let isNear =
              isExact ? comparison.relativeDifference < 1e-4 : comparison.cosine > 0.999
            #expect(isNear, "\(kernels.name), \(activation), \(kind): \(comparison)")
          }
        }
      }
    }
  }

  @Test(
    "features do not depend on the batch, the threads or the pieces", arguments: TinyImages.names)
  func invariance(name: String) throws {
    let images = try TinyImages(name)
    let all = try images.kinds.flatMap { try views(images, $0) }
    for kernels in KernelSet.available {
      for activation in ActivationType.allCases {
        let alone = try encoder(images, kernels, activation, threads: 1)
        let expected = all.flatMap { encode([$0], alone) }
        let encoder = try encoder(images, kernels, activation, threads: 3)
        var work = VisionWork(encoder: encoder)
        #expect(encode(all, &work, budget: 1) == expected)
        // The memory of a larger batch is used again, with other views at other places.
        #expect(encode([all[1]], &work) == [expected[1]])
        #expect(encode(all.reversed(), &work) == expected.reversed())
      }
    }
  }

  @Test("the piece that one step computes is bounded by its budget")
  func pieces() throws {
    let images = try TinyImages("vision-f32")
    let encoder = try encoder(images, try KernelSet.select(.reference), .float32)
    let view = try views(images, "images")[0]
    var work = VisionWork(encoder: encoder)
    work.begin([view, view])
    let layer = 2 * encoder.layerWork(side: view.side)
    let early = work.advance(budget: 2 * layer)
    #expect(early == nil)
    let features = work.advance(budget: 0)
    #expect(features?.count == 2)
    let isEmpty = work.isEmpty
    #expect(isEmpty)
    #expect(encoder.tokenCount(side: 52) == 9 && encoder.tokenCount(side: 36) == 4)
    #expect(encoder.tokenCount(side: 4) == 0)
  }

  @Test("positions are resized by a cubic kernel of coefficient -1/2 that is widened to shrink")
  func positionTaps() {
    // PyTorch: torch.nn.functional.interpolate(mode="bicubic", antialias=True) of unit vectors.
    let taps = PositionTable.bicubicTaps(from: 52, to: 36)
    #expect(taps.count == 36)
    for tap in taps { #expect(abs(tap.reduce(0) { $0 + $1.weight } - 1) < 1e-12) }
    #expect(taps[0].map(\.index) == [0, 1, 2, 3])
    #expect(taps[18].count == 6)
    let enlarged = PositionTable.bicubicTaps(from: 2, to: 4)
    #expect(enlarged[0].map(\.weight).map { ($0 * 1e6).rounded() } == [1_088_235, -88_235])
  }
}
