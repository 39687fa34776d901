package import Disaggregation

/// What is wrong with a cluster file.
package enum ClusterFileError: Error, Equatable, Sendable {
  /// The file cannot be read.
  case unreadable(path: String)
  /// The text is no JSON.
  case notJSON(path: String, reason: String)
  /// A key that nobody knows; `place` says in which object.
  case unknownKey(path: String, place: String, key: String, nearest: String?)
  /// A value that is missing or of the wrong kind; `fact` says what it must be.
  case badValue(path: String, place: String, key: String, fact: String)
  /// Two nodes have one id.
  case duplicateID(path: String, id: String)
  /// Two nodes listen on one address.
  case duplicateAddress(path: String, first: String, second: String, address: String)
  /// The cluster has no node of a role that it needs.
  case missingRole(path: String, role: String)
  /// An expert that no node holds whole: no node at all, or slices are missing.
  case uncoveredExpert(path: String, expert: Int, missingSlices: [String])
  /// A node names experts that the model does not have.
  case expertOutOfRange(path: String, id: String, expert: Int, expertCount: Int)
  /// Nodes that hold one expert cut it into different numbers of slices.
  case mixedSlices(path: String, expert: Int, counts: [Int])
  /// The nodes' parts do not make up the model: experts that two different nodes hold, say.
  case unusableMap(path: String, ExpertMapError)
  /// No node of that name.
  case unknownNode(path: String, id: String, known: [String], nearest: String?)
  /// A node has another role than the command needs.
  case wrongRole(path: String, id: String, role: String, wanted: String)
  /// There is no key, or it is too short.
  case weakKey(path: String, byteCount: Int)
}

extension ClusterFileError: CustomStringConvertible {
  package var description: String {
    switch self {
    case .unreadable(let path):
      "\(path): cannot be read; give a cluster file with --cluster"
    case .notJSON(let path, let reason):
      "\(path): not valid JSON (\(reason))"
    case .unknownKey(let path, let place, let key, let nearest):
      "\(path): \(place) has no key \"\(key)\""
        + (nearest.map { "; did you mean \"\($0)\"?" } ?? "")
    case .badValue(let path, let place, let key, let fact):
      "\(path): \"\(key)\" of \(place) \(fact)"
    case .duplicateID(let path, let id):
      "\(path): two nodes have the id \"\(id)\"; ids must differ"
    case .duplicateAddress(let path, let first, let second, let address):
      "\(path): nodes \"\(first)\" and \"\(second)\" both listen on \(address); give one of them "
        + "another port"
    case .missingRole(let path, let role):
      "\(path): no node has the role \"\(role)\"; a cluster needs at least one attention and one "
        + "ffn node"
    case .uncoveredExpert(let path, let expert, let missing):
      missing.isEmpty
        ? "\(path): no ffn node holds expert \(expert); widen \"experts\" of a node"
        : "\(path): expert \(expert) lacks slice \(missing.joined(separator: ", ")); add ffn nodes "
          + "with these slices"
    case .expertOutOfRange(let path, let id, let expert, let count):
      "\(path): node \"\(id)\" names expert \(expert), but the model has "
        + (count > 0
          ? "experts 0 to \(count - 1)"
          : "none: it is dense; cut it by \"slice\", or leave \"experts\" out")
    case .mixedSlices(let path, let expert, let counts):
      "\(path): expert \(expert) is cut into \(counts.map(String.init).joined(separator: " and ")) "
        + "slices by different nodes; all holders of an expert must use one number of slices"
    case .unusableMap(let path, let error):
      "\(path): the ffn nodes do not make up the model: \(error). Nodes that hold the same "
        + "experts and slice are replicas; all others must be apart"
    case .unknownNode(let path, let id, let known, let nearest):
      "\(path): there is no node \"\(id)\""
        + (nearest.map { "; did you mean \"\($0)\"?" }
          ?? " (there are \(known.joined(separator: ", ")))")
    case .wrongRole(let path, let id, let role, let wanted):
      "\(path): node \"\(id)\" has the role \"\(role)\", not \"\(wanted)\""
    case .weakKey(let path, let count):
      "\(path): the cluster key has \(count) bytes; it must have at least 16 (make one with "
        + "`openssl rand -hex 32`)"
    }
  }
}
