import Foundation
import Kernels
import Tensors
import Testing

/// The largest difference, relative to the larger of the wanted value and one.
private func worst(_ found: [Float], _ wanted: [Double]) -> Double {
  zip(found, wanted).map { abs(Double($0) - $1) / max(1, abs($1)) }.max() ?? 0
}

@Suite struct RowsTests {
  @Test("RMS norm divides by the root of the mean square", arguments: KernelSet.available)
  func rmsNorm(set: KernelSet) {
    let compute = Compute(kernels: set, threadCount: 2)
    var numbers = TestNumbers(seed: 1)
    for columns in [1, 15, 16, 17, 100, 1030] {
      let (x, weight) = (numbers.floats(3 * columns), numbers.floats(columns))
      var y = Buffer<Float>(count: 3 * columns)
      compute.rmsNorm(
        Buffer(x), weight: Buffer(weight), epsilon: 1e-5, rowCount: 3, columns: columns, into: &y)
      var wanted: [Double] = []
      for row in 0..<3 {
        let values = x[row * columns..<(row + 1) * columns].map(Double.init)
        let mean = values.map { $0 * $0 }.reduce(0, +) / Double(columns)
        for (value, factor) in zip(values, weight) {
          wanted.append(value / (mean + 1e-5).squareRoot() * Double(factor))
        }
      }
      #expect(worst(y.array(0..<y.count), wanted) < 1e-6)
    }
  }

  @Test("rotation turns the halves of each head", arguments: KernelSet.available)
  func rotation(set: KernelSet) {
    let compute = Compute(kernels: set, threadCount: 1)
    var numbers = TestNumbers(seed: 2)
    let (heads, d) = (3, 38)
    let x = numbers.floats(2 * heads * d)
    let (cosines, sines) = (numbers.floats(5 * d / 2), numbers.floats(5 * d / 2))
    var y = Buffer<Float>(x)
    compute.rotate(
      &y, heads: heads, headDimension: d, positions: [4, 1], cosines: Buffer(cosines),
      sines: Buffer(sines))
    var wanted = x.map(Double.init)
    for (row, position) in [4, 1].enumerated() {
      for head in 0..<heads {
        for i in 0..<d / 2 {
          let at = (row * heads + head) * d + i
          let (a, b) = (Double(x[at]), Double(x[at + d / 2]))
          let c = Double(cosines[position * d / 2 + i])
          let s = Double(sines[position * d / 2 + i])
          wanted[at] = a * c - b * s
          wanted[at + d / 2] = b * c + a * s
        }
      }
    }
    #expect(worst(y.array(0..<y.count), wanted) < 1e-6)
  }

  @Test("SwiGLU holds over the whole range of gates", arguments: KernelSet.available)
  func swiglu(set: KernelSet) {
    let compute = Compute(kernels: set, threadCount: 2)
    var numbers = TestNumbers(seed: 3)
    let edges: [Float] = [0, -0.0, 88.5, -88.5, 120, -120, 1e30, -1e30, 1e-30, -0x1p-140]
    let gate = edges + (0..<1000).map { _ in 30 * numbers.float() }
    let up = edges.map { _ in Float(1) } + numbers.floats(1000)
    var y = Buffer<Float>(count: gate.count)
    compute.swiglu(gate: Buffer(gate), up: Buffer(up), count: gate.count, into: &y)
    let wanted = zip(gate, up).map { gate, up in
      Double(gate) / (1 + exp(-Double(gate))) * Double(up)
    }
    #expect(worst(y.array(0..<y.count), wanted) < 1e-6)
    var one = Buffer<Float>(count: 1)
    for index in [0, 3, 17, 500, 1009] {
      compute.swiglu(
        gate: Buffer([gate[index]]), up: Buffer([up[index]]), count: 1, into: &one)
      #expect(one[0].bitPattern == y[index].bitPattern)
    }
    compute.swiglu(gate: Buffer([.nan]), up: Buffer([1]), count: 1, into: &one)
    #expect(one[0].isNaN)
  }

  @Test("sums add to what is there", arguments: KernelSet.available)
  func sums(set: KernelSet) {
    let compute = Compute(kernels: set, threadCount: 2)
    var numbers = TestNumbers(seed: 4)
    let x = numbers.floats(63)
    let before = numbers.floats(63)
    var y = Buffer<Float>(before)
    compute.add(Buffer(x), count: 63, into: &y)
    for index in 0..<63 { #expect(y[index] == before[index] + x[index]) }
  }

  @Test("rounding to BF16 is to nearest even, NaN and all", arguments: KernelSet.available)
  func rounding(set: KernelSet) {
    let compute = Compute(kernels: set, threadCount: 1)
    var numbers = TestNumbers(seed: 5)
    let patterns: [UInt32] =
      [
        0, 1, 0x8000, 0x8001, 0x18000, 0x007F_FFFF, 0x8000_0001, 0x3F80_8000, 0x3F81_8000,
        0x7F7F_FFFF, 0x7F80_0000, 0xFF80_0000, 0x7FC0_0000, 0x7F80_0001, 0xFFFF_FFFF,
      ] + (0..<2000).map { _ in UInt32(truncatingIfNeeded: numbers.next()) }
    var x = Buffer<Float>(patterns.map { Float(bitPattern: $0) })
    compute.roundToBFloat16(&x, count: patterns.count)
    for (index, pattern) in patterns.enumerated() {
      let wanted = bfloat16Bits(Float(bitPattern: pattern))
      #expect(x[index].bitPattern == UInt32(wanted) << 16, "\(pattern)")
    }
  }

  @Test(
    "log-sum-exp finds the first largest logit and the weight of all",
    arguments: KernelSet.available)
  func logSumExp(set: KernelSet) {
    let compute = Compute(kernels: set, threadCount: 1)
    var numbers = TestNumbers(seed: 8)
    for count in [1, 7, 33, 4099] {
      var x = numbers.floats(count).map { 20 * $0 }
      let peak = numbers.int(0..<count)
      x[peak] = 30
      if peak + 3 < count { x[peak + 3] = 30 }
      let found = compute.logSumExp(Buffer(x), count: count)
      let sum = x.map { exp(Double($0) - 30) }.reduce(0, +)
      #expect(found.index == peak && found.largest == 30)
      #expect(abs(Double(found.sum) - sum) < 1e-5 * sum)
    }
    let odd = compute.logSumExp(Buffer([.nan, 1, .nan]), count: 3)
    #expect(odd.largest == 1 && odd.index == 1 && odd.sum == 1)
  }
}
