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
  }

  /// Random weights carry every rounding on in full; docs/afd.md tells what trained ones lose.
  @Test("E4M3 activations and BF16 results stay within a cosine of 0.997 on random weights")
  func fast() throws {
    #expect(try cosine(.whole(expertCount: 8), .fast) >= 0.997)
    #expect(try cosine(.expertParallel(expertCount: 8, count: 2), .fast) >= 0.997)
    #expect(try cosine(.tensorParallel(expertCount: 8, count: 4), .fast) >= 0.997)
  }

  @Test("E4M3 codes are the nearest, ties to even, all 256 of them fixed points")
  func codes() {
    for code in UInt8.min...UInt8.max {
      let value = float(e4m3: code)
      let back = e4m3Code(value)
      #expect(value.isNaN ? back & 0x7F == 0x7F : back == code)
    }
    var generator = SplitMix(seed: 9)
    let values = (0..<127).map { float(e4m3: UInt8($0)) }
    for _ in 0..<20_000 {
      let value = Float.random(in: 0...460, using: &generator)
      let found = float(e4m3: e4m3Code(value))
      let nearest = values.map { abs($0 - value) }.min() ?? 0
      #expect(abs(found - value) == nearest)
    }
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
          case .e4m3: #expect(abs(target[index] - values[index]) <= 0.0625 * 3.01)
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
