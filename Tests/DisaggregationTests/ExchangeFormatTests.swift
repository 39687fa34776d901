import Disaggregation
import DisaggregationTestSupport
import Kernels
import ModelConfiguration
import Step3Model
import Tensors
import Testing

private let prompts: [[Int32]] = [
  [1, 17, 130, 42, 9, 200, 3], [250, 4, 4, 61], [12, 99, 180, 7], [140], [3, 1, 4],
]

/// Formats that round on the way.
@Suite("Rounding exchanges")
struct ExchangeFormatTests {
  private func cosine(_ map: ExpertMap, _ format: ExchangeFormat) throws -> Double {
    let model = try TinyModel(.bfloat16, activation: .bfloat16)
    var local = model.local()
    let expected = try model.run(
      prompts: prompts, decodeSteps: 2, microBatches: 1, through: &local)
    let cluster = try TinyCluster(map) { try TinyModel(.bfloat16, activation: .bfloat16) }
    let remote = try cluster.attention(model, microBatches: 2, format: format)
    var served = ServedFeedForward(remote)
    let found = try model.run(
      prompts: prompts, decodeSteps: 2, microBatches: 2, through: &served)
    let width = model.decoder.configuration.vocabularySize
    var smallest = 1.0
    for (a, b) in zip(expected.joined().chunks(of: width), found.joined().chunks(of: width)) {
      var (dot, left, right) = (0.0, 0.0, 0.0)
      for (x, y) in zip(a, b) {
        dot += Double(x) * Double(y)
        left += Double(x) * Double(x)
        right += Double(y) * Double(y)
      }
      smallest = min(smallest, dot / (left * right).squareRoot())
    }
    return smallest
  }

  @Test("BF16 results stay within a cosine of 0.9999")
  func bfloat16() throws {
    #expect(try cosine(.whole(expertCount: 8), .bfloat16) >= 0.9999)
    #expect(try cosine(.expertParallel(expertCount: 8, count: 3), .bfloat16) >= 0.9999)
    #expect(try cosine(.tensorParallel(expertCount: 8, count: 4), .bfloat16) >= 0.9999)
    // Nothing is added twice where experts have copies.
    #expect(try cosine(Split.copied, .bfloat16) >= 0.9999)
  }

  /// Random weights carry every rounding on in full; docs/afd.md tells what trained ones lose.
  @Test("E3M4 activations and BF16 results stay within a cosine of 0.999 on random weights")
  func fast() throws {
    #expect(try cosine(.whole(expertCount: 8), .fast) >= 0.999)
    #expect(try cosine(.expertParallel(expertCount: 8, count: 2), .fast) >= 0.999)
    #expect(try cosine(.tensorParallel(expertCount: 8, count: 4), .fast) >= 0.999)
  }

  @Test("E3M4 codes are the nearest, ties to even, all 256 of them fixed points")
  func codes() {
    for code in UInt8.min...UInt8.max { #expect(e3m4Code(float(e3m4: code)) == code) }
    #expect(float(e3m4: 0x7F) == 31 && float(e3m4: 0x10) == 0.25 && float(e3m4: 1) == 0x1p-6)
    #expect(e3m4Code(1000) == 0x7F && e3m4Code(-31.5) == 0xFF)
    // Halfway between two codes: the even one.
    #expect(e3m4Code(0x1p-7) == 0 && e3m4Code(0x1.8p-6) == 2 && e3m4Code(30.5) == 0x7E)
    var generator = SplitMix(seed: 9)
    let values = (0..<128).map { float(e3m4: UInt8($0)) }
    for _ in 0..<20_000 {
      let value =
        Float.random(in: 0...1, using: &generator) * Float.random(in: 0...33, using: &generator)
      let found = float(e3m4: e3m4Code(value))
      let nearest = values.map { abs($0 - value) }.min() ?? 0
      #expect(abs(found - value) == nearest)
    }
  }

  @Test("a block with a value that is none is none as a whole; tiny ones are zero")
  func extremes() throws {
    var values = [Float](repeating: 1, count: 130)
    values[3] = .nan
    values[70] = -.infinity
    values[128] = .leastNonzeroMagnitude
    values[129] = 0
    let region = try ByteArena(byteCount: 4096).region(0..<4096)
    Buffer(values).pack(at: 0, columns: 130, as: .e3m4, into: region, at: 0)
    var target = Buffer<Float>(count: 130)
    target.unpack(.e3m4, from: region, at: 0, columns: 130, to: 0)
    let areNone = (0..<128).allSatisfy { target[$0].isNaN }
    #expect(areNone && target[128] == 0 && target[129] == 0)
  }

  @Test("rows packed and unpacked are what their type keeps")
  func rows() {
    var generator = SplitMix(seed: 4)
    for columns in [1, 3, 64, 130, 257] {
      let values = (0..<columns).map { _ in Float.random(in: -3...3, using: &generator) }
      let source = Buffer(values)
      for type in PackedType.allCases {
        guard let arena = try? ByteArena(byteCount: 4096) else { continue }
        let region = arena.region(0..<4096)
        source.pack(at: 0, columns: columns, as: type, into: region, at: 64)
        var target = Buffer<Float>(count: columns)
        target.unpack(type, from: region, at: 64, columns: columns, to: 0)
        for index in 0..<columns {
          switch type {
          case .float32: #expect(target[index] == values[index])
          case .bfloat16:
            #expect(
              target[index]
                == Float(bitPattern: UInt32(bfloat16Bits(values[index])) << 16))
          case .e3m4: #expect(abs(target[index] - values[index]) <= 3.01 / 32)
          }
        }
      }
    }
  }
}

extension Sequence {
  /// Consecutive runs of `size` elements.
  fileprivate func chunks(of size: Int) -> [[Element]] {
    var chunks: [[Element]] = []
    for element in self {
      if chunks.last.map({ $0.count < size }) != true { chunks.append([]) }
      chunks[chunks.count - 1].append(element)
    }
    return chunks
  }
}
