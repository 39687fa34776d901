package import CostModel

/// Everything that can be wrong with what a user asks of the simulator.
package enum SimulationError: Error, Equatable, Sendable {
  case cost(CostModelError)
  case malformedTrace(file: String, line: Int, fact: String)
  case emptyTrace(file: String)
  case notPositive(quantity: String, value: Double)
  case requestTooLarge(tokens: Int, capacity: Int)
  case noMemoryForCaches(hardware: String)
}

extension SimulationError: CustomStringConvertible {
  package var description: String {
    switch self {
    case .cost(let error): error.description
    case .malformedTrace(let file, let line, let fact): "\(file), line \(line): \(fact)"
    case .emptyTrace(let file): "\(file): holds no request"
    case .notPositive(let quantity, let value):
      "not possible: \(quantity) must be a positive number, not \(plainNumber(value))"
    case .requestTooLarge(let tokens, let capacity):
      "not possible: a request of \(tokens) tokens does not fit the KV cache of one server, "
        + "\(capacity) tokens; plan more attention servers or shorten requests"
    case .noMemoryForCaches(let hardware):
      "not possible: weights leave no memory for KV caches on \(hardware)"
    }
  }
}
