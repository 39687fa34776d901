import JSONScanning

#if canImport(Glibc)
  import Glibc
#else
  import Darwin
#endif

/// How positions become rotation angles.
package struct RotaryConfiguration: Sendable, Equatable {
  /// Base of the geometric series of frequencies.
  package var theta = 500_000.0
  /// Per-pair divisors of the frequencies, d/2 of them; nil for plain RoPE.
  package var factors: [Double]?
  /// Divides every position (linear scaling); 1 for none.
  package var linearFactor = 1.0
  /// Multiplies cosine and sine (LongRoPE's magnitude scaling); 1 for none.
  package var magnitude = 1.0

  /// Plain RoPE with the real model's base.
  package init() {}

  /// Angular frequencies of the d/2 pairs, in radians per position, lowest pair first.
  ///
  /// - Source: `inv_freq_i = theta^(-2i/d)`, divided by the pair's factor.
  package func frequencies(headDimension: Int) -> [Double] {
    (0..<headDimension / 2).map { pair in
      let plain = pow(theta, -2 * Double(pair) / Double(headDimension))
      return plain / (factors?[pair] ?? 1) / linearFactor
    }
  }
}

extension RotaryConfiguration {
  init(
    _ reader: inout ConfigurationReader, headDimension: Int, contextLength: Int
  ) throws(ConfigurationError) {
    theta = try reader.positive("rope_theta", classDefault: theta)
    // `rope_parameters` is the newer spelling of `rope_scaling`, and may carry the base.
    for key in ["rope_parameters", "rope_scaling"] {
      guard let json = reader.value(key) else { continue }
      guard case .object = json else { throw reader.wrongType(key, "an object", json) }
      var inner = ConfigurationReader(
        path: reader.path, prefix: reader.prefix + key + ".", object: json)
      try apply(&inner, headDimension: headDimension, contextLength: contextLength)
      for entry in inner.entries {
        reader.note(
          key + "." + entry.field.dropFirst(inner.prefix.count), entry.value, entry.origin)
      }
      return
    }
  }

  private mutating func apply(
    _ reader: inout ConfigurationReader, headDimension: Int, contextLength: Int
  ) throws(ConfigurationError) {
    if reader.value("rope_theta") != nil {
      theta = try reader.positive("rope_theta", classDefault: theta)
    }
    let newer = try reader.string("rope_type")
    let older = try reader.string("type")
    let type = newer ?? older ?? "default"
    reader.note("rope_type", type, .file)
    switch type {
    case "default":
      return
    case "linear":
      linearFactor = try reader.positive("factor", classDefault: 1)
    case "longrope", "su":
      try applyLongRope(&reader, headDimension: headDimension, contextLength: contextLength)
    default:
      throw reader.unsupported(
        "rope_type", type, "known are default, linear, longrope and su")
    }
  }

  /// LongRoPE ("su" is its older name): per-pair divisors, the long ones when the model's context
  /// exceeds the original one. They are chosen once for the model and not per prompt, so that a
  /// token's keys never depend on what follows it.
  private mutating func applyLongRope(
    _ reader: inout ConfigurationReader, headDimension: Int, contextLength: Int
  ) throws(ConfigurationError) {
    let original = try reader.integer(
      "original_max_position_embeddings", classDefault: contextLength)
    let isLong = contextLength > original
    let key = isLong ? "long_factor" : "short_factor"
    guard let list = try reader.numbers(key) else {
      throw reader.unsupported(key, "null", "longrope needs \(headDimension / 2) factors")
    }
    guard list.count == headDimension / 2, list.allSatisfy({ $0 > 0 }) else {
      throw reader.unsupported(
        key, "a list of \(list.count)", "it must hold \(headDimension / 2) positive numbers")
    }
    factors = list
    let stretch = try reader.positive(
      "factor", classDefault: Double(contextLength) / Double(original))
    magnitude = try reader.positive(
      "attention_factor",
      classDefault: stretch <= 1 ? 1 : (1 + log(stretch) / log(Double(original))).squareRoot())
  }
}
