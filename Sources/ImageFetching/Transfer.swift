import CCrypto
import CCurl

/// A URL as libcurl itself reads it: no second parser that could disagree about the host.
@safe
final class RemoteURL {
  let scheme: String
  let host: String
  let hasCredentials: Bool
  fileprivate let handle: OpaquePointer

  init(_ text: String) throws(FetchError) {
    guard let handle = unsafe curl_url() else { throw .notAURL(reason: "no memory left") }
    unsafe self.handle = handle
    let code = unsafe curl_url_set(
      handle, CURLUPART_URL, text, UInt32(CURLU_NON_SUPPORT_SCHEME))
    let reason = unsafe code == CURLUE_OK ? "" : String(cString: curl_url_strerror(code))
    scheme = unsafe Self.part(handle, CURLUPART_SCHEME)?.lowercased() ?? ""
    host = unsafe Self.part(handle, CURLUPART_HOST) ?? ""
    hasCredentials =
      unsafe Self.part(handle, CURLUPART_USER) != nil
      || Self.part(handle, CURLUPART_PASSWORD) != nil
    if !reason.isEmpty { throw .notAURL(reason: reason) }
  }

  deinit { unsafe curl_url_cleanup(handle) }

  private static func part(_ handle: OpaquePointer, _ part: CURLUPart) -> String? {
    var text: UnsafeMutablePointer<CChar>?
    guard unsafe curl_url_get(handle, part, &text, 0) == CURLUE_OK, let text = unsafe text else {
      return nil
    }
    defer { unsafe curl_free(text) }
    return unsafe String(cString: text)
  }
}

/// One request without its redirects. Safe: libcurl calls back on this thread, during `run` alone.
@safe
final class Transfer {
  enum Outcome {
    case body([UInt8])
    case redirect(String)
  }

  private let policy: FetchPolicy
  private let host: String
  private let remaining: Duration
  private let stop: StopFlag
  private var body: [UInt8] = []
  private var isTooLarge = false
  private var isRefused = false

  private static let isReady: Bool = {
    // libcurl is the first to use libcrypto in a gateway whose threads sign heartbeats to the end.
    ccrypto_outlive_exit()
    return curl_global_init(Int(CURL_GLOBAL_DEFAULT)) == CURLE_OK
  }()

  init(policy: FetchPolicy, host: String, remaining: Duration, stop: StopFlag) {
    self.policy = policy
    self.host = host
    self.remaining = remaining
    self.stop = stop
  }

  func run(_ url: RemoteURL) throws(FetchError) -> Outcome {
    let milliseconds = remaining / Duration.milliseconds(1)
    guard milliseconds >= 1 else { throw .tooSlow(host: host, limit: policy.timeLimit) }
    guard Self.isReady, let curl = unsafe curl_easy_init() else {
      throw .unreachable(host: host, reason: "libcurl cannot be started")
    }
    defer { unsafe curl_easy_cleanup(curl) }
    unsafe configure(curl, url, milliseconds: Int(milliseconds))
    let code = unsafe curl_easy_perform(curl)
    if stop.isRaised { throw .cancelled }
    if isRefused { throw .addressNotAllowed(host: host) }
    if isTooLarge || code == CURLE_FILESIZE_EXCEEDED { throw .tooLarge(limit: policy.byteLimit) }
    if code == CURLE_OPERATION_TIMEDOUT { throw .tooSlow(host: host, limit: policy.timeLimit) }
    guard code == CURLE_OK else {
      throw .unreachable(host: host, reason: unsafe String(cString: curl_easy_strerror(code)))
    }
    let status = unsafe ccurl_response_code(curl)
    if (300..<400).contains(status), let target = unsafe ccurl_redirect(curl) {
      return .redirect(unsafe String(cString: target))
    }
    guard status == 200 else { throw .status(host: host, code: status) }
    return .body(body)
  }

  private func configure(_ curl: UnsafeMutableRawPointer, _ url: RemoteURL, milliseconds: Int) {
    let context = unsafe Unmanaged.passUnretained(self).toOpaque()
    unsafe ccurl_set_url(curl, url.handle)
    unsafe ccurl_set_string(curl, CURLOPT_PROTOCOLS_STR, "http,https")
    unsafe ccurl_set_long(curl, CURLOPT_FOLLOWLOCATION, 0)
    // A proxy of the environment would connect where it likes.
    unsafe ccurl_set_string(curl, CURLOPT_PROXY, "")
    unsafe ccurl_set_long(curl, CURLOPT_NETRC, Int(CURL_NETRC_IGNORED.rawValue))
    unsafe ccurl_set_long(curl, CURLOPT_NOSIGNAL, 1)
    unsafe ccurl_set_long(curl, CURLOPT_QUICK_EXIT, 1)
    unsafe ccurl_set_long(curl, CURLOPT_TIMEOUT_MS, milliseconds)
    unsafe ccurl_set_offset(curl, CURLOPT_MAXFILESIZE_LARGE, curl_off_t(policy.byteLimit))
    unsafe ccurl_set_string(curl, CURLOPT_USERAGENT, "swift-step3")
    unsafe ccurl_on_open(curl, openSocket, context)
    unsafe ccurl_on_write(curl, receive, context)
    unsafe ccurl_on_progress(curl, proceed, context)
  }

  /// Whether a connection to this address may be made; remembers a refusal for the message.
  fileprivate func admits(_ address: [UInt8]) -> Bool {
    if AddressFilter.allows(address, policy.addresses) {
      isRefused = false
      return true
    }
    isRefused = true
    return false
  }

  /// Takes a piece of the body; false above the limit.
  fileprivate func take(_ bytes: UnsafeBufferPointer<UInt8>) -> Bool {
    guard bytes.count <= policy.byteLimit - body.count else {
      isTooLarge = true
      return false
    }
    unsafe body.append(contentsOf: bytes)
    return true
  }

  fileprivate var isStopped: Bool { stop.isRaised }
}

private func transfer(_ context: UnsafeMutableRawPointer?) -> Transfer? {
  guard let context = unsafe context else { return nil }
  return unsafe Unmanaged<Transfer>.fromOpaque(context).takeUnretainedValue()
}

private let openSocket: ccurl_open = { context, _, address in
  guard let transfer = unsafe transfer(context), let address = unsafe address else {
    return CURL_SOCKET_BAD
  }
  var bytes = [UInt8](repeating: 0, count: 16)
  let count = unsafe ccurl_address_bytes(address, &bytes)
  guard transfer.admits(Array(bytes.prefix(Int(count)))) else { return CURL_SOCKET_BAD }
  return unsafe ccurl_socket(address)
}

private let receive: ccurl_write = { bytes, size, count, context in
  guard let transfer = unsafe transfer(context), let bytes = unsafe bytes else { return 0 }
  let length = size * count
  return unsafe bytes.withMemoryRebound(to: UInt8.self, capacity: length) { start in
    unsafe transfer.take(UnsafeBufferPointer(start: start, count: length)) ? length : 0
  }
}

private let proceed: curl_xferinfo_callback = { context, _, _, _, _ in
  guard let transfer = unsafe transfer(context) else { return 1 }
  return transfer.isStopped ? 1 : 0
}
