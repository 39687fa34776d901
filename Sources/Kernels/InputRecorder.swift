import Synchronization
package import Tensors

/// Mean squares of the inputs of every matrix, gathered while a model runs; for calibration.
///
/// A matrix is known by its place in the checkpoint's mapping. Recording slows the model down.
@safe
package final class InputRecorder: Sendable {
  private struct Sums {
    var squares: [Double]
    var tokenCount = 0
  }

  private struct State {
    /// What was prepared last in the memory of each input.
    var prepared: [Int: Sums] = [:]
    var byMatrix: [Int: Sums] = [:]
  }

  private let state = Mutex(State())

  /// Nothing recorded yet.
  package init() {}

  /// Notes rows that are prepared in the input at `address`.
  func prepare(
    _ address: Int, tokenCount: Int, columns: Int, _ row: (Int) -> UnsafePointer<Float>
  ) {
    var sums = Sums(squares: Array(repeating: 0, count: columns))
    for token in 0..<tokenCount { unsafe Self.add(row(token), 0..<columns, to: &sums) }
    sums.tokenCount = tokenCount
    state.withLock { $0.prepared[address] = sums }
  }

  /// Notes that the rows prepared at `address` meet a matrix.
  func multiply(_ matrix: ByteRegion, _ address: Int) {
    let key = unsafe Int(bitPattern: matrix.base)
    state.withLock { state in
      guard let sums = state.prepared[address] else { return }
      var known = state.byMatrix[key] ?? Sums(squares: sums.squares.map { _ in 0 })
      for k in known.squares.indices { known.squares[k] += sums.squares[k] }
      known.tokenCount += sums.tokenCount
      state.byMatrix[key] = known
    }
  }

  /// Notes columns `part` of one row of `columns` that meets the matrix at `matrix`.
  func add(
    _ row: UnsafePointer<Float>, _ part: Range<Int>, of columns: Int, matrix: UnsafeRawPointer
  ) {
    let key = Int(bitPattern: matrix)
    state.withLock { state in
      var known = state.byMatrix[key] ?? Sums(squares: Array(repeating: 0, count: columns))
      state.byMatrix[key] = nil
      unsafe Self.add(row, part, to: &known)
      if part.lowerBound == 0 { known.tokenCount += 1 }
      state.byMatrix[key] = known
    }
  }

  private static func add(
    _ row: UnsafePointer<Float>, _ part: Range<Int>, to sums: inout Sums
  ) {
    for (index, k) in part.enumerated() {
      let value = unsafe Double(row[index])
      sums.squares[k] += value * value
    }
  }

  /// The mean square of each column of what met `matrix`; nil when nothing did.
  package func meanSquares(of matrix: Tensor) -> [Float]? {
    let key = unsafe Int(bitPattern: matrix.bytes.base)
    return state.withLock { state in
      guard let sums = state.byMatrix[key], sums.tokenCount > 0 else { return nil }
      return sums.squares.map { Float($0 / Double(sums.tokenCount)) }
    }
  }
}
