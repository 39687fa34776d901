internal import CPCRE2

/// A regular expression compiled by PCRE2 to machine code, over UTF-8.
///
/// `@unchecked Sendable`: PCRE2 documents compiled code as read-only while matching; what a match
/// writes is in `MatchSpace`, of which each thread has its own.
@safe
final class CompiledPattern: @unchecked Sendable {
  private let code: OpaquePointer
  private let isJIT: Bool

  /// Compiles `pattern`, in PCRE2's syntax; `source` is its spelling in errors.
  init(_ pattern: String, source: String) throws(TokenizerError) {
    var errorCode: Int32 = 0
    var errorOffset = 0
    let utf8 = Array(pattern.utf8)
    let options = UInt32(PCRE2_UTF) | UInt32(PCRE2_UCP) | UInt32(PCRE2_NO_UTF_CHECK)
    let compiled = unsafe utf8.withUnsafeBufferPointer { buffer in
      unsafe pcre2_compile_8(
        buffer.baseAddress, buffer.count, options, &errorCode, &errorOffset, nil)
    }
    guard let compiled = unsafe compiled else {
      throw .invalidPattern(
        pattern: source, message: Self.message(of: errorCode), offset: errorOffset)
    }
    unsafe code = compiled
    // Without permission for executable memory matching goes on in PCRE2's interpreter.
    isJIT = unsafe pcre2_jit_compile_8(compiled, UInt32(PCRE2_JIT_COMPLETE)) == 0
  }

  deinit { unsafe pcre2_code_free_8(code) }

  private static func message(of code: Int32) -> String {
    var buffer = [UInt8](repeating: 0, count: 256)
    let length = unsafe buffer.withUnsafeMutableBufferPointer {
      unsafe pcre2_get_error_message_8(code, $0.baseAddress, $0.count)
    }
    return String(decoding: buffer.prefix(max(0, Int(length))), as: UTF8.self)
  }

  /// Calls `body` with every match within `piece` of valid UTF-8 `text`, left to right.
  ///
  /// Nothing outside the piece is seen, by lookarounds neither. An empty match right after
  /// another match is skipped, as Oniguruma's iterator does.
  @inline(__always)
  func forEachMatch(
    in text: borrowing [UInt8], piece: Piece, using space: MatchSpace,
    _ body: (_ start: Int, _ end: Int) -> Void
  ) throws(TokenizerError) {
    let failure: Int32 = unsafe text.withUnsafeBufferPointer { buffer in
      guard let base = buffer.baseAddress else { return 0 }
      let subject = unsafe base + piece.start
      let length = piece.end - piece.start
      var offset = 0
      var lastEnd = -1
      while offset <= length {
        let result = unsafe match(subject, length, from: offset, space)
        guard result >= 0 else { return result == PCRE2_ERROR_NOMATCH ? 0 : result }
        let (start, end) = space.matchedRange
        if start == end, start == lastEnd {
          offset += 1
          while offset < length, unsafe subject[offset] & 0xC0 == 0x80 { offset += 1 }
        } else {
          body(piece.start + start, piece.start + end)
          (offset, lastEnd) = (end, end)
        }
      }
      return 0
    }
    guard failure == 0 else { throw .matchingFailed(code: failure) }
  }

  @inline(__always)
  private func match(
    _ subject: UnsafePointer<UInt8>, _ length: Int, from offset: Int, _ space: MatchSpace
  ) -> Int32 {
    if isJIT {
      let result = unsafe pcre2_jit_match_8(
        code, subject, length, offset, 0, space.data, space.context)
      if result != PCRE2_ERROR_JIT_STACKLIMIT { return result }
    }
    return unsafe pcre2_match_8(
      code, subject, length, offset, UInt32(PCRE2_NO_UTF_CHECK) | UInt32(PCRE2_NO_JIT),
      space.data, space.context)
  }
}

/// The memory a match writes to, reused from match to match by one thread at a time.
///
/// `@unchecked Sendable`: it moves between threads with the scratch that owns it, and the pool of
/// scratches hands each to one caller only.
@safe
final class MatchSpace: @unchecked Sendable {
  fileprivate let data: OpaquePointer?
  fileprivate let context: OpaquePointer?
  private let stack: OpaquePointer?
  private let bounds: UnsafeMutablePointer<Int>

  init() {
    let data = unsafe pcre2_match_data_create_8(1, nil)
    guard let data = unsafe data, let bounds = unsafe pcre2_get_ovector_pointer_8(data) else {
      preconditionFailure("no memory for a pattern's match data")
    }
    unsafe self.data = data
    unsafe self.bounds = bounds
    unsafe context = pcre2_match_context_create_8(nil)
    unsafe stack = pcre2_jit_stack_create_8(32 << 10, 4 << 20, nil)
    unsafe pcre2_jit_stack_assign_8(context, nil, UnsafeMutableRawPointer(stack))
  }

  deinit {
    unsafe pcre2_match_data_free_8(data)
    unsafe pcre2_match_context_free_8(context)
    unsafe pcre2_jit_stack_free_8(stack)
  }

  fileprivate var matchedRange: (start: Int, end: Int) { unsafe (bounds[0], bounds[1]) }
}
