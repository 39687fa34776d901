import Foundation
import Kernels
import Tensors

/// How one tensor is stored in the result.
enum WeightStorage: Hashable, Sendable {
  case kept
  case e4m3
  case int8(IntegerFactors.Grouping)
  case int4(size: Int)
}

/// Every tensor of the result, in shards that are made and finished one by one.
struct QuantizationPlan {
  struct Entry {
    let tensor: Tensor
    let storage: WeightStorage
  }

  let names: QuantizationNames
  let hasZeroPoints: Bool
  let shards: [[Entry]]

  init(
    _ files: CheckpointFiles, _ options: QuantizationOptions, _ names: QuantizationNames,
    storage: (Tensor) -> WeightStorage
  ) {
    self.names = names
    hasZeroPoints = options.hasZeroPoints
    // A layer's tensors stay together, in the order of the layers; the rest comes first.
    let tensors = files.names.compactMap { files[$0] }.sorted {
      let (a, b) = (Self.layer(of: $0.name) ?? -1, Self.layer(of: $1.name) ?? -1)
      return a == b ? $0.name < $1.name : a < b
    }
    var shards: [[Entry]] = []
    var size = Int.max
    var last: Int?
    for tensor in tensors {
      let layer = Self.layer(of: tensor.name)
      if size >= options.shardByteCount, layer != last || shards.isEmpty {
        shards.append([])
        size = 0
      }
      shards[shards.count - 1].append(Entry(tensor: tensor, storage: storage(tensor)))
      size += tensor.bytes.byteCount
      last = layer
    }
    self.shards = shards
  }

  /// The number of the layer in a name such as `a.layers.12.b`.
  static func layer(of name: String) -> Int? {
    name.split(separator: ".").lazy.compactMap { Int($0) }.first
  }

  /// The tensors that an entry becomes, in the order in which they are written.
  func declarations(of entry: Entry) -> [TensorDeclaration] {
    let (name, shape) = (entry.tensor.name, entry.tensor.shape)
    let lead = Array(shape.dropLast(2))
    switch entry.storage {
    case .kept:
      return [
        TensorDeclaration(name: name, elementType: entry.tensor.elementType, shape: shape)
      ]
    case .e4m3:
      let blocks = shape.suffix(2).map(WeightMatrix.scaleBlockCount)
      return [
        TensorDeclaration(name: name, elementType: .float8E4M3, shape: shape),
        TensorDeclaration(
          name: name + names.scaleInverse, elementType: .float32, shape: lead + blocks),
      ]
    case .int8(let grouping):
      let (rows, columns) = (shape[shape.count - 2], shape[shape.count - 1])
      return [
        TensorDeclaration(name: name, elementType: .int8, shape: shape),
        TensorDeclaration(
          name: name + names.factor, elementType: .bfloat16,
          shape: lead + [rows, IntegerFactors.groupCount(grouping, columns)]),
      ]
    case .int4(let size):
      let (rows, columns) = (shape[shape.count - 2], shape[shape.count - 1])
      var list = [
        TensorDeclaration(
          name: name + names.packed, elementType: .int32, shape: lead + [rows, columns / 8]),
        TensorDeclaration(
          name: name + names.factor, elementType: .bfloat16, shape: lead + [rows, columns / size]),
      ]
      if hasZeroPoints {
        list.append(
          TensorDeclaration(
            name: name + names.zeroPoint, elementType: .int32,
            shape: lead + [(rows + 7) / 8, columns / size]))
      }
      list.append(
        TensorDeclaration(name: name + names.shape, elementType: .int64, shape: [shape.count]))
      return list
    }
  }

  var byteCount: Int {
    shards.joined().reduce(0) { sum, entry in
      declarations(of: entry).reduce(sum) { $0 + $1.byteCount }
    }
  }

  /// The file of shard `index`.
  func fileName(_ index: Int) -> String {
    func padded(_ number: Int) -> String {
      let digits = String(number)
      return String(repeating: "0", count: max(0, 5 - digits.count)) + digits
    }
    return shards.count == 1
      ? "model.safetensors" : "model-\(padded(index + 1))-of-\(padded(shards.count)).safetensors"
  }
}

extension QuantizationOptions {
  /// What the options ask for, before anything is measured: groups that divide the columns, and
  /// INT8 with a factor a row where none does.
  func storage(columns: Int) -> WeightStorage {
    switch weights {
    case .fp8: .e4m3
    case .int8: Self.int8(columns, groupSize ?? 128)
    case .int4: Self.fitting(columns, groupSize ?? 32).map { .int4(size: $0) } ?? .int8(.row)
    }
  }

  /// What a matrix gets whose rounding to `storage` moves predictions too much.
  func finer(than storage: WeightStorage, columns: Int) -> WeightStorage {
    if case .int4 = storage { return Self.int8(columns, 128) }
    return .kept
  }

  private static func int8(_ columns: Int, _ wanted: Int) -> WeightStorage {
    fitting(columns, wanted).map { .int8(.columns($0)) } ?? .int8(.row)
  }

  private static func fitting(_ columns: Int, _ wanted: Int) -> Int? {
    IntegerFactors.Grouping.sizes.reversed().first { $0 <= wanted && columns % $0 == 0 }
  }
}

extension WeightStorage {
  func words(hasZeroPoints: Bool, _ type: ElementType) -> String {
    switch self {
    case .kept: "kept as \(type.rawValue)"
    case .e4m3: "E4M3, blocks of 128 × 128"
    case .int8(.row): "INT8, one factor a row"
    case .int8(.columns(let size)): "INT8, groups of \(size)"
    case .int4(let size):
      "INT4, groups of \(size)" + (hasZeroPoints ? " with zero points" : "")
    }
  }
}
