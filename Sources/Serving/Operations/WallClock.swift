import Foundation

/// The time of day, for `created` fields.
enum WallClock {
  /// Whole seconds since 1970.
  static var seconds: Int { Int(Date().timeIntervalSince1970) }
}
