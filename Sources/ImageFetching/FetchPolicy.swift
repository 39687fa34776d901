/// Which addresses may be connected to.
package enum AddressPolicy: Sendable {
  /// Addresses of the public internet alone.
  case publicOnly
  /// Loopback as well: for tests against servers of their own.
  case publicAndLoopback
}

/// What may be fetched on a client's behalf, and at what cost. Nothing by default.
package struct FetchPolicy: Sendable, Equatable {
  /// Hosts that may be asked: exact names, or `*.example.org` for all names below one. While it
  /// is empty, http and https URLs are refused; `*` alone stands for every public host.
  package var allowedDomains: [String] = []
  /// Addresses that may be connected to, checked on every connection.
  package var addresses = AddressPolicy.publicOnly
  /// The largest body.
  package var byteLimit = 64 << 20
  /// The longest fetch, redirects included.
  package var timeLimit = Duration.seconds(20)
  /// How many redirects are followed.
  package var redirectLimit = 3

  /// Fetches nothing.
  package init() {}

  /// A policy that allows these domains.
  package init(allowedDomains: [String]) { self.allowedDomains = allowedDomains }

  /// Whether a host is on the list.
  func allows(host: String) -> Bool {
    let host = Self.canonical(host)
    return allowedDomains.contains { entry in
      let entry = Self.canonical(entry)
      if entry == "*" { return true }
      return entry.hasPrefix("*.") ? host.hasSuffix(entry.dropFirst()) : host == entry
    }
  }

  private static func canonical(_ name: String) -> String {
    let name = name.lowercased()
    return name.hasSuffix(".") ? String(name.dropLast()) : name
  }
}
