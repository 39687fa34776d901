import CUCX
import Disaggregation
import Tensors

/// A library context with its settings made: what kinds of connections are possible.
///
/// Whatever was made from it keeps it alive, so that it goes last.
@safe
final class UCXContext: @unchecked Sendable {
  // Unchecked: set once; registering memory is the only use from several threads, and the library
  // guards it with a lock of its own.
  let handle: ucp_context_h
  /// What to call it in messages.
  let name: String

  /// Makes a context with these variables in place of the environment's.
  init(
    name: String, variables: [(name: String, value: String)], settings: UCXSettings
  ) throws(TransportError) {
    self.name = name
    _ = Self.silenced
    for variable in settings.processVariables {
      unsafe setenv("UCX_" + variable.name, variable.value, 1)
    }
    var config: OpaquePointer?
    try check(unsafe ucp_config_read(nil, nil, &config), "reading the configuration")
    guard let config = unsafe config else { throw .unavailable(reason: "no configuration") }
    defer { unsafe ucp_config_release(config) }
    for variable in variables {
      let status = unsafe ucp_config_modify(config, variable.name, variable.value)
      try check(status, "setting \(variable.name) to \(variable.value)")
    }
    var handle: ucp_context_h?
    let devices = variables.first { $0.name == "NET_DEVICES" }?.value ?? "all"
    var status = unsafe cucx_init(config, &handle)
    // An interface that has just been set up takes a moment until it runs, as at a machine's start.
    let limit = ContinuousClock.now + .seconds(5)
    while status == UCS_ERR_NO_DEVICE, ContinuousClock.now < limit {
      cucx_pause_milliseconds(100)
      status = unsafe cucx_init(config, &handle)
    }
    try check(status, "starting the \(name) context on device \(devices) (is it up?)")
    guard let handle = unsafe handle else { throw .unavailable(reason: "no context") }
    unsafe self.handle = handle
  }

  deinit { unsafe ucp_cleanup(handle) }

  /// The library's own messages are silenced once per process.
  private static let silenced: Bool = {
    cucx_silence()
    return true
  }()
}

/// Registrations of one piece of memory with every context of a transport; undone in `deinit`.
@safe
final class UCXRegistration: @unchecked Sendable {
  // Unchecked: set once in `init`.
  private let contexts: [UCXContext]
  private let handles: [ucp_mem_h]

  init(_ region: MutableByteRegion, contexts: [UCXContext]) throws(TransportError) {
    var handles: [ucp_mem_h] = unsafe []
    for context in contexts {
      var handle: ucp_mem_h?
      let status = unsafe cucx_map(context.handle, region.base, region.byteCount, &handle)
      guard status == UCS_OK, let handle = unsafe handle else {
        unsafe Self.undo(handles, contexts)
        throw .cannotRegister(byteCount: region.byteCount, reason: statusText(status))
      }
      unsafe handles.append(handle)
    }
    self.contexts = contexts
    unsafe self.handles = unsafe handles
  }

  /// The registration with `context`.
  func handle(_ context: UCXContext) -> ucp_mem_h? {
    for (index, own) in contexts.enumerated() where own === context {
      return unsafe handles[index]
    }
    return nil
  }

  private static func undo(_ handles: [ucp_mem_h], _ contexts: [UCXContext]) {
    for index in unsafe handles.indices {
      unsafe ucp_mem_unmap(contexts[index].handle, handles[index])
    }
  }

  deinit { unsafe Self.undo(handles, contexts) }
}

/// Throws when a call of the library did not succeed.
func check(_ status: ucs_status_t, _ what: String) throws(TransportError) {
  guard status == UCS_OK else { throw .unavailable(reason: "\(what): \(statusText(status))") }
}

/// The library's words for a status.
func statusText(_ status: ucs_status_t) -> String {
  unsafe String(cString: ucs_status_string(status))
}
