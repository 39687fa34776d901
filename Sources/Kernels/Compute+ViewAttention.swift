import CKernels
package import Tensors

/// Keys and values of a batch of views, one cache of the attention kernels per view and head.
package struct ViewMemory: ~Copyable, Sendable {
  /// Blocks in all.
  package let blockCount: Int
  private let elementType: KVElementType
  /// d, rounded up to an even number; the kernels' channels come in pairs.
  fileprivate let dimension: Int
  private var keys: Buffer<UInt8>
  private var values: Buffer<UInt8>

  /// Memory for caches of `blockCount` blocks in all (see `blockCount(rows:heads:)`).
  package init(activation: ActivationType, headDimension: Int, blockCount: Int) {
    self.blockCount = blockCount
    elementType = activation == .float32 ? .float32 : .bfloat16
    dimension = headDimension + headDimension % 2
    let byteCount = Self.byteCount(
      activation: activation, headDimension: headDimension, blockCount: blockCount)
    keys = Buffer(count: byteCount / 2)
    values = Buffer(count: byteCount / 2)
  }

  /// Bytes of the keys and values of `blockCount` blocks.
  package static func byteCount(
    activation: ActivationType, headDimension: Int, blockCount: Int
  ) -> Int {
    let elementType: KVElementType = activation == .float32 ? .float32 : .bfloat16
    let dimension = headDimension + headDimension % 2
    return 2 * blockCount * Int(CK_PARTITION) * dimension * elementType.byteWidth
  }

  /// Blocks that a view of `rows` rows takes.
  package static func blockCount(rows: Int, heads: Int) -> Int {
    heads * ((rows + Int(CK_PARTITION) - 1) / Int(CK_PARTITION))
  }

  fileprivate var isFloat32: Bool { elementType == .float32 }
  fileprivate var blockByteCount: Int {
    Int(CK_PARTITION) * dimension * elementType.byteWidth
  }

  /// Calls `body` with the first block's keys and values.
  fileprivate mutating func withAreas(
    _ body: (UnsafeMutablePointer<UInt8>, UnsafeMutablePointer<UInt8>) -> Void
  ) {
    unsafe keys.withUnsafeMutablePointer { keys in
      unsafe values.withUnsafeMutablePointer { values in unsafe body(keys, values) }
    }
  }
}

/// A piece of work: one head of one view, and some of its rows.
private struct ViewUnit {
  var view: Range<Int>
  /// The first block of the view's head.
  var block: Int
  var head: Int
  var rows: Range<Int>
}

extension ViewUnit {
  /// The caches to fill, whole heads, and the rows to compute, in pieces.
  static func plan(_ views: [Range<Int>], heads: Int) -> (caches: [ViewUnit], units: [ViewUnit]) {
    var caches: [ViewUnit] = []
    var units: [ViewUnit] = []
    var block = 0
    for view in views {
      for head in 0..<heads {
        caches.append(ViewUnit(view: view, block: block, head: head, rows: view))
        for first in stride(from: view.lowerBound, to: view.upperBound, by: ViewShape.unitRows) {
          let end = min(view.upperBound, first + ViewShape.unitRows)
          units.append(ViewUnit(view: view, block: block, head: head, rows: first..<end))
        }
        block += ViewMemory.blockCount(rows: view.count, heads: 1)
      }
    }
    return (caches, units)
  }
}

private let partition = Int(CK_PARTITION)

// Every query of a head sees all rows of its view: for the kernels of the text model that is a
// sequence whose `count` query rows stand at its end. A query's rows are cut at multiples of 512,
// each partition has one softmax, the partitions fold in order, so the results depend on the view
// alone and not on its neighbours in the batch.
extension Compute {
  /// Attention without a mask within each view.
  ///
  /// - Shape: `fused` [rows, 3, heads, d] as queries, keys, values; `bias` [3 · heads · d] is added
  ///   to it; `views` are ranges of rows → `output` [rows, heads, d].
  package func attendViews(
    _ fused: inout Buffer<Float>, bias: borrowing Buffer<Float>, views: [Range<Int>], heads: Int,
    headDimension d: Int, memory: inout ViewMemory, into output: inout Buffer<Float>
  ) {
    let width = heads * d
    let rowCount = views.last?.upperBound ?? 0
    precondition(
      bias.count == 3 * width && rowCount * 3 * width <= fused.count
        && rowCount * width <= output.count, "views outside the buffer")
    addRows(bias, columns: 3 * width, rowCount: rowCount, into: &fused)
    let (caches, units) = ViewUnit.plan(views, heads: heads)
    precondition(
      memory.blockCount
        >= views.reduce(0) {
          $0 + ViewMemory.blockCount(rows: $1.count, heads: heads)
        }, "views do not fit the memory")
    let shape = ViewShape(
      heads: heads, d: d, dimension: memory.dimension, blockByteCount: memory.blockByteCount,
      kernels: kernels, isFloat32: memory.isFloat32)
    scratch.reserve(perWorker: shape.scratchByteCount, shared: 0)
    let scratch = scratch
    let blockTable = (0..<Int32(max(1, ViewMemory.blockCount(rows: rowCount, heads: 1)))).map { $0 }
    unsafe fused.withUnsafeMutablePointer { fused in
      unsafe output.withUnsafeMutablePointer { output in
        unsafe blockTable.withUnsafeBufferPointer { numbers in
          unsafe memory.withAreas { keys, values in
            guard let numbers = numbers.baseAddress else { return }
            let call = unsafe ViewCall(
              shape: shape, fused: UnsafePointer(fused), output: output, keys: keys,
              values: values, table: numbers)
            team.run(chunkCount: caches.count) { chunk, worker in
              unsafe call.store(caches[chunk], scratch.piece(of: worker))
            }
            team.run(chunkCount: units.count) { chunk, worker in
              unsafe call.attend(units[chunk], scratch.piece(of: worker))
            }
          }
        }
      }
    }
  }
}

/// The shape of one call.
private struct ViewShape {
  let heads: Int
  let d: Int
  let dimension: Int
  let blockByteCount: Int
  let kernels: KernelSet
  let isFloat32: Bool

  /// Rows that one unit handles.
  static let unitRows = 48

  var kernelByteCount: Int { ck_attention_scratch(Self.unitRows, dimension) }
  /// The kernel's own, then queries, the running result and a partition's.
  var scratchByteCount: Int {
    kernelByteCount + 4 * Self.unitRows * (dimension + 2 * (dimension + 2))
  }
}

/// The addresses of one call, and what workers do.
@safe
private struct ViewCall {
  let shape: ViewShape
  let fused: UnsafePointer<Float>
  let output: UnsafeMutablePointer<Float>
  let keys: UnsafeMutablePointer<UInt8>
  let values: UnsafeMutablePointer<UInt8>
  let table: UnsafePointer<Int32>

  private func cache(_ unit: ViewUnit) -> ck_kv {
    unsafe ck_kv(
      keys: keys + unit.block * shape.blockByteCount,
      values: values + unit.block * shape.blockByteCount, block_bytes: shape.blockByteCount,
      block_size: partition, dimension: shape.dimension, table: table)
  }

  /// Writes the keys and values of one head of one view.
  func store(_ unit: ViewUnit, _ scratch: UnsafeMutableRawPointer) {
    var kv = unsafe cache(unit)
    let entry = unsafe shape.kernels.table
    let store =
      shape.isFloat32 ? unsafe entry.pointee.store_float32 : unsafe entry.pointee.store_bfloat16
    let width = shape.heads * shape.d
    let key = unsafe scratch.assumingMemoryBound(to: Float.self)
    let value = unsafe key + shape.dimension
    unsafe key.update(repeating: 0, count: 2 * shape.dimension)
    for row in unit.rows {
      let source = unsafe fused + row * 3 * width + unit.head * shape.d
      unsafe key.update(from: source + width, count: shape.d)
      unsafe value.update(from: source + 2 * width, count: shape.d)
      unsafe store?(&kv, row - unit.view.lowerBound, key, value)
    }
  }

  /// Some rows of one head, over all partitions in order.
  func attend(_ unit: ViewUnit, _ scratch: UnsafeMutableRawPointer) {
    var kv = unsafe cache(unit)
    let entry = unsafe shape.kernels.table
    let attend =
      shape.isFloat32 ? unsafe entry.pointee.attend_float32 : unsafe entry.pointee.attend_bfloat16
    let (d, dimension, count) = (shape.d, shape.dimension, unit.rows.count)
    let width = shape.heads * d
    let floats = unsafe (scratch + shape.kernelByteCount).assumingMemoryBound(to: Float.self)
    let queries = unsafe floats
    let state = unsafe queries + ViewShape.unitRows * dimension
    let partial = unsafe state + ViewShape.unitRows * (dimension + 2)
    unsafe queries.update(repeating: 0, count: count * dimension)
    for (index, row) in unit.rows.enumerated() {
      unsafe (queries + index * dimension).update(
        from: fused + row * 3 * width + unit.head * d, count: d)
    }
    // The scale is that of the true dimension; a channel added to make it even is zero.
    let scale = 1 / Float(d).squareRoot()
    for start in stride(from: 0, to: unit.view.count, by: partition) {
      let visible = min(partition, unit.view.count - start)
      let target = unsafe start == 0 ? state : partial
      unsafe attend?(&kv, queries, count, start, visible, scale, target, scratch)
      if start > 0 { unsafe entry.pointee.attention_merge(state, partial, count, dimension) }
    }
    unsafe entry.pointee.attention_finish(partial, state, count, dimension)
    for (index, row) in unit.rows.enumerated() {
      unsafe (output + row * width + unit.head * d).update(
        from: partial + index * dimension, count: d)
    }
  }
}
