/// The candidate that needs the fewest edits to become `name`, unless even that is far.
package func nearestName(to name: String, among candidates: [String]) -> String? {
  let wanted = Array(name.lowercased())
  let ranked = candidates.map { candidate in
    (name: candidate, distance: editDistance(wanted, Array(candidate.lowercased())))
  }
  guard let best = ranked.min(by: { $0.distance < $1.distance }) else { return nil }
  let contained = candidates.first { candidate in
    name.count >= 3 && candidate.lowercased().contains(name.lowercased())
  }
  if let contained { return contained }
  return best.distance <= max(2, wanted.count / 3) ? best.name : nil
}

/// Insertions, deletions and substitutions that turn one spelling into the other.
private func editDistance(_ left: [Character], _ right: [Character]) -> Int {
  var previous = Array(0...right.count)
  for (row, character) in left.enumerated() {
    var current = [row + 1]
    for (column, other) in right.enumerated() {
      let substitution = previous[column] + (character == other ? 0 : 1)
      current.append(min(substitution, previous[column + 1] + 1, current[column] + 1))
    }
    previous = current
  }
  return previous[right.count]
}
