/// Which inputs an output takes and with which weights, for one axis.
///
/// A triangle filter whose support grows with the reduction, as PIL's `BILINEAR` and torch's
/// antialiased bilinear interpolation have it.
struct ResamplingTable<Weight: Sendable>: Sendable {
  /// Per output: the first input, and how many.
  let first: [Int32]
  let count: [Int32]
  /// `stride` weights per output, zeros behind the last.
  let weights: [Weight]
  let stride: Int

  /// Number of outputs.
  var outputCount: Int { first.count }
}

extension ResamplingTable<Int32> {
  /// PIL's weights for eight bits: computed in doubles, then rounded to 22 fractional bits.
  init(eightBit inputCount: Int, to outputCount: Int) {
    let scale = Double(inputCount) / Double(outputCount)
    let reduction = max(scale, 1)
    stride = Int(reduction.rounded(.up)) * 2 + 1
    var first: [Int32] = []
    var count: [Int32] = []
    var weights = [Int32](repeating: 0, count: outputCount * stride)
    for output in 0..<outputCount {
      let center = (Double(output) + 0.5) * scale
      let from = max(0, Int(center - reduction + 0.5))
      let to = min(inputCount, Int(center + reduction + 0.5))
      let raw = (0..<to - from).map { index in
        max(0, 1 - abs((Double(index + from) - center + 0.5) * (1 / reduction)))
      }
      var sum = 0.0
      for weight in raw { sum += weight }
      for (index, weight) in raw.enumerated() {
        let share = sum == 0 ? weight : weight / sum
        weights[output * stride + index] = Int32(0.5 + share * Double(1 << 22))
      }
      first.append(Int32(from))
      count.append(Int32(to - from))
    }
    self.first = first
    self.count = count
    self.weights = weights
  }
}

extension ResamplingTable<Float> {
  /// torch's weights, in single precision as it computes them: positions beyond 1000 are rounded
  /// so coarsely that exact ones would differ in the fourth digit of a pixel.
  init(single inputCount: Int, to outputCount: Int) {
    let scale = Float(inputCount) / Float(outputCount)
    let support = max(scale, 1)
    let inverse = scale >= 1 ? 1 / scale : 1
    stride = Int(support.rounded(.up)) * 2 + 1
    var first: [Int32] = []
    var count: [Int32] = []
    var weights = [Float](repeating: 0, count: outputCount * stride)
    for output in 0..<outputCount {
      let center = scale * (Float(output) + 0.5)
      let from = max(0, Int(center - support + 0.5))
      let to = min(inputCount, Int(center + support + 0.5))
      let length = max(0, min(to - from, stride))
      var sum: Float = 0
      for index in 0..<length {
        let weight = max(0, 1 - abs((Float(index + from) - center + 0.5) * inverse))
        weights[output * stride + index] = weight
        sum += weight
      }
      if sum != 0 {
        for index in 0..<length { weights[output * stride + index] /= sum }
      }
      first.append(Int32(from))
      count.append(Int32(length))
    }
    self.first = first
    self.count = count
    self.weights = weights
  }
}
