import Tensors

/// What a message is for.
package enum MessageKind: UInt8, Sendable, CaseIterable {
  /// Opens the handshake: who this is, and a challenge.
  case hello = 1
  /// Answers it: who that is, the answer to the challenge and one back.
  case welcome = 2
  /// Activations and routing of one micro-batch at one layer, to one shard.
  case dispatch = 3
  /// That shard's partial sums.
  case combine = 4
  /// More or fewer micro-batches may be in flight.
  case credit = 5
  /// Asks for a sign of life, with the sender's clock.
  case ping = 6
  /// Gives it, with both clocks.
  case pong = 7
  /// The sender wants to leave: send nothing new.
  case drain = 8
  /// A dispatch cannot be served; the payload says why.
  case error = 9
  /// The sender leaves now.
  case bye = 10
  /// Ends the handshake: the answer to the peer's challenge.
  case confirm = 11
  /// Membership, expert maps and other news of the cluster.
  case cluster = 12

  /// Whether the payload goes through registered memory.
  package var isBulk: Bool { self == .dispatch || self == .combine }
}

/// Properties of a message.
package struct MessageFlags: OptionSet, Hashable, Sendable {
  /// The bits on the wire.
  package let rawValue: UInt16
  package init(rawValue: UInt16) { self.rawValue = rawValue }
  /// Rows of a prompt, which may wait for rows of decoding.
  package static let prefill = MessageFlags(rawValue: 1)
  /// The step ends with this layer.
  package static let lastLayer = MessageFlags(rawValue: 2)
  /// Sent before, to this shard or to a replica.
  package static let resend = MessageFlags(rawValue: 4)
  /// `payloadChecksum` covers the payload.
  package static let checksum = MessageFlags(rawValue: 8)
  /// The answer shall be Float32 sums of subtrees; without it, one BF16 sum.
  package static let exactResults = MessageFlags(rawValue: 16)
  /// All flags that this version knows.
  package static let known: MessageFlags = [
    .prefill, .lastLayer, .resend, .checksum, .exactResults,
  ]
}

/// How the values of a bulk payload are stored.
package enum ExchangeType: UInt8, Sendable, CaseIterable {
  case none = 0
  case float32 = 1
  case bfloat16 = 2
  // 3 was E4M3, in version 1.
  case e3m4 = 4

  /// Bytes that one value takes.
  package var byteWidth: Int {
    switch self {
    case .none: 0
    case .float32: 4
    case .bfloat16: 2
    case .e3m4: 1
    }
  }
}

/// Where the factors of E3M4 values stand.
package enum ScaleKind: UInt8, Sendable, CaseIterable {
  case none = 0
  // 1 and 2 were one per token and per 128 values, in version 1.
  /// One Float32 per 64 values of a token.
  case block64 = 3
}

/// Times of an FFN node's work on a message, by its own clock, in nanoseconds; 0 where unknown.
package struct WorkStamps: Hashable, Sendable {
  /// The dispatch had landed.
  package var received: UInt64 = 0
  /// Its layer was begun.
  package var started: UInt64 = 0
  /// Its layer was done.
  package var finished: UInt64 = 0
  /// The answer was handed to the transport.
  package var sent: UInt64 = 0

  /// Nothing known.
  package init() {}
}

/// Why bytes are not a message of this protocol.
package enum WireError: Error, Equatable, Sendable {
  case wrongSize(found: Int, expected: Int)
  case wrongMagic(UInt32)
  case wrongVersion(found: Int, supported: Int)
  case wrongChecksum
  case unknownMessage
  case unknownValue(field: String, value: Int)
  case outOfRange(field: String, value: Int, limit: Int)
  case payloadSize(found: Int, expected: Int)
  case payloadChecksum
}

extension WireError: CustomStringConvertible {
  package var description: String {
    switch self {
    case .wrongSize(let found, let expected): "a header of \(found) bytes, not \(expected)"
    case .wrongMagic(let found): "starts with \(String(found, radix: 16)): not swift-step3"
    case .wrongVersion(let found, let supported):
      "protocol version \(found), this program speaks \(supported); run the same release everywhere"
    case .wrongChecksum: "the header's checksum is wrong"
    case .unknownMessage: "no message of swift-step3"
    case .unknownValue(let field, let value):
      "\(field) is \(value), which this release does not know"
    case .outOfRange(let field, let value, let limit): "\(field) is \(value), above \(limit)"
    case .payloadSize(let found, let expected): "a payload of \(found) bytes, not \(expected)"
    case .payloadChecksum: "the payload's checksum is wrong"
    }
  }
}

/// The head of every message: 96 bytes, little-endian, with a checksum of its own.
///
/// ```
///  0 magic 'AFD1'   4 version  5 kind  6 flags      8 membership epoch  12 map epoch
/// 16 sender 18 shard 20 layer 22 slot 24 tokens    28 value type 29 scales 30 topK 31 partials
/// 32 sequence       40 step            48 deadline µs (combine: rows of the job)  52 payload bytes
/// 56 payload CRC    60 received  68 started  76 finished  84 sent       92 CRC of 0..<92
/// ```
package struct WireHeader: Hashable, Sendable {
  /// What the message is for.
  package var kind: MessageKind
  /// Its properties.
  package var flags: MessageFlags = []
  /// The membership that the sender knows.
  package var membershipEpoch: UInt32 = 0
  /// The expert map by which the shard's part is meant.
  package var mapEpoch: UInt32 = 0
  /// The sender's number in the cluster.
  package var sender: UInt16 = 0
  /// The shard that a dispatch is for or a combine comes from.
  package var shard: UInt16 = 0
  /// The decoder layer.
  package var layer: UInt16 = 0
  /// The sender's slot, which the answer names again.
  package var slot: UInt16 = 0
  /// Rows of the payload.
  package var tokens: UInt32 = 0
  /// How values are stored.
  package var valueType: ExchangeType = .none
  /// Where their factors stand.
  package var scaleKind: ScaleKind = .none
  /// Expert choices per token in a dispatch; 0 for dense layers.
  package var topK: UInt8 = 0
  /// Partial sums per token in a combine.
  package var partials: UInt8 = 0
  /// Rises by one for each exchange of a sender; a resend keeps it.
  package var sequence: UInt64 = 0
  /// The sender's step, for who is served first.
  package var step: UInt64 = 0
  /// Microseconds that the sender waits for the answer; 0 for no limit.
  package var deadlineMicroseconds: UInt32 = 0
  /// In a combine, which has no deadline: rows that were computed together, others' included.
  package var jobRowCount: UInt32 {
    get { deadlineMicroseconds }
    set { deadlineMicroseconds = newValue }
  }
  /// Bytes that follow.
  package var payloadByteCount: UInt32 = 0
  /// CRC32C of them, where the flag says so.
  package var payloadChecksum: UInt32 = 0
  /// Times of the FFN node; pings use `sent` (and pongs `received`) for clocks.
  package var stamps = WorkStamps()

  /// Bytes of the encoded header.
  package static let byteCount = 96
  /// "AFD1".
  package static let magic: UInt32 = 0x3144_4641
  /// The protocol's version.
  package static let version: UInt8 = 2
  /// Largest payload of a small message.
  package static let controlPayloadLimit = 64 << 10
  /// Largest payload of a bulk message.
  package static let bulkPayloadLimit = 1 << 30
  /// Largest layer index.
  package static let layerLimit = 4096
  /// Largest slot.
  package static let slotLimit = 4096
  /// Most rows.
  package static let tokenLimit = 1 << 20
  /// Most choices per token.
  package static let topKLimit = 64
  /// Most partial sums per token.
  package static let partialLimit = 64

  /// A message without rows or payload.
  package init(kind: MessageKind) { self.kind = kind }

  /// The bytes on the wire.
  package func encoded() -> [UInt8] {
    var bytes: [UInt8] = []
    bytes.reserveCapacity(Self.byteCount)
    func put<T: FixedWidthInteger>(_ value: T) {
      for index in 0..<T.bitWidth / 8 {
        bytes.append(UInt8(truncatingIfNeeded: value >> T(8 * index)))
      }
    }
    put(Self.magic)
    put(Self.version)
    put(kind.rawValue)
    put(flags.rawValue)
    put(membershipEpoch)
    put(mapEpoch)
    put(sender)
    put(shard)
    put(layer)
    put(slot)
    put(tokens)
    put(valueType.rawValue)
    put(scaleKind.rawValue)
    put(topK)
    put(partials)
    put(sequence)
    put(step)
    put(deadlineMicroseconds)
    put(payloadByteCount)
    put(payloadChecksum)
    put(stamps.received)
    put(stamps.started)
    put(stamps.finished)
    put(stamps.sent)
    put(Checksum.crc32c(bytes))
    return bytes
  }

  /// Reads a header; whatever the bytes are, it is valid or this throws.
  package init(decoding bytes: RawSpan) throws(WireError) {
    guard bytes.byteCount == Self.byteCount else {
      throw .wrongSize(found: bytes.byteCount, expected: Self.byteCount)
    }
    func get<T: FixedWidthInteger & BitwiseCopyable>(_ offset: Int, _ type: T.Type = T.self) -> T {
      T(littleEndian: bytes.integer(at: offset))
    }
    let magic: UInt32 = get(0)
    guard magic == Self.magic else { throw .wrongMagic(magic) }
    let version: UInt8 = get(4)
    guard version == Self.version else {
      throw .wrongVersion(found: Int(version), supported: Int(Self.version))
    }
    guard get(92, UInt32.self) == Checksum.crc32c(bytes.extracting(0..<92)) else {
      throw .wrongChecksum
    }
    kind = try Self.value("kind", get(5), MessageKind.init)
    flags = MessageFlags(rawValue: get(6))
    guard MessageFlags.known.isSuperset(of: flags) else {
      throw .unknownValue(field: "flags", value: Int(flags.rawValue))
    }
    membershipEpoch = get(8)
    mapEpoch = get(12)
    sender = get(16)
    shard = get(18)
    layer = get(20)
    slot = get(22)
    tokens = get(24)
    valueType = try Self.value("value type", get(28), ExchangeType.init)
    scaleKind = try Self.value("scale kind", get(29), ScaleKind.init)
    topK = get(30)
    partials = get(31)
    sequence = get(32)
    step = get(40)
    deadlineMicroseconds = get(48)
    payloadByteCount = get(52)
    payloadChecksum = get(56)
    stamps.received = get(60)
    stamps.started = get(68)
    stamps.finished = get(76)
    stamps.sent = get(84)
    try checkRanges()
  }

  /// Reads a header; whatever the bytes are, it is valid or this throws.
  package init(decoding bytes: [UInt8]) throws(WireError) {
    self = try bytes.withRawSpan { (span) throws(WireError) in try WireHeader(decoding: span) }
  }

  private func checkRanges() throws(WireError) {
    let limits = [
      ("layer", Int(layer), Self.layerLimit), ("slot", Int(slot), Self.slotLimit),
      ("tokens", Int(tokens), Self.tokenLimit), ("choices per token", Int(topK), Self.topKLimit),
      ("partial sums", Int(partials), Self.partialLimit),
      (
        "payload", Int(payloadByteCount),
        kind.isBulk ? Self.bulkPayloadLimit : Self.controlPayloadLimit
      ),
    ]
    for (field, value, limit) in limits where value > limit {
      throw .outOfRange(field: field, value: value, limit: limit)
    }
  }

  private static func value<T>(
    _ field: String, _ code: UInt8, _ make: (UInt8) -> T?
  ) throws(WireError) -> T {
    guard let value = make(code) else { throw .unknownValue(field: field, value: Int(code)) }
    return value
  }
}
