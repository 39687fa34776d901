import Step3Model
package import Tensors

/// How values cross the cut, both ways.
package struct ExchangeFormat: Hashable, Sendable {
  /// Activations on their way out.
  package var activations: PackedType
  /// Results on their way back. Float32 results are the sums of subtrees, which add up to the bits
  /// of one process; others are one rounded sum per shard.
  package var results: PackedType

  /// A pair of types; results are Float32 or BF16.
  package init(activations: PackedType, results: PackedType) {
    precondition(results != .e3m4, "results are never E3M4")
    self.activations = activations
    self.results = results
  }

  /// Loses nothing: `roundsActivations` says that products round their input to BF16 anyway.
  package static func exact(roundsActivations: Bool) -> ExchangeFormat {
    ExchangeFormat(activations: roundsActivations ? .bfloat16 : .float32, results: .float32)
  }
  /// BF16 both ways.
  package static let bfloat16 = ExchangeFormat(activations: .bfloat16, results: .bfloat16)
  /// A byte per value out, BF16 back, as in the Step3 report.
  package static let fast = ExchangeFormat(activations: .e3m4, results: .bfloat16)

  /// Whether results are the sums of subtrees.
  package var isExact: Bool { results == .float32 }
}

extension PackedType {
  /// The type's name on the wire.
  var exchangeType: ExchangeType {
    switch self {
    case .float32: .float32
    case .bfloat16: .bfloat16
    case .e3m4: .e3m4
    }
  }

  init?(_ type: ExchangeType, _ scales: ScaleKind) {
    switch (type, scales) {
    case (.float32, .none): self = .float32
    case (.bfloat16, .none): self = .bfloat16
    case (.e3m4, .block64): self = .e3m4
    default: return nil
    }
  }

  var scaleKind: ScaleKind { self == .e3m4 ? .block64 : .none }
}

/// Where the pieces of a dispatch's payload stand: rows of activations, then the experts [rows, K]
/// as Int32, then their weights as Float32; pieces begin at multiples of 64. An expert whose copy
/// at another shard is to compute stands as its complement, which is negative.
struct DispatchLayout: Equatable {
  let rowCount: Int
  let columns: Int
  let topK: Int
  let type: PackedType

  var rowByteCount: Int { type.rowByteCount(columns) }
  var expertsOffset: Int { (rowCount * rowByteCount + 63) / 64 * 64 }
  var weightsOffset: Int { (expertsOffset + 4 * rowCount * topK + 63) / 64 * 64 }
  var byteCount: Int { max(4, weightsOffset + 4 * rowCount * topK) }
}

/// Why a dispatch cannot be served; its text goes back to the sender.
package enum DispatchError: Error, Equatable, Sendable {
  case noSuchLayer(Int)
  case wrongMap(found: UInt32, known: [UInt32])
  case noSuchShard(Int)
  case tooManyRows(found: Int, limit: Int)
  case wrongType
  case wrongChoices(found: Int, expected: Int)
  case wrongSize(found: Int, expected: Int)
  case badExpert(Int)
  case wrongChecksum
  case draining
}

extension DispatchError: CustomStringConvertible {
  package var description: String {
    switch self {
    case .noSuchLayer(let layer): "there is no layer \(layer)"
    case .wrongMap(let found, let known): "expert map \(found) is not among \(known)"
    case .noSuchShard(let shard): "shard \(shard) is not held here"
    case .tooManyRows(let found, let limit): "\(found) rows, at most \(limit) fit"
    case .wrongType: "values of a type that cannot be read"
    case .wrongChoices(let found, let expected):
      "\(found) experts per token, the layer has \(expected)"
    case .wrongSize(let found, let expected): "\(found) bytes of payload, not \(expected)"
    case .badExpert(let expert): "expert \(expert) does not exist or is named twice"
    case .wrongChecksum: "the payload's checksum is wrong"
    case .draining: "the node is about to leave"
    }
  }
}

extension DispatchLayout {
  /// Writes the rows of a micro-batch that `rows` lists (all of them when nil) for a shard.
  func write(
    _ normed: borrowing Buffer<Float>, _ routing: borrowing Routing, rows: [Int32]?,
    for shard: Int, _ copies: CopyChoice, to slice: RegisteredSlice
  ) {
    precondition(slice.byteCount >= byteCount, "a slot of \(slice.byteCount) bytes is too small")
    let base = slice.range.lowerBound
    for index in 0..<rowCount {
      let row = rows.map { Int($0[index]) } ?? index
      normed.pack(
        at: row * columns, columns: columns, as: type, into: slice.memory.region,
        at: base + index * rowByteCount)
    }
    if topK == 0 { return }
    slice.withMutableBytes { bytes in
      for index in 0..<rowCount {
        let row = rows.map { Int($0[index]) } ?? index
        for choice in 0..<topK {
          let at = 4 * (index * topK + choice)
          let expert = routing.experts[row * topK + choice]
          let isHere = copies.isComputed(pair: row * topK + choice, by: shard)
          bytes.storeBytes(
            of: (isHere ? expert : ~expert).littleEndian,
            toByteOffset: expertsOffset + at, as: Int32.self)
          bytes.storeBytes(
            of: routing.weights[row * topK + choice].bitPattern.littleEndian,
            toByteOffset: weightsOffset + at, as: UInt32.self)
        }
      }
    }
  }

  /// Reads the rows into a micro-batch from row `first` on.
  func read(
    _ slice: RegisteredSlice, into normed: inout Buffer<Float>, _ routing: inout Routing,
    at first: Int
  ) {
    let base = slice.range.lowerBound
    for index in 0..<rowCount {
      normed.unpack(
        type, from: slice.memory.region, at: base + index * rowByteCount, columns: columns,
        to: (first + index) * columns)
    }
    slice.withBytes { bytes in
      for pair in 0..<rowCount * topK {
        let expert: Int32 = bytes.integer(at: expertsOffset + 4 * pair)
        let weight: UInt32 = bytes.integer(at: weightsOffset + 4 * pair)
        routing.experts[first * topK + pair] = Int32(littleEndian: expert)
        routing.weights[first * topK + pair] = Float(bitPattern: UInt32(littleEndian: weight))
      }
    }
  }

  /// The expert that a code names, computed here or not.
  private static func expert(_ code: Int32) -> Int {
    let value = Int32(littleEndian: code)
    return Int(value < 0 ? ~value : value)
  }

  /// Throws unless every expert exists and is named once per token.
  func check(_ slice: RegisteredSlice, expertCount: Int) throws(DispatchError) {
    let bad = slice.withBytes { bytes -> Int? in
      for row in 0..<rowCount {
        for choice in 0..<topK {
          let at = expertsOffset + 4 * (row * topK + choice)
          let expert = Self.expert(bytes.integer(at: at))
          if expert >= expertCount { return expert }
          for other in 0..<choice
          where Self.expert(bytes.integer(at: at - 4 * (choice - other))) == expert {
            return expert
          }
        }
      }
      return nil
    }
    if let bad { throw .badExpert(bad) }
  }
}
