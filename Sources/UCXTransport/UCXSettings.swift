/// How a UCX transport reaches its peers and how it waits.
package struct UCXSettings: Sendable, Equatable {
  /// Which peers can be reached.
  package enum Reach: Sendable, Equatable {
    /// Peers on this machine over shared memory, all others over the network.
    case everywhere
    /// Only peers on this machine, over shared memory.
    case thisMachine
    /// All peers over the network, also those on this machine.
    case network
  }

  /// What the thread does while nothing happens.
  package enum Waiting: Sendable, Equatable {
    /// Keeps looking: the least latency, and a core at full load.
    case busy
    /// Looks for at least this long, and as long as news have usually taken if that is no more
    /// than some milliseconds; then sleeps until the library has news.
    case adaptive(spin: Duration)
    /// Sleeps at once: the least processor time, some 20 µs more per message.
    case events
  }

  /// Which peers can be reached.
  package var reach = Reach.everywhere
  /// What the thread does while nothing happens.
  package var waiting = Waiting.adaptive(spin: .microseconds(50))
  /// Network devices as UCX names them (`eth0`, `mlx5_0:1`); empty takes the one that has `host`.
  package var devices: [String] = []
  /// The address of this machine that peers know, to find its network device.
  package var host = ""
  /// Ports of data connections, for firewalls; nil lets the system choose.
  package var dataPorts: ClosedRange<Int>?
  /// Payloads of at least this many bytes are taken from the sender's memory without a copy, where
  /// both are on one machine.
  package var localRendezvousByteCount = 32 << 10
  /// Between two signs of life that the library asks of a silent peer.
  package var keepalive = Duration.milliseconds(500)
  /// Within which a connection must come about.
  package var connectLimit = Duration.seconds(5)

  /// The usual settings.
  package init() {}

  /// The library's variables for peers on this machine.
  ///
  /// Shared memory carries the data and TCP over the loopback device the connection itself: by it
  /// the death of a peer is noticed. XPMEM stays out: a dying peer's memory would be a bus error
  /// here.
  var localVariables: [(name: String, value: String)] {
    common + [
      ("TLS", "posix,cma,tcp"), ("NET_DEVICES", "lo"),
      ("RNDV_THRESH", "\(localRendezvousByteCount)"),
    ]
  }

  /// The library's variables for peers on other machines.
  ///
  /// A rendezvous takes three ways through the network where an eager message takes one, and over
  /// TCP it saves no copy that matters; with RDMA it saves both copies.
  func networkVariables(device: String?, hasRDMA: Bool) -> [(name: String, value: String)] {
    var variables =
      common + [
        ("TLS", hasRDMA ? "rc,ud,tcp" : "tcp"),
        ("RNDV_THRESH", hasRDMA ? "auto" : "inf"),
      ]
    let chosen = devices.isEmpty ? [device].compactMap { $0 } : devices
    if !chosen.isEmpty { variables.append(("NET_DEVICES", chosen.joined(separator: ","))) }
    return variables
  }

  private var common: [(name: String, value: String)] {
    [
      ("MAX_RNDV_RAILS", "1"), ("MAX_EAGER_RAILS", "1"),
      ("KEEPALIVE_INTERVAL", "\(keepalive / .milliseconds(1))ms"),
    ]
  }

  /// Variables that the library's transports read from the environment alone, whatever a context's
  /// configuration says (as of 1.13): set there by the program, for the whole process.
  ///
  /// Without the first two the library drops shared memory, or copying between processes, from
  /// every endpoint that reports its peer's failure, and takes TCP in their place.
  var processVariables: [(name: String, value: String)] {
    var variables = [
      ("POSIX_ERROR_HANDLING", "y"), ("CMA_MEMORY_INVALIDATE", "y"), ("TCP_CM_REUSEADDR", "y"),
      ("TCP_KEEPIDLE", "1s"), ("TCP_KEEPINTVL", "1s"), ("WARN_UNUSED_ENV_VARS", "n"),
    ]
    if let ports = dataPorts {
      variables.append(("TCP_PORT_RANGE", "\(ports.lowerBound)-\(ports.upperBound)"))
    }
    return variables
  }
}
