package import Kernels
package import Tensors

extension ModelLoader {
  /// One matrix, or one for each index of a leading dimension. How it is stored is decided by the
  /// types and companions that are there, and never by the name.
  mutating func weights(
    _ name: String, leading: [Int], rows: Int, columns: Int
  ) throws(SafetensorsError) -> [WeightMatrix] {
    if files[name + WeightNames.packedSuffix] != nil {
      return try packedWeights(name, leading: leading, rows: rows, columns: columns)
    }
    let tensor = try files.tensor(name, shape: leading + [rows, columns])
    used.insert(name)
    let slices = tensor.slices(leading)
    let companion = name + WeightNames.scaleSuffix
    switch (tensor.elementType, files[companion]) {
    case (.bfloat16, nil):
      return slices.map { .bfloat16($0.bytes, rows: rows, columns: columns) }
    case (.float32, nil):
      return slices.map { .float32($0.bytes, rows: rows, columns: columns) }
    case (.int8, nil):
      let factors = try integerFactors(name, leading: leading, rows: rows, columns: columns)
      return zip(slices, factors).map {
        .int8($0.bytes, $1, rows: rows, columns: columns)
      }
    case (.float8E4M3, _):
      let blocks = [(rows + 127) / 128, (columns + 127) / 128]
      let scales = try files.tensor(companion, shape: leading + blocks)
      used.insert(companion)
      var matrices: [WeightMatrix] = []
      for (values, scale) in zip(slices, scales.slices(leading)) {
        guard let factors = scale.float32Bytes() else {
          throw wrongType(scales, "F32 or BF16")
        }
        matrices.append(
          .e4m3(values.bytes, scaleInverse: factors, rows: rows, columns: columns))
      }
      return matrices
    case (_, nil):
      throw wrongType(
        tensor,
        "BF16, F32, F8_E4M3 with a \(WeightNames.scaleSuffix) companion, "
          + "or I8 with a \(WeightNames.factorSuffix) companion")
    case (_, _?): throw wrongType(tensor, "F8_E4M3, since \(companion) is there")
    }
  }

  /// INT4: eight elements of a row in each 32-bit word, the first in the low bits.
  private mutating func packedWeights(
    _ name: String, leading: [Int], rows: Int, columns: Int
  ) throws(SafetensorsError) -> [WeightMatrix] {
    let packedName = name + WeightNames.packedSuffix
    let packed = try files.tensor(packedName)
    used.insert(packedName)
    if let shape = files[name + WeightNames.shapeSuffix] {
      used.insert(shape.name)
      let found = shape.integers()
      guard found == leading + [rows, columns] else {
        throw .wrongShape(
          tensor: name, path: files.path(of: shape.name), expected: leading + [rows, columns],
          found: found ?? [])
      }
    }
    guard packed.elementType == .int32 else { throw wrongType(packed, "I32") }
    if packed.shape == leading + [rows, (columns + 3) / 4] {
      throw .wrongQuantization(
        tensor: name, path: files.path(of: packedName),
        reason: "8 bits are packed into words; 8 bits are read as I8 (format int-quantized), and "
          + "4 bits from words")
    }
    guard packed.shape == leading + [rows, (columns + 7) / 8] else {
      throw .wrongShape(
        tensor: packedName, path: files.path(of: packedName),
        expected: leading + [rows, (columns + 7) / 8], found: packed.shape)
    }
    let factors = try integerFactors(name, leading: leading, rows: rows, columns: columns)
    guard factors.allSatisfy({ $0.grouping != .row }) else {
      throw .wrongQuantization(
        tensor: name, path: files.path(of: packedName),
        reason: "4 bits need groups of 32, 64 or 128 columns, found one factor a row")
    }
    return zip(packed.slices(leading), factors).map {
      .int4($0.bytes, $1, rows: rows, columns: columns)
    }
  }

  /// The factors and zero points beside `name`, one for each leading index.
  private mutating func integerFactors(
    _ name: String, leading: [Int], rows: Int, columns: Int
  ) throws(SafetensorsError) -> [IntegerFactors] {
    let factorName = name + WeightNames.factorSuffix
    let factors = try files.tensor(factorName)
    used.insert(factorName)
    let path = files.path(of: factorName)
    let types: [ElementType: IntegerFactors.ElementType] = [
      .float32: .float32, .bfloat16: .bfloat16, .float16: .float16,
    ]
    guard let type = types[factors.elementType] else {
      throw wrongType(factors, "BF16, F16 or F32")
    }
    guard factors.shape.count == leading.count + 2, let groups = factors.shape.last,
      factors.shape == leading + [rows, groups]
    else {
      throw .wrongShape(
        tensor: factorName, path: path, expected: leading + [rows, max(1, columns / 32)],
        found: factors.shape)
    }
    let size = groups > 0 && columns % groups == 0 ? columns / groups : 0
    let isRow = groups == 1 && !IntegerFactors.Grouping.sizes.contains(size)
    guard isRow || IntegerFactors.Grouping.sizes.contains(size) else {
      throw .wrongQuantization(
        tensor: name, path: path,
        reason: "\(groups) factors for \(columns) columns; supported are groups of "
          + "\(IntegerFactors.Grouping.sizes.map(String.init).joined(separator: ", ")) columns, "
          + "or for I8 one factor a row")
    }
    if files[name + WeightNames.columnOrderSuffix] != nil {
      throw .wrongQuantization(
        tensor: name, path: path,
        reason: "its columns are in another order (\(WeightNames.columnOrderSuffix)); "
          + "quantise again without activation ordering")
    }
    let zeros = try zeroPoints(name, shape: leading + [(rows + 7) / 8, groups])
    return factors.slices(leading).indices.map { index in
      IntegerFactors(
        factors.slices(leading)[index].bytes, type, isRow ? .row : .columns(size),
        zeros: zeros?.slices(leading)[index].bytes, rows: rows, columns: columns)
    }
  }

  private mutating func zeroPoints(
    _ name: String, shape: [Int]
  ) throws(SafetensorsError) -> Tensor? {
    let zeroName = name + WeightNames.zeroPointSuffix
    guard files[zeroName] != nil else { return nil }
    guard files[name + WeightNames.packedSuffix] != nil else {
      throw .wrongQuantization(
        tensor: name, path: files.path(of: zeroName),
        reason: "8 bits are read without zero points; quantise symmetrically")
    }
    let zeros = try files.tensor(zeroName, shape: shape)
    guard zeros.elementType == .int32 else { throw wrongType(zeros, "I32") }
    used.insert(zeroName)
    return zeros
  }

  private func wrongType(_ tensor: Tensor, _ expected: String) -> SafetensorsError {
    .wrongElementType(
      tensor: tensor.name, path: files.path(of: tensor.name),
      found: tensor.elementType.rawValue, expected: expected)
  }
}

extension Tensor {
  /// The tensor itself, or its slices along the one leading dimension.
  fileprivate func slices(_ leading: [Int]) -> [Tensor] {
    leading.isEmpty ? [self] : (0..<leading[0]).map { slice($0) }
  }

  /// The elements of an integer tensor; nil for other types.
  fileprivate func integers() -> [Int]? {
    switch elementType {
    case .int64: (0..<elementCount).map { Int(bytes.load(Int64.self, at: 8 * $0)) }
    case .int32: (0..<elementCount).map { Int(bytes.load(Int32.self, at: 4 * $0)) }
    default: nil
    }
  }
}

extension ModelLoader {
  /// The formats that the checkpoint's matrices may have, by the element types in its files: what
  /// activations have to be prepared for.
  package static func formats(of files: CheckpointFiles) -> WeightMatrix.FormatSet {
    let companions = [WeightNames.scaleSuffix, WeightNames.factorSuffix]
    var found: WeightMatrix.FormatSet = []
    for name in files.names {
      guard let tensor = files[name], tensor.shape.count > 1 else { continue }
      let isCompanion = companions.contains { name.hasSuffix($0) }
      switch tensor.elementType {
      case .bfloat16: if !isCompanion { found.formUnion(WeightMatrix.FormatSet(.bfloat16)) }
      case .float32: if !isCompanion { found.formUnion(WeightMatrix.FormatSet(.float32)) }
      case .float8E4M3: found.formUnion(WeightMatrix.FormatSet(.e4m3))
      case .int8: found.formUnion(WeightMatrix.FormatSet(.int8))
      case .int32:
        let isPacked = name.hasSuffix(WeightNames.packedSuffix)
        if isPacked { found.formUnion(WeightMatrix.FormatSet(.int4)) }
      default: break
      }
    }
    // A broken checkpoint is refused by the loader, with better words.
    return found.isEmpty ? .all : found
  }
}
