#if canImport(Glibc)
  import Glibc
#else
  import Darwin
#endif

// This file wraps the C library's write(2): it is the only place of the module with unsafe code.

/// Standard output: results, and nothing else.
package enum StandardOutput {
  /// Writes `text` at once; when the reader has gone away the process ends quietly, since whoever
  /// asked has all it wanted.
  package static func write(_ text: String) {
    if !Descriptor.write(text, to: STDOUT_FILENO) { _exit(ExitCode.done.rawValue) }
  }

  /// Whether a person reads it.
  package static var isTerminal: Bool { isatty(STDOUT_FILENO) == 1 }
}

/// Standard error: progress, logs and errors, for people.
package enum StandardError {
  /// Writes `text` at once; a reader that has gone away is no reason to stop.
  package static func write(_ text: String) {
    _ = Descriptor.write(text, to: STDERR_FILENO)
  }

  /// Whether a person reads it.
  package static var isTerminal: Bool { isatty(STDERR_FILENO) == 1 }

  /// Columns of the terminal, 80 when it does not say.
  package static var columnCount: Int {
    var size = winsize()
    let status = unsafe ioctl(STDERR_FILENO, UInt(TIOCGWINSZ), &size)
    return status == 0 && size.ws_col > 0 ? Int(size.ws_col) : 80
  }
}

/// Standard input, for commands that read their text from a pipe.
package enum StandardInput {
  /// Whether a person types it.
  package static var isTerminal: Bool { isatty(STDIN_FILENO) == 1 }

  /// Everything up to its end, as text.
  package static func text() -> String {
    var text = ""
    while let line = readLine(strippingNewline: false) { text += line }
    return text
  }
}

private enum Descriptor {
  /// Writes all of `text`; false when the other side has gone away.
  static func write(_ text: String, to descriptor: Int32) -> Bool {
    var bytes = [UInt8](text.utf8)[...]
    while !bytes.isEmpty {
      let written = unsafe bytes.withUnsafeBytes { buffer in
        unsafe Platform.write(descriptor, buffer.baseAddress, buffer.count)
      }
      if written >= 0 {
        bytes = bytes.dropFirst(written)
      } else if errno == EAGAIN {
        usleep(1000)
      } else if errno != EINTR {
        return false
      }
    }
    return true
  }
}

private enum Platform {
  /// The C function, whose name the wrapper above shadows.
  static func write(_ descriptor: Int32, _ base: UnsafeRawPointer?, _ count: Int) -> Int {
    #if canImport(Glibc)
      unsafe Glibc.write(descriptor, base, count)
    #else
      unsafe Darwin.write(descriptor, base, count)
    #endif
  }
}
