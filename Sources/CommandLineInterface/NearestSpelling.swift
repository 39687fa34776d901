/// Finds what somebody probably meant to write.
package enum NearestSpelling {
  /// The candidate nearest to `word`, or nil when none is near: at most a third of its letters,
  /// rounded up, and at most four, inserted, deleted, replaced or swapped with a neighbour, or a
  /// candidate that begins with all of `word`.
  package static func of(_ word: String, among candidates: [String]) -> String? {
    let given = Array(word.lowercased())
    var best: (candidate: String, distance: Int)?
    for candidate in candidates {
      let distance = distance(given, Array(candidate.lowercased()))
      if distance < (best?.distance ?? Int.max) { best = (candidate, distance) }
    }
    let limit = min(4, (given.count + 2) / 3)
    if let best, best.distance <= limit { return best.candidate }
    guard given.count >= 3 else { return nil }
    return candidates.first { $0.lowercased().starts(with: given) }
  }

  /// Optimal string alignment distance: insertions, deletions, replacements, swaps of neighbours.
  static func distance(_ a: [Character], _ b: [Character]) -> Int {
    var beforeLast = [Int](repeating: 0, count: b.count + 1)
    var last = Array(0...b.count)
    for i in a.indices {
      var row = [i + 1]
      for j in b.indices {
        let replaced = last[j] + (a[i] == b[j] ? 0 : 1)
        var cost = min(replaced, last[j + 1] + 1, row[j] + 1)
        if i > 0, j > 0, a[i] == b[j - 1], a[i - 1] == b[j] {
          cost = min(cost, beforeLast[j - 1] + 1)
        }
        row.append(cost)
      }
      beforeLast = last
      last = row
    }
    return last[b.count]
  }
}
