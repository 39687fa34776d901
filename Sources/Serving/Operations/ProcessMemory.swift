import Foundation

/// The memory this process holds.
enum ProcessMemory {
  /// Resident bytes as the kernel counts them, nil where it does not tell.
  static var residentByteCount: Int? {
    guard let text = try? String(contentsOfFile: "/proc/self/statm", encoding: .utf8) else {
      return nil
    }
    let fields = text.split(separator: " ")
    guard fields.count > 1, let pages = Int(fields[1]) else { return nil }
    return pages * 4096
  }
}
