/// What compiling one grammar may cost.
///
/// Clients write the schemas: some small ones stand for automata of any size. The cost is counted,
/// not timed, so that the same schema is always taken or always refused.
final class CompileBudget {
  /// In units of about a nanosecond; the worst found takes twice as long.
  private static let limit = 80_000_000

  private(set) var left = limit

  /// Takes `count` units off; an error when there are none left.
  func spend(_ count: Int, path: String) throws(GrammarError) {
    left -= count
    guard left >= 0 else { throw .tooLarge(path: path, limit: Self.limit) }
  }
}
