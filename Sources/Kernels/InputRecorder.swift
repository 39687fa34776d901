import CKernels
import Synchronization
package import Tensors

/// What met a matrix while a model ran over a text: H = Σ x · xᵀ over the inputs x, factored so
/// that rounding can make up in later columns for what earlier ones lost.
package struct InputProducts: Sendable {
  /// K.
  package let columns: Int
  /// [K, K], as `ck_factor_products` leaves it.
  let factored: [Float]

  /// Factors the upper triangle of the sums [columns, columns].
  package init(sums: [Float], columns: Int) {
    precondition(sums.count == columns * columns)
    self.columns = columns
    var factored = sums
    unsafe factored.withUnsafeMutableBufferPointer { values in
      if let base = values.baseAddress {
        unsafe ck_factor_products(base, columns, Self.damping)
      }
    }
    self.factored = factored
  }

  /// That share of the mean square is added to every column. A text of some thousand tokens says
  /// little of rare directions; with less, other texts were served worse (docs/quantization.md).
  private static let damping: Float = 0.5
}

/// Gathers the products of inputs of chosen matrices while a model runs; for calibration.
///
/// A matrix is known by its place in the checkpoint's mapping. Recording slows the model down.
@safe
package final class InputRecorder: Sendable {
  /// Inputs of one matrix: whole rows that wait to be multiplied, and the sums so far.
  fileprivate struct Inputs {
    let columns: Int
    var sums: [Float]
    var tokenCount = 0
    var rows: [Float] = []
    var rowOfToken: [Int: Int] = [:]
  }

  private struct State {
    /// The rows prepared last in the memory of each input.
    var prepared: [Int: [Float]] = [:]
    var byMatrix: [Int: Inputs] = [:]
  }

  private let state: Mutex<State>

  /// Records for these matrices [rows, columns].
  package init(_ matrices: [Tensor]) {
    var state = State()
    for matrix in matrices {
      let columns = matrix.shape[matrix.shape.count - 1]
      state.byMatrix[Self.key(matrix)] = Inputs(
        columns: columns, sums: Array(repeating: 0, count: columns * columns))
    }
    self.state = Mutex(state)
  }

  private static func key(_ matrix: Tensor) -> Int { unsafe Int(bitPattern: matrix.bytes.base) }

  /// Notes rows that are prepared in the input at `address`; called between jobs of the team.
  func prepare(
    _ address: Int, tokenCount: Int, columns: Int, _ row: (Int) -> UnsafePointer<Float>
  ) {
    var rows: [Float] = []
    rows.reserveCapacity(tokenCount * columns)
    for token in 0..<tokenCount {
      unsafe rows.append(contentsOf: UnsafeBufferPointer(start: row(token), count: columns))
    }
    state.withLock { $0.prepared[address] = rows }
    settle()
  }

  /// Notes that the rows prepared at `address` meet a matrix.
  func multiply(_ matrix: ByteRegion, _ address: Int) {
    let key = unsafe Int(bitPattern: matrix.base)
    state.withLock { state in
      guard let rows = state.prepared[address] else { return }
      state.byMatrix[key]?.add(rows)
    }
  }

  /// Notes columns `part` of the row of one token that meets the matrix at `matrix`.
  func add(
    _ row: UnsafePointer<Float>, _ part: Range<Int>, token: Int, matrix: UnsafeRawPointer
  ) {
    let key = Int(bitPattern: matrix)
    state.withLock { state in
      unsafe state.byMatrix[key]?.add(row, part, token: token)
    }
  }

  /// Multiplies the rows of experts, whose parts come in any order, once all are there.
  private func settle() {
    state.withLock { state in
      for key in state.byMatrix.keys { state.byMatrix[key]?.settle() }
    }
  }

  /// What met `matrix`, which is then forgotten; nil when nothing did.
  package func take(_ matrix: Tensor) -> InputProducts? {
    settle()
    let inputs = state.withLock { state in
      let found = state.byMatrix.removeValue(forKey: Self.key(matrix))
      return found
    }
    guard let inputs, inputs.tokenCount > 0 else { return nil }
    return InputProducts(sums: inputs.sums, columns: inputs.columns)
  }
}

extension InputRecorder.Inputs {
  mutating func add(_ rows: [Float]) {
    let (count, columns) = (rows.count / columns, columns)
    tokenCount += count
    unsafe sums.withUnsafeMutableBufferPointer { sums in
      unsafe rows.withUnsafeBufferPointer { rows in
        guard let sums = sums.baseAddress, let rows = rows.baseAddress else { return }
        unsafe ck_add_products(sums, rows, count, columns, 0, columns)
      }
    }
  }

  mutating func add(_ row: UnsafePointer<Float>, _ part: Range<Int>, token: Int) {
    let place = rowOfToken[token] ?? rowOfToken.count
    if place == rowOfToken.count {
      rowOfToken[token] = place
      rows.append(contentsOf: repeatElement(0, count: columns))
    }
    for (index, column) in part.enumerated() {
      rows[place * columns + column] = unsafe row[index]
    }
  }

  mutating func settle() {
    if rows.isEmpty { return }
    // Workers come in any order; sums have one.
    add(
      rowOfToken.keys.sorted().flatMap { token in
        let place = (rowOfToken[token] ?? 0) * columns
        return rows[place..<place + columns]
      })
    rows.removeAll(keepingCapacity: true)
    rowOfToken.removeAll(keepingCapacity: true)
  }
}
